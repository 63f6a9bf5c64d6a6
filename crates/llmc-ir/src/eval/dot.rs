//! `dot`: one FMA chain for each element of the result.
//!
//! Operands are laid out as [batch, M, K] and [batch, K, N]; sixteen results of a row are folded
//! side by side, which does not touch the order within each.

use super::layout::{strided, strides};
use super::number::wrap;
use super::{Data, EvalError, Mode, Tensor};
use crate::ops::{Dot, Precision};
use crate::types::DType;
use llmc_base::math::{fma_f32, fma_flushed, round_bf16, round_f16};

/// The general product, from `init` if there is one.
pub(crate) fn dot(
    op: &Dot,
    a: &Tensor,
    b: &Tensor,
    init: Option<&Tensor>,
    shape: Vec<usize>,
    mode: Mode,
) -> Result<Tensor, EvalError> {
    let lhs_free = op.lhs_free(a.shape.len());
    let rhs_free = op.rhs_free(b.shape.len());
    let size = |x: &Tensor, axes: &[usize]| axes.iter().map(|axis| x.shape[*axis]).product();
    let sizes = Sizes {
        batch: size(a, &op.lhs_batch),
        m: size(a, &lhs_free),
        n: size(b, &rhs_free),
        k: size(a, &op.lhs_contract),
    };
    let lhs = [&op.lhs_batch[..], &lhs_free, &op.lhs_contract].concat();
    let rhs = [&op.rhs_batch[..], &op.rhs_contract, &rhs_free].concat();
    let data = match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => {
            let init = init.map(Tensor::as_floats).transpose()?;
            let (x, y) = (arranged(x, &a.shape, &lhs), arranged(y, &b.shape, &rhs));
            Data::Float(match (mode, op.acc) {
                (Mode::Rounded, DType::F32) if op.precision == Precision::Bf16 => {
                    let last = op.lhs_contract.last().map_or(1, |axis| a.shape[*axis]);
                    let out = product_of_pairs(sizes, last, &x, &y, init);
                    out.into_iter().map(f64::from).collect()
                }
                (Mode::Rounded, DType::F32) => {
                    let to_f32 = |v: &[f64]| v.iter().map(|x| *x as f32).collect::<Vec<f32>>();
                    let operand = |v: &[f64]| match op.precision {
                        Precision::F16 => to_f32(v).into_iter().map(round_f16).collect(),
                        _ => to_f32(v),
                    };
                    let out = product(sizes, &operand(&x), &operand(&y), init.map(to_f32));
                    out.into_iter().map(f64::from).collect()
                }
                _ => product(sizes, &x, &y, init.map(<[f64]>::to_vec)),
            })
        }
        (Data::Int(x), Data::Int(y)) => {
            let init = init.map(Tensor::as_ints).transpose()?;
            let (x, y) = (arranged(x, &a.shape, &lhs), arranged(y, &b.shape, &rhs));
            Data::Int(int_product(op.acc, sizes, &x, &y, init))
        }
        _ => return Err(EvalError::new("operands of different dtypes")),
    };
    Ok(Tensor { dtype: op.acc, shape, data })
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    m: usize,
    n: usize,
    k: usize,
}

/// The elements with the axes in this order.
fn arranged<T: Copy>(values: &[T], shape: &[usize], order: &[usize]) -> Vec<T> {
    let own = strides(shape);
    let own: Vec<usize> = order.iter().map(|axis| own[*axis]).collect();
    let shape: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
    strided(values, &shape, &own, 0)
}

/// A float with a fused multiply-add.
trait Fma: Copy + Default {
    /// self·b + c with one rounding, by the instruction.
    fn fma(self, b: Self, c: Self) -> Self;
    /// The same without the instruction.
    fn soft_fma(self, b: Self, c: Self) -> Self;
}

impl Fma for f32 {
    #[inline(always)]
    fn fma(self, b: f32, c: f32) -> f32 {
        self.mul_add(b, c)
    }

    #[inline(always)]
    fn soft_fma(self, b: f32, c: f32) -> f32 {
        fma_f32(self, b, c)
    }
}

impl Fma for f64 {
    #[inline(always)]
    fn fma(self, b: f64, c: f64) -> f64 {
        self.mul_add(b, c)
    }

    #[inline(always)]
    fn soft_fma(self, b: f64, c: f64) -> f64 {
        libm::fma(self, b, c)
    }
}

