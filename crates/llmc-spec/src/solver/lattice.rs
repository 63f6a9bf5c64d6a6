//! The lattice: which shapes the solver considers.
//!
//! There are two. The **preferred** lattice holds shapes that people train; the
//! **wide** one is only used where the preferred one has nothing within the
//! tolerance. What a spec writes about a dim replaces what the lattice says about it.
//!
//! | dim | preferred, where not written | wide, where not written |
//! |---|---|---|
//! | `num_layers` | from `hidden_size / 256` (rounded up) to `hidden_size / 16` below a hidden size of 1024, `/ 32` below 4096, `/ 64` above; at least 1, at most 1024 | 1 to 1024 |
//! | `hidden_size` | `num_heads * head_dim` (unless all three are numbers), at most 131072 | the same |
//! | `head_dim` | by `hidden_size`: 4, 8, 16 below 64; 16, 32 below 256; 64 below 1024; 64, 128 up to 4096; 128 above | 1, 2, 4, 8, 16, 32, 64, 80, 96, 112, 128, 160, 192, 256 |
//! | `num_heads` | 1 to 16, then multiples of 4, above 64 of 8, at most 1024 | 1 to 1024 |
//! | `num_kv_heads` (`gqa`) | divisors of `num_heads` that are at least an eighth of it | divisors of `num_heads` |
//! | `intermediate_size` | 1 to 8 times `hidden_size` below 64 in steps of 1; above, 2.5 to 4 times (gated) or 3 to 5 times, in steps of 8 below a hidden size of 256, 32 below 1024, 256 above | 1 to 1048576 |
//! | `vocab_size`, `context_length` | up to 16777216 | the same |
//!
//! A written minimum (or number) replaces the lower end, a written maximum (or number)
//! the upper end, a written `multiple_of` (or number) the step. A written `head_dim`
//! replaces its list; where `hidden_size` and `num_heads` are both numbers their
//! quotient is allowed too. Numbers, minima and multiples above the largest value of a
//! dim extend it up to themselves; maxima do not extend it.

use super::problem::{Constraint, Problem, Rule};
use crate::architecture::AttentionKind;
use crate::dims::Dim;
use serde::Serialize;

/// Which lattice a solution comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lattice {
    /// Shapes that people train.
    Preferred,
    /// Everything else that the template can build.
    Wide,
}

const WIDE_HEAD_DIMS: [u64; 14] = [1, 2, 4, 8, 16, 32, 64, 80, 96, 112, 128, 160, 192, 256];

/// Values lo, lo + step, …: `n` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub lo: u64,
    pub step: u64,
    pub n: u64,
}

impl Range {
    /// Multiples of `step` from `lo` to `hi`.
    pub fn multiples(lo: u64, hi: u64, step: u64) -> Range {
        let (first, last) = (lo.div_ceil(step), hi / step);
        match last.checked_sub(first) {
            Some(more) => Range { lo: first * step, step, n: more + 1 },
            None => Range { lo, step, n: 0 },
        }
    }

    pub fn value(&self, idx: u64) -> u64 {
        self.lo + self.step * idx
    }

    pub fn hi(&self) -> u64 {
        self.value(self.n.saturating_sub(1))
    }

    pub fn iter(self) -> impl Iterator<Item = u64> {
        (0..self.n).map(move |idx| self.value(idx))
    }

    pub fn contains(&self, value: u64) -> bool {
        self.n > 0
            && value >= self.lo
            && value <= self.hi()
            && (value - self.lo).is_multiple_of(self.step)
    }
}

