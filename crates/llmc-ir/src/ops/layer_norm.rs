//! `layer_norm`: normalisation to mean 0 and variance 1 over the last axis.
//!
//! y = (x − mean(x)) / sqrt(var(x) + eps) · w + b
//!
//! Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450, eq. 4.

use super::check;
use super::rms_norm::check_norm;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::ops::BiasGrad;
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// Normalisation to mean 0 and variance 1 over the last axis, scaled and shifted.
///
/// x: [..., E], w: `[E]`, b: `[E]` (optional) → [..., E]. Computed in f32 if the dtype is narrower.
///
/// Errors: `layer_norm::c1` if w is not `[E]`, `layer_norm::c2` if dtypes differ or are not floats,
/// `layer_norm::c3` if b is not of the type of w.
/// Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450, eq. 4.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f64,
}

/// Gradient of [`LayerNorm`]; the bias gradient is `bias_grad(dy)`.
///
/// x: [..., E], w: `[E]`, dy: [..., E] → dx: [..., E], dw_rows: [..., E], whose sum over tokens is
/// the gradient of w.
///
/// Errors: `layer_norm_backward::c1` and `c2` as for [`LayerNorm`], `layer_norm_backward::c3` if
/// dy is not of the type of x.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNormBackward {
    /// As in the forward op.
    pub eps: f64,
}

/// (c, r) of the type of x: c = x − mean(x), r = rsqrt(mean(c²) + eps).
fn centre(b: &mut FunctionBuilder, x: ValueId, eps: f64) -> Result<(ValueId, ValueId), TypeError> {
    let mean = b.mean_last(x)?;
    let mean = b.broadcast_last(mean, x)?;
    let centred = b.sub(x, mean)?;
    let squares = b.mul(centred, centred)?;
    let variance = b.mean_last(squares)?;
    let shifted = b.add_scalar(variance, eps)?;
    let r = b.rsqrt(shifted)?;
    Ok((centred, b.broadcast_last(r, x)?))
}

