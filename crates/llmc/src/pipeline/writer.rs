//! Checkpoints written beside the training: a copy of the state goes to a thread, the steps go on.
//!
//! One write is under way at a time; the next one waits for it, and so does the end of the run. What
//! a thread writes is what [`super::state::save`] would have written at that step, and it is whole or not there.
//! A store that wants its operations in order (see [`Store::is_ordered`]) gets them from the training itself.

use super::failure::Failure;
use super::snapshot::Snapshot;
use crate::checkpoint::{self, Checkpoint, Keep};
use crate::store::Store;
use llmc_base::Diagnostic;
use std::path::{Path, PathBuf};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// What is written together: the best states first, then the newest.
pub(super) struct Job {
    pub best: Vec<Snapshot>,
    pub last: Snapshot,
    pub keep: Keep,
}

/// What came of it: the checkpoints in order, and the copy, whose memory is used again.
struct Done {
    saved: Vec<Checkpoint>,
    spare: Snapshot,
}

/// Writes checkpoints of one run.
pub(super) struct Writer<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    store: &'env dyn Store,
    run: PathBuf,
    pending: Option<ScopedJoinHandle<'scope, Result<Done, Failure>>>,
    spare: Option<Snapshot>,
}

impl<'scope, 'env> Writer<'scope, 'env> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        store: &'env dyn Store,
        run: &Path,
    ) -> Self {
        Writer { scope, store, run: run.to_path_buf(), pending: None, spare: None }
    }

    /// Whether a write has come to its end and is to be asked for with [`Self::wait`].
    pub(super) fn is_done(&self) -> bool {
        self.pending.as_ref().is_some_and(ScopedJoinHandle::is_finished)
    }

    /// A copy that is not needed any more.
    pub(super) fn spare(&mut self) -> Option<Snapshot> {
        self.spare.take()
    }

    /// Starts a write. None may be under way.
    ///
    /// Errors: `store::thread` if the system gives no thread.
    pub(super) fn start(&mut self, job: Job) -> Result<(), Failure> {
        let (store, run) = (self.store, self.run.clone());
        let thread = Builder::new().name("llmc-checkpoint".to_string());
        let handle = thread.spawn_scoped(self.scope, move || write(store, &run, job));
        let handle = handle.map_err(|e| {
            let message = format!("cannot start the thread that writes checkpoints: {e}");
            let d = Diagnostic::error("store::thread", message);
            Failure::Work(Box::new(d.help("the system has no more threads; `llmc resume` goes on")))
        })?;
        self.pending = Some(handle);
        Ok(())
    }

    /// Waits for the write under way; the checkpoints that it made, in order.
    ///
    /// Errors: those of the write. Earlier checkpoints are as they were.
    pub(super) fn wait(&mut self) -> Result<Vec<Checkpoint>, Failure> {
        let Some(handle) = self.pending.take() else { return Ok(Vec::new()) };
        let done = handle.join();
        let done = done
            .map_err(|_| Failure::Internal("the writer of a checkpoint panicked".to_string()))??;
        self.spare = Some(done.spare);
        Ok(done.saved)
    }
}

fn write(store: &dyn Store, run: &Path, job: Job) -> Result<Done, Failure> {
    let mut saved = Vec::new();
    // Before the checkpoint that names them as the best.
    for snapshot in job.best.iter().chain([&job.last]) {
        saved.push(snapshot.save(store, run)?);
    }
    checkpoint::prune(store, run, job.keep)?;
    Ok(Done { saved, spare: job.last })
}
