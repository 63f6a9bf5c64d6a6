//! A training run: from a resolved spec to a run directory.
//!
//! The run directory is named by the recipe. A complete one is verified and
//! returned; an incomplete one goes on from its last whole checkpoint. The state
//! of a run is weights, moments and the step; all else is a function of those
//! and the spec, so a run that was killed anywhere ends in the same bits.

pub use super::prepare::{Prepared, prepare, thread_count, trainer};
pub use super::state::{
    CheckpointState, EMA, OPTIMIZER, STATE, WEIGHTS, fill, restore, save, weights_hash,
};

use super::data::TextSet;
use super::failure::Failure;
use super::observer::Observer;
use super::plan::PlanCheck;
use super::prepare::{prepare_if, section};
use super::project::Project;
use super::session::{Session, last_loss, last_validation, skipped};
use super::{finish, record};
use crate::cache::StageCache;
use crate::checkpoint;
use crate::logs;
use crate::manifest::{self, Manifest, RecipeParts, RunStatus};
use crate::metrics::ValidationRecord;
use crate::store::{Store, create_dir_all};
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use llmc_runtime::Isa;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How a run is executed; nothing here changes a bit of it.
pub struct TrainOptions<'a> {
    /// Folder of the runs.
    pub output: &'a Path,
    /// Threads; `None` takes the spec's, or one per core.
    pub threads: Option<usize>,
    /// Instruction set; `None` takes the best.
    pub isa: Option<Isa>,
    /// Stage cache.
    pub cache: Option<&'a StageCache<'a>>,
    /// Where files go.
    pub store: &'a dyn Store,
    /// A checkpoint of another run that this one starts from.
    pub parent: Option<Parent>,
}

/// The start of a run that continues another one, or takes its weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Recipe of the run that it continues.
    pub recipe: Hash,
    /// Content hash of the checkpoint's weights.
    pub weights: Hash,
    /// Steps done there.
    pub step: u64,
    /// Its run directory when the run started.
    pub run: PathBuf,
    /// Whether only its weights are taken over: moments, step and schedule start anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_weights_only: bool,
    /// BLAKE3 of its `tokenizer.json`, where that is taken over; otherwise the spec makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Hash>,
}

impl Parent {
    /// What of it decides what its child does: not where it lies.
    pub fn hash(&self) -> Hash {
        let mut hasher = CanonicalHasher::new("llmc.parent.v1");
        if self.is_weights_only {
            hasher = CanonicalHasher::new("llmc.parent.weights.v1");
            hasher.hash(&self.weights);
        } else {
            hasher.hash(&self.recipe).hash(&self.weights).int(self.step.into());
        }
        if let Some(tokenizer) = &self.tokenizer {
            hasher.field("tokenizer").hash(tokenizer);
        }
        hasher.finish()
    }
}

