//! The exact search: branch and bound over the lattice.
//!
//! Heads decide first: `head_dim`, `num_heads` (with `hidden_size` their product) and
//! `num_kv_heads` are enumerated. What is left is a polynomial that grows with each of
//! `vocab_size`, `context_length`, `num_layers`, `intermediate_size`, whose domains are
//! now independent arithmetic progressions. Three facts cut it down:
//!
//! - it grows, so the largest and smallest values of a branch are at its corners, and the
//!   values of a variable that can still reach the target are one window;
//! - the last variable is inverted: only its neighbours of the target can be closest;
//! - every value of a branch is c + g·k for integers, so the distance of the target from
//!   that residue class bounds the distance of the whole branch.
//!
//! A branch is left out only if its bound is *worse* than the worst kept candidate; a
//! branch as good is searched, because its cost may be lower. So the result is the
//! smallest by (distance, cost, dims) in the whole lattice.

use super::cost::{cost, feed_forward, usual_intermediate};
use super::lattice::{Lattice, Range, System};
use super::poly::Poly;
use crate::dims::Dim;

/// Dims that are independent once the heads are known.
const LOOSE: [Dim; 4] = [Dim::VocabSize, Dim::ContextLength, Dim::NumLayers, Dim::IntermediateSize];

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
    /// Any shape.
    Any,
}

