//! RMS and layer normalisation of rows, forward and backward.
//!
//! Row sums run in 16 lanes and the fixed tree; the gradients of weight and bias
//! are one chain over the rows per column, so threads split columns there.
//! Sources: Zhang and Sennrich 2019, arXiv:1910.07467; Ba et al. 2016,
//! arXiv:1607.06450.

use core::ops::Range;

use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len, rows_of};
use crate::isa::{Kernel, dispatch};
use crate::parallel::Ctx;
use crate::simd::{LANES, Simd, generic, sums};

/// `y = (x·r)·w`, `r = rsqrt(sum(x·x)/E + eps)`: x, y [rows, E], w \[E\].
///
/// Errors: [`Error::Length`] or [`Error::Dimension`] if the shapes do not fit.
pub fn rms_norm(ctx: &Ctx<'_>, x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) -> Result<(), Error> {
    forward(ctx, Kind::Rms, x, w, None, eps, y)
}

/// `y = (c·r)·w (+ b)`, `c = x − sum(x)/E`, `r = rsqrt(sum(c·c)/E + eps)`: x, y
/// [rows, E], w, b \[E\].
///
/// Errors: [`Error::Length`] or [`Error::Dimension`] if the shapes do not fit.
pub fn layer_norm(
    ctx: &Ctx<'_>,
    x: &[f32],
    w: &[f32],
    b: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
) -> Result<(), Error> {
    forward(ctx, Kind::Layer, x, w, b, eps, y)
}

/// Elements of scratch for [`rms_norm_backward`] and [`layer_norm_backward`].
pub fn norm_scratch_len(rows: usize) -> usize {
    2 * rows
}

/// The gradients of [`rms_norm`]: `xh = x·r; g = dy·w; c = sum(g·xh)/E;
/// dx = r·(g − xh·c)`, and `dw[e] += dy·xh` as one chain over the rows.
///
/// x, dy, dx: [rows, E]; w, dw: \[E\]; scratch: [`norm_scratch_len`] elements.
///
/// Errors: [`Error::Length`], [`Error::Dimension`], [`Error::Scratch`].
pub fn rms_norm_backward(
    ctx: &Ctx<'_>,
    x: &[f32],
    w: &[f32],
    dy: &[f32],
    eps: f32,
    dx: &mut [f32],
    dw: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Error> {
    backward(ctx, Kind::Rms, x, w, dy, eps, dx, dw, scratch)
}

/// The gradients of [`layer_norm`]: `xh = c·r; g = dy·w; m1 = sum(g)/E;
/// m2 = sum(g·xh)/E; dx = r·((g − m1) − xh·m2)`, and `dw[e] += dy·xh` as one chain
/// over the rows. The gradient of b is [`bias_grad`](crate::bias_grad) of dy.
///
/// x, dy, dx: [rows, E]; w, dw: \[E\]; scratch: [`norm_scratch_len`] elements.
///
/// Errors: [`Error::Length`], [`Error::Dimension`], [`Error::Scratch`].
pub fn layer_norm_backward(
    ctx: &Ctx<'_>,
    x: &[f32],
    w: &[f32],
    dy: &[f32],
    eps: f32,
    dx: &mut [f32],
    dw: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Error> {
    backward(ctx, Kind::Layer, x, w, dy, eps, dx, dw, scratch)
}

/// Which of the two normalisations.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rms,
    Layer,
}

fn forward(
    ctx: &Ctx<'_>,
    kind: Kind,
    x: &[f32],
    w: &[f32],
    b: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
) -> Result<(), Error> {
    let width = w.len();
    let rows = rows_of("x", x, width)?;
    check_len("y", y, x.len())?;
    if let Some(b) = b {
        check_len("b", b, width)?;
    }
    let y = DisjointMut::new(y);
    ctx.split(rows, width, &|rows| {
        let range = rows.start * width..rows.end * width;
        dispatch(
            ctx.isa(),
            Forward {
                kind,
                x: &x[range.clone()],
                w,
                b,
                eps,
                // SAFETY: the rows of tasks are disjoint.
                y: unsafe { y.range(range) },
            },
        );
    });
    Ok(())
}

/// Some rows of the forward direction.
struct Forward<'a> {
    kind: Kind,
    x: &'a [f32],
    w: &'a [f32],
    b: Option<&'a [f32]>,
    eps: f32,
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let width = self.w.len();
        let blocks = self.x.chunks(LANES * width).zip(self.y.chunks_mut(LANES * width));
        for (x, y) in blocks {
            let (mean, r) = moments::<V>(self.kind, x, width, self.eps);
            let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
            for ((x, y), (&mean, &r)) in rows.zip(mean.iter().zip(&r)) {
                let (mean, r) = (V::splat(mean), V::splat(r));
                let mut i = 0;
                while i < width {
                    let x = centered(self.kind, V::at(x, i, 0.0), mean);
                    let mut value = x.mul(r).mul(V::at(self.w, i, 0.0));
                    if let Some(b) = self.b {
                        value = value.add(V::at(b, i, 0.0));
                    }
                    value.put(y, i);
                    i += LANES;
                }
            }
        }
    }
}

