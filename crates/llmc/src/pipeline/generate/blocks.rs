//! Weights as sessions hold them, kept as files that processes share.
//!
//! Kernels take matrices in panels, which no format of weights has. So the block of all weights, packed, is kept in
//! the user's cache under the hash of what it follows from, and mapped: a second process packs nothing and shares the
//! memory of the first. An entry of the cache is checked by length and hash whenever it is taken, and one that does
//! not fit is made anew. Where the cache cannot be used the weights are packed into memory of our own.

use super::super::failure::Failure;
use super::super::weights;
use super::model::{Model, internal};
use crate::cache::{StageCache, open_shared};
use crate::store::{FolderWriter, FsStore, StoreError};
use llmc_base::{CanonicalHasher, Hash};
use llmc_plan::View;
use llmc_runtime::{Batch, MappedFile, Session, SessionError};
use std::path::Path;

/// The stage of the cache.
const STAGE: &str = "weights";
/// The file of an entry.
const FILE: &str = "block.bin";
/// Version of what is in it.
const VERSION: u64 = 1;
/// Entries that are kept; older ones go when another is stored.
const KEPT: usize = 8;
/// What they take together, unless the last one alone takes more.
const KEPT_BYTES: u64 = 8 << 30;

/// What holds weights: a session or a batch.
pub(super) trait Holder {
    fn weights(&self) -> Vec<String>;
    fn view(&self, path: &str) -> Option<&View>;
    fn bytes_mut(&mut self, path: &str) -> Result<&mut [u8], SessionError>;
    fn block(&self) -> &[u8];
    fn map(&mut self, file: MappedFile) -> Result<(), SessionError>;
}

impl Holder for Session {
    fn weights(&self) -> Vec<String> {
        self.weights()
    }
    fn view(&self, path: &str) -> Option<&View> {
        self.weight_view(path)
    }
    fn bytes_mut(&mut self, path: &str) -> Result<&mut [u8], SessionError> {
        self.weight_bytes_mut(path)
    }
    fn block(&self) -> &[u8] {
        self.weight_block()
    }
    fn map(&mut self, file: MappedFile) -> Result<(), SessionError> {
        self.map_weights(file)
    }
}

impl Holder for Batch {
    fn weights(&self) -> Vec<String> {
        self.weights()
    }
    fn view(&self, path: &str) -> Option<&View> {
        self.weight_view(path)
    }
    fn bytes_mut(&mut self, path: &str) -> Result<&mut [u8], SessionError> {
        self.weight_bytes_mut(path)
    }
    fn block(&self) -> &[u8] {
        self.weight_block()
    }
    fn map(&mut self, file: MappedFile) -> Result<(), SessionError> {
        self.map_weights(file)
    }
}

/// Gives a holder the weights of a model, from the cache in `folder` if there is one.
///
/// Errors: `checkpoint::weights` for a file that does not hold them.
pub(super) fn give(
    model: &Model,
    holder: &mut dyn Holder,
    folder: Option<&Path>,
) -> Result<(), Failure> {
    let Some(folder) = folder else { return fill(model, holder) };
    // Against a sweep while this is at it. Without the cache it takes longer and more memory, no more.
    let Ok(_lock) = open_shared(folder) else { return fill(model, holder) };
    let cache = StageCache::new(&FsStore, folder);
    let key = key(model, holder);
    if let Ok(Some(cached)) = cache.get(STAGE, &key)
        && map(holder, &cached.path)
    {
        return Ok(());
    }
    fill(model, holder)?;
    let block = holder.block();
    let write = |out: &mut FolderWriter| out.bytes(FILE, block).map(|_| ());
    let stored = cache.put::<StoreError>(STAGE, &key, write);
    if let Ok(cached) = stored {
        // What cannot be removed now goes another time.
        let _ = cache.keep_newest(STAGE, KEPT, KEPT_BYTES);
        map(holder, &cached.path);
    }
    Ok(())
}

/// Maps the file of an entry. False if it cannot be, in which case nothing changes.
fn map(holder: &mut dyn Holder, entry: &Path) -> bool {
    MappedFile::open(&entry.join(FILE)).is_ok_and(|file| holder.map(file).is_ok())
}

/// What a block follows from: the weights, and where each has its place in which type.
fn key(model: &Model, holder: &dyn Holder) -> Hash {
    let mut hasher = CanonicalHasher::new("llmc-weight-block");
    hasher.field("version").int(VERSION.into());
    hasher.field("weights").hash(&model.weights_hash);
    let paths = holder.weights();
    hasher.field("places").seq(paths.len());
    for path in &paths {
        hasher.str(path);
        if let Some(view) = holder.view(path) {
            hasher.str(&view.dtype.to_string()).int(view.region.start as i128);
            hasher.seq(view.shape.len());
            for dim in &view.shape {
                hasher.int(*dim as i128);
            }
        }
    }
    hasher.finish()
}

/// Packs the weights of the model's file into the holder's own memory.
fn fill(model: &Model, holder: &mut dyn Holder) -> Result<(), Failure> {
    let wanted = weights::wanted(&holder.weights(), &|path| holder.view(path));
    weights::fill(&wanted, &model.weights, &model.weights_file(), &mut |path, bytes| {
        let to = holder.bytes_mut(path).map_err(|e| internal(e).to_string())?;
        weights::copy(path, bytes, to)
    })
}
