//! Which crate may know which, held against the manifests and the crate table of `ARCHITECTURE.md`.
//!
//! Every dependency of every section counts: normal, build and dev, of every target. An edge
//! must be in [`CRATES`]; what [`CRATES`] lets a crate reach, directly or through others, must
//! not be in the table's column "must not know"; and each phrase of that column must be in
//! [`PHRASES`], so that a new one means something. Crates of other people count where a
//! phrase names them (`clap` is argument parsing).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use toml::{Table, Value};

/// What one crate may name in its manifest.
pub struct Allowed {
    name: &'static str,
    /// In `[dependencies]` and `[build-dependencies]`, of every target.
    knows: &'static [&'static str],
    /// In `[dev-dependencies]` besides: tests join what the crate itself must not know.
    tests_know: &'static [&'static str],
}

const fn knows(name: &'static str, knows: &'static [&'static str]) -> Allowed {
    Allowed { name, knows, tests_know: &[] }
}

impl Allowed {
    const fn tests(mut self, tests_know: &'static [&'static str]) -> Allowed {
        self.tests_know = tests_know;
        self
    }
}

/// Every crate of the workspace below `crates/`, and the crates of ours that it may know.
pub const CRATES: &[Allowed] = &[
    knows("llmc-base", &[]),
    knows("llmc-spec", &["llmc-base"]),
    knows("llmc-ir", &["llmc-base"]),
    knows("llmc-formats", &["llmc-base"]),
    knows("llmc-data", &["llmc-base"]),
    knows("llmc-kernels", &["llmc-base"]),
    knows("llmc-kernels-c", &["llmc-kernels"]),
    knows("llmc-model", &["llmc-base", "llmc-spec", "llmc-ir"]),
    knows("llmc-passes", &["llmc-base", "llmc-ir"]).tests(&["llmc-model", "llmc-spec"]),
    knows("llmc-plan", &["llmc-base", "llmc-ir"]),
    knows("llmc-codegen", &["llmc-base", "llmc-ir", "llmc-formats"])
        .tests(&["llmc-model", "llmc-spec"]),
    knows("llmc-runtime", &["llmc-base", "llmc-ir", "llmc-kernels", "llmc-plan"]),
    knows(
        "llmc-train",
        &["llmc-base", "llmc-spec", "llmc-ir", "llmc-passes", "llmc-plan", "llmc-runtime"],
    )
    .tests(&["llmc-model"]),
    knows(
        "llmc",
        &[
            "llmc-base",
            "llmc-spec",
            "llmc-ir",
            "llmc-formats",
            "llmc-data",
            "llmc-model",
            "llmc-passes",
            "llmc-plan",
            "llmc-codegen",
            "llmc-runtime",
            "llmc-train",
        ],
    ),
    knows("llmc-cli", &["llmc", "llmc-base", "llmc-spec", "llmc-ir", "llmc-data", "llmc-runtime"]),
    knows(
        "llmc-py",
        &["llmc", "llmc-base", "llmc-spec", "llmc-ir", "llmc-formats", "llmc-data", "llmc-runtime"],
    ),
];

/// What the words of the column "must not know" mean as crates, ours and others'.
const PHRASES: &[(&str, &[&str])] = &[
    // Every other crate is one of these or reaches one.
    ("everything else", &["llmc-spec", "llmc-ir", "llmc-formats", "llmc-data", "llmc-kernels"]),
    ("tensors", &["llmc-ir"]),
    ("ops", &["llmc-ir"]),
    ("graphs", &["llmc-ir"]),
    ("graphs' meaning", &["llmc-ir"]),
    ("files", &["llmc-formats", "llmc-data"]),
    ("specs", &["llmc-spec"]),
    ("templates", &["llmc-model"]),
    ("autodiff", &["llmc-passes"]),
    ("passes", &["llmc-passes"]),
    ("kernels", &["llmc-kernels"]),
    ("threads", &["llmc-runtime"]),
    ("execution", &["llmc-plan", "llmc-runtime"]),
    ("targets' spelling", &["llmc-codegen"]),
    ("argument parsing", &["llmc-cli", "clap"]),
    ("the command line", &["llmc-cli", "clap"]),
    ("Python", &["llmc-py", "pyo3"]),
    // Of these there is no crate: nothing to hold an edge against.
    ("source languages", &[]),
    ("how anything works", &[]),
];

/// One line of a manifest that names a crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The header it stands under, such as `target.'cfg(unix)'.dependencies`.
    pub section: String,
    /// Whether only tests, examples and benches see it.
    pub is_dev: bool,
    /// The package, whatever it is called here.
    pub package: String,
}

/// Checks every manifest below `crates/`, and the allow-list against the table.
pub fn check(root: &Path, problems: &mut Vec<String>) {
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap_or_default();
    check_table(CRATES, &architecture, problems);
    let workspace = match read(&root.join("Cargo.toml")) {
        Ok(workspace) => workspace,
        Err(what) => return problems.push(format!("Cargo.toml: {what}")),
    };
    let Ok(entries) = fs::read_dir(root.join("crates")) else {
        return problems.push("no folder `crates`".to_string());
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let names: BTreeSet<String> = names.collect();
    for Allowed { name, .. } in CRATES.iter().filter(|c| !names.contains(c.name)) {
        problems.push(format!("xtask/src/edges.rs: there is no crate `{name}`"));
    }
    for name in names {
        let manifest = format!("crates/{name}/Cargo.toml");
        match read(&root.join(&manifest)) {
            Ok(table) => check_edges(&name, &edges(&table, &workspace), problems),
            Err(what) => problems.push(format!("{manifest}: {what}")),
        }
    }
}

fn read(path: &Path) -> Result<Table, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    text.parse().map_err(|error: toml::de::Error| error.message().to_string())
}

