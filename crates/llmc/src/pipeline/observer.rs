//! What a long piece of work tells whoever watches it.

use crate::metrics::{SampleRecord, TrainRecord, ValidationRecord};
use llmc_base::Diagnostic;
use std::path::Path;

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A stage begins or is done.
    Stage {
        /// E.g. `tokenizer`.
        name: &'static str,
        /// What came of it, in a few words.
        detail: String,
    },
    /// Steps begin.
    Start {
        /// The run directory.
        run: &'a Path,
        /// Steps done before.
        step: u64,
        /// Steps in all.
        max_steps: u64,
        /// Tokens per step, at most.
        tokens_per_step: u64,
    },
    /// A step is done.
    Step(&'a TrainRecord),
    /// A pass over the held-out text is done.
    Validation(&'a ValidationRecord),
    /// Text was generated.
    Sample(&'a SampleRecord),
    /// A checkpoint is on the disk.
    Checkpoint {
        /// Its step.
        step: u64,
        /// Its folder.
        path: &'a Path,
    },
    /// Something worth a look.
    Warning(&'a Diagnostic),
}

/// Watches, and may ask to stop.
pub trait Observer {
    /// Something happened.
    fn event(&mut self, event: &Event);

    /// Whether to stop after the current step, with a checkpoint.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event) {}
}
