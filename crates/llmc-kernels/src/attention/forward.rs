//! Attention, forward.

use core::ops::Range;

use super::cells::Plain;
use super::decode::{self, Decode};
use super::score::{
    ROWS, RowTile, ZEROS, chunk_len, dot_keys, fill_kept, pack_keys, pack_queries, pack_rows,
    packed_keys_len, packed_queries_len, packed_rows_len, padded_dim, run_columns, scores_len,
    tile_count,
};
use super::softmax::TileSoftmax;
use super::{Attention, Segments};
use crate::disjoint::DisjointMut;
use crate::dropout::Dropout;
use crate::error::{Error, check_len, product};
use crate::gemm::tile::Tile;
use crate::isa::{Kernel, dispatch};
use crate::parallel::{Ctx, part};
use crate::simd::Simd;

/// Elements of scratch that [`attention`] needs with this many threads, with or without dropout.
pub fn attention_scratch_len(shape: &Attention, is_dropped: bool, threads: usize) -> usize {
    threads.max(1) * task_scratch_len(shape, is_dropped)
}

/// Multiplications below which one thread is faster than waking others.
pub(super) const MIN_PARALLEL_WORK: usize = 1 << 15;

/// Whether an attention takes the way for a few query rows.
pub fn is_decoding_attention(shape: &Attention, is_dropped: bool) -> bool {
    shape.q_len <= decode::MAX_ROWS && !is_dropped
}

fn task_scratch_len(shape: &Attention, is_dropped: bool) -> usize {
    if is_decoding_attention(shape, is_dropped) {
        return decode::task_scratch_len(shape);
    }
    let scores = scores_len(shape) * if is_dropped { 2 } else { 1 };
    packed_keys_len(shape) + packed_rows_len(shape) + packed_queries_len(shape) + scores
}

/// `s = (q·k over D)·scale`, masked `−∞`; `p = softmax(s)`, after dropout if there is one;
/// `o = p·v` over S, and `+ 0`, so that a zero of o is +0.
///
/// Shapes and masks: [`Attention`]. scratch: [`attention_scratch_len`] elements.
/// q, k and v are taken to be finite: a masked product with ∞ or NaN is left out.
///
/// Errors: [`Error::Length`], [`Error::Dimension`], [`Error::Scratch`].
pub fn attention(
    ctx: &Ctx<'_>,
    shape: &Attention,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    segments: Option<Segments<'_>>,
    dropout: Option<Dropout<'_>>,
    o: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Error> {
    shape.check(segments)?;
    shape.check_dropout(dropout)?;
    check_len("q", q, shape.q_elements()?)?;
    check_len("k", k, shape.kv_elements()?)?;
    check_len("v", v, shape.kv_elements()?)?;
    check_len("o", o, shape.q_elements()?)?;
    let is_decode = is_decoding_attention(shape, dropout.is_some());
    let tiles = tile_count(shape);
    let items = if is_decode { decode::items(shape) } else { shape.batch * shape.n_heads * tiles };
    let work = product(&[shape.q_elements()?, shape.kv_len])?;
    let tasks = if work < MIN_PARALLEL_WORK { items.min(1) } else { ctx.threads().min(items) };
    let task_len = task_scratch_len(shape, dropout.is_some());
    let expected = attention_scratch_len(shape, dropout.is_some(), ctx.threads());
    if scratch.len() < expected {
        return Err(Error::Scratch { expected, actual: scratch.len() });
    }
    let o = DisjointMut::new(o);
    let scratch = DisjointMut::new(scratch);
    ctx.run(tasks, &|index| {
        // SAFETY: each task has a range of its own.
        let scratch = unsafe { scratch.range(index * task_len..(index + 1) * task_len) };
        if is_decode {
            let items = part(items, tasks, index);
            let decode = Decode::new(shape, (q, Plain(k), Plain(v)), segments, &o, items, scratch);
            return dispatch(ctx.isa(), decode);
        }
        dispatch(
            ctx.isa(),
            Forward {
                shape,
                q,
                k,
                v,
                segments,
                dropout,
                o: &o,
                items: balanced(shape, tiles, tasks, index),
                scratch,
            },
        );
    });
    Ok(())
}

/// The tiles of task `index`, such that all tasks see about as many keys. Items
/// count tiles fastest, then heads, then batches.
fn balanced(shape: &Attention, tiles: usize, tasks: usize, index: usize) -> Range<usize> {
    let heads = shape.batch * shape.n_heads;
    // The work of a tile: its keys, and something for each tile.
    let cost = |tile: usize| RowTile::new(shape, tile).keys.len() + ROWS;
    let per_head: usize = (0..tiles).map(cost).sum();
    let boundary = |index: usize| {
        let target = part(heads * per_head, tasks, index).start;
        let (head, mut rest) = (target / per_head, target % per_head);
        let mut tile = 0;
        while tile < tiles && rest >= cost(tile) {
            rest -= cost(tile);
            tile += 1;
        }
        head * tiles + tile
    };
    let end = if index + 1 == tasks { heads * tiles } else { boundary(index + 1) };
    boundary(index)..end
}

/// Some tiles of rows.
struct Forward<'a> {
    shape: &'a Attention,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    segments: Option<Segments<'a>>,
    dropout: Option<Dropout<'a>>,
    o: &'a DisjointMut<'a, f32>,
    items: Range<usize>,
    scratch: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(mut self) {
        let shape = self.shape;
        let scratch = core::mem::take(&mut self.scratch);
        let tiles = tile_count(shape);
        let (keys, rest) = scratch.split_at_mut(packed_keys_len(shape));
        let (values, rest) = rest.split_at_mut(packed_rows_len(shape));
        let (queries, rest) = rest.split_at_mut(packed_queries_len(shape));
        let (scores, kept) = rest.split_at_mut(scores_len(shape));
        let mut packed = usize::MAX;
        for item in self.items.clone() {
            let (head, index) = (item / tiles, item % tiles);
            let (batch, head) = (head / shape.n_heads, head % shape.n_heads);
            let kv_head = head / shape.group();
            let kv_start = shape.kv_start(batch, kv_head);
            if packed != kv_start {
                // SAFETY: the head is inside of k and v, whose lengths were
                // checked, and the buffers have the lengths for it.
                unsafe {
                    pack_keys::<V>(shape, self.k.as_ptr().wrapping_add(kv_start), keys);
                    pack_rows::<V>(
                        self.v.as_ptr().wrapping_add(kv_start),
                        shape.kv_stride(),
                        shape.kv_len,
                        shape,
                        values,
                    );
                }
                packed = kv_start;
            }
            let tile = RowTile::of_batch(shape, self.segments, batch, index);
            let start = shape.q_start(batch, head) + tile.rows.start * shape.q_stride();
            let mut softmax = TileSoftmax::<V>::new(shape, self.segments, batch, &tile);
            // SAFETY: the rows are inside of q; the scores have room for the keys.
            unsafe {
                pack_queries::<V>(
                    shape,
                    self.q.as_ptr().wrapping_add(start),
                    tile.rows.len(),
                    queries,
                );
                let softmax = Some(&mut softmax);
                dot_keys::<V>(shape, keys, queries, &tile, softmax, scores);
            }
            // SAFETY: all scores of the tile are there.
            unsafe { softmax.exponentials(scores.as_mut_ptr()) };
            if let Some(dropout) = &self.dropout {
                fill_kept(shape, dropout, batch, head, &tile, kept);
            }
            self.weigh::<V>(&tile, start, &softmax, values, scores, kept);
        }
    }
}

