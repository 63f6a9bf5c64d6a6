//! Files as they are seen from another folder.
//!
//! A spec names its text by paths that are meant against the folder where the
//! run was started. [`Rebased`] reads relative paths from there, wherever the
//! process is now; names and errors keep the paths as they were given.

use super::{Entry, EntryKind, Source, StoreError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A source whose relative paths start from a folder.
pub struct Rebased<'a> {
    source: &'a dyn Source,
    folder: PathBuf,
}

impl<'a> Rebased<'a> {
    /// The files of `source`, as they are seen from `folder`.
    pub fn new(source: &'a dyn Source, folder: PathBuf) -> Self {
        Rebased { source, folder }
    }

    fn place(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

impl Source for Rebased<'_> {
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, StoreError> {
        self.source.open(&self.place(path))
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, StoreError> {
        self.source.list(&self.place(path))
    }

    fn kind(&self, path: &Path) -> Result<Option<EntryKind>, StoreError> {
        self.source.kind(&self.place(path))
    }

    fn file_len(&self, path: &Path) -> Result<u64, StoreError> {
        self.source.file_len(&self.place(path))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, StoreError> {
        self.source.read(&self.place(path))
    }

    fn text_files(&self, folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let place = self.place(folder);
        let files = self.source.text_files(&place)?;
        Ok(files
            .into_iter()
            .map(|file| match file.strip_prefix(&place) {
                Ok(below) => folder.join(below),
                Err(_) => file,
            })
            .collect())
    }

    fn modified(&self, path: &Path) -> Option<SystemTime> {
        self.source.modified(&self.place(path))
    }

    fn working_folder(&self) -> Option<PathBuf> {
        Some(self.folder.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemStore, Store, create_dir_all};

    #[test]
    fn relative_paths_start_elsewhere_and_keep_their_names() {
        let store = MemStore::new();
        create_dir_all(&store, Path::new("there/corpus/sub")).unwrap();
        store.write(Path::new("there/corpus/sub/a.txt"), b"text").unwrap();
        let seen = Rebased::new(&store, "there".into());
        let file = PathBuf::from("corpus/sub/a.txt");
        assert_eq!(seen.text_files(Path::new("corpus")).unwrap(), [file.as_path()]);
        assert_eq!(seen.read(&file).unwrap(), b"text");
        assert_eq!(seen.kind(Path::new("corpus")).unwrap(), Some(EntryKind::Folder));
        assert_eq!(seen.kind(Path::new("there")).unwrap(), None);
        assert_eq!(seen.working_folder(), Some("there".into()));
    }
}
