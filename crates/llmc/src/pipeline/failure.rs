//! Why a command did not do its work.

use crate::lock::LockError;
use crate::store::{FolderFault, StoreError};
use llmc_base::Diagnostic;
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
            Failure::Lock(error) => vec![Diagnostic::error("run::locked", error.to_string())],
            Failure::Folder(fault) => vec![Diagnostic::error("run::damaged", fault.to_string())],
            Failure::Train(TrainError::NonFinite(found)) => vec![non_finite(found, &[])],
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

    /// The exit code that `llmc --help` documents.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Diagnostics(_) => 3,
            Failure::Interrupted(_) => 130,
            _ => 1,
        }
    }
}

/// Most documents that an error names.
const MAX_NAMED: usize = 8;

/// A number of a step that is not finite, with the documents of the rows at fault. Steps count from
/// 1 here, as in metrics, logs and checkpoints.
pub(super) fn non_finite(found: &NonFinite, documents: &[String]) -> Diagnostic {
    let mut message = NonFinite { step: found.step + 1, ..found.clone() }.to_string();
    if !documents.is_empty() {
        message = format!("{message}; documents: {}", named(documents));
    }
    Diagnostic::error("train::non_finite", message).help(
        "lower `optimizer.lr`, raise `training.schedule.warmup_steps`, or set `optimizer.max_grad_norm`; the last checkpoint is from before this step",
    )
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
