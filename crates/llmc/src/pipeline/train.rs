//! A training run: from a resolved spec to a run directory.
//!
//! The run directory is named by the recipe. A complete one is verified and
//! returned; an incomplete one goes on from its last whole checkpoint. The state
//! of a run is weights, moments and the step; all else is a function of those
//! and the spec, so a run that was killed anywhere ends in the same bits.

use super::data::{self, PackedSplit, Rows, TextSet};
use super::failure::Failure;
use super::finish;
use super::generate::continue_text;
use super::observer::{Event, Observer};
use super::project::{Project, build_model, verified};
use super::snapshot::Snapshot;
use crate::cache::StageCache;
use crate::checkpoint::{self, Checkpoint, Content, Keep};
use crate::events::EventFile;
use crate::lock::lock_run;
use crate::manifest::{self, Manifest, RunStatus};
use crate::metrics::{MetricsWriter, Record, SampleRecord, TrainRecord, ValidationRecord};
use crate::store::{Store, commit_folder, create_dir_all, write_all_atomic};
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use llmc_data::dataset::Split;
use llmc_data::order::batch_rows;
use llmc_data::pack;
use llmc_data::shards::Corpus;
use llmc_data::tokenizer::Tokenizer;
use llmc_formats::safetensors::{DType, Data, SafeTensors, TensorSource};
use llmc_ir::Module;
use llmc_runtime::{Engine, Isa, Sampling};
use llmc_spec::{OptimizerConfig, ResolvedModel, TrainingConfig};
use llmc_train::{Modules, TrainError, Trainer, optim};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;

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
    /// A run whose last checkpoint this one starts from.
    pub parent: Option<Parent>,
}

/// The start of a run that continues another recipe.
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
    /// Hash of what was asked.
    pub recipe: Hash,
    /// Hash over everything that came of it; `None` until it is complete.
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
}

/// `state.json` of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// Steps done.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Step and loss of the best validation.
    pub best: Option<(u64, f64)>,
}

/// Everything that a run is made of, before the first step.
pub struct Prepared {
    /// The spec.
    pub project: Project,
    /// The documents.
    pub set: TextSet,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The packed rows.
    pub rows: Rows,
    /// The model.
    pub module: Module,
    /// The gradient module.
    pub gradient: Module,
    /// Names the run.
    pub recipe: Hash,
}

/// Threads to use: what was asked, what the spec says, or one per core.
pub fn thread_count(asked: Option<usize>, spec: Option<u64>) -> usize {
    asked
        .or(spec.and_then(|n| usize::try_from(n).ok()))
        .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
        .unwrap_or(1)
        .max(1)
}

/// The name of a run: the spec's recipe, the content of its files, and its parent.
fn run_recipe(project: &Project, set: &TextSet, parent: Option<&Parent>) -> Result<Hash, Failure> {
    let spec = project.resolved.hashes.training;
    let spec = spec.ok_or_else(|| Failure::Internal("a spec without a run".to_string()))?;
    let mut hasher = CanonicalHasher::new("llmc.run.v1");
    hasher.hash(&spec).hash(&set.recipe);
    if let Some(parent) = parent {
        hasher.field("parent").hash(&parent.recipe).hash(&parent.weights).int(parent.step.into());
    }
    Ok(hasher.finish())
}

/// A section that `Goal::Training` guarantees.
fn section<T>(value: &Option<T>) -> Result<&T, Failure> {
    value.as_ref().ok_or_else(|| Failure::Internal("a run without all sections".to_string()))
}

