//! A folder of files, whole or not at all.
//!
//! Protocol: write every file into `NAME.tmp-…`, and the marker [`COMPLETE`] with
//! the length and BLAKE3 of every file; sync all files and folders; rename to
//! `NAME`; sync the folder above. A folder without marker, or
//! with a file that differs from it, is torn: [`verify_folder`] says how.

use super::atomic::parent_of;
use super::hashing::join;
use super::{
    Bytes, EntryKind, FileHash, Operation, Source, Store, StoreError, StoreWriter, create_dir_all,
    folder_hash, hash_file, temporary_name,
};
use llmc_base::Hash;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// Name of the marker file.
pub const COMPLETE: &str = "COMPLETE";

/// Version of the marker's form.
const MARKER_VERSION: u32 = 1;

/// What the marker holds: the folder's content by file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// Version of this form.
    pub version: u32,
    /// Hash over `files`.
    pub content: Hash,
    /// Every file but the marker, sorted by path.
    pub files: Vec<FileHash>,
}

impl Complete {
    /// The marker of these files.
    pub fn of(mut files: Vec<FileHash>) -> Self {
        files.sort();
        Complete { version: MARKER_VERSION, content: folder_hash(&files), files }
    }

    /// The entry of one file.
    pub fn file(&self, path: &str) -> Option<&FileHash> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// Why a folder is not whole.
#[derive(Debug, thiserror::Error)]
pub enum FolderFault {
    /// The marker is missing: the folder was never finished.
    #[error("the marker `{COMPLETE}` is missing")]
    NoMarker,
    /// The marker does not parse or contradicts itself.
    #[error("the marker `{COMPLETE}` is damaged: {0}")]
    BadMarker(String),
    /// A file is missing.
    #[error("the file `{0}` is missing")]
    Missing(String),
    /// A file has another content than the marker says.
    #[error("the file `{path}` differs: expected {}, found {}", expected.short(), found.short())]
    Differs {
        /// Path below the folder.
        path: String,
        /// What the marker says.
        expected: Hash,
        /// What is there.
        found: Hash,
    },
    /// It could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the marker of a folder and checks it against itself, not against the
/// files.
pub fn read_marker(source: &dyn Source, folder: &Path) -> Result<Complete, FolderFault> {
    let bytes = match source.read(&folder.join(COMPLETE)) {
        Ok(bytes) => bytes,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(FolderFault::NoMarker);
        }
        Err(e) => return Err(e.into()),
    };
    let bad = |text: String| FolderFault::BadMarker(text);
    let marker: Complete = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    if marker.version != MARKER_VERSION {
        return Err(bad(format!("version {}, known is {MARKER_VERSION}", marker.version)));
    }
    if marker.content != folder_hash(&marker.files) {
        return Err(bad("its hash does not fit its files".into()));
    }
    for file in &marker.files {
        check_name(folder, &file.path).map_err(|e| bad(e.to_string()))?;
    }
    Ok(marker)
}

/// Checks every file of a folder against its marker.
///
/// Errors: the first fault. Files that the marker does not know are no fault.
pub fn verify_folder(source: &dyn Source, folder: &Path) -> Result<Complete, FolderFault> {
    let marker = read_marker(source, folder)?;
    for file in &marker.files {
        let path = join(folder, &file.path);
        let (_, found) = match hash_file(source, &path) {
            Ok(hashed) => hashed,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(FolderFault::Missing(file.path.clone()));
            }
            Err(e) => return Err(e.into()),
        };
        if found != file.hash {
            let path = file.path.clone();
            return Err(FolderFault::Differs { path, expected: file.hash, found });
        }
    }
    Ok(marker)
}

/// Reads one file of a folder and checks the bytes that it returns.
pub fn read_verified(
    source: &dyn Source,
    folder: &Path,
    marker: &Complete,
    path: &str,
) -> Result<Vec<u8>, FolderFault> {
    verified(folder, marker, path, |path| source.read(path))
}

/// As [`read_verified`], mapped where that is possible.
pub fn map_verified(
    source: &dyn Source,
    folder: &Path,
    marker: &Complete,
    path: &str,
) -> Result<Bytes, FolderFault> {
    verified(folder, marker, path, |path| source.map(path))
}

