//! Fine-tuning: a run that starts from another run's weights.
//!
//! Weights mean something only with the tokenizer that they were trained with, so that is taken over,
//! too, byte for byte. Moments, step and schedule start anew. Both hashes are part of the recipe: the same spec
//! from other weights is another run, and where they lie is not.

use super::adapters;
use super::data::read_tokenizer;
use super::failure::Failure;
use super::project::{Project, build_model};
use super::runs;
use super::state::{STATE, WEIGHTS, fill, restore, weights_hash};
use super::train::{CheckpointState, Parent};
use crate::checkpoint::{self, Checkpoint};
use crate::store::{Source, Store, verify_folder};
use llmc_base::{Diagnostic, Hash};
use llmc_data::tokenizer::Tokenizer;
use llmc_formats::safetensors::SafeTensors;
use llmc_train::{Trainer, optim};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Which checkpoint of the run to start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The newest whole one.
    #[default]
    Last,
    /// The one with the lowest validation loss.
    Best,
    /// That of a step.
    Step(u64),
}

/// Folder of the tokenizer in a run.
const TOKENIZER: &str = "tokenizer";

/// What a spec says of its tokenizer that must be so of the run's, too.
const SAME_TOKENIZER: [&str; 8] = [
    "tokenizer.type",
    "tokenizer.vocab_size",
    "tokenizer.pre_tokenizer",
    "tokenizer.special_tokens.pad",
    "tokenizer.special_tokens.unk",
    "tokenizer.special_tokens.bos",
    "tokenizer.special_tokens.eos",
    "tokenizer.special_tokens.additional",
];

/// What a model may well change when it is trained further, and what says nothing of it.
const FREE: [&str; 8] = [
    "model.name",
    "model.target_params",
    "model.param_tolerance",
    "model.context_length",
    "model.dropout.",
    "model.init_",
    "model.rope_",
    "model.sliding_window_size",
];

/// The start of a run of `project` from a checkpoint of `run`, and what is worth a look.
///
/// Errors: `finetune::shapes` and `finetune::tokenizer` with both sides of everything that does not
/// fit; `run::no_checkpoint`, `checkpoint::unknown_step`.
pub fn parent(
    store: &dyn Store,
    run: &Path,
    start: Start,
    project: &Project,
) -> Result<(Parent, Vec<Diagnostic>), Failure> {
    let theirs = runs::project(store, run)?;
    let checkpoint = find(store, run, start)?;
    let mut found = tokenizers(&theirs, project, run);
    found.extend(shapes(store, &checkpoint, project, run)?);
    if !found.is_empty() {
        return Err(Failure::from(found).located(&project.spec));
    }
    let (_, tokenizer) = tokenizer_of(store, run)?;
    let parent = Parent {
        recipe: recipe_of(store, run)?,
        weights: whole_hash(store, run, &checkpoint)?,
        step: checkpoint.step,
        run: run.to_path_buf(),
        is_weights_only: true,
        tokenizer: Some(tokenizer),
    };
    Ok((parent, models(&theirs, project, run)))
}

/// The recipe in the run's manifest, which a run has from its start.
fn recipe_of(store: &dyn Store, run: &Path) -> Result<Hash, Failure> {
    Ok(crate::manifest::Manifest::read(store, run)?.recipe)
}

fn find(store: &dyn Store, run: &Path, start: Start) -> Result<Checkpoint, Failure> {
    if let Start::Step(step) = start {
        return Ok(checkpoint::load_step(store, run, step)?);
    }
    let (newest, _) = checkpoint::load_latest_whole(store, run)?;
    let newest = newest.ok_or_else(|| {
        let message = format!("`{}` has no checkpoint yet", run.display());
        Diagnostic::error("run::no_checkpoint", message).help("train it first: `llmc resume RUN`")
    })?;
    if start == Start::Last {
        return Ok(newest);
    }
    let state: CheckpointState = serde_json::from_slice(&newest.read(store, STATE)?)
        .map_err(|e| Failure::Internal(e.to_string()))?;
    match state.best {
        Some((step, _)) => Ok(checkpoint::load_step(store, run, step)?),
        None => Ok(newest),
    }
}

