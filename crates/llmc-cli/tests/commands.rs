//! Every command that needs no run: help, diagnostics, solver, counts, IR, data, tokenizer.

#![allow(clippy::unwrap_used)]

mod common;

use common::Place;
use std::path::Path;

const COMMANDS: &[&[&str]] = &[
    &[],
    &["quickstart"],
    &["new"],
    &["check"],
    &["solve"],
    &["count"],
    &["plan"],
    &["explain"],
    &["ir"],
    &["graph"],
    &["tokenizer"],
    &["tokenizer", "train"],
    &["tokenizer", "encode"],
    &["tokenizer", "decode"],
    &["data"],
    &["data", "build"],
    &["data", "show"],
    &["train"],
    &["resume"],
    &["generate"],
    &["runs"],
    &["runs", "list"],
    &["runs", "show"],
    &["runs", "diff"],
    &["verify"],
    &["rerun"],
    &["emit"],
    &["quantize"],
    &["doctor"],
    &["help"],
];

#[test]
fn every_command_has_help() {
    let place = Place::new();
    for command in COMMANDS {
        let args = [command, &["--help"][..]].concat();
        let said = place.llmc(&args).code(0);
        assert!(said.out.contains("Usage: llmc"), "{args:?}: {}", said.out);
        assert!(!said.out.contains('\x1b'), "{args:?} has colours in a pipe");
    }
    let said = place.llmc(&["--help"]);
    assert!(said.out.contains("Exit codes:") && said.out.contains("130"), "{}", said.out);
}

#[test]
fn a_wrong_command_line_is_2() {
    let place = Place::new();
    place.llmc(&["frobnicate"]).code(2);
    place.llmc(&["train"]).code(2);
    place.llmc(&["emit", "--to", "parchment"]).code(2);
    place.llmc(&["quantize", "--to", "parchment"]).code(2);
    place.llmc(&["generate", "--weights", "q3"]).code(2);
    for args in [&["resume", "--steps", "0"][..], &["quickstart", "--steps", "0"]] {
        let said = place.llmc(args).code(2);
        assert!(said.err.contains("--steps"), "{}", said.err);
    }
    place.llmc(&["runs", "show", "zzz"]).code(2);
    // As JSON where that is asked for.
    let said = place.llmc(&["frobnicate", "--json"]).code(2);
    assert_eq!(said.json()["diagnostics"][0]["code"], "cli::usage");
    for command in ["quickstart", "train", "resume", "rerun"] {
        let said = place.llmc(&[command, "--steps", "0", "--json"]).code(2);
        let message = said.event("error")["diagnostics"][0]["message"].to_string();
        assert!(message.contains("--steps"), "{message}");
    }
    place.llmc(&["verify", "cache/.."]).code(2);
}

/// Compares with `tests/snapshots/<name>`; `UPDATE_GOLDEN=1` writes it.
#[track_caller]
fn snapshot(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found, expected, "`{name}` differs; `UPDATE_GOLDEN=1 cargo test` writes it anew");
}

#[test]
fn check_shows_all_problems_at_once() {
    let place = Place::new();
    place.write(
        "bad.toml",
        r#"[model]
name = "bad"
num_layers = 2
hiden_size = 16
num_heads = 3
hidden_size = 16
activation = "swiglo"
vocab_size = -1

[training]
max_stepps = 10
"#,
    );
    let said = place.llmc(&["check", "bad.toml"]).code(3);
    assert_eq!(said.out, "");
    snapshot("check.txt", &said.err);
    let said = place.llmc(&["check", "bad.toml", "--json"]).code(3);
    let found = said.json()["diagnostics"].as_array().unwrap().clone();
    assert_eq!(found.len(), 4);
    assert!(found.iter().any(|d| d["code"] == "spec::unknown_key"));
    assert_eq!(said.err, "");
}

#[test]
fn a_missing_file_and_a_bad_override_are_told() {
    let place = Place::new();
    let said = place.llmc(&["check", "nope.toml"]).code(3);
    assert!(said.err.contains("spec::unreadable"), "{}", said.err);
    let said = place.llmc(&["check", "tiny.toml", "--set", "training.max_step=3"]).code(3);
    assert!(said.err.contains("did you mean `training.max_steps`?"), "{}", said.err);
    assert!(said.err.contains("--set"), "{}", said.err);
    let said = place.command(&["train", "tiny.toml"]).env("LLMC_ISA", "abacus").output().unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("env::isa"));
}

