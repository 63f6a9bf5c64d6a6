//! Recomputing every hash of a run.

use super::{Artifact, Manifest, Role, RunStatus};
use crate::checkpoint;
use crate::metrics;
use crate::store::{
    COMPLETE, FolderFault, Source, StoreError, files_under, hash_file, join, read_marker,
    verify_folder,
};
use llmc_base::{Diagnostic, Hash};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Hash of what was asked, from the manifest.
    pub recipe: Hash,
    /// Hash over all artifacts, from the manifest.
    pub content: Hash,
    /// Artifacts whose every byte is as recorded.
    pub verified: Vec<String>,
    /// Files read.
    pub n_files: u64,
    /// Bytes read.
    pub n_bytes: u64,
    /// Files that no hash covers: a change to them is not noticed.
    pub observations: Vec<String>,
    /// Observations that a run of this status leaves, and that are not there.
    #[serde(default)]
    pub observations_missing: Vec<String>,
    /// Observations that do not parse, in words.
    #[serde(default)]
    pub observations_damaged: Vec<String>,
    /// What is not as recorded, sorted by path.
    pub problems: Vec<Problem>,
}

/// One file that is not as recorded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// The file: below the run directory for an output, as given for an input.
    pub path: String,
    /// The artifact that it belongs to, if any.
    pub artifact: Option<String>,
    /// Input or output.
    pub role: Role,
    /// What is wrong.
    pub kind: ProblemKind,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "problem")]
pub enum ProblemKind {
    /// It has other bytes.
    Differs {
        /// What the manifest says.
        expected: Hash,
        /// What is there.
        found: Hash,
    },
    /// It is gone.
    Missing,
    /// Nothing says that it belongs here. No recorded byte is touched by it.
    Extra,
    /// It could not be read, or is not what it should be.
    Unreadable {
        /// Why.
        reason: String,
    },
}

impl VerifyReport {
    /// The first file of the run itself that is not as recorded: no extra file, no input, no export.
    pub fn damage(&self) -> Option<&Problem> {
        let is_export = |p: &Problem| p.path.split('/').next() == Some(super::exports::FOLDER);
        self.problems
            .iter()
            .find(|p| p.role == Role::Output && p.kind != ProblemKind::Extra && !is_export(p))
    }

    /// Whether every output, exports included, is as recorded. Extra files do
    /// not count, and neither do inputs, which others may change after the run.
    pub fn outputs_are_whole(&self) -> bool {
        !self.problems.iter().any(|p| p.role == Role::Output && p.kind != ProblemKind::Extra)
    }

    /// Whether every input is still what it was, so that the run can be
    /// repeated from it.
    pub fn inputs_are_unchanged(&self) -> bool {
        self.inputs() == Inputs::Unchanged
    }

    /// How the inputs are.
    pub fn inputs(&self) -> Inputs {
        let mut problems = self.problems.iter().filter(|p| p.role == Role::Input).peekable();
        if problems.peek().is_none() {
            return Inputs::Unchanged;
        }
        match problems.all(|p| p.kind == ProblemKind::Missing) {
            true => Inputs::NotFound,
            false => Inputs::Changed,
        }
    }
}

/// How the inputs of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inputs {
    /// As they were.
    Unchanged,
    /// Some were not found, neither from here nor from where the run was started; nothing else is
    /// wrong with them.
    NotFound,
    /// Some are others now.
    Changed,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ", self.path)?;
        match &self.kind {
            ProblemKind::Differs { expected, found } => {
                write!(f, "differs: expected {}, found {}", expected.short(), found.short())
            }
            ProblemKind::Missing => f.write_str("is missing"),
            ProblemKind::Extra => f.write_str("is extra: nothing says that it belongs here"),
            ProblemKind::Unreadable { reason } => f.write_str(reason),
        }
    }
}

/// Codes `verify::differs`, `verify::missing`, `verify::unreadable` (errors for
/// an output, warnings for an input) and `verify::extra` (a warning).
impl From<&Problem> for Diagnostic {
    fn from(problem: &Problem) -> Self {
        let (code, is_error) = match problem.kind {
            ProblemKind::Differs { .. } => ("verify::differs", true),
            ProblemKind::Missing => ("verify::missing", true),
            ProblemKind::Extra => ("verify::extra", false),
            ProblemKind::Unreadable { .. } => ("verify::unreadable", true),
        };
        if is_error && problem.role == Role::Output {
            Diagnostic::error(code, problem.to_string())
        } else {
            Diagnostic::warning(code, problem.to_string())
        }
    }
}