/// A value of each spec by path, where they differ.
fn differing<'a>(
    theirs: &'a Project,
    ours: &'a Project,
    is_meant: impl Fn(&str) -> bool,
) -> Vec<(&'static str, &'a Value, &'a Value)> {
    let (there, here) = (&theirs.resolved.values, &ours.resolved.values);
    let paths: std::collections::BTreeSet<&'static str> =
        there.keys().chain(here.keys()).copied().filter(|path| is_meant(path)).collect();
    let value =
        |values: &'a BTreeMap<&'static str, Value>, path| values.get(path).unwrap_or(&Value::Null);
    let pairs = paths.into_iter().map(|path| (path, value(there, path), value(here, path)));
    pairs.filter(|(_, there, here)| there != here).collect()
}

fn tokenizers(theirs: &Project, ours: &Project, run: &Path) -> Vec<Diagnostic> {
    let differing = differing(theirs, ours, |path| SAME_TOKENIZER.contains(&path));
    let one = |(path, there, here): (&'static str, &Value, &Value)| {
        let message = format!(
            "`{path}` is {here}, but {there} in `{}`, whose tokenizer goes with its weights",
            run.display()
        );
        let line = path.strip_prefix("tokenizer.").unwrap_or(path);
        let value = if there.is_null() { "\"none\"".to_string() } else { there.to_string() };
        Diagnostic::error("finetune::tokenizer", message)
            .help(format!("write `{line} = {value}` in [tokenizer]"))
            .field(path)
    };
    differing.into_iter().map(one).collect()
}

/// Every parameter that the checkpoint has not in the shape of the model.
fn shapes(
    store: &dyn Store,
    checkpoint: &Checkpoint,
    project: &Project,
    run: &Path,
) -> Result<Vec<Diagnostic>, Failure> {
    let bytes = adapters::whole_weights_of(store, run, checkpoint)?;
    let file = checkpoint.path.join(WEIGHTS);
    let parsed = SafeTensors::parse(&bytes).map_err(|e| {
        Diagnostic::error("checkpoint::weights", format!("`{}`: {e}", file.display()))
    })?;
    let module = build_model(project.model()?)?;
    let gradient = llmc_passes::autodiff(&module, &Default::default())?;
    let mut found = Vec::new();
    let mut wanted = std::collections::BTreeSet::new();
    for parameter in optim::parameters(&gradient, "grad")? {
        let here: Vec<usize> = parameter.ty.shape.iter().filter_map(|d| d.as_usize()).collect();
        let there = parsed.header().get(&parameter.path).map(|t| t.shape.clone());
        if there.as_ref() != Some(&here) {
            let there = there.map_or("missing".to_string(), |shape| format!("{shape:?}"));
            found.push(format!("`{}` is {here:?} here, {there} there", parameter.path));
        }
        wanted.insert(parameter.path);
    }
    let only_there = parsed.header().tensors().iter().filter(|t| !wanted.contains(&t.name));
    found.extend(only_there.map(|t| format!("`{}` is missing here, {:?} there", t.name, t.shape)));
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let what = super::failure::named(&found);
    let message = format!("the model is not that of `{}`: {what}", run.display());
    let help = format!("take the dimensions of `{}`", run.join("spec.toml").display());
    Ok(vec![Diagnostic::error("finetune::shapes", message).help(help).field("model")])
}

/// What else the two models do differently with the same shapes.
fn models(theirs: &Project, ours: &Project, run: &Path) -> Vec<Diagnostic> {
    let is_meant =
        |path: &str| path.starts_with("model.") && !FREE.iter().any(|free| path.starts_with(free));
    let found: Vec<String> = differing(theirs, ours, is_meant)
        .into_iter()
        .map(|(path, there, here)| format!("`{path}` is {here} here and {there} there"))
        .collect();
    if found.is_empty() {
        return Vec::new();
    }
    let what = super::failure::named(&found);
    let message = format!("the weights of `{}` belong to another model: {what}", run.display());
    let help = "the shapes fit, but the weights were trained for the other values; take those unless you mean it";
    vec![Diagnostic::warning("finetune::model", message).help(help)]
}