/// Runs the stages before training.
pub fn prepare(
    project: &Project,
    options: &TrainOptions,
    observer: &mut dyn Observer,
) -> Result<Prepared, Failure> {
    let resolved = &project.resolved;
    let training = section(&resolved.training)?;
    let model = project.model()?;
    let threads = thread_count(options.threads, training.threads);
    let (set, warnings) = data::documents(section(&resolved.dataset)?, options.cache)?;
    warnings.iter().for_each(|w| observer.event(&Event::Warning(w)));
    let words: u64 = set.documents.iter().map(|d| d.words).sum();
    let detail = format!("{} documents, {words} words", set.documents.len());
    observer.event(&Event::Stage { name: "dataset", detail });

    let config = section(&resolved.tokenizer)?;
    let tokenizer = data::tokenizer(config, &set, threads, options.cache)?;
    check_vocabulary(model, &tokenizer)?;
    let detail = format!("{} of {} tokens", tokenizer.kind().name(), tokenizer.vocab_size());
    observer.event(&Event::Stage { name: "tokenizer", detail });

    let rows = data::rows(&set, &tokenizer, training.sequence_length, threads, options.cache)?;
    let detail = format!(
        "{} rows of {} tokens, {:.1} % full",
        rows.train.plan.n_rows(),
        rows.train.plan.sequence_length(),
        rows.train.plan.fill() * 100.0
    );
    observer.event(&Event::Stage { name: "rows", detail });

    let module = build_model(model)?;
    let gradient = llmc_passes::autodiff(&module, &Default::default())?;
    let gradient = verified(gradient)?;
    let detail = format!("{} parameters", model.solution.params);
    observer.event(&Event::Stage { name: "model", detail });
    let recipe = run_recipe(project, &set, options.parent.as_ref())?;
    Ok(Prepared { project: project.clone(), set, tokenizer, rows, module, gradient, recipe })
}

/// The model must have a row for every token.
fn check_vocabulary(model: &ResolvedModel, tokenizer: &Tokenizer) -> Result<(), Failure> {
    let (rows, tokens) = (model.dims.vocab_size, u64::from(tokenizer.vocab_size()));
    if tokens <= rows {
        return Ok(());
    }
    let message = format!("the tokenizer has {tokens} tokens, the model `vocab_size = {rows}`");
    let d = Diagnostic::error("train::vocabulary", message);
    Err(d.help(format!("set `model.vocab_size` to at least {tokens}")).into())
}

/// Below so many FLOPs per step one thread is used, unless a number is asked for: waking others a
/// few hundred times takes longer, milliseconds on a busy machine.
const SERIAL_FLOPS: f64 = 2e7;

/// A trainer for a prepared run, with its initial weights.
pub fn trainer(
    prepared: &Prepared,
    threads: Option<usize>,
    isa: Option<Isa>,
) -> Result<Trainer, Failure> {
    let resolved = &prepared.project.resolved;
    let training: &TrainingConfig = section(&resolved.training)?;
    let optimizer: &OptimizerConfig = section(&resolved.optimizer)?;
    let model = prepared.project.model()?;
    let modules = Modules {
        model: &prepared.module,
        gradient: &prepared.gradient,
        parameters: optim::parameters(&prepared.gradient, "grad")?,
        n_layers: model.dims.num_layers,
        init: model.architecture.init,
    };
    let tokens_per_step = training.batch_size.saturating_mul(training.sequence_length);
    let flops_per_step = 6.0 * model.solution.params as f64 * tokens_per_step as f64;
    let is_chosen = threads.or(training.threads.map(|n| n as usize)).is_some();
    let threads = match !is_chosen && flops_per_step < SERIAL_FLOPS {
        true => 1,
        false => thread_count(threads, training.threads),
    };
    let engine = Engine::new(threads, isa)?;
    Ok(Trainer::new(modules, optimizer, training, engine)?)
}

/// Trains a spec to its last step, or until the observer asks to stop.
///
/// Errors: everything that can go wrong on the way; the run directory then holds the last whole checkpoint.
pub fn train(
    project: &Project,
    options: &TrainOptions,
    observer: &mut dyn Observer,
) -> Result<TrainResult, Failure> {
    let prepared = prepare(project, options, observer)?;
    train_prepared(&prepared, options, observer)
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
    let store = options.store;
    let run = run_folder(options.output, &prepared.recipe);
    create_dir_all(store, &run)?;
    let _lock = lock_run(&run)?;
    if let Some(result) = already_complete(prepared, store, &run)? {
        return Ok(result);
    }
    write_static(prepared, options, &run)?;
    let mut session = Session::open(prepared, options, &run, observer)?;
    let status = session.run(observer)?;
    finish::finish(&session, status, observer)
}

