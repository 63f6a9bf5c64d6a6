//! Lion: the sign of an interpolated momentum, with decoupled weight decay.
//!
//! c = β1·m + (1 − β1)·g; p' = p − lr·λ·p − lr·sign(c); m' = β2·m + (1 − β2)·g
//!
//! Source: Chen et al. 2023, arXiv:2302.06675, algorithm 2.

use super::{Rule, Scalars, adamw};
use llmc_ir::ops::LionStep;
use llmc_ir::{FunctionBuilder, TypeError, ValueId};
use llmc_spec::{OptimizerConfig, OptimizerKind};

/// The momentum.
const MOMENTS: [&str; 1] = ["exp_avg"];

pub(crate) const RULE: Rule = Rule {
    kind: OptimizerKind::Lion,
    name: "lion",
    moments: &MOMENTS,
    // As AdamW's: the update of an element is a sign.
    width_rule: adamw::RULE.width_rule,
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
    let step = LionStep { beta1: config.beta1, beta2: config.beta2 };
    let next = b.op(step, &[p, g, m, scalars.lr, scalars.weight_decay])?;
    b.state_result(MOMENTS[0], next[1]);
    Ok(next[0])
}
