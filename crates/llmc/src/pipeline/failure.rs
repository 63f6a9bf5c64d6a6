//! Why a command did not do its work.

use crate::lock::LockError;
use crate::store::{FolderFault, StoreError};
use llmc_base::Diagnostic;
use llmc_train::TrainError;
use std::fmt;

/// Why a stage or a command has no result.
#[derive(Debug)]
pub enum Failure {
    /// The input is wrong; every problem found.
    Diagnostics(Vec<Diagnostic>),
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
            Failure::Store(error) => vec![Diagnostic::from(error)],
            Failure::Lock(error) => vec![Diagnostic::error("run::locked", error.to_string())],
            Failure::Folder(fault) => vec![Diagnostic::error("run::damaged", fault.to_string())],
            Failure::Train(TrainError::NonFinite(found)) => {
                let d = Diagnostic::error("train::non_finite", found.to_string());
                vec![d.help("lower `optimizer.lr`, raise `training.schedule.warmup_steps`, or set `optimizer.max_grad_norm`")]
            }
            Failure::Train(error) => vec![Diagnostic::error("train::failed", error.to_string())],
            Failure::Internal(message) => {
                let d = Diagnostic::error("llmc::internal", message.clone());
                vec![d.help("this is a bug in llmc; please report it with the spec")]
            }
        }
    }

    /// The exit code that `llmc --help` documents.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Diagnostics(_) => 3,
            _ => 1,
        }
    }
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
