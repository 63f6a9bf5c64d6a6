//! The softmax of a tile of transposed scores, in steps that stay close to the
//! steps of the matrix products around it.

use core::ops::Range;

use super::score::{ROWS, RowTile};
use super::{Attention, Segments};
use crate::simd::{LANES, Simd, generic, tree};

/// Groups of sixteen rows in a tile.
const GROUPS: usize = ROWS / LANES;

/// The state of the softmax of one tile.
///
/// All buffers that its methods take hold one row of `ROWS` scores for each key of
/// the tile.
pub(super) struct TileSoftmax<'a, V: Simd> {
    tile: &'a RowTile,
    scale: V,
    kv_segments: Option<&'a [i32]>,
    n_groups: usize,
    groups: [Group<V>; GROUPS],
}

/// Sixteen consecutive rows.
#[derive(Clone, Copy)]
struct Group<V: Simd> {
    mask: Mask<V>,
    q_segments: V::Int,
    /// The end of the keys that one of the rows may see.
    keys_end: usize,
    /// The largest score so far.
    max: V,
    /// The reciprocal of the sum of the exponentials.
    factor: V,
    /// The sum of p·dp.
    weighted: V,
}

impl<'a, V: Simd> TileSoftmax<'a, V> {
    #[inline(always)]
    pub fn new(
        shape: &Attention,
        segments: Option<Segments<'a>>,
        batch: usize,
        tile: &'a RowTile,
    ) -> Self {
        let segments = segments.map(|segments| segments.of_batch(shape, batch));
        let zero = V::splat(0.0);
        let mut groups = [Group {
            mask: Mask::new(shape, tile.rows.start, 0),
            q_segments: V::int_splat(0),
            keys_end: tile.keys.start,
            max: V::splat(f32::NEG_INFINITY),
            factor: zero,
            weighted: zero,
        }; GROUPS];
        let n_groups = tile.rows.len().div_ceil(LANES);
        for (index, group) in groups.iter_mut().enumerate().take(n_groups) {
            let row = tile.rows.start + index * LANES;
            let count = (tile.rows.end - row).min(LANES);
            group.mask = Mask::new(shape, row, count);
            group.keys_end = tile.keys_before(shape, row + count).end;
            let mut ids = [0; LANES];
            if let Some((q, _)) = segments {
                ids[..count].copy_from_slice(&q[row..row + count]);
            }
            group.q_segments = V::int_from_array(&ids);
        }
        Self {
            tile,
            scale: V::splat(shape.scale),
            kv_segments: segments.map(|(_, kv)| kv),
            n_groups,
            groups,
        }
    }

    /// Where the scores of a group for a key are.
    #[inline(always)]
    fn place(&self, key: usize, group: usize) -> usize {
        (key - self.tile.keys.start) * ROWS + group * LANES
    }

    /// Scales and masks the dot products of some keys and notes the largest.
    ///
    /// # Safety
    /// The keys are in the tile and the buffer has its scores.
    #[inline(always)]
    pub unsafe fn mask(&mut self, keys: Range<usize>, scores: *mut f32) {
        for index in 0..self.n_groups {
            let group = self.groups[index];
            let mut max = group.max;
            for key in keys.start..keys.end.min(group.keys_end) {
                // SAFETY: the caller's.
                let place = unsafe { scores.add(self.place(key, index)) };
                // SAFETY: as above.
                let mut score = unsafe { V::load(place) }.mul(self.scale);
                if key < group.mask.free_start || key >= group.mask.free_end {
                    score = group.mask.apply(key, score);
                }
                if let Some(kv_segments) = self.kv_segments {
                    let same = V::int_eq(group.q_segments, V::int_splat(kv_segments[key]));
                    score = V::select(same, score, V::splat(f32::NEG_INFINITY));
                }
                max = score.running_max(max);
                // SAFETY: as above.
                unsafe { score.store(place) };
            }
            self.groups[index].max = max;
        }
    }

    /// Replaces all masked scores by `exp(score − max)` and sums these.
    ///
    /// # Safety
    /// The buffer has the scores of the tile.
    #[inline(always)]
    pub unsafe fn exponentials(&mut self, scores: *mut f32) {
        let zero = V::splat(0.0);
        for index in 0..self.n_groups {
            let group = self.groups[index];
            // A row that sees nothing: exp(−∞ − 0) = 0 everywhere.
            let nothing = V::eq(group.max, V::splat(f32::NEG_INFINITY));
            let max = V::select(nothing, zero, group.max);
            let mut lanes = [zero; LANES];
            for key in self.tile.keys.start..group.keys_end {
                // SAFETY: the caller's.
                let place = unsafe { scores.add(self.place(key, index)) };
                // SAFETY: as above.
                let e = generic::exp(unsafe { V::load(place) }.sub(max));
                lanes[key % LANES] = lanes[key % LANES].add(e);
                // SAFETY: as above.
                unsafe { e.store(place) };
            }
            let sum = tree(lanes);
            let none = V::eq(sum, zero);
            self.groups[index].factor = V::select(none, zero, generic::recip(sum));
        }
    }

