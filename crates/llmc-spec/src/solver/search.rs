//! The exact search: branch and bound over the lattice.
//!
//! Heads decide first: `head_dim`, `num_heads` (with `hidden_size` their product) and
//! `num_kv_heads` are enumerated. What is left is a polynomial that grows with each of
//! `vocab_size`, `context_length`, `num_layers`, `intermediate_size`, whose domains are
//! now independent arithmetic progressions. Four facts cut it down:
//!
//! - it grows, so the largest and smallest values of a branch are at its corners, and the
//!   values of a variable that can still reach the target are one window;
//! - the last variable is inverted: only its neighbours of the target can be closest;
//! - every value of a branch is c + g·k for integers, so the distance of the target from
//!   that residue class bounds the distance of the whole branch;
//! - where everything kept is at least as close as that bound, the cost of the dims that are
//!   known decides.
//!
//! A branch is left out only if its bound is *worse* than the worst kept candidate; a
//! branch as good is searched, because its cost may be lower. So the result is the
//! smallest by (distance, cost, dims) in the whole lattice.

mod values;

use super::cost::floor;
use super::lattice::{Lattice, Range, System};
use super::poly::{Poly, gcd};
use crate::dims::Dim;

/// Dims that are independent once the heads are known.
const LOOSE: [Dim; 4] = [Dim::VocabSize, Dim::ContextLength, Dim::NumLayers, Dim::IntermediateSize];

/// Depth of the polynomial in which only single loose values are bound.
const ROOT: usize = 0;
/// Every dim is bound at most once on a path, `vocab_size` and `context_length` at most
/// once more at the root.
const MAX_DEPTH: usize = 12;

/// A shape that was found; ordered by distance, cost, dims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub gap: i128,
    pub cost: u64,
    pub dims: [u64; 8],
}

impl Candidate {
    /// Depth and width: alternatives differ in them.
    fn shape(&self) -> (u64, u64) {
        (self.dims[Dim::NumLayers.idx()], self.dims[Dim::HiddenSize.idx()])
    }
}

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The best shape of each of the best `n` pairs of depth and width.
    Best(usize),
    /// Any shape; gives up after so many branches.
    Any {
        /// How many.
        max_steps: u64,
    },
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Best first.
    pub candidates: Vec<Candidate>,
    /// Branches entered.
    pub n_steps: u64,
    /// Whether it gave up: then nothing found means nothing known.
    pub is_cut: bool,
}

/// The best candidates of a lattice within the target's tolerance.
pub(super) fn search(poly: &Poly, system: &System, lattice: Lattice, want: Want) -> Found {
    let (target, max_gap) = match system.target {
        Some((params, max_gap)) => (Some(params), max_gap),
        None => (None, 0),
    };
    let (keep, is_any, max_steps) = match want {
        Want::Best(n) => (n, false, u64::MAX),
        Want::Any { max_steps } => (1, true, max_steps),
    };
    let mut search = Search {
        poly,
        system,
        lattice,
        target,
        worst: max_gap,
        keep,
        is_any,
        max_steps,
        kept: Vec::new(),
        n_steps: 0,
        scratch: (0..MAX_DEPTH).map(|_| Poly::default()).collect(),
    };
    search.heads();
    let is_cut = search.n_steps >= max_steps;
    Found { candidates: search.kept, n_steps: search.n_steps, is_cut }
}

struct Search<'a> {
    poly: &'a Poly,
    system: &'a System,
    lattice: Lattice,
    target: Option<i128>,
    /// Distance beyond which nothing is kept.
    worst: i128,
    keep: usize,
    is_any: bool,
    max_steps: u64,
    kept: Vec<Candidate>,
    /// Branches entered: what the search costs, whatever the machine.
    n_steps: u64,
    /// One polynomial per depth of binding.
    scratch: Vec<Poly>,
}

/// A variable that is still open.
#[derive(Clone, Copy, Debug)]
struct Open {
    dim: Dim,
    range: Range,
}

