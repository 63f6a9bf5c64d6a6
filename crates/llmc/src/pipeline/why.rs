//! `llmc why RUN --step N`: a step of a run, executed again and looked at.
//!
//! A run is a pure function of its recipe, so the state before any step can be had again: from the
//! nearest whole checkpoint before it, or from the start. Nothing is written.

use super::data;
use super::failure::Failure;
use super::finetune;
use super::observer::{Event, Observer};
use super::prepare::{Prepared, prepare_if, section, trainer};
use super::rerun::{changed, text_source};
use super::runs;
use super::state::restore;
use super::train::TrainOptions;
use crate::checkpoint::{self, Listed};
use crate::manifest::{Manifest, RecipeParts, RunStatus};
use crate::metrics::{self, Record, TrainRecord, number};
use crate::store::Store;
use llmc_base::Diagnostic;
use llmc_data::pack;
use llmc_runtime::Isa;
use llmc_train::{Batch, Inspection, TrainError, Trainer};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What a step did, and why.
#[derive(Clone, Debug, Serialize)]
pub struct WhyReport {
    /// The run directory.
    pub run: PathBuf,
    /// The step, from 1.
    pub step: u64,
    /// The step after which execution began again; 0 is the start of the run.
    pub from_step: u64,
    /// Mean loss in nats per token.
    #[serde(with = "number")]
    pub loss: f64,
    /// Global gradient norm before clipping.
    #[serde(with = "number")]
    pub grad_norm: f64,
    /// What gradients were scaled by, with `float16`; norms are without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Learning rate.
    #[serde(with = "number")]
    pub lr: f64,
    /// Unmasked tokens.
    pub tokens: u64,
    /// Whether the metrics of the run have these very numbers for the step; `None` if they have none.
    pub is_as_recorded: Option<bool>,
    /// The documents of its rows, in order.
    pub documents: Vec<DocumentPlace>,
    /// Gradient norms by layer, in path order.
    pub layers: Vec<LayerNorm>,
    /// Parameters that hold a number that is not finite before the step.
    pub bad_weights: Vec<String>,
    /// Where numbers stop being finite.
    pub non_finite: Option<Fault>,
}

/// A document in the batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DocumentPlace {
    /// File or generator.
    pub source: String,
    /// Its place there.
    pub index: u64,
    /// Rows of the batch that it is in, from 0.
    pub rows: Vec<usize>,
}

/// The gradient of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerNorm {
    /// `layers.3`, or the name of what is outside of layers.
    pub layer: String,
    /// Norm over its parameters.
    #[serde(with = "number")]
    pub grad_norm: f64,
    /// Its parameter with the largest norm, or the first whose norm is not finite.
    pub largest: String,
}

/// The first number that is not finite.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// `loss` or `grad_norm`.
    pub quantity: String,
    /// The first node whose result is not finite; `None` if only a sum over micro-batches is not.
    pub node: Option<String>,
    /// First and last row of the micro-batch at fault, from 0.
    pub rows: [usize; 2],
    /// Its documents.
    pub documents: Vec<DocumentPlace>,
}