/// A complete run of this recipe is verified, not repeated.
fn already_complete(
    prepared: &Prepared,
    store: &dyn Store,
    run: &Path,
) -> Result<Option<TrainResult>, Failure> {
    let Ok(manifest) = Manifest::read(store, run) else { return Ok(None) };
    if manifest.status != RunStatus::Complete {
        return Ok(None);
    }
    let report = manifest::verify(store, run)?;
    if !report.outputs_are_whole() {
        let d = Diagnostic::error(
            "run::damaged",
            format!(
                "`{}` is complete but not as it was written: {}",
                run.display(),
                report.problems[0]
            ),
        );
        return Err(d.help("move the folder away; the run can then be made again").into());
    }
    let (checkpoint, _) = checkpoint::load_latest_whole(store, run)?;
    let Some(checkpoint) = checkpoint else { return Ok(None) };
    let (records, _) = crate::metrics::read(store, run)?;
    Ok(Some(TrainResult {
        run: run.to_path_buf(),
        status: TrainStatus::AlreadyComplete,
        recipe: manifest.recipe,
        content: Some(manifest.content),
        weights: weights_hash(&checkpoint)?,
        step: checkpoint.step,
        loss: last_loss(&records),
        validation: last_validation(&records),
        parameters: prepared.project.model()?.solution.params,
    }))
}

pub(super) fn last_loss(records: &[Record]) -> Option<f64> {
    records.iter().rev().find_map(|r| match r {
        Record::Train(record) => Some(record.loss),
        _ => None,
    })
}

pub(super) fn last_validation(records: &[Record]) -> Option<ValidationRecord> {
    records.iter().rev().find_map(|r| match r {
        Record::Validation(record) => Some(record.clone()),
        _ => None,
    })
}

/// BLAKE3 of a checkpoint's weights file.
pub fn weights_hash(checkpoint: &Checkpoint) -> Result<Hash, Failure> {
    let file = checkpoint.complete.file(WEIGHTS);
    file.map(|f| f.hash)
        .ok_or_else(|| Failure::Internal(format!("a checkpoint without `{WEIGHTS}`")))
}

/// Weights in a checkpoint.
pub const WEIGHTS: &str = "weights.safetensors";
/// Moments in a checkpoint.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// Position in a checkpoint.
pub const STATE: &str = "state.json";

/// Writes what does not change while the run goes on.
fn write_static(prepared: &Prepared, options: &TrainOptions, run: &Path) -> Result<(), Failure> {
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
        texts.push(("parent.json", format!("{parent}\n")));
    }
    let mut missing = Vec::new();
    for (name, text) in &texts {
        let path = run.join(name);
        if !store.exists(&path)? {
            missing.push((path, text.as_bytes()));
        }
    }
    let missing: Vec<(&Path, &[u8])> =
        missing.iter().map(|(path, text)| (path.as_path(), *text)).collect();
    write_all_atomic(store, &missing)?;
    let tokenizer = run.join("tokenizer");
    if !store.exists(&tokenizer)? {
        commit_folder(store, &tokenizer, |f| data::write_tokenizer(f, &prepared.tokenizer))?;
    }
    let data = run.join("data");
    if !store.exists(&data)? {
        commit_folder(store, &data, |f| {
            f.bytes("documents.json", prepared.set.ledger.as_bytes())?;
            data::write_rows(f, &prepared.rows)
        })?;
    }
    Ok(())
}

/// A run while it goes on.
pub(super) struct Session<'a> {
    pub prepared: &'a Prepared,
    pub options: &'a TrainOptions<'a>,
    pub run: PathBuf,
    pub trainer: Trainer,
    pub state: CheckpointState,
    pub records: Vec<Record>,
    pub last_checkpoint: Option<Checkpoint>,
    /// The best state, if it is newer than the last checkpoint and small enough to wait for the next.
    best: Option<Snapshot>,
    metrics: MetricsWriter<'a>,
    events: EventFile<'a>,
    started: Instant,
    elapsed_before: f64,
}