/// A set of constraints as domains and flags; the lattice around them.
#[derive(Clone, Debug)]
pub(super) struct System {
    lo: [u64; 8],
    hi: [u64; 8],
    step: [u64; 8],
    /// What the whole problem writes, whichever constraints are active, so that
    /// leaving one out never removes a shape.
    is_written: [Written; 8],
    head_dims: Option<Vec<u64>>,
    /// Whether `hidden_size = num_heads * head_dim`.
    pub is_linked: bool,
    pub kv_divides: bool,
    pub kv_equals: bool,
    /// Wanted parameters and the largest accepted distance.
    pub target: Option<(i128, i128)>,
    attention: AttentionKind,
    pub is_gated: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Written {
    lo: bool,
    hi: bool,
    step: bool,
}

/// Upper ends of the wide lattice, in the order of [`Dim::ALL`].
const WIDE_MAX: [u64; 8] = [1 << 24, 1 << 24, 1024, 131_072, 1024, 1024, 1024, 1 << 20];

impl System {
    /// The system of the `active` constraints of `problem`; `None` if they contradict
    /// each other about a single dim.
    pub fn new<'a>(
        problem: &Problem,
        active: impl Iterator<Item = &'a Constraint>,
    ) -> Option<System> {
        let mut system = System {
            lo: [1; 8],
            hi: WIDE_MAX,
            step: [1; 8],
            is_written: [Written::default(); 8],
            head_dims: None,
            is_linked: false,
            kv_divides: false,
            kv_equals: false,
            target: None,
            attention: problem.attention,
            is_gated: problem.is_gated,
        };
        for dim in Dim::ALL {
            let bound = &problem.bounds[dim.idx()];
            let fixed = bound.fixed.is_some();
            system.is_written[dim.idx()] = Written {
                lo: fixed || bound.min.is_some(),
                hi: fixed || bound.max.is_some(),
                step: fixed || bound.multiple_of.is_some(),
            };
            let largest = [bound.fixed, bound.min, bound.multiple_of];
            let largest = largest.into_iter().flatten().fold(0, u64::max);
            system.hi[dim.idx()] = WIDE_MAX[dim.idx()].max(largest);
        }
        system.head_dims = system.unwritten_head_dims(problem);
        for constraint in active {
            system.add(&constraint.rule)?;
        }
        Some(system)
    }

    fn unwritten_head_dims(&self, problem: &Problem) -> Option<Vec<u64>> {
        if !problem.bounds[Dim::HeadDim.idx()].is_free() {
            return None;
        }
        let mut list = WIDE_HEAD_DIMS.to_vec();
        list.extend(self.quotient(problem));
        list.sort_unstable();
        list.dedup();
        Some(list)
    }

    /// `hidden_size / num_heads` where both are numbers and divide.
    fn quotient(&self, problem: &Problem) -> Option<u64> {
        let hidden = problem.bounds[Dim::HiddenSize.idx()].fixed?;
        let heads = problem.bounds[Dim::NumHeads.idx()].fixed?;
        hidden.is_multiple_of(heads).then(|| hidden / heads)
    }

    fn add(&mut self, rule: &Rule) -> Option<()> {
        match *rule {
            Rule::Equals(dim, value) => {
                self.lo[dim.idx()] = self.lo[dim.idx()].max(value);
                self.hi[dim.idx()] = self.hi[dim.idx()].min(value);
            }
            Rule::Min(dim, value) => self.lo[dim.idx()] = self.lo[dim.idx()].max(value),
            Rule::Max(dim, value) => self.hi[dim.idx()] = self.hi[dim.idx()].min(value),
            Rule::MultipleOf(dim, value) => {
                let own = self.step[dim.idx()];
                let common = super::poly::gcd(i128::from(own), i128::from(value)) as u64;
                // A step above every bound leaves no multiple, whatever its size.
                self.step[dim.idx()] = (own / common).saturating_mul(value);
            }
            Rule::HiddenIsHeads => self.is_linked = true,
            Rule::KvDivides => self.kv_divides = true,
            Rule::KvEqualsHeads => self.kv_equals = true,
            Rule::Target { params, max_gap } => {
                self.target = Some((i128::from(params), i128::from(max_gap)));
            }
        }
        let dim = rule.dim()?;
        (self.range(dim).n > 0).then_some(())
    }

    /// The domain of a dim by itself: what is written, inside the wide lattice.
    pub fn range(&self, dim: Dim) -> Range {
        let idx = dim.idx();
        Range::multiples(self.lo[idx], self.hi[idx], self.step[idx])
    }

    /// Widths of a head that may occur at all.
    pub fn head_dims(&self) -> impl Iterator<Item = u64> {
        let range = self.range(Dim::HeadDim);
        let listed = self.head_dims.iter().flatten().copied().filter(move |d| range.contains(*d));
        let all = if self.head_dims.is_none() { range } else { Range { n: 0, ..range } };
        listed.chain(all.iter())
    }

