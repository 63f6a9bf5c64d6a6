//! TensorBoard event files of a run: observations, in no hash.
//!
//! Each session writes a file of its own; TensorBoard joins them by step.

use crate::metrics::{TrainRecord, ValidationRecord};
use crate::store::{Store, StoreError};
use llmc_formats::tensorboard::EventWriter;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The event file of this session, written when it is flushed.
pub struct EventFile<'a> {
    store: &'a dyn Store,
    path: PathBuf,
    writer: EventWriter<Vec<u8>>,
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

impl<'a> EventFile<'a> {
    /// A new file in the run directory.
    pub fn open(store: &'a dyn Store, run: &Path) -> Result<Self, StoreError> {
        let now = wall_time();
        let seconds = now as u64;
        let mut path = run.join(format!("events.out.tfevents.{seconds}.llmc"));
        let mut n = 0;
        while store.exists(&path)? {
            n += 1;
            path = run.join(format!("events.out.tfevents.{seconds}.llmc.{n}"));
        }
        // Writing to memory does not fail.
        let writer = EventWriter::new(Vec::new(), now);
        let writer = writer.unwrap_or_else(|_| EventWriter::append(Vec::new()));
        Ok(EventFile { store, path, writer })
    }

    /// Adds a training step.
    pub fn train(&mut self, record: &TrainRecord) {
        let mut values = vec![
            ("train/loss", record.loss as f32),
            ("train/lr", record.lr as f32),
            ("train/grad_norm", record.grad_norm as f32),
            ("speed/tokens_per_s", record.tokens_per_s as f32),
        ];
        values.extend(record.loss_scale.map(|scale| ("train/loss_scale", scale as f32)));
        self.scalars(record.step, &values);
    }

    /// Adds a validation.
    pub fn validation(&mut self, record: &ValidationRecord) {
        let mut values = vec![
            ("validation/loss", record.loss as f32),
            ("validation/bits_per_byte", record.bits_per_byte as f32),
        ];
        values.extend(record.ema_loss.map(|loss| ("validation/ema_loss", loss as f32)));
        self.scalars(record.step, &values);
    }

    fn scalars(&mut self, step: u64, values: &[(&str, f32)]) {
        // Writing to memory does not fail.
        let _ = self.writer.scalars(i64::try_from(step).unwrap_or(i64::MAX), wall_time(), values);
    }

    /// Appends what has come since the last flush.
    pub fn flush(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let writer = std::mem::replace(&mut self.writer, EventWriter::append(Vec::new()));
        let bytes = writer.into_inner();
        match bytes.is_empty() {
            true => Ok(()),
            false => store.append(&self.path, &bytes),
        }
    }
}

impl Drop for EventFile<'_> {
    fn drop(&mut self) {
        // A failed last flush loses observations only, and nobody can be told.
        let store = self.store;
        let _ = self.flush(store);
    }
}
