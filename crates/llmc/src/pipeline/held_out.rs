//! The loss of a model, in whatever format its weights are, over the held-out rows of its run.

use super::data::{self, PackedSplit};
use super::failure::Failure;
use super::weights;
use llmc_base::Symbol;
use llmc_base::expr::Env;
use llmc_data::pack;
use llmc_ir::Module;
use llmc_plan::{AddressSpace, plan};
use llmc_runtime::{Engine, Memory};
use serde::Serialize;
use std::path::Path;

/// Rows that are computed at a time.
const ROWS: u64 = 4;

/// Cross-entropy over held-out rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeldOutLoss {
    /// Nats per token.
    pub loss: f64,
    /// Tokens that were predicted.
    pub tokens: u64,
}

/// The loss over the first `limit` rows of `split` (all without it) of a module with the weights of a file; `None` if
/// no token is to be predicted there.
///
/// Errors: a weight that the file lacks; those of planning and running.
pub(super) fn held_out_loss(
    module: &Module,
    (bytes, file): (&[u8], &Path),
    split: &PackedSplit,
    limit: Option<u64>,
    mut engine: Engine,
) -> Result<Option<HeldOutLoss>, Failure> {
    let internal = |message: &str| Failure::Internal(message.to_string());
    // With dropout `@loss` draws bits, and `@eval_loss` is the loss without it.
    let entry = module.find("eval_loss").or_else(|| module.find("loss"));
    let entry = entry.ok_or_else(|| internal("the model has no `@loss`"))?;
    let length = i128::from(split.plan.sequence_length());
    let env = Env::from([(Symbol::new("B"), ROWS.into()), (Symbol::new("T"), length)]);
    let mut space = AddressSpace::default();
    let plan = plan(module, entry, &env, &mut space).map_err(|e| internal(&e.to_string()))?;
    let mut memory = Memory::default();
    memory.reserve(&space, [&plan])?;
    let wanted: Vec<weights::Wanted> = space
        .iter()
        .filter(|(path, _)| *path != TOTAL)
        .map(|(path, view)| weights::Wanted {
            path: path.to_string(),
            dtype: view.dtype,
            shape: view.shape.clone(),
        })
        .collect();
    weights::fill(&wanted, bytes, file, &mut |path, bytes| {
        let view = space.get(path).ok_or_else(|| format!("there is no `{path}`"))?;
        weights::copy(path, bytes, memory.bytes_mut(view))
    })?;
    let total = space.get(TOTAL).ok_or_else(|| internal("`@loss` adds to nothing"))?;

    let corpus = split.corpus()?;
    let n_rows = split.plan.n_rows();
    let n_rows = limit.map_or(n_rows, |limit| limit.min(n_rows));
    let (mut nats, mut tokens, mut at) = (0.0, 0, 0);
    while at < n_rows {
        let rows: Vec<u64> = (at..(at + ROWS).min(n_rows)).collect();
        at += rows.len() as u64;
        let batch = data::to_train_batch(pack::batch(&split.plan, &corpus, &rows, 0)?, 0);
        for (name, view) in &plan.inputs {
            let ids = match name.as_str() {
                "tokens" => &batch.tokens,
                "positions" => &batch.positions,
                "segments" => &batch.segments,
                "targets" => &batch.targets,
                "weights" => {
                    let out = memory.f32s_mut(view);
                    // Rows that fill up the last batch weigh nothing.
                    out.fill(0.0);
                    out[..batch.weights.len()].copy_from_slice(&batch.weights);
                    continue;
                }
                "norm" => {
                    memory.f32s_mut(view).fill(1.0);
                    continue;
                }
                other => return Err(internal(&format!("`@loss` takes `{other}`"))),
            };
            let out = memory.i32s_mut(view);
            out.fill(0);
            out[..ids.len()].copy_from_slice(ids);
        }
        memory.f32s_mut(total).fill(0.0);
        engine.run(&plan, &mut memory)?;
        nats += f64::from(memory.f32s(total)[0]);
        tokens += batch.weights.iter().filter(|w| **w != 0.0).count() as u64;
    }
    Ok((tokens > 0).then(|| HeldOutLoss { loss: nats / tokens as f64, tokens }))
}

/// The state to which `@loss` adds.
const TOTAL: &str = "loss";
