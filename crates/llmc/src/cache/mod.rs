//! The stage cache: the output folder of a stage under the hash of its inputs.
//!
//! `ROOT/<stage>/<recipe hash>/` with the marker `COMPLETE`. Content is
//! verified whenever it is taken out; a damaged entry counts as missing and
//! goes. Any number of processes may share a root: folders appear whole under
//! their names, and of two that build one entry the first rename wins.
//!
//! The cache decides nothing: that equal recipes give equal content is the
//! promise of the stages.

mod folder;
#[cfg(test)]
mod tests;

pub use folder::{cache_folder, user_folder, variable};

use crate::lock::{Lock, LockError, Mode};
use crate::store::{
    COMPLETE, Complete, EntryKind, FolderFault, FolderWriter, FsStore, Source, Store, StoreError,
    copy_folder, create_dir_all, is_temporary, read_marker, read_verified, remove_temporaries,
    stage_folder, temporary_name, verify_folder,
};
use llmc_base::Hash;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What happened to the entries of one stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageCounts {
    /// Found, verified and used.
    pub hits: u64,
    /// Not there; damaged ones included.
    pub misses: u64,
    /// There, but not as they were written; removed.
    pub damaged: u64,
    /// Built and stored.
    pub stored: u64,
}

/// A verified entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// The folder in the cache. Read it, never change it.
    pub path: PathBuf,
    /// Length and hash of every file.
    pub complete: Complete,
}

impl Cached {
    /// Reads a file and checks the very bytes that it returns.
    pub fn read(&self, source: &dyn Source, file: &str) -> Result<Vec<u8>, FolderFault> {
        read_verified(source, &self.path, &self.complete, file)
    }

    /// Copies the entry, so that a run directory stands alone. Every byte is
    /// checked on the way.
    pub fn copy_to(&self, store: &dyn Store, target: &Path) -> Result<(), FolderFault> {
        copy_folder(store, &self.path, &self.complete, target)
    }
}

/// A cache root, and counts of what happened through this object.
pub struct StageCache<'a> {
    store: &'a dyn Store,
    root: PathBuf,
    counts: Mutex<BTreeMap<String, StageCounts>>,
}

impl<'a> StageCache<'a> {
    /// A cache below `root`, which need not exist.
    pub fn new(store: &'a dyn Store, root: impl Into<PathBuf>) -> Self {
        StageCache { store, root: root.into(), counts: Mutex::default() }
    }

