//! Executing a run again from what it left behind, and going on with it.

use super::data::TextSet;
use super::failure::{Failure, named};
use super::observer::{Event, Observer};
use super::prepare::prepare_if;
use super::project::Project;
use super::runs;
use super::train::{
    Parent, Prepared, TrainOptions, TrainResult, check_free, train_prepared, weights_hash,
};
use crate::checkpoint::{self, Checkpoint};
use crate::manifest::{Manifest, RecipeParts};
use crate::store::{FileHash, Rebased, Source, Store};
use llmc_base::{Diagnostic, Hash};
use llmc_runtime::Isa;
use llmc_spec::Goal;
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
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

/// Lets a run go on to a step, as if it were interrupted there.
struct StopAt<'a> {
    inner: &'a mut dyn Observer,
    step: u64,
    is_reached: bool,
}

impl Observer for StopAt<'_> {
    fn event(&mut self, event: &Event) {
        if let Event::Step(record) = event {
            self.is_reached = record.step >= self.step;
        }
        self.inner.event(event);
    }

    fn is_interrupted(&self) -> bool {
        self.is_reached || self.inner.is_interrupted()
    }
}

/// Executes a run again in `scratch`, from its spec and its files, without any cache, up to the last
/// whole checkpoint that it has: a run that was interrupted or killed is compared there.
///
/// Errors: `rerun::changed` if spec or files are others now; `train::interrupted` if the observer
/// asks to stop.
pub fn rerun(
    store: &dyn Store,
    run: &Path,
    scratch: &Path,
    threads: Option<usize>,
    isa: Option<Isa>,
    observer: &mut dyn Observer,
) -> Result<RerunReport, Failure> {
    let project = runs::project(store, run)?;
    let recorded = Manifest::read(store, run)?;
    let last = last_checkpoint(store, run)?;
    let parent = runs::parent(store, run)?;
    let options = TrainOptions { output: scratch, threads, isa, cache: None, store, parent };
    let is_same = |now: &RecipeParts, set: &TextSet| -> Result<(), Failure> {
        let Some(changed) = changed(run, &recorded, now, set) else { return Ok(()) };
        let d = Diagnostic::error("rerun::changed", changed);
        let help = "put back what the run was made from; `llmc verify RUN` compares every file";
        Err(d.help(help).into())
    };
    let text = text_source(store, Some(&recorded));
    let prepared = prepare_if(&project, &options, text.as_source(store), observer, &is_same)?;
    let mut watch = StopAt { inner: observer, step: last.step, is_reached: false };
    let result = train_prepared(&prepared, &options, &mut watch)?;
    if result.step != last.step {
        return Err(Failure::Interrupted(format!("at step {}: nothing was compared", result.step)));
    }
    let threads = super::train::thread_count(threads, None)?;
    let original = weights_hash(&last)?;
    Ok(RerunReport { original, repeated: result.weights, step: last.step, threads })
}

/// The text of a run as it is seen from here, or from where the run was started.
pub(super) struct TextSource<'a>(Option<Rebased<'a>>);

impl TextSource<'_> {
    pub(super) fn as_source<'a>(&'a self, here: &'a dyn Store) -> &'a dyn Source {
        match &self.0 {
            Some(there) => there,
            None => here,
        }
    }
}

/// Where the text of a run is: here, unless a file that the run has read is only in the folder where
/// it was started.
pub(super) fn text_source<'a>(store: &'a dyn Store, recorded: Option<&Manifest>) -> TextSource<'a> {
    let folder = recorded.and_then(Manifest::text_folder);
    let text = recorded.and_then(|m| m.artifact("text")).and_then(|text| text.files.as_deref());
    let (Some(folder), Some(files)) = (folder, text) else { return TextSource(None) };
    let is_there = |path: &Path| store.exists(path).unwrap_or(false);
    let is_elsewhere =
        files.iter().any(|f| !is_there(Path::new(&f.path)) && is_there(&folder.join(&f.path)));
    TextSource(is_elsewhere.then(|| Rebased::new(store, folder)))
}

fn last_checkpoint(store: &dyn Store, run: &Path) -> Result<Checkpoint, Failure> {
    let (last, _) = checkpoint::load_latest_whole(store, run)?;
    last.ok_or_else(|| {
        let message = format!("`{}` has no checkpoint", run.display());
        let d = Diagnostic::error("run::no_checkpoint", message);
        d.help("`llmc resume RUN` goes on with it from the first step").into()
    })
}

