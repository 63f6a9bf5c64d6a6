//! Attention over a cache that may be narrower than f32.

use core::ops::Range;

use super::Attention;
use super::cells::{Bytes, Cells, Elements, Halves};
use super::decode::{self, Decode};
use super::forward::{MIN_PARALLEL_WORK, attention, attention_scratch_len};
use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len, product};
use crate::isa::{Kernel, dispatch};
use crate::parallel::{Ctx, part};
use crate::simd::{LANES, Simd};

/// Elements of scratch that [`cached_attention`] needs with this many threads, over f32 or a narrower cache.
pub fn cached_attention_scratch_len(shape: &Attention, is_narrow: bool, threads: usize) -> usize {
    let wide = if is_narrow && shape.q_len > decode::MAX_ROWS { 2 * widened_len(shape) } else { 0 };
    wide + attention_scratch_len(shape, false, threads)
}

/// Elements of the keys that are used.
fn widened_len(shape: &Attention) -> usize {
    shape.batch * shape.kv_len * shape.kv_stride()
}

/// [`attention`] with the elements of k and v as f32: bf16 exactly, 8 bits times the scale of their row with one
/// rounding. Without segments and dropout.
///
/// A few query rows read the cache as it is; for more of them k and v are widened once.
/// scratch: [`cached_attention_scratch_len`] elements.
///
/// Errors: as [`attention`]; [`Error::Dimension`] if k and v have different formats.
pub fn cached_attention(
    ctx: &Ctx<'_>,
    shape: &Attention,
    q: &[f32],
    k: Cells<'_>,
    v: Cells<'_>,
    o: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Error> {
    shape.check(None)?;
    check_len("q", q, shape.q_elements()?)?;
    k.check("k", shape)?;
    v.check("v", shape)?;
    check_len("o", o, shape.q_elements()?)?;
    match (k, v) {
        (Cells::F32(k), Cells::F32(v)) => attention(ctx, shape, q, k, v, None, None, o, scratch),
        (Cells::Bf16(k), Cells::Bf16(v)) => narrow(ctx, shape, q, Halves(k), Halves(v), o, scratch),
        (Cells::I8 { q: k, scale: k_scale }, Cells::I8 { q: v, scale: v_scale }) => {
            let (k, v) = (Bytes { q: k, scale: k_scale }, Bytes { q: v, scale: v_scale });
            narrow(ctx, shape, q, k, v, o, scratch)
        }
        _ => Err(Error::Dimension { what: "k and v have different formats" }),
    }
}

/// [`cached_attention`] over elements whose lengths have been checked.
fn narrow<C: Elements>(
    ctx: &Ctx<'_>,
    shape: &Attention,
    q: &[f32],
    k: C,
    v: C,
    o: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Error> {
    let expected = cached_attention_scratch_len(shape, true, ctx.threads());
    if scratch.len() < expected {
        return Err(Error::Scratch { expected, actual: scratch.len() });
    }
    if shape.q_len > decode::MAX_ROWS {
        let len = widened_len(shape);
        let (wide_k, rest) = scratch.split_at_mut(len);
        let (wide_v, rest) = rest.split_at_mut(len);
        widen(ctx, shape, k, wide_k);
        widen(ctx, shape, v, wide_v);
        let shape = Attention { kv_capacity: shape.kv_len, ..*shape };
        return attention(ctx, &shape, q, wide_k, wide_v, None, None, o, rest);
    }
    let items = decode::items(shape);
    let work = product(&[q.len(), shape.kv_len])?;
    let tasks = if work < MIN_PARALLEL_WORK { items.min(1) } else { ctx.threads().min(items) };
    let task_len = decode::task_scratch_len(shape);
    let (o, scratch) = (DisjointMut::new(o), DisjointMut::new(scratch));
    ctx.run(tasks, &|index| {
        // SAFETY: each task has a range of its own.
        let scratch = unsafe { scratch.range(index * task_len..(index + 1) * task_len) };
        let items = part(items, tasks, index);
        dispatch(ctx.isa(), Decode::new(shape, (q, k, v), None, &o, items, scratch));
    });
    Ok(())
}

/// The rows of the first `kv_len` positions of each batch as f32.
fn widen<C: Elements>(ctx: &Ctx<'_>, shape: &Attention, cells: C, to: &mut [f32]) {
    let dim = shape.head_dim;
    let to = DisjointMut::new(to);
    let rows = shape.batch * shape.kv_len * shape.n_kv_heads;
    ctx.split(rows, dim, &|rows: Range<usize>| {
        // SAFETY: the rows of tasks are disjoint.
        let to = unsafe { to.range(rows.start * dim..rows.end * dim) };
        dispatch(ctx.isa(), Widen { shape, cells, rows, to });
    });
}

/// Some rows.
struct Widen<'a, C> {
    shape: &'a Attention,
    cells: C,
    rows: Range<usize>,
    to: &'a mut [f32],
}

impl<C: Elements> Kernel for Widen<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let shape = self.shape;
        let (dim, used) = (shape.head_dim, shape.kv_len * shape.n_kv_heads);
        for (row, to) in self.rows.zip(self.to.chunks_exact_mut(dim)) {
            // The same row where each batch has room for `kv_capacity` positions.
            let row = row / used * shape.kv_capacity * shape.n_kv_heads + row % used;
            let mut i = 0;
            while i < dim {
                // SAFETY: the row is one of the cache, whose lengths were checked.
                let x: V = unsafe { self.cells.load(row * dim + i, row, (dim - i).min(LANES)) };
                x.put(to, i);
                i += LANES;
            }
        }
    }
}
