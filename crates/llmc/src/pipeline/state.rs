//! The state of a run in a checkpoint: weights, moments, position.

use super::failure::Failure;
use crate::checkpoint::{self, Checkpoint, Content};
use crate::store::Store;
use llmc_base::{Diagnostic, Hash};
use llmc_formats::safetensors::{DType, Data, SafeTensors, TensorSource};
use llmc_train::{Scaler, Spikes, Trainer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::VecDeque;
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
    /// Those of the next best, where more than one is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_best: Vec<(u64, f64)>,
    /// How long the held-out loss has not fallen, with `early_stopping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<Patience>,
    /// What the rule of `skip_spikes` remembers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spikes: Option<SpikeState>,
    /// The scale of the loss, with `float16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<ScalerState>,
}

/// The scale of the loss and what it depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalerState {
    /// What the next step's gradients are multiplied by.
    pub scale: Exact,
    /// Steps with finite gradients since it changed.
    pub good_steps: u64,
    /// Steps skipped since the start of the run.
    pub skipped: u64,
}

impl ScalerState {
    fn of(scaler: &Scaler) -> ScalerState {
        let &Scaler { scale, good_steps, skipped } = scaler;
        ScalerState { scale: Exact(scale), good_steps, skipped }
    }

    fn scaler(&self) -> Scaler {
        let &ScalerState { scale: Exact(scale), good_steps, skipped } = self;
        Scaler { scale, good_steps, skipped }
    }
}

/// Validations without a lower loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Patience {
    /// The loss that would have to be beaten.
    pub best: Exact,
    /// Validations since.
    pub stale: u64,
}

/// Losses and gradient norms of the last steps, and how many steps were skipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpikeState {
    /// Losses, oldest first.
    pub losses: Vec<Exact>,
    /// Gradient norms.
    pub grad_norms: Vec<Exact>,
    /// Steps skipped since the start of the run.
    pub skipped: u64,
}

impl SpikeState {
    fn of(spikes: &Spikes) -> Option<SpikeState> {
        let exact = |values: &VecDeque<f64>| values.iter().copied().map(Exact).collect();
        (*spikes != Spikes::default()).then(|| SpikeState {
            losses: exact(&spikes.losses),
            grad_norms: exact(&spikes.grad_norms),
            skipped: spikes.skipped,
        })
    }

    fn spikes(&self) -> Spikes {
        let values = |exact: &[Exact]| exact.iter().map(|x| x.0).collect();
        Spikes {
            losses: values(&self.losses),
            grad_norms: values(&self.grad_norms),
            skipped: self.skipped,
        }
    }
}

/// A number whose bits survive a file: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exact(pub f64);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:016x}", self.0.to_bits()))
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bits = u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        Ok(Exact(f64::from_bits(bits)))
    }
}

impl CheckpointState {
    /// Steps of the best validations, the best first.
    pub fn best_steps(&self) -> impl Iterator<Item = u64> {
        self.best.iter().chain(&self.also_best).map(|(step, _)| *step)
    }

    /// The same with what the trainer knows beside its tensors.
    pub(super) fn with(&self, trainer: &Trainer) -> CheckpointState {
        let spikes = SpikeState::of(trainer.spikes());
        let loss_scale = trainer.scaler().map(ScalerState::of);
        CheckpointState { spikes, loss_scale, ..self.clone() }
    }
}

/// Weights in a checkpoint.
pub const WEIGHTS: &str = "weights.safetensors";

/// Moments in a checkpoint.
pub const OPTIMIZER: &str = "optimizer.safetensors";

/// Moving averages of the weights in a checkpoint, under the names of the weights; only with
/// `training.ema`.
pub const EMA: &str = "ema.safetensors";

/// Position in a checkpoint.
pub const STATE: &str = "state.json";

/// BLAKE3 of a checkpoint's weights file.
pub fn weights_hash(checkpoint: &Checkpoint) -> Result<Hash, Failure> {
    let file = checkpoint.complete.file(WEIGHTS);
    file.map(|f| f.hash)
        .ok_or_else(|| Failure::Internal(format!("a checkpoint without `{WEIGHTS}`")))
}

/// Tensors of a checkpoint, by file.
pub(super) struct Files<'t> {
    pub weights: Vec<TensorSource<'t>>,
    pub moments: Vec<TensorSource<'t>>,
    /// Empty without `training.ema`.
    pub ema: Vec<TensorSource<'t>>,
}

/// Writes the trainer's state as a checkpoint.
pub fn save(
    trainer: &Trainer,
    store: &dyn Store,
    run: &Path,
    state: &CheckpointState,
) -> Result<Checkpoint, Failure> {
    let weights: Vec<String> = trainer.parameters().iter().map(|p| p.path.clone()).collect();
    let (moments, ema) = (trainer.moment_paths(), trainer.ema_paths());
    let mut files = Files {
        weights: tensors(trainer, &weights)?,
        moments: tensors(trainer, &moments)?,
        ema: tensors(trainer, &ema)?,
    };
    files.ema.iter_mut().zip(&weights).for_each(|(tensor, name)| tensor.name = name);
    save_tensors(&files, store, run, &state.with(trainer))
}

/// Writes tensors and a position as a checkpoint.
pub(super) fn save_tensors(
    tensors: &Files,
    store: &dyn Store,
    run: &Path,
    state: &CheckpointState,
) -> Result<Checkpoint, Failure> {
    let metadata = Default::default();
    let [weights, moments, ema] = [&tensors.weights, &tensors.moments, &tensors.ema].map(|t| {
        |out: &mut dyn std::io::Write| llmc_formats::safetensors::write_to(out, t, &metadata)
    });
    let state_text =
        serde_json::to_string_pretty(state).map_err(|e| Failure::Internal(e.to_string()))?;
    let state_text = format!("{state_text}\n");
    let mut files = vec![
        (WEIGHTS, Content::Write(&weights)),
        (OPTIMIZER, Content::Write(&moments)),
        (STATE, Content::Bytes(state_text.as_bytes())),
    ];
    if !tensors.ema.is_empty() {
        files.push((EMA, Content::Write(&ema)));
    }
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
    if !trainer.ema_paths().is_empty() {
        // Its tensors have the names of the weights, which come after it.
        let bytes = checkpoint.read(store, EMA)?;
        fill(trainer, &bytes, &weights, &checkpoint.path.join(EMA))?;
        trainer.reset_ema()?;
    }
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
    trainer.set_spikes(state.spikes.as_ref().map(SpikeState::spikes).unwrap_or_default());
    if let Some(loss_scale) = &state.loss_scale {
        trainer.set_scaler(loss_scale.scaler());
    }
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
