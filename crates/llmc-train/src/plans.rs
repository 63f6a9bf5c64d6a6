//! The plans of a training over one memory, made before any of it is touched, and the choice of what
//! the backward pass computes again.

use crate::optim::{self, Parameter, merge_module, update_module};
use crate::trainer::TrainError;
use llmc_base::expr::Env;
use llmc_base::{Diagnostic, Symbol};
use llmc_ir::{FuncId, Module};
use llmc_passes::autodiff::{Options, Recompute};
use llmc_plan::{AddressSpace, Plan, PlanRequest, WORD_BYTES, plan_all};
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
        let model = llmc_passes::fuse(&in_precision(model, training)?)?;
        let gradient = llmc_passes::fuse(gradient)?;
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
        let plans = plan_all(&wanted, &mut space)?;
        let functions = gradient.functions.iter().map(|f| f.name.clone()).collect();
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
    let narrow = in_precision(model, training)?;
    let seed = training.loss_scale.map(|_| LOSS_SCALE);
    let with = |recompute| -> Result<Module, TrainError> {
        Ok(llmc_passes::autodiff(&narrow, &Options { recompute, seed, ..Options::default() })?)
    };
    let budget = match training.gradient_checkpointing {
        GradientCheckpointing::None => return with(Recompute::Cheap),
        GradientCheckpointing::Block => return with(Recompute::ALL),
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
        match bytes(&with(Recompute::Blocks(middle))?)? <= budget {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    let gradient = with(Recompute::Blocks(low))?;
    let least = bytes(&gradient)?;
    if least <= budget {
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