impl<'a> Session<'a> {
    fn open(
        prepared: &'a Prepared,
        options: &'a TrainOptions,
        run: &Path,
        observer: &mut dyn Observer,
    ) -> Result<Self, Failure> {
        let store = options.store;
        let mut trainer = trainer(prepared, options.threads, options.isa)?;
        let (mut found, warnings) = checkpoint::load_latest_whole(store, run)?;
        warnings.iter().for_each(|w| observer.event(&Event::Warning(w)));
        if let (None, Some(parent)) = (&found, &options.parent) {
            let start = checkpoint::load_step(store, &parent.run, parent.step)?;
            restore(&mut trainer, store, &start)?;
            found = None;
        }
        let mut state = CheckpointState { step: trainer.step_count(), ..Default::default() };
        if let Some(checkpoint) = &found {
            state = restore(&mut trainer, store, checkpoint)?;
        }
        let (metrics, records) = match found {
            Some(_) => MetricsWriter::resume(store, run, state.step)?,
            None => (MetricsWriter::create(store, run)?, Vec::new()),
        };
        let elapsed_before = records.iter().rev().find_map(|r| match r {
            Record::Train(record) => Some(record.elapsed_s),
            _ => None,
        });
        Ok(Session {
            prepared,
            options,
            run: run.to_path_buf(),
            trainer,
            state,
            records,
            last_checkpoint: found,
            best: None,
            metrics,
            events: EventFile::open(store, run)?,
            started: Instant::now(),
            elapsed_before: elapsed_before.unwrap_or(0.0),
        })
    }

    pub(super) fn training(&self) -> Result<&'a TrainingConfig, Failure> {
        section(&self.prepared.project.resolved.training)
    }

    /// Seconds of training since the start of the run.
    pub(super) fn elapsed(&self) -> f64 {
        self.elapsed_before + self.started.elapsed().as_secs_f64()
    }

    fn run(&mut self, observer: &mut dyn Observer) -> Result<TrainStatus, Failure> {
        let training = self.training()?;
        let prepared = self.prepared;
        let corpus = prepared.rows.train.corpus()?;
        observer.event(&Event::Start {
            run: &self.run,
            step: self.state.step,
            max_steps: training.max_steps,
            tokens_per_step: training.batch_size * training.sequence_length,
        });
        while self.state.step < training.max_steps {
            self.step(&corpus, training, observer)?;
            let step = self.state.step;
            let is_last = step == training.max_steps;
            let is_due = |interval: u64| interval > 0 && step.is_multiple_of(interval);
            let mut is_best = false;
            if is_last || is_due(training.eval_interval) {
                is_best = self.validate(observer)?;
            }
            if training.sample_tokens > 0 && (is_last || is_due(training.sample_interval)) {
                self.sample(training, observer)?;
            }
            let is_interrupted = observer.is_interrupted();
            let is_kept = is_best && training.keep_best;
            if is_last || is_interrupted || is_due(training.checkpoint_interval) {
                self.save(training, observer)?;
            } else if is_kept {
                match Snapshot::take(&self.trainer, &self.state)? {
                    Some(snapshot) => self.best = Some(snapshot),
                    None => self.save(training, observer)?,
                }
            }
            if is_interrupted && !is_last {
                return Ok(TrainStatus::Interrupted);
            }
        }
        if self.last_checkpoint.is_none() {
            self.save(training, observer)?;
        }
        Ok(TrainStatus::Complete)
    }

    fn step(
        &mut self,
        corpus: &Corpus,
        training: &TrainingConfig,
        observer: &mut dyn Observer,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let split = &self.prepared.rows.train;
        let (step, size) = (self.state.step, training.batch_size);
        let rows = batch_rows(training.seed, split.plan.n_rows(), size, step);
        let batch = pack::batch(&split.plan, corpus, &rows, 0)?;
        let batch = data::to_train_batch(batch, step * size);
        let report = self.trainer.step(&batch).map_err(|e| self.explain(e, &rows))?;
        self.state.step += 1;
        self.state.tokens += report.tokens;
        let record = TrainRecord {
            step: self.state.step,
            tokens: self.state.tokens,
            loss: report.loss,
            lr: report.lr,
            grad_norm: report.grad_norm,
            tokens_per_s: report.tokens as f64 / began.elapsed().as_secs_f64().max(1e-9),
            elapsed_s: self.elapsed(),
        };
        observer.event(&Event::Step(&record));
        self.events.train(&record);
        self.keep(Record::Train(record))
    }

    fn keep(&mut self, record: Record) -> Result<(), Failure> {
        self.metrics.record(&record)?;
        self.records.push(record);
        Ok(())
    }

    /// Adds the documents of the rows at fault to a non-finite error.
    fn explain(&self, error: TrainError, rows: &[u64]) -> Failure {
        let TrainError::NonFinite(found) = &error else { return Failure::Train(error) };
        let rows = rows.get(found.rows.clone()).unwrap_or(rows);
        let set = &self.prepared.set;
        let names: Vec<String> = self
            .prepared
            .rows
            .train
            .documents_of(rows)
            .iter()
            .filter_map(|i| set.documents.get(*i))
            .map(|d| format!("`{}` #{}", d.source, d.index))
            .collect();
        let (shown, more) = names.split_at(names.len().min(8));
        let more =
            if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        let message = format!("{found}; documents: {}{more}", shown.join(", "));
        let d = Diagnostic::error("train::non_finite", message);
        Failure::Diagnostics(vec![d.help(
            "lower `optimizer.lr`, raise `training.schedule.warmup_steps`, or set `optimizer.max_grad_norm`; the last checkpoint is from before this step",
        )])
    }

    /// Loss over the held-out rows. Returns whether it is the best so far.
    fn validate(&mut self, observer: &mut dyn Observer) -> Result<bool, Failure> {
        let prepared = self.prepared;
        let Some(split) = &prepared.rows.validation else { return Ok(false) };
        let training = self.training()?;
        let limit = training.eval_batches.map(|n| n * training.batch_size);
        let (nats, targets, bytes) =
            held_out(&mut self.trainer, prepared, split, training.batch_size, limit)?;
        if targets == 0 {
            return Ok(false);
        }
        let record = ValidationRecord {
            step: self.state.step,
            loss: nats / targets as f64,
            bits_per_byte: nats / std::f64::consts::LN_2 / bytes.max(1) as f64,
        };
        observer.event(&Event::Validation(&record));
        self.events.validation(&record);
        let is_best = self.state.best.is_none_or(|(_, loss)| record.loss < loss);
        if is_best {
            self.state.best = Some((record.step, record.loss));
        }
        self.keep(Record::Validation(record))?;
        Ok(is_best)
    }

    fn sample(
        &mut self,
        training: &TrainingConfig,
        observer: &mut dyn Observer,
    ) -> Result<(), Failure> {
        let prompt = training.sample_prompt.clone();
        let sampling = Sampling { seed: training.seed, ..Sampling::default() };
        let tokenizer = &self.prepared.tokenizer;
        let trainer = &mut self.trainer;
        let text = continue_text(
            &mut |ids| Ok(trainer.next_logits(ids)?.to_vec()),
            tokenizer,
            &prompt,
            training.sample_tokens,
            &sampling,
            &mut |_| true,
        )?;
        let record = SampleRecord { step: self.state.step, prompt, text };
        observer.event(&Event::Sample(&record));
        self.keep(Record::Sample(record))
    }

    fn save(
        &mut self,
        training: &TrainingConfig,
        observer: &mut dyn Observer,
    ) -> Result<(), Failure> {
        let store = self.options.store;
        self.metrics.sync()?;
        self.events.flush(store)?;
        // Before the checkpoint that names it as the best.
        if let Some(best) = self.best.take().filter(|b| Some(b.step()) == best_step(&self.state)) {
            let saved = best.save(store, &self.run)?;
            observer.event(&Event::Checkpoint { step: saved.step, path: &saved.path });
        }
        let saved = save(&self.trainer, store, &self.run, &self.state)?;
        let best = best_step(&self.state).filter(|_| training.keep_best);
        let last = usize::try_from(training.keep_checkpoints).unwrap_or(usize::MAX);
        checkpoint::prune(store, &self.run, Keep { last, best })?;
        observer.event(&Event::Checkpoint { step: saved.step, path: &saved.path });
        self.last_checkpoint = Some(saved);
        Ok(())
    }
}

