//! Runs on the disk: finding, listing, showing, comparing.

use super::failure::Failure;
use super::finish::Baselines;
use super::project::{Defaults, Project};
use super::quantize::is_quantized;
use super::train::Parent;
use crate::checkpoint;
use crate::manifest::{self, Manifest, RunStatus};
use crate::metrics::{self, Record, ValidationRecord};
use crate::store::{EntryKind, Source, Store};
use llmc_base::{Diagnostic, Hash};
use llmc_spec::Goal;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A run in a list.
#[derive(Clone, Debug, Serialize)]
pub struct RunSummary {
    /// Name of its folder.
    pub id: String,
    /// Its folder.
    pub path: PathBuf,
    /// Name of the model.
    pub name: String,
    /// `complete`, `interrupted`, `failed`, or `unfinished`, also where no manifest says.
    pub status: String,
    /// Steps of the newest checkpoint.
    pub step: u64,
    /// Steps asked for.
    pub max_steps: u64,
    /// Last training loss in nats per token.
    pub loss: Option<f64>,
    /// Last validation.
    pub validation: Option<ValidationRecord>,
    /// Parameters.
    pub parameters: u64,
    /// Hash of what was asked.
    pub recipe: Option<Hash>,
    /// Hash that proves what came of it; `None` until it is complete.
    pub content: Option<Hash>,
    /// What simple models make of the held-out text.
    pub baselines: Option<Baselines>,
}

/// Name of the spec in a run directory.
pub(super) const SPEC: &str = "spec.toml";

/// Whether a folder is that of a run, even if one of these files is lost.
fn is_run(store: &dyn Source, folder: &Path) -> Result<bool, Failure> {
    Ok(store.exists(&folder.join(SPEC))? || store.exists(&folder.join(manifest::FILE))?)
}

/// The spec of a run.
///
/// Errors: `run::no_spec` if it is gone.
pub fn project(store: &dyn Source, run: &Path) -> Result<Project, Failure> {
    let path = run.join(SPEC);
    if !store.exists(&path)? {
        let message = format!("`{}` has no `{SPEC}`", run.display());
        let help = "put the file back from a copy; `llmc verify RUN` says what else is missing";
        return Err(Diagnostic::error("run::no_spec", message).help(help).into());
    }
    let text = store.read_text(&path)?;
    let name = path.display().to_string();
    let format = llmc_spec::Format::Toml;
    Ok(Project::parse(&text, format, &name, &[], Goal::Training, Defaults::Record)?.0)
}

/// The run that it continues, if any.
pub fn parent(store: &dyn Source, run: &Path) -> Result<Option<Parent>, Failure> {
    let path = run.join(super::record::PARENT);
    if !store.exists(&path)? {
        return Ok(None);
    }
    let parent = serde_json::from_str(&store.read_text(&path)?);
    let parent = parent.map_err(|e| {
        Diagnostic::error("run::parent", format!("`{}` does not parse: {e}", path.display()))
    })?;
    Ok(Some(found(store, run, parent)?))
}

/// The parent where it is now: as it was written, or beside its child, where both were moved or the
/// path is seen from another folder.
fn found(store: &dyn Source, run: &Path, parent: Parent) -> Result<Parent, Failure> {
    let beside = run.parent().zip(parent.run.file_name()).map(|(above, name)| above.join(name));
    match beside {
        Some(beside) if !is_run(store, &parent.run)? && is_run(store, &beside)? => {
            Ok(Parent { run: beside, ..parent })
        }
        _ => Ok(parent),
    }
}