/// Executes a step of a run again and says what it did. Without a step: the one at which the run failed.
///
/// Errors: `why::step` if there is no such step, or the run comes to an end before it;
/// `why::changed` if spec or text are others now.
pub fn why(
    store: &dyn Store,
    run: &Path,
    step: Option<u64>,
    threads: Option<usize>,
    isa: Option<Isa>,
    observer: &mut dyn Observer,
) -> Result<WhyReport, Failure> {
    let project = runs::project(store, run)?;
    let recorded = Manifest::read(store, run)?;
    let (records, _) = metrics::read(store, run)?;
    let step = wanted(step, &recorded, &records, section(&project.resolved.training)?.max_steps)?;
    let parent = runs::parent(store, run)?;
    // Nothing is written there.
    let output = run.parent().unwrap_or(Path::new("."));
    let options = TrainOptions { output, threads, isa, cache: None, store, parent };
    let is_same = |now: &RecipeParts, set: &data::TextSet| -> Result<(), Failure> {
        let Some(changed) = changed(run, &recorded, now, set) else { return Ok(()) };
        let help = "put back what the run was made from; `llmc verify RUN` compares every file";
        Err(Diagnostic::error("why::changed", changed).help(help).into())
    };
    let text = text_source(store, Some(&recorded));
    let prepared = prepare_if(&project, &options, text.as_source(store), observer, &is_same)?;
    let mut trainer = trainer(&prepared, threads, isa)?;
    let from_step = go_to(&mut trainer, &prepared, &options, run, step, observer)?;
    let (rows, batch) = batch_of(&prepared, step - 1)?;
    let found = trainer.inspect(&batch)?;
    Ok(report(run, &prepared, &rows, found, from_step, &records))
}

/// The step that is asked for, from 1.
fn wanted(
    step: Option<u64>,
    recorded: &Manifest,
    records: &[Record],
    max_steps: u64,
) -> Result<u64, Failure> {
    let last = records.iter().filter(|r| matches!(r, Record::Train(_))).map(Record::step).max();
    let has_failed = recorded.status == RunStatus::Failed;
    let (message, help) = match step.or(has_failed.then(|| last.unwrap_or(0) + 1)) {
        Some(step) if (1..=max_steps).contains(&step) => return Ok(step),
        Some(step) => (format!("there is no step {step}"), format!("steps are 1 to {max_steps}")),
        None => (
            "the run has not failed, so a step must be named".to_string(),
            format!("give `--step N`, 1 to {max_steps}; metrics.jsonl has the loss of each"),
        ),
    };
    Err(Diagnostic::error("why::step", message).help(help).into())
}

/// Puts the trainer before a step; the step after which it began.
fn go_to(
    trainer: &mut Trainer,
    prepared: &Prepared,
    options: &TrainOptions,
    run: &Path,
    step: u64,
    observer: &mut dyn Observer,
) -> Result<u64, Failure> {
    let store = options.store;
    let earlier = checkpoint::list(store, run)?.into_iter().rev().filter(|c| c.step < step);
    let steps = earlier.map(|Listed { step, .. }| step);
    let nearest = steps.filter_map(|step| checkpoint::load_step(store, run, step).ok()).next();
    match (&nearest, &options.parent) {
        (Some(checkpoint), _) => drop(restore(trainer, store, checkpoint)?),
        (None, Some(parent)) => finetune::start(trainer, store, parent)?,
        (None, None) => {}
    }
    let from_step = trainer.step_count();
    if from_step >= step {
        let message = format!("the run starts from step {from_step} of its parent");
        let d = Diagnostic::error("why::step", message);
        return Err(d.help(format!("give a step above {from_step}")).into());
    }
    let n = step - 1 - from_step;
    let detail = format!("{n} steps from step {from_step}");
    observer.event(&Event::Stage { name: "steps", detail });
    while trainer.step_count() < step - 1 {
        if observer.is_interrupted() {
            return Err(Failure::Interrupted(format!("at step {}", trainer.step_count())));
        }
        let (_, batch) = batch_of(prepared, trainer.step_count())?;
        trainer.step(&batch).map_err(|error| match error {
            TrainError::NonFinite(found) => {
                let message = format!("the run comes to an end at step {}", found.step + 1);
                let help = format!("ask for that one: `--step {}`", found.step + 1);
                Failure::from(Diagnostic::error("why::step", message).help(help))
            }
            other => other.into(),
        })?;
    }
    Ok(from_step)
}

/// The rows of a step, from 0, and their batch.
fn batch_of(prepared: &Prepared, step: u64) -> Result<(Vec<u64>, Batch), Failure> {
    let training = section(&prepared.project.resolved.training)?;
    let split = &prepared.rows.train;
    let (rows, first) = data::step_rows(training, split.plan.n_rows(), step);
    let batch = pack::batch(&split.plan, &split.corpus()?, &rows, 0)?;
    Ok((rows, data::to_train_batch(batch, first)))
}

