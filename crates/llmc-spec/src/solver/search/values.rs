//! The part of the search below the heads: loops over windows, the inversion of the last
//! variable, and what is kept.

use super::{Candidate, Open, Search, partition};
use crate::dims::Dim;
use crate::solver::cost::{cost, distance_cost, floor, usual_value};
use crate::solver::lattice::Range;
use crate::solver::poly::Univariate;

/// One variable that is looped over.
struct Level<'a> {
    depth: usize,
    least_gap: i128,
    open: Open,
    rest: &'a [Open],
    by_cost: &'a [Open],
    target: i128,
    /// The count along the variable with the rest at its smallest and largest.
    smallest: Univariate,
    largest: Univariate,
    /// What the dims before this one cost at least.
    floor: u64,
}

impl Search<'_> {
    /// Everything below a branch whose polynomial is at `depth`.
    pub(super) fn descend(
        &mut self,
        depth: usize,
        least_gap: i128,
        open: &[Open],
        by_cost: &[Open],
        values: &mut [u64; 8],
    ) {
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
                let level = Level {
                    depth,
                    least_gap,
                    open: *first,
                    rest,
                    by_cost,
                    target,
                    smallest: self.scratch[depth].along(first.dim, &low),
                    largest: self.scratch[depth].along(first.dim, &high),
                    floor: floor(values, self.system.is_gated),
                };
                self.each_value(&level, values);
                values[first.dim.idx()] = 0;
            }
        }
    }

    /// The values of one variable that can reach the target, from the usual one outwards,
    /// so that good shapes come early and the cost soon leaves out the rest.
    fn each_value(&mut self, level: &Level<'_>, values: &mut [u64; 8]) {
        let (range, target) = (level.open.range, level.target);
        let (low, high) = (target.saturating_sub(self.worst), target.saturating_add(self.worst));
        let start = partition(range.n, |idx| level.largest.eval(range.value(idx)) < low);
        let end = partition(range.n, |idx| level.smallest.eval(range.value(idx)) <= high);
        let usual = usual_value(level.open.dim, values, self.system.is_gated);
        let middle =
            partition(range.n, |idx| range.value(idx) <= usual).clamp(start, end.max(start));
        let _ = (start..middle).rev().all(|idx| self.at_value(level, range.value(idx), values));
        let _ = (middle..end).all(|idx| self.at_value(level, range.value(idx), values));
    }

    /// Whether the walk goes on beyond this value.
    fn at_value(&mut self, level: &Level<'_>, value: u64, values: &mut [u64; 8]) -> bool {
        let (depth, dim) = (level.depth, level.open.dim);
        let is_above = level.smallest.eval(value) > level.target.saturating_add(self.worst);
        let is_below = level.largest.eval(value) < level.target.saturating_sub(self.worst);
        if is_above || is_below || self.is_done() {
            return false;
        }
        values[dim.idx()] = value;
        let limit = self.cost_limit(level.least_gap, values);
        // Farther values cost more; but another depth is another shape.
        let distance = distance_cost(dim, values, self.system.is_gated);
        let is_over = level.floor + distance > limit;
        if is_over || floor(values, self.system.is_gated) > limit {
            return !is_over || dim == Dim::NumLayers;
        }
        self.bind(depth, dim, value);
        // A single variable is inverted faster than its residue is known.
        let least_gap = match level.rest.len() {
            1 => Some(level.least_gap),
            _ => self.least_gap(depth + 1, values, level.rest),
        };
        if let Some(least_gap) = least_gap {
            self.descend(depth + 1, least_gap, level.rest, level.by_cost, values);
        }
        true
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
                    if floor(values, self.system.is_gated) <= self.cost_limit(gap, values) {
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
        let is_gated = self.system.is_gated;
        let usual = usual_value(Dim::IntermediateSize, values, is_gated);
        let crossing = partition(range.n, |idx| range.value(idx) <= usual);
        let mut best = u64::MAX;
        let mut try_at = |search: &mut Self, idx: u64| {
            values[Dim::IntermediateSize.idx()] = range.value(idx);
            if distance_cost(Dim::IntermediateSize, values, is_gated) > best || search.is_done() {
                return false;
            }
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