/// The means that are subtracted (0 for RMS) and the factors r of up to sixteen
/// rows, whose sums, roots and divisions are done side by side.
#[inline(always)]
fn moments<V: Simd>(
    kind: Kind,
    rows: &[f32],
    width: usize,
    eps: f32,
) -> ([f32; LANES], [f32; LANES]) {
    let count = V::splat(width as f32);
    let mut totals = [V::splat(0.0); LANES];
    let mean = match kind {
        Kind::Rms => [0.0; LANES],
        Kind::Layer => {
            for (x, total) in rows.chunks_exact(width).zip(&mut totals) {
                let mut sum = V::splat(0.0);
                let mut i = 0;
                while i < width {
                    sum = sum.add(V::at(x, i, 0.0));
                    i += LANES;
                }
                *total = sum;
            }
            sums(&totals).div(count).to_array()
        }
    };
    for ((x, &mean), total) in rows.chunks_exact(width).zip(&mean).zip(&mut totals) {
        let mut sum = V::splat(0.0);
        let mut i = 0;
        while i < width {
            // Past the end the mean stands in, so that the difference is +0.
            let c = centered(kind, V::at(x, i, mean), V::splat(mean));
            sum = sum.add(c.mul(c));
            i += LANES;
        }
        *total = sum;
    }
    let mean_square = sums(&totals).div(count);
    let r = generic::rsqrt(mean_square.add(V::splat(eps)));
    (mean, r.to_array())
}

/// `x − mean`, or x itself for RMS.
#[inline(always)]
fn centered<V: Simd>(kind: Kind, x: V, mean: V) -> V {
    match kind {
        Kind::Rms => x,
        Kind::Layer => x.sub(mean),
    }
}

fn backward(
    ctx: &Ctx<'_>,
    kind: Kind,
    x: &[f32],
    w: &[f32],
    dy: &[f32],
    eps: f32,
    dx: &mut [f32],
    dw: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Error> {
    let width = w.len();
    let rows = rows_of("x", x, width)?;
    check_len("dy", dy, x.len())?;
    check_len("dx", dx, x.len())?;
    check_len("dw", dw, width)?;
    let expected = norm_scratch_len(rows);
    let actual = scratch.len();
    let Some(moments) = scratch.get_mut(..expected) else {
        return Err(Error::Scratch { expected, actual });
    };

    let dx = DisjointMut::new(dx);
    let shared = DisjointMut::new(&mut *moments);
    ctx.split(rows, width, &|rows| {
        let range = rows.start * width..rows.end * width;
        dispatch(
            ctx.isa(),
            BackwardRows {
                kind,
                x: &x[range.clone()],
                w,
                dy: &dy[range.clone()],
                eps,
                // SAFETY: the rows of tasks are disjoint.
                dx: unsafe { dx.range(range) },
                // SAFETY: as above.
                moments: unsafe { shared.range(2 * rows.start..2 * rows.end) },
            },
        );
    });

    let moments = &*moments;
    let dw = DisjointMut::new(dw);
    ctx.split(width.div_ceil(LANES), rows * LANES, &|vectors| {
        let columns = vectors.start * LANES..(vectors.end * LANES).min(width);
        dispatch(
            ctx.isa(),
            BackwardColumns {
                kind,
                x,
                dy,
                width,
                moments,
                columns: columns.clone(),
                // SAFETY: the columns of tasks are disjoint.
                dw: unsafe { dw.range(columns) },
            },
        );
    });
    Ok(())
}

/// Some rows of dx, and the moments of these rows as (mean, r) pairs.
struct BackwardRows<'a> {
    kind: Kind,
    x: &'a [f32],
    w: &'a [f32],
    dy: &'a [f32],
    eps: f32,
    dx: &'a mut [f32],
    moments: &'a mut [f32],
}

