//! Every state in which a power failure could leave the disk.
//!
//! [`RecordingStore`] works as [`MemStore`] does and writes down each change.
//! [`RecordingStore::each_crash_state`] then builds the disks that may be found
//! after a crash between two changes:
//!
//! - changes of names that no `sync_dir` made durable are kept in every
//!   combination, so also a later one without an earlier one; a rename happens
//!   whole or not at all;
//! - content that no `sync_file` made durable is dropped, empty, cut in the
//!   middle, of full length but zero, or kept; for all files alike, and for
//!   each file alone while the others are kept or dropped.
//!
//! Up to [`EXHAUSTIVE_CHANGES`] pending names all combinations are tried; above
//! it every prefix, every single change alone and every single change missing.
//!
//! Source: the abstract persistence model of Pillai et al. 2014 (ALICE, OSDI)
//! and the bounded exploration of Mohan et al. 2018 (CrashMonkey, OSDI).

use super::memory::Event;
use super::tree::{NameChange, Node, NodeId, Tree};
use super::{Entry, EntryKind, MemStore, Operation, Source, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many pending changes of names are tried in all combinations.
pub const EXHAUSTIVE_CHANGES: usize = 9;

/// A [`MemStore`] that remembers every change in order.
#[derive(Debug, Default)]
pub struct RecordingStore {
    disk: MemStore,
    log: Mutex<Vec<(Operation, PathBuf, Event)>>,
}

/// A disk as it may be found after a crash.
#[derive(Debug)]
pub struct CrashState {
    /// So many recorded changes had been issued.
    pub after: usize,
    /// The last of them and what was lost, for the message of a failed test.
    pub what: String,
    /// What is on the disk.
    pub disk: MemStore,
}

/// What is left of content that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// All of it.
    Kept,
    /// None of it: the content of the last sync.
    Dropped,
    /// The file was truncated, and no byte followed.
    Empty,
    /// The last piece is cut in the middle.
    Cut,
    /// The length arrived, the bytes did not.
    Zeroed,
}

const CONTENTS: [Content; 5] =
    [Content::Kept, Content::Dropped, Content::Empty, Content::Cut, Content::Zeroed];

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Content::Kept => "kept",
            Content::Dropped => "dropped",
            Content::Empty => "empty",
            Content::Cut => "cut",
            Content::Zeroed => "zeroed",
        })
    }
}

/// What is durable and what is pending after a prefix of the log.
struct Prefix {
    /// Durable names over durable content; a file never synced is empty.
    durable: Tree,
    /// Changes of names since the last sync of their folder, oldest first.
    names: Vec<NameChange>,
    /// Unsynced pieces of content by file; `true` replaces, `false` appends.
    content: BTreeMap<NodeId, Vec<(bool, Vec<u8>)>>,
}

impl RecordingStore {
    /// An empty recording store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of changes recorded so far; a place for `each_crash_state`.
    pub fn position(&self) -> usize {
        self.log().len()
    }

    /// The recorded operations, one line each, for messages and golden tests.
    pub fn operations(&self) -> Vec<String> {
        self.log().iter().map(|(op, path, _)| format!("{op} {}", path.display())).collect()
    }

    /// Calls `visit` with every disk that a crash after the first `after`
    /// recorded changes may leave.
    ///
    /// Panics: if `after` is above [`Self::position`].
    pub fn each_crash_state(&self, after: usize, mut visit: impl FnMut(&CrashState)) {
        let last = match after.checked_sub(1) {
            Some(last) => {
                let (operation, path, _) = &self.log()[last];
                format!("{operation} {}", path.display())
            }
            None => "nothing".to_string(),
        };
        let prefix = self.prefix(after);
        let files: Vec<NodeId> = prefix.content.keys().copied().collect();
        let mut emit = |keep: &[bool], content: &dyn Fn(NodeId) -> Content, lost: &str| {
            let names: String = keep.iter().map(|k| if *k { '1' } else { '0' }).collect();
            let what = format!("after {after} ({last}), names {names}, content {lost}");
            let disk = MemStore::from_tree(prefix.disk(keep, content));
            visit(&CrashState { after, what, disk });
        };
        for keep in choices(prefix.names.len()) {
            for mode in CONTENTS {
                if mode == Content::Kept || !files.is_empty() {
                    emit(&keep, &|_| mode, &mode.to_string());
                }
            }
        }
        if files.len() < 2 {
            return;
        }
        let all = vec![true; prefix.names.len()];
        for one in &files {
            for mode in CONTENTS {
                for others in [Content::Kept, Content::Dropped] {
                    let content = |file| if file == *one { mode } else { others };
                    emit(&all, &content, &format!("{mode} in one file, else {others}"));
                }
            }
        }
    }

