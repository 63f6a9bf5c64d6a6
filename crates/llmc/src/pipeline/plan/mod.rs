//! What a training will take, before any of it is allocated: memory, work, time and disk.
//!
//! Memory and FLOPs are read off the plans, which are the ones that the run executes. Times are predicted from
//! a calibration of this machine. What depends on text that nobody has read yet is estimated from the
//! lengths of the files, and marked so.

mod estimate;
mod launches;
#[cfg(test)]
mod tests;

pub use estimate::{DataEstimate, DiskPlan};
pub use launches::TopLaunch;

use super::failure::Failure;
use super::prepare::{Prepared, section, training_threads};
use super::project::{Project, build_model};
use super::snapshot;
use crate::calibration::MachineCalibration;
use crate::store::Source;
use launches::{Lap, lap};
use llmc_ir::Module;
use llmc_plan::predict::{SUM_SQUARES, ZERO, reuse};
use llmc_plan::{Launch, Plan, View, WORD_BYTES, words_for};
use llmc_runtime::{Isa, scratch_words};
use llmc_spec::{GradientCheckpointing, OptimizerConfig, TrainingConfig};
use llmc_train::optim::{self, Parameter};
use llmc_train::{Plans, differentiate};
use serde::{Deserialize, Serialize};

/// What a training will take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunPlan {
    /// Name of the model.
    pub name: String,
    /// Threads.
    pub threads: usize,
    /// Instruction set.
    pub isa: &'static str,
    /// Memory.
    pub memory: MemoryPlan,
    /// Work of a step.
    pub work: WorkPlan,
    /// Times; `None` without a calibration.
    pub time: Option<TimePlan>,
    /// What the run will leave on the disk.
    pub disk: DiskPlan,
    /// What is known of the text.
    pub data: DataEstimate,
    /// The launches of a step that take longest, by kind.
    pub launches: Vec<TopLaunch>,
    /// What other values of `training.gradient_checkpointing` would give.
    pub gradient_checkpointing: Vec<Alternative>,
}

/// Bytes of memory, by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// Parameters.
    pub weights: u64,
    /// Their gradients, and the loss.
    pub gradients: u64,
    /// What the optimiser keeps.
    pub optimizer: u64,
    /// The largest frame of all that runs: activations, inputs and outputs.
    pub activations: u64,
    /// Scratch of the kernels.
    pub scratch: u64,
    /// The plans themselves.
    pub plans: u64,
    /// The best states, which wait in memory for the next checkpoint.
    pub best_state: u64,
    /// The copy of the state that is written beside the training.
    pub staged: u64,
    /// Code that a first step touches, and what planning leaves; estimated.
    pub working: u64,
    /// All of these: how much the resident memory grows from before the training to its peak.
    pub peak_growth: u64,
    /// What the trainer reserves for weights, gradients, optimiser and frames, used or not.
    pub reserved: u64,
    /// Text and packed rows, which are there before; estimated.
    pub data: u64,
    /// Program and tokenizer; estimated.
    pub process: u64,
}

/// The work of a step, by the ops' own account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkPlan {
    /// Micro-batches.
    pub micro_batches: u64,
    /// Tokens, at most.
    pub tokens: u64,
    /// Floating-point operations; exact.
    pub flops: u64,
    /// Bytes that launches read and write, without any reuse; exact.
    pub bytes: u64,
    /// Launches.
    pub launches: u64,
}

/// Predicted times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimePlan {
    /// Seconds of a step.
    pub step_s: f64,
    /// Tokens per second of a step.
    pub tokens_per_s: f64,
    /// Steps.
    pub steps: u64,
    /// Validations.
    pub evaluations: u64,
    /// Seconds of all of them; the number of held-out rows is estimated.
    pub evaluations_s: f64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Seconds of all of them.
    pub checkpoints_s: f64,
    /// Seconds of all samples.
    pub samples_s: f64,
    /// Seconds from the first step to the last checkpoint.
    pub run_s: f64,
}

/// A value of `training.gradient_checkpointing` and what it would give.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alternative {
    /// `none`, `block` or `budget`.
    pub value: &'static str,
    /// Whether the spec has it.
    pub is_chosen: bool,
    /// Bytes that the resident memory grows.
    pub peak_growth: u64,
    /// Floating-point operations of a step.
    pub flops: u64,
    /// Seconds of a step.
    pub step_s: Option<f64>,
}

/// How the training is to be executed.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlanOptions {
    /// Threads; `None` takes the spec's, or one per core.
    pub threads: Option<usize>,
    /// Instruction set; `None` takes the best.
    pub isa: Option<Isa>,
}

