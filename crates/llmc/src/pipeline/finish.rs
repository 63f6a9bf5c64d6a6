//! The end of a session: baselines, manifest, result.

use super::failure::Failure;
use super::observer::Observer;
use super::session::{Session, last_loss, last_validation};
use super::train::{TrainResult, TrainStatus, weights_hash};
use crate::checkpoint;
use crate::logs;
use crate::machine;
use crate::manifest::{Artifact, Kind, Manifest, Observations, RunStatus};
use crate::store::{FileHash, read_marker};
use llmc_base::Hash;
use llmc_data::baseline::{gzip_bits_per_byte, ngram_bits_per_byte};
use llmc_data::dataset::Split;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Training text above which the 5-gram model is left out: it would take gigabytes.
const NGRAM_MAX_BYTES: u64 = 256 << 20;

/// Order of the n-gram model that a run is compared with.
const NGRAM_ORDER: usize = 5;

/// Bits per byte of simple models on the same held-out text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// `gzip -9` on the held-out text alone.
    pub gzip: Option<f64>,
    /// A byte-level 5-gram model trained on the training split.
    pub five_gram: Option<f64>,
}

/// What simple models make of the held-out text.
pub(super) fn baselines(session: &Session) -> Baselines {
    let set = &session.prepared.set;
    let held_out = set.texts(Split::Validation);
    if held_out.is_empty() {
        return Baselines::default();
    }
    let threads = session.trainer.threads();
    let five_gram = (set.bytes(Split::Train) <= NGRAM_MAX_BYTES).then(|| {
        ngram_bits_per_byte(&set.texts(Split::Train), &held_out, NGRAM_ORDER, threads).ok()
    });
    Baselines { gzip: gzip_bits_per_byte(&held_out).ok(), five_gram: five_gram.flatten() }
}

/// Writes the manifest and gives the result.
pub(super) fn finish(
    session: &Session,
    status: TrainStatus,
    _observer: &mut dyn Observer,
) -> Result<TrainResult, Failure> {
    let store = session.options.store;
    let run = &session.run;
    let prepared = session.prepared;
    let baselines = match status {
        TrainStatus::Complete => baselines(session),
        _ => Baselines::default(),
    };
    let run_status = match status {
        TrainStatus::Interrupted => RunStatus::Interrupted,
        _ => RunStatus::Complete,
    };
    let seconds = session.elapsed();
    let verb = if status == TrainStatus::Interrupted { "interrupted" } else { "complete" };
    let line = format!("{verb} at step {} after {seconds:.1} s", session.state.step);
    logs::append(store, run, &line)?;
    let manifest = manifest(session, run_status, baselines, seconds)?;
    manifest.write(store, run)?;
    super::report::write(store, run, &prepared.project)?;
    let last = session.last_checkpoint.as_ref();
    let last =
        last.ok_or_else(|| Failure::Internal("a session without a checkpoint".to_string()))?;
    Ok(TrainResult {
        run: run.clone(),
        status,
        recipe: prepared.recipe,
        content: (status == TrainStatus::Complete).then_some(manifest.content),
        weights: weights_hash(last)?,
        step: session.state.step,
        loss: last_loss(&session.records),
        validation: last_validation(&session.records),
        parameters: prepared.project.model()?.solution.params,
    })
}

fn manifest(
    session: &Session,
    status: RunStatus,
    baselines: Baselines,
    seconds: f64,
) -> Result<Manifest, Failure> {
    let store = session.options.store;
    let run = session.run.as_path();
    let prepared = session.prepared;
    let hashes = &prepared.project.resolved.hashes;
    let recipe = |artifact: Artifact, recipe: Option<Hash>| match recipe {
        Some(recipe) => artifact.recipe(recipe),
        None => artifact,
    };
    let mut artifacts = Vec::new();
    let inputs = input_files(&prepared.set.ledger);
    let has_text = !inputs.is_empty();
    if has_text {
        artifacts.push(Artifact::input_files("text", Kind::Text, ".", inputs));
    }
    artifacts.push(Artifact::output(store, run, "spec", Kind::Spec, "spec.toml")?);
    let solution = Artifact::output(store, run, "solution", Kind::Solution, "solution.json")?;
    artifacts.push(solution.made_from(["spec"]));
    let ir = Artifact::output(store, run, "model", Kind::Ir, "model.ir")?;
    artifacts.push(recipe(ir, hashes.model).made_from(["solution"]));
    if store.exists(&run.join("parent.json"))? {
        artifacts.push(Artifact::output(store, run, "parent", Kind::Spec, "parent.json")?);
    }
    let from_text = if has_text { vec!["spec", "text"] } else { vec!["spec"] };
    let marker = read_marker(store, &run.join("tokenizer"))?;
    let tokenizer = Artifact::committed("tokenizer", Kind::Tokenizer, "tokenizer", &marker);
    artifacts.push(recipe(tokenizer, hashes.tokenizer).made_from(from_text.clone()));
    let marker = read_marker(store, &run.join("data"))?;
    let data = Artifact::committed("data", Kind::Data, "data", &marker);
    let data = recipe(data, Some(prepared.set.recipe)).made_from(from_text);
    artifacts.push(data.made_from(["tokenizer"]));
    for listed in checkpoint::list(store, run)? {
        let Ok(found) = checkpoint::load_step(store, run, listed.step) else { continue };
        let name = format!("step-{:06}", found.step);
        let path = format!("{}/{name}", checkpoint::FOLDER);
        let artifact = Artifact::committed(&name, Kind::Checkpoint, &path, &found.complete);
        artifacts.push(artifact.recipe(prepared.recipe).made_from(["model", "data", "spec"]));
    }
    let mut observations =
        Observations { machine: Some(machine::probe(store)), ..Default::default() };
    let mut note = |name: &str, value: Value| observations.values.insert(name.to_string(), value);
    note("seconds", json!(seconds));
    note("memory_bytes", json!(session.trainer.memory_bytes()));
    note("baselines", json!(baselines));
    Ok(Manifest::new(prepared.recipe, status, artifacts, observations)?)
}

/// The text files that a dataset's ledger names, with their hashes.
fn input_files(ledger: &str) -> Vec<FileHash> {
    #[derive(Deserialize)]
    struct Entry {
        source: String,
        hash: Option<Hash>,
        bytes: u64,
    }
    #[derive(Deserialize)]
    struct Ledger {
        sources: Vec<Entry>,
    }
    let ledger: Result<Ledger, _> = serde_json::from_str(ledger);
    let entries = ledger.map(|l| l.sources).unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|e| Some(FileHash { path: e.source, length: e.bytes, hash: e.hash? }))
        .collect()
}
