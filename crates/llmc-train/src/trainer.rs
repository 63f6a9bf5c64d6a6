//! The trainer: plans for gradient, merge, update, evaluation and generation over
//! one memory, and the step that ties them together.
//!
//! A step is: for each micro-batch, fold loss and gradients into their accumulators; add the
//! accumulators of shared parameters; scale by the global norm; update. The micro-batch split
//! leaves no trace in the bits, because the accumulators go through tokens in global order.

mod inspect;

pub use inspect::Inspection;

use crate::init;
use crate::optim::{self, Parameter};
use crate::plans::{LOSS_SCALE, Plans};
use crate::{Scaler, Spikes, ramp, schedule};
use llmc_base::Diagnostic;
use llmc_ir::{Module, TypeError};
use llmc_plan::{AddressSpace, Plan, PlanError, Region};
use llmc_runtime::{Engine, Memory, RunError};
use llmc_spec::{Init, OptimizerConfig, TrainingConfig};
use std::collections::BTreeMap;

/// Why a step or the set-up failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The fields are in the messages.
pub enum TrainError {
    #[error(transparent)]
    Type(#[from] TypeError),
    #[error("{0}")]
    Pass(Box<Diagnostic>),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("{0}")]
    NonFinite(NonFinite),
    #[error("module `{module}` has no function `@{function}`")]
    Missing { module: String, function: String },
    #[error("`{name}` has {got} elements, expected {expected}")]
    Length { name: String, got: usize, expected: usize },
    #[error("unknown tensor `{0}`")]
    UnknownTensor(String),
}

impl From<Diagnostic> for TrainError {
    fn from(diagnostic: Diagnostic) -> Self {
        TrainError::Pass(Box::new(diagnostic))
    }
}

/// Where the numbers stopped being numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct NonFinite {
    /// Step, from 0.
    pub step: u64,
    /// What was not finite: `loss` or `grad_norm`.
    pub quantity: &'static str,
    /// First node whose result is not finite, as `scope: op in @function`; `None` when each
    /// micro-batch alone is finite and only their sum is not.
    pub node: Option<String>,
    /// Rows of the batch in the micro-batch at fault.
    pub rows: std::ops::Range<usize>,
}

impl std::fmt::Display for NonFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is not finite at step {}", self.quantity, self.step)?;
        if let Some(node) = &self.node {
            write!(f, ", first at {node}")?;
        }
        write!(f, ", in rows {}..{} of the batch", self.rows.start, self.rows.end)
    }
}

/// Rows of packed tokens, row-major [rows, T].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Global index of the first row's sample; the key of dropout.
    pub first_sample: u64,
    /// Number of rows.
    pub rows: usize,
    /// Input ids.
    pub tokens: Vec<i32>,
    /// Position in the document.
    pub positions: Vec<i32>,
    /// Document within the row.
    pub segments: Vec<i32>,
    /// Ids to predict.
    pub targets: Vec<i32>,
    /// 1 where the target counts, 0 elsewhere.
    pub weights: Vec<f32>,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Step, from 0.
    pub step: u64,
    /// Mean loss over the unmasked tokens, in nats.
    pub loss: f64,
    /// Global gradient norm before clipping; not finite in an overflow.
    pub grad_norm: f64,
    /// Learning rate used.
    pub lr: f64,
    /// Unmasked tokens.
    pub tokens: u64,
    /// Whether weights and moments are as before: a spike, or an overflow.
    pub is_skipped: bool,
    /// Whether scaled gradients were not finite, so that the scale comes down.
    pub is_overflow: bool,
    /// What the gradients were scaled by, with `float16`.
    pub loss_scale: Option<f64>,
}

/// The state of a run and the means to advance it.
pub struct Trainer {
    engine: Engine,
    memory: Memory,
    space: AddressSpace,
    gradient: Plan,
    merge: Plan,
    update: Plan,
    evaluate: Plan,
    forward: Plan,
    functions: Vec<String>,
    parameters: Vec<Parameter>,
    /// The loss and every gradient accumulator: what starts a step at 0.
    accumulators: Vec<Region>,
    optimizer: OptimizerConfig,
    training: TrainingConfig,
    step: u64,
    spikes: Spikes,
    scaler: Option<Scaler>,
}

