//! `concat` and `update_slice`: tensors put together along an axis.

use super::check;
use super::check::result_shape;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{self, EvalError, Mode, Tensor};
use crate::module::Module;
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32};
use crate::types::{DType, TensorType, TypeError, ensure, operands};
use llmc_base::Expr;

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
/// x: any, update: as x but for the axis, start: i32[], or i32 \[B\] with the first dim B of x: an
/// index for each row → the type of x. A part that does not lie in x is an error of the evaluation.
///
/// Errors: `update_slice::c1` if there is no such axis, `update_slice::c2` if the update does not
/// fit, `update_slice::c3` if start is neither i32[] nor, for an axis after the first, i32 \[B\].
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateSlice {
    /// The axis.
    pub axis: usize,
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

    fn eval(&self, v: &[&Tensor], _: Mode) -> Result<Vec<Tensor>, EvalError> {
        let shape = result_shape(self, v)?;
        Ok(vec![eval::concat(self, v, shape)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None; input.operands.len()];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        let mut start = Expr::default();
        for (i, operand) in input.operands.iter().enumerate() {
            let limit = start.clone() + b.ty(*operand).shape[self.axis].clone();
            if input.needed[i] {
                let part = b.slice(dy, self.axis, start, limit.clone())?;
                out[i] = Some(input.fold(b, i, part)?);
            }
            start = limit;
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
                    Concat { axis: 1 },
                    [
                        (f32(&[2, 3]), Fill::Normal),
                        (f32(&[2, 1]), Fill::Normal),
                        (f32(&[2, 4]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(Concat { axis: 0 }, [(f32(&[2, 3]), Fill::Normal)], &[0]),
                Sample::new(
                    Concat { axis: 0 },
                    [(i32(&[2]), Fill::Normal), (i32(&[0]), Fill::Normal)],
                    &[],
                ),
            ],
            bad: vec![
                BadSample::new(Concat { axis: 0 }, [], "concat::arity"),
                BadSample::new(Concat { axis: 1 }, [f32(&[2])], "concat::c1"),
                BadSample::new(Concat { axis: 0 }, [f32(&[2, 3]), f32(&[2, 4])], "concat::c2"),
                BadSample::new(Concat { axis: 0 }, [f32(&[2, 3]), f32(&[2])], "concat::c2"),
                BadSample::new(Concat { axis: 0 }, [f32(&[2]), i32(&[2])], "concat::c2"),
            ],
        }
    }
}

impl UpdateSlice {
    /// Whether start of this type has an index for each row instead of one for all.
    fn has_start_per_row(&self, start: &TensorType) -> bool {
        start.rank() == 1 && self.axis > 0
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
        if self.has_start_per_row(start) {
            let rows = TensorType::new(DType::I32, [x.shape[0].clone()]);
            check::ensure_same("update_slice::c3", "start", start, &rows)?;
        } else {
            let scalar = TensorType::scalar(DType::I32);
            check::ensure_same("update_slice::c3", "start", start, &scalar)?;
        }
        Ok(vec![x.clone()])
    }

    fn eval(&self, v: &[&Tensor], _: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::update_slice(self, v[0], v[1], v[2])?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None, None, None];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        let (update, start) = (input.operands[1], input.operands[2]);
        if input.needed[0] {
            let zero = b.constant_like(update, 0.0)?;
            let dx = b.op1(self.clone(), &[dy, zero, start])?;
            out[0] = Some(input.fold(b, 0, dx)?);
        }
        if input.needed[1] {
            let length = b.ty(update).shape[self.axis].clone();
            let start_ty = b.ty(start).clone();
            let part = if self.has_start_per_row(&start_ty) {
                let dims = [start_ty.shape[0].clone(), length];
                let index = b.iota(DType::I32, &dims, 1)?;
                let start = b.broadcast(start, &dims, &[0])?;
                let index = b.add(index, start)?;
                b.gather(dy, index, self.axis, 1)?
            } else {
                let index = b.iota(DType::I32, &[length], 0)?;
                let start = b.splat_like(start, index)?;
                let index = b.add(index, start)?;
                b.gather(dy, index, self.axis, 0)?
            };
            out[1] = Some(input.fold(b, 1, part)?);
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
                    UpdateSlice { axis: 1 },
                    [
                        (f32(&[2, 7, 3]), Fill::Normal),
                        (f32(&[2, 4, 3]), Fill::Normal),
                        (i32(&[]), Fill::Constant(2.0)),
                    ],
                    &[0, 1],
                ),
                Sample::new(
                    UpdateSlice { axis: 0 },
                    [
                        (f32(&[5]), Fill::Normal),
                        (f32(&[5]), Fill::Normal),
                        (i32(&[]), Fill::Constant(0.0)),
                    ],
                    &[0, 1],
                ),
                // An index for each row: 0, 1, 2.
                Sample::new(
                    UpdateSlice { axis: 1 },
                    [
                        (f32(&[3, 5, 2]), Fill::Normal),
                        (f32(&[3, 3, 2]), Fill::Normal),
                        (i32(&[3]), Fill::Positions),
                    ],
                    &[0, 1],
                ),
                Sample::new(
                    UpdateSlice { axis: 0 },
                    [
                        (i32(&[5]), Fill::Normal),
                        (i32(&[0]), Fill::Normal),
                        (i32(&[]), Fill::Constant(5.0)),
                    ],
                    &[],
                ),
            ],
            bad: vec![
                BadSample::new(
                    UpdateSlice { axis: 1 },
                    [f32(&[5]), f32(&[2]), i32(&[])],
                    "update_slice::c1",
                ),
                BadSample::new(
                    UpdateSlice { axis: 0 },
                    [f32(&[5]), f32(&[6]), i32(&[])],
                    "update_slice::c2",
                ),
                BadSample::new(
                    UpdateSlice { axis: 0 },
                    [f32(&[5, 2]), f32(&[2, 3]), i32(&[])],
                    "update_slice::c2",
                ),
                BadSample::new(
                    UpdateSlice { axis: 0 },
                    [f32(&[5]), f32(&[2]), i32(&[1])],
                    "update_slice::c3",
                ),
                BadSample::new(
                    UpdateSlice { axis: 1 },
                    [f32(&[2, 5]), f32(&[2, 1]), i32(&[3])],
                    "update_slice::c3",
                ),
            ],
        }
    }
}
