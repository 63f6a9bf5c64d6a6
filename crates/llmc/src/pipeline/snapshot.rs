//! A copy of a run's state: to be written while the training goes on, and the best state until the
//! next checkpoint.
//!
//! While the loss falls, every validation is the best so far, and all but the
//! last of them would be written for nothing. A run that dies before the next
//! checkpoint goes on from the one before, which does not know of this state,
//! and comes to it again.

use super::failure::Failure;
use super::state::{CheckpointState, Files, save_tensors};
use crate::checkpoint::Checkpoint;
use crate::store::Store;
use llmc_formats::safetensors::{DType, Data, TensorSource};
use llmc_train::Trainer;
use std::path::Path;

/// Above this the best state does not wait for the next checkpoint: each copy would be felt.
pub(super) const MAX_WAITING_BYTES: usize = 64 << 20;

/// Above this a state is written from where it lies, while the training waits.
pub(super) const MAX_STAGED_BYTES: usize = 1 << 30;

#[derive(Default)]
struct Tensor {
    path: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Weights, moments and position at one step.
#[derive(Default)]
pub(super) struct Snapshot {
    state: CheckpointState,
    weights: Vec<Tensor>,
    moments: Vec<Tensor>,
    ema: Vec<Tensor>,
}

impl Snapshot {
    /// Copies the trainer's state, into the memory of `spare` if there is one; `None` if it is larger
    /// than `max_bytes`.
    pub(super) fn take(
        trainer: &Trainer,
        state: &CheckpointState,
        spare: Option<Snapshot>,
        max_bytes: usize,
    ) -> Result<Option<Self>, Failure> {
        let names: Vec<String> = trainer.parameters().iter().map(|p| p.path.clone()).collect();
        let (moments, ema) = (trainer.moment_paths(), trainer.ema_paths());
        let mut n_bytes = 0usize;
        for path in names.iter().chain(&moments).chain(&ema) {
            n_bytes = n_bytes.saturating_add(size_of_val(trainer.tensor(path)?.1));
        }
        if n_bytes > max_bytes {
            return Ok(None);
        }
        let mut snapshot = spare.unwrap_or_default();
        copy(trainer, &names, &names, &mut snapshot.weights)?;
        copy(trainer, &moments, &moments, &mut snapshot.moments)?;
        copy(trainer, &ema, &names, &mut snapshot.ema)?;
        snapshot.state = state.with(trainer);
        Ok(Some(snapshot))
    }

    /// Steps done.
    pub(super) fn step(&self) -> u64 {
        self.state.step
    }

    /// Writes it as the checkpoint of its step.
    pub(super) fn save(&self, store: &dyn Store, run: &Path) -> Result<Checkpoint, Failure> {
        let files = Files {
            weights: sources(&self.weights),
            moments: sources(&self.moments),
            ema: sources(&self.ema),
        };
        save_tensors(&files, store, run, &self.state)
    }
}

/// Copies tensors under these names; what is in `out` already is written over.
fn copy(
    trainer: &Trainer,
    paths: &[String],
    names: &[String],
    out: &mut Vec<Tensor>,
) -> Result<(), Failure> {
    out.resize_with(paths.len(), Tensor::default);
    for ((path, name), tensor) in paths.iter().zip(names).zip(out) {
        let (shape, values) = trainer.tensor(path)?;
        tensor.path.clone_from(name);
        tensor.shape.clear();
        tensor.shape.extend_from_slice(shape);
        tensor.values.clear();
        tensor.values.extend_from_slice(values);
    }
    Ok(())
}

fn sources(tensors: &[Tensor]) -> Vec<TensorSource<'_>> {
    tensors
        .iter()
        .map(|t| TensorSource {
            name: &t.path,
            dtype: DType::F32,
            shape: &t.shape,
            data: Data::F32(&t.values),
        })
        .collect()
}
