//! From a spec to a verified run and its uses, through the binary.

#![allow(clippy::unwrap_used)]

mod common;

use common::Place;
use serde_json::Value;
use std::path::PathBuf;

/// What a training command came to, and the counts of the stage cache.
#[track_caller]
fn trained(place: &Place, args: &[&str]) -> (Value, Value) {
    let said = place.llmc(&[args, &["--json"]].concat()).code(0);
    (said.event("result"), said.event("cache")["stages"].clone())
}

#[test]
fn a_run_from_spec_to_export() {
    let place = Place::new();
    let (result, stages) = trained(&place, &["train", "tiny.toml"]);
    assert_eq!(result["status"], "complete");
    assert_eq!(result["step"], 8);
    for stage in ["dataset", "tokenizer", "shards"] {
        assert_eq!((&stages[stage]["hits"], &stages[stage]["stored"]), (&0.into(), &1.into()));
    }
    let run = result["run"].as_str().unwrap();

    // The same recipe is not repeated; another learning rate reuses the data.
    let (again, _) = trained(&place, &["train", "tiny.toml"]);
    assert_eq!(
        (&again["status"], &again["weights"]),
        (&"already_complete".into(), &result["weights"])
    );
    let (other, stages) = trained(&place, &["train", "tiny.toml", "--set", "training.lr=1e-3"]);
    assert_ne!(other["recipe"], result["recipe"]);
    for stage in ["dataset", "tokenizer", "shards"] {
        assert_eq!((&stages[stage]["hits"], &stages[stage]["stored"]), (&1.into(), &0.into()));
    }

    let list = place.llmc(&["runs", "list", "--json"]).code(0).json();
    assert_eq!(list["runs"].as_array().unwrap().len(), 2);
    assert!(place.llmc(&["runs", "list"]).code(0).out.contains("complete"));
    let other = other["run"].as_str().unwrap();
    let diff = place.llmc(&["runs", "diff", run, other, "--json"]).code(4).json();
    assert_eq!(diff["values"].as_object().unwrap().keys().collect::<Vec<_>>(), ["optimizer.lr"]);
    place.llmc(&["runs", "diff", run, run]).code(0);
    assert!(place.llmc(&["runs", "show", run]).code(0).out.contains("recipe"));

    let said = place.llmc(&["generate", run, "--prompt", "the ", "-n", "12"]).code(0);
    assert!(said.out.starts_with("the ") && said.out.ends_with('\n'), "{}", said.out);
    let same = place.llmc(&["generate", run, "--prompt", "the ", "-n", "12"]).code(0);
    assert_eq!(said.out, same.out);
    let said = place.llmc(&["generate", run, "--temperature", "-1", "--min-p", "2"]).code(2);
    assert!(said.err.contains("sampling::temperature") && said.err.contains("sampling::min_p"));
    let options = ["--logit-bias", "101=100", "--logprobs", "2", "--json"];
    let said = place.llmc(&[&["generate", run, "-n", "3"], &options[..]].concat()).code(0).json();
    assert_eq!((&said["finish"], &said["new_tokens"]), (&"length".into(), &3.into()));
    let tokens = said["logprobs"].as_array().unwrap();
    assert!(tokens.iter().all(|t| t["id"] == 101 && t["top"].as_array().unwrap().len() == 2));
    let letter = tokens[0]["text"].as_str().unwrap();
    let options = ["--logit-bias", "101=100", "--stop", letter, "--json"];
    let said = place.llmc(&[&["generate", run], &options[..]].concat()).code(0).json();
    assert_eq!((&said["finish"], &said["text"]), (&"stop".into(), &"".into()));

    for (target, file) in [
        ("pytorch", "model.py"),
        ("huggingface", "config.json"),
        ("safetensors", "model.safetensors"),
    ] {
        let said = place.llmc(&["emit", run, "--to", target]).code(0);
        assert!(said.out.contains(file) && said.out.contains("not checked here"), "{}", said.out);
        place.llmc(&["emit", run, "--to", target]).code(2);
    }

    let report = place.llmc(&["rerun", run, "--threads", "1", "--json"]).code(0).event("result");
    assert_eq!((&report["same"], &report["original"]), (&true.into(), &result["weights"]));

    let (more, _) = trained(&place, &["resume", run, "--steps", "12"]);
    assert_eq!(more["step"], 12);
    place.llmc(&["resume", run, "--steps", "3"]).code(2);

    let report = place.llmc(&["verify", run, "--json"]).code(0).json();
    assert_eq!(report["ok"], true);
    let file = checkpoint_file(&place, run);
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let said = place.llmc(&["verify", run]).code(4);
    assert!(
        said.out.contains("weights.safetensors") && said.out.contains("differs"),
        "{}",
        said.out
    );
}