/// The modules a trainer is made of.
pub struct Modules<'a> {
    /// With `@loss` and `@forward`.
    pub model: &'a Module,
    /// The gradient module, with `@grad`.
    pub gradient: &'a Module,
    /// Parameters with their accumulators, in path order.
    pub parameters: Vec<Parameter>,
    /// Number of layers, for residual-scaled initial weights.
    pub n_layers: u64,
    /// Rule of the initial weights.
    pub init: Init,
}

impl Trainer {
    /// Plans everything and fills the weights from the seed.
    pub fn new(
        modules: Modules,
        optimizer: &OptimizerConfig,
        training: &TrainingConfig,
        engine: Engine,
    ) -> Result<Self, TrainError> {
        let Modules { model, gradient, parameters, .. } = &modules;
        let plans = Plans::new(model, gradient, parameters, optimizer, training)?;
        let mut memory = Memory::default();
        memory.reserve(&plans.space, plans.all())?;
        let Plans { space, gradient, merge, update, evaluate, forward, functions } = plans;
        let paths = modules
            .parameters
            .iter()
            .flat_map(|p| p.grads.iter().map(move |grad| format!("{}.{grad}", p.path)));
        let mut accumulators = Vec::new();
        for path in paths.chain(["loss".to_string()]) {
            let view = space.get(&path).ok_or(TrainError::UnknownTensor(path))?;
            accumulators.push(view.region);
        }
        let mut trainer = Trainer {
            engine,
            memory,
            space,
            gradient,
            merge,
            update,
            evaluate,
            forward,
            functions,
            parameters: modules.parameters,
            accumulators,
            optimizer: optimizer.clone(),
            training: training.clone(),
            step: 0,
            spikes: Spikes::default(),
            scaler: training.loss_scale.as_ref().map(Scaler::new),
        };
        for at in 0..trainer.parameters.len() {
            let parameter = trainer.parameters[at].clone();
            let seed = trainer.training.seed;
            let init = Init { std: modules.init.std / parameter.init_divisor(), ..modules.init };
            let out = trainer.tensor_mut(&parameter.path)?;
            let rank = parameter.ty.rank();
            init::fill(&parameter.path, rank, modules.n_layers, &init, seed, out);
        }
        trainer.reset_ema()?;
        Ok(trainer)
    }

    /// Steps done so far.
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Sets the number of steps done, after the tensors of a checkpoint have been read.
    pub fn set_step_count(&mut self, step: u64) {
        self.step = step;
    }

    /// What the rule of `skip_spikes` remembers; part of the state of a run.
    pub fn spikes(&self) -> &Spikes {
        &self.spikes
    }

    /// Sets what the rule remembers, as a checkpoint has it.
    pub fn set_spikes(&mut self, spikes: Spikes) {
        self.spikes = spikes;
    }

    /// The scale of the loss, with `float16`; part of the state of a run.
    pub fn scaler(&self) -> Option<&Scaler> {
        self.scaler.as_ref()
    }

    /// Sets the scale of the loss, as a checkpoint has it. Nothing happens where the loss is not scaled.
    pub fn set_scaler(&mut self, scaler: Scaler) {
        self.scaler = self.scaler.map(|_| scaler);
    }

    /// Path of the moving average of every parameter, in path order; none without `training.ema`.
    pub fn ema_paths(&self) -> Vec<String> {
        let path = |p: &Parameter| format!("{}.{}", p.path, optim::EMA);
        let parameters = self.parameters.iter().filter(|_| self.training.ema.is_some());
        parameters.map(path).collect()
    }

    /// Starts the moving averages at the weights.
    pub fn reset_ema(&mut self) -> Result<(), TrainError> {
        for (at, ema) in self.ema_paths().iter().enumerate() {
            let values = self.tensor(&self.parameters[at].path)?.1.to_vec();
            self.tensor_mut(ema)?.copy_from_slice(&values);
        }
        Ok(())
    }