/// Recomputes every hash of a run and says which file differs, is missing or
/// is extra.
///
/// Checkpoints that the manifest does not list (the run goes on) are held
/// against their own marker, and so are exports, with their certificates.
/// An input of a relative path is looked for from here, and then from the
/// folder where the run was started.
/// Errors: `manifest::missing`, `manifest::damaged`, or of the store when the
/// run directory cannot be listed.
pub fn verify(source: &dyn Source, run: &Path) -> Result<VerifyReport, Diagnostic> {
    let manifest = Manifest::read(source, run)?;
    let text_folder = manifest.text_folder();
    let mut check =
        Check { source, run, text_folder, problems: Vec::new(), n_files: 0, n_bytes: 0 };
    let mut verified = Vec::new();
    let mut known = BTreeSet::new();
    for artifact in &manifest.artifacts {
        let n_before = check.problems.len();
        check.artifact(artifact);
        if check.problems.len() == n_before {
            verified.push(artifact.name.clone());
        }
        if artifact.role == Role::Output {
            known.extend(paths_of(artifact));
        }
    }
    let mut observations = Vec::new();
    let present = files_under(source, run).map_err(|e| Diagnostic::from(&e))?;
    let mut unknown: BTreeSet<String> = BTreeSet::new();
    for path in present {
        if manifest.observations.covers(&path) {
            observations.push(path);
        } else if !known.contains(&path) {
            unknown.insert(path);
        }
    }
    let listed = checkpoint::list(source, run).map_err(|e| Diagnostic::from(&e))?;
    for checkpoint in listed {
        let folder = checkpoint.path.strip_prefix(run).unwrap_or(&checkpoint.path);
        let folder = folder.to_string_lossy().replace('\\', "/");
        // A checkpoint of which the manifest knows any file was checked above.
        let prefix = format!("{folder}/");
        if known.iter().any(|path| path.starts_with(&prefix)) {
            continue;
        }
        match verify_folder(source, &checkpoint.path) {
            Ok(complete) => {
                check.n_files += complete.files.len() as u64;
                check.n_bytes += complete.files.iter().map(|file| file.length).sum::<u64>();
                unknown.remove(&format!("{prefix}{COMPLETE}"));
                for file in &complete.files {
                    unknown.remove(&format!("{prefix}{}", file.path));
                }
                verified.push(folder);
            }
            Err(fault) => {
                unknown.retain(|path| !path.starts_with(&prefix));
                let kind = ProblemKind::Unreadable { reason: format!("is not whole: {fault}") };
                let (artifact, role) = (None, Role::Output);
                check.problems.push(Problem { path: folder, artifact, role, kind });
            }
        }
    }
    super::exports::check(&mut check, &mut unknown, &mut verified)?;
    for path in unknown {
        let owner = manifest.artifacts.iter().find(|artifact| {
            artifact.role == Role::Output && path.starts_with(&format!("{}/", artifact.path))
        });
        let artifact = owner.map(|artifact| artifact.name.clone());
        let (role, kind) = (Role::Output, ProblemKind::Extra);
        check.problems.push(Problem { path, artifact, role, kind });
    }
    let Check { mut problems, n_files, n_bytes, .. } = check;
    problems.sort();
    let (recipe, content) = (manifest.recipe, manifest.content);
    Ok(VerifyReport {
        recipe,
        content,
        verified,
        n_files,
        n_bytes,
        observations_missing: missing_observations(&manifest, &observations),
        observations_damaged: damaged_observations(source, run, manifest.status)?,
        observations,
        problems,
    })
}

/// The observations that should be there. A run that goes on, or was killed, has not made all of
/// them yet; the lock is of use only while somebody works.
fn missing_observations(manifest: &Manifest, present: &[String]) -> Vec<String> {
    if manifest.status == RunStatus::Unfinished {
        return Vec::new();
    }
    let is_there = |pattern: &String| match pattern.strip_suffix('*') {
        Some(start) => present.iter().any(|path| path.starts_with(start)),
        None => present.contains(pattern),
    };
    let expected = manifest.observations.files.iter();
    expected
        .filter(|pattern| *pattern != crate::lock::FILE && !is_there(pattern))
        .cloned()
        .collect()
}

