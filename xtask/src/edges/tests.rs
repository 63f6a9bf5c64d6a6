//! Forbidden edges are found in every section; the real repository has none.

use super::*;

fn problems_of(name: &str, manifest: &str) -> Vec<String> {
    let workspace = "[workspace.dependencies]\nspec = { path = \"x\", package = \"llmc-spec\" }\n";
    let mut problems = Vec::new();
    let manifest: Table = manifest.parse().unwrap();
    check_edges(name, &edges(&manifest, &workspace.parse().unwrap()), &mut problems);
    problems
}

#[test]
fn a_forbidden_edge_is_found_in_every_section_and_under_every_name() {
    for (manifest, section) in [
        ("[dependencies]\nllmc-spec.workspace = true\n", "dependencies"),
        ("[dependencies.llmc-spec]\npath = \"x\"\n", "dependencies"),
        ("[build-dependencies]\nllmc-spec = { path = \"x\" }\n", "build-dependencies"),
        ("[dev-dependencies]\nllmc-spec.workspace = true\n", "dev-dependencies"),
        (
            "[target.'cfg(unix)'.dependencies]\nllmc-spec = \"1\"\n",
            "target.'cfg(unix)'.dependencies",
        ),
        (
            "[target.x86_64-apple-darwin.build-dependencies]\nllmc-spec = \"1\"\n",
            "target.'x86_64-apple-darwin'.build-dependencies",
        ),
        ("[dependencies]\nother = { path = \"x\", package = \"llmc-spec\" }\n", "dependencies"),
        ("[dependencies]\nspec.workspace = true\n", "dependencies"),
    ] {
        let expect = format!("crates/llmc-plan: [{section}] must not name `llmc-spec`");
        assert_eq!(problems_of("llmc-plan", manifest), [expect], "{manifest}");
    }
}

#[test]
fn tests_join_only_what_is_listed_for_them() {
    let dev = "[dev-dependencies]\nllmc-spec = \"1\"\n";
    assert!(problems_of("llmc-passes", dev).is_empty());
    assert_eq!(problems_of("llmc-passes", &dev.replace("dev-", "")).len(), 1);
}

#[test]
fn argument_parsing_and_python_stay_in_the_faces() {
    let manifest = "[dependencies]\nclap = \"4\"\nserde = \"1\"\n";
    assert!(problems_of("llmc-cli", manifest).is_empty());
    assert_eq!(problems_of("llmc", manifest), ["crates/llmc: [dependencies] must not name `clap`"]);
    assert_eq!(problems_of("llmc-new", manifest).len(), 1);
}

fn table_problems(crates: &[Allowed], rows: &str) -> Vec<String> {
    let mut problems = Vec::new();
    check_table(
        crates,
        &format!("| crate | why | must not know |\n|---|---|---|\n{rows}"),
        &mut problems,
    );
    problems
}

#[test]
fn the_list_is_held_against_the_table() {
    let crates = [knows("a", &["b"]), knows("b", &["llmc-spec"])];
    let good = "| `a`, `b` | x | graphs |\n";
    assert_eq!(table_problems(&crates, good), [""; 0]);
    let check = |rows: &str, part: &str| {
        let problems = table_problems(&crates, rows);
        assert!(problems.iter().any(|p| p.contains(part)), "{problems:?}");
    };
    // Through another crate counts.
    check("| `a` | x | specs, graphs |\n| `b` | x | graphs |\n", "`a` reaches `llmc-spec`");
    check("| `a`, `b` | x | colours |\n", "must not know \"colours\"");
    check("| `a` | x | graphs |\n", "`b` is not in the table");
    check("| `a`, `b`, `c` | x | graphs |\n", "`c` is not in xtask");
}

#[test]
fn this_repository_keeps_its_edges() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut problems = Vec::new();
    check(root, &mut problems);
    assert_eq!(problems, [""; 0]);
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    assert!(table(&architecture).len() > 10);
}
