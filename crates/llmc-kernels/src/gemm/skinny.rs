//! The matrix product for a few rows: decoding one token, or a handful.
//!
//! Each element of B is used a few times only, so nothing is packed: threads
//! take contiguous spans of columns and stream B once. Where the columns are rows
//! in memory (`x·Wᵀ`), 16×16 blocks are turned in registers; where they are not
//! (`dy·W`), wide stretches of a row meet their accumulators.

use core::ops::Range;

use super::Gemm;
use super::pack::{Block, transposed_block};
use crate::disjoint::DisjointMut;
use crate::isa::{Kernel, dispatch};
use crate::parallel::{Ctx, part};
use crate::simd::{LANES, Simd};

/// Rows up to which this is the faster way.
pub(super) const MAX_ROWS: usize = 8;
/// Multiplications below which one thread is faster than waking others.
const MIN_PARALLEL_WORK: usize = 1 << 16;
/// Columns that are computed at a time where B is row-major.
const WIDE: usize = 8 * LANES;

/// How many tasks share the columns.
pub(super) fn tasks(m: usize, n: usize, k: usize, threads: usize) -> usize {
    let work = m.saturating_mul(n).saturating_mul(k);
    if work < MIN_PARALLEL_WORK { 1 } else { threads.min(n.div_ceil(LANES)) }
}

/// Runs a checked problem with 1 ≤ m ≤ `MAX_ROWS` and n ≥ 1.
pub(super) fn run(ctx: &Ctx<'_>, problem: &Gemm<'_>, c: &mut [f32], c_stride: usize) {
    let n = problem.n;
    let groups = n.div_ceil(LANES);
    let tasks = tasks(problem.m, n, problem.k, ctx.threads());
    let c = DisjointMut::new(c);
    ctx.run(tasks, &|index| {
        let groups = part(groups, tasks, index);
        dispatch(
            ctx.isa(),
            Columns {
                problem,
                c: &c,
                c_stride,
                columns: groups.start * LANES..(groups.end * LANES).min(n),
            },
        );
    });
}

/// Computes all rows of some columns.
struct Columns<'a> {
    problem: &'a Gemm<'a>,
    c: &'a DisjointMut<'a, f32>,
    c_stride: usize,
    columns: Range<usize>,
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        if self.problem.b.row_stride == 1 {
            // All rows at once: turning a block costs more than using it.
            match self.problem.m {
                1 => self.turned::<V, 1>(),
                2 => self.turned::<V, 2>(),
                3 => self.turned::<V, 3>(),
                4 => self.turned::<V, 4>(),
                5 => self.turned::<V, 5>(),
                6 => self.turned::<V, 6>(),
                7 => self.turned::<V, 7>(),
                _ => self.turned::<V, MAX_ROWS>(),
            }
        } else {
            let mut row = 0;
            while row + 2 <= self.problem.m {
                self.streamed::<V, 2>(row);
                row += 2;
            }
            if row < self.problem.m {
                self.streamed::<V, 1>(row);
            }
        }
    }
}