impl OpDef for LayerNorm {
    const NAME: &'static str = "layer_norm";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("eps", Attr::Float(self.eps))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(LayerNorm { eps: attrs.req("eps")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let types = check::between(Self::NAME, types, 2, 3)?;
        check_norm(Self::NAME, &types[0], &types[1])?;
        if let Some(b) = types.get(2) {
            check::ensure_same("layer_norm::c3", "b", b, &types[1])?;
        }
        Ok(vec![types[0].clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let (x, w) = (b.widen(v[0])?, b.widen(v[1])?);
        let (centred, r) = centre(b, x, self.eps)?;
        let normed = b.mul(centred, r)?;
        let w = b.broadcast_like(w, x)?;
        let mut y = b.mul(normed, w)?;
        if let Some(bias) = v.get(2) {
            let bias = b.widen(*bias)?;
            let bias = b.broadcast_like(bias, x)?;
            y = b.add(y, bias)?;
        }
        Ok(vec![b.cast(y, dtype)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None; input.operands.len()];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        if input.needed[0] || input.needed[1] {
            let (x, w) = (input.operands[0], input.operands[1]);
            let grads = b.op(LayerNormBackward { eps: self.eps }, &[x, w, dy])?;
            if input.needed[0] {
                out[0] = Some(input.fold(b, 0, grads[0])?);
            }
            if input.needed[1] {
                out[1] = Some(b.token_sum(BiasGrad, &[grads[1]], input.accumulators[1])?);
            }
        }
        if input.needed.get(2) == Some(&true) {
            out[2] = Some(b.token_sum(BiasGrad, &[dy], input.accumulators[2])?);
        }
        Ok(Some(out))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * (4 + types.len()))
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    LayerNorm { eps: 1e-5 },
                    [(f32(&[2, 3, 8]), Fill::Normal), (f32(&[8]), Fill::Positive)],
                    &[0, 1],
                ),
                Sample::new(
                    LayerNorm { eps: 1e-5 },
                    [(f32(&[4, 33]), Fill::Normal), (f32(&[33]), Fill::Positive)],
                    &[0, 1],
                ),
                Sample::new(
                    LayerNorm { eps: 1e-5 },
                    [(f32(&[5]), Fill::Normal), (f32(&[5]), Fill::Positive)],
                    &[0, 1],
                ),
                Sample::new(
                    LayerNorm { eps: 1e-5 },
                    [
                        (typed(DType::Bf16, &[3, 20]), Fill::Normal),
                        (typed(DType::Bf16, &[20]), Fill::Positive),
                    ],
                    &[0, 1],
                ),
                Sample::new(
                    LayerNorm { eps: 1e-5 },
                    [
                        (typed(DType::F64, &[2, 5]), Fill::Normal),
                        (typed(DType::F64, &[5]), Fill::Positive),
                    ],
                    &[0, 1],
                ),
                Sample::new(
                    LayerNorm { eps: 1e-5 },
                    [
                        (f32(&[4, 33]), Fill::Normal),
                        (f32(&[33]), Fill::Positive),
                        (f32(&[33]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(
                    LayerNorm { eps: 1e-5 },
                    [
                        (typed(DType::F16, &[4, 9]), Fill::Normal),
                        (typed(DType::F16, &[9]), Fill::Positive),
                        (typed(DType::F16, &[9]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
            ],
            bad: vec![
                BadSample::new(
                    LayerNorm { eps: 1e-5 },
                    [f32(&[2, 8]), f32(&[7])],
                    "layer_norm::c1",
                ),
                BadSample::new(
                    LayerNorm { eps: 1e-5 },
                    [f32(&[2, 8]), typed(DType::F64, &[8])],
                    "layer_norm::c2",
                ),
                BadSample::new(
                    LayerNorm { eps: 1e-5 },
                    [f32(&[2, 8]), f32(&[8]), f32(&[7])],
                    "layer_norm::c3",
                ),
                BadSample::new(LayerNorm { eps: 1e-5 }, [f32(&[2, 8])], "layer_norm::arity"),
            ],
        }
    }
}

impl OpDef for LayerNormBackward {
    const NAME: &'static str = "layer_norm_backward";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("eps", Attr::Float(self.eps))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(LayerNormBackward { eps: attrs.req("eps")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, w, dy] = operands(Self::NAME, types)?;
        check_norm(Self::NAME, x, w)?;
        ensure(x == dy, "layer_norm_backward::c3", || format!("dy {dy} differs from x {x}"))?;
        Ok(vec![x.clone(), x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let (x, w, dy) = (b.widen(v[0])?, b.widen(v[1])?, b.widen(v[2])?);
        let (centred, r) = centre(b, x, self.eps)?;
        let normed = b.mul(centred, r)?;
        let w = b.broadcast_like(w, x)?;
        let g = b.mul(dy, w)?;
        let m1 = b.mean_last(g)?;
        let product = b.mul(g, normed)?;
        let m2 = b.mean_last(product)?;
        let m1 = b.broadcast_last(m1, x)?;
        let m2 = b.broadcast_last(m2, x)?;
        let left = b.sub(g, m1)?;
        let right = b.mul(normed, m2)?;
        let inner = b.sub(left, right)?;
        let dx = b.mul(r, inner)?;
        let dw_rows = b.mul(dy, normed)?;
        Ok(vec![b.cast(dx, dtype)?, b.cast(dw_rows, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 14)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    LayerNormBackward { eps: 1e-5 },
                    [
                        (f32(&[2, 3, 33]), Fill::Normal),
                        (f32(&[33]), Fill::Positive),
                        (f32(&[2, 3, 33]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(
                    LayerNormBackward { eps: 1e-5 },
                    [
                        (f32(&[5]), Fill::Normal),
                        (f32(&[5]), Fill::Positive),
                        (f32(&[5]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(
                    LayerNormBackward { eps: 1e-5 },
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
                    LayerNormBackward { eps: 1e-5 },
                    [f32(&[2, 8]), f32(&[2]), f32(&[2, 8])],
                    "layer_norm_backward::c1",
                ),
                BadSample::new(
                    LayerNormBackward { eps: 1e-5 },
                    [i32(&[2, 8]), i32(&[8]), i32(&[2, 8])],
                    "layer_norm_backward::c2",
                ),
                BadSample::new(
                    LayerNormBackward { eps: 1e-5 },
                    [f32(&[2, 8]), f32(&[8]), f32(&[3, 8])],
                    "layer_norm_backward::c3",
                ),
            ],
        }
    }
}
