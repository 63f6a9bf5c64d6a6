//! `manifest.json`: what a run took in and put out, by hash.
//!
//! The artifacts form a graph without cycles: each names those that it was
//! made from, and stands after them. Three hashes are over them:
//!
//! - the *recipe* names the run: what was asked ([`RecipeParts`]);
//! - the *content* proves it: the recipe, and the files that an artifact says
//!   are its proof (the program, the tokenizer, the rows, the last weights and
//!   moments). Labels, paths, threads, and how often a run was interrupted
//!   change files, but not this hash;
//! - the *listing* covers every artifact as it stands here, so that a damaged
//!   manifest is noticed.
//!
//! Observations (metrics, events, logs, the report, times, the machine) are
//! listed, so that no file is without a place, but they enter no hash.
//!
//! [`verify`] recomputes every hash from the bytes on the disk.

mod artifact;
mod exports;
mod recipe;
#[cfg(test)]
mod tests;
mod verify;

pub use artifact::{Artifact, Kind, Role};
pub use recipe::RecipeParts;
pub use verify::{Inputs, Problem, ProblemKind, VerifyReport, verify};

use crate::machine::Machine;
use crate::store::{Source, Store, StoreError, write_atomic};
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Name of the manifest in a run directory.
pub const FILE: &str = "manifest.json";

/// Name of the observation that holds the folder against which the relative
/// paths of text inputs are meant: where the run was started.
pub const TEXT_FOLDER: &str = "text_folder";

/// Version of the manifest's form.
const VERSION: u32 = 2;

/// Files of a run directory that are observations; `*` at the end stands for
/// any ending.
pub const OBSERVED_FILES: [&str; 6] = [
    "events.out.tfevents*",
    crate::lock::FILE,
    crate::logs::FILE,
    FILE,
    crate::metrics::FILE,
    "report.html",
];

/// The manifest of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form.
    pub version: u32,
    /// Hash of what was asked: names the run.
    pub recipe: Hash,
    /// What the recipe is over.
    pub recipe_of: RecipeParts,
    /// Hash over the recipe and what proves it: equal wherever and however the run is executed.
    pub content: Hash,
    /// Hash over all artifacts as they are listed.
    pub listing: Hash,
    /// How the run ended.
    pub status: RunStatus,
    /// What wrote it.
    pub tool: Tool,
    /// Inputs and outputs, each after those that it was made from.
    pub artifacts: Vec<Artifact>,
    /// What was seen on the way; in no hash.
    pub observations: Observations,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It goes on, or was killed; it can be resumed.
    Unfinished,
    /// All steps are done.
    Complete,
    /// It was stopped and can be resumed.
    Interrupted,
    /// It stopped by itself, e.g. at a loss that is not finite.
    Failed,
}

/// The tool that wrote the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Version of the definitions of the numbers.
    pub numerics_version: u32,
}

impl Tool {
    /// This build of llmc.
    pub fn this() -> Self {
        Tool {
            name: env!("CARGO_PKG_NAME").to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            numerics_version: llmc_base::NUMERICS_VERSION,
        }
    }
}

/// What was seen on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observations {
    /// Files that no hash covers; `*` at the end stands for any ending.
    pub files: Vec<String>,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// Times, speeds, and whatever else is worth keeping, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, serde_json::Value>,
}

impl Default for Observations {
    fn default() -> Self {
        let files = OBSERVED_FILES.map(str::to_string).to_vec();
        Observations { files, machine: None, values: BTreeMap::new() }
    }
}

impl Observations {
    /// Whether a file, relative to the run, is an observation.
    pub fn covers(&self, path: &str) -> bool {
        self.files.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == pattern,
        })
    }
}

impl Manifest {
    /// A manifest of these artifacts.
    ///
    /// Errors: `manifest::duplicate` if two have one name or one path,
    /// `manifest::order` if one is made from something that does not stand
    /// before it, `manifest::proof` if one has not the file that is its proof.
    pub fn new(
        recipe_of: RecipeParts,
        status: RunStatus,
        artifacts: Vec<Artifact>,
        observations: Observations,
    ) -> Result<Self, Vec<Diagnostic>> {
        let diagnostics = check_graph(&artifacts);
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let recipe = recipe_of.hash();
        let content = content_hash(&recipe, &artifacts);
        let listing = listing_hash(&artifacts);
        let (version, tool) = (VERSION, Tool::this());
        Ok(Manifest {
            version,
            recipe,
            recipe_of,
            content,
            listing,
            status,
            tool,
            artifacts,
            observations,
        })
    }