    fn log(&self) -> MutexGuard<'_, Vec<(Operation, PathBuf, Event)>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(
        &self,
        operation: Operation,
        path: &Path,
        events: Result<Vec<Event>, StoreError>,
    ) -> Result<(), StoreError> {
        let events = events?;
        self.log().extend(events.into_iter().map(|e| (operation, path.to_path_buf(), e)));
        Ok(())
    }

    /// Replays the first `after` changes.
    fn prefix(&self, after: usize) -> Prefix {
        let blank = |node: &Node| match node {
            Node::File(_) => Node::File(Vec::new()),
            Node::Folder(_) => Node::Folder(BTreeMap::new()),
        };
        let nodes = self.disk.tree().nodes.iter().map(blank).collect();
        let mut prefix =
            Prefix { durable: Tree { nodes }, names: Vec::new(), content: BTreeMap::new() };
        for (_, _, event) in &self.log()[..after] {
            match event {
                Event::Name(change) => prefix.names.push(change.clone()),
                Event::Replace(file, bytes) => {
                    prefix.content.entry(*file).or_default().push((true, bytes.clone()));
                }
                Event::Append(file, bytes) => {
                    prefix.content.entry(*file).or_default().push((false, bytes.clone()));
                }
                Event::SyncFile(file) => {
                    let full = prefix.content_of(*file, Content::Kept);
                    prefix.durable.nodes[*file] = Node::File(full);
                    prefix.content.remove(file);
                }
                Event::SyncDir(folder) => {
                    let (done, pending) =
                        prefix.names.drain(..).partition(|change| change.home() == *folder);
                    prefix.names = pending;
                    let done: Vec<NameChange> = done;
                    done.iter().for_each(|change| prefix.durable.apply(change));
                }
            }
        }
        prefix.forget_unreachable();
        prefix
    }
}

impl Prefix {
    /// The content of a file under `mode`.
    fn content_of(&self, file: NodeId, mode: Content) -> Vec<u8> {
        let durable = match &self.durable.nodes[file] {
            Node::File(bytes) => bytes.clone(),
            Node::Folder(_) => Vec::new(),
        };
        let Some(pieces) = self.content.get(&file) else { return durable };
        let is_truncated = pieces.iter().any(|(replaces, _)| *replaces);
        let apply = |cut_last: bool| {
            let mut bytes = durable.clone();
            for (i, (replaces, piece)) in pieces.iter().enumerate() {
                if *replaces {
                    bytes.clear();
                }
                let is_cut = cut_last && i + 1 == pieces.len();
                bytes.extend_from_slice(
                    &piece[..if is_cut { piece.len() / 2 } else { piece.len() }],
                );
            }
            bytes
        };
        match mode {
            Content::Kept => apply(false),
            Content::Dropped => durable,
            Content::Empty if is_truncated => Vec::new(),
            Content::Empty => durable,
            Content::Cut => apply(true),
            Content::Zeroed => {
                let full = apply(false).len();
                let mut bytes = if is_truncated { Vec::new() } else { durable };
                bytes.resize(full, 0);
                bytes
            }
        }
    }

    /// The disk on which the chosen names and content arrived.
    fn disk(&self, keep: &[bool], content: &dyn Fn(NodeId) -> Content) -> Tree {
        let mut tree = self.durable.clone();
        for file in self.content.keys() {
            tree.nodes[*file] = Node::File(self.content_of(*file, content(*file)));
        }
        for (change, _) in self.names.iter().zip(keep).filter(|(_, keep)| **keep) {
            tree.apply(change);
        }
        tree
    }

    /// Drops pending changes that no disk can show, because neither a durable
    /// nor a pending name leads to their folder or file any more.
    fn forget_unreachable(&mut self) {
        let mut reachable = BTreeSet::new();
        let mut open = vec![0];
        open.extend(self.names.iter().filter_map(|change| change.add.as_ref().map(|a| a.2)));
        while let Some(node) = open.pop() {
            if reachable.insert(node)
                && let Node::Folder(entries) = &self.durable.nodes[node]
            {
                open.extend(entries.values());
            }
        }
        self.names.retain(|change| reachable.contains(&change.home()));
        self.content.retain(|file, _| reachable.contains(file));
    }
}

/// The subsets of `n` pending changes that are tried.
fn choices(n: usize) -> Vec<Vec<bool>> {
    if n <= EXHAUSTIVE_CHANGES {
        return (0..1usize << n).map(|m| (0..n).map(|i| m >> i & 1 == 1).collect()).collect();
    }
    let mut out = BTreeSet::new();
    for i in 0..=n {
        out.insert((0..n).map(|j| j < i).collect::<Vec<_>>());
        out.insert((0..n).map(|j| j != i).collect());
        out.insert((0..n).map(|j| j == i).collect());
    }
    out.into_iter().collect()
}

impl Source for RecordingStore {
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, StoreError> {
        self.disk.open(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, StoreError> {
        self.disk.list(path)
    }

    fn kind(&self, path: &Path) -> Result<Option<EntryKind>, StoreError> {
        self.disk.kind(path)
    }

    fn file_len(&self, path: &Path) -> Result<u64, StoreError> {
        self.disk.file_len(path)
    }
}

impl Store for RecordingStore {
    fn is_ordered(&self) -> bool {
        true
    }

    fn create_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.record(Operation::CreateDir, path, self.disk.create_dir_events(path))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.record(Operation::Write, path, self.disk.write_events(path, bytes, false))
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.record(Operation::Append, path, self.disk.write_events(path, bytes, true))
    }

    fn sync_file(&self, path: &Path) -> Result<(), StoreError> {
        self.record(Operation::SyncFile, path, self.disk.sync_events(path, EntryKind::File))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.record(Operation::Rename, to, self.disk.rename_events(from, to))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.record(Operation::SyncDir, path, self.disk.sync_events(path, EntryKind::Folder))
    }

    fn remove_file(&self, path: &Path) -> Result<(), StoreError> {
        self.record(Operation::RemoveFile, path, self.disk.remove_events(path, EntryKind::File))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), StoreError> {
        self.record(Operation::RemoveDir, path, self.disk.remove_events(path, EntryKind::Folder))
    }
}