impl Columns<'_> {
    /// `R` rows from the first on, where B has adjacent k.
    #[inline(always)]
    fn turned<V: Simd, const R: usize>(&self) {
        let &Gemm { k, a, b, .. } = self.problem;
        let mut column = self.columns.start;
        while column < self.columns.end {
            let count = (self.columns.end - column).min(LANES);
            let mut sums = [V::splat(0.0); R];
            self.start(0, column, count, &mut sums);
            let mut start = 0;
            while start < k {
                let k_count = (k - start).min(LANES);
                let block = Block {
                    start: b.data.as_ptr().wrapping_add(column * b.col_stride + start),
                    i_stride: b.col_stride,
                    k_stride: 1,
                };
                // SAFETY: rows, columns and k are inside of the operands, whose
                // reach was checked.
                unsafe {
                    // The rows of A from `start` on, adjacent.
                    let mut copied = [[0.0; LANES]; R];
                    let mut factors = [core::ptr::null(); R];
                    for (r, (factors, copied)) in factors.iter_mut().zip(&mut copied).enumerate() {
                        let from = a.data.as_ptr().add(r * a.row_stride + start * a.col_stride);
                        *factors = from;
                        if a.col_stride != 1 {
                            for (kk, value) in copied.iter_mut().enumerate().take(k_count) {
                                *value = *from.add(kk * a.col_stride);
                            }
                            *factors = copied.as_ptr();
                        }
                    }
                    if count == LANES && k_count == LANES {
                        let turned = transposed_block::<V>(block, LANES, LANES);
                        let mut kk = 0;
                        while kk < LANES {
                            for r in 0..R {
                                sums[r] = V::splat(*factors[r].add(kk)).fma(turned[kk], sums[r]);
                            }
                            kk += 1;
                        }
                    } else {
                        let turned = transposed_block::<V>(block, count, k_count);
                        for (kk, &columns) in turned.iter().enumerate().take(k_count) {
                            for r in 0..R {
                                sums[r] = V::splat(*factors[r].add(kk)).fma(columns, sums[r]);
                            }
                        }
                    }
                }
                start += LANES;
            }
            self.finish(0, column, count, &sums);
            column += LANES;
        }
    }

    /// `R` rows from `row` on, where B has adjacent columns, or none adjacent.
    #[inline(always)]
    fn streamed<V: Simd, const R: usize>(&self, row: usize) {
        let &Gemm { k, a, b, .. } = self.problem;
        let mut column = self.columns.start;
        while column < self.columns.end {
            let count = (self.columns.end - column).min(WIDE);
            let mut sums = [[V::splat(0.0); R]; WIDE / LANES];
            for (v, sums) in sums.iter_mut().enumerate() {
                let count = count.saturating_sub(v * LANES).min(LANES);
                self.start(row, column + v * LANES, count, sums);
            }
            for k in 0..k {
                // SAFETY: as in `turned`.
                unsafe {
                    let mut factors = [V::splat(0.0); R];
                    for (r, factor) in factors.iter_mut().enumerate() {
                        let at = (row + r) * a.row_stride + k * a.col_stride;
                        *factor = V::splat(*a.data.as_ptr().add(at));
                    }
                    let from =
                        b.data.as_ptr().wrapping_add(k * b.row_stride + column * b.col_stride);
                    for (v, sums) in sums.iter_mut().enumerate() {
                        let from = from.wrapping_add(v * LANES * b.col_stride);
                        let columns = if b.col_stride == 1 && count == WIDE {
                            V::load(from)
                        } else {
                            let count = count.saturating_sub(v * LANES).min(LANES);
                            load_strided::<V>(from, b.col_stride, count)
                        };
                        for r in 0..R {
                            sums[r] = factors[r].fma(columns, sums[r]);
                        }
                    }
                }
            }
            for (v, sums) in sums.iter().enumerate() {
                let count = count.saturating_sub(v * LANES).min(LANES);
                self.finish(row, column + v * LANES, count, sums);
            }
            column += WIDE;
        }
    }

    /// Loads `count` columns of rows of C if the chains start from it.
    #[inline(always)]
    fn start<V: Simd, const R: usize>(
        &self,
        row: usize,
        column: usize,
        count: usize,
        sums: &mut [V; R],
    ) {
        if self.problem.accumulate {
            for (r, sum) in sums.iter_mut().enumerate() {
                let c = self.c.as_ptr().wrapping_add((row + r) * self.c_stride + column);
                // SAFETY: `count` columns of the row are inside of C and belong to
                // this task.
                *sum = unsafe { V::load_first(c, count, 0.0) };
            }
        }
    }

    /// Adds bias and residual and writes `count` columns of rows of C.
    #[inline(always)]
    fn finish<V: Simd, const R: usize>(
        &self,
        row: usize,
        column: usize,
        count: usize,
        sums: &[V; R],
    ) {
        for (r, &sum) in sums.iter().enumerate() {
            let mut sum = sum;
            if let Some(bias) = self.problem.bias {
                sum = sum.add(V::at(bias, column, 0.0));
            }
            if let Some((residual, stride)) = self.problem.residual {
                let from = residual.as_ptr().wrapping_add((row + r) * stride + column);
                // SAFETY: the reach of the residual was checked.
                sum = sum.add(unsafe { V::load_first(from, count, 0.0) });
            }
            let c = self.c.as_ptr().wrapping_add((row + r) * self.c_stride + column);
            // SAFETY: as in `start`.
            unsafe { sum.store_first(c, count) };
        }
    }
}

/// `count` elements, `stride` apart, zeros in the other lanes.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn load_strided<V: Simd>(from: *const f32, stride: usize, count: usize) -> V {
    if stride == 1 {
        // SAFETY: the caller's.
        return unsafe { V::load_first(from, count, 0.0) };
    }
    let mut values = [0.0; LANES];
    for (i, value) in values.iter_mut().enumerate().take(count) {
        // SAFETY: the caller's.
        *value = unsafe { *from.add(i * stride) };
    }
    V::from_array(&values)
}
