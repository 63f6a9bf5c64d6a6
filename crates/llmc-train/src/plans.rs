//! The plans of a training over one memory, made before any of it is touched, and the choice of what
//! the backward pass computes again.

use crate::lora;
use crate::optim::{self, Parameter, merge_module, update_module};
use crate::trainer::TrainError;
use llmc_base::expr::Env;
use llmc_base::{Decision, Diagnostic, Symbol};
use llmc_ir::{FuncId, Module};
use llmc_passes::autodiff::{Options, Recompute};
use llmc_plan::{
    AddressSpace, FunctionNotes, Plan, PlanRequest, WORD_BYTES, plan_all, plan_all_explained,
};
use llmc_runtime::scratch_words;
use llmc_spec::{GradientCheckpointing, OptimizerConfig, Precision, TrainingConfig};

/// Every plan of a training.
pub struct Plans {
    /// Where weights, gradients and moments are.
    pub space: AddressSpace,
    /// Loss and gradients of a micro-batch.
    pub gradient: Plan,
    /// Accumulators of shared parameters, added.
    pub merge: Plan,
    /// The optimiser.
    pub update: Plan,
    /// The loss without dropout.
    pub evaluate: Plan,
    /// The logits of one sequence.
    pub forward: Plan,
    /// Names of the functions of the gradient module, for messages.
    pub functions: Vec<String>,
}

/// Why the plans of a step are as they are.
#[derive(Clone, Debug, Default)]
pub struct PlanNotes {
    /// What was fused in the gradient module, and what was not.
    pub fused: Vec<Decision>,
    /// The memory of the functions of gradient, merge and update.
    pub functions: Vec<FunctionNotes>,
    /// Names of the functions of gradient, merge and update, by which launches name their origin.
    pub names: [Vec<String>; 3],
}

fn names(module: &Module) -> Vec<String> {
    module.functions.iter().map(|f| f.name.clone()).collect()
}

fn find(module: &Module, function: &str) -> Result<FuncId, TrainError> {
    module.find(function).ok_or_else(|| TrainError::Missing {
        module: module.name.clone(),
        function: function.to_string(),
    })
}

fn dims(batch: u64, length: u64) -> Env {
    Env::from([(Symbol::new("B"), i128::from(batch)), (Symbol::new("T"), i128::from(length))])
}

/// The input of the gradient module that the backward pass starts from, where the loss is scaled.
pub(crate) const LOSS_SCALE: &str = "loss_scale";

/// The model with the arithmetic of the training.
fn in_precision(model: &Module, training: &TrainingConfig) -> Result<Module, TrainError> {
    let precision = match training.precision {
        Precision::Float32 => llmc_ir::ops::Precision::F32,
        Precision::Bfloat16 => llmc_ir::ops::Precision::Bf16,
        Precision::Float16 => llmc_ir::ops::Precision::F16,
    };
    Ok(llmc_passes::with_precision(model, precision)?)
}

impl Plans {
    /// Plans the training of `model`, whose gradient module is `gradient`.
    pub fn new(
        model: &Module,
        gradient: &Module,
        parameters: &[Parameter],
        optimizer: &OptimizerConfig,
        training: &TrainingConfig,
    ) -> Result<Self, TrainError> {
        Self::made(model, gradient, parameters, optimizer, training, None)
    }

    /// [`Plans::new`], and why: what was fused, and the memory of every function of a step.
    pub fn explained(
        model: &Module,
        gradient: &Module,
        parameters: &[Parameter],
        optimizer: &OptimizerConfig,
        training: &TrainingConfig,
    ) -> Result<(Self, PlanNotes), TrainError> {
        let mut notes = PlanNotes::default();
        let plans = Self::made(model, gradient, parameters, optimizer, training, Some(&mut notes))?;
        Ok((plans, notes))
    }

    fn made(
        model: &Module,
        gradient: &Module,
        parameters: &[Parameter],
        optimizer: &OptimizerConfig,
        training: &TrainingConfig,
        notes: Option<&mut PlanNotes>,
    ) -> Result<Self, TrainError> {
        let mut fused = Vec::new();
        let gradient = llmc_passes::fuse_explained(gradient, &mut fused)?;
        let model = llmc_passes::fuse(&in_precision(model, training)?)?;
        let merge = merge_module(parameters)?;
        let update = optim::runnable(&update_module(optimizer, training.ema, parameters)?)?;
        let step_dims = dims(training.microbatch_size, training.sequence_length);
        // With dropout, `@loss` draws bits and `@eval_loss` is the loss without it.
        let evaluation = match model.find("eval_loss") {
            Some(_) => "eval_loss",
            None => "loss",
        };
        let requests = [
            (&gradient, "grad", step_dims.clone()),
            (&merge, "merge", Env::new()),
            (&update, "update", Env::new()),
            (&model, evaluation, step_dims),
            (&model, "forward", dims(1, training.sequence_length)),
        ];
        let mut wanted = Vec::new();
        for (module, entry, env) in requests {
            wanted.push(PlanRequest { module, entry: find(module, entry)?, env });
        }
        let mut space = AddressSpace::default();
        let plans = match notes {
            None => plan_all(&wanted, &mut space)?,
            Some(notes) => {
                let (plans, functions) = plan_all_explained(&wanted, &mut space)?;
                // Gradient, merge, update: what a step executes.
                notes.functions = functions.into_iter().take(3).flatten().collect();
                notes.fused = fused;
                notes.names = [&gradient, &merge, &update].map(names);
                plans
            }
        };
        let functions = names(&gradient);
        let [gradient, merge, update, evaluate, forward]: [Plan; 5] =
            plans.try_into().map_err(|_| TrainError::UnknownTensor(String::new()))?;
        Ok(Plans { space, gradient, merge, update, evaluate, forward, functions })
    }

