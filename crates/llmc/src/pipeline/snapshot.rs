//! The best state of a run, in memory until the next checkpoint is written.
//!
//! While the loss falls, every validation is the best so far, and all but the
//! last of them would be written for nothing. A run that dies before the next
//! checkpoint goes on from the one before, which does not know of this state,
//! and comes to it again.

use super::failure::Failure;
use super::state::{CheckpointState, save_tensors};
use crate::checkpoint::Checkpoint;
use crate::store::Store;
use llmc_formats::safetensors::{DType, Data, TensorSource};
use llmc_train::Trainer;
use std::path::Path;

/// Above this a state is written at once: the copy would be felt.
pub(super) const MAX_BYTES: usize = 64 << 20;

struct Tensor {
    path: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Weights, moments and position at one step.
pub(super) struct Snapshot {
    state: CheckpointState,
    weights: Vec<Tensor>,
    moments: Vec<Tensor>,
}

impl Snapshot {
    /// Copies the trainer's state; `None` if it is too large.
    pub(super) fn take(
        trainer: &Trainer,
        state: &CheckpointState,
    ) -> Result<Option<Self>, Failure> {
        let mut left = MAX_BYTES;
        let mut copy = |paths: Vec<String>| -> Result<Option<Vec<Tensor>>, Failure> {
            let mut out = Vec::with_capacity(paths.len());
            for path in paths {
                let (shape, values) = trainer.tensor(&path)?;
                let Some(rest) = left.checked_sub(size_of_val(values)) else { return Ok(None) };
                left = rest;
                out.push(Tensor { path, shape: shape.to_vec(), values: values.to_vec() });
            }
            Ok(Some(out))
        };
        let weights = copy(trainer.parameters().iter().map(|p| p.path.clone()).collect())?;
        let moments = copy(trainer.moment_paths())?;
        Ok(weights.zip(moments).map(|(weights, moments)| Snapshot {
            state: state.clone(),
            weights,
            moments,
        }))
    }

    /// Steps done.
    pub(super) fn step(&self) -> u64 {
        self.state.step
    }

    /// Writes it as the checkpoint of its step.
    pub(super) fn save(&self, store: &dyn Store, run: &Path) -> Result<Checkpoint, Failure> {
        save_tensors(&sources(&self.weights), &sources(&self.moments), store, run, &self.state)
    }
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
