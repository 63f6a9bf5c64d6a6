//! Tests: hashes that a program wrote into its specs.

use crate::testing::params;
use crate::*;
use serde_json::json;

/// A tokenizer that was compiled for another dataset, and a training that names it rightly.
#[test]
fn a_tokenizer_of_another_dataset_is_one_problem() {
    let zeros = "0".repeat(64);
    let tokenizer = json!({ "type": "bpe", "vocab_size": 32, "dataset_hash": zeros });
    let model =
        json!({ "vocab_size": 32, "context_length": 16, "num_layers": 1, "hidden_size": 16 });
    let resolve_json = |value: &serde_json::Value| {
        let (spec, found) = from_json(value, &[]);
        assert_eq!(found, []);
        resolve(&spec.unwrap(), Goal::Written, &params)
    };
    let alone = resolve_json(&json!({ "tokenizer": tokenizer })).unwrap().hashes.tokenizer.unwrap();
    let dataset = json!({ "domains": ["synthetic"] });
    let joined = |hash: String| {
        let training = json!({ "tokenizer_hash": hash });
        let all = json!({
            "model": model, "dataset": dataset, "tokenizer": tokenizer, "training": training
        });
        resolve_json(&all).unwrap_err()
    };
    let found = joined(alone.to_string());
    let fields: Vec<_> = found.iter().filter_map(|d| d.field.as_deref()).collect();
    assert_eq!(fields, ["tokenizer.dataset_hash"]);
    assert!(found[0].message.contains("the dataset passed has fingerprint"), "{}", found[0]);
    assert!(found[0].help.as_ref().unwrap().starts_with("pass the dataset"), "{}", found[0]);
    assert_eq!(joined("1".repeat(64)).len(), 2);
}