    /// The artifact of this name.
    pub fn artifact(&self, name: &str) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.name == name)
    }

    /// The folder against which the relative paths of text inputs are meant,
    /// where the run has noted it.
    pub fn text_folder(&self) -> Option<PathBuf> {
        self.observations.values.get(TEXT_FOLDER)?.as_str().map(PathBuf::from)
    }

    /// The manifest as its file has it.
    pub fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self)
            .expect("a manifest holds only text, numbers and maps with text keys");
        text + "\n"
    }

    /// Writes the manifest into a run directory, atomically.
    pub fn write(&self, store: &dyn Store, run: &Path) -> Result<(), StoreError> {
        write_atomic(store, &run.join(FILE), self.text().as_bytes())
    }

    /// Reads the manifest of a run directory.
    ///
    /// Errors: `manifest::missing`, `manifest::damaged` if it does not parse or
    /// contradicts itself, and those of the store.
    pub fn read(source: &dyn Source, run: &Path) -> Result<Self, Diagnostic> {
        let path = run.join(FILE);
        let bytes = source.read(&path).map_err(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                let message = format!("`{}` has no `{FILE}`", run.display());
                Diagnostic::error("manifest::missing", message)
                    .help("give the folder of a run, or put the file back from a copy; a run that was killed before its first step has none, `llmc train` goes on with it")
            }
            _ => Diagnostic::from(&e),
        })?;
        let damaged = |why: String| {
            let message = format!("`{}` is damaged: {why}", path.display());
            Diagnostic::error("manifest::damaged", message).help(
                "put the file back from a copy; without it nothing says what the run's files should be, and `llmc train` on its spec.toml with another `--output` makes the run again",
            )
        };
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if manifest.version != VERSION {
            let why = format!("its version is {}, known is {VERSION}", manifest.version);
            return Err(damaged(why));
        }
        if let Some(fault) = check_graph(&manifest.artifacts).first() {
            return Err(damaged(fault.message.clone()));
        }
        if manifest.recipe_of.hash() != manifest.recipe {
            return Err(damaged("its recipe does not fit its parts".into()));
        }
        if listing_hash(&manifest.artifacts) != manifest.listing
            || content_hash(&manifest.recipe, &manifest.artifacts) != manifest.content
        {
            return Err(damaged("its hashes do not fit its artifacts".into()));
        }
        Ok(manifest)
    }
}

/// One hash over the recipe and the files that prove it, by artifact.
fn content_hash(recipe: &Hash, artifacts: &[Artifact]) -> Hash {
    let mut hasher = CanonicalHasher::new("llmc.content.v1");
    hasher.hash(recipe);
    for artifact in artifacts.iter().filter(|a| !a.proof.is_empty()) {
        hasher.field(&artifact.name).str(artifact.kind.name()).seq(artifact.proof.len());
        for file in &artifact.proof {
            hasher.str(file);
            artifact.file_hash(file).iter().for_each(|hash| {
                hasher.hash(hash);
            });
        }
    }
    hasher.finish()
}

/// One hash over the graph: what each artifact is, what it holds, what it was
/// made from. Where an input lies is not part of it.
fn listing_hash(artifacts: &[Artifact]) -> Hash {
    let mut hasher = CanonicalHasher::new("llmc.manifest.v2");
    hasher.seq(artifacts.len());
    for artifact in artifacts {
        hasher.str(&artifact.name).str(artifact.kind.name()).hash(&artifact.content);
        if artifact.role == Role::Output {
            hasher.field("path").str(&artifact.path);
        }
        if let Some(recipe) = &artifact.recipe {
            hasher.field("recipe").hash(recipe);
        }
        hasher.seq(artifact.from.len());
        artifact.from.iter().for_each(|name| {
            hasher.str(name);
        });
    }
    hasher.finish()
}

/// Names and paths are unique, every edge points back, and every proof is there.
fn check_graph(artifacts: &[Artifact]) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for artifact in artifacts {
        let name = &artifact.name;
        for from in &artifact.from {
            if !names.contains(from) {
                let message = format!("`{name}` is made from `{from}`, which is not before it");
                diagnostics.push(Diagnostic::error("manifest::order", message));
            }
        }
        for file in artifact.proof.iter().filter(|file| artifact.file_hash(file).is_none()) {
            let message = format!("`{name}` has no file `{file}`, which is its proof");
            diagnostics.push(Diagnostic::error("manifest::proof", message));
        }
        if !names.insert(name) {
            let message = format!("two artifacts are named `{name}`");
            diagnostics.push(Diagnostic::error("manifest::duplicate", message));
        }
        if !paths.insert((artifact.role, &artifact.path)) {
            let message = format!("two artifacts are at `{}`", artifact.path);
            diagnostics.push(Diagnostic::error("manifest::duplicate", message));
        }
    }
    diagnostics
}
