//! Attention, backward: the probabilities are computed again.

use core::ops::Range;

use super::score::{
    ROWS, RowTile, ZEROS, chunk_len, dot_keys, fill_kept, pack_keys, pack_queries, pack_rows,
    packed_keys_len, packed_queries_len, packed_rows_len, padded_dim, run_columns, scores_len,
    tile_count,
};
use super::softmax::TileSoftmax;
use super::{Attention, Segments};
use crate::disjoint::DisjointMut;
use crate::dropout::Dropout;
use crate::error::{Error, check_len};
use crate::gemm::tile::{Rows, Tile};
use crate::isa::{Kernel, dispatch};
use crate::parallel::{Ctx, part};
use crate::simd::Simd;

/// Elements of scratch that [`attention_backward`] needs with this many threads.
pub fn attention_backward_scratch_len(
    shape: &Attention,
    is_dropped: bool,
    threads: usize,
) -> usize {
    threads.max(1) * task_scratch_len(shape, is_dropped)
}

fn task_scratch_len(shape: &Attention, is_dropped: bool) -> usize {
    2 * packed_keys_len(shape)
        + packed_rows_len(shape)
        + 2 * packed_queries_len(shape)
        + 2 * ROWS * padded_dim(shape)
        + scores_len(shape) * if is_dropped { 3 } else { 2 }
}

/// The gradients of [`attention`](super::attention): `dp = do·v over D`, after the dropout of the
/// forward pass if there is one; `d = sum(p·dp) over S; ds = (p·(dp − d))·scale; dq = ds·k over S;
/// dk = ds·q and dv = p·do over (group, T)`, p in dv after dropout, group outer, T inner; each `+ 0`, so
/// that zeros are +0.
///
/// dout and dq: like q; dk and dv: like k, rows past S become zeros. They are
/// written, not added to. scratch: [`attention_backward_scratch_len`] elements.
///
/// Errors: [`Error::Length`], [`Error::Dimension`], [`Error::Scratch`].
pub fn attention_backward(
    ctx: &Ctx<'_>,
    shape: &Attention,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    dout: &[f32],
    segments: Option<Segments<'_>>,
    dropout: Option<Dropout<'_>>,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Error> {
    shape.check(segments)?;
    shape.check_dropout(dropout)?;
    let (q_elements, kv_elements) = (shape.q_elements()?, shape.kv_elements()?);
    check_len("q", q, q_elements)?;
    check_len("k", k, kv_elements)?;
    check_len("v", v, kv_elements)?;
    check_len("dout", dout, q_elements)?;
    check_len("dq", dq, q_elements)?;
    check_len("dk", dk, kv_elements)?;
    check_len("dv", dv, kv_elements)?;
    let task_len = task_scratch_len(shape, dropout.is_some());
    let expected = attention_backward_scratch_len(shape, dropout.is_some(), ctx.threads());
    if scratch.len() < expected {
        return Err(Error::Scratch { expected, actual: scratch.len() });
    }
    let kv_heads = shape.batch * shape.n_kv_heads;
    let tasks = ctx.threads().min(kv_heads);
    let (dq, dk, dv) = (DisjointMut::new(dq), DisjointMut::new(dk), DisjointMut::new(dv));
    let scratch = DisjointMut::new(scratch);
    ctx.run(tasks, &|index| {
        dispatch(
            ctx.isa(),
            Backward {
                shape,
                q,
                k,
                v,
                dout,
                segments,
                dropout,
                dq: &dq,
                dk: &dk,
                dv: &dv,
                kv_heads: part(kv_heads, tasks, index),
                // SAFETY: each task has a range of its own.
                scratch: unsafe { scratch.range(index * task_len..(index + 1) * task_len) },
            },
        );
    });
    Ok(())
}

/// Some key-value heads, with all query heads that read them.
struct Backward<'a> {
    shape: &'a Attention,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    dout: &'a [f32],
    segments: Option<Segments<'a>>,
    dropout: Option<Dropout<'a>>,
    dq: &'a DisjointMut<'a, f32>,
    dk: &'a DisjointMut<'a, f32>,
    dv: &'a DisjointMut<'a, f32>,
    kv_heads: Range<usize>,
    scratch: &'a mut [f32],
}

/// The parts of one task's scratch.
struct Buffers<'a> {
    /// Keys and values as left operands.
    keys: &'a mut [f32],
    values: &'a mut [f32],
    /// Keys as right operand.
    key_rows: &'a mut [f32],
    /// A tile of q and of dout, as right operand of the scores.
    queries: &'a mut [f32],
    douts: &'a mut [f32],
    /// The same tile as right operand of dk and dv.
    query_rows: &'a mut [f32],
    dout_rows: &'a mut [f32],
    /// p and dp, then ds, transposed.
    scores: &'a mut [f32],
    slopes: &'a mut [f32],
    /// What dropout keeps; empty without.
    kept: &'a mut [f32],
}

