//! `quantize_rows`: rows of f32 rounded to 8 bits with one scale each, as a KV cache of 8 bits holds keys and
//! values.

use crate::attr::{AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, OpDef};
use crate::ops::{CompareKind, Unary, UnaryKind};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// Rows along the last axis, rounded to 8 bits with a scale of their own, symmetric around 0.
///
/// x: f32 [..., D] → q: i8 [..., D] in −127..=127 and scale: f32 [...], so that x ≈ q·scale. Of a row:
/// s = max |x| / 127 and, where s ≥ 2⁻¹²⁶, q = round(x · (1/s)), ties to even, else q = 0. A row with ∞ or NaN
/// has the scale ∞ or NaN and q = 0, so that q·scale is NaN.
///
/// Errors: `quantize_rows::c1` if x is not f32 [..., D] with a D that is not 0.
/// Source: symmetric rounding as in `Q8_0`, <https://github.com/ggml-org/ggml>, a row at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuantizeRows;

impl OpDef for QuantizeRows {
    const NAME: &'static str = "quantize_rows";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        Vec::new()
    }

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(QuantizeRows)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        let has_rows = x.shape.last().is_some_and(|width| width.as_constant() != Some(0));
        ensure(x.dtype == DType::F32 && has_rows, "quantize_rows::c1", || {
            format!("operand `x` has type {x}, expected f32[..., D]")
        })?;
        let rows = x.shape[..x.rank() - 1].to_vec();
        let q = TensorType { dtype: DType::I8, shape: x.shape.clone() };
        Ok(vec![q, TensorType { dtype: DType::F32, shape: rows }])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let x = v[0];
        let magnitude = b.abs(x)?;
        let largest = b.max_last(magnitude)?;
        let divisor = b.constant_like(largest, 127.0)?;
        let scale = b.div(largest, divisor)?;
        let smallest = b.constant_like(scale, f64::from(f32::MIN_POSITIVE))?;
        let is_normal = b.compare(CompareKind::Ge, scale, smallest)?;
        let (factor, zero) = (b.recip(scale)?, b.constant_like(scale, 0.0)?);
        let factor = b.select(is_normal, factor, zero)?;
        let factor = b.broadcast_last(factor, x)?;
        let q = b.mul(x, factor)?;
        let q = b.op1(Unary { kind: UnaryKind::Round }, &[q])?;
        Ok(vec![b.cast(q, DType::I8)?, scale])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 3)
    }

    fn samples() -> Samples {
        let sample = |shape: &[usize]| Sample::new(QuantizeRows, [(f32(shape), Fill::Normal)], &[]);
        let bad = |types: Vec<TensorType>, code| BadSample::new(QuantizeRows, types, code);
        Samples {
            good: vec![
                sample(&[2, 3, 2, 16]),
                sample(&[5, 7]),
                sample(&[33]),
                sample(&[0, 4]),
                sample(&[4, 1]),
            ],
            bad: vec![
                bad(vec![f32(&[])], "quantize_rows::c1"),
                bad(vec![f32(&[3, 0])], "quantize_rows::c1"),
                bad(vec![typed(DType::Bf16, &[3, 4])], "quantize_rows::c1"),
                bad(vec![], "quantize_rows::arity"),
            ],
        }
    }
}
