//! Attention of a block: the `attention` op, or, with dropout on the probabilities, the same
//! in primitives.
//!
//! `attention` never holds the T×T probabilities, so it has no place for dropout on them;
//! training with attention dropout writes them out.

use crate::blocks::{Ctx, DropoutInputs};
use llmc_base::Expr;
use llmc_ir::ops::{Attention, CompareKind, Softmax};
use llmc_ir::{DType, FunctionBuilder, TypeError, ValueId};

impl Ctx<'_> {
    /// The attention op of this architecture.
    pub fn attention_op(&self) -> Attention {
        Attention {
            causal: true,
            window: self.arch.sliding_window.map(|w| usize::try_from(w).unwrap_or(usize::MAX)),
            scale: self.arch.attention_scale,
        }
    }

    /// Causal attention within segments: q [B, T, H, D], k and v [B, T, K, D] → [B, T, H, D].
    ///
    /// Errors: `model::c3` if dropout on the probabilities meets dims that are no numbers.
    pub fn attention(
        &self,
        b: &mut FunctionBuilder,
        [q, k, v]: [ValueId; 3],
        segments: ValueId,
        dropout: Option<DropoutInputs>,
    ) -> Result<ValueId, TypeError> {
        b.set_origin(self.origins.attention);
        match dropout.filter(|_| self.arch.dropout.attention > 0.0) {
            None => b.op1(self.attention_op(), &[q, k, v, segments, segments]),
            Some(inputs) => self.attention_in_primitives(b, [q, k, v], segments, inputs),
        }
    }

    fn attention_in_primitives(
        &self,
        b: &mut FunctionBuilder,
        [q, k, v]: [ValueId; 3],
        segments: ValueId,
        inputs: DropoutInputs,
    ) -> Result<ValueId, TypeError> {
        let dims = self.dims;
        let no_number =
            || TypeError::new("model::c3", "attention dropout needs dims that are numbers");
        let (batch, tokens) = (b.ty(q).shape[0].clone(), b.ty(q).shape[1].clone());
        let group = dims.num_heads.div_exact(&dims.num_kv_heads).ok_or_else(no_number)?;
        let head_dim = dims.head_dim.as_usize().ok_or_else(no_number)?;
        let scale = self.arch.attention_scale.unwrap_or(1.0 / (head_dim as f64).sqrt());

        // q: [B, T, K, G, D]; scores: [B, K, T, G, S]; o: [B, K, T, G, D] before it is turned.
        let kv = dims.num_kv_heads.clone();
        let q = b.reshape(q, [batch.clone(), tokens.clone(), kv, group, dims.head_dim.clone()])?;
        let scores = b.dot(q, k, (&[0, 2], &[0, 2]), (&[4], &[3]))?;
        let scores = b.mul_scalar(scores, scale)?;
        let visible = self.visible(b, segments, &batch, &tokens)?;
        let shape = b.ty(scores).shape.clone();
        let visible = b.broadcast(visible, &shape, &[0, 2, 4])?;
        let hidden = b.constant_like(scores, f64::NEG_INFINITY)?;
        let scores = b.select(visible, scores, hidden)?;
        let p = b.op1(Softmax, &[scores])?;
        b.name(p, "probabilities");
        let rate = self.arch.dropout.attention;
        let p = self.dropout(b, "attention.probabilities.dropout", rate, Some(inputs), p)?;
        b.set_origin(self.origins.attention);
        let o = b.dot(p, v, (&[0, 1], &[0, 2]), (&[4], &[1]))?;
        let o = b.transpose(o, &[0, 2, 1, 3, 4])?;
        b.reshape(o, [batch, tokens, dims.num_heads.clone(), dims.head_dim.clone()])
    }

    /// bool[B, T, S]: same segment, not in the future, within the window.
    fn visible(
        &self,
        b: &mut FunctionBuilder,
        segments: ValueId,
        batch: &Expr,
        tokens: &Expr,
    ) -> Result<ValueId, TypeError> {
        let dims = [batch.clone(), tokens.clone(), tokens.clone()];
        let of_query = b.broadcast(segments, &dims, &[0, 1])?;
        let of_key = b.broadcast(segments, &dims, &[0, 2])?;
        let same = b.compare(CompareKind::Eq, of_query, of_key)?;
        let i = b.iota(DType::I32, &dims, 1)?;
        let j = b.iota(DType::I32, &dims, 2)?;
        let past = b.compare(CompareKind::Ge, i, j)?;
        let visible = b.and(same, past)?;
        let Some(window) = self.arch.sliding_window else { return Ok(visible) };
        let distance = b.sub(i, j)?;
        // A window of 2³¹ or more hides nothing.
        let window = b.constant_like(distance, window.min(i32::MAX as u64) as f64)?;
        let near = b.compare(CompareKind::Lt, distance, window)?;
        b.and(visible, near)
    }
}
