//! `reshape`, `transpose`, `broadcast`: the same elements under another shape.

use super::check;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{self, EvalError, Mode, Tensor};
use crate::module::Module;
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::ops::{Order, Reduce, ReduceKind, compute_dtype};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};
use llmc_base::Expr;

/// The same elements in row-major order under other dims.
///
/// x: any → dims.
///
/// Errors: `reshape::c1` if the number of elements differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Reshape {
    /// Dims of the result.
    pub dims: Vec<Expr>,
}

/// Reorders axes: axis i of the result is axis `perm[i]` of x.
///
/// Errors: `transpose::c1` if `perm` is no permutation of the axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Transpose {
    /// The permutation.
    pub perm: Vec<usize>,
}

/// Repeats x along new axes.
///
/// x: any → dims, where axis i of x is axis `axes[i]` of the result and the other axes of the
/// result are new. A dim of 1 is not stretched; reshape it away first.
///
/// Errors: `broadcast::c1` if the axes are not strictly increasing axes of the result, one for
/// each of x; `broadcast::c2` if a dim of x differs from its dim of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Broadcast {
    /// Dims of the result.
    pub dims: Vec<Expr>,
    /// Where the axes of x go, strictly increasing.
    pub axes: Vec<usize>,
}

impl Broadcast {
    /// The axes of the result that x does not have, in order.
    pub fn new_axes(&self) -> Vec<usize> {
        (0..self.dims.len()).filter(|axis| !self.axes.contains(axis)).collect()
    }
}

