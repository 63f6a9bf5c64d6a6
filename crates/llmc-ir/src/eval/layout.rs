//! Ops that make, move or select elements without arithmetic, and `scatter_add`.
//!
//! Operands have passed the type rule, so that shapes fit; what depends on
//! values (indices) is checked here.

use super::number::{Precision, round_to, wrap};
use super::tensor::concrete;
use super::{Data, EvalError, Mode, Tensor};
use crate::ops::{
    Broadcast, Concat, Constant, Gather, Iota, Literal, Pad, ScatterAdd, Slice, UpdateSlice,
};
use crate::types::DType;
use llmc_base::Expr;

/// Distance in elements between neighbours along each axis of a row-major shape.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Calls `f` with the offset of every element of a strided block, in row-major order.
fn for_each_offset(shape: &[usize], strides: &[usize], base: usize, f: &mut impl FnMut(usize)) {
    match (shape, strides) {
        ([], _) => f(base),
        ([n], [stride, ..]) => (0..*n).for_each(|i| f(base + i * stride)),
        ([n, inner @ ..], [stride, rest @ ..]) => {
            (0..*n).for_each(|i| for_each_offset(inner, rest, base + i * stride, f));
        }
        // There is a stride for each dim.
        _ => {}
    }
}

/// The elements of a strided block, in row-major order.
pub(super) fn strided<T: Copy>(x: &[T], shape: &[usize], strides: &[usize], base: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(shape.iter().product());
    for_each_offset(shape, strides, base, &mut |offset| out.push(x[offset]));
    out
}

fn strided_tensor(x: &Tensor, shape: Vec<usize>, strides: &[usize], base: usize) -> Tensor {
    let data = match &x.data {
        Data::Float(v) => Data::Float(strided(v, &shape, strides, base)),
        Data::Int(v) => Data::Int(strided(v, &shape, strides, base)),
    };
    Tensor { dtype: x.dtype, shape, data }
}

/// Values as elements of a dtype.
fn elements(dtype: DType, values: Vec<f64>, mode: Mode) -> Data {
    match (dtype.is_float(), mode) {
        (true, Mode::Real) => Data::Float(values),
        (true, Mode::Rounded) => {
            Data::Float(values.into_iter().map(|v| round_to(dtype, v)).collect())
        }
        (false, _) => {
            Data::Int(values.into_iter().map(|v| super::number::truncate(dtype, v)).collect())
        }
    }
}

/// One value in every element.
pub(crate) fn constant(op: &Constant, mode: Mode) -> Result<Tensor, EvalError> {
    let shape = concrete(&op.dims)?;
    let data = match elements(op.dtype, vec![op.value], mode) {
        Data::Float(v) => Data::Float(vec![v[0]; shape.iter().product()]),
        Data::Int(v) => Data::Int(vec![v[0]; shape.iter().product()]),
    };
    Ok(Tensor { dtype: op.dtype, shape, data })
}

/// A small dense constant.
pub(crate) fn literal(op: &Literal, mode: Mode) -> Tensor {
    let data = elements(op.dtype, op.values.clone(), mode);
    Tensor { dtype: op.dtype, shape: op.shape.clone(), data }
}

/// The index along an axis.
pub(crate) fn iota(op: &Iota, mode: Mode) -> Result<Tensor, EvalError> {
    let shape = concrete(&op.dims)?;
    let count = elements(op.dtype, (0..shape[op.axis]).map(|i| i as f64).collect(), mode);
    let mut own = vec![0; shape.len()];
    own[op.axis] = 1;
    let count = Tensor { dtype: op.dtype, shape: vec![shape[op.axis]], data: count };
    Ok(strided_tensor(&count, shape, &own, 0))
}

/// Other dims.
pub(crate) fn reshape(dims: &[Expr], x: &Tensor) -> Result<Tensor, EvalError> {
    Ok(Tensor { dtype: x.dtype, shape: concrete(dims)?, data: x.data.clone() })
}

/// Another order of axes.
pub(crate) fn transpose(perm: &[usize], x: &Tensor) -> Tensor {
    let own = strides(&x.shape);
    let shape = perm.iter().map(|axis| x.shape[*axis]).collect();
    let own: Vec<usize> = perm.iter().map(|axis| own[*axis]).collect();
    strided_tensor(x, shape, &own, 0)
}

