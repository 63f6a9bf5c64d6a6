//! What a run says of itself: the files that do not change while it goes on, and the manifest.
//!
//! The manifest is there from the start, as unfinished, so that a run that is killed can be
//! resumed, executed again and verified like any other.

use super::adapters::{self, BASE};
use super::chat::TEMPLATE_FILE;
use super::data;
use super::failure::Failure;
use super::prepare::section;
use super::state::{EMA, OPTIMIZER, WEIGHTS};
use super::train::{Prepared, TrainOptions};
use crate::checkpoint;
use crate::manifest::{Artifact, Kind, Manifest, Observations, RunStatus, TEXT_FOLDER};
use crate::store::{Group, Store, read_marker};
use llmc_base::Hash;
use std::path::Path;

/// Name of the file that says which checkpoint the run starts from.
pub(super) const PARENT: &str = "parent.json";

/// Writes what stands before the first step, and a manifest that says so. Labels of the spec may
/// have changed since the run was begun: a file that differs is replaced.
pub(super) fn begin(
    prepared: &Prepared,
    options: &TrainOptions,
    run: &Path,
) -> Result<(), Failure> {
    let store = options.store;
    let project = &prepared.project;
    let mut texts = vec![
        ("spec.toml", llmc_spec::to_toml(&project.spec)),
        ("solution.json", format!("{:#}\n", project.solution())),
        ("model.ir", llmc_ir::text::print(&prepared.module)),
    ];
    if let Some(parent) = &options.parent {
        let parent =
            serde_json::to_string_pretty(parent).map_err(|e| Failure::Internal(e.to_string()))?;
        texts.push((PARENT, format!("{parent}\n")));
    }
    let mut group = Group::new(store);
    for (name, text) in &texts {
        let path = run.join(name);
        if !store.exists(&path)? || store.read(&path)? != text.as_bytes() {
            group.file(&path, text.as_bytes())?;
        }
    }
    let tokenizer = run.join("tokenizer");
    if !store.exists(&tokenizer)? {
        group.folder(&tokenizer, |f| {
            data::write_tokenizer(f, &prepared.tokenizer)?;
            // What it learned to talk by is what it is talked to by.
            match &prepared.set.chat_template {
                Some(text) => f.bytes(TEMPLATE_FILE, text.as_bytes()).map(drop),
                None => Ok(()),
            }
        })?;
    }
    let data = run.join("data");
    if !store.exists(&data)? {
        group.folder(&data, |f| {
            f.bytes("documents.json", prepared.set.ledger.as_bytes())?;
            data::write_rows(f, &prepared.rows)
        })?;
    }
    let training = section(&project.resolved.training)?;
    let base = run.join(BASE);
    if training.adapters().is_some()
        && let Some(parent) = &options.parent
        && !store.exists(&base)?
    {
        let weights = adapters::base_of(store, parent)?;
        group.folder(&base, |f| f.bytes(WEIGHTS, &weights).map(drop))?;
    }
    group.commit()?;
    let manifest = manifest(prepared, store, run, RunStatus::Unfinished, Observations::default())?;
    Ok(manifest.write(store, run)?)
}

