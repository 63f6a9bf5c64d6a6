//! `gelu_tanh` and `gelu_tanh_backward`.
//!
//! y = 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))

use super::check;
use crate::attr::{AttrError, AttrReader};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, operands};

/// The Gaussian error linear unit by its tanh approximation.
///
/// x: floats of any shape → the type of x. Computed in f32 if the dtype is narrower.
///
/// Errors: `gelu_tanh::c1` if x is not of floats.
/// Source: Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2.
#[derive(Clone, Debug, PartialEq)]
pub struct GeluTanh;

/// Gradient of [`GeluTanh`]: dy·(0.5·(1 + t) + 0.5·x·(1 − t²)·√(2/π)·(1 + 0.134145·x²)), with t the tanh.
///
/// x, dy: one float type → dx of that type.
///
/// Errors: `gelu_tanh_backward::c1` if x is not of floats, `gelu_tanh_backward::c2` if dy is not of the
/// type of x.
#[derive(Clone, Debug, PartialEq)]
pub struct GeluTanhBackward;

/// √(2/π).
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
/// The coefficient of x³.
const CUBIC: f64 = 0.044715;

/// tanh(√(2/π)·(x + 0.044715·((x·x)·x))).
fn inner_tanh(b: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, TypeError> {
    let square = b.mul(x, x)?;
    let cube = b.mul(square, x)?;
    let scaled = b.mul_scalar(cube, CUBIC)?;
    let sum = b.add(x, scaled)?;
    let argument = b.mul_scalar(sum, SQRT_2_OVER_PI)?;
    b.tanh(argument)
}

impl OpDef for GeluTanh {
    const NAME: &'static str = "gelu_tanh";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(GeluTanh)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        check::ensure_float("gelu_tanh::c1", "x", x)?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let x = b.widen(v[0])?;
        let t = inner_tanh(b, x)?;
        let half = b.mul_scalar(x, 0.5)?;
        let sum = b.add_scalar(t, 1.0)?;
        let y = b.mul(half, sum)?;
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
        let dx = b.op1(GeluTanhBackward, &[input.operands[0], dy])?;
        Ok(Some(vec![Some(input.fold(b, 0, dx)?)]))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 9)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(GeluTanh, [(f32(&[3, 7]), Fill::Normal)], &[0]),
                Sample::new(GeluTanh, [(f32(&[33]), Fill::Normal)], &[0]),
                Sample::new(GeluTanh, [(typed(DType::Bf16, &[9]), Fill::Normal)], &[0]),
                Sample::new(GeluTanh, [(typed(DType::F64, &[2, 2]), Fill::Normal)], &[0]),
            ],
            bad: vec![
                BadSample::new(GeluTanh, [i32(&[3])], "gelu_tanh::c1"),
                BadSample::new(GeluTanh, [f32(&[3]), f32(&[3])], "gelu_tanh::arity"),
            ],
        }
    }
}

impl OpDef for GeluTanhBackward {
    const NAME: &'static str = "gelu_tanh_backward";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(GeluTanhBackward)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, dy] = operands(Self::NAME, types)?;
        check::ensure_float("gelu_tanh_backward::c1", "x", x)?;
        check::ensure_same("gelu_tanh_backward::c2", "dy", dy, x)?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let (x, dy) = (b.widen(v[0])?, b.widen(v[1])?);
        let t = inner_tanh(b, x)?;
        let square = b.mul(x, x)?;
        let scaled = b.mul_scalar(square, 3.0 * CUBIC)?;
        let sum = b.add_scalar(scaled, 1.0)?;
        let inner = b.mul_scalar(sum, SQRT_2_OVER_PI)?;
        let sum = b.add_scalar(t, 1.0)?;
        let left = b.mul_scalar(sum, 0.5)?;
        let half = b.mul_scalar(x, 0.5)?;
        let squared = b.mul(t, t)?;
        let rest = b.scalar_sub(1.0, squared)?;
        let right = b.mul(half, rest)?;
        let right = b.mul(right, inner)?;
        let slope = b.add(left, right)?;
        let dx = b.mul(dy, slope)?;
        Ok(vec![b.cast(dx, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 18)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    GeluTanhBackward,
                    [(f32(&[3, 7]), Fill::Normal), (f32(&[3, 7]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    GeluTanhBackward,
                    [(f32(&[33]), Fill::Normal), (f32(&[33]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    GeluTanhBackward,
                    [
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                    ],
                    &[0, 1],
                ),
            ],
            bad: vec![
                BadSample::new(GeluTanhBackward, [i32(&[3]), i32(&[3])], "gelu_tanh_backward::c1"),
                BadSample::new(GeluTanhBackward, [f32(&[3]), f32(&[4])], "gelu_tanh_backward::c2"),
            ],
        }
    }
}
