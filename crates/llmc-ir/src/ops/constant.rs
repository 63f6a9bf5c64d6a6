//! Values without operands: `constant`, `literal`, `iota`, `dim_size`.

use super::check;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{self, EvalError, Mode, Tensor};
use crate::module::Module;
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Sample, Samples, f32};
use crate::types::{DType, TensorType, TypeError, ensure, operands};
use llmc_base::Expr;

/// One value in every element.
///
/// () → `dtype[dims]`. The value is rounded to the dtype.
///
/// Errors: `constant::c1` if the value is no value of an integer dtype or `bool`.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Element type.
    pub dtype: DType,
    /// Dims of the result.
    pub dims: Vec<Expr>,
    /// The value.
    pub value: f64,
}

/// A small dense constant, in row-major order.
///
/// () → `dtype[shape]`. Values are rounded to the dtype.
///
/// Errors: `literal::c1` if the number of values is not that of the shape, `literal::c2` if a
/// value is no value of an integer dtype or `bool`.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// Element type.
    pub dtype: DType,
    /// Shape of the result.
    pub shape: Vec<usize>,
    /// Elements.
    pub values: Vec<f64>,
}

/// The index along one axis: 0, 1, 2, …
///
/// () → `dtype[dims]`.
///
/// Errors: `iota::c1` if there is no such axis, `iota::c2` for `bool`.
#[derive(Clone, Debug, PartialEq)]
pub struct Iota {
    /// Element type; not `bool`.
    pub dtype: DType,
    /// Dims of the result.
    pub dims: Vec<Expr>,
    /// The axis that is counted.
    pub axis: usize,
}

/// The value of a dim as a scalar, rounded to the dtype: what a mean divides by.
///
/// () → dtype[].
///
/// Errors: `dim_size::c1` for `bool`.
#[derive(Clone, Debug, PartialEq)]
pub struct DimSize {
    /// The dim.
    pub dim: Expr,
    /// Element type; not `bool`.
    pub dtype: DType,
}

impl OpDef for Constant {
    const NAME: &'static str = "constant";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        let mut attrs = vec![("dtype", Attr::DType(self.dtype))];
        if !self.dims.is_empty() {
            attrs.push(("dims", Attr::Dims(self.dims.clone())));
        }
        attrs.push(("value", Attr::Float(self.value)));
        attrs
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Constant {
            dtype: attrs.req("dtype")?,
            dims: attrs.opt("dims")?.unwrap_or_default(),
            value: attrs.req("value")?,
        })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [] = operands(Self::NAME, types)?;
        check::ensure_fits("constant::c1", self.dtype, &[self.value])?;
        Ok(vec![TensorType { dtype: self.dtype, shape: self.dims.clone() }])
    }

    fn map_dims(&self, f: &dyn Fn(&Expr) -> Expr) -> Self {
        Constant { dims: self.dims.iter().map(f).collect(), ..self.clone() }
    }

    fn eval(&self, _: &[&Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::constant(self, mode)?])
    }

    fn vjp(&self, _: &mut FunctionBuilder, _: &VjpInput) -> Result<Option<Cotangents>, TypeError> {
        Ok(Some(vec![]))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        let constant = |dtype, dims: &[i64], value| {
            let dims = dims.iter().map(|d| (*d).into()).collect();
            Constant { dtype, dims, value }
        };
        Samples {
            good: vec![
                Sample::new(constant(DType::F32, &[2, 3], 0.1), [], &[]),
                Sample::new(constant(DType::Bf16, &[], 0.1), [], &[]),
                Sample::new(constant(DType::F64, &[5], -1e300), [], &[]),
                Sample::new(constant(DType::F8E4M3, &[3], 0.3), [], &[]),
                Sample::new(constant(DType::Bool, &[2], 1.0), [], &[]),
                Sample::new(constant(DType::U4, &[0, 2], 15.0), [], &[]),
            ],
            bad: vec![
                BadSample::new(constant(DType::I32, &[2], 0.5), [], "constant::c1"),
                BadSample::new(constant(DType::U8, &[2], 256.0), [], "constant::c1"),
                BadSample::new(constant(DType::Bool, &[], 2.0), [], "constant::c1"),
                BadSample::new(constant(DType::F32, &[2], 0.0), [f32(&[2])], "constant::arity"),
            ],
        }
    }
}

