//! `relu_squared`: the squared rectifier max(x, 0)².

use super::check;
use crate::attr::{AttrError, AttrReader};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, OpDef};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, operands};

/// The squared rectifier: max(x, 0)².
///
/// x: floats of any shape → the type of x.
///
/// Errors: `relu_squared::c1` if x is not of floats.
/// Source: So et al. 2021, arXiv:2109.08668, section 4.2.
#[derive(Clone, Debug, PartialEq)]
pub struct ReluSquared;

impl OpDef for ReluSquared {
    const NAME: &'static str = "relu_squared";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(ReluSquared)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        check::ensure_float("relu_squared::c1", "x", x)?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let zero = b.constant_like(v[0], 0.0)?;
        let positive = b.max(v[0], zero)?;
        Ok(vec![b.mul(positive, positive)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 2)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(ReluSquared, [(f32(&[3, 7]), Fill::Normal)], &[0]),
                Sample::new(ReluSquared, [(typed(DType::Bf16, &[9]), Fill::Normal)], &[0]),
            ],
            bad: vec![BadSample::new(ReluSquared, [i32(&[3])], "relu_squared::c1")],
        }
    }
}
