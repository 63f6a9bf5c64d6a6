//! Why a command did not do its work.

use crate::lock::LockError;
use crate::store::{FolderFault, StoreError};
use llmc_base::Diagnostic;
use llmc_spec::Precision;
use llmc_train::{NonFinite, TrainError};
use std::fmt;

/// Why a stage or a command has no result.
#[derive(Debug)]
pub enum Failure {
    /// The input is wrong; every problem found.
    Diagnostics(Vec<Diagnostic>),
    /// The input is right, but the work did not succeed.
    Work(Box<Diagnostic>),
    /// Somebody asked to stop before there was anything to keep; says where.
    Interrupted(String),
    /// The disk, or a file that is not what it was.
    Store(StoreError),
    /// Another process works in the run directory.
    Lock(LockError),
    /// A folder is damaged.
    Folder(FolderFault),
    /// Planning or a step failed.
    Train(TrainError),
    /// A program produced by llmc breaks one of its own rules; a bug.
    Internal(String),
}

impl Failure {
    /// As diagnostics, for people and programs.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            Failure::Diagnostics(diagnostics) => diagnostics.clone(),
            Failure::Work(diagnostic) => vec![(**diagnostic).clone()],
            Failure::Interrupted(place) => {
                vec![Diagnostic::error("train::interrupted", format!("interrupted {place}"))]
            }
            Failure::Store(error) => vec![Diagnostic::from(error)],
            Failure::Lock(error) => vec![Diagnostic::from(error)],
            Failure::Folder(fault) => vec![Diagnostic::error("run::damaged", fault.to_string())],
            Failure::Train(TrainError::NonFinite(found)) => {
                vec![non_finite(found, &[], Precision::Float32)]
            }
            Failure::Train(error) => vec![Diagnostic::error("train::failed", error.to_string())],
            Failure::Internal(message) => {
                let d = Diagnostic::error("llmc::internal", message.clone());
                vec![d.help("this is a bug in llmc; please report it with the spec")]
            }
        }
    }

    /// The same with the place in the spec of every field that a diagnostic is about.
    pub fn located(mut self, spec: &llmc_spec::Spec) -> Failure {
        if let Failure::Diagnostics(found) = &mut self {
            spec.locate(found);
        }
        self
    }

    /// The exit code that `llmc --help` documents: that of the first error in [`EXIT_CODES`], or
    /// else 3 for an input and 1 for the work.
    pub fn exit_code(&self) -> u8 {
        let found = self.diagnostics();
        let first = found.iter().find(|d| d.is_error()).or(found.first());
        let listed = first.and_then(|d| {
            EXIT_CODES.iter().find(|(prefix, _)| d.code.starts_with(prefix)).map(|(_, code)| *code)
        });
        listed.unwrap_or(match self {
            Failure::Diagnostics(_) => 3,
            _ => 1,
        })
    }
}

/// Exit codes by the start of a diagnostic's code; the first that fits counts. What is not here is
/// an input that is wrong (3), or work that did not succeed (1).
pub const EXIT_CODES: [(&str, u8); 39] = [
    // The command line, or a variable of the environment.
    ("chat::command", 2),
    ("chat::nothing", 2),
    ("chat::set", 2),
    ("cli::", 2),
    ("emit::exists", 2),
    ("emit::quantized", 2),
    ("env::", 2),
    ("generate::empty", 2),
    ("generate::weights", 2),
    ("graph::", 2),
    ("help::", 2),
    ("ir::no_skeleton", 2),
    ("ir::unknown_function", 2),
    ("ir::unknown_stage", 2),
    ("new::", 2),
    ("quantize::exists", 2),
    ("quantize::f32", 2),
    ("quantize::twice", 2),
    ("resume::steps", 2),
    ("run::ambiguous", 2),
    ("run::no_ema", 2),
    ("run::not_a_run", 2),
    ("run::unknown", 2),
    ("sampling::", 2),
    ("tokenizer::id", 2),
    ("train::threads", 2),
    ("why::step", 2),
    // What is there is not what was recorded.
    ("export::damaged", 4),
    ("manifest::damaged", 4),
    ("manifest::missing", 4),
    ("rerun::changed", 4),
    ("run::no_spec", 4),
    ("why::changed", 4),
    // The machine, or another process.
    ("run::in_use", 1),
    ("store::", 1),
    ("train::failed", 1),
    ("train::non_finite", 1),
    ("llmc::", 1),
    ("train::interrupted", 130),
];

/// Most documents that an error names.
const MAX_NAMED: usize = 8;

/// A number of a step that is not finite, with the documents of the rows at fault. Steps count from
/// 1 here, as in metrics, logs and checkpoints.
pub(super) fn non_finite(
    found: &NonFinite,
    documents: &[String],
    precision: Precision,
) -> Diagnostic {
    let mut message = NonFinite { step: found.step + 1, ..found.clone() }.to_string();
    if !documents.is_empty() {
        message = format!("{message}; documents: {}", named(documents));
    }
    let mut help = String::new();
    if precision == Precision::Float16 {
        help.push_str("float16 ends at 65504, `training.precision = \"bfloat16\"` does not; or ");
    }
    help.push_str(
        "lower `optimizer.lr`, raise `training.schedule.warmup_steps`, or set `optimizer.max_grad_norm`; the last checkpoint is from before this step",
    );
    Diagnostic::error("train::non_finite", message).help(help)
}

/// The first few of many names, and how many there are beyond them.
pub(super) fn named(names: &[String]) -> String {
    let (shown, more) = names.split_at(names.len().min(MAX_NAMED));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    format!("{}{more}", shown.join(", "))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.diagnostics().iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

macro_rules! from {
    ($($source:ty => $variant:ident;)*) => {$(
        impl From<$source> for Failure {
            fn from(source: $source) -> Self {
                Failure::$variant(source)
            }
        }
    )*};
}
from! {
    Vec<Diagnostic> => Diagnostics;
    StoreError => Store;
    LockError => Lock;
    FolderFault => Folder;
    TrainError => Train;
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Failure::Diagnostics(vec![diagnostic])
    }
}

impl From<llmc_ir::TypeError> for Failure {
    fn from(error: llmc_ir::TypeError) -> Self {
        Failure::Diagnostics(vec![Diagnostic::error(error.code.clone(), error.message.clone())])
    }
}

impl From<llmc_runtime::RunError> for Failure {
    fn from(error: llmc_runtime::RunError) -> Self {
        Failure::Train(TrainError::Run(error))
    }
}
