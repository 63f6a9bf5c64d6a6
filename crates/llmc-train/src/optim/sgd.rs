//! Stochastic gradient descent with momentum and L2 decay, as in PyTorch.
//!
//! g' = g + λ·p; m' = μ·m + g'; p' = p − lr·m'
//!
//! Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep
//! learning", §2, with the velocity in units of the gradient.

use super::{Rule, Scalars};
use llmc_ir::ops::SgdStep;
use llmc_ir::{FunctionBuilder, TypeError, ValueId};
use llmc_spec::{OptimizerConfig, OptimizerKind};

/// The velocity.
const MOMENTS: [&str; 1] = ["momentum_buffer"];

pub(crate) const RULE: Rule = Rule {
    kind: OptimizerKind::Sgd,
    name: "sgd",
    moments: &MOMENTS,
    // With the logits divided by the width, gradients of vectors and embeddings fall by it; so do those of hidden
    // matrices, whose products sum over it.
    width_rule: |is_hidden, width| if is_hidden { 1.0 } else { width },
    bias_corrections: |_, _| [1.0, 1.0],
    define,
};

fn define(
    b: &mut FunctionBuilder,
    config: &OptimizerConfig,
    p: ValueId,
    g: ValueId,
    scalars: &Scalars,
) -> Result<ValueId, TypeError> {
    let ty = b.ty(p).clone();
    let m = b.state(MOMENTS[0], ty);
    let step = SgdStep { momentum: config.momentum };
    let next = b.op(step, &[p, g, m, scalars.lr, scalars.weight_decay])?;
    b.state_result(MOMENTS[0], next[1]);
    Ok(next[0])
}