/// The tokenizer of a run, verified, and the hash of its file.
fn tokenizer_of(store: &dyn Source, run: &Path) -> Result<(Tokenizer, Hash), Failure> {
    let folder = run.join(TOKENIZER);
    let complete = verify_folder(store, &folder)?;
    let hash = complete.file("tokenizer.json").map(|file| file.hash);
    let hash = hash.ok_or_else(|| {
        let message = format!("`{}` has no `tokenizer.json`", folder.display());
        Diagnostic::error("run::damaged", message)
            .help("`llmc verify RUN` says what else is missing")
    })?;
    Ok((read_tokenizer(store, &folder)?, hash))
}

/// The tokenizer that a run has from its parent; `None` where it makes its own.
///
/// Errors: `run::parent_missing`; `run::parent_changed` if the parent's is another now.
pub(super) fn tokenizer(
    store: &dyn Source,
    parent: Option<&Parent>,
) -> Result<Option<Tokenizer>, Failure> {
    let Some((parent, wanted)) = parent.and_then(|p| Some((p, p.tokenizer?))) else {
        return Ok(None);
    };
    if !store.exists(&parent.run)? {
        let message =
            format!("`{}`, from which this run starts, is not there", parent.run.display());
        let help = "put it back, or beside this run under its name";
        return Err(Diagnostic::error("run::parent_missing", message).help(help).into());
    }
    let (tokenizer, hash) = tokenizer_of(store, &parent.run)?;
    match hash == wanted {
        true => Ok(Some(tokenizer)),
        false => Err(changed(parent, "tokenizer", wanted, hash)),
    }
}

fn changed(parent: &Parent, what: &str, then: Hash, now: Hash) -> Failure {
    let (then, now) = (then.short(), now.short());
    let message = format!(
        "the {what} of `{}` is {now}, but was {then} when this run started from it",
        parent.run.display()
    );
    let help = "put the parent run back as it was, or train anew with `--from`";
    Diagnostic::error("run::parent_changed", message).help(help).into()
}

/// The hash of the whole weights at a checkpoint, adapters merged.
fn whole_hash(store: &dyn Store, run: &Path, checkpoint: &Checkpoint) -> Result<Hash, Failure> {
    match runs::project(store, run)?.resolved.training.and_then(|t| t.lora.rank) {
        None => weights_hash(checkpoint),
        Some(_) => Ok(Hash::of_bytes(&adapters::whole_weights_of(store, run, checkpoint)?)),
    }
}

/// The whole weights that a run starts from, as a file.
///
/// Errors: `run::parent_changed` if they are others now.
pub(super) fn weights_of(
    store: &dyn Store,
    parent: &Parent,
    found: &Checkpoint,
) -> Result<Vec<u8>, Failure> {
    let weights = whole_hash(store, &parent.run, found)?;
    match weights == parent.weights {
        true => adapters::whole_weights_of(store, &parent.run, found),
        false => Err(changed(parent, "checkpoint", parent.weights, weights)),
    }
}

/// Puts a trainer where the parent says.
///
/// Errors: `run::parent_changed` if the parent's weights are others now.
pub(super) fn start(
    trainer: &mut Trainer,
    store: &dyn Store,
    parent: &Parent,
) -> Result<(), Failure> {
    let found = checkpoint::load_step(store, &parent.run, parent.step)?;
    if !parent.is_weights_only {
        let weights = weights_hash(&found)?;
        if weights != parent.weights {
            return Err(changed(parent, "checkpoint", parent.weights, weights));
        }
        restore(trainer, store, &found)?;
        return Ok(());
    }
    if !trainer.frozen_paths().is_empty() {
        // Its weights are the base of the run already, and adapters start anew.
        return Ok(());
    }
    let paths: Vec<String> = trainer.parameters().iter().map(|p| p.path.clone()).collect();
    let bytes = weights_of(store, parent, &found)?;
    fill(trainer, &bytes, &paths, &found.path.join(WEIGHTS))?;
    Ok(trainer.reset_ema()?)
}
