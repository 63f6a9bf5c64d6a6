//! Rows of a table by id, and the gradient that adds rows back.

use core::ops::Range;

use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len, product, rows_of};
use crate::isa::{Kernel, dispatch};
use crate::parallel::Ctx;
use crate::simd::{LANES, Simd};
use crate::softmax::check_ids;

/// `y[token, ..] = w[ids[token], ..]`: w [V, width], ids \[tokens\], y [tokens,
/// width].
///
/// Errors: [`Error::Length`] or [`Error::Dimension`] if the shapes do not fit,
/// [`Error::Index`] for an id outside of 0..V.
pub fn embedding(
    ctx: &Ctx<'_>,
    w: &[f32],
    width: usize,
    ids: &[i32],
    y: &mut [f32],
) -> Result<(), Error> {
    let vocab = rows_of("w", w, width)?;
    check_len("y", y, product(&[ids.len(), width])?)?;
    check_ids("ids", ids, vocab)?;
    let y = DisjointMut::new(y);
    ctx.split(ids.len(), width, &|tokens| {
        // SAFETY: the tokens of tasks are disjoint.
        let y = unsafe { y.range(tokens.start * width..tokens.end * width) };
        for (&id, y) in ids[tokens].iter().zip(y.chunks_exact_mut(width)) {
            let row = id as usize * width;
            y.copy_from_slice(&w[row..row + width]);
        }
    });
    Ok(())
}

/// `acc[ids[token], ..] += dy[token, ..]`, tokens in order: acc [V, width], ids
/// \[tokens\], dy [tokens, width].
///
/// Threads split the columns, so every row meets its tokens in order.
///
/// Errors: as [`embedding`].
pub fn embedding_grad(
    ctx: &Ctx<'_>,
    acc: &mut [f32],
    width: usize,
    ids: &[i32],
    dy: &[f32],
) -> Result<(), Error> {
    let vocab = rows_of("acc", acc, width)?;
    check_len("dy", dy, product(&[ids.len(), width])?)?;
    check_ids("ids", ids, vocab)?;
    let acc = DisjointMut::new(acc);
    ctx.split(width.div_ceil(LANES), ids.len() * LANES, &|vectors| {
        dispatch(
            ctx.isa(),
            AddRows {
                acc: &acc,
                width,
                ids,
                dy,
                columns: vectors.start * LANES..(vectors.end * LANES).min(width),
            },
        );
    });
    Ok(())
}

/// Some columns of [`embedding_grad`].
struct AddRows<'a> {
    acc: &'a DisjointMut<'a, f32>,
    width: usize,
    ids: &'a [i32],
    dy: &'a [f32],
    columns: Range<usize>,
}

impl Kernel for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        for (&id, dy) in self.ids.iter().zip(self.dy.chunks_exact(self.width)) {
            let row = id as usize * self.width;
            // SAFETY: the columns of tasks are disjoint, and a task holds one row
            // at a time.
            let acc = unsafe { self.acc.range(row + self.columns.start..row + self.columns.end) };
            let dy = &dy[self.columns.clone()];
            let mut i = 0;
            while i < acc.len() {
                V::at(acc, i, 0.0).add(V::at(dy, i, 0.0)).put(acc, i);
                i += LANES;
            }
        }
    }
}