#[test]
fn check_prints_the_recipes() {
    let place = Place::new();
    let said = place.llmc(&["check", "tiny.toml"]).code(0);
    assert!(said.out.starts_with("ok\n"), "{}", said.out);
    let json = place.llmc(&["check", "tiny.toml", "--json"]).code(0).json();
    let recipe = json["recipes"]["training"].as_str().unwrap();
    assert!(said.out.contains(recipe), "{}", said.out);
    place.llmc(&["check", "tiny.toml", "--explicit"]).code(3);
}

#[test]
fn a_new_spec_is_good() {
    let place = Place::new();
    place.llmc(&["new", "mine"]).code(0);
    place.llmc(&["check", "mine.toml"]).code(0);
    place.llmc(&["new", "mine"]).code(2);
    place.llmc(&["new", "mine", "--force", "--params", "20M", "--data", "a b/*.txt"]).code(0);
    let json = place.llmc(&["solve", "mine.toml", "--json"]).code(0).json();
    assert_eq!(json["model"]["solution"]["target_params"], 20_000_000);
    place.llmc(&["new", "other", "--params", "many"]).code(2);
    assert!(!place.path().join("other.toml").exists());
}

#[test]
fn solve_and_count_agree() {
    let place = Place::new();
    let args = ["tiny.toml", "--set", "model.num_layers=3", "--json"];
    let solved = place.llmc(&[&["solve"][..], &args].concat()).code(0).json();
    let counted = place.llmc(&[&["count"][..], &args].concat()).code(0).json();
    assert_eq!(solved["model"]["solution"]["params"], counted["parameters"]);
    // Tied: one table of 300 × 16 more in a file with the head written out.
    let parameters = counted["parameters"].as_u64().unwrap();
    assert_eq!(counted["stored"], parameters + 300 * 16);
    assert_eq!(counted["non_embedding"], parameters - 300 * 16);
    // Keys and values of 3 layers, 2 heads of 8, in f32.
    assert_eq!(counted["kv_cache_bytes_per_token"], 2 * 3 * 16 * 4);
    assert!(counted["forward_flops_per_token"].as_f64().unwrap() > 2.0 * 9_000.0);
    place.llmc(&["solve", "tiny.toml"]).code(0);
    place.llmc(&["count", "tiny.toml"]).code(0);
}

#[test]
fn ir_after_every_stage_parses_again() {
    let place = Place::new();
    let said = place.llmc(&["ir", "tiny.toml", "--after", "help", "--json"]).code(0);
    let stages = said.json()["stages"].as_array().unwrap().clone();
    assert!(stages.len() > 4);
    for stage in &stages {
        let stage = stage["name"].as_str().unwrap();
        let said = place.llmc(&["ir", "tiny.toml", "--after", stage]).code(0);
        place.write("again.ir", &said.out);
        let again = place.llmc(&["ir", "again.ir"]).code(0);
        assert_eq!(again.out, said.out, "after `{stage}`");
    }
    let said = place.llmc(&["ir", "tiny.toml", "--after", "autodif"]).code(2);
    assert!(said.err.contains("did you mean `autodiff`?"), "{}", said.err);
    let said = place.llmc(&["ir", "tiny.toml", "--function", "@forward", "--json"]).code(0);
    assert!(said.json()["text"].as_str().unwrap().contains("@forward"));
    place.llmc(&["ir", "tiny.toml", "--function", "nothing"]).code(2);
}