impl PlanOptions {
    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa.unwrap_or_else(Isa::detect)
    }

    /// The threads of a project's training.
    ///
    /// Errors: `train::threads`; a project without training.
    pub fn threads(&self, project: &Project) -> Result<usize, Failure> {
        let training = section(&project.resolved.training)?;
        training_threads(project.model()?, training, self.threads)
    }
}

/// Plans a training; `source` has its text, of which only the lengths of the files are looked at.
///
/// Errors: those of the stages; text that is not there is no error here.
pub fn plan(
    project: &Project,
    options: &PlanOptions,
    calibration: Option<&MachineCalibration>,
    source: &dyn Source,
) -> Result<RunPlan, Failure> {
    let model = project.model()?;
    let training: &TrainingConfig = section(&project.resolved.training)?;
    let module = llmc_train::with_z_loss(&build_model(model)?, training.z_loss)?;
    let chosen = training.gradient_checkpointing;
    let threads = options.threads(project)?;
    let data = estimate::data(project, source)?;
    let planned = Planned::new(project, &module, training, threads)?;
    let main = planned.figures(calibration);
    let mut alternatives = vec![alternative(chosen, true, &main)];
    for other in [GradientCheckpointing::None, GradientCheckpointing::Block] {
        if other != chosen {
            let training = TrainingConfig { gradient_checkpointing: other, ..training.clone() };
            let planned = Planned::new(project, &module, &training, threads)?;
            alternatives.push(alternative(other, false, &planned.figures(calibration)));
        }
    }
    let Figures { mut memory, work, step, .. } = main;
    memory.data = data.memory_bytes;
    memory.process = estimate::PROCESS_BYTES;
    let (state, parameters) = (memory.weights + memory.optimizer, &planned.parameters);
    let disk = estimate::disk(training, &data, state, parameters.len());
    let time = calibration.map(|c| planned.time(c, &step, &work, &data, &disk));
    Ok(RunPlan {
        name: model.name.clone(),
        threads,
        isa: options.isa().name(),
        memory,
        work,
        time,
        disk,
        data,
        launches: launches::top(&step, calibration.is_some()),
        gradient_checkpointing: alternatives,
    })
}

/// Predicted and seen, of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// By the plan.
    pub predicted: f64,
    /// In the run.
    pub actual: f64,
}

impl Compared {
    /// How much more was predicted, in per cent of what was seen.
    pub fn error_percent(&self) -> f64 {
        (self.predicted / self.actual - 1.0) * 100.0
    }
}

/// A plan beside the run. An observation: no hash covers it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanCheck {
    /// Seconds of a step; the actual one is the median.
    pub step_s: Compared,
    /// Bytes that the resident memory grew to its peak; `None` where the system does not tell.
    pub peak_growth: Option<Compared>,
}

/// What was predicted for a prepared run beside what was seen: the median step in seconds, and the growth of
/// the resident memory in bytes.
pub(super) fn check(
    prepared: &Prepared,
    threads: usize,
    calibration: &MachineCalibration,
    step_s: f64,
    growth: Option<u64>,
) -> Result<PlanCheck, Failure> {
    let project = &prepared.project;
    let training = section(&project.resolved.training)?;
    let (module, gradient) = (&prepared.module, &prepared.gradient);
    let figures = Planned::of(project, module, gradient, training, threads)?;
    let figures = figures.figures(Some(calibration));
    let predicted = figures.memory.peak_growth as f64;
    Ok(PlanCheck {
        step_s: Compared { predicted: figures.step.seconds, actual: step_s },
        peak_growth: growth.map(|bytes| Compared { predicted, actual: bytes as f64 }),
    })
}

fn alternative(value: GradientCheckpointing, is_chosen: bool, figures: &Figures) -> Alternative {
    Alternative {
        value: match value {
            GradientCheckpointing::None => "none",
            GradientCheckpointing::Block => "block",
            GradientCheckpointing::Budget(_) => "budget",
        },
        is_chosen,
        peak_growth: figures.memory.peak_growth,
        flops: figures.work.flops,
        step_s: figures.is_timed.then_some(figures.step.seconds),
    }
}

/// The plans of a training, and what belongs to them.
struct Planned<'a> {
    training: &'a TrainingConfig,
    parameters: Vec<Parameter>,
    plans: Plans,
    threads: usize,
    has_held_out: bool,
}

struct Figures {
    memory: MemoryPlan,
    work: WorkPlan,
    step: Lap,
    is_timed: bool,
}