impl OpDef for Reshape {
    const NAME: &'static str = "reshape";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![("dims", Attr::Dims(self.dims.clone()))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Reshape { dims: attrs.req("dims")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        check::check_dims(Self::NAME, &self.dims)?;
        let result = TensorType { dtype: x.dtype, shape: self.dims.clone() };
        ensure(x.numel() == result.numel(), "reshape::c1", || {
            format!("{x} has {} elements, {result} has {}", x.numel(), result.numel())
        })?;
        Ok(vec![result])
    }

    fn map_dims(&self, f: &dyn Fn(&Expr) -> Expr) -> Self {
        Reshape { dims: self.dims.iter().map(f).collect() }
    }

    fn eval(&self, v: &[&Tensor], _: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::reshape(&self.dims, v[0])?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let (Some(dy), true) = (input.cotangents[0], input.needed[0]) else {
            return Ok(Some(vec![None]));
        };
        let dims = b.ty(input.operands[0]).shape.clone();
        let dx = b.reshape(dy, dims)?;
        Ok(Some(vec![Some(input.fold(b, 0, dx)?)]))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Reshape { dims: vec![3.into(), 4.into()] },
                    [(f32(&[2, 6]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Reshape { dims: vec![1.into(), 5.into(), 1.into()] },
                    [(f32(&[5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(Reshape { dims: vec![] }, [(f32(&[1, 1]), Fill::Normal)], &[0]),
                Sample::new(
                    Reshape { dims: vec![0.into(), 7.into()] },
                    [(i32(&[3, 0]), Fill::Normal)],
                    &[],
                ),
            ],
            bad: vec![BadSample::new(
                Reshape { dims: vec![5.into()] },
                [f32(&[2, 3])],
                "reshape::c1",
            )],
        }
    }
}

impl OpDef for Transpose {
    const NAME: &'static str = "transpose";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![("perm", check::axes_attr(&self.perm))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Transpose { perm: check::axes(attrs, "perm")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        let is_permutation = self.perm.len() == x.rank() && check::distinct(&self.perm, x.rank());
        ensure(is_permutation, "transpose::c1", || {
            format!("{:?} is no permutation of the axes of {x}", self.perm)
        })?;
        let shape = self.perm.iter().map(|axis| x.shape[*axis].clone()).collect();
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }

    fn eval(&self, v: &[&Tensor], _: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::transpose(&self.perm, v[0])])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let (Some(dy), true) = (input.cotangents[0], input.needed[0]) else {
            return Ok(Some(vec![None]));
        };
        let mut inverse = vec![0; self.perm.len()];
        for (i, axis) in self.perm.iter().enumerate() {
            inverse[*axis] = i;
        }
        let dx = b.transpose(dy, &inverse)?;
        Ok(Some(vec![Some(input.fold(b, 0, dx)?)]))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(Transpose { perm: vec![1, 0] }, [(f32(&[3, 5]), Fill::Normal)], &[0]),
                Sample::new(
                    Transpose { perm: vec![2, 0, 1] },
                    [(f32(&[2, 3, 5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Transpose { perm: vec![0, 2, 1, 3] },
                    [(i32(&[2, 3, 5, 4]), Fill::Normal)],
                    &[],
                ),
                Sample::new(Transpose { perm: vec![] }, [(f32(&[]), Fill::Normal)], &[0]),
            ],
            bad: vec![
                BadSample::new(Transpose { perm: vec![0] }, [f32(&[2, 3])], "transpose::c1"),
                BadSample::new(Transpose { perm: vec![0, 0] }, [f32(&[2, 3])], "transpose::c1"),
            ],
        }
    }
}

impl OpDef for Broadcast {
    const NAME: &'static str = "broadcast";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        let mut attrs = vec![("dims", Attr::Dims(self.dims.clone()))];
        if !self.axes.is_empty() {
            attrs.push(("axes", check::axes_attr(&self.axes)));
        }
        attrs
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Broadcast { dims: attrs.req("dims")?, axes: check::axes_or_none(attrs, "axes")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        let valid = self.axes.len() == x.rank() && check::increasing(&self.axes, self.dims.len());
        ensure(valid, "broadcast::c1", || {
            format!(
                "{:?} does not place the axes of {x} in <{}>",
                self.axes,
                check::shape_text(&self.dims)
            )
        })?;
        for (axis, dim) in self.axes.iter().zip(&x.shape) {
            ensure(&self.dims[*axis] == dim, "broadcast::c2", || {
                format!(
                    "dim `{dim}` of {x} differs from dim {axis} of <{}>",
                    check::shape_text(&self.dims)
                )
            })?;
        }
        Ok(vec![TensorType { dtype: x.dtype, shape: self.dims.clone() }])
    }

    fn map_dims(&self, f: &dyn Fn(&Expr) -> Expr) -> Self {
        Broadcast { dims: self.dims.iter().map(f).collect(), axes: self.axes.clone() }
    }

    fn eval(&self, v: &[&Tensor], _: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::broadcast(self, v[0])?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let (Some(dy), true) = (input.cotangents[0], input.needed[0]) else {
            return Ok(Some(vec![None]));
        };
        // One chain in row-major order of the new axes: token order, if they are tokens.
        let dtype = b.ty(dy).dtype;
        let acc = compute_dtype(dtype);
        let into = input.accumulators[0].filter(|a| b.ty(*a).dtype == acc);
        let axes = self.new_axes();
        let op = Reduce { kind: ReduceKind::Sum, axes, order: Order::Chain, acc };
        let sum = b.token_sum(op, &[dy], into)?;
        let dx = match into {
            Some(_) => sum,
            None => {
                let sum = b.cast(sum, dtype)?;
                input.fold(b, 0, sum)?
            }
        };
        Ok(Some(vec![Some(dx)]))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Broadcast { dims: vec![2.into(), 3.into(), 5.into()], axes: vec![2] },
                    [(f32(&[5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Broadcast { dims: vec![2.into(), 3.into(), 5.into()], axes: vec![0, 1] },
                    [(f32(&[2, 3]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Broadcast { dims: vec![4.into()], axes: vec![] },
                    [(f32(&[]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Broadcast { dims: vec![2.into(), 3.into()], axes: vec![0, 1] },
                    [(f32(&[2, 3]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Broadcast { dims: vec![2.into(), 3.into(), 5.into()], axes: vec![1] },
                    [(typed(DType::Bf16, &[3]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Broadcast { dims: vec![2.into(), 3.into()], axes: vec![1] },
                    [(typed(DType::Bool, &[3]), Fill::Normal)],
                    &[],
                ),
            ],
            bad: vec![
                BadSample::new(
                    Broadcast { dims: vec![2.into(), 3.into()], axes: vec![] },
                    [f32(&[3])],
                    "broadcast::c1",
                ),
                BadSample::new(
                    Broadcast { dims: vec![2.into(), 3.into()], axes: vec![1, 0] },
                    [f32(&[3, 2])],
                    "broadcast::c1",
                ),
                BadSample::new(
                    Broadcast { dims: vec![2.into(), 3.into()], axes: vec![1] },
                    [f32(&[1])],
                    "broadcast::c2",
                ),
            ],
        }
    }
}
