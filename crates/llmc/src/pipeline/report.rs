//! The data of `report.html` from a run directory.

use super::failure::Failure;
use super::finish::{Baselines, ERROR, PLAN};
use super::project::Project;
use crate::manifest::{self, Manifest};
use crate::metrics::{self, Record};
use crate::report::{Baseline, Dimension, FILE, HashRow, NextStep, ReportData, Summary, render};
use crate::store::{Store, write_all_atomic};
use llmc_spec::Dim;
use std::path::Path;

/// Writes the manifest of a run and the report that shows it, synced together.
pub fn write(
    store: &dyn Store,
    run: &Path,
    project: &Project,
    manifest: &Manifest,
) -> Result<(), Failure> {
    let page = render(&data(store, run, project, manifest)?);
    let (record, report) = (run.join(manifest::FILE), run.join(FILE));
    let files = [(record.as_path(), manifest.text()), (report.as_path(), page)];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_bytes()));
    Ok(write_all_atomic(store, &files)?)
}

fn data(
    store: &dyn Store,
    run: &Path,
    project: &Project,
    manifest: &Manifest,
) -> Result<ReportData, Failure> {
    let (records, _) = metrics::read(store, run)?;
    let model = project.model()?;
    let training = project.resolved.training.as_ref();
    let values = &manifest.observations.values;
    let baselines: Baselines = values
        .get("baselines")
        .and_then(|v| serde_json::from_value(v.clone()).ok())
        .unwrap_or_default();
    let seconds = values.get("seconds").and_then(serde_json::Value::as_f64);
    let last = records.iter().rev().find_map(|r| match r {
        Record::Train(record) => Some(record),
        _ => None,
    });
    let tokens_seen = last.map_or(0, |r| r.tokens);
    let bits_per_byte = records.iter().rev().find_map(|r| match r {
        Record::Validation(record) => Some(record.bits_per_byte),
        _ => None,
    });
    let named = |name: &str, value: Option<f64>| {
        value.map(|bits_per_byte| Baseline { name: name.to_string(), bits_per_byte })
    };
    let folder = crate::shell::quote(run);
    let next = |text: &str, command: String| NextStep { text: text.to_string(), command };
    Ok(ReportData {
        name: model.name.clone(),
        description: describe(project),
        status: manifest.status,
        status_note: values.get(ERROR).and_then(|v| v.as_str()).map(str::to_string),
        recipe: manifest.recipe,
        summary: Summary {
            bits_per_byte,
            baselines: [named("gzip -9", baselines.gzip), named("5-gram", baselines.five_gram)]
                .into_iter()
                .flatten()
                .collect(),
            parameters: Some(model.solution.params),
            tokens_seen,
            tokens_per_s: seconds.filter(|s| *s > 0.0).map(|s| tokens_seen as f64 / s),
            seconds,
            steps: last.map_or(0, |r| r.step),
            steps_planned: training.map_or(0, |t| t.max_steps),
        },
        plan: values.get(PLAN).and_then(|v| serde_json::from_value(v.clone()).ok()),
        spec_toml: store.read_text(&run.join("spec.toml"))?,
        dimensions: dimensions(project)?,
        hashes: HashRow::of_manifest(manifest),
        machine: manifest.observations.machine.clone(),
        tool: manifest.tool.clone(),
        records,
        next_steps: vec![
            next("Continue a text", format!("llmc generate {folder} --prompt 'def '")),
            next("Execute it again and compare every bit", format!("llmc rerun {folder}")),
            next("Load it in transformers", format!("llmc emit {folder} --to huggingface")),
        ],
    })
}

/// One line on what was trained on what.
fn describe(project: &Project) -> String {
    let sources = project.resolved.dataset.as_ref().map_or(String::new(), |d| {
        let generated = (!d.domains.is_empty()).then(|| "the generated corpus".to_string());
        d.paths.iter().cloned().chain(generated).collect::<Vec<_>>().join(", ")
    });
    match project.model() {
        Ok(model) => format!(
            "decoder with {} layers of width {}, trained on {sources}",
            model.dims.num_layers, model.dims.hidden_size
        ),
        Err(_) => sources,
    }
}

/// Every dim with the rule or reason that set it.
fn dimensions(project: &Project) -> Result<Vec<Dimension>, Failure> {
    let model = project.model()?;
    Ok(Dim::ALL
        .into_iter()
        .zip(&model.solution.why)
        .map(|(dim, why)| Dimension {
            name: dim.name().to_string(),
            value: model.dims.get(dim).to_string(),
            rule: why.text.clone(),
        })
        .collect())
}