    /// All of them.
    pub fn all(&self) -> [&Plan; 5] {
        [&self.gradient, &self.merge, &self.update, &self.evaluate, &self.forward]
    }

    /// Bytes of memory that a training with so many threads takes at most: weights, gradients, moments, the
    /// largest frame and the scratch of the kernels.
    pub fn bytes(&self, threads: usize) -> u64 {
        let frames = self.all().into_iter().map(|p| p.frame_start + p.frame_words);
        let words = frames.fold(self.space.len(), usize::max);
        let scratch = self.all().into_iter().map(|p| scratch_words(p, threads)).max();
        (words as u64 + scratch.unwrap_or(0) as u64) * WORD_BYTES as u64
    }
}

/// The gradient module of `model`, with what `training.gradient_checkpointing` asks for. Within a budget as
/// few layers as fit are computed again.
///
/// Errors: those of differentiation and planning; `train::budget` if nothing fits.
pub fn differentiate(
    model: &Module,
    optimizer: &OptimizerConfig,
    training: &TrainingConfig,
    threads: usize,
) -> Result<Module, TrainError> {
    differentiate_explained(model, optimizer, training, threads, &mut Vec::new())
}

/// [`differentiate`], and what the backward half keeps or computes again, and why.
///
/// Errors: as [`differentiate`].
pub fn differentiate_explained(
    model: &Module,
    optimizer: &OptimizerConfig,
    training: &TrainingConfig,
    threads: usize,
    log: &mut Vec<Decision>,
) -> Result<Module, TrainError> {
    let narrow = in_precision(model, training)?;
    let seed = training.loss_scale.map(|_| LOSS_SCALE);
    let with_log = |recompute, log: &mut Vec<Decision>| -> Result<Module, TrainError> {
        let weights = lora::trained(training);
        let options = Options { recompute, seed, weights, ..Options::default() };
        Ok(llmc_passes::autodiff_explained(&narrow, &options, log)?)
    };
    let with = |recompute| with_log(recompute, &mut Vec::new());
    let mut policy = |subject: String, choice, why: String| {
        log.push(Decision::new("checkpointing", "", subject, choice, why));
    };
    let budget = match training.gradient_checkpointing {
        GradientCheckpointing::None => {
            let why = "`gradient_checkpointing = none`: only what is cheap is computed again";
            policy("every layer".into(), "kept", why.into());
            return with_log(Recompute::Cheap, log);
        }
        GradientCheckpointing::Block => {
            let why = "`gradient_checkpointing = block`: a layer keeps its inputs and nothing else";
            policy("every layer".into(), "computed again", why.into());
            return with_log(Recompute::ALL, log);
        }
        GradientCheckpointing::Budget(bytes) => bytes,
    };
    let bytes = |gradient: &Module| -> Result<u64, TrainError> {
        let parameters = optim::parameters(gradient, "grad")?;
        Ok(Plans::new(model, gradient, &parameters, optimizer, training)?.bytes(threads))
    };
    let loss = model.function(find(model, "loss")?);
    let calls = loss.nodes.iter().filter(|n| matches!(n.op, llmc_ir::Op::Call(_))).count();
    // Memory falls with every layer that keeps nothing: the least number that fits, by halving.
    let (mut low, mut high) = (0, calls);
    while low < high {
        let middle = usize::midpoint(low, high);
        let needed = bytes(&with(Recompute::Blocks(middle))?)?;
        let does_fit = needed <= budget;
        let choice = if does_fit { "fits" } else { "too large" };
        let why = format!("{needed} bytes of the {budget} that the budget allows");
        policy(format!("{middle} of {calls} layers computed again"), choice, why);
        match does_fit {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    let mut decided = Vec::new();
    let gradient = with_log(Recompute::Blocks(low), &mut decided)?;
    let least = bytes(&gradient)?;
    if least <= budget {
        let why = format!("the fewest that fit: {least} bytes of the {budget} that are allowed");
        policy(format!("{low} of {calls} layers computed again"), "chosen", why);
        log.append(&mut decided);
        return Ok(gradient);
    }
    let message = format!(
        "training takes at least {least} bytes of memory, `training.gradient_checkpointing` allows {budget}"
    );
    let help = format!(
        "allow {:.1} MiB, or take a smaller `training.microbatch_size` or `training.sequence_length`",
        (least as f64 / (1 << 20) as f64 * 10.0).ceil() / 10.0
    );
    Err(Diagnostic::error("train::budget", message)
        .field("training.gradient_checkpointing")
        .help(help)
        .into())
}
