//! Attention of a block.

use crate::blocks::{Ctx, DropoutInputs, stream};
use llmc_ir::ops::{Attention, Dropout};
use llmc_ir::{FunctionBuilder, TypeError, ValueId};

impl Ctx<'_> {
    /// The attention op of this architecture.
    pub fn attention_op(&self) -> Attention {
        Attention {
            causal: true,
            window: self.arch.sliding_window.map(|w| usize::try_from(w).unwrap_or(usize::MAX)),
            scale: match self.dims.head_dim.as_usize() {
                Some(head_dim) => self.arch.scores_factor(head_dim as u64),
                None => self.arch.attention_scale,
            },
            dropout: None,
            cached: false,
        }
    }

    /// Causal attention within segments: q [B, T, H, D], k and v [B, T, K, D] → [B, T, H, D]. With
    /// dropout inputs, dropout of the probabilities.
    pub fn attention(
        &self,
        b: &mut FunctionBuilder,
        [q, k, v]: [ValueId; 3],
        segments: ValueId,
        dropout: Option<DropoutInputs>,
    ) -> Result<ValueId, TypeError> {
        b.set_origin(self.origins.attention);
        let rate = self.arch.dropout.attention;
        let Some(DropoutInputs { key, step, sample }) = dropout.filter(|_| rate > 0.0) else {
            return b.op1(self.attention_op(), &[q, k, v, segments, segments]);
        };
        let stream = stream("attention.probabilities.dropout");
        let op = Attention { dropout: Some(Dropout { rate, stream }), ..self.attention_op() };
        b.op1(op, &[q, k, v, segments, segments, key, step, sample])
    }
}
