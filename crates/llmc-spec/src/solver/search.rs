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
//! - where everything kept is exact, the cost of the dims that are known bounds the branch.
//!
//! A branch is left out only if its bound is *worse* than the worst kept candidate; a
//! branch as good is searched, because its cost may be lower. So the result is the
//! smallest by (distance, cost, dims) in the whole lattice.

use super::cost::{cost, feed_forward, floor, usual_intermediate};
use super::lattice::{Lattice, Range, System};
use super::poly::{Poly, Univariate, gcd};
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

    /// Whether nothing in a branch can be kept, because all that is kept is exact and costs
    /// less than the known dims alone. Dims that are not known are 0.
    fn is_too_costly(&self, values: &[u64; 8]) -> bool {
        self.worst == 0
            && self.kept.len() == self.keep
            && self.kept.last().is_some_and(|c| floor(values, self.system.is_gated) > c.cost)
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
        if !self.reaches(depth, &values, &open) {
            return;
        }
        open.pop();
        for n_kv_heads in kv_heads {
            values[Dim::NumKvHeads.idx()] = n_kv_heads;
            if self.is_too_costly(&values) {
                continue;
            }
            self.bind(depth, Dim::NumKvHeads, n_kv_heads);
            self.with_heads(depth + 1, &mut values, &open);
            if self.is_done() {
                return;
            }
        }
    }

    /// Whether the branch can come near enough to the target: its smallest and largest
    /// counts leave the target between them, and so does its residue class.
    fn reaches(&self, depth: usize, values: &[u64; 8], open: &[Open]) -> bool {
        let Some(target) = self.target else { return true };
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
            return false;
        }
        let (constant, common) = poly.residue_class(&units);
        if common <= 1 {
            return true;
        }
        let rest = target.saturating_sub(constant).rem_euclid(common);
        rest.min(common - rest) <= self.worst
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
        if !self.reaches(depth, values, &inverted) {
            return;
        }
        // The largest domain is inverted, the others are looped over; the hidden size
        // first, because it divides nearly every term.
        inverted.sort_by_key(|o| (o.dim != Dim::HiddenSize, o.range.n, o.dim));
        by_cost.sort_by_key(|o| o.dim == Dim::IntermediateSize);
        self.descend(depth, &inverted, &by_cost, values);
    }

    fn descend(&mut self, depth: usize, open: &[Open], by_cost: &[Open], values: &mut [u64; 8]) {
        self.n_steps += 1;
        let Some(target) = self.target else {
            return self.by_cost(0, by_cost, values);
        };
        match open {
            [] => {
                let params = self.scratch[depth].eval(values);
                self.leaf(params, target, by_cost, values);
            }
            [last] => self.invert(depth, *last, target, by_cost, values),
            [first, rest @ ..] => {
                let (mut low, mut high) = (*values, *values);
                for o in rest {
                    low[o.dim.idx()] = o.range.lo;
                    high[o.dim.idx()] = o.range.hi();
                }
                let smallest = self.scratch[depth].along(first.dim, &low);
                let largest = self.scratch[depth].along(first.dim, &high);
                let range = first.range;
                let worst = self.worst;
                let start = partition(range.n, |idx| {
                    largest.eval(range.value(idx)) < target.saturating_sub(worst)
                });
                for idx in start..range.n {
                    let value = range.value(idx);
                    if smallest.eval(value) > target.saturating_add(self.worst) || self.is_done() {
                        break;
                    }
                    values[first.dim.idx()] = value;
                    if self.is_too_costly(values) {
                        continue;
                    }
                    let (above, below) = self.scratch.split_at_mut(depth + 1);
                    above[depth].bind_into(first.dim, value, &mut below[0]);
                    // A single variable is inverted faster than its residue is known.
                    if rest.len() == 1 || self.reaches(depth + 1, values, rest) {
                        self.descend(depth + 1, rest, by_cost, values);
                    }
                }
                values[first.dim.idx()] = 0;
            }
        }
    }

    /// The last variable: walk outwards from where the count crosses the target.
    fn invert(
        &mut self,
        depth: usize,
        last: Open,
        target: i128,
        by_cost: &[Open],
        values: &mut [u64; 8],
    ) {
        let count = self.scratch[depth].along(last.dim, values);
        let range = last.range;
        let crossing = match count.as_affine() {
            Some((constant, slope)) => {
                // The first index whose count is above the target.
                let x = target.saturating_sub(constant).div_euclid(slope);
                let steps =
                    x.saturating_sub(i128::from(range.lo)).div_euclid(i128::from(range.step));
                u64::try_from(steps.saturating_add(1).max(0)).unwrap_or(u64::MAX).min(range.n)
            }
            None => partition(range.n, |idx| count.eval(range.value(idx)) <= target),
        };
        // Farther values only matter where they are another depth or width.
        let reach = match last.dim {
            Dim::NumLayers | Dim::HiddenSize => u64::MAX,
            _ => 1,
        };
        for idx in (0..crossing).rev().take(usize::try_from(reach).unwrap_or(usize::MAX)) {
            if !self.at_last(last.dim, range.value(idx), &count, target, by_cost, values) {
                break;
            }
        }
        for idx in (crossing..range.n).take(usize::try_from(reach).unwrap_or(usize::MAX)) {
            if !self.at_last(last.dim, range.value(idx), &count, target, by_cost, values) {
                break;
            }
        }
        values[last.dim.idx()] = 0;
    }

    /// Whether the walk goes on beyond this value.
    fn at_last(
        &mut self,
        dim: Dim,
        value: u64,
        count: &Univariate,
        target: i128,
        by_cost: &[Open],
        values: &mut [u64; 8],
    ) -> bool {
        let params = count.eval(value);
        if target.saturating_sub(params).saturating_abs() > self.worst || self.is_done() {
            return false;
        }
        values[dim.idx()] = value;
        self.leaf(params, target, by_cost, values);
        true
    }

    fn leaf(&mut self, params: i128, target: i128, by_cost: &[Open], values: &mut [u64; 8]) {
        let gap = target.saturating_sub(params).saturating_abs();
        if gap <= self.worst {
            self.by_cost(gap, by_cost, values);
        }
    }

    /// The count is settled; the rest is chosen by cost.
    fn by_cost(&mut self, gap: i128, open: &[Open], values: &mut [u64; 8]) {
        if self.is_done() {
            return;
        }
        match open {
            [] => self.offer(gap, values),
            [last] if last.dim == Dim::IntermediateSize => self.by_width(gap, last.range, values),
            [first, rest @ ..] => {
                for value in first.range.iter() {
                    values[first.dim.idx()] = value;
                    if !self.is_too_costly(values) {
                        self.by_cost(gap, rest, values);
                    }
                    if self.is_done() {
                        return;
                    }
                }
                values[first.dim.idx()] = 0;
            }
        }
    }

    /// Feed-forward widths outwards from the usual one, until the distance alone costs
    /// more than the best total.
    fn by_width(&mut self, gap: i128, range: Range, values: &mut [u64; 8]) {
        let hidden = values[Dim::HiddenSize.idx()];
        let is_gated = self.system.is_gated;
        let usual = usual_intermediate(hidden, is_gated);
        let crossing = partition(range.n, |idx| range.value(idx) <= usual);
        let mut best = u64::MAX;
        let mut try_at = |search: &mut Self, idx: u64| {
            let width = range.value(idx);
            if feed_forward(hidden, width, is_gated) > best || search.is_done() {
                return false;
            }
            values[Dim::IntermediateSize.idx()] = width;
            best = best.min(cost(values, is_gated));
            search.offer(gap, values);
            true
        };
        let _ = (0..crossing).rev().all(|idx| try_at(self, idx));
        let _ = (crossing..range.n).all(|idx| try_at(self, idx));
        values[Dim::IntermediateSize.idx()] = 0;
    }

    fn offer(&mut self, gap: i128, values: &[u64; 8]) {
        let candidate = Candidate { gap, cost: cost(values, self.system.is_gated), dims: *values };
        match self.kept.iter_mut().find(|c| c.shape() == candidate.shape()) {
            Some(same) if *same <= candidate => return,
            Some(same) => *same = candidate,
            None => self.kept.push(candidate),
        }
        self.kept.sort_unstable();
        self.kept.truncate(self.keep);
        if self.kept.len() == self.keep
            && let Some(last) = self.kept.last()
        {
            self.worst = self.worst.min(last.gap);
        }
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