fn report(
    run: &Path,
    prepared: &Prepared,
    rows: &[u64],
    found: Inspection,
    from_step: u64,
    records: &[Record],
) -> WhyReport {
    let step = found.step + 1;
    let recorded = records.iter().find_map(|r| match r {
        Record::Train(record) if record.step == step => Some(record),
        _ => None,
    });
    let is_same = |r: &TrainRecord| {
        // Text has no more than 17 digits of either.
        let is_near = |a: f64, b: f64| {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= f64::EPSILON * b.abs()
        };
        is_near(r.loss, found.loss) && is_near(r.grad_norm, found.grad_norm)
    };
    let non_finite = found.non_finite.map(|fault| Fault {
        quantity: fault.quantity.to_string(),
        node: fault.node,
        rows: [fault.rows.start, fault.rows.end.saturating_sub(1)],
        documents: documents(prepared, rows, fault.rows),
    });
    WhyReport {
        run: run.to_path_buf(),
        step,
        from_step,
        loss: found.loss,
        grad_norm: found.grad_norm,
        loss_scale: found.loss_scale,
        lr: found.lr,
        tokens: found.tokens,
        is_as_recorded: recorded.map(is_same),
        documents: documents(prepared, rows, 0..rows.len()),
        layers: layers(&found.norms),
        bad_weights: found.bad_weights,
        non_finite,
    }
}

/// The documents of some rows of a batch, in order of their first rows.
fn documents(
    prepared: &Prepared,
    rows: &[u64],
    wanted: std::ops::Range<usize>,
) -> Vec<DocumentPlace> {
    let mut found: Vec<DocumentPlace> = Vec::new();
    for at in wanted {
        let Some(row) = rows.get(at) else { break };
        for i in prepared.rows.train.documents_of(&[*row]) {
            let Some(document) = prepared.set.documents.get(i) else { continue };
            let (source, index) = (document.source.to_string(), document.index);
            match found.iter_mut().find(|d| d.index == index && d.source == source) {
                Some(known) => known.rows.push(at),
                None => found.push(DocumentPlace { source, index, rows: vec![at] }),
            }
        }
    }
    found
}

/// Norms of parameters joined by layer: `layers.N`, or the first part of the path.
fn layers(norms: &[(String, f64)]) -> Vec<LayerNorm> {
    struct Joined {
        layer: LayerNorm,
        squares: f64,
        most: f64,
    }
    let mut found: Vec<Joined> = Vec::new();
    for (path, norm) in norms {
        let n_parts = if path.starts_with("layers.") { 2 } else { 1 };
        let layer = path.split('.').take(n_parts).collect::<Vec<_>>().join(".");
        let size = if norm.is_finite() { *norm } else { f64::INFINITY };
        match found.iter_mut().find(|joined| joined.layer.layer == layer) {
            Some(joined) => {
                joined.squares += norm * norm;
                if size > joined.most {
                    (joined.most, joined.layer.largest) = (size, path.clone());
                }
            }
            None => {
                let layer = LayerNorm { layer, grad_norm: 0.0, largest: path.clone() };
                found.push(Joined { layer, squares: norm * norm, most: size });
            }
        }
    }
    found.sort_by_key(|joined| number_in(&joined.layer.layer));
    let norm = |joined: Joined| LayerNorm { grad_norm: joined.squares.sqrt(), ..joined.layer };
    found.into_iter().map(norm).collect()
}

/// Layers by their number, after what comes before them by name.
fn number_in(layer: &str) -> (bool, u64) {
    match layer.strip_prefix("layers.").and_then(|n| n.parse().ok()) {
        Some(n) => (true, n),
        None => (false, 0),
    }
}
