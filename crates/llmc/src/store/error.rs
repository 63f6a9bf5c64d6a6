//! The one error of the store: what was tried, where, and what the system said.

use llmc_base::Diagnostic;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening a file for reading.
    Open,
    /// Reading from a file.
    Read,
    /// Listing a folder.
    List,
    /// Asking for kind or length.
    Inspect,
    /// Creating a folder.
    CreateDir,
    /// Writing a file.
    Write,
    /// Appending to a file.
    Append,
    /// Making a file's content durable.
    SyncFile,
    /// Making a folder's names durable.
    SyncDir,
    /// Renaming.
    Rename,
    /// Removing a file.
    RemoveFile,
    /// Removing a folder.
    RemoveDir,
    /// Taking the lock of a folder.
    Lock,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Open => "open",
            Operation::Read => "read",
            Operation::List => "list the folder",
            Operation::Inspect => "inspect",
            Operation::CreateDir => "create the folder",
            Operation::Write => "write",
            Operation::Append => "append to",
            Operation::SyncFile => "sync",
            Operation::SyncDir => "sync the folder",
            Operation::Rename => "rename to",
            Operation::RemoveFile => "remove",
            Operation::RemoveDir => "remove the folder",
            Operation::Lock => "lock",
        })
    }
}

/// A failed store operation.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} `{}`: {source}", path.display())]
pub struct StoreError {
    /// What was tried.
    pub operation: Operation,
    /// Where; for a rename, the new name.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl StoreError {
    /// An error of `operation` at `path`.
    pub fn new(operation: Operation, path: &Path, source: io::Error) -> Self {
        StoreError { operation, path: path.to_path_buf(), source }
    }

    /// An error with a kind and a text of our own.
    pub(crate) fn told(
        operation: Operation,
        path: &Path,
        kind: io::ErrorKind,
        text: impl Into<String>,
    ) -> Self {
        Self::new(operation, path, io::Error::new(kind, text.into()))
    }

    /// The system's kind of the error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the disk or the quota is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Codes: `store::disk_full`, `store::missing`, `store::denied`, `store::exists`,
/// `store::io`.
impl From<&StoreError> for Diagnostic {
    fn from(error: &StoreError) -> Self {
        let (code, help) = match error.kind() {
            _ if error.is_disk_full() => (
                "store::disk_full",
                Some("free some space and run the same command again; finished work is kept"),
            ),
            io::ErrorKind::NotFound => ("store::missing", Some("check the path")),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ("store::denied", Some("check the permissions, or choose another folder"))
            }
            io::ErrorKind::AlreadyExists => ("store::exists", None),
            _ => ("store::io", None),
        };
        let diagnostic = Diagnostic::error(code, error.to_string());
        match help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }
}