/// Nats, targets and text bytes of the held-out rows (all of them, or the first `limit`).
pub(super) fn held_out(
    trainer: &mut Trainer,
    prepared: &Prepared,
    split: &PackedSplit,
    batch_size: u64,
    limit: Option<u64>,
) -> Result<(f64, u64, u64), Failure> {
    let corpus = split.corpus()?;
    let n_rows = split.plan.n_rows();
    let n_used = limit.map_or(n_rows, |limit| limit.min(n_rows));
    let (mut nats, mut targets, mut at) = (0.0, 0, 0);
    while at < n_used {
        let rows: Vec<u64> = (at..(at + batch_size).min(n_used)).collect();
        at += rows.len() as u64;
        let batch = pack::batch(&split.plan, &corpus, &rows, 0)?;
        let (loss, n) = trainer.evaluate(&data::to_train_batch(batch, 0))?;
        nats += loss;
        targets += n;
    }
    // Bytes of the part that was scored: all of it, or its share by targets.
    let all = prepared.set.bytes(Split::Validation);
    let bytes = match n_used == n_rows {
        true => all,
        false => (all as f64 * targets as f64 / split.plan.n_targets().max(1) as f64) as u64,
    };
    Ok((nats, targets, bytes))
}

fn best_step(state: &CheckpointState) -> Option<u64> {
    state.best.map(|(step, _)| step)
}

