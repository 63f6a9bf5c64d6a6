//! `silu` and `silu_backward`.
//!
//! y = x · σ(x), where σ(x) = 1 / (1 + e^(−x)).

use super::check;
use crate::attr::{AttrError, AttrReader};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, operands};

/// The sigmoid-weighted linear unit: x·σ(x).
///
/// x: floats of any shape → the type of x. Computed in f32 if the dtype is narrower.
///
/// Errors: `silu::c1` if x is not of floats.
/// Source: Elfwing, Uchibe and Doya 2017, arXiv:1702.03118, eq. 5.
#[derive(Clone, Debug, PartialEq)]
pub struct Silu;

/// Gradient of [`Silu`]: dy·(s·(1 + x·(1 − s))) with s = σ(x).
///
/// x, dy: one float type → dx of that type.
///
/// Errors: `silu_backward::c1` if x is not of floats, `silu_backward::c2` if dy is not of the
/// type of x.
#[derive(Clone, Debug, PartialEq)]
pub struct SiluBackward;

/// σ(x) = recip(1 + exp(−x)).
pub(crate) fn sigmoid(b: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, TypeError> {
    let minus = b.neg(x)?;
    let e = b.exp(minus)?;
    let denominator = b.add_scalar(e, 1.0)?;
    b.recip(denominator)
}

/// (s, s·(1 + x·(1 − s))) with s = σ(x): the sigmoid and the derivative of x·σ(x).
pub(crate) fn slope(b: &mut FunctionBuilder, x: ValueId) -> Result<(ValueId, ValueId), TypeError> {
    let s = sigmoid(b, x)?;
    let rest = b.scalar_sub(1.0, s)?;
    let product = b.mul(x, rest)?;
    let sum = b.add_scalar(product, 1.0)?;
    Ok((s, b.mul(s, sum)?))
}

impl OpDef for Silu {
    const NAME: &'static str = "silu";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Silu)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        check::ensure_float("silu::c1", "x", x)?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let x = b.widen(v[0])?;
        let s = sigmoid(b, x)?;
        let y = b.mul(x, s)?;
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
        let dx = b.op1(SiluBackward, &[input.operands[0], dy])?;
        Ok(Some(vec![Some(input.fold(b, 0, dx)?)]))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 5)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(Silu, [(f32(&[3, 7]), Fill::Normal)], &[0]),
                Sample::new(Silu, [(f32(&[33]), Fill::Normal)], &[0]),
                Sample::new(Silu, [(typed(DType::Bf16, &[9]), Fill::Normal)], &[0]),
                Sample::new(Silu, [(typed(DType::F64, &[2, 2]), Fill::Normal)], &[0]),
            ],
            bad: vec![
                BadSample::new(Silu, [i32(&[3])], "silu::c1"),
                BadSample::new(Silu, [f32(&[3]), f32(&[3])], "silu::arity"),
            ],
        }
    }
}

impl OpDef for SiluBackward {
    const NAME: &'static str = "silu_backward";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(SiluBackward)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, dy] = operands(Self::NAME, types)?;
        check::ensure_float("silu_backward::c1", "x", x)?;
        check::ensure_same("silu_backward::c2", "dy", dy, x)?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let (x, dy) = (b.widen(v[0])?, b.widen(v[1])?);
        let (_, slope) = slope(b, x)?;
        let dx = b.mul(dy, slope)?;
        Ok(vec![b.cast(dx, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 9)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    SiluBackward,
                    [(f32(&[3, 7]), Fill::Normal), (f32(&[3, 7]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    SiluBackward,
                    [(f32(&[33]), Fill::Normal), (f32(&[33]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    SiluBackward,
                    [
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                    ],
                    &[0, 1],
                ),
            ],
            bad: vec![
                BadSample::new(SiluBackward, [i32(&[3]), i32(&[3])], "silu_backward::c1"),
                BadSample::new(SiluBackward, [f32(&[3]), f32(&[4])], "silu_backward::c2"),
            ],
        }
    }
}