    /// Where the entries are.
    pub fn store(&self) -> &'a dyn Store {
        self.store
    }

    /// Where the entry of a recipe is or would be.
    pub fn path(&self, stage: &str, recipe: &Hash) -> PathBuf {
        self.root.join(stage).join(recipe.to_string())
    }

    /// Takes an entry out, verified. A damaged one is removed and is `None`.
    pub fn get(&self, stage: &str, recipe: &Hash) -> Result<Option<Cached>, StoreError> {
        let path = self.path(stage, recipe);
        if self.store.kind(&path)?.is_none() {
            self.count(stage, |c| c.misses += 1);
            return Ok(None);
        }
        match verify_folder(self.store, &path) {
            Ok(complete) => {
                self.count(stage, |c| c.hits += 1);
                Ok(Some(Cached { path, complete }))
            }
            Err(FolderFault::Store(error)) => Err(error),
            Err(_) => {
                self.count(stage, |c| {
                    c.misses += 1;
                    c.damaged += 1;
                });
                self.set_aside(&path)?;
                Ok(None)
            }
        }
    }

    /// Stores an entry. If another process was first, its entry is used and
    /// this one dropped.
    ///
    /// Errors: of the store or of `fill`; then the cache is as before.
    pub fn put<E: From<StoreError>>(
        &self,
        stage: &str,
        recipe: &Hash,
        fill: impl FnOnce(&mut FolderWriter) -> Result<(), E>,
    ) -> Result<Cached, E> {
        let path = self.path(stage, recipe);
        let staged = stage_folder(self.store, &path, fill)?;
        loop {
            let error = match staged.try_publish() {
                Ok(()) => {
                    self.count(stage, |c| c.stored += 1);
                    return Ok(Cached { path, complete: staged.complete });
                }
                Err(error) => error,
            };
            let is_taken =
                matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists);
            match verify_folder(self.store, &path) {
                Ok(complete) if is_taken => {
                    staged.discard()?;
                    return Ok(Cached { path, complete });
                }
                Err(fault) if is_taken && !matches!(fault, FolderFault::Store(_)) => {
                    self.set_aside(&path)?;
                }
                _ => {
                    // The first error is the one to report.
                    let _ = staged.discard();
                    return Err(error.into());
                }
            }
        }
    }

    /// Takes an entry out, or builds and stores it.
    pub fn get_or_put<E: From<StoreError>>(
        &self,
        stage: &str,
        recipe: &Hash,
        fill: impl FnOnce(&mut FolderWriter) -> Result<(), E>,
    ) -> Result<Cached, E> {
        match self.get(stage, recipe)? {
            Some(cached) => Ok(cached),
            None => self.put(stage, recipe, fill),
        }
    }

    /// Removes the entries of a stage but for those that were stored last: up to `n`, of `bytes` in all, and the
    /// last one in any case. What a process has mapped or open of them stays with it.
    ///
    /// Errors: of the store; other entries are as they were.
    pub fn keep_newest(&self, stage: &str, n: usize, bytes: u64) -> Result<(), StoreError> {
        let folder = self.root.join(stage);
        let mut entries = Vec::new();
        for entry in self.store.list(&folder)? {
            let path = folder.join(&entry.name);
            let stored = self.store.modified(&path.join(COMPLETE));
            if entry.kind == EntryKind::Folder && !is_temporary(&entry.name) {
                entries.push((stored, path));
            }
        }
        entries.sort();
        let mut kept = 0;
        for (at, (_, path)) in entries.into_iter().rev().enumerate() {
            let files = read_marker(self.store, &path).map(|marker| marker.files);
            kept += files.unwrap_or_default().iter().map(|file| file.length).sum::<u64>();
            if at == 0 || at < n && kept <= bytes {
                continue;
            }
            let aside = temporary_name(&path)?;
            match self.store.rename(&path, &aside) {
                Ok(()) => self.store.remove_dir_all(&aside)?,
                // Another process was quicker.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// What happened so far, by stage.
    pub fn counts(&self) -> BTreeMap<String, StageCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, stage: &str, change: impl FnOnce(&mut StageCounts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(counts.entry(stage.to_string()).or_default());
    }

    /// Removes a damaged entry. The rename comes first, so that no reader sees
    /// half of it. Another process may have been quicker: if it took the entry
    /// away, there is nothing to do; if it already put a whole one there, that
    /// goes back.
    fn set_aside(&self, path: &Path) -> Result<(), StoreError> {
        let aside = temporary_name(path)?;
        match self.store.rename(path, &aside) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        }
        if verify_folder(self.store, &aside).is_ok() && self.store.rename(&aside, path).is_ok() {
            return Ok(());
        }
        self.store.remove_dir_all(&aside)
    }
}

/// Removes what interrupted builds left below `root`. Only for a cache that no
/// one else uses now; see [`open_shared`].
pub fn sweep(store: &dyn Store, root: &Path) -> Result<Vec<String>, StoreError> {
    let mut removed = Vec::new();
    for entry in store.list(root)? {
        if entry.kind == EntryKind::Folder {
            removed.extend(remove_temporaries(store, &root.join(entry.name))?);
        }
    }
    Ok(removed)
}

/// Enters a cache on this machine's disk: creates the root, sweeps it if no
/// other process is in it, and says by a shared lock that this one is. Keep the
/// lock for as long as the cache is used.
pub fn open_shared(root: &Path) -> Result<Lock, LockError> {
    create_dir_all(&FsStore, root)?;
    let path = root.join("lock");
    match Lock::take(&path, Mode::Exclusive) {
        Ok(alone) => {
            sweep(&FsStore, root)?;
            drop(alone);
        }
        Err(LockError::Held { .. }) => {}
        Err(error) => return Err(error),
    }
    Lock::wait(&path, Mode::Shared)
}