/// What of a run's recipe is another now, in words; `None` if nothing is.
pub(super) fn changed(
    run: &Path,
    recorded: &Manifest,
    new: &RecipeParts,
    set: &TextSet,
) -> Option<String> {
    let old = recorded.recipe_of;
    if old == *new {
        return None;
    }
    let run = run.display();
    if old.text == new.text {
        return Some(format!(
            "`{run}` was made from recipe {}, its spec now gives {}",
            recorded.recipe.short(),
            new.hash().short()
        ));
    }
    let hashes = |files: &[FileHash]| -> BTreeMap<String, Hash> {
        files.iter().map(|f| (f.path.clone(), f.hash)).collect()
    };
    let then = recorded.artifact("text").and_then(|text| text.files.as_deref());
    let (then, now) = (hashes(then.unwrap_or_default()), hashes(&set.inputs));
    let paths: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let files: Vec<String> = paths
        .into_iter()
        .filter_map(|path| match (then.get(path), now.get(path)) {
            (Some(_), None) => Some(format!("`{path}` is gone")),
            (None, Some(_)) => Some(format!("`{path}` is new")),
            (then, now) => (then != now).then(|| format!("`{path}` differs")),
        })
        .collect();
    let files = match files.is_empty() {
        true => "the same files in another order".to_string(),
        false => named(&files),
    };
    Some(format!("`{run}` was trained on other text: {files}"))
}

/// Goes on with an interrupted run; with `steps`, a new run that starts from its last checkpoint.
///
/// Errors: `resume::changed` if spec or files are others now: going on would be another run.
pub fn resume(
    run: &Path,
    steps: Option<u64>,
    options: TrainOptions,
    observer: &mut dyn Observer,
) -> Result<TrainResult, Failure> {
    let store = options.store;
    let project = runs::project(store, run)?;
    // One that was killed before its first step may have no manifest, and nothing to lose.
    let recorded = match Manifest::read(store, run) {
        Err(d) if d.code == "manifest::missing" => None,
        found => Some(found?),
    };
    let max_steps = project.resolved.training.as_ref().map_or(0, |t| t.max_steps);
    let more = steps.filter(|steps| *steps != max_steps);
    let options = TrainOptions { parent: runs::parent(store, run)?, ..options };
    let is_same = |now: &RecipeParts, set: &TextSet| -> Result<(), Failure> {
        let changed = recorded.as_ref().and_then(|recorded| changed(run, recorded, now, set));
        let Some(changed) = changed else { return Ok(()) };
        let d = Diagnostic::error("resume::changed", changed);
        let spec = run.join("spec.toml");
        let help = format!(
            "put back what the run was made from; or `llmc train {}`, which makes a run of its own",
            crate::shell::quote(&spec)
        );
        Err(d.help(help).into())
    };
    if more.is_none() {
        check_free(store, run)?;
    }
    let text = text_source(store, recorded.as_ref());
    let prepared = prepare_if(&project, &options, text.as_source(store), observer, &is_same)?;
    let Some(steps) = more else {
        return super::train::train_in(&prepared, &options, run, observer);
    };
    let (project, parent) = extend(store, run, &prepared, steps)?;
    let prepared = prepared.trained_otherwise(project, &parent)?;
    let options = TrainOptions { parent: Some(parent), ..options };
    train_prepared(&prepared, &options, observer)
}

/// The spec with more steps, and the start of its run.
fn extend(
    store: &dyn Store,
    run: &Path,
    prepared: &Prepared,
    steps: u64,
) -> Result<(Project, Parent), Failure> {
    let last = last_checkpoint(store, run)?;
    if steps <= last.step {
        let message = format!("`--steps {steps}` is not beyond step {} of the run", last.step);
        let help = format!("give a number above {}", last.step);
        return Err(Diagnostic::error("resume::steps", message).help(help).into());
    }
    let mut spec = prepared.project.spec.to_json();
    spec["training"]["max_steps"] = json!(steps);
    let (project, _) = Project::from_json(&spec, &[], Goal::Training)?;
    let parent = Parent {
        recipe: prepared.recipe,
        weights: weights_hash(&last)?,
        step: last.step,
        run: run.to_path_buf(),
        is_weights_only: false,
        tokenizer: runs::parent(store, run)?.and_then(|parent| parent.tokenizer),
    };
    Ok((project, parent))
}
