//! `gelu` and `gelu_backward`.
//!
//! y = x · Φ(x), with Φ the normal distribution function.

use super::check;
use crate::attr::{AttrError, AttrReader};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, operands};

/// The Gaussian error linear unit: x·Φ(x), exact by erf.
///
/// x: floats of any shape → the type of x. Computed in f32 if the dtype is narrower.
///
/// Errors: `gelu::c1` if x is not of floats.
/// Source: Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2.
#[derive(Clone, Debug, PartialEq)]
pub struct Gelu;

/// Gradient of [`Gelu`]: dy·(Φ(x) + x·φ(x)).
///
/// x, dy: one float type → dx of that type.
///
/// Errors: `gelu_backward::c1` if x is not of floats, `gelu_backward::c2` if dy is not of the
/// type of x.
#[derive(Clone, Debug, PartialEq)]
pub struct GeluBackward;

/// 1/√(2π), the height of the normal density.
const INV_SQRT_TAU: f64 = 0.398_942_280_401_432_7;

/// 1 + erf(x/√2).
fn one_plus_erf(b: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, TypeError> {
    let scaled = b.mul_scalar(x, std::f64::consts::FRAC_1_SQRT_2)?;
    let erf = b.erf(scaled)?;
    b.add_scalar(erf, 1.0)
}

impl OpDef for Gelu {
    const NAME: &'static str = "gelu";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Gelu)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        check::ensure_float("gelu::c1", "x", x)?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let x = b.widen(v[0])?;
        let sum = one_plus_erf(b, x)?;
        let half = b.mul_scalar(x, 0.5)?;
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
        let dx = b.op1(GeluBackward, &[input.operands[0], dy])?;
        Ok(Some(vec![Some(input.fold(b, 0, dx)?)]))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 5)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(Gelu, [(f32(&[3, 7]), Fill::Normal)], &[0]),
                Sample::new(Gelu, [(f32(&[33]), Fill::Normal)], &[0]),
                Sample::new(Gelu, [(typed(DType::Bf16, &[9]), Fill::Normal)], &[0]),
                Sample::new(Gelu, [(typed(DType::F64, &[2, 2]), Fill::Normal)], &[0]),
            ],
            bad: vec![
                BadSample::new(Gelu, [i32(&[3])], "gelu::c1"),
                BadSample::new(Gelu, [f32(&[3]), f32(&[3])], "gelu::arity"),
            ],
        }
    }
}

impl OpDef for GeluBackward {
    const NAME: &'static str = "gelu_backward";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(GeluBackward)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, dy] = operands(Self::NAME, types)?;
        check::ensure_float("gelu_backward::c1", "x", x)?;
        check::ensure_same("gelu_backward::c2", "dy", dy, x)?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let (x, dy) = (b.widen(v[0])?, b.widen(v[1])?);
        let sum = one_plus_erf(b, x)?;
        let cdf = b.mul_scalar(sum, 0.5)?;
        let square = b.mul(x, x)?;
        let exponent = b.mul_scalar(square, -0.5)?;
        let e = b.exp(exponent)?;
        let pdf = b.mul_scalar(e, INV_SQRT_TAU)?;
        let product = b.mul(x, pdf)?;
        let slope = b.add(cdf, product)?;
        let dx = b.mul(dy, slope)?;
        Ok(vec![b.cast(dx, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 10)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    GeluBackward,
                    [(f32(&[3, 7]), Fill::Normal), (f32(&[3, 7]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    GeluBackward,
                    [(f32(&[33]), Fill::Normal), (f32(&[33]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    GeluBackward,
                    [
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                    ],
                    &[0, 1],
                ),
            ],
            bad: vec![
                BadSample::new(GeluBackward, [i32(&[3]), i32(&[3])], "gelu_backward::c1"),
                BadSample::new(GeluBackward, [f32(&[3]), f32(&[4])], "gelu_backward::c2"),
            ],
        }
    }
}
