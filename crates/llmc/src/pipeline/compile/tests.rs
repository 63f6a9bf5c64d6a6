//! What compiling single specs writes and reports.

use super::super::graph_json::graph_json;
use super::{Compiled, join};
use llmc_spec::Section;
use serde_json::{Value, json};

fn part(section: Section, fields: Value) -> Compiled {
    Compiled::new(section, fields, None).unwrap()
}

fn parts() -> [Compiled; 3] {
    let dataset = part(Section::Dataset, json!({"domains": ["synthetic"], "target_tokens": 500}));
    let hash = dataset.fingerprint().unwrap().to_string();
    let tokenizer = json!({"type": "bpe", "vocab_size": 32, "dataset_hash": hash});
    // More rows than the tokenizer needs, and no context length: neither may come from elsewhere.
    let model = json!({"vocab_size": 48, "num_layers": 1, "hidden_size": 16, "num_heads": 2});
    [part(Section::Model, model), dataset, part(Section::Tokenizer, tokenizer)]
}

fn training(fields: Value) -> Compiled {
    Compiled::new(Section::Training, fields, Some(json!({"lr": 1e-3}))).unwrap()
}

#[test]
fn a_joined_spec_keeps_every_fingerprint() {
    let [model, dataset, tokenizer] = parts();
    let hash = |part: &Compiled| part.fingerprint().unwrap().to_string();
    let training = training(json!({
        "batch_size": 2, "max_steps": 1, "sequence_length": 16,
        "model_hash": hash(&model), "dataset_hash": hash(&dataset), "tokenizer_hash": hash(&tokenizer),
    }));
    let (project, _) = join(&training, &model, &dataset, &tokenizer).unwrap();
    let hashes = project.resolved.hashes;
    assert_eq!(hashes.model.unwrap(), model.fingerprint().unwrap());
    assert_eq!(hashes.tokenizer.unwrap(), tokenizer.fingerprint().unwrap());
    assert_eq!(hashes.training.unwrap(), training.fingerprint().unwrap());
}

#[test]
fn every_hash_that_does_not_match_is_reported() {
    let [model, dataset, tokenizer] = parts();
    let wrong = "0".repeat(64);
    let training = training(json!({
        "batch_size": 2, "max_steps": 1, "model_hash": wrong, "tokenizer_hash": wrong,
    }));
    let failure = join(&training, &model, &dataset, &tokenizer).unwrap_err();
    let codes: Vec<String> = failure.diagnostics().into_iter().map(|d| d.code).collect();
    assert_eq!(codes, ["spec::hash_mismatch"; 2]);
}

#[test]
fn the_graph_names_every_parameter_once() {
    let [model, ..] = parts();
    let module = model.project.build().unwrap();
    let graph = graph_json(&module, "m", "forward").unwrap();
    let weights = graph["tensors"].as_object().unwrap().values().filter(|t| {
        t["node"].is_null() && t["shape"].as_array().unwrap().iter().all(|d| *d != json!(-1))
    });
    let count: i64 = weights
        .map(|t| {
            t["shape"].as_array().unwrap().iter().map(|d| d.as_i64().unwrap()).product::<i64>()
        })
        .sum();
    assert_eq!(count as u64, model.project.model().unwrap().solution.params);
    assert!(graph_json(&module, "m", "backward").is_none());
}
