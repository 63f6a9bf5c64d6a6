//! What forward and backward share: which keys a tile of rows sees, the packed
//! operands, and the dot products with all keys.

use core::ops::Range;

use llmc_base::math::{philox_key, philox4x32};

use super::softmax::TileSoftmax;
use super::{Attention, Segments};
use crate::dropout::Dropout;
use crate::gemm::pack::{AsIs, Block, PANEL_SLACK, pack_panel};
use crate::gemm::tile::{APART, Tile};
use crate::simd::{LANES, Simd};

/// Query rows of a tile: the width of the transposed scores.
pub(super) const ROWS: usize = APART;

/// Keys whose probabilities are used right after they are made, about 64: whole
/// panels, and with 64 rows 16 KiB of scores.
pub(super) const fn chunk_len<V: Simd>() -> usize {
    64 / V::TILE_ROWS * V::TILE_ROWS
}

/// A tile of query rows of one head, and the keys that at least one of them may
/// see.
#[derive(Clone, Debug)]
pub(super) struct RowTile {
    /// Query positions.
    pub rows: Range<usize>,
    /// Key positions.
    pub keys: Range<usize>,
}

impl RowTile {
    /// Tile `index` of a sequence.
    pub fn new(shape: &Attention, index: usize) -> Self {
        Self::of_rows(shape, index * ROWS..((index + 1) * ROWS).min(shape.q_len))
    }

    /// Some query rows and the keys that causality and window let them see.
    pub fn of_rows(shape: &Attention, rows: Range<usize>) -> Self {
        let clamp = |key: isize| key.clamp(0, shape.kv_len as isize) as usize;
        let offset = shape.kv_len as isize - shape.q_len as isize;
        let end = if shape.causal { clamp(rows.end as isize + offset) } else { shape.kv_len };
        let start = match shape.window {
            // Longer than any distance: no limit.
            Some(window) if window <= 2 * shape.kv_len.max(shape.q_len) => {
                clamp(rows.start as isize + offset - window as isize + 1)
            }
            _ => 0,
        };
        Self { rows, keys: start.min(end)..end }
    }

    /// The keys that rows of the tile before `row_end` may see.
    pub fn keys_before(&self, shape: &Attention, row_end: usize) -> Range<usize> {
        let end = causal_end(shape, row_end).clamp(self.keys.start, self.keys.end);
        self.keys.start..end
    }

    /// The rows of the tile that may see keys from `key` on, counted from the first.
    pub fn rows_from(&self, shape: &Attention, key: usize) -> Range<usize> {
        let first = if shape.causal { (key + shape.q_len).saturating_sub(shape.kv_len) } else { 0 };
        first.clamp(self.rows.start, self.rows.end) - self.rows.start..self.rows.len()
    }

    /// Leaves out keys at both ends whose segment no row has.
    fn within(mut self, segments: Option<(&[i32], &[i32])>) -> Self {
        if let Some((q, kv)) = segments {
            let rows = &q[self.rows.clone()];
            let lowest = rows.iter().min().copied().unwrap_or(0);
            let highest = rows.iter().max().copied().unwrap_or(0);
            let unseen = |key: usize| !(lowest..=highest).contains(&kv[key]);
            while !self.keys.is_empty() && unseen(self.keys.start) {
                self.keys.start += 1;
            }
            while !self.keys.is_empty() && unseen(self.keys.end - 1) {
                self.keys.end -= 1;
            }
        }
        self
    }

    /// The tile of one batch, with keys left out by segment.
    pub fn of_batch(
        shape: &Attention,
        segments: Option<Segments<'_>>,
        batch: usize,
        index: usize,
    ) -> Self {
        Self::new(shape, index).within(segments.map(|segments| segments.of_batch(shape, batch)))
    }
}

/// The end of the keys that rows before `row_end` may see.
fn causal_end(shape: &Attention, row_end: usize) -> usize {
    if shape.causal {
        (row_end + shape.kv_len).saturating_sub(shape.q_len).min(shape.kv_len)
    } else {
        shape.kv_len
    }
}

/// Tiles of a sequence of queries.
pub(super) fn tile_count(shape: &Attention) -> usize {
    shape.q_len.div_ceil(ROWS)
}

/// The head width in whole vectors.
pub(super) fn padded_dim(shape: &Attention) -> usize {
    shape.head_dim.next_multiple_of(LANES)
}

/// Elements of keys or values packed by [`pack_keys`].
pub(super) fn packed_keys_len(shape: &Attention) -> usize {
    shape.kv_len * shape.head_dim + PANEL_SLACK
}

/// Elements of keys or values packed by [`pack_rows`].
pub(super) fn packed_rows_len(shape: &Attention) -> usize {
    shape.kv_len * padded_dim(shape)
}

/// Elements of a tile of rows packed by [`pack_queries`].
pub(super) fn packed_queries_len(shape: &Attention) -> usize {
    shape.head_dim * ROWS
}

/// Elements of a tile of scores.
pub(super) fn scores_len(shape: &Attention) -> usize {
    shape.kv_len * ROWS
}

/// Packs keys (or values) as left operand: panels of `TILE_ROWS` keys.
///
/// # Safety
/// `start` points to position 0 of a key-value head of `shape`; `to` has
/// [`packed_keys_len`] elements.
#[inline(always)]
pub(super) unsafe fn pack_keys<V: Simd>(shape: &Attention, start: *const f32, to: &mut [f32]) {
    let (stride, dim) = (shape.kv_stride(), shape.head_dim);
    let mut key = 0;
    while key < shape.kv_len {
        let height = (shape.kv_len - key).min(V::TILE_ROWS);
        let block =
            Block { start: start.wrapping_add(key * stride), i_stride: stride, k_stride: 1 };
        // SAFETY: the caller's; panels follow each other in ascending order, the
        // last one's slack is at the end.
        unsafe {
            pack_panel::<V, AsIs>(block, height, dim, dim, height, to.as_mut_ptr().add(key * dim));
        }
        key += V::TILE_ROWS;
    }
}

