//! `metrics.jsonl`: what was measured while training, one JSON object a line.
//!
//! An observation: losses in it are exact, times are not, and the file enters
//! no hash. It belongs to the run, not to the process: a resumed run drops the
//! records after the checkpoint that it starts from and goes on, so a step
//! appears once. JSON has no numbers for NaN and infinities; they are written
//! as the texts `nan`, `inf` and `-inf`.

pub(crate) mod number;
#[cfg(test)]
mod tests;

use crate::store::{Source, Store, StoreError, write_atomic};
use llmc_base::{Diagnostic, Span};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Name of the metrics file in a run directory.
pub const FILE: &str = "metrics.jsonl";

/// How the message about a line without an end ends.
pub(crate) const CUT: &str = "it is cut";

/// Bytes after which the writer flushes by itself.
const BUFFER_BYTES: usize = 1 << 16;

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// An optimiser step.
    Train(TrainRecord),
    /// A pass over the held-out data.
    Validation(ValidationRecord),
    /// Text generated on the way.
    Sample(SampleRecord),
}

/// An optimiser step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Steps done, this one included; the first is 1.
    pub step: u64,
    /// Tokens seen since the start of the run.
    pub tokens: u64,
    /// Mean loss of the global batch in nats per token, before the update.
    #[serde(with = "number")]
    pub loss: f64,
    /// Learning rate of this step.
    #[serde(with = "number")]
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    #[serde(with = "number")]
    pub grad_norm: f64,
    /// Tokens per second over this step.
    #[serde(with = "number")]
    pub tokens_per_s: f64,
    /// Seconds of training since the start of the run.
    #[serde(with = "number")]
    pub elapsed_s: f64,
    /// Whether the step changed nothing: a spike, or an overflow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_skipped: bool,
    /// Whether gradients were not finite in float16, so that the scale of the loss came down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_overflow: bool,
    /// What the loss was scaled by in the backward pass, with `float16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
}

impl TrainRecord {
    /// Why the step changed nothing, in words; `None` if it did change something.
    pub fn why_skipped(&self) -> Option<&'static str> {
        match (self.is_skipped, self.is_overflow) {
            (false, _) => None,
            (true, false) => Some("as a spike"),
            (true, true) => Some("because gradients overflow float16"),
        }
    }
}

/// A pass over the held-out data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Steps done.
    pub step: u64,
    /// Mean loss in nats per token.
    #[serde(with = "number")]
    pub loss: f64,
    /// Bits per byte of the text, which compares over tokenizers.
    #[serde(with = "number")]
    pub bits_per_byte: f64,
    /// Mean loss of the moving average of the weights, with `training.ema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_loss: Option<f64>,
}

/// Text generated on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// Steps done.
    pub step: u64,
    /// What the model was given.
    pub prompt: String,
    /// What it wrote after that.
    pub text: String,
}

impl Record {
    /// Steps done when this was measured.
    pub fn step(&self) -> u64 {
        match self {
            Record::Train(record) => record.step,
            Record::Validation(record) => record.step,
            Record::Sample(record) => record.step,
        }
    }
}

/// Appends records to a run's file.
pub struct MetricsWriter<'a> {
    store: &'a dyn Store,
    path: PathBuf,
    buffer: String,
}

impl<'a> MetricsWriter<'a> {
    /// Starts the file of a run anew.
    pub fn create(store: &'a dyn Store, run: &Path) -> Result<Self, StoreError> {
        let path = run.join(FILE);
        store.write(&path, b"")?;
        Ok(MetricsWriter { store, path, buffer: String::new() })
    }

    /// Goes on after a checkpoint: records after `step`, and whatever does not
    /// parse, are dropped, atomically. Returns what is kept.
    pub fn resume(
        store: &'a dyn Store,
        run: &Path,
        step: u64,
    ) -> Result<(Self, Vec<Record>), StoreError> {
        let path = run.join(FILE);
        let (lines, _) = parse(store, &path)?;
        let (kept, records): (Vec<String>, Vec<Record>) =
            lines.into_iter().filter(|(_, record)| record.step() <= step).unzip();
        write_atomic(store, &path, kept.concat().as_bytes())?;
        Ok((MetricsWriter { store, path, buffer: String::new() }, records))
    }

    /// Adds a record. It is in the file after the next flush.
    pub fn record(&mut self, record: &Record) -> Result<(), StoreError> {
        let line = serde_json::to_string(record).expect("records hold only text and numbers");
        self.buffer.push_str(&line);
        self.buffer.push('\n');
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Hands all records to the system, so that other processes see them.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if !self.buffer.is_empty() {
            let lines = std::mem::take(&mut self.buffer);
            self.store.append(&self.path, lines.as_bytes())?;
        }
        Ok(())
    }

    /// Makes all records durable. Call it before a checkpoint is saved: then a
    /// resumed run has every record up to its step.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        self.store.sync_file(&self.path)
    }
}

impl Drop for MetricsWriter<'_> {
    fn drop(&mut self) {
        // A failed last flush loses observations only, and nobody can be told.
        let _ = self.flush();
    }
}

/// All records of a run in file order, and a warning `metrics::damaged_line`
/// for every line that does not parse (a crash can tear the last one). A run
/// without the file has no records.
pub fn read(source: &dyn Source, run: &Path) -> Result<(Vec<Record>, Vec<Diagnostic>), StoreError> {
    let (lines, diagnostics) = parse(source, &run.join(FILE))?;
    Ok((lines.into_iter().map(|(_, record)| record).collect(), diagnostics))
}

/// A line with its line break, and what it says.
type Line = (String, Record);

/// Every whole line with its record.
fn parse(source: &dyn Source, path: &Path) -> Result<(Vec<Line>, Vec<Diagnostic>), StoreError> {
    let (mut lines, mut diagnostics) = (Vec::new(), Vec::new());
    if !source.exists(path)? {
        return Ok((lines, diagnostics));
    }
    let bytes = source.read(path)?;
    let mut start = 0;
    for (i, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let span = Span::new(path.display().to_string(), start, start + line.len());
        start += line.len();
        let is_whole = line.last() == Some(&b'\n');
        match (serde_json::from_slice(line), std::str::from_utf8(line)) {
            (Ok(record), Ok(text)) if is_whole => lines.push((text.to_string(), record)),
            (result, _) => {
                let why = match result {
                    Err(e) if is_whole => e.to_string(),
                    _ => CUT.to_string(),
                };
                let message = format!("line {} of the metrics does not parse: {why}", i + 1);
                diagnostics
                    .push(Diagnostic::warning("metrics::damaged_line", message).at(span, "here"));
            }
        }
    }
    Ok((lines, diagnostics))
}
