//! `relu` and `relu_backward`: the rectifier max(x, 0).

use super::check;
use crate::attr::{AttrError, AttrReader};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::ops::CompareKind;
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, operands};

/// The rectifier: max(x, 0).
///
/// x: floats of any shape → the type of x. Computed in f32 if the dtype is narrower.
///
/// Errors: `relu::c1` if x is not of floats.
#[derive(Clone, Debug, PartialEq)]
pub struct Relu;

/// Gradient of [`Relu`]: dy where x > 0, else 0.
///
/// x, dy: one float type → dx of that type.
///
/// Errors: `relu_backward::c1` if x is not of floats, `relu_backward::c2` if dy is not of the
/// type of x.
#[derive(Clone, Debug, PartialEq)]
pub struct ReluBackward;

impl OpDef for Relu {
    const NAME: &'static str = "relu";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Relu)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        check::ensure_float("relu::c1", "x", x)?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let x = b.widen(v[0])?;
        let zero = b.constant_like(x, 0.0)?;
        let y = b.max(x, zero)?;
        Ok(vec![b.cast(y, dtype)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let (Some(dy), true) = (input.cotangents[0], input.needed[0]) else {
            return Ok(Some(vec![None]));
        };
        let dx = b.op1(ReluBackward, &[input.operands[0], dy])?;
        Ok(Some(vec![Some(input.fold(b, 0, dx)?)]))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 1)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(Relu, [(f32(&[3, 7]), Fill::Normal)], &[0]),
                Sample::new(Relu, [(f32(&[33]), Fill::Normal)], &[0]),
                Sample::new(Relu, [(typed(DType::Bf16, &[9]), Fill::Normal)], &[0]),
                Sample::new(Relu, [(typed(DType::F64, &[2, 2]), Fill::Normal)], &[0]),
            ],
            bad: vec![
                BadSample::new(Relu, [i32(&[3])], "relu::c1"),
                BadSample::new(Relu, [f32(&[3]), f32(&[3])], "relu::arity"),
            ],
        }
    }
}

impl OpDef for ReluBackward {
    const NAME: &'static str = "relu_backward";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(ReluBackward)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, dy] = operands(Self::NAME, types)?;
        check::ensure_float("relu_backward::c1", "x", x)?;
        check::ensure_same("relu_backward::c2", "dy", dy, x)?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let (x, dy) = (b.widen(v[0])?, b.widen(v[1])?);
        let zero = b.constant_like(x, 0.0)?;
        let positive = b.compare(CompareKind::Gt, x, zero)?;
        let dx = b.select(positive, dy, zero)?;
        Ok(vec![b.cast(dx, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 1)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    ReluBackward,
                    [(f32(&[3, 7]), Fill::Normal), (f32(&[3, 7]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    ReluBackward,
                    [(f32(&[33]), Fill::Normal), (f32(&[33]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    ReluBackward,
                    [
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                    ],
                    &[0, 1],
                ),
            ],
            bad: vec![
                BadSample::new(ReluBackward, [i32(&[3]), i32(&[3])], "relu_backward::c1"),
                BadSample::new(ReluBackward, [f32(&[3]), f32(&[4])], "relu_backward::c2"),
            ],
        }
    }
}
