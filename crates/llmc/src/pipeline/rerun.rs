//! Executing a run again from what it left behind, and going on with it.

use super::failure::Failure;
use super::observer::Observer;
use super::project::Project;
use super::runs;
use super::train::{Parent, TrainOptions, TrainResult, prepare, train_prepared, weights_hash};
use crate::checkpoint;
use crate::store::Store;
use llmc_base::{Diagnostic, Hash};
use llmc_runtime::Isa;
use llmc_spec::Goal;
use serde::Serialize;
use serde_json::json;
use std::path::Path;

/// What came of executing a run again.
#[derive(Clone, Debug, Serialize)]
pub struct RerunReport {
    /// Weights of the original's last checkpoint.
    pub original: Hash,
    /// Weights of the repetition.
    pub repeated: Hash,
    /// Step of both.
    pub step: u64,
    /// Threads of the repetition.
    pub threads: usize,
}

impl RerunReport {
    /// Whether every bit of the weights is the same.
    pub fn is_same(&self) -> bool {
        self.original == self.repeated
    }
}

/// Executes a run again in `scratch`, from its spec and its files, without any cache.
///
/// Errors: `rerun::changed` if the files it was trained on are others now.
pub fn rerun(
    store: &dyn Store,
    run: &Path,
    scratch: &Path,
    threads: Option<usize>,
    isa: Option<Isa>,
    observer: &mut dyn Observer,
) -> Result<RerunReport, Failure> {
    let project = runs::project(store, run)?;
    let (last, _) = checkpoint::load_latest_whole(store, run)?;
    let last = last.ok_or_else(|| {
        Diagnostic::error("run::no_checkpoint", format!("`{}` has no checkpoint", run.display()))
    })?;
    let parent = runs::parent(store, run)?;
    let options = TrainOptions { output: scratch, threads, isa, cache: None, store, parent };
    let prepared = prepare(&project, &options, observer)?;
    let recorded = crate::manifest::Manifest::read(store, run)?.recipe;
    if prepared.recipe != recorded {
        let message = format!(
            "the run was made from recipe {}, spec and files now give {}",
            recorded.short(),
            prepared.recipe.short()
        );
        let d = Diagnostic::error("rerun::changed", message);
        return Err(d.help("`llmc verify RUN` names the files that changed").into());
    }
    let result = train_prepared(&prepared, &options, observer)?;
    // An interrupted original is compared at its own step.
    let repeated = match result.step == last.step {
        true => result.weights,
        false => weights_hash(&checkpoint::load_step(store, &result.run, last.step)?)?,
    };
    let threads = super::train::thread_count(threads, None);
    Ok(RerunReport { original: weights_hash(&last)?, repeated, step: last.step, threads })
}

/// Goes on with an interrupted run; with `steps`, a new run that starts from its last checkpoint.
pub fn resume(
    run: &Path,
    steps: Option<u64>,
    options: TrainOptions,
    observer: &mut dyn Observer,
) -> Result<TrainResult, Failure> {
    let store = options.store;
    let project = runs::project(store, run)?;
    let max_steps = project.resolved.training.as_ref().map_or(0, |t| t.max_steps);
    let (project, parent) = match steps.filter(|steps| *steps != max_steps) {
        None => (project, runs::parent(store, run)?),
        Some(steps) => extend(store, run, &project, steps)?,
    };
    let options = TrainOptions { parent, ..options };
    super::train::train(&project, &options, observer)
}

fn extend(
    store: &dyn Store,
    run: &Path,
    project: &Project,
    steps: u64,
) -> Result<(Project, Option<Parent>), Failure> {
    let (last, _) = checkpoint::load_latest_whole(store, run)?;
    let last = last.ok_or_else(|| {
        Diagnostic::error("run::no_checkpoint", format!("`{}` has no checkpoint", run.display()))
    })?;
    if steps <= last.step {
        let message = format!("`--steps {steps}` is not beyond step {} of the run", last.step);
        let help = format!("give a number above {}", last.step);
        return Err(Diagnostic::error("resume::steps", message).help(help).into());
    }
    let mut spec = project.spec.to_json();
    spec["training"]["max_steps"] = json!(steps);
    let (project, _) = Project::from_json(&spec, &[], Goal::Training)?;
    let recipe = crate::manifest::Manifest::read(store, run)?.recipe;
    let run = run.to_path_buf();
    let parent = Parent { recipe, weights: weights_hash(&last)?, step: last.step, run };
    Ok((project, Some(parent)))
}
