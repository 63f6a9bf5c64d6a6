//! A run on text files, from spec to verified run, and what is said when a file changes.
#![allow(clippy::unwrap_used)]

mod common;

use common::Place;
use serde_json::{Value, json};
use std::path::Path;

/// Three files and a fourth with the text of the first; the globs leave one out.
fn place() -> Place {
    let place = Place::new();
    std::fs::create_dir_all(place.path().join("corpus/sub")).unwrap();
    let text = |words: &str| format!("{words} ").repeat(60);
    place.write("corpus/a.txt", &text("the narrow house stands by the river"));
    place.write("corpus/sub/b.txt", &text("a bridge of old stone leads over the water"));
    place.write("corpus/sub/same.txt", &text("the narrow house stands by the river"));
    place.write("corpus/notes.md", &text("nothing of this is trained on"));
    let spec = common::TINY
        .replace(r#"domains = ["synthetic"]"#, r#"paths = ["corpus/**/*.txt"]"#)
        .replace("languages = { en = 1.0 }\ntarget_tokens = 2000\n", "")
        .replace("min_length = 10\n", "");
    place.write("text.toml", &spec);
    place
}

fn hash(place: &Place, file: &str) -> String {
    let bytes = std::fs::read(place.path().join(file)).unwrap();
    llmc_base::Hash::of_bytes(&bytes).to_string()
}

fn read(place: &Place, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(place.path().join(file)).unwrap()).unwrap()
}