impl<'a> Buffers<'a> {
    fn new(shape: &Attention, scratch: &'a mut [f32]) -> Self {
        let (keys, rest) = scratch.split_at_mut(packed_keys_len(shape));
        let (values, rest) = rest.split_at_mut(packed_keys_len(shape));
        let (key_rows, rest) = rest.split_at_mut(packed_rows_len(shape));
        let (queries, rest) = rest.split_at_mut(packed_queries_len(shape));
        let (douts, rest) = rest.split_at_mut(packed_queries_len(shape));
        let (query_rows, rest) = rest.split_at_mut(ROWS * padded_dim(shape));
        let (dout_rows, rest) = rest.split_at_mut(ROWS * padded_dim(shape));
        let (scores, rest) = rest.split_at_mut(scores_len(shape));
        let (slopes, kept) = rest.split_at_mut(scores_len(shape));
        Self { keys, values, key_rows, queries, douts, query_rows, dout_rows, scores, slopes, kept }
    }
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(mut self) {
        let shape = self.shape;
        let scratch = core::mem::take(&mut self.scratch);
        let mut buffers = Buffers::new(shape, scratch);
        for item in self.kv_heads.clone() {
            let (batch, kv_head) = (item / shape.n_kv_heads, item % shape.n_kv_heads);
            let kv_start = shape.kv_start(batch, kv_head);
            // SAFETY: the head is inside of k and v, whose lengths were checked,
            // and the buffers have the lengths for it.
            unsafe {
                pack_keys::<V>(shape, self.k.as_ptr().wrapping_add(kv_start), buffers.keys);
                pack_keys::<V>(shape, self.v.as_ptr().wrapping_add(kv_start), buffers.values);
                pack_rows::<V>(
                    self.k.as_ptr().wrapping_add(kv_start),
                    shape.kv_stride(),
                    shape.kv_len,
                    shape,
                    buffers.key_rows,
                );
            }
            for position in 0..shape.kv_capacity {
                let (dk, dv) = self.gradient_rows(kv_start, position);
                dk.fill(0.0);
                dv.fill(0.0);
            }
            for group in 0..shape.group() {
                let head = kv_head * shape.group() + group;
                for index in 0..tile_count(shape) {
                    let tile = RowTile::of_batch(shape, self.segments, batch, index);
                    self.tile::<V>(batch, head, kv_start, &tile, &mut buffers);
                }
            }
            for position in 0..shape.kv_len {
                let (dk, dv) = self.gradient_rows(kv_start, position);
                for gradient in dk.iter_mut().chain(dv) {
                    *gradient += 0.0;
                }
            }
        }
    }
}

impl<'a> Backward<'a> {
    /// The rows of dk and dv of a position of a key-value head.
    fn gradient_rows(&self, kv_start: usize, position: usize) -> (&'a mut [f32], &'a mut [f32]) {
        let start = kv_start + position * self.shape.kv_stride();
        let range = start..start + self.shape.head_dim;
        // SAFETY: the key-value heads of tasks are disjoint, and a task holds one
        // pair of rows at a time.
        unsafe { (self.dk.range(range.clone()), self.dv.range(range)) }
    }

