//! `report.html`: the run on one page, for people.
//!
//! A pure function from [`ReportData`] to a self-contained page: styles, charts
//! and the few lines of script are inside, nothing is loaded from anywhere.
//! Without script everything is still there but the read-outs under the
//! pointer. Every text that comes from outside is escaped. The page is an
//! observation and enters no hash.

mod chart;
mod charts;
mod html;
mod sections;
mod series;
#[cfg(test)]
mod tests;
mod toml;

use crate::machine::Machine;
use crate::manifest::{Manifest, RunStatus, Tool};
use crate::metrics::Record;
use crate::pipeline::plan::PlanCheck;
use html::escape;
use llmc_base::Hash;
use serde::{Deserialize, Serialize};

/// Name of the report in a run directory.
pub const FILE: &str = "report.html";

/// Everything that the page shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportData {
    /// Name of the run.
    pub name: String,
    /// One line on what was trained on what.
    pub description: String,
    /// How the run ended.
    pub status: RunStatus,
    /// Why it ended so, if there is more to say.
    pub status_note: Option<String>,
    /// Hash of what was asked.
    pub recipe: Hash,
    /// The numbers at the top.
    pub summary: Summary,
    /// The metrics, in file order; generated samples are among them.
    pub records: Vec<Record>,
    /// What `llmc plan` predicts for the run beside what was seen.
    pub plan: Option<PlanCheck>,
    /// The spec as TOML.
    pub spec_toml: String,
    /// Every dimension with the rule that set it.
    pub dimensions: Vec<Dimension>,
    /// Every artifact by hash.
    pub hashes: Vec<HashRow>,
    /// The machine that it ran on.
    pub machine: Option<Machine>,
    /// What made it.
    pub tool: Tool,
    /// What to try next.
    pub next_steps: Vec<NextStep>,
}

/// The numbers at the top of the page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Bits per byte of the held-out text.
    pub bits_per_byte: Option<f64>,
    /// What other compressors and models need for the same text.
    pub baselines: Vec<Baseline>,
    /// Parameters of the model, tied ones once.
    pub parameters: Option<u64>,
    /// Tokens seen in training.
    pub tokens_seen: u64,
    /// Tokens per second over the whole training.
    pub tokens_per_s: Option<f64>,
    /// Seconds of training.
    pub seconds: Option<f64>,
    /// Steps done.
    pub steps: u64,
    /// Steps asked for.
    pub steps_planned: u64,
}

/// Another way to predict the held-out text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Its name, e.g. `gzip -9`.
    pub name: String,
    /// Bits per byte of the held-out text.
    pub bits_per_byte: f64,
}

/// A solved dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dimension {
    /// Its field, e.g. `hidden_size`.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What set it, in words.
    pub rule: String,
}

/// An artifact by hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashRow {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// Hash of what was asked, if it was made from a recipe.
    pub recipe: Option<Hash>,
    /// Hash of its bytes.
    pub content: Hash,
}

/// Something to try next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextStep {
    /// What it does.
    pub text: String,
    /// The command.
    pub command: String,
}

impl HashRow {
    /// The artifacts of a manifest, in its order.
    pub fn of_manifest(manifest: &Manifest) -> Vec<HashRow> {
        manifest
            .artifacts
            .iter()
            .map(|artifact| HashRow {
                name: artifact.name.clone(),
                path: artifact.path.clone(),
                recipe: artifact.recipe,
                content: artifact.content,
            })
            .collect()
    }
}

/// The page.
pub fn render(data: &ReportData) -> String {
    let body: Vec<(&str, &str, String)> = vec![
        ("curves", "Curves", charts::curves(&data.records)),
        ("samples", "Samples", sections::samples(&data.records)),
        ("plan", "Predicted and actual", sections::plan(data.plan.as_ref())),
        ("dimensions", "Dimensions", sections::dimensions(&data.dimensions)),
        ("spec", "Spec", sections::spec(&data.spec_toml)),
        ("hashes", "Hashes", sections::hashes(&data.hashes)),
        ("machine", "Machine", sections::machine(data.machine.as_ref(), &data.tool)),
        ("next", "What to try next", sections::next_steps(&data.next_steps)),
    ];
    let body: Vec<_> = body.into_iter().filter(|(_, _, content)| !content.is_empty()).collect();
    let links: String =
        body.iter().map(|(id, title, _)| format!("<a href=\"#{id}\">{title}</a>")).collect();
    let content: String = body
        .iter()
        .map(|(id, title, content)| {
            format!("<section id=\"{id}\"><h2>{title}</h2>\n{content}</section>\n")
        })
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"generator\" content=\"{tool}\">\n\
         <title>{name} · llmc run</title>\n<style>\n{style}</style>\n</head>\n<body>\n\
         <nav aria-label=\"Sections\"><div><strong>llmc</strong>{links}</div></nav>\n\
         <main>\n{head}{content}</main>\n\
         <footer>{tool} · numerics version {numerics}</footer>\n\
         <script>\n{script}</script>\n</body>\n</html>\n",
        tool = escape(&format!("{} {}", data.tool.name, data.tool.version)),
        name = escape(&data.name),
        style = include_str!("report.css"),
        head = sections::head(data),
        numerics = data.tool.numerics_version,
        script = include_str!("report.js"),
    )
}
