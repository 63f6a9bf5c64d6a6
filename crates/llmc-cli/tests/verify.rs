//! What `verify` says of files that were changed or removed.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, Said};
use std::fs;
use std::path::PathBuf;

/// A trained run, and where it is.
fn trained() -> (Place, PathBuf) {
    let place = Place::new();
    let result = place.llmc(&["train", "tiny.toml", "--json"]).code(0).event("result");
    let run = place.path().join(result["run"].as_str().unwrap());
    (place, run)
}

#[test]
fn observations_are_named_as_not_hashed() {
    let (place, run) = trained();
    let name = run.to_str().unwrap();
    let verify = |more: &[&str]| place.llmc(&[&["verify", name], more].concat());
    let said = verify(&[]).code(0);
    let line = said.out.lines().find(|l| l.trim_start().starts_with("not hashed")).unwrap();
    for file in ["metrics.jsonl", "report.html", "logs.txt", "events.out.tfevents"] {
        assert!(line.contains(file), "{line}");
    }
    assert!(!said.out.contains("missing"), "{}", said.out);

    // One that is gone is told; it is in no hash.
    fs::remove_file(run.join("report.html")).unwrap();
    let said = verify(&[]).code(0);
    let line = said.out.lines().find(|l| l.trim_start().starts_with("missing")).unwrap();
    assert!(line.contains("report.html (not hashed)"), "{line}");
    let report = verify(&["--json"]).code(0).json();
    assert_eq!(report["observations_missing"], serde_json::json!(["report.html"]));

    // The metrics must at least parse.
    let metrics = run.join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, text.replacen("\"kind\"", "kind", 1)).unwrap();
    let said = verify(&[]).code(4);
    assert!(said.out.contains("`metrics.jsonl`: line 1"), "{}", said.out);
}

#[test]
fn a_file_that_says_what_the_others_are_may_not_be_missing() {
    let (place, run) = trained();
    let name = run.to_str().unwrap();
    let without = |file: &str, check: &dyn Fn(Said)| {
        let path = run.join(file);
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        check(place.llmc(&["verify", name]));
        fs::write(&path, kept).unwrap();
    };
    for file in ["data/COMPLETE", "tokenizer/COMPLETE", "checkpoints/step-000008/COMPLETE"] {
        without(file, &|said| {
            let said = said.code(4);
            assert!(said.out.contains(&format!("`{file}` is missing")), "{}", said.out);
        });
    }
    without("spec.toml", &|said| {
        let said = said.code(4);
        assert!(said.out.contains("`spec.toml` is missing"), "{}", said.out);
        let said = place.llmc(&["runs", "show", name]).code(4);
        assert!(said.err.contains("run::no_spec"), "{}", said.err);
    });
    without("manifest.json", &|said| {
        let said = said.code(4);
        assert!(said.err.contains("manifest::missing"), "{}", said.err);
    });
    let manifest = run.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    let said = place.llmc(&["verify", name]).code(4);
    assert!(said.err.contains("manifest::damaged"), "{}", said.err);
    assert!(said.err.contains("from a copy"), "{}", said.err);
}