/// The best candidates of a lattice within the target's tolerance, best first.
pub(super) fn search(
    poly: &Poly,
    system: &System,
    lattice: Lattice,
    want: Want,
) -> (Vec<Candidate>, u64) {
    let (target, max_gap) = match system.target {
        Some((params, max_gap)) => (Some(params), max_gap),
        None => (None, 0),
    };
    let (keep, is_any) = match want {
        Want::Best(n) => (n, false),
        Want::Any => (1, true),
    };
    let mut search = Search {
        poly,
        system,
        lattice,
        target,
        worst: max_gap,
        keep,
        is_any,
        kept: Vec::new(),
        n_examined: 0,
        scratch: (0..10).map(|_| Poly::default()).collect(),
    };
    search.heads();
    (search.kept, search.n_examined)
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
    kept: Vec<Candidate>,
    n_examined: u64,
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
        self.is_any && !self.kept.is_empty()
    }

    fn heads(&mut self) {
        let hidden = self.system.range(Dim::HiddenSize);
        let heads = self.system.range(Dim::NumHeads);
        if hidden.n == 0 || heads.n == 0 {
            return;
        }
        for head_dim in self.system.head_dims() {
            if self.system.is_linked {
                let lo = heads.lo.max(hidden.lo.div_ceil(head_dim));
                let hi = heads.hi().min(hidden.hi() / head_dim);
                for n_heads in Range::multiples(lo, hi, heads.step).iter() {
                    let product = n_heads * head_dim;
                    if heads.contains(n_heads)
                        && hidden.contains(product)
                        && self.system.allows_head_dim(self.lattice, product, n_heads, head_dim)
                    {
                        self.structure(Some(product), n_heads, head_dim);
                        if self.is_done() {
                            return;
                        }
                    }
                }
            } else {
                for n_heads in heads.iter() {
                    self.unlinked(hidden, n_heads, head_dim);
                    if self.is_done() {
                        return;
                    }
                }
            }
        }
    }

    /// Hidden size and heads are independent. In the wide lattice nothing else depends
    /// on the hidden size, so it is one more open variable.
    fn unlinked(&mut self, hidden: Range, n_heads: u64, head_dim: u64) {
        if self.lattice == Lattice::Wide && self.target.is_some() {
            return self.structure(None, n_heads, head_dim);
        }
        for width in hidden.iter() {
            if self.system.allows_head_dim(self.lattice, width, n_heads, head_dim) {
                self.structure(Some(width), n_heads, head_dim);
            }
            if self.is_done() {
                return;
            }
        }
    }

    /// All shapes with these heads. `hidden` is `None` where it is still open.
    fn structure(&mut self, hidden: Option<u64>, n_heads: u64, head_dim: u64) {
        let mut values = [0u64; 8];
        values[Dim::NumHeads.idx()] = n_heads;
        values[Dim::HeadDim.idx()] = head_dim;
        let mut open: Vec<Open> = LOOSE
            .into_iter()
            .map(|dim| Open {
                dim,
                range: self.system.range_at(self.lattice, dim, hidden.unwrap_or(0)),
            })
            .collect();
        match hidden {
            Some(width) => values[Dim::HiddenSize.idx()] = width,
            None => {
                let range = self.system.range(Dim::HiddenSize);
                open.push(Open { dim: Dim::HiddenSize, range });
            }
        }
        if open.iter().any(|o| o.range.n == 0) {
            return;
        }
        let kv_heads = self.system.kv_heads(self.lattice, n_heads);
        let (Some(fewest), Some(most)) = (kv_heads.first(), kv_heads.last()) else { return };
        if !self.corners_reach(&values, &open, *fewest, *most) {
            return;
        }
        for n_kv_heads in kv_heads {
            values[Dim::NumKvHeads.idx()] = n_kv_heads;
            self.with_heads(&mut values, &open);
            if self.is_done() {
                return;
            }
        }
    }

    /// Whether the smallest and largest parameter counts leave the target between them.
    fn corners_reach(&self, values: &[u64; 8], open: &[Open], fewest: u64, most: u64) -> bool {
        let Some(target) = self.target else { return true };
        let (mut low, mut high) = (*values, *values);
        low[Dim::NumKvHeads.idx()] = fewest;
        high[Dim::NumKvHeads.idx()] = most;
        for o in open {
            low[o.dim.idx()] = o.range.lo;
            high[o.dim.idx()] = o.range.hi();
        }
        self.poly.eval(&low) <= target.saturating_add(self.worst)
            && self.poly.eval(&high) >= target.saturating_sub(self.worst)
    }

    fn with_heads(&mut self, values: &mut [u64; 8], open: &[Open]) {
        let mut poly = std::mem::take(&mut self.scratch);
        // Bind what is known: heads, the hidden size if it is, and single values.
        let mut known = vec![Dim::NumHeads, Dim::NumKvHeads, Dim::HeadDim];
        if values[Dim::HiddenSize.idx()] > 0 && !open.iter().any(|o| o.dim == Dim::HiddenSize) {
            known.push(Dim::HiddenSize);
        }
        for o in open.iter().filter(|o| o.range.n == 1) {
            values[o.dim.idx()] = o.range.lo;
            known.push(o.dim);
        }
        let mut bound = self.poly.clone();
        let mut next = Poly::default();
        for dim in known {
            bound.bind_into(dim, values[dim.idx()], &mut next);
            std::mem::swap(&mut bound, &mut next);
        }
        poly[0] = bound;
        // What the count does not depend on is chosen by cost, or is smallest.
        let (mut inverted, mut by_cost) = (Vec::new(), Vec::new());
        for o in open.iter().filter(|o| o.range.n > 1) {
            let has_cost = !matches!(o.dim, Dim::VocabSize | Dim::ContextLength);
            if self.target.is_some() && poly[0].contains(o.dim) {
                inverted.push(*o);
            } else if has_cost {
                by_cost.push(*o);
            } else {
                values[o.dim.idx()] = o.range.lo;
            }
        }
        // The layer loop outside the feed-forward inversion, the largest domain last.
        inverted.sort_by_key(|o| (o.range.n, o.dim));
        by_cost.sort_by_key(|o| o.dim == Dim::IntermediateSize);
        if self.residue_reaches(&poly[0], &inverted) {
            self.scratch = poly;
            self.descend(0, &inverted, &by_cost, values);
        } else {
            self.scratch = poly;
        }
    }

    /// Whether the residue class of the branch comes near enough to the target.
    fn residue_reaches(&self, poly: &Poly, open: &[Open]) -> bool {
        let Some(target) = self.target else { return true };
        let mut units = [1u64; 8];
        for o in open {
            let unit = super::poly::gcd(i128::from(o.range.lo), i128::from(o.range.step));
            units[o.dim.idx()] = unit as u64;
        }
        let (constant, common) = poly.residue_class(&units);
        if common <= 1 {
            return true;
        }
        let rest = target.saturating_sub(constant).rem_euclid(common);
        rest.min(common - rest) <= self.worst
    }

    fn descend(&mut self, depth: usize, open: &[Open], by_cost: &[Open], values: &mut [u64; 8]) {
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
                    let (above, below) = self.scratch.split_at_mut(depth + 1);
                    above[depth].bind_into(first.dim, value, &mut below[0]);
                    self.descend(depth + 1, rest, by_cost, values);
                }
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
    }

    /// Whether the walk goes on beyond this value.
    fn at_last(
        &mut self,
        dim: Dim,
        value: u64,
        count: &super::poly::Univariate,
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
                    self.by_cost(gap, rest, values);
                    if self.is_done() {
                        return;
                    }
                }
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
    }

    fn offer(&mut self, gap: i128, values: &[u64; 8]) {
        self.n_examined += 1;
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