    /// Turns the exponentials of some keys into probabilities; zeros where a group
    /// does not see what another one does.
    ///
    /// # Safety
    /// As for [`mask`](Self::mask).
    #[inline(always)]
    pub unsafe fn probabilities(&self, keys: Range<usize>, scores: *mut f32) {
        for index in 0..self.n_groups {
            let group = self.groups[index];
            let end = keys.end.min(group.keys_end).max(keys.start);
            for key in keys.start..end {
                // SAFETY: the caller's.
                unsafe {
                    let place = scores.add(self.place(key, index));
                    V::load(place).mul(group.factor).store(place);
                }
            }
            for key in end..keys.end {
                // SAFETY: the caller's.
                unsafe { V::splat(0.0).store(scores.add(self.place(key, index))) };
            }
        }
    }

    /// Turns all exponentials into probabilities p and sums p·dp, where `slopes`
    /// holds dp.
    ///
    /// # Safety
    /// Both buffers have the scores of the tile.
    #[inline(always)]
    pub unsafe fn weighted_sums(&mut self, scores: *mut f32, slopes: *const f32) {
        for index in 0..self.n_groups {
            let group = self.groups[index];
            let mut lanes = [V::splat(0.0); LANES];
            for key in self.tile.keys.start..group.keys_end {
                let place = self.place(key, index);
                // SAFETY: the caller's.
                unsafe {
                    let p = V::load(scores.add(place)).mul(group.factor);
                    p.store(scores.add(place));
                    let term = p.mul(V::load(slopes.add(place)));
                    lanes[key % LANES] = lanes[key % LANES].add(term);
                }
            }
            self.groups[index].weighted = tree(lanes);
        }
    }

    /// Dropout of p or dp for some keys: times `scale` where `kept` is 1, +0 elsewhere.
    ///
    /// # Safety
    /// As for [`mask`](Self::mask), for both buffers.
    #[inline(always)]
    pub unsafe fn drop(&self, keys: Range<usize>, kept: *const f32, scale: f32, values: *mut f32) {
        let (one, zero, scale) = (V::splat(1.0), V::splat(0.0), V::splat(scale));
        for index in 0..self.n_groups {
            for key in keys.start..keys.end.min(self.groups[index].keys_end) {
                let place = self.place(key, index);
                // SAFETY: the caller's.
                unsafe {
                    let is_kept = V::eq(V::load(kept.add(place)), one);
                    let value = V::load(values.add(place)).mul(scale);
                    V::select(is_kept, value, zero).store(values.add(place));
                }
            }
        }
    }

    /// `ds = (p·(dp − d))·scale` replaces dp for some keys; zeros in both buffers
    /// where a group does not see what another one does.
    ///
    /// # Safety
    /// As for [`mask`](Self::mask), for both buffers.
    #[inline(always)]
    pub unsafe fn slopes(&self, keys: Range<usize>, scores: *mut f32, slopes: *mut f32) {
        for index in 0..self.n_groups {
            let group = self.groups[index];
            let end = keys.end.min(group.keys_end).max(keys.start);
            for key in keys.start..end {
                let place = self.place(key, index);
                // SAFETY: the caller's.
                unsafe {
                    let slope = V::load(slopes.add(place)).sub(group.weighted);
                    let ds = V::load(scores.add(place)).mul(slope).mul(self.scale);
                    ds.store(slopes.add(place));
                }
            }
            for key in end..keys.end {
                let place = self.place(key, index);
                // SAFETY: the caller's.
                unsafe {
                    V::splat(0.0).store(scores.add(place));
                    V::splat(0.0).store(slopes.add(place));
                }
            }
        }
    }
}

/// Causal and window limits of sixteen consecutive rows.
#[derive(Clone, Copy)]
struct Mask<V: Simd> {
    /// The keys that all rows see.
    free_start: usize,
    free_end: usize,
    /// The last key that each row sees.
    last: V::Int,
    /// The first key that each row sees.
    first: V::Int,
}

impl<V: Simd> Mask<V> {
    #[inline(always)]
    fn new(shape: &Attention, row: usize, count: usize) -> Self {
        let mut first = [i32::MIN; LANES];
        let mut last = [i32::MAX; LANES];
        let (mut free_start, mut free_end) = (0, shape.kv_len);
        let offset = shape.kv_len as isize - shape.q_len as isize;
        let longest = 2 * shape.kv_len.max(shape.q_len);
        for lane in 0..count {
            let position = (row + lane) as isize + offset;
            if shape.causal {
                last[lane] = position as i32;
                free_end = free_end.min((position + 1).max(0) as usize);
            }
            if let Some(window) = shape.window.filter(|&window| window <= longest) {
                let start = position - window as isize + 1;
                first[lane] = start as i32;
                free_start = free_start.max(start.max(0) as usize);
            }
        }
        Self {
            free_start,
            free_end,
            last: V::int_from_array(&last),
            first: V::int_from_array(&first),
        }
    }

    /// −∞ in the rows that do not see the key.
    #[inline(always)]
    fn apply(&self, key: usize, score: V) -> V {
        let key = V::int_splat(key as i32);
        let hidden = V::mask_or(V::int_lt(self.last, key), V::int_lt(key, self.first));
        V::select(hidden, V::splat(f32::NEG_INFINITY), score)
    }
}