/// The bytes of a file of a folder, checked.
fn verified<B: Deref<Target = [u8]>>(
    folder: &Path,
    marker: &Complete,
    path: &str,
    read: impl FnOnce(&Path) -> Result<B, StoreError>,
) -> Result<B, FolderFault> {
    let file = marker.file(path).ok_or_else(|| FolderFault::Missing(path.to_string()))?;
    let bytes = match read(&join(folder, path)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(FolderFault::Missing(path.to_string()));
        }
        Err(e) => return Err(e.into()),
    };
    let found = Hash::of_bytes(&bytes);
    if found != file.hash {
        return Err(FolderFault::Differs { path: path.into(), expected: file.hash, found });
    }
    Ok(bytes)
}

/// Takes the files of a folder that is being made.
pub struct FolderWriter<'a> {
    store: &'a dyn Store,
    folder: PathBuf,
    folders: BTreeSet<PathBuf>,
    files: Vec<FileHash>,
}

impl FolderWriter<'_> {
    /// Writes a file from bytes; `path` is relative with `/` between names.
    /// Returns its BLAKE3.
    ///
    /// Errors: of the store; `InvalidInput` for a path that leaves the folder,
    /// is taken, or is the marker's.
    pub fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<Hash, StoreError> {
        self.file(path, |out| out.write_all(bytes))
    }

    /// Writes a file piece by piece; otherwise as [`FolderWriter::bytes`].
    pub fn file(
        &mut self,
        path: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Hash, StoreError> {
        check_name(&self.folder, path)?;
        let target = join(&self.folder, path);
        if self.files.iter().any(|file| file.path == path) {
            let text = "two files of this name in one folder";
            return Err(StoreError::told(Operation::Write, &target, ErrorKind::InvalidInput, text));
        }
        self.make_parents(&target)?;
        let mut writer = StoreWriter::new(self.store, target.clone());
        let written = write(&mut writer);
        let (length, hash) = writer.finish()?;
        written.map_err(|e| StoreError::new(Operation::Write, &target, e))?;
        self.files.push(FileHash { path: path.to_string(), length, hash });
        Ok(hash)
    }

    /// Creates the folders between the target folder and a file.
    fn make_parents(&mut self, file: &Path) -> Result<(), StoreError> {
        let parent = parent_of(file);
        if parent == self.folder || self.folders.contains(parent) {
            return Ok(());
        }
        self.make_parents(parent)?;
        self.store.create_dir(parent)?;
        self.folders.insert(parent.to_path_buf());
        Ok(())
    }

    /// Where the folder is while it is being made.
    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// Adds the marker. Nothing is durable yet.
    pub(super) fn mark(self) -> Result<Marked, StoreError> {
        let mut files: Vec<PathBuf> =
            self.files.iter().map(|file| join(&self.folder, &file.path)).collect();
        let complete = Complete::of(self.files);
        let path = self.folder.join(COMPLETE);
        let mut text = serde_json::to_string_pretty(&complete)
            .map_err(|e| StoreError::new(Operation::Write, &path, e.into()))?;
        text.push('\n');
        self.store.write(&path, text.as_bytes())?;
        files.push(path);
        let mut folders: Vec<PathBuf> = self.folders.into_iter().collect();
        folders.push(self.folder);
        Ok(Marked { complete, files, folders })
    }
}

/// A folder with its marker, still under its temporary name. The order in which its parts are
/// synced does not matter: nothing counts before the rename.
pub(super) struct Marked {
    pub(super) complete: Complete,
    /// Its files, the marker among them.
    pub(super) files: Vec<PathBuf>,
    /// It and the folders in it.
    pub(super) folders: Vec<PathBuf>,
}

/// A whole, durable folder that waits under its temporary name.
pub struct StagedFolder<'a> {
    store: &'a dyn Store,
    temporary: PathBuf,
    target: PathBuf,
    /// What it holds.
    pub complete: Complete,
}

impl StagedFolder<'_> {
    /// Gives the folder its name, durably. Nothing, or an empty folder, may be
    /// under that name; otherwise the folder goes and the error comes back.
    pub fn publish(self) -> Result<Complete, StoreError> {
        if let Err(error) = self.try_publish() {
            let _ = self.store.remove_dir_all(&self.temporary);
            return Err(error);
        }
        Ok(self.complete)
    }

    /// As [`StagedFolder::publish`], but after an error the folder stays and
    /// can be published again.
    pub fn try_publish(&self) -> Result<(), StoreError> {
        self.store.rename(&self.temporary, &self.target)?;
        self.store.sync_dir(parent_of(&self.target))
    }

    /// Removes the folder.
    pub fn discard(self) -> Result<Complete, StoreError> {
        self.store.remove_dir_all(&self.temporary)?;
        Ok(self.complete)
    }
}