/// The manifest of a run as it stands. An unfinished one lists no checkpoint: those come and go, and
/// each has a marker of its own.
pub(super) fn manifest(
    prepared: &Prepared,
    store: &dyn Store,
    run: &Path,
    status: RunStatus,
    mut observations: Observations,
) -> Result<Manifest, Failure> {
    let hashes = &prepared.project.resolved.hashes;
    let recipe = |artifact: Artifact, recipe: Option<Hash>| match recipe {
        Some(recipe) => artifact.recipe(recipe),
        None => artifact,
    };
    let mut artifacts = Vec::new();
    let inputs = prepared.set.inputs.clone();
    let has_text = !inputs.is_empty();
    if has_text {
        let text = Artifact::input_files("text", Kind::Text, ".", inputs);
        artifacts.push(text.recipe(prepared.set.recipe));
        let is_relative = prepared.set.inputs.iter().any(|f| Path::new(&f.path).is_relative());
        let folder = prepared.text_folder.as_deref().and_then(Path::to_str);
        if let Some(folder) = folder.filter(|_| is_relative) {
            observations.values.insert(TEXT_FOLDER.to_string(), folder.into());
        }
    }
    let spec = Artifact::output(store, run, "spec", Kind::Spec, "spec.toml")?;
    artifacts.push(recipe(spec, hashes.training));
    let solution = Artifact::output(store, run, "solution", Kind::Solution, "solution.json")?;
    artifacts.push(solution.made_from(["spec"]));
    let ir = Artifact::output(store, run, "model", Kind::Ir, "model.ir")?;
    artifacts.push(recipe(ir, hashes.model).made_from(["solution"]).proved_by(["model.ir"]));
    if store.exists(&run.join(PARENT))? {
        artifacts.push(Artifact::output(store, run, "parent", Kind::Spec, PARENT)?);
    }
    if store.exists(&run.join(BASE))? {
        let marker = read_marker(store, &run.join(BASE))?;
        let base = Artifact::committed(BASE, Kind::Checkpoint, BASE, &marker);
        artifacts.push(base.made_from(["parent"]).proved_by([WEIGHTS]));
    }
    let from_text = if has_text { vec!["spec", "text"] } else { vec!["spec"] };
    let marker = read_marker(store, &run.join("tokenizer"))?;
    let files: Vec<String> = marker.files.iter().map(|f| f.path.clone()).collect();
    let tokenizer = Artifact::committed("tokenizer", Kind::Tokenizer, "tokenizer", &marker);
    let tokenizer = match prepared.has_parent_tokenizer {
        true => tokenizer.made_from(["parent"]),
        false => recipe(tokenizer, hashes.tokenizer).made_from(from_text.clone()),
    };
    artifacts.push(tokenizer.proved_by(files));
    let marker = read_marker(store, &run.join("data"))?;
    // The accounts beside shards and packing plans name files and labels.
    let is_rows = |path: &&String| [".ids", ".plan", ".mask"].iter().any(|end| path.ends_with(end));
    let files: Vec<String> =
        marker.files.iter().map(|f| &f.path).filter(is_rows).cloned().collect();
    let data = Artifact::committed("data", Kind::Data, "data", &marker);
    let data = recipe(data, hashes.dataset).made_from(from_text).made_from(["tokenizer"]);
    artifacts.push(data.proved_by(files));
    if status != RunStatus::Unfinished {
        artifacts.extend(checkpoints(prepared, store, run)?);
    }
    Ok(Manifest::new(prepared.recipe_of, status, artifacts, observations)?)
}

/// The whole checkpoints, oldest first; the last one proves the run by weights and moments. Which
/// others were kept, and which is the best, is up to labels and interruptions.
fn checkpoints(
    prepared: &Prepared,
    store: &dyn Store,
    run: &Path,
) -> Result<Vec<Artifact>, Failure> {
    let mut artifacts = Vec::new();
    let mut steps: Vec<u64> = checkpoint::list(store, run)?.into_iter().map(|l| l.step).collect();
    steps.dedup();
    for step in steps {
        let Ok(found) = checkpoint::load_step(store, run, step) else { continue };
        let name = format!("step-{step:06}");
        let path = format!("{}/{name}", checkpoint::FOLDER);
        let artifact = Artifact::committed(&name, Kind::Checkpoint, &path, &found.complete);
        artifacts.push(artifact.recipe(prepared.recipe).made_from(["model", "data", "spec"]));
    }
    let last = artifacts.pop().map(|last: Artifact| {
        let ema = last.file_hash(EMA).map(|_| EMA);
        last.proved_by([WEIGHTS, OPTIMIZER].into_iter().chain(ema))
    });
    artifacts.extend(last);
    Ok(artifacts)
}
