//! Locks, so that two trainings never write one run directory.
//!
//! A lock is the operating system's own lock on an open file, so it ends with
//! the process however that dies, and a crash leaves nothing to clean up. The
//! file stays; it holds the process id of the last exclusive holder, for the
//! message only.

#[cfg(test)]
mod tests;

use crate::store::{Operation, StoreError};
use llmc_base::Diagnostic;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Name of the lock file in a run directory.
pub const FILE: &str = "lock";

/// How a lock is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One holder alone.
    Exclusive,
    /// Any number of holders, and no exclusive one.
    Shared,
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    mode: Mode,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process, or another place in this one, holds it.
    #[error("`{}` is in use{}", path.display(), holder_text(*holder))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The holder's process id, if it is known.
        holder: Option<u32>,
    },
    /// The lock file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" by process {pid}")).unwrap_or_default()
}

impl From<&LockError> for Diagnostic {
    fn from(error: &LockError) -> Self {
        match error {
            LockError::Held { .. } => Diagnostic::error("run::in_use", error.to_string())
                .help("another training works in this folder: wait until that process ends, or stop it (Ctrl-C writes a checkpoint); the run can then be resumed"),
            LockError::Store(error) => Diagnostic::from(error),
        }
    }
}

/// Takes the exclusive lock of a run directory, which must exist.
///
/// Errors: [`LockError::Held`] at once if a training writes there now.
pub fn lock_run(run: &Path) -> Result<Lock, LockError> {
    Lock::take(&run.join(FILE), Mode::Exclusive)
}

impl Lock {
    /// Takes a lock on the file at `path`, which is created if missing, or says
    /// at once that it is held.
    pub fn take(path: &Path, mode: Mode) -> Result<Lock, LockError> {
        let file = open(path)?;
        let result = match mode {
            Mode::Exclusive => file.try_lock(),
            Mode::Shared => file.try_lock_shared(),
        };
        match result {
            Ok(()) => Lock { file, mode }.announce(path),
            Err(TryLockError::WouldBlock) => {
                Err(LockError::Held { path: path.to_path_buf(), holder: holder(path) })
            }
            Err(TryLockError::Error(e)) => Err(StoreError::new(Operation::Lock, path, e).into()),
        }
    }

    /// Takes a lock, and waits for it if need be.
    pub fn wait(path: &Path, mode: Mode) -> Result<Lock, LockError> {
        let file = open(path)?;
        let result = match mode {
            Mode::Exclusive => file.lock(),
            Mode::Shared => file.lock_shared(),
        };
        result.map_err(|e| StoreError::new(Operation::Lock, path, e))?;
        Lock { file, mode }.announce(path)
    }

    /// Leaves the process id for the messages of others.
    fn announce(mut self, path: &Path) -> Result<Lock, LockError> {
        if self.mode == Mode::Exclusive {
            let write = |file: &mut File| -> io::Result<()> {
                file.set_len(0)?;
                writeln!(file, "{}", std::process::id())
            };
            write(&mut self.file).map_err(|e| StoreError::new(Operation::Lock, path, e))?;
        }
        Ok(self)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file releases the lock too, unless a forked child still
        // holds a copy of the descriptor; unlocking reaches that copy.
        if self.mode == Mode::Exclusive {
            let _ = self.file.set_len(0);
        }
        let _ = self.file.unlock();
    }
}

/// The process that holds the exclusive lock of a run directory.
///
/// `None` if nobody does. `Some(None)` if somebody does who has not said so.
pub fn holder_of_run(run: &Path) -> Option<Option<u32>> {
    let path = run.join(FILE);
    let file = File::open(&path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(holder(&path)),
        _ => None,
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .map_err(|e| StoreError::new(Operation::Lock, path, e))
}

fn holder(path: &Path) -> Option<u32> {
    let mut text = String::new();
    File::open(path).ok()?.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
