//! Tensors of the evaluators.

use super::number::{round_to, wrap};
use super::{EvalError, Mode};
use crate::types::{DType, TensorType};
use llmc_base::Expr;
use std::rc::Rc;

/// Elements of a tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Float dtypes. In `Rounded` mode every element is exactly representable in the tensor's dtype.
    Float(Vec<f64>),
    /// Integer dtypes and `bool` (0 and 1). A `u64` is held as the `i64` of the same bits.
    Int(Vec<i64>),
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::Float(v) => v.len(),
            Data::Int(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A tensor of the evaluators.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Declared element type.
    pub dtype: DType,
    /// Dims, outermost first.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Data,
}

impl Tensor {
    /// Floats of a float dtype. Errors: the dtype is none, or the number of values is not that of the shape.
    pub fn floats(dtype: DType, shape: &[usize], values: Vec<f64>) -> Result<Self, EvalError> {
        let tensor = Tensor { dtype, shape: shape.to_vec(), data: Data::Float(values) };
        tensor.check().map(|()| tensor)
    }

    /// Integers of an integer dtype or `bool`. Errors: as [`Tensor::floats`].
    pub fn ints(dtype: DType, shape: &[usize], values: Vec<i64>) -> Result<Self, EvalError> {
        let tensor = Tensor { dtype, shape: shape.to_vec(), data: Data::Int(values) };
        tensor.check().map(|()| tensor)
    }

    /// An f32 tensor. Errors: the number of values is not that of the shape.
    pub fn f32(shape: &[usize], values: &[f32]) -> Result<Self, EvalError> {
        Self::floats(DType::F32, shape, values.iter().map(|x| f64::from(*x)).collect())
    }

    /// An i32 tensor. Errors: the number of values is not that of the shape.
    pub fn i32(shape: &[usize], values: &[i32]) -> Result<Self, EvalError> {
        Self::ints(DType::I32, shape, values.iter().map(|x| i64::from(*x)).collect())
    }

    /// A scalar, converted to the dtype.
    pub fn scalar(dtype: DType, value: f64) -> Self {
        Self::splat(dtype, &[], value)
    }

    /// One value in every element, converted to the dtype.
    pub fn splat(dtype: DType, shape: &[usize], value: f64) -> Self {
        let count = shape.iter().product();
        let data = match dtype.is_float() {
            true => Data::Float(vec![round_to(dtype, value); count]),
            false => Data::Int(vec![super::number::truncate(dtype, value); count]),
        };
        Tensor { dtype, shape: shape.to_vec(), data }
    }

    /// The type.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, self.shape.iter().map(|d| Expr::from(*d)))
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.data.len()
    }

    /// The elements of a float tensor. Errors: it is none.
    pub fn as_floats(&self) -> Result<&[f64], EvalError> {
        match &self.data {
            Data::Float(v) => Ok(v),
            Data::Int(_) => Err(EvalError::new(format!("{} has no floats", self.ty()))),
        }
    }

    /// The elements of an integer or `bool` tensor. Errors: it is none.
    pub fn as_ints(&self) -> Result<&[i64], EvalError> {
        match &self.data {
            Data::Int(v) => Ok(v),
            Data::Float(_) => Err(EvalError::new(format!("{} has no integers", self.ty()))),
        }
    }

    /// The elements as f32. Errors: it is no float tensor.
    pub fn to_f32(&self) -> Result<Vec<f32>, EvalError> {
        Ok(self.as_floats()?.iter().map(|x| *x as f32).collect())
    }

    /// Whether shape, dtype and elements belong together. Errors: if not.
    pub fn check(&self) -> Result<(), EvalError> {
        let count = self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if count != Some(self.data.len()) {
            let message =
                format!("shape {:?} does not hold {} elements", self.shape, self.data.len());
            return Err(EvalError::new(message));
        }
        match (&self.data, self.dtype.is_float()) {
            (Data::Float(_), true) | (Data::Int(_), false) => Ok(()),
            _ => Err(EvalError::new(format!("elements are no {}", self.dtype))),
        }
    }

    /// Slice `index` of the leading axis, which exists and has it.
    pub(super) fn leading(&self, index: usize) -> Tensor {
        let shape = self.shape[1..].to_vec();
        let size: usize = shape.iter().product();
        let range = index * size..(index + 1) * size;
        let data = match &self.data {
            Data::Float(v) => Data::Float(v[range].to_vec()),
            Data::Int(v) => Data::Int(v[range].to_vec()),
        };
        Tensor { dtype: self.dtype, shape, data }
    }

    /// The tensors one after the other along a new leading axis. Errors: they do not fill the shape.
    pub(super) fn stacked(
        dtype: DType,
        shape: Vec<usize>,
        parts: &[Rc<Tensor>],
    ) -> Result<Tensor, EvalError> {
        let data = match dtype.is_float() {
            true => {
                let parts = parts.iter().map(|p| p.as_floats()).collect::<Result<Vec<_>, _>>()?;
                Data::Float(parts.concat())
            }
            false => {
                let parts = parts.iter().map(|p| p.as_ints()).collect::<Result<Vec<_>, _>>()?;
                Data::Int(parts.concat())
            }
        };
        let tensor = Tensor { dtype, shape, data };
        tensor.check().map(|()| tensor)
    }

    /// The tensor with every element as the mode and the dtype want it.
    pub fn normalized(mut self, mode: Mode) -> Self {
        let dtype = self.dtype;
        match &mut self.data {
            Data::Float(_) if mode == Mode::Real => {}
            Data::Float(v) => v.iter_mut().for_each(|x| *x = round_to(dtype, *x)),
            Data::Int(v) => v.iter_mut().for_each(|x| *x = wrap(dtype, *x)),
        }
        self
    }
}

/// The dims as numbers. Errors: a dim is no number.
pub(super) fn concrete(dims: &[Expr]) -> Result<Vec<usize>, EvalError> {
    let number = |dim: &Expr| {
        dim.as_usize().ok_or_else(|| EvalError::new(format!("dim `{dim}` is not known")))
    };
    dims.iter().map(number).collect()
}
