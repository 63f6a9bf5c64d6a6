//! A run while it goes on: steps, checkpoints, and when to look at held-out text.

use super::data;
use super::evaluation;
use super::failure::{Failure, non_finite};
use super::finetune;
use super::observer::{Event, Observer};
use super::plan::{self, PlanCheck};
use super::prepare::{Prepared, section, trainer};
use super::snapshot::{MAX_STAGED_BYTES, MAX_WAITING_BYTES, Snapshot};
use super::state::{CheckpointState, restore, save};
use super::train::{TrainOptions, TrainStatus};
use super::writer::{Job, Writer};
use crate::calibration;
use crate::checkpoint::{self, Checkpoint, Keep};
use crate::events::EventFile;
use crate::machine;
use crate::metrics::{MetricsWriter, Record, TrainRecord, ValidationRecord};
use llmc_data::pack;
use llmc_data::shards::Corpus;
use llmc_runtime::Isa;
use llmc_spec::{Precision, TrainingConfig};
use llmc_train::{TrainError, Trainer};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// When a checkpoint is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// More steps follow.
    OnTheWay,
    /// The run waits for it.
    AtTheEnd,
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
    /// The best states that are newer than the last checkpoint and small enough to wait for the next.
    best: Vec<Snapshot>,
    metrics: MetricsWriter<'a>,
    pub events: EventFile<'a>,
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
        let (found, warnings) = checkpoint::load_latest_whole(store, run)?;
        warnings.iter().for_each(|w| observer.event(&Event::Warning(w)));
        if let (None, Some(parent)) = (&found, &options.parent) {
            finetune::start(&mut trainer, store, parent)?;
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
            best: Vec::new(),
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
            (None, Some(parent), _) => {
                let what = if parent.is_weights_only { "the weights of " } else { "" };
                format!("started from {what}step {} of {}", parent.step, parent.run.display())
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

    /// Trains to the end, or until the observer asks to stop. When it returns, every checkpoint that was begun is
    /// on the disk.
    pub(super) fn run(&mut self, observer: &mut dyn Observer) -> Result<TrainStatus, Failure> {
        let store = self.options.store;
        std::thread::scope(|scope| {
            let mut writer = Writer::new(scope, store, &self.run);
            let status = self.train(&mut writer, observer);
            let written = self.settle(&mut writer, observer);
            // The first error is the one to report.
            let status = status?;
            written?;
            Ok(status)
        })
    }

    /// Waits for the checkpoint that is being written, and tells of it.
    fn settle(
        &mut self,
        writer: &mut Writer<'_, 'a>,
        observer: &mut dyn Observer,
    ) -> Result<(), Failure> {
        for saved in writer.wait()? {
            self.tell(saved, observer);
        }
        Ok(())
    }

    fn tell(&mut self, saved: Checkpoint, observer: &mut dyn Observer) {
        observer.event(&Event::Checkpoint { step: saved.step, path: &saved.path });
        self.last_checkpoint = Some(saved);
    }

    fn train(
        &mut self,
        writer: &mut Writer<'_, 'a>,
        observer: &mut dyn Observer,
    ) -> Result<TrainStatus, Failure> {
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
        while self.state.step < training.max_steps && !self.is_stopped_early()? {
            if writer.is_done() {
                self.settle(writer, observer)?;
            }
            self.step(&corpus, training, observer)?;
            let step = self.state.step;
            let is_due = |interval: u64| interval > 0 && step.is_multiple_of(interval);
            let mut is_best = false;
            if step == training.max_steps || is_due(training.eval_interval) {
                is_best = evaluation::validate(self, observer)?;
            }
            let is_last = step == training.max_steps || self.is_stopped_early()?;
            if training.sample_tokens > 0 && (is_last || is_due(training.sample_interval)) {
                evaluation::sample(self, training, observer)?;
            }
            let is_interrupted = observer.is_interrupted();
            let is_kept = is_best && training.keep_best;
            if is_last || is_interrupted || is_due(training.checkpoint_interval) {
                let when = if is_last || is_interrupted { When::AtTheEnd } else { When::OnTheWay };
                self.save(training, writer, observer, when)?;
            } else if is_kept {
                let best: Vec<u64> = self.state.best_steps().collect();
                self.best.retain(|snapshot| best.contains(&snapshot.step()));
                match Snapshot::take(&self.trainer, &self.state, None, MAX_WAITING_BYTES)? {
                    Some(snapshot) => self.best.push(snapshot),
                    None => self.save(training, writer, observer, When::OnTheWay)?,
                }
            }
            if is_interrupted && !is_last {
                return Ok(TrainStatus::Interrupted);
            }
        }
        self.settle(writer, observer)?;
        if self.last_checkpoint.is_none() {
            self.save(training, writer, observer, When::AtTheEnd)?;
        }
        Ok(TrainStatus::Complete)
    }

    /// Whether the held-out loss has not fallen for as long as the spec waits.
    pub(super) fn is_stopped_early(&self) -> Result<bool, Failure> {
        Ok(evaluation::is_out_of_patience(&self.state, self.training()?))
    }

    fn step(
        &mut self,
        corpus: &Corpus,
        training: &TrainingConfig,
        observer: &mut dyn Observer,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let split = &self.prepared.rows.train;
        let (rows, first) = data::step_rows(training, split.plan.n_rows(), self.state.step);
        let batch = pack::batch(&split.plan, corpus, &rows, 0)?;
        let batch = data::to_train_batch(batch, first);
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
            is_skipped: report.is_skipped,
            is_overflow: report.is_overflow,
            loss_scale: report.loss_scale,
        };
        observer.event(&Event::Step(&record));
        self.events.train(&record);
        self.keep(Record::Train(record))
    }

    pub(super) fn keep(&mut self, record: Record) -> Result<(), Failure> {
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
        let training = self.prepared.project.resolved.training.as_ref();
        let precision = training.map_or(Precision::Float32, |training| training.precision);
        Failure::Work(Box::new(non_finite(found, &names, precision)))
    }

    /// Hands all records to the store.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.metrics.flush()?;
        Ok(self.events.flush(self.options.store)?)
    }

    /// Begins a checkpoint, or makes one where it cannot be written beside the training.
    fn save(
        &mut self,
        training: &TrainingConfig,
        writer: &mut Writer<'_, 'a>,
        observer: &mut dyn Observer,
        when: When,
    ) -> Result<(), Failure> {
        self.settle(writer, observer)?;
        let store = self.options.store;
        self.metrics.sync()?;
        self.events.flush(store)?;
        let mut best = std::mem::take(&mut self.best);
        best.retain(|best| self.state.best_steps().any(|step| step == best.step()));
        let keep = keep(training, &self.state);
        // At the end nothing goes on meanwhile, so a copy would be for nothing.
        let is_staged = when == When::OnTheWay && !store.is_ordered();
        let max_bytes = if is_staged { MAX_STAGED_BYTES } else { 0 };
        let copy = Snapshot::take(&self.trainer, &self.state, writer.spare(), max_bytes)?;
        if let Some(last) = copy {
            return writer.start(Job { best, last, keep });
        }
        // Before the checkpoint that names them as the best.
        for best in best {
            let saved = best.save(store, &self.run)?;
            self.tell(saved, observer);
        }
        let saved = save(&self.trainer, store, &self.run, &self.state)?;
        checkpoint::prune(store, &self.run, keep)?;
        self.tell(saved, observer);
        Ok(())
    }
}

/// Which checkpoints the spec wants to keep.
fn keep(training: &TrainingConfig, state: &CheckpointState) -> Keep {
    let last = usize::try_from(training.keep_checkpoints).unwrap_or(usize::MAX);
    Keep { last, best: state.best_steps().filter(|_| training.keep_best).collect() }
}

pub(super) fn last_loss(records: &[Record]) -> Option<f64> {
    records.iter().rev().find_map(|r| match r {
        Record::Train(record) => Some(record.loss),
        _ => None,
    })
}

/// How many steps were skipped, and how many of them because of an overflow.
pub(super) fn skipped(records: &[Record]) -> (u64, u64) {
    let steps = records.iter().filter_map(|r| match r {
        Record::Train(record) if record.is_skipped => Some(u64::from(record.is_overflow)),
        _ => None,
    });
    steps.fold((0, 0), |(all, overflows), one| (all + 1, overflows + one))
}

pub(super) fn last_validation(records: &[Record]) -> Option<ValidationRecord> {
    records.iter().rev().find_map(|r| match r {
        Record::Validation(record) => Some(record.clone()),
        _ => None,
    })
}