impl<'a> Planned<'a> {
    fn new(
        project: &Project,
        module: &Module,
        training: &'a TrainingConfig,
        threads: usize,
    ) -> Result<Self, Failure> {
        let optimizer: &OptimizerConfig = section(&project.resolved.optimizer)?;
        let gradient = differentiate(module, optimizer, training, threads)?;
        Self::of(project, module, &gradient, training, threads)
    }

    fn of(
        project: &Project,
        module: &Module,
        gradient: &Module,
        training: &'a TrainingConfig,
        threads: usize,
    ) -> Result<Self, Failure> {
        let optimizer: &OptimizerConfig = section(&project.resolved.optimizer)?;
        let model = project.model()?;
        let width = model.architecture.width_multiplier(model.dims.hidden_size);
        let parameters = optim::widened(optim::parameters(gradient, "grad")?, width);
        let plans = Plans::new(module, gradient, &parameters, optimizer, training)?;
        let dataset = section(&project.resolved.dataset)?;
        let has_held_out = dataset.validation_fraction > 0.0;
        Ok(Planned { training, parameters, plans, threads, has_held_out })
    }

    fn micro_batches(&self) -> u64 {
        self.training.batch_size.div_ceil(self.training.microbatch_size.max(1))
    }

    /// The plans that a run executes.
    fn executed(&self) -> Vec<&Plan> {
        let Plans { gradient, merge, update, evaluate, forward, .. } = &self.plans;
        let mut plans = vec![gradient, merge, update];
        plans.extend(self.has_held_out.then_some(evaluate));
        plans.extend((self.training.sample_tokens > 0).then_some(forward));
        plans
    }

    fn memory(&self) -> MemoryPlan {
        let bytes = |words: usize| (words * WORD_BYTES) as u64;
        let space = &self.plans.space;
        let (mut weights, mut gradients) = (0, bytes(words_for(1)));
        for parameter in &self.parameters {
            let size = |path: &str| {
                space.get(path).map_or(0, |view: &View| bytes(words_for(view.region.len)))
            };
            weights += size(&parameter.path);
            let grads = parameter.grads.iter();
            gradients += grads.map(|g| size(&format!("{}.{g}", parameter.path))).sum::<u64>();
        }
        let executed = self.executed();
        let frame = executed.iter().map(|p| p.frame_start + p.frame_words).max().unwrap_or(0);
        let reserved = self.plans.all().map(|p| p.frame_start + p.frame_words).into_iter().max();
        let scratch = executed.iter().map(|p| scratch_words(p, self.threads)).max();
        let optimizer = bytes(space.len()) - weights - gradients;
        let mut memory = MemoryPlan {
            weights,
            gradients,
            optimizer,
            activations: bytes(frame.max(space.len()) - space.len()),
            scratch: bytes(scratch.unwrap_or(0)),
            plans: self.plans.all().iter().map(|p| plan_bytes(p)).sum(),
            best_state: self.best_state(weights + optimizer),
            staged: self.staged(weights + optimizer),
            working: estimate::WORKING_BYTES,
            reserved: bytes(reserved.unwrap_or(0).max(space.len())),
            ..MemoryPlan::default()
        };
        memory.peak_growth = memory.weights
            + memory.gradients
            + memory.optimizer
            + memory.activations
            + memory.scratch
            + memory.plans
            + memory.best_state
            + memory.staged
            + memory.working;
        memory
    }

    /// Bytes of the copy that a checkpoint on the way is written from, if there is one and it is small enough.
    fn staged(&self, bytes: u64) -> u64 {
        let TrainingConfig { checkpoint_interval, max_steps, .. } = *self.training;
        let is_on_the_way = checkpoint_interval > 0 && checkpoint_interval < max_steps;
        if is_on_the_way && bytes <= snapshot::MAX_STAGED_BYTES as u64 { bytes } else { 0 }
    }

    /// Bytes of the best state, if there are validations between two checkpoints and it is small enough
    /// to be kept.
    fn best_state(&self, bytes: u64) -> u64 {
        let TrainingConfig { eval_interval, checkpoint_interval, max_steps, .. } = *self.training;
        let is_between = self.has_held_out
            && self.training.keep_best
            && eval_interval > 0
            && eval_interval < max_steps
            && (checkpoint_interval == 0 || !eval_interval.is_multiple_of(checkpoint_interval));
        if is_between && bytes <= snapshot::MAX_WAITING_BYTES as u64 { bytes } else { 0 }
    }