    /// Exchanges weights and moving averages, to evaluate with these; twice changes nothing.
    pub fn swap_ema(&mut self) -> Result<(), TrainError> {
        for (at, ema) in self.ema_paths().iter().enumerate() {
            let path = self.parameters[at].path.clone();
            let weights = self.tensor(&path)?.1.to_vec();
            let averages = self.tensor(ema)?.1.to_vec();
            self.tensor_mut(&path)?.copy_from_slice(&averages);
            self.tensor_mut(ema)?.copy_from_slice(&weights);
        }
        Ok(())
    }

    /// Bytes of the memory that all plans share.
    pub fn memory_bytes(&self) -> usize {
        self.memory.len() * llmc_plan::WORD_BYTES
    }

    /// Threads in use.
    pub fn threads(&self) -> usize {
        self.engine.threads()
    }

    /// The parameters, in path order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Paths of what the optimiser keeps, in order.
    pub fn moment_paths(&self) -> Vec<String> {
        let names = |p: &Parameter| optim::rule_of(&self.optimizer, p).moments.iter();
        let paths = |p| names(p).map(|name| format!("{}.{name}", p.path));
        self.parameters.iter().flat_map(paths).collect()
    }

    /// Shape and elements of a weight or moment.
    pub fn tensor(&self, path: &str) -> Result<(&[usize], &[f32]), TrainError> {
        let view = self.space.get(path).ok_or_else(|| TrainError::UnknownTensor(path.into()))?;
        Ok((&view.shape, self.memory.f32s(view)))
    }

    /// Elements of a weight or moment, to be filled.
    pub fn tensor_mut(&mut self, path: &str) -> Result<&mut [f32], TrainError> {
        let view = self.space.get(path).ok_or_else(|| TrainError::UnknownTensor(path.into()))?;
        Ok(self.memory.f32s_mut(view))
    }

    /// One optimiser step on `batch`, which must have the rows of [`ramp::batch_size`]. A spike and an
    /// overflow of scaled gradients are counted as steps and change neither weights nor moments.
    ///
    /// Errors: a non-finite loss or gradient (the weights are then those before the step) that no smaller
    /// scale can mend, or a batch of the wrong length.
    pub fn step(&mut self, batch: &Batch) -> Result<StepReport, TrainError> {
        let tokens = self.check(batch)?;
        let norm = share(tokens);
        let loss = self.accumulate(batch, norm)?;
        if !loss.is_finite() {
            return Err(self.locate("loss", batch, norm)?);
        }
        self.engine.run(&self.merge, &mut self.memory)?;
        let scale = self.scale();
        let grad_norm = self.gradient_norm()? / scale;
        let is_overflow = !grad_norm.is_finite();
        match (self.training.loss_scale, &mut self.scaler) {
            (Some(rule), Some(scaler)) if !is_overflow || scaler.can_back_off(&rule) => {
                scaler.update(&rule, !is_overflow);
            }
            _ if is_overflow => return Err(self.locate("grad_norm", batch, norm)?),
            _ => {}
        }
        let lr = self.optimizer.lr
            * schedule::factor(&self.training.schedule, self.step, self.training.max_steps);
        let is_skipped =
            is_overflow || self.spikes.is_spike(&self.training.skip_spikes, loss, grad_norm);
        let loss_scale = self.scaler.map(|_| scale);
        let step = self.step;
        let report =
            StepReport { step, loss, grad_norm, lr, tokens, is_skipped, is_overflow, loss_scale };
        if is_skipped {
            self.step += 1;
            return Ok(report);
        }
        let grad_scale = match self.optimizer.max_grad_norm {
            Some(max) => (max / (grad_norm + 1e-6)).min(1.0),
            None => 1.0,
        };
        let rule = optim::rule(self.optimizer.kind);
        // The moments know only of updates that were made.
        let n_skipped = self.spikes.skipped + self.scaler.map_or(0, |scaler| scaler.skipped);
        let n_updates = self.step.saturating_sub(n_skipped) + 1;
        let [correction1, correction2] = (rule.bias_corrections)(&self.optimizer, n_updates as f64);
        let values = BTreeMap::from([
            ("lr", lr),
            ("weight_decay", self.optimizer.weight_decay),
            ("grad_scale", grad_scale / scale),
            ("bias_correction1", correction1),
            ("bias_correction2", correction2),
        ]);
        for (name, view) in &self.update.inputs {
            let value = values.get(name.as_str()).copied().unwrap_or(0.0);
            self.memory.f32s_mut(view).fill(value as f32);
        }
        self.engine.run(&self.update, &mut self.memory)?;
        self.step += 1;
        Ok(report)
    }

