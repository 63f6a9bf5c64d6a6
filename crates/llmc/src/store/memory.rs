//! A store in memory, for tests and for runs that leave nothing behind.
//!
//! It answers as [`super::FsStore`] does, error kinds included; a test runs
//! both through the same random operations.

use super::tree::{NameChange, Node, NodeId, Tree};
use super::{Entry, EntryKind, Operation, Source, Store, StoreError};
use std::collections::BTreeMap;
use std::io::{Cursor, Error, ErrorKind, Read};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file tree in memory. `/a` and `a` are one path; `..` is refused.
#[derive(Debug)]
pub struct MemStore {
    tree: Mutex<Tree>,
}

/// What an operation did, for the recording store.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A name was added, removed or moved.
    Name(NameChange),
    /// A file's content was replaced.
    Replace(NodeId, Vec<u8>),
    /// Bytes were added to a file.
    Append(NodeId, Vec<u8>),
    /// A file's content became durable.
    SyncFile(NodeId),
    /// The names in a folder became durable.
    SyncDir(NodeId),
}

impl Default for MemStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemStore {
    /// An empty store with a root folder.
    pub fn new() -> Self {
        Self::from_tree(Tree::new())
    }

    pub(super) fn from_tree(tree: Tree) -> Self {
        MemStore { tree: Mutex::new(tree) }
    }

    /// Every operation leaves the tree whole before it can panic, so a
    /// poisoned lock still guards a whole tree.
    pub(super) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn create_dir_events(&self, path: &Path) -> Result<Vec<Event>, StoreError> {
        run(Operation::CreateDir, path, || {
            let mut tree = self.tree();
            let (folder, name) = tree.find_parent(path)?;
            if tree.folder(folder)?.contains_key(&name) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            Ok(vec![add_node(&mut tree, folder, name, Node::Folder(BTreeMap::new())).1])
        })
    }

    pub(super) fn write_events(
        &self,
        path: &Path,
        bytes: &[u8],
        append: bool,
    ) -> Result<Vec<Event>, StoreError> {
        run(if append { Operation::Append } else { Operation::Write }, path, || {
            let mut tree = self.tree();
            let (folder, name) = tree.find_parent(path)?;
            let mut events = Vec::new();
            let existing = tree.folder(folder)?.get(&name).copied();
            let node = match existing {
                Some(node) => node,
                None => {
                    let (node, event) = add_node(&mut tree, folder, name, Node::File(Vec::new()));
                    events.push(event);
                    node
                }
            };
            let Node::File(content) = &mut tree.nodes[node] else {
                return Err(ErrorKind::IsADirectory.into());
            };
            if !append {
                content.clear();
            }
            content.extend_from_slice(bytes);
            let bytes = bytes.to_vec();
            events.push(if append {
                Event::Append(node, bytes)
            } else {
                Event::Replace(node, bytes)
            });
            Ok(events)
        })
    }