/// How a call of [`train`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainStatus {
    /// All steps are done.
    Complete,
    /// They were done before; every hash was verified.
    AlreadyComplete,
    /// The observer asked to stop; a checkpoint is written.
    Interrupted,
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct TrainResult {
    /// The run directory.
    pub run: PathBuf,
    /// How it ended.
    pub status: TrainStatus,
    /// Hash of what was asked: names the run.
    pub recipe: Hash,
    /// What the recipe is over.
    pub recipe_of: RecipeParts,
    /// Hash that proves what came of it; `None` until it is complete.
    pub content: Option<Hash>,
    /// BLAKE3 of the last checkpoint's weights file.
    pub weights: Hash,
    /// Steps done.
    pub step: u64,
    /// Last training loss, in nats per token.
    pub loss: Option<f64>,
    /// Last validation.
    pub validation: Option<ValidationRecord>,
    /// Parameters.
    pub parameters: u64,
    /// Whether it ended before `max_steps`, because the held-out loss fell no more.
    pub is_stopped_early: bool,
    /// Steps that changed nothing: spikes, and overflows of float16.
    pub skipped: u64,
    /// How many of them were overflows.
    #[serde(skip_serializing_if = "is_zero")]
    pub overflows: u64,
    /// What was predicted beside what was seen; `None` if this machine is not calibrated, or nothing
    /// was trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanCheck>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Trains a spec to its last step, or until the observer asks to stop.
///
/// Errors: everything that can go wrong on the way; the run directory then holds the last whole checkpoint.
pub fn train(
    project: &Project,
    options: &TrainOptions,
    observer: &mut dyn Observer,
) -> Result<TrainResult, Failure> {
    // The text names the run, and so it is known this early whether somebody works in its folder.
    let is_free = |now: &RecipeParts, _: &TextSet| -> Result<(), Failure> {
        check_free(options.store, &run_folder(options.output, &now.hash()))
    };
    let prepared = prepare_if(project, options, options.store, observer, &is_free)?;
    train_prepared(&prepared, options, observer)
}

/// Whether nobody trains in this folder now. It is asked before long work; the lock that counts is
/// taken after that.
///
/// Errors: `run::in_use`.
pub(super) fn check_free(store: &dyn Store, run: &Path) -> Result<(), Failure> {
    if store.exists(run)? {
        store.lock_run(run)?;
    }
    Ok(())
}

/// The directory of a run: the first 16 digits of its recipe.
pub fn run_folder(output: &Path, recipe: &Hash) -> PathBuf {
    output.join(&recipe.to_string()[..16])
}

/// Trains what is prepared.
pub fn train_prepared(
    prepared: &Prepared,
    options: &TrainOptions,
    observer: &mut dyn Observer,
) -> Result<TrainResult, Failure> {
    let run = run_folder(options.output, &prepared.recipe);
    train_in(prepared, options, &run, observer)
}

/// Trains what is prepared in this run directory, which may have any name.
pub(super) fn train_in(
    prepared: &Prepared,
    options: &TrainOptions,
    run: &Path,
    observer: &mut dyn Observer,
) -> Result<TrainResult, Failure> {
    let store = options.store;
    create_dir_all(store, run)?;
    let _lock = store.lock_run(run)?;
    if let Some(result) = already_complete(prepared, store, run)? {
        return Ok(result);
    }
    record::begin(prepared, options, run)?;
    let mut session = Session::open(prepared, options, run, observer)?;
    logs::append(store, run, &session.start_line())?;
    match session.run(observer) {
        Ok(status) => finish::finish(&session, status),
        Err(failure) => {
            // The first error is the one to report; where the account of it cannot be written,
            // the run stays unfinished.
            let _ = finish::fail(&mut session, &failure);
            Err(failure)
        }
    }
}

/// A complete run of this recipe is verified, not repeated.
///
/// Errors: `run::other` if the folder holds another run, `run::damaged`.
fn already_complete(
    prepared: &Prepared,
    store: &dyn Store,
    run: &Path,
) -> Result<Option<TrainResult>, Failure> {
    let Ok(manifest) = Manifest::read(store, run) else { return Ok(None) };
    if manifest.recipe != prepared.recipe {
        let (there, here) = (manifest.recipe.short(), prepared.recipe.short());
        let message = format!("`{}` holds a run of recipe {there}, not of {here}", run.display());
        let d = Diagnostic::error("run::other", message);
        return Err(Failure::Work(Box::new(
            d.help("move that folder away, or choose another `--output`"),
        )));
    }
    if manifest.status != RunStatus::Complete {
        return Ok(None);
    }
    let report = manifest::verify(store, run)?;
    if let Some(problem) = report.damage() {
        let message =
            format!("`{}` is complete but not as it was written: {problem}", run.display());
        let d = Diagnostic::error("run::damaged", message);
        return Err(Failure::Work(Box::new(
            d.help("move the folder away; the run can then be made again"),
        )));
    }
    let (checkpoint, _) = checkpoint::load_latest_whole(store, run)?;
    let Some(checkpoint) = checkpoint else { return Ok(None) };
    let (records, _) = crate::metrics::read(store, run)?;
    let (skipped, overflows) = skipped(&records);
    Ok(Some(TrainResult {
        run: run.to_path_buf(),
        status: TrainStatus::AlreadyComplete,
        recipe: manifest.recipe,
        recipe_of: manifest.recipe_of,
        content: Some(manifest.content),
        weights: weights_hash(&checkpoint)?,
        step: checkpoint.step,
        loss: last_loss(&records),
        validation: last_validation(&records),
        parameters: prepared.project.model()?.solution.params,
        is_stopped_early: checkpoint.step < section(&prepared.project.resolved.training)?.max_steps,
        skipped,
        overflows,
        plan: None,
    }))
}
