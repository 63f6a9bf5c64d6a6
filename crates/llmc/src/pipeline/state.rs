//! The state of a run in a checkpoint: weights, moments, position.

use super::failure::Failure;
use crate::checkpoint::{self, Checkpoint, Content};
use crate::store::Store;
use llmc_base::{Diagnostic, Hash};
use llmc_formats::safetensors::{DType, Data, SafeTensors, TensorSource};
use llmc_train::Trainer;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// `state.json` of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// Steps done.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Step and loss of the best validation.
    pub best: Option<(u64, f64)>,
}

/// Weights in a checkpoint.
pub const WEIGHTS: &str = "weights.safetensors";

/// Moments in a checkpoint.
pub const OPTIMIZER: &str = "optimizer.safetensors";

/// Position in a checkpoint.
pub const STATE: &str = "state.json";

/// BLAKE3 of a checkpoint's weights file.
pub fn weights_hash(checkpoint: &Checkpoint) -> Result<Hash, Failure> {
    let file = checkpoint.complete.file(WEIGHTS);
    file.map(|f| f.hash)
        .ok_or_else(|| Failure::Internal(format!("a checkpoint without `{WEIGHTS}`")))
}

/// Writes the trainer's state as a checkpoint.
pub fn save(
    trainer: &Trainer,
    store: &dyn Store,
    run: &Path,
    state: &CheckpointState,
) -> Result<Checkpoint, Failure> {
    let weights: Vec<String> = trainer.parameters().iter().map(|p| p.path.clone()).collect();
    let moments = trainer.moment_paths();
    save_tensors(&tensors(trainer, &weights)?, &tensors(trainer, &moments)?, store, run, state)
}

/// Writes tensors and a position as a checkpoint.
pub(super) fn save_tensors(
    weights: &[TensorSource],
    moments: &[TensorSource],
    store: &dyn Store,
    run: &Path,
    state: &CheckpointState,
) -> Result<Checkpoint, Failure> {
    let metadata = Default::default();
    let write_weights =
        |out: &mut dyn std::io::Write| llmc_formats::safetensors::write_to(out, weights, &metadata);
    let write_moments =
        |out: &mut dyn std::io::Write| llmc_formats::safetensors::write_to(out, moments, &metadata);
    let state_text =
        serde_json::to_string_pretty(state).map_err(|e| Failure::Internal(e.to_string()))?;
    let state_text = format!("{state_text}\n");
    let files = [
        (WEIGHTS, Content::Write(&write_weights)),
        (OPTIMIZER, Content::Write(&write_moments)),
        (STATE, Content::Bytes(state_text.as_bytes())),
    ];
    Ok(checkpoint::save(store, run, state.step, &files)?)
}

fn tensors<'t>(
    trainer: &'t Trainer,
    paths: &'t [String],
) -> Result<Vec<TensorSource<'t>>, Failure> {
    let mut out = Vec::with_capacity(paths.len());
    for path in paths {
        let (shape, values) = trainer.tensor(path)?;
        out.push(TensorSource { name: path, dtype: DType::F32, shape, data: Data::F32(values) });
    }
    Ok(out)
}

/// Reads a checkpoint into the trainer.
pub fn restore(
    trainer: &mut Trainer,
    store: &dyn Store,
    checkpoint: &Checkpoint,
) -> Result<CheckpointState, Failure> {
    let weights: Vec<String> = trainer.parameters().iter().map(|p| p.path.clone()).collect();
    let moments = trainer.moment_paths();
    for (file, paths) in [(WEIGHTS, &weights), (OPTIMIZER, &moments)] {
        let bytes = checkpoint.read(store, file)?;
        fill(trainer, &bytes, paths, &checkpoint.path.join(file))?;
    }
    let state = checkpoint.read(store, STATE)?;
    let state: CheckpointState = serde_json::from_slice(&state).map_err(|e| {
        Diagnostic::error(
            "checkpoint::state",
            format!("`{}`: {e}", checkpoint.path.join(STATE).display()),
        )
    })?;
    trainer.set_step_count(state.step);
    Ok(state)
}

/// Fills tensors of the trainer from a safetensors file.
pub fn fill(
    trainer: &mut Trainer,
    bytes: &[u8],
    paths: &[String],
    file: &Path,
) -> Result<(), Failure> {
    let bad = |message: String| -> Failure {
        let d =
            Diagnostic::error("checkpoint::weights", format!("`{}`: {message}", file.display()));
        d.help("the file belongs to another model or is damaged").into()
    };
    let parsed = SafeTensors::parse(bytes).map_err(|e| bad(e.to_string()))?;
    for path in paths {
        let tensor = parsed.tensor(path).map_err(|e| bad(e.to_string()))?;
        let values = tensor.to_f32().map_err(|e| bad(e.to_string()))?;
        let out = trainer.tensor_mut(path)?;
        if out.len() != values.len() {
            return Err(bad(format!(
                "`{path}` has {} elements, expected {}",
                values.len(),
                out.len()
            )));
        }
        out.copy_from_slice(&values);
    }
    Ok(())
}