    /// Sum of the losses (nats) and number of unmasked tokens of `batch`, without dropout or update. The
    /// batch may have any number of rows; rows that fill up the last micro-batch weigh nothing.
    pub fn evaluate(&mut self, batch: &Batch) -> Result<(f64, u64), TrainError> {
        let tokens = batch.weights.iter().filter(|w| **w != 0.0).count() as u64;
        let micro = self.training.microbatch_size as usize;
        let mut at = 0;
        // One accumulator over all rows: the micro-batch split leaves no trace.
        self.fill_scalar("loss", 0.0)?;
        while at < batch.rows {
            let rows = at..(at + micro).min(batch.rows);
            at = rows.end;
            self.write_batch(Which::Evaluate, batch, rows, 1.0)?;
            self.engine.run(&self.evaluate, &mut self.memory)?;
        }
        let total = f64::from(self.scalar("loss")?);
        self.fill_scalar("loss", 0.0)?;
        Ok((total, tokens))
    }

    /// Logits \[V\] of the token that follows `ids` (the last `sequence_length` of them count).
    pub fn next_logits(&mut self, ids: &[u32]) -> Result<&[f32], TrainError> {
        let length = self.training.sequence_length as usize;
        let ids = &ids[ids.len().saturating_sub(length)..];
        for (name, view) in &self.forward.inputs {
            let out = self.memory.i32s_mut(view);
            for (i, x) in out.iter_mut().enumerate() {
                *x = match name.as_str() {
                    "tokens" => ids.get(i).map_or(0, |id| *id as i32),
                    "positions" => i as i32,
                    // Nothing sees what stands behind the prompt, because attention is causal.
                    _ => 0,
                };
            }
        }
        self.engine.run(&self.forward, &mut self.memory)?;
        let (_, logits) = &self.forward.outputs[0];
        let vocab = logits.shape[2];
        let at = ids.len().max(1) - 1;
        Ok(&self.memory.f32s(logits)[at * vocab..(at + 1) * vocab])
    }

    /// Folds loss and gradients of every micro-batch into their accumulators, from zero; the mean loss, in nats.
    fn accumulate(&mut self, batch: &Batch, norm: f32) -> Result<f64, TrainError> {
        self.zero_accumulators();
        for rows in self.micro_batches(batch.rows) {
            self.write_batch(Which::Gradient, batch, rows, norm)?;
            self.engine.run(&self.gradient, &mut self.memory)?;
        }
        Ok(f64::from(self.scalar("loss")?))
    }

    /// What the gradients are scaled by; 1 where they are not.
    fn scale(&self) -> f64 {
        self.scaler.map_or(1.0, |scaler| scaler.scale)
    }

    fn check(&self, batch: &Batch) -> Result<u64, TrainError> {
        let expected = ramp::batch_size(&self.training, self.step) as usize;
        if batch.rows != expected {
            let name = "rows".to_string();
            return Err(TrainError::Length { name, got: batch.rows, expected });
        }
        Ok(batch.weights.iter().filter(|w| **w != 0.0).count() as u64)
    }

    fn micro_batches(&self, rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let micro = self.training.microbatch_size as usize;
        (0..rows.div_ceil(micro)).map(move |i| i * micro..(i * micro + micro).min(rows))
    }

    fn zero_accumulators(&mut self) {
        for region in &self.accumulators {
            self.memory.words_mut()[region.range()].fill(0.0);
        }
    }

    fn scalar(&self, path: &str) -> Result<f32, TrainError> {
        Ok(self.tensor(path)?.1[0])
    }

