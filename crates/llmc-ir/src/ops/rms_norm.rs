//! `rms_norm`: root-mean-square normalisation over the last axis.
//!
//! y = x / sqrt(mean(x²) + eps) · w
//!
//! Source: Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4.

use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::ops::BiasGrad;
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// Root-mean-square normalisation over the last axis.
///
/// x: [..., E], w: `[E]` → [..., E]. Computed in f32 if the dtype is narrower.
///
/// Errors: `rms_norm::c1` if w is not `[E]`, `rms_norm::c2` if dtypes differ or are not floats.
/// Source: Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4.
#[derive(Clone, Debug, PartialEq)]
pub struct RmsNorm {
    /// Added to the mean square.
    pub eps: f64,
}

/// Gradient of [`RmsNorm`].
///
/// x: [..., E], w: `[E]`, dy: [..., E] → dx: [..., E], dw_rows: [..., E]; the weight gradient is
/// the sum of dw_rows over tokens, which `bias_grad` folds into its accumulator in token order.
///
/// Errors: `rms_norm_backward::c1` and `c2` as for [`RmsNorm`], `rms_norm_backward::c3` if dy is
/// not of the type of x.
#[derive(Clone, Debug, PartialEq)]
pub struct RmsNormBackward {
    /// As in the forward op.
    pub eps: f64,
}

/// The checks that norm ops over [..., E] with a weight `[E]` share.
pub(crate) fn check_norm(op: &str, x: &TensorType, w: &TensorType) -> Result<(), TypeError> {
    ensure(
        x.rank() >= 1 && w.shape.as_slice() == &x.shape[x.rank() - 1..],
        &format!("{op}::c1"),
        || format!("operand `w` has type {w}, expected [E] with E the last dim of x: {x}"),
    )?;
    ensure(x.dtype.is_float() && x.dtype == w.dtype, &format!("{op}::c2"), || {
        format!("dtypes of x {x} and w {w} must be one float type")
    })
}

/// r = rsqrt(mean(x²) + eps), broadcast to the shape of x.
fn inverse_rms(b: &mut FunctionBuilder, x: ValueId, eps: f64) -> Result<ValueId, TypeError> {
    let squares = b.mul(x, x)?;
    let ms = b.mean_last(squares)?;
    let shifted = b.add_scalar(ms, eps)?;
    let r = b.rsqrt(shifted)?;
    b.broadcast_last(r, x)
}

impl OpDef for RmsNorm {
    const NAME: &'static str = "rms_norm";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("eps", Attr::Float(self.eps))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(RmsNorm { eps: attrs.req("eps")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, w] = operands(Self::NAME, types)?;
        check_norm(Self::NAME, x, w)?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let (x, w) = (b.widen(v[0])?, b.widen(v[1])?);
        let r = inverse_rms(b, x, self.eps)?;
        let normed = b.mul(x, r)?;
        let w = b.broadcast_like(w, x)?;
        let y = b.mul(normed, w)?;
        Ok(vec![b.cast(y, dtype)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None, None];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        let grads =
            b.op(RmsNormBackward { eps: self.eps }, &[input.operands[0], input.operands[1], dy])?;
        if input.needed[0] {
            out[0] = Some(input.fold(b, 0, grads[0])?);
        }
        if input.needed[1] {
            out[1] = Some(b.token_sum(BiasGrad, &[grads[1]], input.accumulators[1])?);
        }
        Ok(Some(out))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 4)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    RmsNorm { eps: 1e-5 },
                    [(f32(&[2, 3, 8]), Fill::Normal), (f32(&[8]), Fill::Positive)],
                    &[0, 1],
                ),
                Sample::new(
                    RmsNorm { eps: 1e-5 },
                    [(f32(&[4, 33]), Fill::Normal), (f32(&[33]), Fill::Positive)],
                    &[0, 1],
                ),
                Sample::new(
                    RmsNorm { eps: 1e-5 },
                    [(f32(&[5]), Fill::Normal), (f32(&[5]), Fill::Positive)],
                    &[0, 1],
                ),
                Sample::new(
                    RmsNorm { eps: 1e-5 },
                    [
                        (typed(DType::Bf16, &[3, 20]), Fill::Normal),
                        (typed(DType::Bf16, &[20]), Fill::Positive),
                    ],
                    &[0, 1],
                ),
                Sample::new(
                    RmsNorm { eps: 1e-5 },
                    [
                        (typed(DType::F64, &[2, 5]), Fill::Normal),
                        (typed(DType::F64, &[5]), Fill::Positive),
                    ],
                    &[0, 1],
                ),
            ],
            bad: vec![
                BadSample::new(RmsNorm { eps: 1e-5 }, [f32(&[2, 8]), f32(&[7])], "rms_norm::c1"),
                BadSample::new(RmsNorm { eps: 1e-5 }, [f32(&[]), f32(&[])], "rms_norm::c1"),
                BadSample::new(
                    RmsNorm { eps: 1e-5 },
                    [f32(&[2, 8]), typed(DType::F64, &[8])],
                    "rms_norm::c2",
                ),
                BadSample::new(RmsNorm { eps: 1e-5 }, [f32(&[2, 8])], "rms_norm::arity"),
            ],
        }
    }
}

