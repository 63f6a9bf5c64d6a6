//! The end of a session: baselines, manifest, result; or why there is none.

use super::failure::Failure;
use super::plan::PlanCheck;
use super::record;
use super::session::{Session, last_loss, last_validation, skipped};
use super::train::{TrainResult, TrainStatus, weights_hash};
use crate::logs;
use crate::machine;
use crate::manifest::{Observations, RunStatus};
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
pub(super) fn finish(session: &Session, status: TrainStatus) -> Result<TrainResult, Failure> {
    let (store, run, prepared) = (session.options.store, &session.run, session.prepared);
    // Before the baselines, which take memory of their own.
    let check = session.plan_check();
    let (baselines, run_status, verb) = match status {
        TrainStatus::Interrupted => (Baselines::default(), RunStatus::Interrupted, "interrupted"),
        _ => (baselines(session), RunStatus::Complete, "complete"),
    };
    let seconds = session.elapsed();
    let is_stopped_early = status == TrainStatus::Complete && session.is_stopped_early()?;
    let (skipped, overflows) = skipped(&session.records);
    let mut line = format!("{verb} at step {} after {seconds:.1} s", session.state.step);
    if is_stopped_early {
        line.push_str(", the held-out loss fell no more");
    }
    if skipped > overflows {
        line.push_str(&format!(", {} steps were spikes and skipped", skipped - overflows));
    }
    if overflows > 0 {
        line.push_str(&format!(", {overflows} steps overflowed float16 and were skipped"));
    }
    logs::append(store, run, &line)?;
    let seen = observations(session, baselines, check, None);
    let manifest = record::manifest(prepared, store, run, run_status, seen)?;
    super::report::write(store, run, &prepared.project, &manifest)?;
    let last = session.last_checkpoint.as_ref();
    let last =
        last.ok_or_else(|| Failure::Internal("a session without a checkpoint".to_string()))?;
    Ok(TrainResult {
        run: run.clone(),
        status,
        recipe: prepared.recipe,
        recipe_of: prepared.recipe_of,
        content: (status == TrainStatus::Complete).then_some(manifest.content),
        weights: weights_hash(last)?,
        step: session.state.step,
        loss: last_loss(&session.records),
        validation: last_validation(&session.records),
        parameters: prepared.project.model()?.solution.params,
        is_stopped_early,
        skipped,
        overflows,
        plan: check,
    })
}

/// Records that the run stopped by itself, and why, in the log, the manifest and the report.
pub(super) fn fail(session: &mut Session, failure: &Failure) -> Result<(), Failure> {
    session.flush()?;
    let (store, run, prepared) = (session.options.store, &session.run, session.prepared);
    let error = failure.to_string();
    logs::append(store, run, &format!("failed after step {}: {error}", session.state.step))?;
    let seen = observations(session, Baselines::default(), None, Some(error));
    let manifest = record::manifest(prepared, store, run, RunStatus::Failed, seen)?;
    super::report::write(store, run, &prepared.project, &manifest)
}

/// Name of the observation that has the plan beside the run.
pub(super) const PLAN: &str = "plan";

/// Name of the observation that says why a run failed.
pub(super) const ERROR: &str = "error";

fn observations(
    session: &Session,
    baselines: Baselines,
    check: Option<PlanCheck>,
    error: Option<String>,
) -> Observations {
    let machine = Some(machine::probe(session.options.store));
    let mut seen = Observations { machine, ..Default::default() };
    let mut note = |name: &str, value: Value| seen.values.insert(name.to_string(), value);
    note("seconds", json!(session.elapsed()));
    note("memory_bytes", json!(session.trainer.memory_bytes()));
    note("baselines", json!(baselines));
    if let Some(check) = check {
        note(PLAN, json!(check));
    }
    if let Some(error) = error {
        note(ERROR, json!(error));
    }
    seen
}
