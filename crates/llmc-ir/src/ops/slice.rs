//! `slice`, `pad`, `concat`, `update_slice`: parts of tensors.

use super::check;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::cost::Cost;
use crate::module::Module;
use crate::op::{Class, OpDef};
use crate::sample::Samples;
use crate::types::{DType, TensorType, TypeError, ensure, operands};
use llmc_base::Expr;

/// Every `strides[i]`-th element of `starts[i]..limits[i]` of each axis.
///
/// x: any → dim i is (limits[i] − starts[i]) / strides[i], rounded up.
///
/// Errors: `slice::c1` if the lists do not have one entry for each axis, `slice::c2` if a stride
/// is below 1 or bounds that are numbers lie outside x, `slice::c3` if the result has no dim as
/// an expression because symbolic bounds do not divide by the stride.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// First index of each axis.
    pub starts: Vec<Expr>,
    /// One past the last index of each axis.
    pub limits: Vec<Expr>,
    /// Step of each axis, at least 1.
    pub strides: Vec<i64>,
}

/// Adds a border of one value.
///
/// x: any, value: scalar of its dtype → dim i is low[i] + x.shape[i] + high[i].
///
/// Errors: `pad::c1` if the lists do not have one entry for each axis, `pad::c2` if the value is
/// no scalar of the dtype, `pad::c3` if a width is negative.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// Width before each axis.
    pub low: Vec<Expr>,
    /// Width after each axis.
    pub high: Vec<Expr>,
}

/// Joins operands along an axis.
///
/// Any number of operands, at least one, equal but for the axis.
///
/// Errors: `concat::c1` if there is no such axis, `concat::c2` if operands differ elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    /// The axis along which the operands follow each other.
    pub axis: usize,
}

/// Overwrites a part of an axis, from an index known at run time: the append of a KV cache.
///
/// x: any, update: as x but for the axis, start: i32[] → the type of x. A part that does not lie
/// in x is an error of the evaluation.
///
/// Errors: `update_slice::c1` if there is no such axis, `update_slice::c2` if the update does not
/// fit, `update_slice::c3` if start is not i32[].
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateSlice {
    /// The axis.
    pub axis: usize,
}

/// The length of `start..limit` by `stride`, if it is an expression.
fn steps(start: &Expr, limit: &Expr, stride: i64) -> Option<Expr> {
    let length = limit.clone() - start.clone();
    match length.as_constant() {
        Some(n) => Some(Expr::from((n + i128::from(stride) - 1).div_euclid(i128::from(stride)))),
        None => length.div_exact(&Expr::from(stride)),
    }
}

impl OpDef for Slice {
    const NAME: &'static str = "slice";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        let mut attrs = vec![
            ("starts", Attr::Dims(self.starts.clone())),
            ("limits", Attr::Dims(self.limits.clone())),
        ];
        if self.strides.iter().any(|s| *s != 1) {
            attrs.push(("strides", Attr::Ints(self.strides.clone())));
        }
        attrs
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let starts: Vec<Expr> = attrs.req("starts")?;
        let strides = attrs.opt("strides")?.unwrap_or_else(|| vec![1; starts.len()]);
        Ok(Slice { starts, limits: attrs.req("limits")?, strides })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        check::check_dims(Self::NAME, &self.starts)?;
        check::check_dims(Self::NAME, &self.limits)?;
        let lengths = [self.starts.len(), self.limits.len(), self.strides.len()];
        ensure(lengths.iter().all(|n| *n == x.rank()), "slice::c1", || {
            format!(
                "starts, limits and strides have {lengths:?} entries, {x} has rank {}",
                x.rank()
            )
        })?;
        let mut shape = Vec::new();
        for axis in 0..x.rank() {
            let (start, limit, stride) =
                (&self.starts[axis], &self.limits[axis], self.strides[axis]);
            let inside = |from: &Expr, to: &Expr| {
                (to.clone() - from.clone()).as_constant().is_none_or(|n| n >= 0)
            };
            let valid = stride >= 1 && inside(start, limit) && inside(limit, &x.shape[axis]);
            ensure(valid, "slice::c2", || {
                format!("`{start}..{limit}` by {stride} is no part of axis {axis} of {x}")
            })?;
            shape.push(steps(start, limit, stride).ok_or_else(|| {
                TypeError::new(
                    "slice::c3",
                    format!("`{limit} - {start}` does not divide by {stride}"),
                )
            })?);
        }
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }

    fn map_dims(&self, f: &dyn Fn(&Expr) -> Expr) -> Self {
        Slice {
            starts: self.starts.iter().map(f).collect(),
            limits: self.limits.iter().map(f).collect(),
            strides: self.strides.clone(),
        }
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples::default()
    }
}