/// Copies rows of `head_dim` elements, padded with zeros to whole vectors: a right
/// operand.
///
/// # Safety
/// `rows` rows are readable from `start`, `stride` apart; `to` has room.
#[inline(always)]
pub(super) unsafe fn pack_rows<V: Simd>(
    start: *const f32,
    stride: usize,
    rows: usize,
    shape: &Attention,
    to: &mut [f32],
) {
    let padded = padded_dim(shape);
    for row in 0..rows {
        let mut i = 0;
        while i < padded {
            let count = (shape.head_dim - i).min(LANES);
            // SAFETY: the caller's.
            unsafe {
                V::load_first(start.add(row * stride + i), count, 0.0)
                    .store(to.as_mut_ptr().add(row * padded + i));
            }
            i += LANES;
        }
    }
}

/// Packs a tile of query rows as right operand: `to[d·ROWS + row]`.
///
/// # Safety
/// `rows` rows of q (or of the gradient of o) are readable from `start`; `to` has
/// [`packed_queries_len`] elements.
#[inline(always)]
pub(super) unsafe fn pack_queries<V: Simd>(
    shape: &Attention,
    start: *const f32,
    rows: usize,
    to: &mut [f32],
) {
    let block = Block { start, i_stride: shape.q_stride(), k_stride: 1 };
    // SAFETY: the caller's; the width is a multiple of 16.
    unsafe {
        pack_panel::<V, AsIs>(block, rows, shape.head_dim, shape.head_dim, ROWS, to.as_mut_ptr())
    };
}

/// 1 where dropout keeps the probability of a key, 0 where it drops it, for the keys that each row may
/// see by causality; as scores are laid out. The elements of a sample are [K, T, G, S].
pub(super) fn fill_kept(
    shape: &Attention,
    dropout: &Dropout<'_>,
    batch: usize,
    head: usize,
    tile: &RowTile,
    to: &mut [f32],
) {
    let (threshold, key_words) = (dropout.threshold(), philox_key(dropout.key));
    let (kv_head, group) = (head / shape.group(), head % shape.group());
    for row in tile.rows.clone() {
        let keys = tile.keys_before(shape, row + 1);
        let row_start = ((kv_head * shape.q_len + row) * shape.group() + group) as u64;
        let row_start = row_start * shape.kv_len as u64;
        let mut words = [0; 4];
        for key in keys.clone() {
            let element = row_start + key as u64;
            if key == keys.start || element.is_multiple_of(4) {
                words = philox4x32(dropout.counter(batch, element / 4), key_words);
            }
            let is_kept = words[(element % 4) as usize] >= threshold;
            to[(key - tile.keys.start) * ROWS + row - tile.rows.start] =
                if is_kept { 1.0 } else { 0.0 };
        }
    }
}

/// `to[(key − keys.start)·ROWS + row] = Σ_d keys[key, d]·queries[d, row]`, but not
/// for sixteen rows that see none of a panel of keys. With a softmax, each panel
/// is scaled and masked while it is at hand.
///
/// # Safety
/// Operands packed for `shape`; `to` has [`scores_len`] elements.
#[inline(always)]
pub(super) unsafe fn dot_keys<V: Simd>(
    shape: &Attention,
    packed_keys: &[f32],
    packed_queries: &[f32],
    tile: &RowTile,
    mut softmax: Option<&mut TileSoftmax<'_, V>>,
    to: &mut [f32],
) {
    let dim = shape.head_dim;
    let columns = tile.rows.len().next_multiple_of(LANES);
    let mut key = tile.keys.start;
    while key < tile.keys.end {
        // The rest of the panel that the key lies in.
        let panel = key / V::TILE_ROWS * V::TILE_ROWS;
        let height = (shape.kv_len - panel).min(V::TILE_ROWS);
        let end = (panel + height).min(tile.keys.end);
        let unseen = tile.rows_from(shape, key).start / LANES * LANES;
        let job = Tile {
            a: packed_keys.as_ptr().wrapping_add(panel * dim + (key - panel)),
            a_step: height,
            b: packed_queries.as_ptr().wrapping_add(unseen),
            b_step: ROWS,
            k: dim,
            c: to.as_mut_ptr().wrapping_add((key - tile.keys.start) * ROWS + unseen),
            c_stride: ROWS,
            columns: columns - unseen,
            ..Tile::NEW
        };
        // SAFETY: the caller's.
        unsafe {
            run_columns::<V>(job, end - key);
            if let Some(softmax) = &mut softmax {
                softmax.mask(key..end, to.as_mut_ptr());
            }
        }
        key = end;
    }
}

/// Runs a tile of any number of columns, register tile by register tile.
///
/// # Safety
/// As for [`Tile`]; rows ≤ `TILE_ROWS`.
#[inline(always)]
pub(super) unsafe fn run_columns<V: Simd>(job: Tile, rows: usize) {
    let mut done = 0;
    while done < job.columns {
        let columns = (job.columns - done).min(V::TILE_VECTORS * LANES);
        let part =
            Tile { b: job.b.wrapping_add(done), c: job.c.wrapping_add(done), columns, ..job };
        // SAFETY: the caller's.
        unsafe { V::run_tile(&part, rows, columns.div_ceil(LANES)) };
        done += columns;
    }
}

/// Zeros to add where a result must not be −0.
pub(super) const ZEROS: [f32; LANES * 4] = [0.0; LANES * 4];
