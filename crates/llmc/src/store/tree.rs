//! A file tree in memory: nodes with ids, and folders that map names to them.
//!
//! Content belongs to a node and a name belongs to a folder, as on a real disk,
//! because exactly that difference decides what survives a crash. Nodes are
//! never freed, so that an id in a recording stays valid.

use super::{Entry, EntryKind};
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::{Component, Path};

/// Index of a node; 0 is the root folder.
pub(super) type NodeId = usize;

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Vec<u8>),
    Folder(BTreeMap<String, NodeId>),
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
}

/// A change of names: a creation adds, a removal removes, a rename does both.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) remove: Option<(NodeId, String)>,
    pub(super) add: Option<(NodeId, String, NodeId)>,
}

impl NameChange {
    /// The folder whose sync makes this change durable.
    pub(super) fn home(&self) -> NodeId {
        match (&self.add, &self.remove) {
            (Some((folder, ..)), _) | (None, Some((folder, _))) => *folder,
            (None, None) => 0,
        }
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        Tree { nodes: vec![Node::Folder(BTreeMap::new())] }
    }

    /// The node at `path`.
    pub(super) fn find(&self, path: &Path) -> Result<NodeId, Error> {
        let mut node = 0;
        for name in names(path)? {
            node = match &self.nodes[node] {
                Node::Folder(entries) => {
                    *entries.get(name).ok_or_else(|| Error::from(ErrorKind::NotFound))?
                }
                Node::File(_) => return Err(ErrorKind::NotADirectory.into()),
            };
        }
        Ok(node)
    }

    /// The folder that holds `path`, and the last name.
    pub(super) fn find_parent(&self, path: &Path) -> Result<(NodeId, String), Error> {
        let names = names(path)?;
        let name = names.last().ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        let parent = path.parent().ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        let parent = self.find(parent)?;
        self.folder(parent)?;
        Ok((parent, (*name).to_string()))
    }

    pub(super) fn folder(&self, node: NodeId) -> Result<&BTreeMap<String, NodeId>, Error> {
        match &self.nodes[node] {
            Node::Folder(entries) => Ok(entries),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn file(&self, node: NodeId) -> Result<&Vec<u8>, Error> {
        match &self.nodes[node] {
            Node::File(bytes) => Ok(bytes),
            Node::Folder(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn kind(&self, node: NodeId) -> EntryKind {
        match &self.nodes[node] {
            Node::File(_) => EntryKind::File,
            Node::Folder(_) => EntryKind::Folder,
        }
    }

    pub(super) fn list(&self, path: &Path) -> Result<Vec<Entry>, Error> {
        let entries = self.folder(self.find(path)?)?;
        Ok(entries.iter().map(|(n, id)| Entry { name: n.clone(), kind: self.kind(*id) }).collect())
    }

    pub(super) fn apply(&mut self, change: &NameChange) {
        if let Some((folder, name)) = &change.remove
            && let Node::Folder(entries) = &mut self.nodes[*folder]
        {
            entries.remove(name);
        }
        if let Some((folder, name, node)) = &change.add
            && let Node::Folder(entries) = &mut self.nodes[*folder]
        {
            entries.insert(name.clone(), *node);
        }
    }
}

/// The names on the way from the root; `.` and the root itself are skipped.
fn names(path: &Path) -> Result<Vec<&str>, Error> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                names.push(name.to_str().ok_or_else(|| Error::from(ErrorKind::InvalidInput))?);
            }
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}
