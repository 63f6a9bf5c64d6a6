//! Why the engine does what it does: every launch of a training step and of a decoded token with the ops that
//! it came from, its kernel and its share, every buffer, and every decision of the passes.
//!
//! Nothing is worked out here a second time: passes and planner write their decisions down as they make
//! them, kernels are asked which way they take, and this module gathers.

mod kernels;
mod narrow;
#[cfg(test)]
mod tests;

pub use kernels::{KernelGroup, Phase};

use super::failure::Failure;
use super::plan::PlanOptions;
use super::prepare::section;
use super::project::{Project, build_model};
use crate::calibration::MachineCalibration;
use kernels::{Part, phase};
use llmc_base::Decision;
use llmc_base::expr::{Env, Symbol};
use llmc_passes::{WeightFormat, pack_panels, pack_weights_explained};
use llmc_plan::predict::reuse;
use llmc_plan::{AddressSpace, FunctionNotes, PlanRequest, plan_all_explained};
use llmc_spec::{OptimizerConfig, TrainingConfig};
use llmc_train::{Plans, differentiate_explained, optim};
use serde::Serialize;

/// Everything that `llmc explain` says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Name of the model.
    pub name: String,
    /// Threads.
    pub threads: usize,
    /// Instruction set.
    pub isa: &'static str,
    /// A step of training, and a decoded token.
    pub phases: Vec<Phase>,
    /// What the stages decided, in order.
    pub decisions: Vec<Decision>,
    /// The memory of the functions of a step and of decoding.
    pub memory: Vec<FunctionMemory>,
}

/// The memory of one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionMemory {
    /// `training` or `decode`.
    pub phase: &'static str,
    /// Its name.
    pub function: String,
    /// Bytes of its frame, callees' frames included.
    pub frame_bytes: u64,
    /// What they would be without reuse.
    pub unshared_bytes: u64,
    /// Its values.
    pub buffers: Vec<Buffer>,
}

/// One value in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Buffer {
    /// `%name`, or the frame of a callee.
    pub value: String,
    /// Type and shape.
    #[serde(rename = "type")]
    pub ty: String,
    /// Bytes of its own.
    pub bytes: u64,
    /// Bytes from the start of the frame.
    pub offset: Option<u64>,
    /// `parameter`, `view`, `in place`, `result`, `frame` or `absorbed`.
    pub storage: &'static str,
    /// Why it is there, and how long.
    pub why: String,
}

/// Explains the training of a project and how its model is decoded with weights in `format`.
///
/// Errors: those of the stages.
pub fn explain(
    project: &Project,
    options: &PlanOptions,
    format: WeightFormat,
    calibration: Option<&MachineCalibration>,
) -> Result<Explanation, Failure> {
    let model = project.model()?;
    let (threads, isa) = (options.threads(project)?, options.isa());
    let mut found = Explanation {
        name: model.name.clone(),
        threads,
        isa: isa.name(),
        phases: Vec::new(),
        decisions: Vec::new(),
        memory: Vec::new(),
    };
    training(project, &mut found, options, calibration)?;
    decoding(project, &mut found, options, format)?;
    Ok(found)
}

fn training(
    project: &Project,
    found: &mut Explanation,
    options: &PlanOptions,
    calibration: Option<&MachineCalibration>,
) -> Result<(), Failure> {
    let model = project.model()?;
    let training: &TrainingConfig = section(&project.resolved.training)?;
    let optimizer: &OptimizerConfig = section(&project.resolved.optimizer)?;
    let module = llmc_train::with_z_loss(&build_model(model)?, training.z_loss)?;
    let log = &mut found.decisions;
    let gradient = differentiate_explained(&module, optimizer, training, found.threads, log)?;
    let parameters = optim::parameters(&gradient, "grad")?;
    let (plans, notes) = Plans::explained(&module, &gradient, &parameters, optimizer, training)?;
    found.decisions.extend(notes.fused.iter().cloned());
    let micro_batches = training.batch_size.div_ceil(training.microbatch_size.max(1));
    let Plans { gradient, merge, update, .. } = &plans;
    // What a step touches again was touched by the steps before.
    let order = [gradient, gradient, merge, update];
    let distances = reuse(&order);
    let times = calibration.map(|c| &c.launches);
    let of_step = [(gradient, micro_batches), (merge, 1), (update, 1)];
    let parts: Vec<Part> = of_step
        .into_iter()
        .zip(&notes.names)
        .zip(distances.iter().skip(1))
        .map(|(((plan, count), names), distances)| Part { plan, count, names, distances, times })
        .collect();
    let what = format!(
        "a step: {micro_batches} × {} of {} tokens, merge, update",
        training.microbatch_size, training.sequence_length
    );
    found.phases.push(phase("training", what, &parts, &notes.fused, found.threads, options.isa()));
    remember("training", notes.functions, found);
    Ok(())
}

fn decoding(
    project: &Project,
    found: &mut Explanation,
    options: &PlanOptions,
    format: WeightFormat,
) -> Result<(), Failure> {
    let model = project.model()?;
    let module = build_model(model)?;
    let narrow = pack_panels(&pack_weights_explained(&module, format, &mut found.decisions)?)?;
    let entry = super::inspect::function(&narrow, "decode")?;
    let length = model.dims.context_length;
    let env: Env = [("B", 1), ("T", 1), ("S", length)]
        .into_iter()
        .map(|(name, value)| (Symbol::new(name), i128::from(value)))
        .collect();
    let mut space = AddressSpace::default();
    let request = PlanRequest { module: &narrow, entry, env };
    let (plans, notes) = plan_all_explained(&[request], &mut space)
        .map_err(|e| Failure::Internal(format!("decoding: {e}")))?;
    let names: Vec<String> = narrow.functions.iter().map(|f| f.name.clone()).collect();
    let distances = reuse(&plans.iter().collect::<Vec<_>>());
    let parts: Vec<Part> = plans
        .iter()
        .zip(&distances)
        .map(|(plan, distances)| Part { plan, count: 1, names: &names, distances, times: None })
        .collect();
    let what = format!("one token behind a cache of {length}, weights in {}", format.name());
    found.phases.push(phase("decode", what, &parts, &[], found.threads, options.isa()));
    remember("decode", notes.into_iter().flatten().collect(), found);
    Ok(())
}

/// Takes the notes of functions over.
fn remember(phase: &'static str, notes: Vec<FunctionNotes>, found: &mut Explanation) {
    for note in notes {
        found.decisions.extend(note.decisions);
        found.memory.push(FunctionMemory {
            phase,
            function: note.function,
            frame_bytes: note.frame_bytes,
            unshared_bytes: note.unshared_bytes,
            buffers: note
                .buffers
                .into_iter()
                .map(|b| Buffer {
                    value: b.value,
                    ty: b.ty,
                    bytes: b.bytes,
                    offset: b.offset,
                    storage: b.storage,
                    why: b.why,
                })
                .collect(),
        });
    }
}