impl OpDef for RmsNormBackward {
    const NAME: &'static str = "rms_norm_backward";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("eps", Attr::Float(self.eps))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(RmsNormBackward { eps: attrs.req("eps")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, w, dy] = operands(Self::NAME, types)?;
        check_norm(Self::NAME, x, w)?;
        ensure(x == dy, "rms_norm_backward::c3", || format!("dy {dy} differs from x {x}"))?;
        Ok(vec![x.clone(), x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let (x, w, dy) = (b.widen(v[0])?, b.widen(v[1])?, b.widen(v[2])?);
        let r = inverse_rms(b, x, self.eps)?;
        let normed = b.mul(x, r)?;
        let w = b.broadcast_like(w, x)?;
        let g = b.mul(dy, w)?;
        let product = b.mul(g, normed)?;
        let c = b.mean_last(product)?;
        let c = b.broadcast_last(c, x)?;
        let shift = b.mul(normed, c)?;
        let centred = b.sub(g, shift)?;
        let dx = b.mul(r, centred)?;
        let dw_rows = b.mul(dy, normed)?;
        Ok(vec![b.cast(dx, dtype)?, b.cast(dw_rows, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 10)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    RmsNormBackward { eps: 1e-5 },
                    [
                        (f32(&[2, 3, 33]), Fill::Normal),
                        (f32(&[33]), Fill::Positive),
                        (f32(&[2, 3, 33]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(
                    RmsNormBackward { eps: 1e-5 },
                    [
                        (f32(&[5]), Fill::Normal),
                        (f32(&[5]), Fill::Positive),
                        (f32(&[5]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(
                    RmsNormBackward { eps: 1e-5 },
                    [
                        (typed(DType::Bf16, &[2, 9]), Fill::Normal),
                        (typed(DType::Bf16, &[9]), Fill::Positive),
                        (typed(DType::Bf16, &[2, 9]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
            ],
            bad: vec![
                BadSample::new(
                    RmsNormBackward { eps: 1e-5 },
                    [f32(&[2, 8]), f32(&[2]), f32(&[2, 8])],
                    "rms_norm_backward::c1",
                ),
                BadSample::new(
                    RmsNormBackward { eps: 1e-5 },
                    [i32(&[2, 8]), i32(&[8]), i32(&[2, 8])],
                    "rms_norm_backward::c2",
                ),
                BadSample::new(
                    RmsNormBackward { eps: 1e-5 },
                    [f32(&[2, 8]), f32(&[8]), f32(&[3, 8])],
                    "rms_norm_backward::c3",
                ),
            ],
        }
    }
}
