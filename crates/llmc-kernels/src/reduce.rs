//! Sums: along rows in lanes, along columns and over everything as chains, and
//! the sum of squares of the gradient norm.

use core::ops::Range;

use llmc_base::math::{SUM_SQUARES_CHUNK, sum_tree_f64};

use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len, rows_of};
use crate::isa::{Kernel, dispatch};
use crate::parallel::{Ctx, part};
use crate::simd::{LANES, Simd};

/// `y[row] = sum(x[row, ..])` with `order = lanes`: x [rows, width], y \[rows\].
///
/// Errors: [`Error::Length`] or [`Error::Dimension`] if the shapes do not fit.
pub fn sum_rows(ctx: &Ctx<'_>, x: &[f32], width: usize, y: &mut [f32]) -> Result<(), Error> {
    let rows = rows_of("x", x, width)?;
    check_len("y", y, rows)?;
    let y = DisjointMut::new(y);
    ctx.split(rows, width, &|rows| {
        dispatch(
            ctx.isa(),
            SumRows {
                x: &x[rows.start * width..rows.end * width],
                width,
                // SAFETY: the rows of tasks are disjoint.
                y: unsafe { y.range(rows) },
            },
        );
    });
    Ok(())
}

/// Some rows of [`sum_rows`].
struct SumRows<'a> {
    x: &'a [f32],
    width: usize,
    y: &'a mut [f32],
}

impl Kernel for SumRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        for (x, y) in self.x.chunks_exact(self.width).zip(self.y) {
            let mut sum = V::splat(0.0);
            let mut i = 0;
            while i < self.width {
                sum = sum.add(V::at(x, i, 0.0));
                i += LANES;
            }
            *y = sum.sum();
        }
    }
}

/// `acc + x[0] + x[1] + …`, one chain in order: the loss over tokens.
pub fn sum_chain(acc: f32, x: &[f32]) -> f32 {
    let _default = crate::float_env::DefaultFloats::enter();
    x.iter().fold(acc, |acc, &x| acc + x)
}

/// `acc[e] += dy[row, e]` for each row in order: acc \[E\], dy [rows, E].
///
/// Errors: [`Error::Length`] or [`Error::Dimension`] if the shapes do not fit.
pub fn bias_grad(ctx: &Ctx<'_>, acc: &mut [f32], dy: &[f32]) -> Result<(), Error> {
    let width = acc.len();
    let rows = rows_of("dy", dy, width)?;
    let acc = DisjointMut::new(acc);
    ctx.split(width.div_ceil(LANES), rows * LANES, &|vectors| {
        let columns = vectors.start * LANES..(vectors.end * LANES).min(width);
        dispatch(
            ctx.isa(),
            SumColumns {
                dy,
                width,
                columns: columns.clone(),
                // SAFETY: the columns of tasks are disjoint.
                acc: unsafe { acc.range(columns) },
            },
        );
    });
    Ok(())
}

/// Some columns of [`bias_grad`].
struct SumColumns<'a> {
    dy: &'a [f32],
    width: usize,
    columns: Range<usize>,
    acc: &'a mut [f32],
}

impl Kernel for SumColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let mut done = 0;
        while done < self.acc.len() {
            let columns = (self.acc.len() - done).min(COLUMN_GROUP * LANES);
            let start = self.columns.start + done;
            let acc = &mut self.acc[done..done + columns];
            let mut chains = [V::splat(0.0); COLUMN_GROUP];
            for (v, chain) in chains.iter_mut().enumerate() {
                *chain = V::at(acc, v * LANES, 0.0);
            }
            for dy in self.dy.chunks_exact(self.width) {
                let dy = &dy[start..start + columns];
                for (v, chain) in chains.iter_mut().enumerate() {
                    *chain = chain.add(V::at(dy, v * LANES, 0.0));
                }
            }
            for (v, chain) in chains.iter().enumerate() {
                chain.put(acc, v * LANES);
            }
            done += columns;
        }
    }
}

/// Vectors of columns whose chains run side by side.
const COLUMN_GROUP: usize = 8;

/// `acc + Σ x²` in f64: a chain over chunks of 4096 elements, each summed in 16
/// f64 lanes and the tree. Chaining it over the parameters in path order gives
/// the square of the gradient norm.
pub fn sum_squares(ctx: &Ctx<'_>, acc: f64, x: &[f32]) -> f64 {
    let mut total = acc;
    // The chunk sums of a batch are computed in parallel, and chained here.
    let mut sums = [0.0f64; SQUARES_BATCH];
    for batch in x.chunks(SQUARES_BATCH * SUM_SQUARES_CHUNK) {
        let chunks = batch.len().div_ceil(SUM_SQUARES_CHUNK);
        let shared = DisjointMut::new(&mut sums[..chunks]);
        let tasks = ctx.threads().min(chunks.div_ceil(4));
        ctx.run(tasks, &|index| {
            let range = part(chunks, tasks, index);
            let end = (range.end * SUM_SQUARES_CHUNK).min(batch.len());
            dispatch(
                ctx.isa(),
                SumSquares {
                    x: &batch[range.start * SUM_SQUARES_CHUNK..end],
                    // SAFETY: the chunks of tasks are disjoint.
                    sums: unsafe { shared.range(range) },
                },
            );
        });
        total = sums[..chunks].iter().fold(total, |total, sum| total + sum);
    }
    total
}

/// Chunks whose sums are held at a time.
const SQUARES_BATCH: usize = 512;

/// The sums of some chunks.
struct SumSquares<'a> {
    x: &'a [f32],
    sums: &'a mut [f64],
}

impl Kernel for SumSquares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        for (chunk, sum) in self.x.chunks(SUM_SQUARES_CHUNK).zip(self.sums) {
            let mut lanes = [0.0f64; LANES];
            let (blocks, rest) = chunk.as_chunks::<LANES>();
            for block in blocks {
                for (lane, &x) in lanes.iter_mut().zip(block) {
                    *lane += f64::from(x) * f64::from(x);
                }
            }
            for (lane, &x) in lanes.iter_mut().zip(rest) {
                *lane += f64::from(x) * f64::from(x);
            }
            *sum = sum_tree_f64(lanes);
        }
    }
}