/// Everything that a manifest depends on, in all sections of all targets.
pub fn edges(manifest: &Table, workspace: &Table) -> Vec<Edge> {
    let mut found = Vec::new();
    add_edges("", manifest, workspace, &mut found);
    for (target, table) in manifest.get("target").and_then(Value::as_table).into_iter().flatten() {
        if let Some(table) = table.as_table() {
            add_edges(&format!("target.'{target}'."), table, workspace, &mut found);
        }
    }
    found
}

fn add_edges(prefix: &str, table: &Table, workspace: &Table, found: &mut Vec<Edge>) {
    for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
        let entries = table.get(section).and_then(Value::as_table).into_iter().flatten();
        for (name, value) in entries {
            let is_inherited = value.get("workspace").and_then(Value::as_bool) == Some(true);
            let shared = workspace.get("workspace").and_then(|w| w.get("dependencies"));
            let source = if is_inherited { shared.and_then(|d| d.get(name)) } else { Some(value) };
            let renamed = source.and_then(|s| s.get("package")).and_then(Value::as_str);
            found.push(Edge {
                section: format!("{prefix}{section}"),
                is_dev: section == "dev-dependencies",
                package: renamed.unwrap_or(name).to_string(),
            });
        }
    }
}

/// Reports every edge of the crate `name` that [`CRATES`] does not have.
fn check_edges(name: &str, edges: &[Edge], problems: &mut Vec<String>) {
    let Some(allowed) = CRATES.iter().find(|c| c.name == name) else {
        problems.push(format!("crates/{name}: not in the list of xtask/src/edges.rs"));
        return;
    };
    let is_ours = |package: &str| CRATES.iter().any(|c| c.name == package);
    let forbidden_elsewhere: BTreeSet<&str> =
        PHRASES.iter().flat_map(|(_, packages)| *packages).copied().collect();
    for edge in edges {
        let package = edge.package.as_str();
        let is_allowed = match is_ours(package) {
            true => {
                allowed.knows.contains(&package)
                    || edge.is_dev && allowed.tests_know.contains(&package)
            }
            // The faces of `llmc` are the crates that parse arguments and speak Python.
            false => !forbidden_elsewhere.contains(package) || allowed.knows.contains(&"llmc"),
        };
        if !is_allowed {
            problems.push(format!("crates/{name}: [{}] must not name `{package}`", edge.section));
        }
    }
}

/// The rows of the table whose first column is `crate`: names and what they must not know.
fn table(architecture: &str) -> Vec<(Vec<&str>, Vec<&str>)> {
    let lines = architecture.lines().skip_while(|line| !line.starts_with("| crate |"));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let names = cells.first().map_or(Vec::new(), |c| c.split('`').skip(1).step_by(2).collect());
        let phrases = cells.get(2).map_or(Vec::new(), |c| c.split(", ").collect());
        (names, phrases)
    })
    .collect()
}

/// Holds `crates` against the table of `ARCHITECTURE.md`.
fn check_table(crates: &[Allowed], architecture: &str, problems: &mut Vec<String>) {
    let by_name: BTreeMap<&str, &Allowed> = crates.iter().map(|c| (c.name, c)).collect();
    let mut listed = BTreeSet::new();
    for (names, phrases) in table(architecture) {
        listed.extend(names.iter().copied());
        for name in names {
            if !by_name.contains_key(name) {
                problems.push(format!("ARCHITECTURE.md: `{name}` is not in xtask/src/edges.rs"));
            }
            let reached = reached(&by_name, name);
            for phrase in &phrases {
                let Some((_, packages)) = PHRASES.iter().find(|(known, _)| known == phrase) else {
                    problems.push(format!(
                        "ARCHITECTURE.md: `{name}` must not know \"{phrase}\", which xtask/src/edges.rs does not translate"
                    ));
                    continue;
                };
                for package in packages.iter().filter(|p| reached.contains(**p)) {
                    problems.push(format!(
                        "xtask/src/edges.rs: `{name}` reaches `{package}`, and ARCHITECTURE.md says that it must not know \"{phrase}\""
                    ));
                }
            }
        }
    }
    for name in by_name.keys().filter(|name| !listed.contains(**name)) {
        problems.push(format!("ARCHITECTURE.md: `{name}` is not in the table of crates"));
    }
}

/// The crates that `name` knows, directly or through others.
fn reached<'a>(crates: &BTreeMap<&'a str, &'a Allowed>, name: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = crates.get(name).map_or(Vec::new(), |c| c.knows.to_vec());
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(crates.get(next).map_or(&[][..], |c| c.knows));
        }
    }
    reached
}

#[cfg(test)]
mod tests;
