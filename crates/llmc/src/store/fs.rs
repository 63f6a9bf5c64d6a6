//! The real file system.

use super::{Bytes, Entry, EntryKind, Operation, Source, Store, StoreError};
use crate::lock::{Lock, LockError, lock_run};
use llmc_runtime::MappedFile;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

/// Most syncs under way at a time.
const SYNCS_AT_ONCE: usize = 16;

/// The file system of this machine. Paths are taken as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct FsStore;

/// Adds operation and path to an io error.
fn at<T>(operation: Operation, path: &Path, result: io::Result<T>) -> Result<T, StoreError> {
    result.map_err(|e| StoreError::new(operation, path, e))
}

fn kind_of(metadata: &fs::Metadata) -> EntryKind {
    if metadata.is_dir() { EntryKind::Folder } else { EntryKind::File }
}

/// fsync of a folder. Some network file systems have no such thing and say so
/// (EINVAL or "not supported"); there is nothing better to do there.
fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        result => result,
    }
}

impl Source for FsStore {
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, StoreError> {
        let file = at(Operation::Open, path, File::open(path))?;
        Ok(Box::new(file))
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for entry in at(Operation::List, path, fs::read_dir(path))? {
            let entry = at(Operation::List, path, entry)?;
            let name = entry.file_name().into_string().map_err(|name| {
                StoreError::told(
                    Operation::List,
                    path,
                    io::ErrorKind::InvalidData,
                    format!("the name `{}` is not UTF-8", name.to_string_lossy()),
                )
            })?;
            let kind = match fs::metadata(entry.path()) {
                Ok(metadata) => kind_of(&metadata),
                // A dangling link: a file that fails when it is opened.
                Err(e) if e.kind() == io::ErrorKind::NotFound => EntryKind::File,
                Err(e) => return Err(StoreError::new(Operation::Inspect, &entry.path(), e)),
            };
            entries.push(Entry { name, kind });
        }
        entries.sort();
        Ok(entries)
    }

    fn kind(&self, path: &Path) -> Result<Option<EntryKind>, StoreError> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(kind_of(&metadata))),
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(e) => Err(StoreError::new(Operation::Inspect, path, e)),
        }
    }

    fn file_len(&self, path: &Path) -> Result<u64, StoreError> {
        Ok(at(Operation::Inspect, path, fs::metadata(path))?.len())
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, StoreError> {
        at(Operation::Read, path, fs::read(path))
    }

    fn map(&self, path: &Path) -> Result<Bytes, StoreError> {
        at(Operation::Read, path, MappedFile::open(path)).map(Bytes::Mapped)
    }

    fn text_files(&self, folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let mut files = Vec::new();
        for entry in at(Operation::List, folder, fs::read_dir(folder))? {
            let entry = at(Operation::List, folder, entry)?;
            let path = entry.path();
            // Of the entry itself: what a link points to would let a folder contain itself.
            let kind = at(Operation::Inspect, &path, entry.file_type())?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if kind.is_dir() {
                files.extend(self.text_files(&path)?);
            } else if fs::metadata(&path).is_ok_and(|m| m.is_file()) {
                files.push(path);
            }
        }
        Ok(files)
    }

    fn working_folder(&self) -> Option<PathBuf> {
        std::env::current_dir().ok()
    }

    fn modified(&self, path: &Path) -> Option<SystemTime> {
        fs::metadata(path).and_then(|m| m.modified()).ok()
    }
}

impl Store for FsStore {
    fn create_dir(&self, path: &Path) -> Result<(), StoreError> {
        at(Operation::CreateDir, path, fs::create_dir(path))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        at(Operation::Write, path, fs::write(path, bytes))
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        at(Operation::Append, path, file.and_then(|mut f| f.write_all(bytes)))
    }

    fn sync_file(&self, path: &Path) -> Result<(), StoreError> {
        at(Operation::SyncFile, path, File::open(path).and_then(|f| f.sync_all()))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        at(Operation::Rename, to, fs::rename(from, to))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        at(Operation::SyncDir, path, sync_folder(path))
    }

    /// Side by side: a journaling file system makes what arrives together
    /// durable in one go, and one sync takes as long as many.
    fn sync_all(&self, files: &[PathBuf], folders: &[PathBuf]) -> Result<(), StoreError> {
        let paths: Vec<(&PathBuf, bool)> =
            files.iter().map(|p| (p, false)).chain(folders.iter().map(|p| (p, true))).collect();
        let sync = |(path, is_folder): &(&PathBuf, bool)| match is_folder {
            true => self.sync_dir(path),
            false => self.sync_file(path),
        };
        for group in paths.chunks(SYNCS_AT_ONCE) {
            let Some((first, others)) = group.split_first() else { continue };
            thread::scope(|scope| {
                let waiting: Vec<_> = others.iter().map(|p| scope.spawn(|| sync(p))).collect();
                let result = sync(first);
                waiting
                    .into_iter()
                    .map(|thread| thread.join().expect("a sync never panics"))
                    .fold(result, Result::and)
            })?;
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<(), StoreError> {
        at(Operation::RemoveFile, path, fs::remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), StoreError> {
        at(Operation::RemoveDir, path, fs::remove_dir_all(path))
    }

    fn lock_run(&self, run: &Path) -> Result<Option<Lock>, LockError> {
        lock_run(run).map(Some)
    }
}
