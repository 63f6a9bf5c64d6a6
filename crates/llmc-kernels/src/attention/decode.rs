//! Attention, forward, for a few query rows: decoding.
//!
//! A tile of 32 rows would be mostly empty. Here the heads of a group share each
//! block of sixteen keys, which is turned in registers; scores are one row per
//! head. Keys and values are read once, in order.

use core::ops::Range;

use super::cells::{Elements, Patch};
use super::score::RowTile;
use super::{Attention, Segments};
use crate::disjoint::DisjointMut;
use crate::isa::Kernel;
use crate::simd::{LANES, Simd, generic};

/// Rows up to which this is the faster way.
pub(super) const MAX_ROWS: usize = 4;
/// Heads that are computed side by side.
const HEADS: usize = 4;
/// Vectors of a value row that meet their accumulators at a time.
const VECTORS: usize = 4;

/// Elements of scratch of one task: the scores of a few heads.
pub(super) fn task_scratch_len(shape: &Attention) -> usize {
    HEADS * scores_stride(shape)
}

/// The place of one head's scores, in whole vectors.
fn scores_stride(shape: &Attention) -> usize {
    shape.kv_len.next_multiple_of(LANES)
}

/// Units of work: the heads of one key-value head at one position.
pub(super) fn items(shape: &Attention) -> usize {
    shape.batch * shape.n_kv_heads * shape.q_len
}

/// Some units of work, positions fastest, then key-value heads, then batches.
pub(super) struct Decode<'a, C> {
    shape: &'a Attention,
    q: &'a [f32],
    k: C,
    v: C,
    segments: Option<Segments<'a>>,
    o: &'a DisjointMut<'a, f32>,
    items: Range<usize>,
    scratch: &'a mut [f32],
}

impl<'a, C: Elements> Decode<'a, C> {
    /// Operands of checked lengths; scratch of [`task_scratch_len`] elements.
    pub fn new(
        shape: &'a Attention,
        (q, k, v): (&'a [f32], C, C),
        segments: Option<Segments<'a>>,
        o: &'a DisjointMut<'a, f32>,
        items: Range<usize>,
        scratch: &'a mut [f32],
    ) -> Self {
        Self { shape, q, k, v, segments, o, items, scratch }
    }
}

impl<C: Elements> Kernel for Decode<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(mut self) {
        let shape = self.shape;
        let scratch = core::mem::take(&mut self.scratch);
        for item in self.items.clone() {
            let (head, row) = (item / shape.q_len, item % shape.q_len);
            let (batch, kv_head) = (head / shape.n_kv_heads, head % shape.n_kv_heads);
            let mut group = 0;
            while group < shape.group() {
                let place = Place { batch, row, kv_head, head: kv_head * shape.group() + group };
                match shape.group() - group {
                    1 => self.heads::<V, 1>(place, scratch),
                    2 => self.heads::<V, 2>(place, scratch),
                    3 => self.heads::<V, 3>(place, scratch),
                    _ => self.heads::<V, HEADS>(place, scratch),
                }
                group += HEADS;
            }
        }
    }
}

/// Where a few heads are computed.
#[derive(Clone, Copy)]
struct Place {
    batch: usize,
    row: usize,
    kv_head: usize,
    /// The first of the query heads.
    head: usize,
}