impl Forward<'_> {
    /// `o = p·v + 0` for a tile whose rows begin at `start`, chunk by chunk of keys.
    #[inline(always)]
    fn weigh<V: Simd>(
        &self,
        tile: &RowTile,
        start: usize,
        softmax: &TileSoftmax<'_, V>,
        values: &[f32],
        scores: &mut [f32],
        kept: &[f32],
    ) {
        let shape = self.shape;
        let padded = padded_dim(shape);
        let parts = tile.rows.len().div_ceil(V::TILE_ROWS);
        let first = tile.keys.start;
        let mut key = first;
        // At least one round, so that a tile that sees nothing becomes zeros.
        loop {
            let end = (key + chunk_len::<V>()).min(tile.keys.end);
            // SAFETY: the keys are in the tile.
            unsafe {
                softmax.probabilities(key..end, scores.as_mut_ptr());
                if let Some(dropout) = &self.dropout {
                    softmax.drop(key..end, kept.as_ptr(), dropout.scale(), scores.as_mut_ptr());
                }
            }
            for p in 0..parts {
                let rows = part(tile.rows.len(), parts, p);
                let keys_end = tile.keys_before(shape, tile.rows.start + rows.end).end;
                if key > first && key >= keys_end {
                    continue;
                }
                let job = Tile {
                    a: scores.as_ptr().wrapping_add((key - first) * ROWS + rows.start),
                    a_step: ROWS,
                    b: values.as_ptr().wrapping_add(key * padded),
                    b_step: padded,
                    k: end.min(keys_end) - key,
                    c: self.o.as_ptr().wrapping_add(start + rows.start * shape.q_stride()),
                    c_stride: shape.q_stride(),
                    columns: shape.head_dim,
                    accumulate: key > first,
                    bias: if keys_end <= end { ZEROS.as_ptr() } else { core::ptr::null() },
                    ..Tile::NEW
                };
                // SAFETY: scores and values are packed with these strides; the
                // rows of o belong to this task; no tile is wider than the zeros.
                unsafe { run_columns::<V>(job, rows.len()) };
            }
            key = end;
            if key == tile.keys.end {
                break;
            }
        }
    }
}