/// New axes.
pub(crate) fn broadcast(op: &Broadcast, x: &Tensor) -> Result<Tensor, EvalError> {
    let shape = concrete(&op.dims)?;
    let mut own = vec![0; shape.len()];
    for (axis, stride) in op.axes.iter().zip(strides(&x.shape)) {
        own[*axis] = stride;
    }
    Ok(strided_tensor(x, shape, &own, 0))
}

/// A part, by steps.
pub(crate) fn slice(op: &Slice, x: &Tensor, shape: Vec<usize>) -> Result<Tensor, EvalError> {
    let starts = concrete(&op.starts)?;
    let own = strides(&x.shape);
    let base =
        if shape.contains(&0) { 0 } else { starts.iter().zip(&own).map(|(s, o)| s * o).sum() };
    let own: Vec<usize> = own.iter().zip(&op.strides).map(|(o, s)| o * *s as usize).collect();
    Ok(strided_tensor(x, shape, &own, base))
}

/// A border of one value.
pub(crate) fn pad(
    op: &Pad,
    x: &Tensor,
    value: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, EvalError> {
    fn put<T: Copy>(x: &[T], value: T, shape: &[usize], inner: &[usize], low: &[usize]) -> Vec<T> {
        let own = strides(shape);
        let base = low.iter().zip(&own).map(|(l, s)| l * s).sum();
        let mut out = vec![value; shape.iter().product()];
        let mut elements = x.iter();
        for_each_offset(inner, &own, base, &mut |offset| {
            if let Some(element) = elements.next() {
                out[offset] = *element;
            }
        });
        out
    }
    let low = concrete(&op.low)?;
    let data = match (&x.data, &value.data) {
        (Data::Float(v), Data::Float(value)) => {
            Data::Float(put(v, value[0], &shape, &x.shape, &low))
        }
        (Data::Int(v), Data::Int(value)) => Data::Int(put(v, value[0], &shape, &x.shape, &low)),
        _ => return Err(EvalError::new("operands of different dtypes")),
    };
    Ok(Tensor { dtype: x.dtype, shape, data })
}

/// Operands one after the other.
pub(crate) fn concat(
    op: &Concat,
    operands: &[&Tensor],
    shape: Vec<usize>,
) -> Result<Tensor, EvalError> {
    fn join<'t, T: Copy + 't>(
        parts: impl Iterator<Item = Result<(&'t [T], usize), EvalError>>,
        outer: usize,
    ) -> Result<Vec<T>, EvalError> {
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let mut out = Vec::with_capacity(parts.iter().map(|(part, _)| part.len()).sum());
        for i in 0..outer {
            for (part, row) in &parts {
                out.extend_from_slice(&part[i * row..(i + 1) * row]);
            }
        }
        Ok(out)
    }
    let outer: usize = shape[..op.axis].iter().product();
    let row = |x: &Tensor| x.shape[op.axis..].iter().product::<usize>();
    let dtype = operands[0].dtype;
    let data = match dtype.is_float() {
        true => Data::Float(join(operands.iter().map(|x| Ok((x.as_floats()?, row(x)))), outer)?),
        false => Data::Int(join(operands.iter().map(|x| Ok((x.as_ints()?, row(x)))), outer)?),
    };
    Ok(Tensor { dtype, shape, data })
}

/// A part overwritten.
pub(crate) fn update_slice(
    op: &UpdateSlice,
    x: &Tensor,
    update: &Tensor,
    start: &Tensor,
) -> Result<Tensor, EvalError> {
    let (size, length) = (x.shape[op.axis], update.shape[op.axis]);
    let outer: usize = x.shape[..op.axis].iter().product();
    let inner: usize = x.shape[op.axis + 1..].iter().product();
    // One index for all, or one for each row of the first axis.
    let starts = start.as_ints()?;
    let per_start = outer / starts.len().max(1);
    let mut places = Vec::with_capacity(starts.len());
    for start in starts {
        let at = usize::try_from(*start).ok();
        let at = at.filter(|at| at.checked_add(length).is_some_and(|end| end <= size));
        places.push(at.ok_or_else(|| {
            EvalError::new(format!(
                "{length} elements from {start} do not lie in an axis of {size}"
            ))
        })?);
    }
    let mut out = x.clone();
    let (wide, part) = (size * inner, length * inner);
    for i in 0..outer {
        let at = i * wide + places[i / per_start.max(1)] * inner;
        let to = at..at + part;
        let from = i * part..(i + 1) * part;
        match (&mut out.data, &update.data) {
            (Data::Float(out), Data::Float(update)) => out[to].copy_from_slice(&update[from]),
            (Data::Int(out), Data::Int(update)) => out[to].copy_from_slice(&update[from]),
            _ => return Err(EvalError::new("operands of different dtypes")),
        }
    }
    Ok(out)
}

/// Where the slices of a gather lie: for each of `outer` blocks the rows `ids` of `inner`
/// elements in an axis of `size`.
struct Rows<'t> {
    ids: &'t [i64],
    /// Number of batches, and of blocks for each of them.
    batches: usize,
    blocks: usize,
    size: usize,
    inner: usize,
}

impl<'t> Rows<'t> {
    fn new(axis: usize, batch_dims: usize, x: &Tensor, ids: &'t Tensor) -> Result<Self, EvalError> {
        let size = x.shape[axis];
        let values = ids.as_ints()?;
        if let Some(id) =
            values.iter().find(|id| usize::try_from(**id).map_or(true, |id| id >= size))
        {
            return Err(EvalError::new(format!("index {id} is outside of 0..{size}")));
        }
        Ok(Rows {
            ids: values,
            batches: x.shape[..batch_dims].iter().product(),
            blocks: x.shape[batch_dims..axis].iter().product(),
            size,
            inner: x.shape[axis + 1..].iter().product(),
        })
    }

    /// Calls `f` with the first element of each row, in the order of the gathered slices.
    fn for_each(&self, mut f: impl FnMut(usize)) {
        let count = self.ids.len() / self.batches.max(1);
        for block in 0..self.batches * self.blocks {
            let batch = block / self.blocks;
            for id in &self.ids[batch * count..(batch + 1) * count] {
                // Checked to lie in 0..size.
                f((block * self.size + *id as usize) * self.inner);
            }
        }
    }
}

/// Slices by index.
pub(crate) fn gather(
    op: &Gather,
    x: &Tensor,
    ids: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, EvalError> {
    fn take<T: Copy>(x: &[T], rows: &Rows) -> Vec<T> {
        let mut out = Vec::new();
        rows.for_each(|row| out.extend_from_slice(&x[row..row + rows.inner]));
        out
    }
    let rows = Rows::new(op.axis, op.batch_dims, x, ids)?;
    let data = match &x.data {
        Data::Float(v) => Data::Float(take(v, &rows)),
        Data::Int(v) => Data::Int(take(v, &rows)),
    };
    Ok(Tensor { dtype: x.dtype, shape, data })
}

/// Slices added by index, in row-major order of the indices.
pub(crate) fn scatter_add(
    op: &ScatterAdd,
    dst: &Tensor,
    ids: &Tensor,
    updates: &Tensor,
    mode: Mode,
) -> Result<Tensor, EvalError> {
    fn add<T: Copy>(dst: &mut [T], updates: &[T], rows: &Rows, add: impl Fn(T, T) -> T) {
        let mut from = 0;
        rows.for_each(|row| {
            for i in 0..rows.inner {
                dst[row + i] = add(dst[row + i], updates[from + i]);
            }
            from += rows.inner;
        });
    }
    let rows = Rows::new(op.axis, op.batch_dims, dst, ids)?;
    let mut out = dst.clone();
    match (&mut out.data, &updates.data) {
        (Data::Float(out), Data::Float(updates)) => match Precision::of(dst.dtype, mode) {
            Precision::F64 => add(out, updates, &rows, |a, b| a + b),
            Precision::F32 => add(out, updates, &rows, |a, b| f64::from(a as f32 + b as f32)),
            Precision::Narrow(dtype) => {
                add(out, updates, &rows, |a, b| round_to(dtype, f64::from(a as f32 + b as f32)))
            }
        },
        (Data::Int(out), Data::Int(updates)) => {
            add(out, updates, &rows, |a, b| wrap(dst.dtype, a.wrapping_add(b)));
        }
        _ => return Err(EvalError::new("operands of different dtypes")),
    }
    Ok(out)
}
