//! Checks of the repository itself: `cargo xtask tidy`.
//!
//! What the compiler cannot see: which crate may know which, how long files
//! are, that each says what it is for, and that nothing unfinished or foreign is in it.

mod edges;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Lines after which a file must say why it is so long.
const LONG_FILE: usize = 1000;

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    if command.as_deref() != Some("tidy") {
        eprintln!("usage: cargo run -p xtask -- tidy");
        return ExitCode::from(2);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf);
    let root = root.unwrap_or_default();
    let mut problems = Vec::new();
    let mut files = Vec::new();
    walk(&root, &mut files);
    for file in &files {
        check_file(&root, file, &mut problems);
    }
    edges::check(&root, &mut problems);
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    println!("tidy: {} files, {} problems", files.len(), problems.len());
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Text files of the project, in path order.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let skip = [
            ".git",
            "target",
            "runs",
            "__pycache__",
            ".venv",
            "dist",
            "corpus",
            "artifacts",
            "fuzz/target",
        ];
        if path.is_dir() {
            if !skip.contains(&name) && !name.ends_with(".egg-info") {
                walk(&path, files);
            }
        } else if matches!(
            path.extension().and_then(|e| e.to_str()),
            Some("rs" | "py" | "pyi" | "toml" | "md" | "sh" | "ir" | "yml" | "yaml")
        ) || name == "Makefile"
        {
            files.push(path);
        }
    }
}

fn check_file(root: &Path, path: &Path, problems: &mut Vec<String>) {
    let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let Ok(text) = fs::read_to_string(path) else {
        problems.push(format!("{shown}: not UTF-8"));
        return;
    };
    let is_rust = shown.ends_with(".rs");
    let is_tidy = shown.starts_with("xtask");
    if is_rust && !text.starts_with("//!") && !text.starts_with("#!") {
        problems.push(format!("{shown}: does not open with `//!`"));
    }
    let lines = text.lines().count();
    let module_doc: Vec<&str> = text.lines().take_while(|l| l.starts_with("//!")).collect();
    if is_rust && lines > LONG_FILE && !module_doc.join(" ").contains("long because") {
        problems.push(format!("{shown}: {lines} lines and no `long because` in its module doc"));
    }
    if is_tidy {
        return;
    }
    for (at, line) in text.lines().enumerate() {
        let mut report = |what: &str| problems.push(format!("{shown}:{}: {what}", at + 1));
        if is_rust && (line.contains("todo!(") || line.contains("unimplemented!(")) {
            report("unfinished code");
        }
        if is_rust && line.trim_start().starts_with("#[ignore") {
            report("an ignored test");
        }
        if ["/work/", "/root/", "/home/"].iter().any(|p| line.contains(p)) {
            report("a path of one machine");
        }
        if line.ends_with(' ') || line.contains('\t') && !shown.ends_with("Makefile") && is_rust {
            report("trailing space or tab");
        }
    }
}