/// All runs below a folder, by name of their folders.
pub fn list(store: &dyn Source, folder: &Path) -> Result<Vec<RunSummary>, Failure> {
    if !store.exists(folder)? {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in store.list(folder)? {
        let path = folder.join(&entry.name);
        if entry.kind == EntryKind::Folder && store.exists(&path.join("spec.toml"))? {
            found.push(summary(store, &path)?);
        }
    }
    Ok(found)
}

/// One run.
pub fn summary(store: &dyn Source, run: &Path) -> Result<RunSummary, Failure> {
    let project = project(store, run)?;
    let model = project.model()?;
    let manifest = Manifest::read(store, run).ok();
    let (records, _) = metrics::read(store, run)?;
    let checkpoints = checkpoint::list(store, run)?;
    let status = manifest.as_ref().and_then(|m| serde_json::to_value(m.status).ok());
    let status = status.as_ref().and_then(Value::as_str).unwrap_or("unfinished").to_string();
    let complete = manifest.as_ref().filter(|m| m.status == RunStatus::Complete);
    let baselines = manifest.as_ref().and_then(|m| m.observations.values.get("baselines"));
    Ok(RunSummary {
        id: run.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        path: run.to_path_buf(),
        name: model.name.clone(),
        status,
        step: checkpoints.last().map_or(0, |c| c.step),
        max_steps: project.resolved.training.as_ref().map_or(0, |t| t.max_steps),
        loss: super::session::last_loss(&records),
        validation: super::session::last_validation(&records),
        parameters: model.solution.params,
        recipe: manifest.as_ref().map(|m| m.recipe),
        content: complete.map(|m| m.content),
        baselines: baselines.and_then(|v| serde_json::from_value(v.clone()).ok()),
    })
}

/// The folder that a user means: a path, the start of a name below `folder`, or the run whose
/// metrics changed last where nothing is named.
///
/// Errors: `run::unknown`, `run::ambiguous`, with the runs that exist; `run::not_a_run` for a folder
/// that is there and holds something else.
pub fn find(store: &dyn Store, folder: &Path, wanted: Option<&str>) -> Result<PathBuf, Failure> {
    if let Some(wanted) = wanted
        && is_run(store, Path::new(wanted))?
    {
        return Ok(PathBuf::from(wanted));
    }
    let mut names = Vec::new();
    if store.exists(folder)? {
        for entry in store.list(folder)? {
            if entry.kind == EntryKind::Folder && is_run(store, &folder.join(&entry.name))? {
                names.push(entry.name);
            }
        }
    }
    let Some(wanted) = wanted else { return latest(store, folder, &names) };
    let matching: Vec<&String> = names.iter().filter(|name| name.starts_with(wanted)).collect();
    let choices = match names.as_slice() {
        [] => format!("there is no run in `{}`; `llmc train SPEC` makes one", folder.display()),
        names => format!("runs in `{}`: {}", folder.display(), names.join(", ")),
    };
    match matching.as_slice() {
        [one] => Ok(folder.join(one)),
        [] if store.exists(Path::new(wanted))? => {
            let message =
                format!("`{wanted}` is no run: it has neither `{SPEC}` nor `{}`", manifest::FILE);
            Err(Diagnostic::error("run::not_a_run", message).help(choices).into())
        }
        [] => Err(Diagnostic::error("run::unknown", format!("no run `{wanted}`"))
            .help(choices)
            .into()),
        _ => {
            let message = format!("`{wanted}` is the start of {} runs", matching.len());
            Err(Diagnostic::error("run::ambiguous", message).help(choices).into())
        }
    }
}

/// The run, export or quantised model that is wanted: as [`find`], or the folder of one of the others.
///
/// Errors: those of [`find`].
pub fn find_model(
    store: &dyn Store,
    folder: &Path,
    wanted: Option<&str>,
) -> Result<PathBuf, Failure> {
    if let Some(wanted) = wanted {
        let path = Path::new(wanted);
        if super::generate::export::is_export(store, path)? || is_quantized(store, path)? {
            return Ok(path.to_path_buf());
        }
    }
    find(store, folder, wanted)
}

/// The run whose metrics changed last.
fn latest(store: &dyn Store, folder: &Path, names: &[String]) -> Result<PathBuf, Failure> {
    let changed = |name: &String| store.modified(&folder.join(name).join(metrics::FILE));
    let newest = names.iter().max_by_key(|name| (changed(name), name.to_string()));
    newest.map(|name| folder.join(name)).ok_or_else(|| {
        let message = format!("there is no run in `{}`", folder.display());
        let help = "name a run's folder, or make one: `llmc quickstart`, `llmc train SPEC`";
        Diagnostic::error("run::unknown", message).help(help).into()
    })
}

/// What differs between two runs.
#[derive(Clone, Debug, Serialize)]
pub struct RunDiff {
    /// The runs.
    pub runs: [PathBuf; 2],
    /// Values of the specs that differ, written or not: path → (a, b).
    pub values: BTreeMap<String, [Value; 2]>,
    /// Artifacts whose bytes differ or that only one has.
    pub artifacts: Vec<String>,
    /// First step whose losses differ in a bit; `None` if none of the common ones do.
    pub first_step: Option<u64>,
    /// Last losses.
    pub losses: [Option<f64>; 2],
}

impl RunDiff {
    /// Whether the runs are the same in everything compared.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.artifacts.is_empty() && self.first_step.is_none()
    }
}

/// Compares two runs.
pub fn diff(store: &dyn Source, a: &Path, b: &Path) -> Result<RunDiff, Failure> {
    let (first, second) = (project(store, a)?.resolved, project(store, b)?.resolved);
    let mut values = BTreeMap::new();
    for path in first.values.keys().chain(second.values.keys()) {
        let value = |r: &llmc_spec::Resolved| r.values.get(path).cloned().unwrap_or(Value::Null);
        let pair = [value(&first), value(&second)];
        if pair[0] != pair[1] {
            values.insert(path.to_string(), pair);
        }
    }
    let contents = |run: &Path| -> BTreeMap<String, Hash> {
        let manifest = Manifest::read(store, run).ok();
        let artifacts = manifest.map(|m| m.artifacts).unwrap_or_default();
        artifacts.into_iter().map(|a| (a.name, a.content)).collect()
    };
    let (ours, theirs) = (contents(a), contents(b));
    let mut artifacts: Vec<String> = ours
        .keys()
        .chain(theirs.keys())
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .cloned()
        .collect();
    artifacts.sort();
    artifacts.dedup();
    let losses = |run: &Path| -> Result<BTreeMap<u64, f64>, Failure> {
        let (records, _) = metrics::read(store, run)?;
        Ok(records
            .into_iter()
            .filter_map(|r| match r {
                Record::Train(r) => Some((r.step, r.loss)),
                _ => None,
            })
            .collect())
    };
    let (ours, theirs) = (losses(a)?, losses(b)?);
    let first_step = ours
        .iter()
        .find(|(step, loss)| {
            theirs.get(step).is_some_and(|other| other.to_bits() != loss.to_bits())
        })
        .map(|(step, _)| *step);
    let last = |losses: &BTreeMap<u64, f64>| losses.values().next_back().copied();
    Ok(RunDiff {
        runs: [a.to_path_buf(), b.to_path_buf()],
        values,
        artifacts,
        first_step,
        losses: [last(&ours), last(&theirs)],
    })
}
