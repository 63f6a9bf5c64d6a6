//! `dropout`: zeros a random part of the elements and scales the rest.

use super::random::check_random;
use super::{CompareKind, RandomBits};
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// Zeros each element with probability `rate` and multiplies the others by 1/(1 − rate).
///
/// x: floats [B, ...], key: `u32[2]`, step: u32[], sample: `u32[B]` → the type of x. Whether an element
/// stays depends on (key, stream, step, its sample, its place in the sample) alone, so that neither
/// call order nor the batch split matters. Its gradient is the same op on the cotangent.
///
/// Errors: `dropout::c1` if x is not floats [B, ...] with the B of the samples, `dropout::c2` if the
/// rate is not in 0..1, `dropout::c3` if key, step or sample has another type.
/// Source: Srivastava et al. 2014, JMLR 15(56), section 10.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of a zero, in 0..1.
    pub rate: f64,
    /// Tells one dropout of a model from another; mixed into the key.
    pub stream: u64,
}

impl OpDef for Dropout {
    const NAME: &'static str = "dropout";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        // The text form has no unsigned 64-bit integers; the bits are kept.
        vec![("rate", Attr::Float(self.rate)), ("stream", Attr::Int(self.stream as i64))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Dropout { rate: attrs.req("rate")?, stream: attrs.req::<i64>("stream")? as u64 })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, key, step, sample] = operands(Self::NAME, types)?;
        ensure(
            x.dtype.is_float() && x.shape.first() == sample.shape.first(),
            "dropout::c1",
            || format!("operand `x` has type {x}, expected floats [B, ...] with the B of {sample}"),
        )?;
        ensure((0.0..1.0).contains(&(self.rate as f32)), "dropout::c2", || {
            format!("rate {:?} is not in 0..1", self.rate)
        })?;
        check_random("dropout::c3", key, step, sample)?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let x = b.widen(v[0])?;
        let dims = b.ty(x).shape[1..].to_vec();
        let words = vec![(self.stream as u32).into(), ((self.stream >> 32) as u32).into()];
        let stream = b.literal(DType::U32, &[2], words)?;
        let key = b.xor(v[1], stream)?;
        let bits = b.op1(RandomBits { dims }, &[key, v[2], v[3]])?;
        // The rate enters as f32, in both modes, so that both drop the same elements.
        let threshold = (f64::from(self.rate as f32) * 4_294_967_296.0).floor();
        let threshold = b.constant_like(bits, threshold)?;
        let keep = b.compare(CompareKind::Ge, bits, threshold)?;
        let rate = b.scalar(b.ty(x).dtype, self.rate)?;
        let kept = b.scalar_sub(1.0, rate)?;
        let factor = b.recip(kept)?;
        let factor = b.splat_like(factor, x)?;
        let scaled = b.mul(x, factor)?;
        let zero = b.constant_like(x, 0.0)?;
        let y = b.select(keep, scaled, zero)?;
        Ok(vec![b.cast(y, dtype)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None; 4];
        if let (Some(dy), true) = (input.cotangents[0], input.needed[0]) {
            let v = input.operands;
            let dx = b.op1(self.clone(), &[dy, v[1], v[2], v[3]])?;
            out[0] = Some(input.fold(b, 0, dx)?);
        }
        Ok(Some(out))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel())
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Dropout { rate: 0.25, stream: 7 },
                    [
                        (f32(&[2, 3, 7]), Fill::Normal),
                        (typed(DType::U32, &[2]), Fill::Normal),
                        (typed(DType::U32, &[]), Fill::Normal),
                        (typed(DType::U32, &[2]), Fill::Positions),
                    ],
                    &[0],
                ),
                Sample::new(
                    Dropout { rate: 0.0, stream: u64::MAX },
                    [
                        (f32(&[3]), Fill::Normal),
                        (typed(DType::U32, &[2]), Fill::Normal),
                        (typed(DType::U32, &[]), Fill::Normal),
                        (typed(DType::U32, &[3]), Fill::Positions),
                    ],
                    &[0],
                ),
                Sample::new(
                    Dropout { rate: 0.9, stream: 7 },
                    [
                        (typed(DType::Bf16, &[2, 9]), Fill::Normal),
                        (typed(DType::U32, &[2]), Fill::Normal),
                        (typed(DType::U32, &[]), Fill::Normal),
                        (typed(DType::U32, &[2]), Fill::Positions),
                    ],
                    &[0],
                ),
            ],
            bad: vec![
                BadSample::new(
                    Dropout { rate: 0.25, stream: 7 },
                    [
                        f32(&[3, 2]),
                        typed(DType::U32, &[2]),
                        typed(DType::U32, &[]),
                        typed(DType::U32, &[2]),
                    ],
                    "dropout::c1",
                ),
                BadSample::new(
                    Dropout { rate: 0.25, stream: 7 },
                    [
                        f32(&[]),
                        typed(DType::U32, &[2]),
                        typed(DType::U32, &[]),
                        typed(DType::U32, &[2]),
                    ],
                    "dropout::c1",
                ),
                BadSample::new(
                    Dropout { rate: 1.0, stream: 7 },
                    [
                        f32(&[2]),
                        typed(DType::U32, &[2]),
                        typed(DType::U32, &[]),
                        typed(DType::U32, &[2]),
                    ],
                    "dropout::c2",
                ),
                BadSample::new(
                    Dropout { rate: 0.25, stream: 7 },
                    [f32(&[2]), typed(DType::U32, &[2]), i32(&[]), typed(DType::U32, &[2])],
                    "dropout::c3",
                ),
            ],
        }
    }
}
