//! `softmax` over the last axis.
//!
//! y = exp(x − max(x)) / sum(exp(x − max(x)))

use super::check;
use crate::attr::{AttrError, AttrReader};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// Softmax over the last axis.
///
/// x: floats [..., N] → the type of x. Computed in f32 if the dtype is narrower.
///
/// Errors: `softmax::c1` if x is not of floats with an axis.
/// Source: Bridle 1990, "Probabilistic interpretation of feedforward classification network
/// outputs".
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax;

/// exp(x − max(x)), the maximum and the sum of the exponentials over the last axis.
pub(crate) fn exponentials(
    b: &mut FunctionBuilder,
    x: ValueId,
) -> Result<(ValueId, ValueId, ValueId), TypeError> {
    let max = b.max_last(x)?;
    let wide = b.broadcast_last(max, x)?;
    let shifted = b.sub(x, wide)?;
    let e = b.exp(shifted)?;
    let sum = b.sum_last(e)?;
    Ok((e, max, sum))
}

/// e·recip(sum(e)).
pub(crate) fn softmax(b: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, TypeError> {
    let (e, _, sum) = exponentials(b, x)?;
    let inverse = b.recip(sum)?;
    let inverse = b.broadcast_last(inverse, x)?;
    b.mul(e, inverse)
}

impl OpDef for Softmax {
    const NAME: &'static str = "softmax";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Softmax)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        check::ensure_float("softmax::c1", "x", x)?;
        ensure(x.rank() >= 1, "softmax::c1", || "a scalar has no last axis".to_string())?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let x = b.widen(v[0])?;
        let y = softmax(b, x)?;
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
        // dx = y·(dy − sum(dy·y))
        let dtype = b.ty(dy).dtype;
        let (y, dy) = (b.widen(input.results[0])?, b.widen(dy)?);
        let product = b.mul(dy, y)?;
        let sum = b.sum_last(product)?;
        let sum = b.broadcast_last(sum, y)?;
        let difference = b.sub(dy, sum)?;
        let dx = b.mul(y, difference)?;
        let dx = b.cast(dx, dtype)?;
        Ok(Some(vec![Some(input.fold(b, 0, dx)?)]))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 4)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(Softmax, [(f32(&[3, 7]), Fill::Normal)], &[0]),
                Sample::new(Softmax, [(f32(&[33]), Fill::Normal)], &[0]),
                Sample::new(Softmax, [(typed(DType::Bf16, &[2, 9]), Fill::Normal)], &[0]),
            ],
            bad: vec![
                BadSample::new(Softmax, [f32(&[])], "softmax::c1"),
                BadSample::new(Softmax, [i32(&[3])], "softmax::c1"),
            ],
        }
    }
}