/// The lines of the metrics that do not parse. The last line of a run that goes on, or was killed,
/// may be cut.
fn damaged_observations(
    source: &dyn Source,
    run: &Path,
    status: RunStatus,
) -> Result<Vec<String>, Diagnostic> {
    let (_, mut damaged) = metrics::read(source, run).map_err(|e| Diagnostic::from(&e))?;
    if status == RunStatus::Unfinished {
        damaged.pop_if(|d| d.message.ends_with(metrics::CUT));
    }
    Ok(damaged.into_iter().map(|d| format!("`{}`: {}", metrics::FILE, d.message)).collect())
}

/// Every file that an output consists of, relative to the run; a folder's
/// marker included, whether it is there or not.
fn paths_of(artifact: &Artifact) -> Vec<String> {
    match &artifact.files {
        None => vec![artifact.path.clone()],
        Some(files) => {
            let names = files.iter().map(|file| file.path.as_str()).chain([COMPLETE]);
            names.map(|name| format!("{}/{name}", artifact.path)).collect()
        }
    }
}

/// What a verification goes through, and what it has found.
pub(super) struct Check<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) run: &'a Path,
    text_folder: Option<PathBuf>,
    pub(super) problems: Vec<Problem>,
    n_files: u64,
    n_bytes: u64,
}

impl Check<'_> {
    fn artifact(&mut self, artifact: &Artifact) {
        let place = artifact.place(self.run);
        let Some(files) = &artifact.files else {
            self.file(artifact, &place, artifact.path.clone(), artifact.content);
            return;
        };
        for file in files {
            // Files from here and there have `.` as their common place.
            let path = match artifact.path.as_str() {
                "." => file.path.clone(),
                folder => format!("{folder}/{}", file.path),
            };
            self.file(artifact, &join(&place, &file.path), path, file.hash);
        }
        // What was given has no marker that belongs to this run.
        if artifact.role == Role::Input {
            return;
        }
        match read_marker(self.source, &place) {
            Ok(marker) if marker.content == artifact.content => {}
            result => {
                let kind = match result {
                    Ok(marker) => {
                        let (expected, found) = (artifact.content, marker.content);
                        ProblemKind::Differs { expected, found }
                    }
                    Err(FolderFault::NoMarker) => ProblemKind::Missing,
                    Err(fault) => ProblemKind::Unreadable { reason: fault.to_string() },
                };
                self.problem(artifact, format!("{}/{COMPLETE}", artifact.path), kind);
            }
        }
    }

    fn file(&mut self, artifact: &Artifact, place: &Path, path: String, expected: Hash) {
        let Some(mut kind) = self.compare(place, expected) else { return };
        if artifact.role == Role::Input
            && place.is_relative()
            && let Some(folder) = self.text_folder.clone()
        {
            match self.compare(&folder.join(place), expected) {
                None => return,
                Some(there) if kind == ProblemKind::Missing => kind = there,
                Some(_) => {}
            }
        }
        self.problem(artifact, path, kind);
    }

    /// Compares a file of an output that is no artifact of the manifest.
    pub(super) fn file_of(&mut self, name: &str, place: &Path, path: String, expected: Hash) {
        if let Some(kind) = self.compare(place, expected) {
            self.problem_of(name, path, kind);
        }
    }

    /// What is wrong with a file, if anything is.
    fn compare(&mut self, place: &Path, expected: Hash) -> Option<ProblemKind> {
        match hash_file(self.source, place) {
            Ok((length, found)) => {
                self.n_files += 1;
                self.n_bytes += length;
                (found != expected).then_some(ProblemKind::Differs { expected, found })
            }
            Err(e) => Some(unreadable(&e)),
        }
    }

    /// Notes a problem of an output that is no artifact of the manifest.
    pub(super) fn problem_of(&mut self, name: &str, path: String, kind: ProblemKind) {
        let (artifact, role) = (Some(name.to_string()), Role::Output);
        self.problems.push(Problem { path, artifact, role, kind });
    }

    fn problem(&mut self, artifact: &Artifact, path: String, kind: ProblemKind) {
        let (name, role) = (Some(artifact.name.clone()), artifact.role);
        self.problems.push(Problem { path, artifact: name, role, kind });
    }
}

fn unreadable(error: &StoreError) -> ProblemKind {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => ProblemKind::Missing,
        _ => ProblemKind::Unreadable { reason: format!("cannot be read: {}", error.source) },
    }
}
