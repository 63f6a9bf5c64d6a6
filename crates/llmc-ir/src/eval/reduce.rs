//! `reduce`, in the declared order.

use super::layout::{strided, strides};
use super::number::{self, Precision, value_of, wrap};
use super::{Data, EvalError, Mode, Tensor};
use crate::ops::{Order, Reduce, ReduceKind, check};
use crate::types::DType;
use llmc_base::math::SUM_LANES;
use std::borrow::Cow;

/// Folds the reduced axes of x, from `init` if there is one.
pub(crate) fn reduce(
    op: &Reduce,
    x: &Tensor,
    init: Option<&Tensor>,
    mode: Mode,
) -> Result<Tensor, EvalError> {
    let kept: Vec<usize> = (0..x.shape.len()).filter(|axis| !op.axes.contains(axis)).collect();
    let order = [&kept[..], &op.axes[..]].concat();
    let length: usize = op.axes.iter().map(|axis| x.shape[*axis]).product();
    let shape: Vec<usize> = kept.iter().map(|axis| x.shape[*axis]).collect();
    let count = shape.iter().product();
    let data = match &x.data {
        Data::Float(v) => {
            let rows = Rows { values: rows(v, &x.shape, &order), length, count };
            let init = init.map(Tensor::as_floats).transpose()?;
            Data::Float(reduce_floats(op, &rows, init, mode))
        }
        Data::Int(v) => {
            let rows = Rows { values: rows(v, &x.shape, &order), length, count };
            let init = init.map(Tensor::as_ints).transpose()?;
            Data::Int(rows.fold(init, |row, init| reduce_ints(op, x.dtype, row, init)))
        }
    };
    Ok(Tensor { dtype: op.acc, shape, data })
}

/// The elements with the axes in this order.
fn rows<'v, T: Copy>(values: &'v [T], shape: &[usize], order: &[usize]) -> Cow<'v, [T]> {
    if order.iter().copied().eq(0..shape.len()) {
        return Cow::Borrowed(values);
    }
    let own = strides(shape);
    let own: Vec<usize> = order.iter().map(|axis| own[*axis]).collect();
    let shape: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
    Cow::Owned(strided(values, &shape, &own, 0))
}

/// `count` rows of `length` elements.
struct Rows<'v, T: Copy> {
    values: Cow<'v, [T]>,
    length: usize,
    count: usize,
}

impl<T: Copy> Rows<'_, T> {
    fn fold(&self, init: Option<&[T]>, f: impl Fn(&[T], Option<T>) -> T) -> Vec<T> {
        let row = |i: usize| {
            let row = &self.values[i * self.length..(i + 1) * self.length];
            f(row, init.map(|init| init[i]))
        };
        (0..self.count).map(row).collect()
    }
}

fn reduce_floats(op: &Reduce, rows: &Rows<f64>, init: Option<&[f64]>, mode: Mode) -> Vec<f64> {
    let narrow = Precision::of(op.acc, mode) == Precision::F32;
    let f32s = |f: fn(f32, f32) -> f32, start: f32| {
        rows.fold(init, |row, init| {
            let init = init.map(|x| x as f32);
            f64::from(folded(op.order, row.iter().map(|x| *x as f32), start, init, f))
        })
    };
    let f64s = |f: fn(f64, f64) -> f64, start: f64| {
        rows.fold(init, |row, init| folded(op.order, row.iter().copied(), start, init, f))
    };
    match (op.kind, narrow) {
        (ReduceKind::Sum, true) => f32s(|a, b| a + b, 0.0),
        (ReduceKind::Sum, false) => f64s(|a, b| a + b, 0.0),
        (ReduceKind::Prod, true) => f32s(|a, b| a * b, 1.0),
        (ReduceKind::Prod, false) => f64s(|a, b| a * b, 1.0),
        (ReduceKind::Max, _) => f64s(number::max, f64::NEG_INFINITY),
        (ReduceKind::Min, _) => f64s(number::min, f64::INFINITY),
    }
}

/// One row, in the order of `docs/numerics.md`.
fn folded<T: Copy>(
    order: Order,
    values: impl Iterator<Item = T>,
    start: T,
    init: Option<T>,
    f: fn(T, T) -> T,
) -> T {
    match order {
        Order::Chain => values.fold(init.unwrap_or(start), f),
        Order::Lanes => {
            let mut lanes = [start; SUM_LANES];
            for (i, value) in values.enumerate() {
                lanes[i % SUM_LANES] = f(lanes[i % SUM_LANES], value);
            }
            for width in [8, 4, 2, 1] {
                for j in 0..width {
                    lanes[j] = f(lanes[j], lanes[j + width]);
                }
            }
            lanes[0]
        }
    }
}

/// Integers wrap, so that the order does not matter.
fn reduce_ints(op: &Reduce, dtype: DType, row: &[i64], init: Option<i64>) -> i64 {
    let (low, high) = check::int_range(dtype);
    let start = match op.kind {
        ReduceKind::Sum => 0,
        ReduceKind::Prod => 1,
        ReduceKind::Max => low as i64,
        // The bits of the largest `u64` are those of −1.
        ReduceKind::Min => high as i64,
    };
    let least = |a: i64, b: i64| value_of(dtype, a) < value_of(dtype, b);
    row.iter().fold(init.unwrap_or(start), |a, &b| match op.kind {
        ReduceKind::Sum => wrap(op.acc, a.wrapping_add(b)),
        ReduceKind::Prod => wrap(op.acc, a.wrapping_mul(b)),
        ReduceKind::Max => {
            if least(a, b) {
                b
            } else {
                a
            }
        }
        ReduceKind::Min => {
            if least(b, a) {
                b
            } else {
                a
            }
        }
    })
}