impl OpDef for Pad {
    const NAME: &'static str = "pad";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![("low", Attr::Dims(self.low.clone())), ("high", Attr::Dims(self.high.clone()))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Pad { low: attrs.req("low")?, high: attrs.req("high")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, value] = operands(Self::NAME, types)?;
        ensure(self.low.len() == x.rank() && self.high.len() == x.rank(), "pad::c1", || {
            format!("low and high have {} and {} entries for {x}", self.low.len(), self.high.len())
        })?;
        check::ensure_same("pad::c2", "value", value, &TensorType::scalar(x.dtype))?;
        for width in self.low.iter().chain(&self.high) {
            ensure(width.as_constant().is_none_or(|w| w >= 0), "pad::c3", || {
                format!("width `{width}` is negative")
            })?;
        }
        check::check_dims(Self::NAME, &self.low)?;
        check::check_dims(Self::NAME, &self.high)?;
        let padded = self.low.iter().zip(&x.shape).zip(&self.high);
        let shape = padded.map(|((l, d), h)| l.clone() + d.clone() + h.clone()).collect();
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }

    fn map_dims(&self, f: &dyn Fn(&Expr) -> Expr) -> Self {
        Pad { low: self.low.iter().map(f).collect(), high: self.high.iter().map(f).collect() }
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples::default()
    }
}

impl OpDef for Concat {
    const NAME: &'static str = "concat";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![("axis", Attr::Int(self.axis as i64))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Concat { axis: attrs.req("axis")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let first = types.first().ok_or_else(|| {
            TypeError::new("concat::arity", "`concat` takes at least 1 operand, got 0")
        })?;
        ensure(self.axis < first.rank(), "concat::c1", || {
            format!("no axis {} in {first}", self.axis)
        })?;
        let mut result = first.clone();
        for ty in &types[1..] {
            let mut same = ty.clone();
            if let Some(dim) = same.shape.get_mut(self.axis) {
                *dim = first.shape[self.axis].clone();
            }
            ensure(&same == first, "concat::c2", || {
                format!("{ty} differs from {first} outside of axis {}", self.axis)
            })?;
            result.shape[self.axis] += ty.shape[self.axis].clone();
        }
        Ok(vec![result])
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples::default()
    }
}

impl OpDef for UpdateSlice {
    const NAME: &'static str = "update_slice";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![("axis", Attr::Int(self.axis as i64))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(UpdateSlice { axis: attrs.req("axis")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, update, start] = operands(Self::NAME, types)?;
        ensure(self.axis < x.rank(), "update_slice::c1", || {
            format!("no axis {} in {x}", self.axis)
        })?;
        let mut same = update.clone();
        let mut fits = true;
        if let Some(dim) = same.shape.get_mut(self.axis) {
            let own = std::mem::replace(dim, x.shape[self.axis].clone());
            fits = (x.shape[self.axis].clone() - own).as_constant().is_none_or(|n| n >= 0);
        }
        ensure(fits && &same == x, "update_slice::c2", || {
            format!("update {update} does not fit {x} along axis {}", self.axis)
        })?;
        check::ensure_same("update_slice::c3", "start", start, &TensorType::scalar(DType::I32))?;
        Ok(vec![x.clone()])
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples::default()
    }
}