/// Writes a folder under a temporary name beside `target` and makes it durable.
///
/// Missing folders above `target` are created. On an error, of the store or of
/// `fill`, nothing is left.
pub fn stage_folder<'a, E: From<StoreError>>(
    store: &'a dyn Store,
    target: &Path,
    fill: impl FnOnce(&mut FolderWriter) -> Result<(), E>,
) -> Result<StagedFolder<'a>, E> {
    create_dir_all(store, parent_of(target))?;
    let mut writer = start_folder(store, target)?;
    let temporary = writer.folder.clone();
    let seal = |writer: FolderWriter| {
        let marked = writer.mark()?;
        store.sync_all(&marked.files, &marked.folders)?;
        Ok(marked.complete)
    };
    match fill(&mut writer).and_then(|()| seal(writer)) {
        Ok(complete) => {
            Ok(StagedFolder { store, temporary, target: target.to_path_buf(), complete })
        }
        Err(error) => {
            // The first error is the one to report.
            let _ = store.remove_dir_all(&temporary);
            Err(error)
        }
    }
}

/// Writes a folder so that after any crash it is whole or not there.
///
/// Errors: of the store or of `fill`, after which nothing is left under a
/// temporary name; `DirectoryNotEmpty` or `AlreadyExists` if the target exists.
pub fn commit_folder<E: From<StoreError>>(
    store: &dyn Store,
    target: &Path,
    fill: impl FnOnce(&mut FolderWriter) -> Result<(), E>,
) -> Result<Complete, E> {
    Ok(stage_folder(store, target, fill)?.publish()?)
}

/// Copies a whole folder, marker and all, and checks every byte on the way.
/// Where the very folder is there already, nothing happens.
///
/// Errors: [`FolderFault::Differs`] if the original is not what its marker
/// says; of the store, also if another folder has the target's name.
pub fn copy_folder(
    store: &dyn Store,
    from: &Path,
    marker: &Complete,
    target: &Path,
) -> Result<(), FolderFault> {
    if verify_folder(store, target).is_ok_and(|there| there == *marker) {
        return Ok(());
    }
    commit_folder(store, target, |folder| {
        for file in &marker.files {
            let mut reader = store.open(&join(from, &file.path))?;
            let found = folder.file(&file.path, |out| io::copy(&mut reader, out).map(drop))?;
            if found != file.hash {
                let path = file.path.clone();
                return Err(FolderFault::Differs { path, expected: file.hash, found });
            }
        }
        Ok(())
    })
    .map(drop)
}

/// A folder to be filled under a temporary name beside `target`, whose folder must exist.
pub(super) fn start_folder<'a>(
    store: &'a dyn Store,
    target: &Path,
) -> Result<FolderWriter<'a>, StoreError> {
    let folder = create_temporary(store, target)?;
    Ok(FolderWriter { store, folder, folders: BTreeSet::new(), files: Vec::new() })
}

/// Creates a temporary folder; another process in another container may have
/// the same id, so a taken name means: try the next.
fn create_temporary(store: &dyn Store, target: &Path) -> Result<PathBuf, StoreError> {
    loop {
        let temporary = temporary_name(target)?;
        match store.create_dir(&temporary) {
            Ok(()) => return Ok(temporary),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

/// A path below a folder: plain names with `/` between, and not the marker.
fn check_name(folder: &Path, path: &str) -> Result<(), StoreError> {
    let is_plain = path
        .split('/')
        .all(|name| !matches!(name, "" | "." | "..") && !name.contains(['\\', '\0']));
    if is_plain && path != COMPLETE {
        return Ok(());
    }
    let text = format!("`{path}` is no name for a file in this folder");
    Err(StoreError::told(Operation::Write, folder, ErrorKind::InvalidInput, text))
}

/// Whether `path` is a folder.
pub(crate) fn is_folder(source: &dyn Source, path: &Path) -> Result<bool, StoreError> {
    Ok(source.kind(path)? == Some(EntryKind::Folder))
}
