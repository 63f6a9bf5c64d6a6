//! Files and folders that become durable together.
//!
//! A sync waits for the disk, so one for many costs hardly more than one for each. Everything is
//! written under temporary names and synced; then every name is given, and the folders above are
//! synced. After a crash each file and each folder, for itself, is old or new, never torn.

use super::atomic::parent_of;
use super::folder::{FolderWriter, start_folder};
use super::{Complete, Store, StoreError, create_dir_all, temporary_name};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Files and folders to come; nothing has its name before [`Group::commit`]. Dropped before that,
/// it removes what it wrote.
pub struct Group<'a> {
    store: &'a dyn Store,
    /// Temporary name and name, in the order of the calls.
    files: Vec<(PathBuf, PathBuf)>,
    folders: Vec<(PathBuf, PathBuf)>,
    /// What the folders hold, to be synced.
    inner_files: Vec<PathBuf>,
    inner_folders: Vec<PathBuf>,
}

impl<'a> Group<'a> {
    /// An empty group.
    pub fn new(store: &'a dyn Store) -> Self {
        let (files, folders, inner_files, inner_folders) = Default::default();
        Group { store, files, folders, inner_files, inner_folders }
    }

    /// Adds a file, which replaces one of this name. Its folder must exist.
    pub fn file(&mut self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = temporary_name(path)?;
        self.files.push((temporary.clone(), path.to_path_buf()));
        self.store.write(&temporary, bytes)
    }

    /// Adds a folder; nothing, or an empty folder, may be under its name. Missing folders above are
    /// created.
    pub fn folder<E: From<StoreError>>(
        &mut self,
        target: &Path,
        fill: impl FnOnce(&mut FolderWriter) -> Result<(), E>,
    ) -> Result<Complete, E> {
        create_dir_all(self.store, parent_of(target))?;
        let mut writer = start_folder(self.store, target)?;
        self.folders.push((writer.path().to_path_buf(), target.to_path_buf()));
        fill(&mut writer)?;
        let marked = writer.mark()?;
        self.inner_files.extend(marked.files);
        self.inner_folders.extend(marked.folders);
        Ok(marked.complete)
    }

    /// Makes everything durable under its name.
    ///
    /// Errors: of the store; what had its name by then keeps it, the rest is removed.
    pub fn commit(mut self) -> Result<(), StoreError> {
        let mut files = self.inner_files.clone();
        files.extend(self.files.iter().map(|(temporary, _)| temporary.clone()));
        self.store.sync_all(&files, &self.inner_folders)?;
        let targets = || self.folders.iter().chain(&self.files);
        for (temporary, target) in targets() {
            self.store.rename(temporary, target)?;
        }
        let above: BTreeSet<&Path> = targets().map(|(_, target)| parent_of(target)).collect();
        let above: Vec<PathBuf> = above.into_iter().map(Path::to_path_buf).collect();
        self.store.sync_all(&[], &above)?;
        self.files.clear();
        self.folders.clear();
        Ok(())
    }
}

impl Drop for Group<'_> {
    /// The first error is the one to report; what has its name is not found here any more, and
    /// of any other leftover `remove_temporaries` takes care.
    fn drop(&mut self) {
        for (temporary, _) in &self.files {
            let _ = self.store.remove_file(temporary);
        }
        for (temporary, _) in &self.folders {
            let _ = self.store.remove_dir_all(temporary);
        }
    }
}