/// [batch, M, K] times [batch, K, N], from `init` or +0.
fn product<T: Fma>(sizes: Sizes, a: &[T], b: &[T], init: Option<Vec<T>>) -> Vec<T> {
    let count = sizes.batch * sizes.m * sizes.n;
    let mut out = init.unwrap_or_else(|| vec![T::default(); count]);
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the machine has FMA.
        unsafe { product_by_instruction(sizes, a, b, &mut out) };
        return out;
    }
    match cfg!(target_arch = "aarch64") {
        true => product_with(sizes, a, b, &mut out, T::fma),
        false => product_with(sizes, a, b, &mut out, T::soft_fma),
    }
    out
}

/// [`product_with`] the FMA of x86.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma")]
fn product_by_instruction<T: Fma>(sizes: Sizes, a: &[T], b: &[T], out: &mut [T]) {
    product_with(sizes, a, b, out, T::fma);
}

/// How many results of a row go side by side.
const WIDTH: usize = 16;

#[inline(always)]
fn product_with<T: Fma>(
    sizes: Sizes,
    a: &[T],
    b: &[T],
    out: &mut [T],
    fma: impl Fn(T, T, T) -> T + Copy,
) {
    let Sizes { batch, m, n, k } = sizes;
    if n == 0 {
        return;
    }
    for batch_idx in 0..batch {
        let b = &b[batch_idx * k * n..][..k * n];
        for row in batch_idx * m..(batch_idx + 1) * m {
            let a = &a[row * k..][..k];
            let out = &mut out[row * n..][..n];
            let mut column = 0;
            while column + WIDTH <= n {
                let mut acc = [T::default(); WIDTH];
                acc.copy_from_slice(&out[column..column + WIDTH]);
                for (a, b) in a.iter().zip(b.chunks_exact(n)) {
                    let b = &b[column..column + WIDTH];
                    for i in 0..WIDTH {
                        acc[i] = fma(*a, b[i], acc[i]);
                    }
                }
                out[column..column + WIDTH].copy_from_slice(&acc);
                column += WIDTH;
            }
            for (a, b) in a.iter().zip(b.chunks_exact(n)) {
                for (b, acc) in b[column..].iter().zip(&mut out[column..]) {
                    *acc = fma(*a, *b, *acc);
                }
            }
        }
    }
}

/// [batch, M, K] times [batch, K, N] of operands rounded to bf16, in pairs that stay within groups of
/// `group` of k: the odd one first, subnormals flushed (`docs/numerics.md`).
fn product_of_pairs(
    sizes: Sizes,
    group: usize,
    a: &[f64],
    b: &[f64],
    init: Option<&[f64]>,
) -> Vec<f32> {
    let Sizes { batch, m, n, k } = sizes;
    let rounded = |v: &[f64]| v.iter().map(|x| round_bf16(*x as f32)).collect::<Vec<f32>>();
    let (a, b) = (rounded(a), rounded(b));
    let zeros = || vec![0.0; batch * m * n];
    let mut out: Vec<f32> = init.map_or_else(zeros, |v| v.iter().map(|x| *x as f32).collect());
    for (i, acc) in out.iter_mut().enumerate() {
        let (row, column) = (i / n, i % n);
        let (a, b) = (&a[row * k..(row + 1) * k], &b[row / m * k * n..]);
        for start in (0..k).step_by(group.max(1)) {
            for even in (start..start + group).step_by(2) {
                let odd = even + 1;
                let (x, y) = match odd < start + group {
                    true => (a[odd], b[odd * n + column]),
                    false => (0.0, 0.0),
                };
                *acc = fma_flushed(x, y, *acc);
                *acc = fma_flushed(a[even], b[even * n + column], *acc);
            }
        }
    }
    out
}

/// Integers wrap.
fn int_product(acc: DType, sizes: Sizes, a: &[i64], b: &[i64], init: Option<&[i64]>) -> Vec<i64> {
    let Sizes { batch, m, n, k } = sizes;
    let mut out = init.map_or_else(|| vec![0; batch * m * n], <[i64]>::to_vec);
    for (i, out) in out.iter_mut().enumerate() {
        let (row, column) = (i / n, i % n);
        for j in 0..k {
            let b = b[(row / m * k + j) * n + column];
            *out = wrap(acc, out.wrapping_add(a[row * k + j].wrapping_mul(b)));
        }
    }
    out
}
