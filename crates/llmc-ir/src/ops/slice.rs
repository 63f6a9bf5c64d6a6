//! `slice` and `pad`: a part of a tensor, and a border around it.

use super::check;
use super::check::result_shape;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{self, EvalError, Mode, Tensor};
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32};
use crate::types::{DType, TensorType, TypeError, ensure, operands};
use llmc_base::Expr;

/// Every `strides[i]`-th element of `starts[i]..limits[i]` of each axis.
///
/// x: any → dim i is (`limits[i]` − `starts[i]`) / `strides[i]`, rounded up.
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
/// x: any, value: scalar of its dtype → dim i is `low[i]` + `x.shape[i]` + `high[i]`.
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

/// The length of `start..limit` by `stride`, if it is an expression.
fn steps(start: &Expr, limit: &Expr, stride: i64) -> Option<Expr> {
    let length = limit.clone() - start.clone();
    match length.as_constant() {
        Some(n) => Some(Expr::from((n + i128::from(stride) - 1).div_euclid(i128::from(stride)))),
        None => length.div_exact(&Expr::from(stride)),
    }
}

/// Puts `stride` − 1 zeros between the elements of an axis: length n becomes (n − 1)·stride + 1.
fn spread(
    b: &mut FunctionBuilder,
    x: ValueId,
    axis: usize,
    stride: i64,
) -> Result<ValueId, TypeError> {
    let shape = b.ty(x).shape.clone();
    let mut split = shape.clone();
    split.insert(axis + 1, Expr::from(1));
    let mut high = vec![Expr::default(); split.len()];
    high[axis + 1] = Expr::from(stride - 1);
    let low = vec![Expr::default(); split.len()];
    let mut joined = shape.clone();
    joined[axis] = shape[axis].clone() * stride;
    let x = b.reshape(x, split)?;
    let x = b.pad(x, &low, &high, 0.0)?;
    let limit = joined[axis].clone() - (stride - 1);
    let x = b.reshape(x, joined)?;
    b.slice(x, axis, 0, limit)
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

    fn eval(&self, v: &[&Tensor], _: Mode) -> Result<Vec<Tensor>, EvalError> {
        let shape = result_shape(self, v)?;
        Ok(vec![eval::slice(self, v[0], shape)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let (Some(dy), true) = (input.cotangents[0], input.needed[0]) else {
            return Ok(Some(vec![None]));
        };
        let shape = b.ty(input.operands[0]).shape.clone();
        let mut dx = dy;
        let mut high = Vec::new();
        for (axis, stride) in self.strides.iter().enumerate() {
            let length = b.ty(dx).shape[axis].clone();
            let mut covered = length.clone();
            if *stride > 1 && length != Expr::from(0) {
                dx = spread(b, dx, axis, *stride)?;
                covered = b.ty(dx).shape[axis].clone();
            }
            high.push(shape[axis].clone() - self.starts[axis].clone() - covered);
        }
        let dx = b.pad(dx, &self.starts, &high, 0.0)?;
        Ok(Some(vec![Some(input.fold(b, 0, dx)?)]))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        let symbolic =
            Slice { starts: vec![0.into()], limits: vec![Expr::symbol("T")], strides: vec![2] };
        Samples {
            good: vec![
                Sample::new(
                    Slice {
                        starts: vec![0.into(), 1.into()],
                        limits: vec![2.into(), 4.into()],
                        strides: vec![1, 1],
                    },
                    [(f32(&[3, 5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Slice { starts: vec![1.into()], limits: vec![10.into()], strides: vec![3] },
                    [(f32(&[11]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Slice {
                        starts: vec![0.into(), 2.into()],
                        limits: vec![2.into(), 7.into()],
                        strides: vec![1, 2],
                    },
                    [(f32(&[2, 7]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Slice { starts: vec![2.into()], limits: vec![2.into()], strides: vec![1] },
                    [(f32(&[4]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Slice { starts: vec![0.into()], limits: vec![5.into()], strides: vec![5] },
                    [(i32(&[5]), Fill::Normal)],
                    &[],
                ),
            ],
            bad: vec![
                BadSample::new(
                    Slice { starts: vec![0.into()], limits: vec![1.into()], strides: vec![1] },
                    [f32(&[3, 5])],
                    "slice::c1",
                ),
                BadSample::new(
                    Slice { starts: vec![2.into()], limits: vec![1.into()], strides: vec![1] },
                    [f32(&[3])],
                    "slice::c2",
                ),
                BadSample::new(
                    Slice { starts: vec![0.into()], limits: vec![4.into()], strides: vec![1] },
                    [f32(&[3])],
                    "slice::c2",
                ),
                BadSample::new(
                    Slice { starts: vec![0.into()], limits: vec![3.into()], strides: vec![0] },
                    [f32(&[3])],
                    "slice::c2",
                ),
                BadSample::new(
                    symbolic,
                    [TensorType::new(DType::F32, [Expr::symbol("T")])],
                    "slice::c3",
                ),
            ],
        }
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

    fn eval(&self, v: &[&Tensor], _: Mode) -> Result<Vec<Tensor>, EvalError> {
        let shape = result_shape(self, v)?;
        Ok(vec![eval::pad(self, v[0], v[1], shape)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None, None];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        let ty = b.ty(input.operands[0]).clone();
        if input.needed[0] {
            let limits = self.low.iter().zip(&ty.shape).map(|(l, d)| l.clone() + d.clone());
            let strides = vec![1; ty.rank()];
            let op = Slice { starts: self.low.clone(), limits: limits.collect(), strides };
            let dx = b.op1(op, &[dy])?;
            out[0] = Some(input.fold(b, 0, dx)?);
        }
        if input.needed[1] {
            // 1 on the border, 0 inside.
            let inside = b.constant(&ty, 0.0)?;
            let border = b.pad(inside, &self.low, &self.high, 1.0)?;
            let part = b.mul(dy, border)?;
            let axes: Vec<usize> = (0..ty.rank()).collect();
            let sum = b.sum_chain(part, &axes)?;
            out[1] = Some(input.fold(b, 1, sum)?);
        }
        Ok(Some(out))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Pad { low: vec![1.into(), 0.into()], high: vec![0.into(), 2.into()] },
                    [(f32(&[2, 3]), Fill::Normal), (f32(&[]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    Pad { low: vec![0.into()], high: vec![0.into()] },
                    [(f32(&[3]), Fill::Normal), (f32(&[]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    Pad { low: vec![2.into()], high: vec![1.into()] },
                    [(i32(&[3]), Fill::Normal), (i32(&[]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Pad { low: vec![], high: vec![] },
                    [(f32(&[]), Fill::Normal), (f32(&[]), Fill::Normal)],
                    &[0],
                ),
            ],
            bad: vec![
                BadSample::new(
                    Pad { low: vec![1.into()], high: vec![1.into()] },
                    [f32(&[2, 3]), f32(&[])],
                    "pad::c1",
                ),
                BadSample::new(
                    Pad { low: vec![1.into()], high: vec![1.into()] },
                    [f32(&[2]), i32(&[])],
                    "pad::c2",
                ),
                BadSample::new(
                    Pad { low: vec![1.into()], high: vec![1.into()] },
                    [f32(&[2]), f32(&[1])],
                    "pad::c2",
                ),
                BadSample::new(
                    Pad { low: vec![(-1).into()], high: vec![1.into()] },
                    [f32(&[2]), f32(&[])],
                    "pad::c3",
                ),
            ],
        }
    }
}
