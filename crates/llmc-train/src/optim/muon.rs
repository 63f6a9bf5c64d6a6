//! Muon: momentum whose matrix is made orthogonal, with decoupled weight decay.
//!
//! m' = μ·m + g; u = g + μ·m'; p' = p − lr·λ·p − lr·0.2·√max(rows, columns)·newton_schulz(u)
//!
//! The factor 0.2·√max gives the update the root mean square of AdamW's, so that both take one
//! learning rate; the parameters that `adamw_parameters` names, and all that are no matrices, are
//! AdamW's.
//!
//! Sources: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al.
//! 2025, arXiv:2502.16982, section 2.2, eq. 4.

use super::{Rule, Scalars, adamw, broadcast};
use llmc_ir::ops::NewtonSchulz;
use llmc_ir::{FunctionBuilder, TypeError, ValueId};
use llmc_spec::{OptimizerConfig, OptimizerKind};

/// The velocity.
const MOMENTS: [&str; 1] = ["momentum_buffer"];
/// Root mean square of an update over that of an orthogonal matrix of its shape.
const UPDATE_RMS: f64 = 0.2;

pub(crate) const RULE: Rule = Rule {
    kind: OptimizerKind::Muon,
    name: "muon",
    moments: &MOMENTS,
    // The factor √max grows with the root of the width, the norm of the map should stay (Yang et al. 2023,
    // arXiv:2310.17813, condition 1).
    width_rule: |is_hidden, width| if is_hidden { 1.0 / libm::sqrt(width) } else { 1.0 },
    // Those of the parameters that are AdamW's.
    bias_corrections: adamw::RULE.bias_corrections,
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
    let m = b.state(MOMENTS[0], ty.clone());
    let kept = b.mul_scalar(m, config.momentum)?;
    let m = b.add(kept, g)?;
    b.name(m, "momentum");
    b.state_result(MOMENTS[0], m);
    let ahead = b.mul_scalar(m, config.momentum)?;
    let u = b.add(g, ahead)?;
    let steps = usize::try_from(config.ns_steps)
        .map_err(|_| TypeError::new("optimizer::c2", format!("{} steps", config.ns_steps)))?;
    let o = b.op1(NewtonSchulz { steps }, &[u])?;
    b.name(o, "orthogonal");
    let sides = ty.shape.iter().filter_map(|d| d.as_usize()).max().unwrap_or(1);
    let lr = b.mul_scalar(scalars.lr, UPDATE_RMS * (sides as f64).sqrt())?;
    let lr = broadcast(b, lr, &ty)?;
    let step = b.mul(o, lr)?;
    let shrink = b.mul(scalars.lr, scalars.weight_decay)?;
    let shrink = broadcast(b, shrink, &ty)?;
    let decay = b.mul(p, shrink)?;
    let p = b.sub(p, decay)?;
    b.sub(p, step)
}
