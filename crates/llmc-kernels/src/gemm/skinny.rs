//! The matrix product for a few rows: decoding one token, or a handful.
//!
//! Each element of B is used a few times only, so nothing is packed: threads
//! take contiguous spans of columns and stream B once, 16 columns at a time. Where
//! the columns are rows in memory (`x·Wᵀ`), 16×16 blocks are turned in registers.

use core::ops::Range;

use super::Gemm;
use super::pack::{Block, transposed_block};
use crate::disjoint::DisjointMut;
use crate::isa::{Kernel, dispatch};
use crate::parallel::{Ctx, part};
use crate::simd::{LANES, Simd};

/// Rows up to which this is the faster way.
pub(super) const MAX_ROWS: usize = 16;
/// Rows that are computed at a time, in registers.
const ROWS: usize = 4;
/// Multiplications below which one thread is faster than waking others.
const MIN_PARALLEL_WORK: usize = 1 << 16;

/// Runs a checked problem with 1 ≤ m ≤ `MAX_ROWS` and n ≥ 1.
pub(super) fn run(ctx: &Ctx<'_>, problem: &Gemm<'_>, c: &mut [f32], c_stride: usize) {
    let groups = problem.n.div_ceil(LANES);
    let work = problem.m.saturating_mul(problem.n).saturating_mul(problem.k);
    let tasks = if work < MIN_PARALLEL_WORK { 1 } else { ctx.threads().min(groups) };
    let c = DisjointMut::new(c);
    ctx.run(tasks, &|index| {
        dispatch(
            ctx.isa(),
            Columns { problem, c: &c, c_stride, groups: part(groups, tasks, index) },
        );
    });
}

/// Computes all rows of some groups of 16 columns.
struct Columns<'a> {
    problem: &'a Gemm<'a>,
    c: &'a DisjointMut<'a, f32>,
    c_stride: usize,
    groups: Range<usize>,
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let m = self.problem.m;
        for group in self.groups.clone() {
            let mut row = 0;
            while row < m {
                match m - row {
                    1 => self.rows::<V, 1>(row, group),
                    2 => self.rows::<V, 2>(row, group),
                    3 => self.rows::<V, 3>(row, group),
                    _ => self.rows::<V, ROWS>(row, group),
                }
                row += ROWS;
            }
        }
    }
}

impl Columns<'_> {
    /// `R` rows from `row` on, of one group of columns.
    #[inline(always)]
    fn rows<V: Simd, const R: usize>(&self, row: usize, group: usize) {
        let &Gemm { n, k, a, b, .. } = self.problem;
        let column = group * LANES;
        let count = (n - column).min(LANES);
        // SAFETY: rows, columns and k are inside of the operands, whose reach
        // was checked; the columns of C belong to this task.
        unsafe {
            let c = self.c.as_ptr().add(row * self.c_stride + column);
            let a_start = a.data.as_ptr().wrapping_add(row * a.row_stride);
            let block = Block {
                start: b.data.as_ptr().wrapping_add(column * b.col_stride),
                i_stride: b.col_stride,
                k_stride: b.row_stride,
            };
            let mut sums = [V::splat(0.0); R];
            if self.problem.accumulate {
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = V::load_first(c.add(r * self.c_stride), count, 0.0);
                }
            }
            if b.row_stride == 1 {
                let mut start = 0;
                while start < k {
                    let k_count = (k - start).min(LANES);
                    let turned = transposed_block::<V>(block.at(0, start), count, k_count);
                    let mut kk = 0;
                    while kk < k_count {
                        for (r, sum) in sums.iter_mut().enumerate() {
                            let factor =
                                *a_start.add(r * a.row_stride + (start + kk) * a.col_stride);
                            *sum = V::splat(factor).fma(turned[kk], *sum);
                        }
                        kk += 1;
                    }
                    start += LANES;
                }
            } else {
                for k in 0..k {
                    let from = block.at(0, k).start;
                    let columns = if b.col_stride == 1 {
                        V::load_first(from, count, 0.0)
                    } else {
                        let mut values = [0.0; LANES];
                        for (i, value) in values.iter_mut().enumerate().take(count) {
                            *value = *from.add(i * b.col_stride);
                        }
                        V::from_array(&values)
                    };
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let factor = *a_start.add(r * a.row_stride + k * a.col_stride);
                        *sum = V::splat(factor).fma(columns, *sum);
                    }
                }
            }
            for (r, sum) in sums.iter_mut().enumerate() {
                if let Some(bias) = self.problem.bias {
                    *sum = sum.add(V::at(bias, column, 0.0));
                }
                if let Some((residual, stride)) = self.problem.residual {
                    let from = residual.as_ptr().add((row + r) * stride + column);
                    *sum = sum.add(V::load_first(from, count, 0.0));
                }
                sum.store_first(c.add(r * self.c_stride), count);
            }
        }
    }
}
