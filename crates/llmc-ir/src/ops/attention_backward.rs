//! `attention_backward`: the gradient of `attention`, by recomputed probabilities.
//!
//! With p the probabilities and dp = do·vᵀ: ds = p·(dp − sum(p·dp))·scale, dq = ds·k, dk = dsᵀ·q,
//! dv = pᵀ·do.

use super::attention::{
    P_BATCH, PQ_BATCH, Q_BATCH, attrs, check_operands, probabilities, product, product_flops,
    sample_cases, sample_operands, with_segments,
};
use super::{Attention, check};
use crate::attr::{AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, OpDef};
use crate::sample::{BadSample, Sample, Samples, f32, i32};
use crate::types::{TensorType, TypeError};

/// Gradient of [`Attention`]; recomputes the probabilities.
///
/// q, k, v as in the forward op, dy: the type of q, segments as there → dq, dk, dv of the types
/// of q, k, v.
///
/// Errors: `attention_backward::c1` to `c4` as for [`Attention`], `attention_backward::c5` if dy is
/// not of the type of q.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionBackward {
    /// As in the forward op.
    pub causal: bool,
    /// As in the forward op.
    pub window: Option<usize>,
    /// As in the forward op.
    pub scale: Option<f64>,
}

impl OpDef for AttentionBackward {
    const NAME: &'static str = "attention_backward";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        attrs(self.causal, self.window, self.scale)
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(AttentionBackward {
            causal: attrs.req("causal")?,
            window: attrs.opt("window")?,
            scale: attrs.opt("scale")?,
        })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        with_segments(Self::NAME, types, 4)?;
        check_operands(Self::NAME, self.window, [&types[0], &types[1], &types[2]], &types[4..])?;
        check::ensure_same("attention_backward::c5", "dy", &types[3], &types[0])?;
        Ok(types[..3].to_vec())
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let (ty_q, ty_k) = (b.ty(v[0]).clone(), b.ty(v[1]).clone());
        let wide = [b.widen(v[0])?, b.widen(v[1])?, b.widen(v[2])?];
        let dy = b.widen(v[3])?;
        let forward = Attention { causal: self.causal, window: self.window, scale: self.scale };
        let g = probabilities(b, &forward, wide, &v[4..])?;
        let dy = b.reshape(dy, g.ty.shape.iter().cloned())?;
        let dp = b.dot(dy, g.v, Q_BATCH, (&[4], &[3]))?;
        let products = b.mul(g.p, dp)?;
        let d = b.sum_last(products)?;
        let d = b.broadcast_last(d, dp)?;
        let difference = b.sub(dp, d)?;
        let ds = b.mul(g.p, difference)?;
        let ds = b.mul_scalar(ds, g.scale)?;
        let dq = product(b, ds, g.k, P_BATCH, (&[4], &[1]))?;
        let dq = b.transpose(dq, &[0, 2, 1, 3, 4])?;
        let dq = b.reshape(dq, ty_q.shape.iter().cloned())?;
        // Over (group, T), group outer: [B, K, S, D] → [B, S, K, D].
        let over_queries: (&[usize], &[usize]) = (&[3, 2], &[3, 1]);
        let dk = product(b, ds, g.q, PQ_BATCH, over_queries)?;
        let dk = b.transpose(dk, &[0, 2, 1, 3])?;
        let dv = product(b, g.p, dy, PQ_BATCH, over_queries)?;
        let dv = b.transpose(dv, &[0, 2, 1, 3])?;
        Ok(vec![b.cast(dq, ty_q.dtype)?, b.cast(dk, ty_k.dtype)?, b.cast(dv, ty_k.dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        // The scores again, dp, dq, dk and dv.
        Cost::flops(product_flops(&types[0], &types[1]) * 5)
    }

    fn samples() -> Samples {
        let op = |causal, window, scale| AttentionBackward { causal, window, scale };
        let good = |op: AttentionBackward, (shape, segments, dtype)| {
            let mut operands = sample_operands(shape, segments, dtype);
            operands.insert(3, operands[0].clone());
            Sample::new(op, operands, &[0, 1, 2, 3])
        };
        let bad = |window, [q, k, v]: [TensorType; 3], rest: &[TensorType], code| {
            let operands = [&[q.clone(), k, v, q], rest].concat();
            BadSample::new(op(true, window, None), operands, code)
        };
        let (q, k) = (f32(&[1, 2, 2, 4]), f32(&[1, 3, 2, 4]));
        let fine = [q.clone(), k.clone(), k.clone()];
        let odd_heads = [f32(&[1, 2, 3, 4]), k.clone(), k.clone()];
        let odd_dy = [q.clone(), k.clone(), k.clone(), k.clone()];
        Samples {
            good: sample_cases().map(|((c, w, s), operands)| good(op(c, w, s), operands)).into(),
            bad: vec![
                bad(None, [q, k.clone(), f32(&[1, 4, 2, 4])], &[], "attention_backward::c1"),
                bad(None, odd_heads, &[], "attention_backward::c2"),
                bad(None, fine.clone(), &[i32(&[1, 2]), i32(&[1, 2])], "attention_backward::c3"),
                bad(Some(0), fine.clone(), &[], "attention_backward::c4"),
                bad(None, fine, &[i32(&[1, 2])], "attention_backward::arity"),
                BadSample::new(op(true, None, None), odd_dy, "attention_backward::c5"),
            ],
        }
    }
}