#[test]
fn graphs_are_drawn() {
    let place = Place::new();
    place.llmc(&["graph", "tiny.toml", "-o", "forward.svg"]).code(0);
    let svg = std::fs::read_to_string(place.path().join("forward.svg")).unwrap();
    assert!(svg.starts_with("<svg") || svg.starts_with("<?xml"));
    let dot = place.llmc(&["graph", "tiny.toml", "--format", "dot"]).code(0);
    assert!(dot.out.starts_with("digraph"), "{}", dot.out);
    place.llmc(&["graph", "tiny.toml", "-o", "forward.gv"]).code(0);
    let dot = std::fs::read_to_string(place.path().join("forward.gv")).unwrap();
    assert!(dot.starts_with("digraph"), "{dot}");
    // A name that says another format is an error, and nothing is written.
    for (args, extension) in
        [(&["-o", "x.png"][..], "`.png`"), (&["--format", "dot", "-o", "x.svg"], "`.svg`")]
    {
        let said = place.llmc(&[&["graph", "tiny.toml"], args].concat()).code(2);
        for part in ["graph::extension", extension, ".gv"] {
            assert!(said.err.contains(part), "{}", said.err);
        }
        assert!(!place.path().join(args[args.len() - 1]).exists());
    }
}

#[test]
fn every_key_of_a_new_spec_has_a_comment() {
    let place = Place::new();
    for (name, more) in [("a", &[][..]), ("b", &["--data", "corpus/**/*.txt", "--data", "a#b"])] {
        place.llmc(&[&["new", name], more].concat()).code(0);
        let text = std::fs::read_to_string(place.path().join(format!("{name}.toml"))).unwrap();
        let keys = text.lines().filter(|l| l.contains('=') && !l.starts_with('#'));
        for line in keys {
            assert!(line.contains(" # "), "`{line}` says nothing of itself");
        }
    }
}

#[test]
fn suggested_commands_are_quoted_for_the_shell() {
    let place = Place::new();
    let said = place.llmc(&["new", "we ird"]).code(0);
    assert!(said.err.contains("llmc train 'we ird.toml'"), "{}", said.err);
    place.llmc(&["new", ""]).code(2);
}

#[test]
fn help_has_help() {
    let place = Place::new();
    for args in [&["help", "--help"][..], &["help"], &["help", "runs", "diff"]] {
        let said = place.llmc(args).code(0);
        assert!(said.out.contains("Usage: llmc") && !said.out.contains('\x1b'), "{}", said.out);
    }
    assert!(place.llmc(&["help", "runs", "diff"]).out.contains("llmc runs diff 1f0c6b 93ab01"));
    let said = place.llmc(&["help", "tran"]).code(2);
    assert!(said.err.contains("`llmc` has no command `tran`"), "{}", said.err);
}

#[test]
fn a_file_that_is_no_tokenizer_is_named() {
    let place = Place::new();
    let said = place.llmc(&["tokenizer", "encode", "tiny.toml", "hi"]).code(3);
    assert!(said.err.contains("`tiny.toml` is not JSON"), "{}", said.err);
    assert!(!said.err.contains("`tokenizer.json`"), "{}", said.err);
}

#[test]
fn next_best_is_left_out_where_there_is_none() {
    let place = Place::new();
    let said = place.llmc(&["solve", "tiny.toml"]).code(0);
    let json = place.llmc(&["solve", "tiny.toml", "--json"]).code(0).json();
    assert_eq!(json["model"]["solution"]["alternatives"], serde_json::json!([]));
    assert!(!said.out.contains("next best"), "{}", said.out);
}

#[test]
fn data_and_tokenizer() {
    let place = Place::new();
    let said = place.llmc(&["data", "build", "tiny.toml"]).code(0);
    assert!(said.out.contains("validation"), "{}", said.out);
    // The recipe is the one that `check` prints, whatever the text says.
    let check = place.llmc(&["check", "tiny.toml", "--json"]).code(0).json();
    let recipe = check["recipes"]["dataset"].as_str().unwrap();
    let line = |name: &str| said.out.lines().find(|l| l.trim_start().starts_with(name)).unwrap();
    assert!(line("recipe ").ends_with(recipe), "{}", said.out);
    assert!(!line("text ").ends_with(recipe), "{}", said.out);
    let said = place.llmc(&["data", "show", "tiny.toml", "--count", "2", "--json"]).code(0);
    assert_eq!(said.json()["documents"].as_array().unwrap().len(), 2);
    place.llmc(&["tokenizer", "train", "tiny.toml", "-o", "tok.json"]).code(0);
    let said = place.llmc(&["tokenizer", "encode", "tok.json", "the narrow house"]).code(0);
    let ids: Vec<&str> = said.out.split_whitespace().collect();
    let said = place.llmc(&[&["tokenizer", "decode", "tok.json"], &ids[..]].concat()).code(0);
    assert_eq!(said.out, "the narrow house\n");
    place.llmc(&["tokenizer", "decode", "tok.json", "300"]).code(2);
}