    /// Whether this many heads are usual, or written.
    pub fn allows_heads(&self, lattice: Lattice, heads: u64) -> bool {
        let is_usual = match heads {
            0..=16 => true,
            17..=64 => heads.is_multiple_of(4),
            _ => heads.is_multiple_of(8),
        };
        lattice == Lattice::Wide || self.is_written[Dim::NumHeads.idx()].step || is_usual
    }

    /// Whether a head width goes with a hidden size.
    pub fn allows_head_dim(
        &self,
        lattice: Lattice,
        hidden: u64,
        heads: u64,
        head_dim: u64,
    ) -> bool {
        let is_numbers = |dim: Dim| self.is_written[dim.idx()].lo && self.range(dim).n == 1;
        let is_given = self.head_dims.is_none()
            || (is_numbers(Dim::HiddenSize)
                && is_numbers(Dim::NumHeads)
                && heads.checked_mul(head_dim) == Some(hidden));
        if lattice == Lattice::Wide || is_given {
            return true;
        }
        let list: &[u64] = match hidden {
            0..64 => &[4, 8, 16],
            64..256 => &[16, 32],
            256..1024 => &[64],
            1024..=4096 => &[64, 128],
            _ => &[128],
        };
        list.contains(&head_dim)
    }

    /// Key/value heads that go with `heads`.
    pub fn kv_heads(&self, lattice: Lattice, heads: u64) -> Vec<u64> {
        let range = self.range(Dim::NumKvHeads);
        if self.kv_equals {
            return [heads].into_iter().filter(|k| range.contains(*k)).collect();
        }
        if !self.kv_divides {
            // Only asked without a target, where any number will do.
            return vec![range.lo];
        }
        let written = self.is_written[Dim::NumKvHeads.idx()];
        let is_free = !(written.lo || written.hi || written.step);
        let least = match (lattice, is_free && self.attention == AttentionKind::Gqa) {
            (Lattice::Preferred, true) => heads.div_ceil(8),
            _ => 1,
        };
        let mut kept = divisors(heads);
        kept.retain(|k| *k >= least && range.contains(*k));
        kept
    }

    /// The domain of a dim that is independent of heads, for a hidden size.
    pub fn range_at(&self, lattice: Lattice, dim: Dim, hidden: u64) -> Range {
        let idx = dim.idx();
        let (mut lo, mut hi, mut step) = (self.lo[idx], self.hi[idx], self.step[idx]);
        let written = self.is_written[idx];
        if lattice == Lattice::Preferred {
            let (low, high, usual_step) = match dim {
                Dim::NumLayers => (hidden.div_ceil(256), deepest(hidden), 1),
                Dim::IntermediateSize => usual_widths(hidden, self.is_gated),
                _ => (lo, hi, step),
            };
            if !written.lo {
                lo = lo.max(low);
            }
            if !written.hi {
                hi = hi.min(high);
            }
            if !written.step {
                step = step.max(usual_step);
            }
        }
        Range::multiples(lo, hi, step)
    }
}

/// The largest preferred number of layers.
fn deepest(hidden: u64) -> u64 {
    let least_ratio = match hidden {
        0..1024 => 16,
        1024..4096 => 32,
        _ => 64,
    };
    (hidden / least_ratio).max(1)
}

/// Smallest, largest and step of preferred feed-forward widths.
fn usual_widths(hidden: u64, is_gated: bool) -> (u64, u64, u64) {
    let step = match hidden {
        0..64 => return (hidden, hidden.saturating_mul(8), 1),
        64..256 => 8,
        256..1024 => 32,
        _ => 256,
    };
    match is_gated {
        true => (hidden.saturating_mul(5).div_ceil(2), hidden.saturating_mul(4), step),
        false => (hidden.saturating_mul(3), hidden.saturating_mul(5), step),
    }
}

/// The divisors of `n` in ascending order.
pub(super) fn divisors(n: u64) -> Vec<u64> {
    let small: Vec<u64> =
        (1..).take_while(|d| d * d <= n).filter(|d| n.is_multiple_of(*d)).collect();
    let root = small.last().copied().unwrap_or(1);
    let large = small.iter().rev().map(|d| n / d).filter(|d| *d > root);
    small.iter().copied().chain(large).collect()
}
