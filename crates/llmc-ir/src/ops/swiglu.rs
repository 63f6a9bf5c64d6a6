//! `swiglu` and `swiglu_backward`: the gated unit silu(gate) · up.

use super::check;
use super::silu::{sigmoid, slope};
use crate::attr::{AttrError, AttrReader};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, operands};

/// The gated unit: silu(gate)·up.
///
/// gate, up: one float type → that type. Computed in f32 if the dtype is narrower.
///
/// Errors: `swiglu::c1` if the gate is not of floats, `swiglu::c2` if up differs from it.
/// Source: Shazeer 2020, arXiv:2002.05202, eq. 6.
#[derive(Clone, Debug, PartialEq)]
pub struct Swiglu;

/// Gradient of [`Swiglu`].
///
/// gate, up, dy: one float type → dgate, dup of that type.
///
/// Errors: `swiglu_backward::c1` if the gate is not of floats, `swiglu_backward::c2` if up or dy
/// differs from it.
#[derive(Clone, Debug, PartialEq)]
pub struct SwigluBackward;

impl OpDef for Swiglu {
    const NAME: &'static str = "swiglu";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Swiglu)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [gate, up] = operands(Self::NAME, types)?;
        check::ensure_float("swiglu::c1", "gate", gate)?;
        check::ensure_same("swiglu::c2", "up", up, gate)?;
        Ok(vec![gate.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let (gate, up) = (b.widen(v[0])?, b.widen(v[1])?);
        let s = sigmoid(b, gate)?;
        let a = b.mul(gate, s)?;
        let y = b.mul(a, up)?;
        Ok(vec![b.cast(y, dtype)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None, None];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        let grads = b.op(SwigluBackward, &[input.operands[0], input.operands[1], dy])?;
        for i in 0..2 {
            if input.needed[i] {
                out[i] = Some(input.fold(b, i, grads[i])?);
            }
        }
        Ok(Some(out))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 6)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Swiglu,
                    [(f32(&[3, 7]), Fill::Normal), (f32(&[3, 7]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    Swiglu,
                    [(f32(&[33]), Fill::Normal), (f32(&[33]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    Swiglu,
                    [
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                    ],
                    &[0, 1],
                ),
            ],
            bad: vec![
                BadSample::new(Swiglu, [i32(&[3]), i32(&[3])], "swiglu::c1"),
                BadSample::new(Swiglu, [f32(&[3]), f32(&[4])], "swiglu::c2"),
            ],
        }
    }
}

impl OpDef for SwigluBackward {
    const NAME: &'static str = "swiglu_backward";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(SwigluBackward)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [gate, up, dy] = operands(Self::NAME, types)?;
        check::ensure_float("swiglu_backward::c1", "gate", gate)?;
        check::ensure_same("swiglu_backward::c2", "up", up, gate)?;
        check::ensure_same("swiglu_backward::c2", "dy", dy, gate)?;
        Ok(vec![gate.clone(), gate.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let (gate, up, dy) = (b.widen(v[0])?, b.widen(v[1])?, b.widen(v[2])?);
        let (s, slope) = slope(b, gate)?;
        let a = b.mul(gate, s)?;
        let dup = b.mul(dy, a)?;
        let left = b.mul(dy, up)?;
        let dgate = b.mul(left, slope)?;
        Ok(vec![b.cast(dgate, dtype)?, b.cast(dup, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 12)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    SwigluBackward,
                    [
                        (f32(&[3, 7]), Fill::Normal),
                        (f32(&[3, 7]), Fill::Normal),
                        (f32(&[3, 7]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(
                    SwigluBackward,
                    [
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
            ],
            bad: vec![
                BadSample::new(
                    SwigluBackward,
                    [i32(&[3]), i32(&[3]), i32(&[3])],
                    "swiglu_backward::c1",
                ),
                BadSample::new(
                    SwigluBackward,
                    [f32(&[3]), f32(&[4]), f32(&[3])],
                    "swiglu_backward::c2",
                ),
                BadSample::new(
                    SwigluBackward,
                    [f32(&[3]), f32(&[3]), f32(&[4])],
                    "swiglu_backward::c2",
                ),
            ],
        }
    }
}
