//! BLAKE3 of files and folders, read in pieces.
//!
//! A file's hash is the plain BLAKE3 of its bytes, as `b3sum` prints it. A
//! folder's hash is over the sorted list of its files: path, length, hash.

use super::{EntryKind, Operation, Source, StoreError};
use llmc_base::{CanonicalHasher, Hash};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Bytes read at once.
const PIECE_BYTES: usize = 1 << 20;

/// A file by name, length and content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileHash {
    /// Path below the folder that is described, with `/` between names.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
    /// BLAKE3 of the content.
    pub hash: Hash,
}

/// Length and BLAKE3 of a file.
pub fn hash_file(source: &dyn Source, path: &Path) -> Result<(u64, Hash), StoreError> {
    let mut reader = source.open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut length = 0;
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok((length, Hash(*hasher.finalize().as_bytes()))),
            Ok(n) => {
                hasher.update(&piece[..n]);
                length += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(StoreError::new(Operation::Read, path, e)),
        }
    }
}

/// All files below a folder, as paths relative to it with `/` between names,
/// sorted by their bytes.
pub fn files_under(source: &dyn Source, folder: &Path) -> Result<Vec<String>, StoreError> {
    let mut files = Vec::new();
    let mut open = vec![(folder.to_path_buf(), String::new())];
    while let Some((path, prefix)) = open.pop() {
        for entry in source.list(&path)? {
            let relative = format!("{prefix}{}", entry.name);
            match entry.kind {
                EntryKind::File => files.push(relative),
                EntryKind::Folder => open.push((path.join(&entry.name), relative + "/")),
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Every file below a folder with its hash, sorted by path.
pub fn hash_folder(source: &dyn Source, folder: &Path) -> Result<Vec<FileHash>, StoreError> {
    files_under(source, folder)?
        .into_iter()
        .map(|path| {
            let (length, hash) = hash_file(source, &join(folder, &path))?;
            Ok(FileHash { path, length, hash })
        })
        .collect()
}

/// One hash over a list of files; the order of the list does not matter.
pub fn folder_hash(files: &[FileHash]) -> Hash {
    let mut files: Vec<&FileHash> = files.iter().collect();
    files.sort();
    let mut hasher = CanonicalHasher::new("llmc.folder.v1");
    hasher.seq(files.len());
    for file in files {
        hasher.str(&file.path).int(i128::from(file.length)).hash(&file.hash);
    }
    hasher.finish()
}

/// A folder joined with a relative path written with `/`.
pub(crate) fn join(folder: &Path, relative: &str) -> PathBuf {
    relative.split('/').fold(folder.to_path_buf(), |path, name| path.join(name))
}
