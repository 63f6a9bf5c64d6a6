//! `attention_backward`: the gradient of `attention`, by recomputed probabilities.
//!
//! With p the probabilities, p' these after dropout, and dp = do·vᵀ after the same dropout:
//! ds = p·(dp − sum(p·dp))·scale, dq = ds·k, dk = dsᵀ·q, dv = p'ᵀ·do.

use super::attention::{
    P_BATCH, PQ_BATCH, Q_BATCH, attrs, check_operands, dropped, from_attrs, probabilities, product,
    product_flops, sample_cases, sample_operands, split_rest,
};
use super::{Attention, Dropout, check};
use crate::attr::{AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, OpDef};
use crate::sample::{BadSample, Sample, Samples, f32, i32};
use crate::types::{DType, TensorType, TypeError, ensure};

/// Gradient of [`Attention`]; recomputes the probabilities.
///
/// q, k, v as in the forward op, dy: the type of q, the other operands as there → dq, dk, dv of the
/// types of q, k, v.
///
/// Errors: `attention_backward::c1` to `c4` as for [`Attention`], `attention_backward::c5` if dy is
/// not of the type of q, `attention_backward::c6` and `attention_backward::c7` as for [`Attention`],
/// `attention_backward::c8` over a cache.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionBackward {
    /// The forward op; its attributes are those of this one.
    pub of: Attention,
}

impl OpDef for AttentionBackward {
    const NAME: &'static str = "attention_backward";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        attrs(&self.of)
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(AttentionBackward { of: from_attrs(attrs)? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        ensure(!self.of.cached, "attention_backward::c8", || {
            "a gradient over a cache is that of the decomposition".to_string()
        })?;
        let (segments, random) = split_rest(Self::NAME, &self.of, types, 4)?;
        check_operands(Self::NAME, &self.of, [&types[0], &types[1], &types[2]], segments, random)?;
        check::ensure_same("attention_backward::c5", "dy", &types[3], &types[0])?;
        Ok(types[..3].to_vec())
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let (segments, random) = split_rest(Self::NAME, &self.of, v, 4)?;
        let (ty_q, ty_k) = (b.ty(v[0]).clone(), b.ty(v[1]).clone());
        let wide = [b.widen(v[0])?, b.widen(v[1])?, b.widen(v[2])?];
        let dy = b.widen(v[3])?;
        let g = probabilities(b, &self.of, wide, segments)?;
        let kept = dropped(b, &self.of, g.p, random)?;
        let dy = b.reshape(dy, g.ty.shape.iter().cloned())?;
        let dp = b.dot(dy, g.v, Q_BATCH, (&[4], &[3]))?;
        let dp = dropped(b, &self.of, dp, random)?;
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
        let dv = product(b, kept, dy, PQ_BATCH, over_queries)?;
        let dv = b.transpose(dv, &[0, 2, 1, 3])?;
        Ok(vec![b.cast(dq, ty_q.dtype)?, b.cast(dk, ty_k.dtype)?, b.cast(dv, ty_k.dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        // The scores again, dp, dq, dk and dv.
        Cost::flops(product_flops(&types[0], &types[1]) * 5)
    }

    fn samples() -> Samples {
        let good = |(of, (shape, segments, dtype)): (Attention, _)| {
            let mut operands = sample_operands(shape, segments, dtype, of.dropout.is_some());
            operands.insert(3, operands[0].clone());
            Sample::new(AttentionBackward { of }, operands, &[0, 1, 2, 3])
        };
        let op = |window, dropout| Attention {
            causal: true,
            window,
            scale: None,
            dropout,
            cached: false,
        };
        let bad = |of: Attention, [q, k, v]: [TensorType; 3], rest: &[TensorType], code| {
            let operands = [&[q.clone(), k, v, q], rest].concat();
            BadSample::new(AttentionBackward { of }, operands, code)
        };
        let drop = |rate| Some(Dropout { rate, stream: 1 });
        let (q, k) = (f32(&[1, 2, 2, 4]), f32(&[1, 3, 2, 4]));
        let fine = [q.clone(), k.clone(), k.clone()];
        let odd_heads = [f32(&[1, 2, 3, 4]), k.clone(), k.clone()];
        let odd_dy = [q.clone(), k.clone(), k.clone(), k.clone()];
        let u32s = |dims: &[i64]| TensorType::new(DType::U32, dims.iter().copied());
        let random = |batch| [u32s(&[2]), u32s(&[]), u32s(&[batch])];
        let plain = op(None, None);
        let odd_v = [q, k.clone(), f32(&[1, 4, 2, 4])];
        Samples {
            good: sample_cases().map(good).into(),
            bad: vec![
                bad(plain.clone(), odd_v, &[], "attention_backward::c1"),
                bad(plain.clone(), odd_heads, &[], "attention_backward::c2"),
                bad(
                    plain.clone(),
                    fine.clone(),
                    &[i32(&[1, 2]), i32(&[1, 2])],
                    "attention_backward::c3",
                ),
                bad(op(Some(0), None), fine.clone(), &[], "attention_backward::c4"),
                bad(plain.clone(), fine.clone(), &[i32(&[1, 2])], "attention_backward::arity"),
                bad(op(None, drop(0.5)), fine.clone(), &random(2), "attention_backward::c6"),
                bad(op(None, drop(1.0)), fine.clone(), &random(1), "attention_backward::c7"),
                bad(
                    Attention { cached: true, ..plain.clone() },
                    fine,
                    &[i32(&[1])],
                    "attention_backward::c8",
                ),
                BadSample::new(AttentionBackward { of: plain }, odd_dy, "attention_backward::c5"),
            ],
        }
    }
}
