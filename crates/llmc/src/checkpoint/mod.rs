//! Checkpoints: `RUN/checkpoints/step-000200/`, whole or not there.
//!
//! Each is a committed folder (see [`crate::store::commit_folder`]): opaque
//! files and the marker `COMPLETE` with the BLAKE3 of every one. What holds
//! after any crash, at any moment, once the first [`save`] has returned:
//! [`load_latest_whole`] finds a checkpoint that was saved, byte for byte, and
//! never one older than the last that returned.
//!
//! Saving a step again is the one case in which a name is taken. Equal content
//! is left alone. Otherwise the old folder becomes `step-000200.old` before the
//! new one gets its name, and the loader reads `.old` where the name itself is
//! missing or torn. All changing functions expect to be alone in the run folder:
//! see [`crate::lock`].
//!
//! What the files mean is the caller's business.

#[cfg(test)]
mod tests;

use crate::store::{
    Bytes, COMPLETE, Complete, EntryKind, FolderFault, FolderWriter, Source, Store, StoreError,
    map_verified, read_marker, read_verified, remove_temporaries, stage_folder, verify_folder,
};
use llmc_base::{Diagnostic, Span};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Folder of the checkpoints below the run folder.
pub const FOLDER: &str = "checkpoints";

/// Ending of a checkpoint that is about to be replaced.
const OLD: &str = ".old";

/// Writes the content of a file, piece by piece.
pub type WriteContent<'a> = &'a dyn Fn(&mut dyn Write) -> io::Result<()>;

/// The content of a file to save.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A function that writes them.
    Write(WriteContent<'a>),
}

impl<'a> From<&'a [u8]> for Content<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Content::Bytes(bytes)
    }
}

/// A checkpoint folder by step; nothing is said about what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Optimiser steps done.
    pub step: u64,
    /// The folder.
    pub path: PathBuf,
}

/// A checkpoint whose files were all verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Optimiser steps done.
    pub step: u64,
    /// The folder.
    pub path: PathBuf,
    /// Length and hash of every file.
    pub complete: Complete,
}

impl Checkpoint {
    /// Reads a file and checks the very bytes that it returns.
    pub fn read(&self, source: &dyn Source, file: &str) -> Result<Vec<u8>, FolderFault> {
        read_verified(source, &self.path, &self.complete, file)
    }

    /// As [`Checkpoint::read`], mapped where that is possible.
    pub fn map(&self, source: &dyn Source, file: &str) -> Result<Bytes, FolderFault> {
        map_verified(source, &self.path, &self.complete, file)
    }
}

/// What [`prune`] leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest whole checkpoints; 0 counts as 1.
    pub last: usize,
    /// Steps with the best validation losses, as far as they are known.
    pub best: Vec<u64>,
}

/// The folder of a step: six digits at least, so that names sort as numbers do.
pub fn folder(run: &Path, step: u64) -> PathBuf {
    run.join(FOLDER).join(format!("step-{step:06}"))
}

