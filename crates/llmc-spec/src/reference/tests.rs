//! `docs/spec.md` is what [`super::reference`] gives.

use super::*;
use std::path::Path;

#[test]
fn the_documentation_is_made_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/spec.md");
    let text = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/spec.md is stale: UPDATE_DOCS=1 cargo test -p llmc-spec");
}

#[test]
fn every_code_of_this_crate_is_documented() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![sources];
    let mut found = std::collections::BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for part in text.split("\"spec::").skip(1) {
                let name = part.split('"').next().unwrap();
                if name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !name.is_empty() {
                    found.insert(format!("spec::{name}"));
                }
            }
        }
    }
    let documented = CODES.iter().map(|(code, _)| code.to_string()).collect();
    assert_eq!(found, documented);
}

/// `docs/solver.md` has the tables of the lattice and of the cost as the code has them.
#[test]
fn the_manual_of_the_solver_has_the_tables_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = std::fs::read_to_string(root.join("../../docs/solver.md")).unwrap();
    for file in ["lattice.rs", "cost.rs"] {
        let source = std::fs::read_to_string(root.join("src/solver").join(file)).unwrap();
        for row in source.lines().filter_map(|line| line.strip_prefix("//! |")) {
            assert!(manual.contains(row), "docs/solver.md lacks the row of {file}: {row}");
        }
    }
}