impl Search<'_> {
    fn is_done(&self) -> bool {
        self.n_steps >= self.max_steps || (self.is_any && !self.kept.is_empty())
    }

    /// The largest cost with which a branch can still change what is kept: that of the last
    /// kept, if all kept are at least as close as the branch can come, and that of the same
    /// depth and width, if that is. Dims that are not known are 0.
    fn cost_limit(&self, least_gap: i128, values: &[u64; 8]) -> u64 {
        let is_full = self.kept.len() == self.keep && least_gap >= self.worst;
        let last = self.kept.last().filter(|_| is_full);
        let shape = (values[Dim::NumLayers.idx()], values[Dim::HiddenSize.idx()]);
        let same = self.kept.iter().find(|c| c.shape() == shape && c.gap <= least_gap);
        [last, same].into_iter().flatten().map(|c| c.cost).min().unwrap_or(u64::MAX)
    }

    fn heads(&mut self) {
        let hidden = self.system.range(Dim::HiddenSize);
        let heads = self.system.range(Dim::NumHeads);
        if hidden.n == 0 || heads.n == 0 {
            return;
        }
        self.bind_single_loose();
        let system = self.system;
        for head_dim in system.head_dims() {
            self.n_steps += 1;
            self.bind(ROOT, Dim::HeadDim, head_dim);
            let linked_to = self.system.is_linked.then_some(head_dim);
            let lo = linked_to.map_or(heads.lo, |d| heads.lo.max(hidden.lo.div_ceil(d)));
            let hi = linked_to.map_or(heads.hi(), |d| heads.hi().min(hidden.hi() / d));
            let inside = self.window(Range::multiples(lo, hi, heads.step), linked_to);
            for n_heads in inside.iter() {
                self.n_steps += 1;
                if !heads.contains(n_heads) || !system.allows_heads(self.lattice, n_heads) {
                    if self.is_done() {
                        return;
                    }
                    continue;
                }
                self.bind(ROOT + 1, Dim::NumHeads, n_heads);
                match linked_to.map(|d| n_heads * d) {
                    None => self.unlinked(hidden, n_heads, head_dim),
                    Some(width) => {
                        if hidden.contains(width)
                            && self.system.allows_head_dim(self.lattice, width, n_heads, head_dim)
                        {
                            self.with_hidden(width, n_heads, head_dim);
                        }
                    }
                }
                if self.is_done() {
                    return;
                }
            }
            if self.is_done() {
                return;
            }
        }
    }

    /// The part of `heads` with which the count can still come near the target, whatever
    /// the rest is. Smallest and largest count both grow with the heads.
    fn window(&self, heads: Range, linked_to: Option<u64>) -> Range {
        let Some(target) = self.target else { return heads };
        let poly = &self.scratch[ROOT + 1];
        let corner = |n_heads: u64, is_high: bool| {
            let mut values = [0u64; 8];
            for dim in Dim::ALL {
                let range = self.system.range(dim);
                values[dim.idx()] = if is_high { range.hi() } else { range.lo };
            }
            values[Dim::NumHeads.idx()] = n_heads;
            if let Some(head_dim) = linked_to {
                values[Dim::HiddenSize.idx()] = n_heads * head_dim;
            }
            poly.eval(&values)
        };
        let (low, high) = (target.saturating_sub(self.worst), target.saturating_add(self.worst));
        let start = partition(heads.n, |idx| corner(heads.value(idx), true) < low);
        let end = partition(heads.n, |idx| corner(heads.value(idx), false) <= high);
        Range { lo: heads.value(start), step: heads.step, n: end.saturating_sub(start) }
    }

    /// Hidden size and heads are independent. In the wide lattice nothing else depends
    /// on the hidden size, so it is one more open variable.
    fn unlinked(&mut self, hidden: Range, n_heads: u64, head_dim: u64) {
        if self.lattice == Lattice::Wide && (self.target.is_some() || self.is_any) {
            return self.structure(ROOT + 2, None, n_heads, head_dim);
        }
        for width in hidden.iter() {
            if self.system.allows_head_dim(self.lattice, width, n_heads, head_dim) {
                self.with_hidden(width, n_heads, head_dim);
            }
            if self.is_done() {
                return;
            }
        }
    }

    fn with_hidden(&mut self, width: u64, n_heads: u64, head_dim: u64) {
        self.bind(ROOT + 2, Dim::HiddenSize, width);
        self.structure(ROOT + 3, Some(width), n_heads, head_dim);
    }

    /// Writes the polynomial at `depth` with `dim = value` to the next depth.
    fn bind(&mut self, depth: usize, dim: Dim, value: u64) {
        let (above, below) = self.scratch.split_at_mut(depth + 1);
        above[depth].bind_into(dim, value, &mut below[0]);
    }

    /// Vocabulary and context do not depend on heads: single values are bound once.
    fn bind_single_loose(&mut self) {
        let mut root = self.poly.clone();
        for dim in [Dim::VocabSize, Dim::ContextLength] {
            let range = self.system.range(dim);
            if range.n == 1 {
                let unbound = std::mem::take(&mut root);
                unbound.bind_into(dim, range.lo, &mut root);
            }
        }
        self.scratch[ROOT] = root;
    }

    /// All shapes with these heads, whose polynomial is at `depth`. `hidden` is `None`
    /// where it is still open.
    fn structure(&mut self, depth: usize, hidden: Option<u64>, n_heads: u64, head_dim: u64) {
        self.n_steps += 1;
        let mut values = [0u64; 8];
        values[Dim::NumHeads.idx()] = n_heads;
        values[Dim::HeadDim.idx()] = head_dim;
        values[Dim::HiddenSize.idx()] = hidden.unwrap_or(0);
        let mut open: Vec<Open> = LOOSE
            .into_iter()
            .map(|dim| Open {
                dim,
                range: self.system.range_at(self.lattice, dim, hidden.unwrap_or(0)),
            })
            .collect();
        if hidden.is_none() {
            open.push(Open { dim: Dim::HiddenSize, range: self.system.range(Dim::HiddenSize) });
        }
        if open.iter().any(|o| o.range.n == 0) {
            return;
        }
        if !self.system.kv_divides && !self.system.kv_equals && self.target.is_some() {
            open.push(Open { dim: Dim::NumKvHeads, range: self.system.range(Dim::NumKvHeads) });
            return self.with_heads(depth, &mut values, &open);
        }
        let kv_heads = self.system.kv_heads(self.lattice, n_heads);
        let (Some(fewest), Some(most)) = (kv_heads.first(), kv_heads.last()) else { return };
        let kv_range = Range { lo: *fewest, step: 1, n: most - fewest + 1 };
        open.push(Open { dim: Dim::NumKvHeads, range: kv_range });
        let Some(least_gap) = self.least_gap(depth, &values, &open) else { return };
        open.pop();
        for n_kv_heads in kv_heads {
            values[Dim::NumKvHeads.idx()] = n_kv_heads;
            if floor(&values, self.system.is_gated) > self.cost_limit(least_gap, &values) {
                continue;
            }
            self.bind(depth, Dim::NumKvHeads, n_kv_heads);
            self.with_heads(depth + 1, &mut values, &open);
            if self.is_done() {
                return;
            }
        }
    }

    /// A lower bound of the distance that a branch can reach: from its residue class.
    /// `None` if that is too far, or if its smallest and largest counts do not have the
    /// target between them.
    fn least_gap(&self, depth: usize, values: &[u64; 8], open: &[Open]) -> Option<i128> {
        let Some(target) = self.target else { return Some(0) };
        let poly = &self.scratch[depth];
        let (mut low, mut high, mut units) = (*values, *values, [1u64; 8]);
        for o in open {
            low[o.dim.idx()] = o.range.lo;
            high[o.dim.idx()] = o.range.hi();
            // Every value is a multiple of the unit.
            units[o.dim.idx()] = match o.range.n {
                1 => o.range.lo,
                _ => gcd(i128::from(o.range.lo), i128::from(o.range.step)) as u64,
            };
        }
        if poly.eval(&low) > target.saturating_add(self.worst)
            || poly.eval(&high) < target.saturating_sub(self.worst)
        {
            return None;
        }
        let (constant, common) = poly.residue_class(&units);
        if common <= 1 {
            return Some(0);
        }
        let rest = target.saturating_sub(constant).rem_euclid(common);
        Some(rest.min(common - rest)).filter(|gap| *gap <= self.worst)
    }

    fn with_heads(&mut self, depth: usize, values: &mut [u64; 8], open: &[Open]) {
        let mut depth = depth;
        // What the count does not depend on is chosen by cost, or is smallest.
        let (mut inverted, mut by_cost) = (Vec::new(), Vec::new());
        for o in open {
            let has_cost = !matches!(o.dim, Dim::VocabSize | Dim::ContextLength);
            if o.range.n == 1 {
                values[o.dim.idx()] = o.range.lo;
                self.bind(depth, o.dim, o.range.lo);
                depth += 1;
            } else if self.target.is_some() && self.scratch[depth].contains(o.dim) {
                inverted.push(*o);
            } else if has_cost {
                by_cost.push(*o);
            } else {
                values[o.dim.idx()] = o.range.lo;
            }
        }
        let Some(least_gap) = self.least_gap(depth, values, &inverted) else { return };
        // The largest domain is inverted, the others are looped over: the hidden size first,
        // because it divides nearly every term; large domains without a cost last, because
        // loops over the others end where the cost does.
        inverted.sort_by_key(|o| {
            let is_costless = matches!(o.dim, Dim::VocabSize | Dim::ContextLength);
            (o.dim != Dim::HiddenSize, is_costless && o.range.n > 64, o.range.n, o.dim)
        });
        by_cost.sort_by_key(|o| o.dim == Dim::IntermediateSize);
        self.descend(depth, least_gap, &inverted, &by_cost, values);
    }
}

/// The first index below `n` for which `is_before` is false; it is false from there on.
fn partition(n: u64, is_before: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
