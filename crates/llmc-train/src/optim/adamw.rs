//! AdamW: Adam with decoupled weight decay.
//!
//! m' = β1·m + (1 − β1)·g; v' = β2·v + (1 − β2)·g²;
//! p' = p − lr·λ·p − lr·(m'/(1 − β1ᵗ)) / (√(v'/(1 − β2ᵗ)) + ε)
//!
//! Source: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.

use super::{Rule, Scalars};
use llmc_ir::ops::AdamwStep;
use llmc_ir::{FunctionBuilder, TypeError, ValueId};
use llmc_spec::{OptimizerConfig, OptimizerKind};

/// First and second moment.
const MOMENTS: [&str; 2] = ["exp_avg", "exp_avg_sq"];

pub(crate) const RULE: Rule = Rule {
    kind: OptimizerKind::AdamW,
    name: "adamw",
    moments: &MOMENTS,
    // The update of an element has a size of its own, and a hidden matrix sums over its width.
    width_rule: |is_hidden, width| if is_hidden { 1.0 / width } else { 1.0 },
    bias_corrections: |config, t| [config.beta1, config.beta2].map(|b| 1.0 - libm::pow(b, t)),
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
    let [m, v] = MOMENTS.map(|name| b.state(name, ty.clone()));
    let step = AdamwStep { beta1: config.beta1, beta2: config.beta2, eps: config.eps };
    let next = b.op(
        step,
        &[
            p,
            g,
            m,
            v,
            scalars.lr,
            scalars.bias_correction1,
            scalars.bias_correction2,
            scalars.weight_decay,
        ],
    )?;
    b.state_result(MOMENTS[0], next[1]);
    b.state_result(MOMENTS[1], next[2]);
    Ok(next[0])
}