impl<C: Elements> Decode<'_, C> {
    /// `R` heads of one position.
    #[inline(always)]
    fn heads<V: Simd, const R: usize>(&self, place: Place, scratch: &mut [f32]) {
        let shape = self.shape;
        let keys = RowTile::of_rows(shape, place.row..place.row + 1).keys;
        let keys = self.seen(place, keys);
        // Whole vectors of keys, so that a lane of a register is a virtual lane.
        let first = keys.start / LANES * LANES;
        let stride = scores_stride(shape);
        let max = self.scores::<V, R>(place, keys.clone(), scratch);
        for (r, &max) in max.iter().enumerate() {
            let scores = &mut scratch[r * stride + first..r * stride + keys.end.max(first)];
            // A row that sees nothing: exp(−∞ − 0) = 0 everywhere.
            let is_blind = max == f32::NEG_INFINITY;
            let max = V::splat(if is_blind { 0.0 } else { max });
            let mut sum = V::splat(0.0);
            let mut i = 0;
            while i < scores.len() {
                let e = generic::exp(V::at(scores, i, f32::NEG_INFINITY).sub(max));
                e.put(scores, i);
                sum = sum.add(e);
                i += LANES;
            }
            let factor = if is_blind { 0.0 } else { generic::recip(sum.sum()) };
            let mut i = 0;
            while i < scores.len() {
                V::at(scores, i, 0.0).mul(V::splat(factor)).put(scores, i);
                i += LANES;
            }
        }
        self.weigh::<V, R>(place, keys, scratch);
    }

    /// The keys from the first to the last one of the row's segment: a cache is mostly unused slots at
    /// first, and what is not read costs nothing.
    #[inline(always)]
    fn seen(&self, place: Place, keys: Range<usize>) -> Range<usize> {
        let Some(segments) = self.segments else { return keys };
        let (q, kv) = segments.of_batch(self.shape, place.batch);
        let is_same = |segment: &i32| *segment == q[place.row];
        let kv = kv.get(keys.clone()).unwrap_or_default();
        match (kv.iter().position(is_same), kv.iter().rposition(is_same)) {
            (Some(first), Some(last)) => keys.start + first..keys.start + last + 1,
            _ => keys.start..keys.start,
        }
    }

    /// Scaled and masked scores; returns the largest of each head.
    #[inline(always)]
    fn scores<V: Simd, const R: usize>(
        &self,
        place: Place,
        keys: Range<usize>,
        scratch: &mut [f32],
    ) -> [f32; R] {
        let shape = self.shape;
        let dim = shape.head_dim;
        let stride = scores_stride(shape);
        let q_start = shape.q_start(place.batch, place.head) + place.row * shape.q_stride();
        let k_start = shape.kv_start(place.batch, place.kv_head);
        let segments = self.segments.map(|segments| segments.of_batch(shape, place.batch));
        let hidden = V::splat(f32::NEG_INFINITY);
        let mut max = [hidden; R];
        let mut key = keys.start / LANES * LANES;
        while key < keys.end {
            let count = (keys.end - key).min(LANES);
            let mut sums = [V::splat(0.0); R];
            let mut d = 0;
            while d < dim {
                let d_count = (dim - d).min(LANES);
                let patch = Patch {
                    at: k_start + key * shape.kv_stride() + d,
                    row: k_start / dim + key * shape.n_kv_heads,
                    heads: shape.n_kv_heads,
                    dim,
                };
                // SAFETY: keys and heads are inside of k and q, whose lengths were
                // checked.
                unsafe {
                    let q = self.q.as_ptr().add(q_start + d);
                    if count == LANES && d_count == LANES {
                        let turned: [V; LANES] = self.k.turned(patch, LANES, LANES);
                        let mut dd = 0;
                        while dd < LANES {
                            for (r, sum) in sums.iter_mut().enumerate() {
                                *sum = V::splat(*q.add(r * dim + dd)).fma(turned[dd], *sum);
                            }
                            dd += 1;
                        }
                    } else {
                        let turned: [V; LANES] = self.k.turned(patch, count, d_count);
                        for (dd, &column) in turned.iter().enumerate().take(d_count) {
                            for (r, sum) in sums.iter_mut().enumerate() {
                                *sum = V::splat(*q.add(r * dim + dd)).fma(column, *sum);
                            }
                        }
                    }
                }
                d += LANES;
            }
            let mut visible = [f32::NEG_INFINITY; LANES];
            for (lane, visible) in visible.iter_mut().enumerate().take(count) {
                let is_same = segments.is_none_or(|(q, kv)| q[place.row] == kv[key + lane]);
                if key + lane >= keys.start && is_same {
                    *visible = 0.0;
                }
            }
            let is_visible = V::eq(V::from_array(&visible), V::splat(0.0));
            for (r, (sum, max)) in sums.iter().zip(&mut max).enumerate() {
                let score = sum.mul(V::splat(shape.scale));
                let score = V::select(is_visible, score, hidden);
                *max = score.running_max(*max);
                score.put(&mut scratch[r * stride..(r + 1) * stride], key);
            }
            key += LANES;
        }
        max.map(V::largest)
    }

    /// `o = p·v + 0`.
    #[inline(always)]
    fn weigh<V: Simd, const R: usize>(&self, place: Place, keys: Range<usize>, p: &[f32]) {
        let shape = self.shape;
        let dim = shape.head_dim;
        let stride = scores_stride(shape);
        let o_start = shape.q_start(place.batch, place.head) + place.row * shape.q_stride();
        let v_start = shape.kv_start(place.batch, place.kv_head);
        let mut d = 0;
        while d < dim {
            let mut sums = [[V::splat(0.0); R]; VECTORS];
            for key in keys.clone() {
                let mut weights = [V::splat(0.0); R];
                for (r, weight) in weights.iter_mut().enumerate() {
                    *weight = V::splat(p[r * stride + key]);
                }
                let row = v_start / dim + key * shape.n_kv_heads;
                for (vector, sums) in sums.iter_mut().enumerate() {
                    let from = (d + vector * LANES).min(dim);
                    // SAFETY: the key is inside of v, whose length was checked.
                    let value: V =
                        unsafe { self.v.load(row * dim + from, row, (dim - from).min(LANES)) };
                    for (sum, &weight) in sums.iter_mut().zip(&weights) {
                        *sum = weight.fma(value, *sum);
                    }
                }
            }
            for (vector, sums) in sums.iter().enumerate() {
                for (r, sum) in sums.iter().enumerate() {
                    let start = o_start + r * dim;
                    let from = (d + vector * LANES).min(dim);
                    // SAFETY: the heads of tasks are disjoint at each position.
                    let o = unsafe { self.o.range(start + from..start + dim) };
                    sum.add(V::splat(0.0)).put(o, 0);
                }
            }
            d += VECTORS * LANES;
        }
    }
}