/// Writes a checkpoint; when it returns, the checkpoint survives any crash.
///
/// Leftovers of an interrupted save are removed first.
/// Errors: of the store, a full disk for one; then all earlier checkpoints are
/// as they were and nothing half-written is left.
pub fn save(
    store: &dyn Store,
    run: &Path,
    step: u64,
    files: &[(&str, Content<'_>)],
) -> Result<Checkpoint, StoreError> {
    let path = folder(run, step);
    if store.exists(&run.join(FOLDER))? {
        clean(store, run)?;
    }
    let staged = stage_folder(store, &path, |folder| fill(folder, files))?;
    let old = old_name(&path);
    match make_way(store, &path, &old, &staged.complete) {
        Ok(Way::Free) => {}
        Ok(Way::Same) => {
            let complete = staged.discard()?;
            return Ok(Checkpoint { step, path, complete });
        }
        Err(error) => {
            // The first error counts; what this leaves, the next save removes.
            let _ = staged.discard();
            return Err(error);
        }
    }
    let complete = staged.publish()?;
    if store.exists(&old)? {
        store.remove_dir_all(&old)?;
    }
    Ok(Checkpoint { step, path, complete })
}

/// What [`make_way`] found.
enum Way {
    /// Nothing is under the name now.
    Free,
    /// The very content is there already.
    Same,
}

/// Frees the name of a checkpoint: a whole one moves to `old`, a torn one goes.
fn make_way(
    store: &dyn Store,
    path: &Path,
    old: &Path,
    wanted: &Complete,
) -> Result<Way, StoreError> {
    match verify_folder(store, path) {
        Ok(complete) if complete == *wanted => return Ok(Way::Same),
        Ok(_) => store.rename(path, old)?,
        Err(FolderFault::Store(error)) => return Err(error),
        Err(_) if store.exists(path)? => store.remove_dir_all(path)?,
        Err(_) => {}
    }
    Ok(Way::Free)
}

fn fill(folder: &mut FolderWriter, files: &[(&str, Content<'_>)]) -> Result<(), StoreError> {
    for (name, content) in files {
        match content {
            Content::Bytes(bytes) => folder.bytes(name, bytes)?,
            Content::Write(write) => folder.file(name, write)?,
        };
    }
    Ok(())
}

/// All checkpoint folders, oldest first, torn ones included. Where a step was
/// being replaced, its `.old` folder stands before the new one.
pub fn list(source: &dyn Source, run: &Path) -> Result<Vec<Listed>, StoreError> {
    let parent = run.join(FOLDER);
    if !source.exists(&parent)? {
        return Ok(Vec::new());
    }
    let mut found: Vec<(u64, bool, PathBuf)> = source
        .list(&parent)?
        .into_iter()
        .filter(|entry| entry.kind == EntryKind::Folder)
        .filter_map(|entry| {
            let number = entry.name.strip_prefix("step-")?;
            let (number, is_new) = match number.strip_suffix(OLD) {
                Some(number) => (number, false),
                None => (number, true),
            };
            // Only the name that `folder` gives: digits, at least six.
            let is_canonical = number.len() >= 6 && number.bytes().all(|b| b.is_ascii_digit());
            let step = number.parse().ok().filter(|_| is_canonical)?;
            Some((step, is_new, parent.join(entry.name)))
        })
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(step, _, path)| Listed { step, path }).collect())
}

/// The newest checkpoint of which every file is as it was saved, and a warning
/// `checkpoint::torn` for every newer one that is not.
pub fn load_latest_whole(
    source: &dyn Source,
    run: &Path,
) -> Result<(Option<Checkpoint>, Vec<Diagnostic>), StoreError> {
    let mut diagnostics = Vec::new();
    for Listed { step, path } in list(source, run)?.into_iter().rev() {
        match verify_folder(source, &path) {
            Ok(complete) => return Ok((Some(Checkpoint { step, path, complete }), diagnostics)),
            Err(fault) => diagnostics.push(torn(step, &path, &fault)),
        }
    }
    Ok((None, diagnostics))
}

/// The checkpoint of one step, verified.
///
/// Errors: `checkpoint::torn`, or `checkpoint::unknown_step` with the steps
/// that exist.
pub fn load_step(
    source: &dyn Source,
    run: &Path,
    step: u64,
) -> Result<Checkpoint, Vec<Diagnostic>> {
    let listed = list(source, run).map_err(|e| vec![Diagnostic::from(&e)])?;
    let mut diagnostics = Vec::new();
    for Listed { path, .. } in listed.iter().filter(|l| l.step == step).rev() {
        match verify_folder(source, path) {
            Ok(complete) => return Ok(Checkpoint { step, path: path.clone(), complete }),
            Err(fault) => diagnostics.push(torn(step, path, &fault)),
        }
    }
    if diagnostics.is_empty() {
        let steps: BTreeSet<u64> = listed.iter().map(|l| l.step).collect();
        let steps: Vec<String> = steps.iter().map(u64::to_string).collect();
        let message = format!("no checkpoint of step {step} in `{}`", run.display());
        let help = match steps.is_empty() {
            true => "the run has no checkpoint yet".to_string(),
            false => format!("there are checkpoints of the steps {}", steps.join(", ")),
        };
        diagnostics.push(Diagnostic::error("checkpoint::unknown_step", message).help(help));
    }
    Err(diagnostics)
}

fn torn(step: u64, path: &Path, fault: &FolderFault) -> Diagnostic {
    let message = format!("the checkpoint of step {step} is not whole: {fault}");
    Diagnostic::warning("checkpoint::torn", message)
        .at(Span::new(path.display().to_string(), 0, 0), "")
        .help("an earlier whole checkpoint is used; saving this step again replaces it")
}

/// Removes the checkpoints that `keep` does not ask for, and torn ones older
/// than those; returns their steps. The last whole checkpoint always stays.
pub fn prune(store: &dyn Store, run: &Path, keep: Keep) -> Result<Vec<u64>, StoreError> {
    clean(store, run)?;
    let listed = list(store, run)?;
    let last = keep.last.max(1);
    let mut kept: BTreeSet<u64> = newest(store, &listed, last, looks_whole).collect();
    // One of the kept is read in full before anything goes. If the newest that
    // looks whole is not, all are read.
    let is_safe = match kept.last() {
        Some(step) => verify_folder(store, &folder(run, *step)).is_ok(),
        None => false,
    };
    if !is_safe {
        let is_whole = |store: &dyn Store, path: &Path| verify_folder(store, path).is_ok();
        kept = newest(store, &listed, last, is_whole).collect();
    }
    let Some(newest) = kept.last().copied() else { return Ok(Vec::new()) };
    kept.extend(keep.best);
    // An interrupted save may have left the newest without a durable name.
    store.sync_dir(&run.join(FOLDER))?;
    let mut removed = Vec::new();
    for Listed { step, path } in &listed {
        if *step < newest && !kept.contains(step) {
            remove(store, path)?;
            removed.push(*step);
        }
    }
    removed.dedup();
    Ok(removed)
}

/// The steps of the newest `n` checkpoints that pass `test`.
fn newest<'a>(
    store: &'a dyn Store,
    listed: &'a [Listed],
    n: usize,
    test: impl Fn(&dyn Store, &Path) -> bool + 'a,
) -> impl Iterator<Item = u64> + 'a {
    listed.iter().rev().filter(move |l| test(store, &l.path)).map(|l| l.step).take(n)
}

/// Marker and lengths fit; cheap, and enough to count.
fn looks_whole(store: &dyn Store, path: &Path) -> bool {
    let Ok(marker) = read_marker(store, path) else { return false };
    marker.files.iter().all(|file| {
        let path = crate::store::join(path, &file.path);
        store.file_len(&path).is_ok_and(|length| length == file.length)
    })
}

/// Removes a checkpoint: the marker first, so that what an interruption leaves
/// says of itself that it is no checkpoint.
fn remove(store: &dyn Store, path: &Path) -> Result<(), StoreError> {
    let marker = path.join(COMPLETE);
    if store.exists(&marker)? {
        store.remove_file(&marker)?;
    }
    store.remove_dir_all(path)
}

/// Removes temporary folders, and `.old` ones whose replacement is whole.
fn clean(store: &dyn Store, run: &Path) -> Result<(), StoreError> {
    let parent = run.join(FOLDER);
    if !store.exists(&parent)? {
        return Ok(());
    }
    remove_temporaries(store, &parent)?;
    for Listed { step, path } in list(store, run)? {
        let new = folder(run, step);
        if path != new && verify_folder(store, &new).is_ok() {
            store.remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn old_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(OLD);
    name.into()
}