#[test]
fn the_doctor_answers() {
    let place = Place::new();
    let json = place.llmc(&["doctor", "--json"]).code(0).json();
    assert!(json["machine"].is_object() && json["tools"].is_array());
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let place = Place::new();
    let mut command = place.command(&["ir", "tiny.toml", "--after", "legalise"]);
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let said = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stderr), "");
    assert_eq!(said.status.code(), Some(0));
}

#[test]
fn the_ir_of_a_spec_has_the_terms_of_its_loss() {
    let place = Place::new();
    let z_loss = ["--set", "training.z_loss=1e-4", "--function", "loss"];
    let said = place.llmc(&[&["ir", "tiny.toml"], &z_loss[..]].concat()).code(0);
    assert!(said.out.contains("log_z"), "{}", said.out);
    let said = place.llmc(&["ir", "tiny.toml", "--function", "loss"]).code(0);
    assert!(!said.out.contains("log_z"), "{}", said.out);
}

#[test]
fn a_plan_says_what_a_training_takes_before_it_takes_it() {
    let place = Place::new();
    let args = ["plan", "tiny.toml", "--threads", "1", "--no-calibrate"];
    let said = |more: &[&str]| -> common::Said {
        let args = [&args[..], more].concat();
        place.command(&args).env("LLMC_ISA", "scalar").output().unwrap().into()
    };
    let text = said(&[]).code(0);
    snapshot("plan.txt", &text.out);
    assert!(text.err.contains("not calibrated"), "{}", text.err);
    let json = said(&["--json"]).code(0).json();
    let memory = &json["memory"];
    let parts = ["weights", "gradients", "optimizer", "activations", "scratch", "plans"];
    let parts = parts.iter().chain(&["best_state", "staged", "working"]);
    let sum: u64 = parts.map(|part| memory[*part].as_u64().unwrap()).sum();
    assert_eq!(memory["peak_growth"], sum);
    assert!(json["time"].is_null() && json["launches"][0]["seconds"].is_null());
    assert_eq!((&json["threads"], &json["isa"]), (&1.into(), &"scalar".into()));
    // Nothing was made, and other sizes take other memory.
    assert!(!place.path().join("runs").exists());
    let other = said(&["--json", "--set", "training.microbatch_size=1"]).code(0).json();
    let bytes = |v: &serde_json::Value| v["memory"]["activations"].as_u64().unwrap();
    assert!(bytes(&other) < bytes(&json));
    assert_eq!(other["work"]["micro_batches"], 4);
    place.llmc(&["plan", "tiny.toml", "--recalibrate", "--no-calibrate"]).code(2);
    place.llmc(&["plan", "tiny.toml", "--threads", "0"]).code(2);
}

#[test]
fn explain_says_why_a_step_is_as_it_is() {
    let place = Place::new();
    let said = |more: &[&str]| -> common::Said {
        let args = [&["explain", "tiny.toml", "--threads", "1"][..], more].concat();
        place.command(&args).env("LLMC_ISA", "scalar").output().unwrap().into()
    };
    let text = said(&[]).code(0);
    snapshot("explain.txt", &text.out);
    assert!(text.err.contains("not calibrated"), "{}", text.err);
    // All of a part.
    snapshot("explain_op.txt", &said(&["cross_entropy"]).code(0).out);
    snapshot("explain_value.txt", &said(&["%activated"]).code(0).out);
    let decode = said(&["decode", "--weights", "q8_0", "--json"]).code(0).json();
    let kernels = decode["phases"][0]["kernels"].as_array().unwrap().clone();
    assert!(
        kernels.iter().any(|k| k["kernel"] == "packed_linear" || k["kernel"] == "quantized_linear")
    );
    assert!(kernels.iter().all(|k| !k["why"].as_str().unwrap().is_empty()));
    let said = place.llmc(&["explain", "tiny.toml", "atention"]).code(3);
    assert!(said.err.contains("did you mean `attention`?"), "{}", said.err);
    place.llmc(&["explain", "nope"]).code(2);
}
