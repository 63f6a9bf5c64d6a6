//! A store that fails on command.

use super::{Entry, EntryKind, Operation, Source, Store, StoreError};
use crate::lock::{Lock, LockError};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How the chosen operation fails, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full from here on: everything fails but removing, and a
    /// write leaves the first half of its bytes. Removing frees no space.
    DiskFull,
    /// This one operation fails with this kind; later ones work.
    Once(ErrorKind),
    /// The process is gone: this operation and all later ones fail, reads too.
    Abort,
}

/// Fails the `nth` changing operation (from 0) of the store below.
#[derive(Debug)]
pub struct FaultStore<S> {
    inner: S,
    nth: usize,
    fault: Fault,
    count: AtomicUsize,
    has_failed: AtomicBool,
}

impl<S: Store> FaultStore<S> {
    /// A store over `inner` that fails at changing operation `nth`.
    pub fn new(inner: S, nth: usize, fault: Fault) -> Self {
        let (count, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        FaultStore { inner, nth, fault, count, has_failed }
    }

    /// The store below, as it would be found afterwards.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The store below, for what comes after.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Whether an operation has failed by command.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    /// Counts a changing operation and decides whether it fails.
    fn check(&self, operation: Operation, path: &Path) -> Result<(), StoreError> {
        let now = self.count.fetch_add(1, Ordering::SeqCst);
        let takes_space = !matches!(operation, Operation::RemoveFile | Operation::RemoveDir);
        let kind = match self.fault {
            Fault::DiskFull if now >= self.nth && takes_space => ErrorKind::StorageFull,
            Fault::Once(kind) if now == self.nth => kind,
            Fault::Abort if now >= self.nth => ErrorKind::Interrupted,
            _ => return Ok(()),
        };
        self.has_failed.store(true, Ordering::SeqCst);
        Err(StoreError::new(operation, path, kind.into()))
    }

    fn check_read(&self, operation: Operation, path: &Path) -> Result<(), StoreError> {
        if self.fault == Fault::Abort && self.has_failed() {
            return Err(StoreError::new(operation, path, ErrorKind::Interrupted.into()));
        }
        Ok(())
    }

    /// A write that fails leaves the first half of its bytes behind.
    fn half(&self, error: StoreError, put: impl FnOnce() -> Result<(), StoreError>) -> StoreError {
        if matches!(self.fault, Fault::DiskFull) {
            match put() {
                Ok(()) => error,
                Err(other) => other,
            }
        } else {
            error
        }
    }
}

impl<S: Store> Source for FaultStore<S> {
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, StoreError> {
        self.check_read(Operation::Open, path)?;
        self.inner.open(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, StoreError> {
        self.check_read(Operation::List, path)?;
        self.inner.list(path)
    }

    fn kind(&self, path: &Path) -> Result<Option<EntryKind>, StoreError> {
        self.check_read(Operation::Inspect, path)?;
        self.inner.kind(path)
    }

    fn file_len(&self, path: &Path) -> Result<u64, StoreError> {
        self.check_read(Operation::Inspect, path)?;
        self.inner.file_len(path)
    }

    fn text_files(&self, folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
        self.check_read(Operation::List, folder)?;
        self.inner.text_files(folder)
    }
}

impl<S: Store> Store for FaultStore<S> {
    fn is_ordered(&self) -> bool {
        true
    }

    fn create_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.check(Operation::CreateDir, path)?;
        self.inner.create_dir(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        match self.check(Operation::Write, path) {
            Ok(()) => self.inner.write(path, bytes),
            Err(e) => Err(self.half(e, || self.inner.write(path, &bytes[..bytes.len() / 2]))),
        }
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        match self.check(Operation::Append, path) {
            Ok(()) => self.inner.append(path, bytes),
            Err(e) => Err(self.half(e, || self.inner.append(path, &bytes[..bytes.len() / 2]))),
        }
    }

    fn sync_file(&self, path: &Path) -> Result<(), StoreError> {
        self.check(Operation::SyncFile, path)?;
        self.inner.sync_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.check(Operation::Rename, to)?;
        self.inner.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.check(Operation::SyncDir, path)?;
        self.inner.sync_dir(path)
    }

    fn remove_file(&self, path: &Path) -> Result<(), StoreError> {
        self.check(Operation::RemoveFile, path)?;
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), StoreError> {
        self.check(Operation::RemoveDir, path)?;
        self.inner.remove_dir_all(path)
    }

    fn lock_run(&self, run: &Path) -> Result<Option<Lock>, LockError> {
        self.inner.lock_run(run)
    }
}