impl Kernel for BackwardRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(mut self) {
        let block = LANES * self.w.len();
        let inputs = self.x.chunks(block).zip(self.dy.chunks(block));
        let dx = core::mem::take(&mut self.dx).chunks_mut(block);
        let pairs = core::mem::take(&mut self.moments).chunks_mut(2 * LANES);
        for ((x, dy), (dx, pairs)) in inputs.zip(dx.zip(pairs)) {
            self.rows::<V>(x, dy, dx, pairs);
        }
    }
}

impl BackwardRows<'_> {
    /// Up to sixteen rows.
    #[inline(always)]
    fn rows<V: Simd>(&self, x: &[f32], dy: &[f32], dx: &mut [f32], pairs: &mut [f32]) {
        let (kind, w) = (self.kind, self.w);
        let width = w.len();
        let (mean, r) = moments::<V>(kind, x, width, self.eps);
        for (pair, moments) in pairs.chunks_exact_mut(2).zip(mean.iter().zip(&r)) {
            pair[0] = *moments.0;
            pair[1] = *moments.1;
        }

        let mut totals = [[V::splat(0.0); LANES]; 2];
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
        for (row, (x, dy)) in rows.enumerate() {
            let fill = mean[row];
            let (mean, r) = (V::splat(mean[row]), V::splat(r[row]));
            let (mut sum_g, mut sum_g_xh) = (V::splat(0.0), V::splat(0.0));
            let mut i = 0;
            while i < width {
                // Past the end the mean stands in, as in `moments`.
                let xh = centered(kind, V::at(x, i, fill), mean).mul(r);
                let g = V::at(dy, i, 0.0).mul(V::at(w, i, 0.0));
                sum_g = sum_g.add(g);
                sum_g_xh = sum_g_xh.add(g.mul(xh));
                i += LANES;
            }
            totals[0][row] = sum_g;
            totals[1][row] = sum_g_xh;
        }
        let count = V::splat(width as f32);
        let m1 = sums(&totals[0]).div(count).to_array();
        let m2 = sums(&totals[1]).div(count).to_array();

        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
        for (row, ((x, dy), dx)) in rows.zip(dx.chunks_exact_mut(width)).enumerate() {
            let (mean, r) = (V::splat(mean[row]), V::splat(r[row]));
            let (m1, m2) = (V::splat(m1[row]), V::splat(m2[row]));
            let mut i = 0;
            while i < width {
                let xh = centered(kind, V::at(x, i, 0.0), mean).mul(r);
                let g = V::at(dy, i, 0.0).mul(V::at(w, i, 0.0));
                let g = match kind {
                    Kind::Rms => g,
                    Kind::Layer => g.sub(m1),
                };
                r.mul(g.sub(xh.mul(m2))).put(dx, i);
                i += LANES;
            }
        }
    }
}

/// Some columns of dw: one chain over all rows each.
struct BackwardColumns<'a> {
    kind: Kind,
    x: &'a [f32],
    dy: &'a [f32],
    width: usize,
    moments: &'a [f32],
    columns: Range<usize>,
    dw: &'a mut [f32],
}

impl Kernel for BackwardColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let mut done = 0;
        while done < self.dw.len() {
            // A few columns at a time keep their chains in registers while the
            // rows stream by.
            let columns = (self.dw.len() - done).min(COLUMN_GROUP * LANES);
            let start = self.columns.start + done;
            let dw = &mut self.dw[done..done + columns];
            let mut chains = [V::splat(0.0); COLUMN_GROUP];
            for (v, chain) in chains.iter_mut().enumerate() {
                *chain = V::at(dw, v * LANES, 0.0);
            }
            let rows = self
                .x
                .chunks_exact(self.width)
                .zip(self.dy.chunks_exact(self.width))
                .zip(self.moments.chunks_exact(2));
            for ((x, dy), pair) in rows {
                let (mean, r) = (V::splat(pair[0]), V::splat(pair[1]));
                let (x, dy) = (&x[start..start + columns], &dy[start..start + columns]);
                for (v, chain) in chains.iter_mut().enumerate() {
                    let xh = centered(self.kind, V::at(x, v * LANES, 0.0), mean).mul(r);
                    *chain = chain.add(V::at(dy, v * LANES, 0.0).mul(xh));
                }
            }
            for (v, chain) in chains.iter().enumerate() {
                chain.put(dw, v * LANES);
            }
            done += columns;
        }
    }
}

/// Vectors of columns whose chains run side by side.
const COLUMN_GROUP: usize = 8;
