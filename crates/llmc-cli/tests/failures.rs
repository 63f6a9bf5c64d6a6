//! Work that does not succeed: what is said, the exit code, what stays.
#![allow(clippy::unwrap_used)]

mod common;

use common::Place;

#[test]
fn a_loss_that_is_not_finite_is_told_with_step_node_and_documents() {
    let place = Place::new();
    let args = ["train", "tiny.toml", "--set", "optimizer.lr=1e30"];
    let said = place.llmc(&args).code(1);
    assert!(said.err.contains("train::non_finite"), "{}", said.err);
    // The message is wrapped for people; for programs it is one text.
    let said = place.llmc(&[&args[..], &["--json"]].concat()).code(1);
    // One event per line, to the last.
    let found = said.lines().pop().unwrap();
    assert_eq!(found["event"], "error");
    let message = found["diagnostics"][0]["message"].as_str().unwrap();
    for part in ["at step 2", "first at ", "in rows ", "documents: `synthetic:en` #"] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    let list = place.llmc(&["runs", "list", "--json"]).code(0).json();
    assert_eq!(list["runs"][0]["status"], "failed");
    let run = list["runs"][0]["path"].as_str().unwrap();
    let read = |file: &str| std::fs::read_to_string(place.path().join(run).join(file)).unwrap();
    assert!(read("logs.txt").contains("not finite at step 2"));
    assert!(read("manifest.json").contains("not finite at step 2"));
    assert!(place.llmc(&["runs", "list"]).code(0).out.contains("failed"));
    place.llmc(&["verify", run]).code(0);
}

#[test]
fn absurd_numbers_are_refused() {
    let place = Place::new();
    for threads in ["1000000", "0"] {
        let said = place.llmc(&["train", "tiny.toml", "--threads", threads]).code(2);
        assert!(said.err.contains("train::threads"), "{}", said.err);
        assert!(said.err.contains(&format!("{threads} threads")), "{}", said.err);
    }
    let huge =
        ["--set", "training.batch_size=9007199254740991", "--set", "training.microbatch_size=1"];
    let said = place.llmc(&[&["train", "tiny.toml"], &huge[..]].concat()).code(3);
    assert!(said.err.contains("above the limit of 2147483647"), "{}", said.err);
    assert!(!place.path().join("runs").exists());
}

#[test]
fn a_changed_export_is_a_difference() {
    let place = Place::new();
    let result = place.llmc(&["train", "tiny.toml", "--json"]).code(0).event("result");
    let run = result["run"].as_str().unwrap();
    place.llmc(&["emit", run, "--to", "pytorch"]).code(0);
    let report = place.llmc(&["verify", run, "--json"]).code(0).json();
    let verified = report["verified"].as_array().unwrap();
    assert!(verified.iter().any(|name| name == "exports/pytorch"), "{verified:?}");
    let file = place.path().join(run).join("exports/pytorch/model.py");
    let mut text = std::fs::read(&file).unwrap();
    text.push(b'\n');
    std::fs::write(&file, text).unwrap();
    let said = place.llmc(&["verify", run]).code(4);
    assert!(said.out.contains("`exports/pytorch/model.py` differs"), "{}", said.out);
    // The run itself is as it was.
    let again = place.llmc(&["train", "tiny.toml", "--json"]).code(0).event("result");
    assert_eq!(again["status"], "already_complete");
}

#[test]
fn the_best_checkpoint_is_generated_from() {
    let place = Place::new();
    // A rate at which the loss on held-out text does not keep falling.
    let mut args = vec!["train", "tiny.toml", "--json"];
    for change in [
        "optimizer.lr=1",
        "training.schedule.type=constant",
        "training.max_steps=24",
        "training.eval_interval=1",
    ] {
        args.extend(["--set", change]);
    }
    let said = place.llmc(&args).code(0);
    let validations = said.lines().into_iter().filter(|e| e["event"] == "validation");
    let best = validations
        .min_by(|a, b| a["loss"].as_f64().unwrap().total_cmp(&b["loss"].as_f64().unwrap()))
        .unwrap();
    let result = said.event("result");
    assert_ne!(best["step"], result["step"], "the last step is the best; choose another rate");
    let run = result["run"].as_str().unwrap();
    let text = |more: &[&str]| {
        let args = ["generate", run, "--prompt", "the ", "-n", "4", "--json"];
        place.llmc(&[&args[..], more].concat()).code(0).json()
    };
    assert_eq!(text(&["--best"])["step"], best["step"]);
    assert_eq!(text(&[])["step"], result["step"]);
}

#[test]
fn an_error_of_the_data_points_into_the_spec() {
    let place = Place::new();
    let large = ["--set", "tokenizer.vocab_size=90000", "--set", "model.vocab_size=90000"];
    let said = place.llmc(&[&["train", "tiny.toml"], &large[..]].concat()).code(3);
    assert!(said.err.contains("tokenizer.vocab_size=90000"), "{}", said.err);
    let spec = common::TINY.replace(r#"domains = ["synthetic"]"#, r#"paths = ["no-such-folder"]"#);
    let spec = spec.replace("languages = { en = 1.0 }\ntarget_tokens = 2000\n", "");
    place.write("piped.toml", &spec);
    let said = place.llmc(&["train", "piped.toml"]).code(3);
    assert!(
        said.err.contains("piped.toml:13:9") && said.err.contains("no-such-folder"),
        "{}",
        said.err
    );
}
