//! The disk behind two traits: [`Source`] reads, [`Store`] changes.
//!
//! Stages never touch the file system; they get bytes, or one of these traits.
//! So every stage runs on [`MemStore`] in a test, storage faults are injected
//! with [`FaultStore`], and [`RecordingStore`] produces every state in which a
//! power failure could leave the disk.
//!
//! Two contracts that a caller may rely on, and that the tests replay:
//! a file's content survives a crash only after [`Store::sync_file`], and a
//! name in a folder only after [`Store::sync_dir`] of that folder. What is
//! built on them is [`write_atomic`] for one file, [`commit_folder`] for many,
//! and [`Group`] for several of both.

mod atomic;
mod bytes;
mod crash;
mod error;
mod fault;
mod folder;
mod fs;
mod group;
mod hashing;
mod memory;
mod rebased;
mod tree;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use atomic::is_temporary;
pub use atomic::{
    create_dir_all, remove_temporaries, temporary_name, write_all_atomic, write_atomic,
};
pub use bytes::Bytes;
pub use crash::{CrashState, RecordingStore};
pub use error::{Operation, StoreError};
pub use fault::{Fault, FaultStore};
pub use folder::{
    COMPLETE, Complete, FolderFault, FolderWriter, StagedFolder, commit_folder, copy_folder,
    map_verified, read_marker, read_verified, stage_folder, verify_folder,
};
pub use fs::FsStore;
pub use group::Group;
pub(crate) use hashing::join;
pub use hashing::{FileHash, files_under, folder_hash, hash_file, hash_folder};
pub use memory::MemStore;
pub use rebased::Rebased;
pub use writer::StoreWriter;

use crate::lock::{Lock, LockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a name in a folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file, or a link to one.
    File,
    /// A folder, or a link to one.
    Folder,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name without its folder.
    pub name: String,
    /// File or folder.
    pub kind: EntryKind,
}

/// Where bytes come from.
pub trait Source: Send + Sync {
    /// Opens a file for reading from its start.
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, StoreError>;

    /// The names in a folder, sorted by their bytes.
    ///
    /// Errors: also when a name is not UTF-8.
    fn list(&self, path: &Path) -> Result<Vec<Entry>, StoreError>;

    /// What `path` is; `None` if there is nothing.
    fn kind(&self, path: &Path) -> Result<Option<EntryKind>, StoreError>;

    /// Length of a file in bytes.
    fn file_len(&self, path: &Path) -> Result<u64, StoreError>;

    /// The whole content of a file.
    fn read(&self, path: &Path) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.open(path)?
            .read_to_end(&mut bytes)
            .map_err(|e| StoreError::new(Operation::Read, path, e))?;
        Ok(bytes)
    }

    /// The whole content of a file that is not written to any more; mapped where that is possible.
    fn map(&self, path: &Path) -> Result<Bytes, StoreError> {
        self.read(path).map(Bytes::Owned)
    }

    /// The whole content of a UTF-8 file.
    fn read_text(&self, path: &Path) -> Result<String, StoreError> {
        String::from_utf8(self.read(path)?).map_err(|e| {
            StoreError::new(
                Operation::Read,
                path,
                std::io::Error::new(std::io::ErrorKind::InvalidData, e),
            )
        })
    }

    /// Every file below a folder that may hold text, unsorted: names that start with a dot,
    /// links to folders, and what is no regular file are passed over.
    fn text_files(&self, folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let mut files = Vec::new();
        for entry in self.list(folder)? {
            let path = folder.join(&entry.name);
            match entry.kind {
                _ if entry.name.starts_with('.') => {}
                EntryKind::Folder => files.extend(self.text_files(&path)?),
                EntryKind::File => files.push(path),
            }
        }
        Ok(files)
    }

    /// When a file was last changed; `None` if nothing says.
    fn modified(&self, _path: &Path) -> Option<SystemTime> {
        None
    }

    /// The folder that relative paths start from; `None` if nothing says.
    fn working_folder(&self) -> Option<PathBuf> {
        None
    }

    /// Whether there is anything at `path`.
    fn exists(&self, path: &Path) -> Result<bool, StoreError> {
        Ok(self.kind(path)?.is_some())
    }
}

/// Where bytes go. No operation but the two `sync` ones promises anything
/// about what survives a crash.
pub trait Store: Source {
    /// Creates one folder.
    ///
    /// Errors: `AlreadyExists` if anything is there, `NotFound` without parent.
    fn create_dir(&self, path: &Path) -> Result<(), StoreError>;

    /// Creates a file or replaces the whole content of one.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError>;

    /// Adds bytes at the end of a file, which is created if it is missing.
    fn append(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError>;

    /// Makes the content of a file durable. Its name is not covered.
    fn sync_file(&self, path: &Path) -> Result<(), StoreError>;

    /// Renames a file or folder, in one step for every observer. A file
    /// replaces a file; a folder replaces an empty folder.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError>;

    /// Makes the names in a folder durable: created, renamed and removed ones.
    fn sync_dir(&self, path: &Path) -> Result<(), StoreError>;

    /// Makes the content of many files and the names in many folders durable,
    /// in any order. A store may do it at once, where that takes less time.
    fn sync_all(&self, files: &[PathBuf], folders: &[PathBuf]) -> Result<(), StoreError> {
        files.iter().try_for_each(|path| self.sync_file(path))?;
        folders.iter().try_for_each(|path| self.sync_dir(path))
    }

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> Result<(), StoreError>;

    /// Removes a folder with all it holds, not in one step.
    fn remove_dir_all(&self, path: &Path) -> Result<(), StoreError>;

    /// Whether it counts or records its operations, so that all must come from one thread.
    fn is_ordered(&self) -> bool {
        false
    }

    /// Takes the exclusive lock of a run directory, which must exist; `None` where no other process
    /// can come, as in memory.
    ///
    /// Errors: [`LockError::Held`] at once if a training writes there now.
    fn lock_run(&self, _run: &Path) -> Result<Option<Lock>, LockError> {
        Ok(None)
    }
}
