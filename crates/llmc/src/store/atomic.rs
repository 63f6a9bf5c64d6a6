//! Files, each whole or not at all.

use super::folder::is_folder;
use super::{EntryKind, Group, Operation, Store, StoreError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What stands between the name of a target and the rest of a temporary name.
const TEMPORARY: &str = ".tmp-";

/// Replaces the content of a file: temporary file in the same folder, sync,
/// rename, sync of the folder. After any crash the file has its old content or
/// the new one; after `Ok` the new one. On an error the temporary file is
/// removed and the old content stays.
pub fn write_atomic(store: &dyn Store, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_all_atomic(store, &[(path, bytes)])
}

/// Does for many files what [`write_atomic`] does for one, in hardly more time:
/// all are synced together. After a crash each file for itself is old or new.
pub fn write_all_atomic(store: &dyn Store, files: &[(&Path, &[u8])]) -> Result<(), StoreError> {
    let mut group = Group::new(store);
    for (path, bytes) in files {
        group.file(path, bytes)?;
    }
    group.commit()
}

/// A name beside `path` that no other writer of this process uses, and that
/// no other process of this machine uses at the same time.
///
/// Errors: if `path` has no last name.
pub fn temporary_name(path: &Path) -> Result<PathBuf, StoreError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        StoreError::told(Operation::Write, path, ErrorKind::InvalidInput, "not the path of a file")
    })?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Ok(path.with_file_name(format!("{name}{TEMPORARY}{}-{count}", std::process::id())))
}

/// Whether a name is one that [`temporary_name`] gives.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.contains(TEMPORARY)
}

/// Removes what interrupted writers left in a folder; not in its subfolders.
/// Returns the names. Only for a folder that no one else writes to now.
pub fn remove_temporaries(store: &dyn Store, folder: &Path) -> Result<Vec<String>, StoreError> {
    let mut removed = Vec::new();
    for entry in store.list(folder)? {
        if !is_temporary(&entry.name) {
            continue;
        }
        let path = folder.join(&entry.name);
        match entry.kind {
            EntryKind::File => store.remove_file(&path)?,
            EntryKind::Folder => store.remove_dir_all(&path)?,
        }
        removed.push(entry.name);
    }
    Ok(removed)
}

/// Creates a folder and those above it that are missing, and makes their names
/// durable.
pub fn create_dir_all(store: &dyn Store, path: &Path) -> Result<(), StoreError> {
    if is_top(path) || is_folder(store, path)? {
        return Ok(());
    }
    let parent = parent_of(path);
    create_dir_all(store, parent)?;
    match store.create_dir(path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists && is_folder(store, path)? => {}
        Err(e) => return Err(e),
    }
    store.sync_dir(parent)
}

/// The working folder or the root, which always exist.
fn is_top(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.parent().is_none()
}

/// The folder that holds `path`; `.` for a bare name.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
