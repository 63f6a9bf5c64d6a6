//! `manifest.json`: what a run took in and put out, by hash.
//!
//! The artifacts form a graph without cycles: each names those that it was
//! made from, and stands after them. The manifest's content hash covers all
//! artifacts and nothing else. Observations (metrics, events, logs, the report,
//! times, the machine) are listed, so that no file is without a place, but they
//! enter no hash.
//!
//! [`verify`] recomputes every hash from the bytes on the disk.

mod artifact;
#[cfg(test)]
mod tests;
mod verify;

pub use artifact::{Artifact, Kind, Role};
pub use verify::{Problem, ProblemKind, VerifyReport, verify};

use crate::machine::Machine;
use crate::store::{Source, Store, StoreError, write_atomic};
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

/// Name of the manifest in a run directory.
pub const FILE: &str = "manifest.json";

/// Version of the manifest's form.
const VERSION: u32 = 1;

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
    /// Hash over all artifacts: proves the run.
    pub content: Hash,
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
    /// before it.
    pub fn new(
        recipe: Hash,
        status: RunStatus,
        artifacts: Vec<Artifact>,
        observations: Observations,
    ) -> Result<Self, Vec<Diagnostic>> {
        let diagnostics = check_graph(&artifacts);
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let content = content_hash(&artifacts);
        let tool = Tool::this();
        Ok(Manifest { version: VERSION, recipe, content, status, tool, artifacts, observations })
    }

    /// The artifact of this name.
    pub fn artifact(&self, name: &str) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.name == name)
    }

    /// Writes the manifest into a run directory, atomically.
    pub fn write(&self, store: &dyn Store, run: &Path) -> Result<(), StoreError> {
        let mut text = serde_json::to_string_pretty(self)
            .expect("a manifest holds only text, numbers and maps with text keys");
        text.push('\n');
        write_atomic(store, &run.join(FILE), text.as_bytes())
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
                    .help("give the folder of a run that has finished or was stopped")
            }
            _ => Diagnostic::from(&e),
        })?;
        let damaged = |why: String| {
            let message = format!("`{}` is damaged: {why}", path.display());
            Diagnostic::error("manifest::damaged", message)
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
        if content_hash(&manifest.artifacts) != manifest.content {
            return Err(damaged("its content hash does not fit its artifacts".into()));
        }
        Ok(manifest)
    }
}

/// One hash over the graph: what each artifact is, what it holds, what it was
/// made from. Where an input lies is not part of it.
fn content_hash(artifacts: &[Artifact]) -> Hash {
    let mut hasher = CanonicalHasher::new("llmc.manifest.v1");
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

/// Names and paths are unique, and every edge points back.
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