/// Writes the trainer's state as a checkpoint.
pub fn save(
    trainer: &Trainer,
    store: &dyn Store,
    run: &Path,
    state: &CheckpointState,
) -> Result<Checkpoint, Failure> {
    let weights: Vec<String> = trainer.parameters().iter().map(|p| p.path.clone()).collect();
    let moments = trainer.moment_paths();
    save_tensors(&tensors(trainer, &weights)?, &tensors(trainer, &moments)?, store, run, state)
}

/// Writes tensors and a position as a checkpoint.
pub(super) fn save_tensors(
    weights: &[TensorSource],
    moments: &[TensorSource],
    store: &dyn Store,
    run: &Path,
    state: &CheckpointState,
) -> Result<Checkpoint, Failure> {
    let metadata = Default::default();
    let write_weights =
        |out: &mut dyn std::io::Write| llmc_formats::safetensors::write_to(out, weights, &metadata);
    let write_moments =
        |out: &mut dyn std::io::Write| llmc_formats::safetensors::write_to(out, moments, &metadata);
    let state_text =
        serde_json::to_string_pretty(state).map_err(|e| Failure::Internal(e.to_string()))?;
    let state_text = format!("{state_text}\n");
    let files = [
        (WEIGHTS, Content::Write(&write_weights)),
        (OPTIMIZER, Content::Write(&write_moments)),
        (STATE, Content::Bytes(state_text.as_bytes())),
    ];
    Ok(checkpoint::save(store, run, state.step, &files)?)
}

fn tensors<'t>(
    trainer: &'t Trainer,
    paths: &'t [String],
) -> Result<Vec<TensorSource<'t>>, Failure> {
    let mut out = Vec::with_capacity(paths.len());
    for path in paths {
        let (shape, values) = trainer.tensor(path)?;
        out.push(TensorSource { name: path, dtype: DType::F32, shape, data: Data::F32(values) });
    }
    Ok(out)
}

/// Reads a checkpoint into the trainer.
pub fn restore(
    trainer: &mut Trainer,
    store: &dyn Store,
    checkpoint: &Checkpoint,
) -> Result<CheckpointState, Failure> {
    let weights: Vec<String> = trainer.parameters().iter().map(|p| p.path.clone()).collect();
    let moments = trainer.moment_paths();
    for (file, paths) in [(WEIGHTS, &weights), (OPTIMIZER, &moments)] {
        let bytes = checkpoint.read(store, file)?;
        fill(trainer, &bytes, paths, &checkpoint.path.join(file))?;
    }
    let state = checkpoint.read(store, STATE)?;
    let state: CheckpointState = serde_json::from_slice(&state).map_err(|e| {
        Diagnostic::error(
            "checkpoint::state",
            format!("`{}`: {e}", checkpoint.path.join(STATE).display()),
        )
    })?;
    trainer.set_step_count(state.step);
    Ok(state)
}

/// Fills tensors of the trainer from a safetensors file.
pub fn fill(
    trainer: &mut Trainer,
    bytes: &[u8],
    paths: &[String],
    file: &Path,
) -> Result<(), Failure> {
    let bad = |message: String| -> Failure {
        let d =
            Diagnostic::error("checkpoint::weights", format!("`{}`: {message}", file.display()));
        d.help("the file belongs to another model or is damaged").into()
    };
    let parsed = SafeTensors::parse(bytes).map_err(|e| bad(e.to_string()))?;
    for path in paths {
        let tensor = parsed.tensor(path).map_err(|e| bad(e.to_string()))?;
        let values = tensor.to_f32().map_err(|e| bad(e.to_string()))?;
        let out = trainer.tensor_mut(path)?;
        if out.len() != values.len() {
            return Err(bad(format!(
                "`{path}` has {} elements, expected {}",
                values.len(),
                out.len()
            )));
        }
        out.copy_from_slice(&values);
    }
    Ok(())
}