fn checkpoint_file(place: &Place, run: &str) -> PathBuf {
    let folder = place.path().join(run).join("checkpoints/step-000008");
    folder.join("weights.safetensors")
}

#[test]
fn plain_lines_where_there_is_no_terminal() {
    let place = Place::new();
    let said = place.llmc(&["train", "tiny.toml"]).code(0);
    assert!(said.err.contains("step 8/8  loss"), "{}", said.err);
    assert!(!said.err.contains('\x1b') && !said.out.contains('\x1b'));
    let said = place.llmc(&["train", "tiny.toml", "--quiet", "--output", "other"]).code(0);
    assert_eq!(said.err, "");
    let said = place.llmc(&["train", "tiny.toml", "--tui", "--output", "third"]).code(0);
    assert!(said.err.contains("no terminal for `--tui`"), "{}", said.err);
    assert!(said.err.contains("step 8/8  loss") && !said.err.contains('\x1b'), "{}", said.err);
}

#[test]
fn an_unknown_run_names_those_that_are() {
    let place = Place::new();
    let said = place.llmc(&["verify"]).code(2);
    assert!(said.err.contains("llmc quickstart"), "{}", said.err);
}

#[test]
fn a_quantised_folder_generates_what_the_run_does_with_such_weights() {
    let place = Place::new();
    let result = place.llmc(&["train", "tiny.toml", "--json"]).code(0).event("result");
    let run = result["run"].as_str().unwrap();
    let said = place.llmc(&["quantize", run, "--to", "bf16", "-o", "small"]).code(0);
    assert!(said.out.contains("wrote small with bf16 weights"), "{}", said.out);
    assert!(said.out.contains("held-out loss"), "{}", said.out);
    let text =
        |args: &[&str]| place.llmc(&[&["generate"], args, &["-n", "20"]].concat()).code(0).out;
    assert_eq!(text(&["small"]), text(&[run, "--weights", "bf16"]));
    let said = place.llmc(&["generate", "small", "--weights", "q8_0"]).code(2);
    assert!(said.err.contains("generate::weights"), "{}", said.err);
    let again = place.llmc(&["quantize", run, "--to", "q4_0", "--json"]).code(0).json();
    assert_eq!(again["format"], "q4_0");
    assert!(place.path().join(run).join("exports/q4_0/COMPLETE").exists());
    place.llmc(&["quantize", run, "--to", "q4_0"]).code(2);
}

#[test]
fn train_from_a_run_takes_its_weights_and_says_what_does_not_fit() {
    let place = Place::new();
    let (base, _) = trained(&place, &["train", "tiny.toml"]);
    let run = base["run"].as_str().unwrap();
    let id = &run.rsplit('/').next().unwrap()[..6];
    let more = ["--set", "training.max_steps=2", "--set", "dataset.seed=3"];
    let tune = |from: &str| {
        trained(&place, &[&["train", "tiny.toml", "--from", from], &more[..]].concat()).0
    };
    let (last, sixth) = (tune(id), tune(&format!("{id}@6")));
    assert_eq!((&last["step"], &last["status"]), (&2.into(), &"complete".into()));
    assert!(last["recipe"] != sixth["recipe"] && last["recipe"] != base["recipe"]);
    assert_eq!(tune(run)["status"], "already_complete");
    let shown = place.llmc(&["runs", "show", last["run"].as_str().unwrap()]).code(0).out;
    assert!(shown.contains("the weights of step 8 of "), "{shown}");

    let wide = ["train", "tiny.toml", "--set", "model.intermediate_size=48", "--from", id];
    let said = place.llmc(&wide).code(3);
    assert!(said.err.contains("finetune::shapes"), "{}", said.err);
    place.llmc(&["train", "tiny.toml", "--from", "nowhere"]).code(2);
    place.llmc(&["train", "tiny.toml", "--from", &format!("{id}@7")]).code(3);
}