impl OpDef for Literal {
    const NAME: &'static str = "literal";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![
            ("dtype", Attr::DType(self.dtype)),
            ("shape", check::axes_attr(&self.shape)),
            ("values", Attr::Floats(self.values.clone())),
        ]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Literal {
            dtype: attrs.req("dtype")?,
            shape: check::axes(attrs, "shape")?,
            values: attrs.req("values")?,
        })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [] = operands(Self::NAME, types)?;
        let count = self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        ensure(count == Some(self.values.len()), "literal::c1", || {
            format!("shape {:?} does not hold {} values", self.shape, self.values.len())
        })?;
        check::ensure_fits("literal::c2", self.dtype, &self.values)?;
        Ok(vec![TensorType::new(self.dtype, self.shape.iter().copied())])
    }

    fn eval(&self, _: &[&Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::literal(self, mode)])
    }

    fn vjp(&self, _: &mut FunctionBuilder, _: &VjpInput) -> Result<Option<Cotangents>, TypeError> {
        Ok(Some(vec![]))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        let literal = |dtype, shape: &[usize], values: &[f64]| Literal {
            dtype,
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        Samples {
            good: vec![
                Sample::new(literal(DType::F32, &[2, 2], &[0.1, -2.0, 3.5, 1e-40]), [], &[]),
                Sample::new(literal(DType::F16, &[3], &[0.1, 1e5, -7.0]), [], &[]),
                Sample::new(literal(DType::I64, &[2], &[-5.0, 9.0]), [], &[]),
                Sample::new(literal(DType::F32, &[], &[4.0]), [], &[]),
            ],
            bad: vec![
                BadSample::new(literal(DType::F32, &[3], &[1.0]), [], "literal::c1"),
                BadSample::new(literal(DType::I8, &[1], &[200.0]), [], "literal::c2"),
                BadSample::new(literal(DType::F32, &[1], &[1.0]), [f32(&[])], "literal::arity"),
            ],
        }
    }
}

impl OpDef for Iota {
    const NAME: &'static str = "iota";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![
            ("dtype", Attr::DType(self.dtype)),
            ("dims", Attr::Dims(self.dims.clone())),
            ("axis", Attr::Int(self.axis as i64)),
        ]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Iota { dtype: attrs.req("dtype")?, dims: attrs.req("dims")?, axis: attrs.req("axis")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [] = operands(Self::NAME, types)?;
        ensure(self.axis < self.dims.len(), "iota::c1", || {
            format!("no axis {} in <{}>", self.axis, check::shape_text(&self.dims))
        })?;
        ensure(self.dtype != DType::Bool, "iota::c2", || "`bool` cannot count".to_string())?;
        Ok(vec![TensorType { dtype: self.dtype, shape: self.dims.clone() }])
    }

    fn map_dims(&self, f: &dyn Fn(&Expr) -> Expr) -> Self {
        Iota { dims: self.dims.iter().map(f).collect(), ..self.clone() }
    }

    fn eval(&self, _: &[&Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::iota(self, mode)?])
    }

    fn vjp(&self, _: &mut FunctionBuilder, _: &VjpInput) -> Result<Option<Cotangents>, TypeError> {
        Ok(Some(vec![]))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        let iota = |dtype, dims: &[i64], axis| {
            let dims = dims.iter().map(|d| (*d).into()).collect();
            Iota { dtype, dims, axis }
        };
        Samples {
            good: vec![
                Sample::new(iota(DType::I32, &[3, 4], 1), [], &[]),
                Sample::new(iota(DType::F32, &[3, 4], 0), [], &[]),
                Sample::new(iota(DType::Bf16, &[300], 0), [], &[]),
            ],
            bad: vec![
                BadSample::new(iota(DType::I32, &[3], 1), [], "iota::c1"),
                BadSample::new(iota(DType::Bool, &[3], 0), [], "iota::c2"),
            ],
        }
    }
}

impl DimSize {
    fn value(&self) -> Result<f64, EvalError> {
        let value = self.dim.as_usize().filter(|v| {
            // An integer dtype that cannot hold the size would give a wrong one.
            check::ensure_fits("dim_size::c1", self.dtype, &[*v as f64]).is_ok()
        });
        value.map(|v| v as f64).ok_or_else(|| {
            EvalError::new(format!("dim `{}` is no value of dtype {}", self.dim, self.dtype))
        })
    }
}

impl OpDef for DimSize {
    const NAME: &'static str = "dim_size";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![("dim", Attr::Dims(vec![self.dim.clone()])), ("dtype", Attr::DType(self.dtype))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(DimSize { dim: check::one_dim(attrs, "dim")?, dtype: attrs.req("dtype")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [] = operands(Self::NAME, types)?;
        check::check_dims(Self::NAME, std::slice::from_ref(&self.dim))?;
        ensure(self.dtype != DType::Bool, "dim_size::c1", || {
            "`bool` cannot hold a size".to_string()
        })?;
        Ok(vec![TensorType::scalar(self.dtype)])
    }

    fn map_dims(&self, f: &dyn Fn(&Expr) -> Expr) -> Self {
        DimSize { dim: f(&self.dim), dtype: self.dtype }
    }

    fn eval(&self, _: &[&Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
        let value = Constant { dtype: self.dtype, dims: Vec::new(), value: self.value()? };
        Ok(vec![eval::constant(&value, mode)?])
    }

    fn vjp(&self, _: &mut FunctionBuilder, _: &VjpInput) -> Result<Option<Cotangents>, TypeError> {
        Ok(Some(vec![]))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        let size = |dtype, dim: i64| DimSize { dim: dim.into(), dtype };
        Samples {
            good: vec![
                Sample::new(size(DType::F32, 33), [], &[]),
                Sample::new(size(DType::F16, 4097), [], &[]),
                Sample::new(size(DType::I32, 0), [], &[]),
            ],
            bad: vec![
                BadSample::new(size(DType::Bool, 1), [], "dim_size::c1"),
                BadSample::new(size(DType::F32, -1), [], "dim_size::size"),
            ],
        }
    }
}