    /// One tile of rows of a query head.
    #[inline(always)]
    fn tile<V: Simd>(
        &self,
        batch: usize,
        head: usize,
        kv_start: usize,
        tile: &RowTile,
        buffers: &mut Buffers<'_>,
    ) {
        let shape = self.shape;
        let rows = tile.rows.len();
        let start = shape.q_start(batch, head) + tile.rows.start * shape.q_stride();
        let q = self.q.as_ptr().wrapping_add(start);
        let dout = self.dout.as_ptr().wrapping_add(start);
        let mut softmax = TileSoftmax::<V>::new(shape, self.segments, batch, tile);
        // SAFETY: the rows are inside of q and dout, whose lengths were checked,
        // and the buffers have the lengths for them and for the keys.
        unsafe {
            pack_queries::<V>(shape, q, rows, buffers.queries);
            pack_queries::<V>(shape, dout, rows, buffers.douts);
            pack_rows::<V>(q, shape.q_stride(), rows, shape, buffers.query_rows);
            pack_rows::<V>(dout, shape.q_stride(), rows, shape, buffers.dout_rows);
            let keys = Some(&mut softmax);
            dot_keys::<V>(shape, buffers.keys, buffers.queries, tile, keys, buffers.scores);
            softmax.exponentials(buffers.scores.as_mut_ptr());
            dot_keys::<V>(shape, buffers.values, buffers.douts, tile, None, buffers.slopes);
            if let Some(dropout) = &self.dropout {
                fill_kept(shape, dropout, batch, head, tile, buffers.kept);
                let (kept, slopes) = (buffers.kept.as_ptr(), buffers.slopes.as_mut_ptr());
                softmax.drop(tile.keys.clone(), kept, dropout.scale(), slopes);
            }
            softmax.weighted_sums(buffers.scores.as_mut_ptr(), buffers.slopes.as_ptr());
        }

        let first = tile.keys.start;
        let mut key = first;
        // At least one round, so that a tile that sees nothing becomes zeros.
        loop {
            let end = (key + chunk_len::<V>()).min(tile.keys.end);
            let (scores, slopes) = (buffers.scores.as_mut_ptr(), buffers.slopes.as_mut_ptr());
            // SAFETY: the keys are in the tile.
            unsafe {
                softmax.slopes(key..end, scores, slopes);
                if let Some(dropout) = &self.dropout {
                    softmax.drop(key..end, buffers.kept.as_ptr(), dropout.scale(), scores);
                }
            }
            self.query_gradient::<V>(start, tile, key..end, buffers);
            self.key_gradients::<V>(kv_start, tile, key..end, buffers);
            key = end;
            if key == tile.keys.end {
                break;
            }
        }
    }

    /// `dq += ds·k` over some keys, `+ 0` with the last.
    #[inline(always)]
    fn query_gradient<V: Simd>(
        &self,
        start: usize,
        tile: &RowTile,
        keys: Range<usize>,
        buffers: &Buffers<'_>,
    ) {
        let shape = self.shape;
        let padded = padded_dim(shape);
        let first = tile.keys.start;
        let parts = tile.rows.len().div_ceil(V::TILE_ROWS);
        for p in 0..parts {
            let rows = part(tile.rows.len(), parts, p);
            let keys_end = tile.keys_before(shape, tile.rows.start + rows.end).end;
            if keys.start > first && keys.start >= keys_end {
                continue;
            }
            let job = Tile {
                a: buffers.slopes.as_ptr().wrapping_add((keys.start - first) * ROWS + rows.start),
                a_step: ROWS,
                b: buffers.key_rows.as_ptr().wrapping_add(keys.start * padded),
                b_step: padded,
                k: keys.end.min(keys_end) - keys.start,
                c: self.dq.as_ptr().wrapping_add(start + rows.start * shape.q_stride()),
                c_stride: shape.q_stride(),
                columns: shape.head_dim,
                accumulate: keys.start > first,
                bias: if keys_end <= keys.end { ZEROS.as_ptr() } else { core::ptr::null() },
                ..Tile::NEW
            };
            // SAFETY: the operands are packed with these strides; the rows of dq
            // belong to this task; no tile is wider than the zeros.
            unsafe { run_columns::<V>(job, rows.len()) };
        }
    }

    /// `dk += ds·q` and `dv += p·do` for some keys, over the rows of the tile.
    #[inline(always)]
    fn key_gradients<V: Simd>(
        &self,
        kv_start: usize,
        tile: &RowTile,
        keys: Range<usize>,
        buffers: &Buffers<'_>,
    ) {
        let shape = self.shape;
        let padded = padded_dim(shape);
        for key in keys.clone().step_by(V::TILE_ROWS) {
            let height = (keys.end - key).min(V::TILE_ROWS);
            // Rows before do not see the panel: zeros.
            let rows = tile.rows_from(shape, key);
            for (source, b, c) in [
                (&*buffers.slopes, &*buffers.query_rows, self.dk),
                (&*buffers.scores, &*buffers.dout_rows, self.dv),
            ] {
                let job = Tile {
                    a: source.as_ptr().wrapping_add((key - tile.keys.start) * ROWS + rows.start),
                    a_rows: Rows::Apart,
                    a_step: 1,
                    b: b.as_ptr().wrapping_add(rows.start * padded),
                    b_step: padded,
                    k: rows.len(),
                    c: c.as_ptr().wrapping_add(kv_start + key * shape.kv_stride()),
                    c_stride: shape.kv_stride(),
                    columns: shape.head_dim,
                    accumulate: true,
                    ..Tile::NEW
                };
                // SAFETY: as for dq; the rows of dk and dv belong to this task.
                unsafe { run_columns::<V>(job, height) };
            }
        }
    }
}