    fn work(&self) -> WorkPlan {
        let Plans { gradient, merge, update, .. } = &self.plans;
        let micro_batches = self.micro_batches();
        let bytes = |p: &Plan| p.launches.iter().map(|l| l.work.bytes).sum::<i128>();
        let per_step = |of: &dyn Fn(&Plan) -> i128| {
            let sum = of(gradient) * i128::from(micro_batches) + of(merge) + of(update);
            u64::try_from(sum).unwrap_or(u64::MAX)
        };
        WorkPlan {
            micro_batches,
            tokens: self.training.batch_size.saturating_mul(self.training.sequence_length),
            flops: per_step(&|p| p.flops),
            bytes: per_step(&bytes),
            launches: per_step(&|p| p.launches.len() as i128),
        }
    }

    fn figures(&self, calibration: Option<&MachineCalibration>) -> Figures {
        let step = self.step(calibration);
        let is_timed = calibration.is_some();
        Figures { memory: self.memory(), work: self.work(), step, is_timed }
    }

    /// A step: gradients of all micro-batches, merge, norm, update.
    fn step(&self, calibration: Option<&MachineCalibration>) -> Lap {
        let Plans { gradient, merge, update, space, .. } = &self.plans;
        let micro_batches = self.micro_batches();
        let order: &[&Plan] = match micro_batches {
            1 => &[gradient, merge, update],
            _ => &[gradient, gradient, merge, update],
        };
        let distances = reuse(order);
        let launches = calibration.map(|c| &c.launches);
        let mut step = Lap::default();
        let times = [micro_batches, 1, 1];
        let last = distances.iter().skip(order.len() - 3);
        for ((plan, distances), times) in [gradient, merge, update].iter().zip(last).zip(times) {
            step.add(lap(plan, distances, launches), times);
        }
        if let Some(calibration) = launches {
            // Everything else of a step lies between two looks at a gradient.
            let far = gradient.launches.iter().map(|l| l.work.bytes).sum::<i128>() as f64;
            for parameter in &self.parameters {
                for (i, grad) in parameter.grads.iter().enumerate() {
                    let view = space.get(&format!("{}.{grad}", parameter.path));
                    let elements = view.map_or(0, |v| v.region.len);
                    step.seconds += calibration.host(ZERO, elements, far);
                    if i == 0 {
                        step.seconds += calibration.host(SUM_SQUARES, elements, far);
                    }
                }
            }
        }
        step
    }

    fn time(
        &self,
        calibration: &MachineCalibration,
        step: &Lap,
        work: &WorkPlan,
        data: &DataEstimate,
        disk: &DiskPlan,
    ) -> TimePlan {
        let training = self.training;
        let once = |plan: &Plan| {
            let distances = reuse(&[plan]);
            lap(plan, &distances[0], Some(&calibration.launches)).seconds
        };
        let due = |interval: u64| match interval {
            0 => 1,
            n => training.max_steps.div_ceil(n),
        };
        let evaluations = if self.has_held_out { due(training.eval_interval) } else { 0 };
        let limit = training.eval_batches.map(|n| n.saturating_mul(training.batch_size));
        let rows = limit.map_or(data.held_out_rows, |limit| limit.min(data.held_out_rows));
        let batches = rows.div_ceil(training.microbatch_size.max(1));
        let evaluations_s = evaluations as f64 * batches as f64 * once(&self.plans.evaluate);
        let checkpoints = due(training.checkpoint_interval);
        let checkpoints_s = checkpoints as f64 * disk.checkpoint_bytes as f64
            / calibration.disk_bytes_per_s.max(1) as f64;
        let samples = match training.sample_tokens {
            0 => 0,
            tokens => tokens.saturating_mul(due(training.sample_interval)),
        };
        let samples_s = samples as f64 * once(&self.plans.forward);
        TimePlan {
            step_s: step.seconds,
            tokens_per_s: work.tokens as f64 / step.seconds.max(1e-12),
            steps: training.max_steps,
            evaluations,
            evaluations_s,
            checkpoints,
            checkpoints_s,
            samples_s,
            run_s: training.max_steps as f64 * step.seconds
                + evaluations_s
                + checkpoints_s
                + samples_s,
        }
    }
}

/// Bytes that a plan itself takes on a 64-bit machine: launches with op and scope, and a view per operand and
/// result, with what the allocator adds.
fn plan_bytes(plan: &Plan) -> u64 {
    const LAUNCH: usize = 448;
    const VIEW: usize = 112;
    let views = |l: &Launch| l.operands.len() + l.results.len();
    plan.launches.iter().map(|l| LAUNCH + VIEW * views(l)).sum::<usize>() as u64
}
