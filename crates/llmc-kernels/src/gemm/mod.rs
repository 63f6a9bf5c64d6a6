//! The matrix product: `C = init + A·B`, one FMA chain over k per element.
//!
//! The three forms of training are one function, told apart by strides: `x·Wᵀ`
//! (forward), `dy·W` (input gradient), `dyᵀ·x` (weight gradient, accumulating).
//!
//! The method is Goto and van de Geijn 2008, "Anatomy of high-performance matrix
//! multiplication": B is packed into panels of 32 columns once, by all threads;
//! then each thread takes a rectangle of C, packs its rows of A block by block,
//! and runs register tiles. Between blocks of k the tile is stored and reloaded
//! as f32, which leaves the chain as it is. With few rows there is nothing to
//! gain from packing, and [`skinny`] streams B instead.

mod blocked;
pub(crate) mod pack;
mod path;
mod skinny;
#[cfg(test)]
mod tests;
pub(crate) mod tile;

pub use path::{Blocking, GemmPath, gemm_path};

use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len};
use crate::parallel::Ctx;

/// A matrix in memory: element (i, j) is `data[i·row_stride + j·col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    /// The elements, from (0, 0) on.
    pub data: &'a [f32],
    /// Distance between rows, in elements.
    pub row_stride: usize,
    /// Distance between columns, in elements.
    pub col_stride: usize,
}

impl<'a> MatRef<'a> {
    /// A row-major matrix with `cols` columns.
    pub fn row_major(data: &'a [f32], cols: usize) -> Self {
        Self { data, row_stride: cols, col_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub fn transposed(self) -> Self {
        Self { data: self.data, row_stride: self.col_stride, col_stride: self.row_stride }
    }

    fn check(&self, operand: &'static str, rows: usize, cols: usize) -> Result<(), Error> {
        check_reach(operand, self.data, rows, self.row_stride, cols, self.col_stride)
    }
}

/// What the products of a chain are taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// The f32 operands: one FMA for each k.
    F32,
    /// The operands rounded to bf16, in pairs along k, subnormals flushed: `docs/numerics.md`, "Products in
    /// bf16".
    Bf16 {
        /// k over which no pair goes: the length of the innermost contracted dim. A divisor of `k`.
        group: usize,
    },
    /// The operands rounded to f16: one FMA for each k. `docs/numerics.md`, "Products in f16".
    F16,
}

impl Precision {
    /// Places of a chain over k: pairs are whole.
    fn chain_len(self, k: usize) -> usize {
        match self {
            Precision::F32 | Precision::F16 => k,
            Precision::Bf16 { group } if group == 0 || group >= k || group % 2 == 0 => {
                k.next_multiple_of(2)
            }
            Precision::Bf16 { group } => k / group * (group + 1),
        }
    }

    /// The group, where its pairs are not simply those of the whole chain.
    fn odd_group(self, k: usize) -> Option<usize> {
        match self {
            Precision::Bf16 { group } if group % 2 == 1 && group < k => Some(group),
            _ => None,
        }
    }

    /// Whether subnormal operands and sums are flushed to zero.
    fn flushes(self) -> bool {
        matches!(self, Precision::Bf16 { .. })
    }
}

/// One matrix product and what is fused behind it.
#[derive(Clone, Copy, Debug)]
pub struct Gemm<'a> {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B: the length of the chains.
    pub k: usize,
    /// A: [m, k].
    pub a: MatRef<'a>,
    /// B: [k, n]. For `x·Wᵀ` the transpose of the row-major W.
    pub b: MatRef<'a>,
    /// Whether the chains start from C instead of +0.
    pub accumulate: bool,
    /// \[n\], added to every row after the chain with a rounding of its own.
    pub bias: Option<&'a [f32]>,
    /// [m, n] with this row stride, added after the bias with a rounding of its
    /// own.
    pub residual: Option<(&'a [f32], usize)>,
    /// What the products are taken of.
    pub precision: Precision,
}

/// Elements of scratch that [`gemm`] needs for these sizes and threads.
pub fn gemm_scratch_len(
    m: usize,
    n: usize,
    k: usize,
    precision: Precision,
    threads: usize,
) -> usize {
    match precision {
        _ if path::is_skinny(m, precision) => 0,
        _ => blocked::scratch_len(n, precision.chain_len(k), threads),
    }
}

/// `C = (init + A·B) + bias + residual`: c [m, n] with rows `c_stride` apart.
///
/// `init` is C or +0, the chain runs over k in order by FMA, and each addition
/// is rounded on its own.
///
/// Errors: [`Error::Length`] if an operand is too short, [`Error::Dimension`] if
/// rows of C overlap, [`Error::Scratch`] below [`gemm_scratch_len`].
pub fn gemm(
    ctx: &Ctx<'_>,
    problem: &Gemm<'_>,
    c: &mut [f32],
    c_stride: usize,
    scratch: &mut [f32],
) -> Result<(), Error> {
    let &Gemm { m, n, k, .. } = problem;
    problem.a.check("a", m, k)?;
    problem.b.check("b", k, n)?;
    if c_stride < n {
        return Err(Error::Dimension { what: "the rows of `c` overlap" });
    }
    check_reach("c", c, m, c_stride, n, 1)?;
    if let Some(bias) = problem.bias {
        check_len("bias", bias, n)?;
    }
    if let Some((residual, stride)) = problem.residual {
        check_reach("residual", residual, m, stride, n, 1)?;
    }
    if let Precision::Bf16 { group } = problem.precision
        && (group == 0 || k % group != 0)
        && k > 0
    {
        return Err(Error::Dimension { what: "the groups of pairs do not divide `k`" });
    }
    let expected = gemm_scratch_len(m, n, k, problem.precision, ctx.threads());
    if scratch.len() < expected {
        return Err(Error::Scratch { expected, actual: scratch.len() });
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    if path::is_skinny(m, problem.precision) {
        skinny::run(ctx, problem, c, c_stride);
    } else if !problem.precision.flushes() {
        blocked::run(ctx, problem, c, c_stride, scratch);
    } else {
        // What is added keeps its subnormals, so it comes after the products.
        let products = Gemm { bias: None, residual: None, ..*problem };
        blocked::run(ctx, &products, c, c_stride, scratch);
        if problem.bias.is_some() || problem.residual.is_some() {
            let c = DisjointMut::new(c);
            ctx.split(m, n, &|rows| {
                for i in rows {
                    // SAFETY: the rows of tasks are disjoint.
                    let row = unsafe { c.range(i * c_stride..i * c_stride + n) };
                    let bias = problem.bias.into_iter().flatten();
                    row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
                    if let Some((residual, stride)) = problem.residual {
                        row.iter_mut().zip(&residual[i * stride..]).for_each(|(x, r)| *x += r);
                    }
                }
            });
        }
    }
    Ok(())
}

/// Refuses a slice that does not reach the last element of a strided matrix.
fn check_reach(
    operand: &'static str,
    data: &[f32],
    rows: usize,
    row_stride: usize,
    cols: usize,
    col_stride: usize,
) -> Result<(), Error> {
    if rows == 0 || cols == 0 {
        return Ok(());
    }
    let reach = (rows - 1)
        .checked_mul(row_stride)
        .zip((cols - 1).checked_mul(col_stride))
        .and_then(|(down, across)| down.checked_add(across))
        .and_then(|last| last.checked_add(1))
        .ok_or(Error::Dimension { what: "a stride reaches past the end of memory" })?;
    if data.len() < reach {
        return Err(Error::Length { operand, expected: reach, actual: data.len() });
    }
    Ok(())
}
