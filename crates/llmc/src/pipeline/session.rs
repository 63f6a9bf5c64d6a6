//! A run while it goes on: steps, validations, samples, checkpoints.

use super::data::{self, PackedSplit};
use super::failure::{Failure, non_finite};
use super::generate::continue_text;
use super::observer::{Event, Observer};
use super::plan::{self, PlanCheck};
use super::prepare::{Prepared, section, trainer};
use super::snapshot::Snapshot;
use super::state::{CheckpointState, restore, save};
use super::train::{TrainOptions, TrainStatus};
use crate::calibration;
use crate::checkpoint::{self, Checkpoint, Keep};
use crate::events::EventFile;
use crate::machine;
use crate::metrics::{MetricsWriter, Record, SampleRecord, TrainRecord, ValidationRecord};
use llmc_data::dataset::Split;
use llmc_data::order::batch_rows;
use llmc_data::pack;
use llmc_data::shards::Corpus;
use llmc_runtime::{Isa, Sampling};
use llmc_spec::TrainingConfig;
use llmc_train::{TrainError, Trainer};
use std::path::{Path, PathBuf};
use std::time::Instant;

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
    /// Seconds of every step of this session.
    step_seconds: Vec<f64>,
    /// Resident memory before the trainer was there, now and at its peak then.
    resident_before: Option<(u64, u64)>,
}

impl<'a> Session<'a> {
    pub(super) fn open(
        prepared: &'a Prepared,
        options: &'a TrainOptions,
        run: &Path,
        observer: &mut dyn Observer,
    ) -> Result<Self, Failure> {
        let store = options.store;
        let resident_before = machine::resident_bytes(store);
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
            // Whoever died while removing an old checkpoint left half of it.
            let training = section(&prepared.project.resolved.training)?;
            checkpoint::prune(store, run, keep(training, &state))?;
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
            step_seconds: Vec::new(),
            resident_before,
        })
    }

    pub(super) fn training(&self) -> Result<&'a TrainingConfig, Failure> {
        section(&self.prepared.project.resolved.training)
    }

    /// What the log says of the start of this session.
    pub(super) fn start_line(&self) -> String {
        let how = match (&self.last_checkpoint, &self.options.parent, self.state.step) {
            (None, Some(parent), step) => {
                format!("started from step {step} of {}", parent.run.display())
            }
            (None, None, _) => "started".to_string(),
            (Some(_), _, step) => format!("resumed at step {step}"),
        };
        format!("{how}, threads: {}", self.trainer.threads())
    }

    /// Seconds of training since the start of the run.
    pub(super) fn elapsed(&self) -> f64 {
        self.elapsed_before + self.started.elapsed().as_secs_f64()
    }

    /// What the plan of this run said beside what was seen, if this machine is calibrated.
    pub(super) fn plan_check(&self) -> Option<PlanCheck> {
        let (cache, threads) = (self.options.cache?, self.trainer.threads());
        let isa = self.options.isa.unwrap_or_else(Isa::detect);
        let calibration = calibration::cached(cache, isa, threads)?;
        let mut steps = self.step_seconds.clone();
        steps.sort_by(f64::total_cmp);
        let median = *steps.get(steps.len() / 2)?;
        // A peak from before the training says nothing of it; what is resident stays so.
        let growth = machine::resident_bytes(self.options.store).zip(self.resident_before);
        let growth = growth.map(|((now, peak), (before, peak_before))| {
            let most = if peak > peak_before { peak } else { now };
            most.saturating_sub(before)
        });
        // An observation: a run is not lost because there is none.
        plan::check(self.prepared, threads, &calibration, median, growth).ok()
    }

    pub(super) fn run(&mut self, observer: &mut dyn Observer) -> Result<TrainStatus, Failure> {
        let training = self.training()?;
        let prepared = self.prepared;
        let corpus = prepared.rows.train.corpus()?;
        observer.event(&Event::Start {
            run: &self.run,
            step: self.state.step,
            max_steps: training.max_steps,
            // The products of these numbers fit: `prepare` checks them.
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
        let seconds = began.elapsed().as_secs_f64().max(1e-9);
        self.step_seconds.push(seconds);
        let record = TrainRecord {
            step: self.state.step,
            tokens: self.state.tokens,
            loss: report.loss,
            lr: report.lr,
            grad_norm: report.grad_norm,
            tokens_per_s: report.tokens as f64 / seconds,
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
        Failure::Work(Box::new(non_finite(found, &names)))
    }

    /// Hands all records to the store.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.metrics.flush()?;
        Ok(self.events.flush(self.options.store)?)
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
        checkpoint::prune(store, &self.run, keep(training, &self.state))?;
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

/// Which checkpoints the spec wants to keep.
fn keep(training: &TrainingConfig, state: &CheckpointState) -> Keep {
    let last = usize::try_from(training.keep_checkpoints).unwrap_or(usize::MAX);
    Keep { last, best: best_step(state).filter(|_| training.keep_best) }
}

fn best_step(state: &CheckpointState) -> Option<u64> {
    state.best.map(|(step, _)| step)
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
