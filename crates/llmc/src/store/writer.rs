//! A file as `io::Write`: pieces go to the store, the hash is taken on the way.

use super::{Store, StoreError};
use llmc_base::Hash;
use std::io::{self, Write};
use std::path::PathBuf;

/// Bytes handed to the store at once.
const PIECE_BYTES: usize = 1 << 20;

/// Writes one file of a store in pieces, so that it never lies whole in memory.
///
/// Nothing is durable before the caller syncs the file. Errors of the store
/// pass through `io::Error` and come out of [`StoreWriter::finish`] typed.
pub struct StoreWriter<'a> {
    store: &'a dyn Store,
    path: PathBuf,
    buffer: Vec<u8>,
    hasher: blake3::Hasher,
    length: u64,
    is_created: bool,
    error: Option<StoreError>,
}

impl<'a> StoreWriter<'a> {
    /// A writer that creates or replaces the file at `path`.
    pub fn new(store: &'a dyn Store, path: PathBuf) -> Self {
        StoreWriter {
            store,
            path,
            buffer: Vec::new(),
            hasher: blake3::Hasher::new(),
            length: 0,
            is_created: false,
            error: None,
        }
    }

    /// Writes what is left; returns length in bytes and BLAKE3.
    ///
    /// Errors: the first error of the store, also if the caller of `write`
    /// dropped it.
    pub fn finish(mut self) -> Result<(u64, Hash), StoreError> {
        if !self.buffer.is_empty() || !self.is_created {
            let buffer = std::mem::take(&mut self.buffer);
            self.put(&buffer);
        }
        match self.error {
            Some(error) => Err(error),
            None => Ok((self.length, Hash(*self.hasher.finalize().as_bytes()))),
        }
    }

    /// Sends a piece to the store; after an error nothing is sent any more.
    fn put(&mut self, piece: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let result = if self.is_created {
            self.store.append(&self.path, piece)
        } else {
            self.store.write(&self.path, piece)
        };
        self.error = result.err();
        self.is_created = true;
    }
}

impl Write for StoreWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        if self.buffer.len() + bytes.len() < PIECE_BYTES {
            self.buffer.extend_from_slice(bytes);
        } else {
            let buffer = std::mem::take(&mut self.buffer);
            if !buffer.is_empty() {
                self.put(&buffer);
            }
            self.put(bytes);
        }
        match &self.error {
            Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
