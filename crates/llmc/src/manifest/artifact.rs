//! One artifact: a file or a folder, by its bytes.

use crate::store::{
    COMPLETE, Complete, EntryKind, FileHash, Source, StoreError, folder_hash, hash_file,
    hash_folder, join,
};
use llmc_base::Hash;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The spec.
    Spec,
    /// The solved dimensions.
    Solution,
    /// The program.
    Ir,
    /// Text to train on.
    Text,
    /// A trained tokenizer.
    Tokenizer,
    /// Token ids in shards, with packing plan and ledger.
    Data,
    /// Weights, optimiser state and position of a step.
    Checkpoint,
}

impl Kind {
    /// Its name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Spec => "spec",
            Kind::Solution => "solution",
            Kind::Ir => "ir",
            Kind::Text => "text",
            Kind::Tokenizer => "tokenizer",
            Kind::Data => "data",
            Kind::Checkpoint => "checkpoint",
        }
    }
}

/// Which side of the run an artifact is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It was there before; its path is as it was given.
    Input,
    /// The run made it; its path is below the run directory.
    Output,
}

/// One artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Unique name, for the edges of the graph.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Input or output.
    pub role: Role,
    /// Where it is, with `/` between names.
    pub path: String,
    /// Hash of what was asked, if it was made from a recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Hash>,
    /// BLAKE3 of the file, as `b3sum` prints it; of a folder, over `files`.
    pub content: Hash,
    /// Length in bytes; of a folder, of all its files.
    pub length: u64,
    /// What made it, with version, e.g. `llmc 0.1.0`; empty for an input.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub producer: String,
    /// Names of the artifacts that it was made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// The files of a folder but for the marker `COMPLETE`; `None` for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<FileHash>>,
    /// Those of its files that the run's content hash covers; of a file, its path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proof: Vec<String>,
}

impl Artifact {
    /// An output at `path` below the run directory, hashed now.
    ///
    /// Errors: of the store; `NotFound` if nothing is there.
    pub fn output(
        source: &dyn Source,
        run: &Path,
        name: &str,
        kind: Kind,
        path: &str,
    ) -> Result<Self, StoreError> {
        let mut artifact = hash(source, &join(run, path))?;
        artifact.producer = producer();
        Ok(Artifact { name: name.into(), kind, path: path.into(), ..artifact })
    }

    /// A committed folder below the run directory, whose hashes are known.
    pub fn committed(name: &str, kind: Kind, path: &str, complete: &Complete) -> Self {
        let mut artifact = of_files(complete.files.clone());
        artifact.producer = producer();
        Artifact { name: name.into(), kind, path: path.into(), ..artifact }
    }

    /// An input file or folder at `path`, hashed now.
    ///
    /// Errors: of the store; `NotFound` if nothing is there.
    pub fn input(
        source: &dyn Source,
        name: &str,
        kind: Kind,
        path: &str,
    ) -> Result<Self, StoreError> {
        let artifact = hash(source, Path::new(path))?;
        Ok(Artifact { name: name.into(), kind, path: path.into(), role: Role::Input, ..artifact })
    }

    /// An input of several files anywhere, whose hashes are known.
    pub fn input_files(name: &str, kind: Kind, path: &str, files: Vec<FileHash>) -> Self {
        let artifact = of_files(files);
        Artifact { name: name.into(), kind, path: path.into(), role: Role::Input, ..artifact }
    }

    /// Sets the hash of what was asked.
    pub fn recipe(mut self, recipe: Hash) -> Self {
        self.recipe = Some(recipe);
        self
    }

    /// Adds artifacts that this one was made from, by name.
    pub fn made_from<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.from.extend(names.into_iter().map(str::to_string));
        self
    }

    /// Names files of it that the run's content hash covers.
    pub fn proved_by(mut self, files: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.proof.extend(files.into_iter().map(Into::into));
        self
    }

    /// The hash of one of its files; of a file, by its path.
    pub fn file_hash(&self, file: &str) -> Option<Hash> {
        match &self.files {
            None => (self.path == file).then_some(self.content),
            Some(files) => files.iter().find(|f| f.path == file).map(|f| f.hash),
        }
    }

    /// Where the artifact is on the disk.
    pub(super) fn place(&self, run: &Path) -> PathBuf {
        match self.role {
            Role::Input => PathBuf::from(&self.path),
            Role::Output => join(run, &self.path),
        }
    }
}

fn producer() -> String {
    let tool = super::Tool::this();
    format!("{} {}", tool.name, tool.version)
}

/// The hashes of a file or a folder, as an output without name.
fn hash(source: &dyn Source, place: &Path) -> Result<Artifact, StoreError> {
    if source.kind(place)? == Some(EntryKind::Folder) {
        let mut files = hash_folder(source, place)?;
        files.retain(|file| file.path != COMPLETE);
        return Ok(of_files(files));
    }
    let (length, content) = hash_file(source, place)?;
    Ok(Artifact { content, length, files: None, ..of_files(Vec::new()) })
}

fn of_files(mut files: Vec<FileHash>) -> Artifact {
    files.sort();
    Artifact {
        name: String::new(),
        kind: Kind::Data,
        role: Role::Output,
        path: String::new(),
        recipe: None,
        content: folder_hash(&files),
        length: files.iter().map(|file| file.length).sum(),
        producer: String::new(),
        from: Vec::new(),
        files: Some(files),
        proof: Vec::new(),
    }
}