#[test]
fn a_run_on_text_files_from_spec_to_verified_run() {
    let place = place();
    let result = place.llmc(&["train", "text.toml", "--json"]).code(0).event("result");
    let run = result["run"].as_str().unwrap();

    // What the ledger counts is what the manifest lists, with the hash of each file.
    let files = ["corpus/a.txt", "corpus/sub/b.txt", "corpus/sub/same.txt"];
    let ledger = read(&place, &format!("{run}/data/documents.json"));
    let sources: Vec<&str> = ledger["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["source"].as_str().unwrap())
        .collect();
    assert_eq!(sources, files);
    let duplicates = ledger["duplicates"].as_array().unwrap();
    assert!(!duplicates.is_empty());
    assert!(duplicates.iter().any(|d| d["dropped"]["source"] == files[2]), "{duplicates:?}");
    let manifest = read(&place, &format!("{run}/manifest.json"));
    let text = &manifest["artifacts"][0];
    assert_eq!((&text["name"], &text["role"]), (&json!("text"), &json!("input")));
    let listed: Vec<Value> = text["files"].as_array().unwrap().clone();
    let expected: Vec<(String, String)> =
        files.iter().map(|f| (f.to_string(), hash(&place, f))).collect();
    let found: Vec<(String, String)> = listed
        .iter()
        .map(|f| (f["path"].as_str().unwrap().into(), f["hash"].as_str().unwrap().into()))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(manifest["recipe_of"]["text"], text["recipe"]);
    let check = place.llmc(&["check", "text.toml", "--json"]).code(0).json();
    assert_eq!(check["recipes"]["training"], manifest["recipe_of"]["training"]);

    place.llmc(&["verify", run]).code(0);
    let report = place.llmc(&["rerun", run, "--threads", "1", "--json"]).code(0).event("result");
    assert_eq!(report["same"], true);
    // A file outside the glob is none of the run's business.
    place.write("corpus/notes.md", "changed");
    place.llmc(&["verify", run]).code(0);

    place.write("corpus/sub/b.txt", &"another bridge leads over the water ".repeat(60));
    let said = place.llmc(&["verify", run]).code(4);
    assert!(said.out.contains("text: `corpus/sub/b.txt` differs"), "{}", said.out);
    let said = place.llmc(&["rerun", run]).code(4);
    assert!(said.err.contains("rerun::changed"), "{}", said.err);
    assert!(said.err.contains("`corpus/sub/b.txt` differs"), "{}", said.err);
    // The outputs are whole, and another text is another run.
    let other = place.llmc(&["train", "text.toml", "--json"]).code(0).event("result");
    assert_ne!(other["run"], result["run"]);
    assert_eq!(other["recipe_of"]["training"], result["recipe_of"]["training"]);
    place.llmc(&["runs", "diff", run, other["run"].as_str().unwrap()]).code(4);
}

#[test]
fn a_run_does_not_depend_on_the_current_folder() {
    let place = place();
    let first = place.llmc(&["train", "text.toml", "--json"]).code(0).event("result");
    let at = |run: &Value| place.path().join(run.as_str().unwrap()).display().to_string();
    let run = at(&first["run"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let there = |args: &[&str]| -> common::Said {
        place.command(args).current_dir(elsewhere.path()).output().unwrap().into()
    };
    assert_eq!(there(&["verify", &run, "--json"]).code(0).json()["inputs"], "unchanged");
    let report = there(&["rerun", &run, "--json"]).code(0).event("result");
    assert_eq!(report["same"], true);
    let more = there(&["resume", &run, "--steps", "9", "--json"]).code(0).event("result");
    let more = more["run"].as_str().unwrap().to_string();
    assert_eq!(there(&["rerun", &more, "--json"]).code(0).event("result")["same"], true);
    there(&["verify", &more]).code(0);

    // Other text of the same name here does not hide that.
    std::fs::create_dir_all(elsewhere.path().join("corpus")).unwrap();
    std::fs::write(elsewhere.path().join("corpus/a.txt"), "other").unwrap();
    there(&["verify", &run]).code(0);

    // Inputs that are nowhere are no damage.
    std::fs::rename(place.path().join("corpus"), place.path().join("gone")).unwrap();
    let said = place.llmc(&["verify", &run]).code(3);
    assert!(said.out.contains("weights and outputs are whole"), "{}", said.out);
    assert!(said.out.contains("3 inputs were not found"), "{}", said.out);
    let report = place.llmc(&["verify", &run, "--json"]).code(3).json();
    assert_eq!((&report["outputs_ok"], &report["inputs"]), (&json!(true), &json!("not_found")));
    std::fs::remove_file(Path::new(&run).join("model.ir")).unwrap();
    let said = place.llmc(&["verify", &run]).code(4);
    assert!(said.out.contains("not as recorded"), "{}", said.out);
}

#[cfg(unix)]
#[test]
fn going_on_with_a_stopped_run_after_a_file_changed_is_refused() {
    use std::io::{BufRead, BufReader};
    let place = place();
    let args = ["train", "text.toml", "--threads", "1", "--set", "training.max_steps=400"];
    let mut child = place.command(&args).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(" 7/400") {
        line.clear();
        assert!(errors.read_line(&mut line).unwrap() > 0, "it ended before step 7");
    }
    // Killed, not interrupted: nothing is written any more.
    child.kill().unwrap();
    child.wait().unwrap();
    let list = place.llmc(&["runs", "list", "--json"]).code(0).json();
    assert_eq!(list["runs"][0]["status"], "unfinished");
    let run = list["runs"][0]["path"].as_str().unwrap();
    place.llmc(&["verify", run]).code(0);
    assert_eq!(place.llmc(&["rerun", run, "--json"]).code(0).event("result")["same"], true);
    let longer = ["resume", run, "--steps", "7", "--json"];
    assert_eq!(place.llmc(&longer).code(0).event("result")["step"], 7);
    let kept = std::fs::read(place.path().join("corpus/a.txt")).unwrap();
    place.write("corpus/a.txt", "other words");
    let said = place.llmc(&["resume", run]).code(3);
    assert!(said.err.contains("resume::changed"), "{}", said.err);
    assert!(said.err.contains("`corpus/a.txt` differs"), "{}", said.err);
    std::fs::write(place.path().join("corpus/a.txt"), kept).unwrap();
    let result = place.llmc(&["resume", run, "--json"]).code(0).event("result");
    assert_eq!((&result["run"], &result["step"]), (&json!(run), &json!(400)));
    // The log has every session.
    let log = std::fs::read_to_string(place.path().join(run).join("logs.txt")).unwrap();
    let starts: Vec<&str> = log.lines().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(starts, ["started,", "resumed", "complete"], "{log}");
}