    pub(super) fn rename_events(&self, from: &Path, to: &Path) -> Result<Vec<Event>, StoreError> {
        run(Operation::Rename, to, || {
            let mut tree = self.tree();
            let (from_folder, from_name) = tree.find_parent(from)?;
            let (to_folder, to_name) = tree.find_parent(to)?;
            let node = tree.find(from)?;
            let existing = tree.folder(to_folder)?.get(&to_name).copied();
            if existing == Some(node) {
                return Ok(Vec::new());
            }
            if let Some(existing) = existing {
                match (&tree.nodes[node], &tree.nodes[existing]) {
                    (Node::File(_), Node::Folder(_)) => return Err(ErrorKind::IsADirectory.into()),
                    (Node::Folder(_), Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                    (Node::Folder(_), Node::Folder(entries)) if !entries.is_empty() => {
                        return Err(ErrorKind::DirectoryNotEmpty.into());
                    }
                    _ => {}
                }
            }
            if tree.kind(node) == EntryKind::Folder && to != from && to.starts_with(from) {
                return Err(ErrorKind::InvalidInput.into());
            }
            let change = NameChange {
                remove: Some((from_folder, from_name)),
                add: Some((to_folder, to_name, node)),
            };
            tree.apply(&change);
            Ok(vec![Event::Name(change)])
        })
    }

    pub(super) fn remove_events(
        &self,
        path: &Path,
        kind: EntryKind,
    ) -> Result<Vec<Event>, StoreError> {
        let operation = match kind {
            EntryKind::File => Operation::RemoveFile,
            EntryKind::Folder => Operation::RemoveDir,
        };
        run(operation, path, || {
            let mut tree = self.tree();
            let node = tree.find(path)?;
            let (folder, name) = tree.find_parent(path)?;
            match (kind, tree.kind(node)) {
                (EntryKind::File, EntryKind::Folder) => return Err(ErrorKind::IsADirectory.into()),
                (EntryKind::Folder, EntryKind::File) => return Err(ErrorKind::NotADirectory.into()),
                _ => {}
            }
            let mut changes = Vec::new();
            collect_removals(&tree, node, &mut changes);
            changes.push(NameChange { remove: Some((folder, name)), add: None });
            changes.iter().for_each(|change| tree.apply(change));
            Ok(changes.into_iter().map(Event::Name).collect())
        })
    }

    pub(super) fn sync_events(
        &self,
        path: &Path,
        kind: EntryKind,
    ) -> Result<Vec<Event>, StoreError> {
        let operation = match kind {
            EntryKind::File => Operation::SyncFile,
            EntryKind::Folder => Operation::SyncDir,
        };
        run(operation, path, || {
            let tree = self.tree();
            let node = tree.find(path)?;
            Ok(vec![match tree.kind(node) {
                EntryKind::File => Event::SyncFile(node),
                EntryKind::Folder => Event::SyncDir(node),
            }])
        })
    }
}

/// Adds operation and path to an io error.
fn run<T>(
    operation: Operation,
    path: &Path,
    body: impl FnOnce() -> Result<T, Error>,
) -> Result<T, StoreError> {
    body().map_err(|e| StoreError::new(operation, path, e))
}

/// Links a new node into a folder; returns its id and the event.
fn add_node(tree: &mut Tree, folder: NodeId, name: String, node: Node) -> (NodeId, Event) {
    let id = tree.nodes.len();
    tree.nodes.push(node);
    let change = NameChange { remove: None, add: Some((folder, name, id)) };
    tree.apply(&change);
    (id, Event::Name(change))
}

/// The removals that empty a folder, deepest first, as `rm -r` does them.
fn collect_removals(tree: &Tree, node: NodeId, out: &mut Vec<NameChange>) {
    if let Node::Folder(entries) = &tree.nodes[node] {
        for (name, child) in entries {
            collect_removals(tree, *child, out);
            out.push(NameChange { remove: Some((node, name.clone())), add: None });
        }
    }
}

impl Source for MemStore {
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, StoreError> {
        run(Operation::Open, path, || {
            let tree = self.tree();
            let bytes = tree.file(tree.find(path)?)?.clone();
            Ok(Box::new(Cursor::new(bytes)) as Box<dyn Read + Send>)
        })
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, StoreError> {
        run(Operation::List, path, || self.tree().list(path))
    }

    fn kind(&self, path: &Path) -> Result<Option<EntryKind>, StoreError> {
        let tree = self.tree();
        match tree.find(path) {
            Ok(node) => Ok(Some(tree.kind(node))),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(e) => Err(StoreError::new(Operation::Inspect, path, e)),
        }
    }

    fn file_len(&self, path: &Path) -> Result<u64, StoreError> {
        run(Operation::Inspect, path, || {
            let tree = self.tree();
            Ok(tree.file(tree.find(path)?)?.len() as u64)
        })
    }
}

impl Store for MemStore {
    fn create_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.create_dir_events(path).map(drop)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_events(path, bytes, false).map(drop)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_events(path, bytes, true).map(drop)
    }

    fn sync_file(&self, path: &Path) -> Result<(), StoreError> {
        self.sync_events(path, EntryKind::File).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.rename_events(from, to).map(drop)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.sync_events(path, EntryKind::Folder).map(drop)
    }

    fn remove_file(&self, path: &Path) -> Result<(), StoreError> {
        self.remove_events(path, EntryKind::File).map(drop)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), StoreError> {
        self.remove_events(path, EntryKind::Folder).map(drop)
    }
}
