//! Values without operands: `constant`, `literal`, `iota`, `dim_size`.

use super::check;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::cost::Cost;
use crate::module::Module;
use crate::op::{Class, OpDef};
use crate::sample::Samples;
use crate::types::{DType, TensorType, TypeError, ensure, operands};
use llmc_base::Expr;

/// One value in every element.
///
/// () → dtype[dims]. The value is rounded to the dtype.
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
/// () → dtype[shape]. Values are rounded to the dtype.
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
/// () → dtype[dims].
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

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples::default()
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

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples::default()
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

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples::default()
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

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples::default()
    }
}