    fn fill_scalar(&mut self, path: &str, value: f32) -> Result<(), TrainError> {
        self.tensor_mut(path)?.fill(value);
        Ok(())
    }

    fn gradient_norm(&self) -> Result<f64, TrainError> {
        let mut sum = 0.0;
        for parameter in &self.parameters {
            let (_, g) = self.tensor(&format!("{}.{}", parameter.path, parameter.grads[0]))?;
            sum += self.engine.sum_squares(g);
        }
        Ok(libm::sqrt(sum))
    }

    fn write_batch(
        &mut self,
        which: Which,
        batch: &Batch,
        rows: std::ops::Range<usize>,
        norm: f32,
    ) -> Result<(), TrainError> {
        let plan = match which {
            Which::Gradient => &self.gradient,
            Which::Evaluate => &self.evaluate,
        };
        let scale = self.scale() as f32;
        let length = self.training.sequence_length as usize;
        let span = rows.start * length..rows.end * length;
        for (name, view) in &plan.inputs {
            let ids = match name.as_str() {
                "tokens" => Some(&batch.tokens),
                "positions" => Some(&batch.positions),
                "segments" => Some(&batch.segments),
                "targets" => Some(&batch.targets),
                _ => None,
            };
            let wrong = |got: usize, expected: usize| TrainError::Length {
                name: name.clone(),
                got,
                expected,
            };
            if let Some(ids) = ids {
                let from = ids.get(span.clone()).ok_or(wrong(ids.len(), span.end))?;
                let out = self.memory.i32s_mut(view);
                out[..from.len()].copy_from_slice(from);
                out[from.len()..].fill(0);
                continue;
            }
            match name.as_str() {
                "weights" => {
                    let from = batch.weights.get(span.clone());
                    let from = from.ok_or(wrong(batch.weights.len(), span.end))?;
                    let out = self.memory.f32s_mut(view);
                    out[..from.len()].copy_from_slice(from);
                    out[from.len()..].fill(0.0);
                }
                "norm" => self.memory.f32s_mut(view).fill(norm),
                LOSS_SCALE => self.memory.f32s_mut(view).fill(scale),
                "key" => {
                    let seed = self.training.seed;
                    let out = self.memory.u32s_mut(view);
                    out.copy_from_slice(&[seed as u32, (seed >> 32) as u32]);
                }
                "step" => self.memory.u32s_mut(view).fill(self.step as u32),
                "sample" => {
                    let first = batch.first_sample + rows.start as u64;
                    for (i, x) in self.memory.u32s_mut(view).iter_mut().enumerate() {
                        *x = (first + i as u64) as u32;
                    }
                }
                other => return Err(TrainError::UnknownTensor(other.to_string())),
            }
        }
        Ok(())
    }

    /// Runs the step's micro-batches one by one, checking every result, to name the first node
    /// that is not finite.
    fn locate(
        &mut self,
        quantity: &'static str,
        batch: &Batch,
        norm: f32,
    ) -> Result<TrainError, TrainError> {
        let mut found = NonFinite { step: self.step, quantity, node: None, rows: 0..batch.rows };
        for rows in self.micro_batches(batch.rows) {
            self.zero_accumulators();
            self.write_batch(Which::Gradient, batch, rows.clone(), norm)?;
            if let Some(launch) = self.engine.first_non_finite(&self.gradient, &mut self.memory)? {
                let (function, _, scope) = &launch.origin;
                let function = &self.functions[function.index()];
                let place = if scope.is_empty() { String::new() } else { format!("{scope}: ") };
                found.node = Some(format!("{place}`{}` in `@{function}`", launch.op.name()));
                found.rows = rows;
                break;
            }
        }
        self.zero_accumulators();
        Ok(TrainError::NonFinite(found))
    }
}

/// What each of so many unmasked tokens is of the loss.
fn share(tokens: u64) -> f32 {
    1.0 / tokens.max(1) as f32
}

#[derive(Clone, Copy)]
enum Which {
    Gradient,
    Evaluate,
}