#[test]
fn the_average_of_the_weights_generates_and_exports() {
    let place = Place::new();
    let settings = ["--set", "training.ema=0.5", "--set", "training.early_stopping.patience=9"];
    let (result, _) = trained(&place, &[&["train", "tiny.toml"], &settings[..]].concat());
    assert_eq!((&result["is_stopped_early"], &result["skipped"]), (&false.into(), &0.into()));
    assert!(result["validation"]["ema_loss"].is_number());
    let run = result["run"].as_str().unwrap();
    place.llmc(&["generate", run, "--ema", "-n", "4"]).code(0);
    place.llmc(&["emit", run, "--to", "safetensors", "--ema"]).code(0);
    place.llmc(&["emit", run, "--to", "safetensors"]).code(0);
    let file = |folder: &str| {
        let folder = place.path().join(run).join("exports").join(folder);
        std::fs::read(folder.join("model.safetensors")).unwrap()
    };
    assert!(file("safetensors-ema") != file("safetensors"));
    place.llmc(&["verify", run]).code(0);
    let (plain, _) = trained(&place, &["train", "tiny.toml"]);
    let said = place.llmc(&["generate", plain["run"].as_str().unwrap(), "--ema"]).code(2);
    assert!(said.err.contains("run::no_ema"), "{}", said.err);
}

#[test]
fn a_group_that_names_nothing_has_its_place() {
    let place = Place::new();
    let groups = r#"optimizer.groups=[{ pattern = "layer.*", lr_scale = 0.1 }]"#;
    let said = place.llmc(&["check", "tiny.toml", "--set", groups]).code(3);
    assert!(said.err.contains("optimizer::group") && said.err.contains("layer.*"), "{}", said.err);
    let groups = r#"optimizer.groups=[{ pattern = "1-D", lr_scale = 0.1 }]"#;
    place.llmc(&["check", "tiny.toml", "--set", groups]).code(0);
}

#[test]
fn why_looks_at_a_step_and_at_the_one_that_failed() {
    let place = Place::new();
    let (result, _) = trained(&place, &["train", "tiny.toml"]);
    let run = result["run"].as_str().unwrap();
    let said = place.llmc(&["why", run, "--step", "7"]).code(0);
    for part in ["step 7", ", as recorded", "gradient norms", "layers.1", "synthetic:en #"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let report = place.llmc(&["why", run, "--step", "7", "--json"]).code(0).json();
    assert_eq!((&report["from_step"], &report["is_as_recorded"]), (&6.into(), &true.into()));
    assert_eq!(report["layers"].as_array().unwrap().len(), 4);
    assert!(place.llmc(&["why", run]).code(2).err.contains("why::step"));

    let wild = ["--set", "optimizer.lr=1e30", "--output", "wild"];
    place.llmc(&[&["train", "tiny.toml"], &wild[..]].concat()).code(1);
    let said = place.llmc(&["why", "--runs", "wild"]).code(0);
    assert!(said.out.contains("not finite") && said.out.contains("` in `@"), "{}", said.out);
    let report = place.llmc(&["why", "--runs", "wild", "--json"]).code(0).json();
    assert_eq!(report["step"], 2);
    assert!(!report["non_finite"]["documents"].as_array().unwrap().is_empty());
}
