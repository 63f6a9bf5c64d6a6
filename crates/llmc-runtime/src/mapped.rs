//! Files that are mapped into memory instead of being read: their pages belong to the system's page cache, so that
//! processes share them and they go when memory is short.

use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io;
use std::path::Path;

/// The bytes of a file, mapped to be read only.
///
/// What happens to the file afterwards decides over these bytes: removing or replacing it under its name (which is
/// all that llmc does to its files) leaves them alone, writing into it may show, and cutting it short ends the
/// process at the first access behind its end (SIGBUS). So map files of folders that only llmc writes, and copy
/// others.
#[derive(Debug)]
pub struct MappedFile {
    /// `None` for an empty file, which cannot be mapped.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps a file.
    ///
    /// Errors: what the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(MappedFile { map: None });
        }
        // SAFETY: the map is private and never written. The bytes are only ever taken as numbers, of which no
        // pattern is invalid, so a change of the file by others cannot break a type; `MappedFile` says what else it
        // does. llmc itself never writes into a file that has its final name: it renames whole ones.
        let map = unsafe { MmapOptions::new().map_copy_read_only(&file)? };
        // Where the file system has huge pages it saves look-ups; elsewhere it says no.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(MappedFile { map: Some(map) })
    }

    /// All bytes; they begin at a page.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// The bytes as words, without what is not a whole one.
    pub(crate) fn words(&self) -> &[f32] {
        let (words, _) = self.bytes().as_chunks::<4>();
        // A page is aligned for words; only nothing at all need not be.
        bytemuck::try_cast_slice(words).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::MappedFile;

    #[test]
    fn a_file_is_its_bytes() {
        let folder = std::env::temp_dir().join(format!("llmc-mapped-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for len in [0usize, 1, 4, 4096, 10_001] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let path = folder.join(len.to_string());
            std::fs::write(&path, &bytes).unwrap();
            let mapped = MappedFile::open(&path).unwrap();
            // What is removed or replaced under its name stays.
            std::fs::remove_file(&path).unwrap();
            assert_eq!(mapped.bytes(), bytes);
            assert_eq!(mapped.words().len(), len / 4);
            assert!(len == 0 || mapped.words().as_ptr().align_offset(64) == 0);
        }
        assert!(MappedFile::open(&folder.join("none")).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
