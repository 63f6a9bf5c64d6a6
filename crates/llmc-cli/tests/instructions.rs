//! From a trained run to one that answers: prompts with completions, learned by adapters.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, Said};

/// Asserts that a text is on either stream.
#[track_caller]
fn says(said: &Said, text: &str) {
    let Said { out, err, .. } = said;
    assert!(out.contains(text) || err.contains(text), "`{text}` in\n{out}\n{err}");
}

/// A spec that learns sums of letters from `sums.jsonl`, beside the weights of another run.
fn place() -> Place {
    let place = Place::new();
    let letters = ["a", "b", "ab", "ba", "abb"];
    let line = |a: &str, b: &str| {
        format!("{{\"prompt\": \"{a} + {b} =\", \"completion\": \" {a}{b}\"}}\n")
    };
    let lines = letters.iter().flat_map(|a| letters.iter().map(move |b| line(a, b)));
    place.write("sums.jsonl", &lines.collect::<String>());
    place.write("tiny.toml", common::TINY);
    let spec = common::TINY
        .replace(r#"domains = ["synthetic"]"#, "paths = [\"sums.jsonl\"]\nformat = \"jsonl\"")
        .replace("languages = { en = 1.0 }\ntarget_tokens = 2000\n", "")
        .replace("min_length = 10\n", "");
    place.write("sums.toml", &format!("{spec}lora = {{ rank = 2, alpha = 4.0 }}\n"));
    place
}

#[test]
fn adapters_learn_completions_beside_the_weights_of_a_run() {
    let place = place();
    says(&place.llmc(&["train", "sums.toml"]).code(3), "--from RUN");
    let base = place.llmc(&["train", "tiny.toml", "--json"]).code(0).event("result");
    let base = base["run"].as_str().unwrap();
    let tune = ["train", "sums.toml", "--from", base];
    let told = place.llmc(&tune).code(0);
    says(&told, "% of it learned");
    // q and v of two layers: two matrices of rank 2 beside each [16, 16].
    says(&told, "256 of ");
    says(&told, "256 in adapters");
    says(&told, "in adapters, the others frozen");
    let run = place.llmc(&[&tune[..], &["--json"]].concat()).code(0).event("result");
    assert_eq!(run["trained_parameters"], 256);
    let run = run["run"].as_str().unwrap();
    place.llmc(&["verify", run]).code(0);
    place.llmc(&["generate", run, "--prompt", "a + b =", "--tokens", "3"]).code(0);
    place.llmc(&["emit", run, "--to", "peft", "-o", "peft"]).code(0);
    assert!(place.path().join("peft/adapter_model.safetensors").exists());
    says(&place.llmc(&["emit", base, "--to", "peft", "-o", "none"]).code(3), "has no adapters");
    says(&place.llmc(&["plan", "sums.toml", "--no-calibrate"]).code(0), "frozen weights");
}

#[test]
fn data_shows_what_is_learned_and_names_bad_lines() {
    let place = place();
    says(&place.llmc(&["data", "build", "sums.toml"]).code(0), " learned");
    let shown = place.llmc(&["data", "show", "sums.toml", "--json", "--count", "1"]).code(0).json();
    let parts = serde_json::json!([
        {"text": "a + a =", "is_learned": false}, {"text": " aa", "is_learned": true},
    ]);
    assert_eq!(shown["documents"][0]["parts"], parts);
    place.write("sums.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": 1}\n");
    let refused = place.llmc(&["data", "build", "sums.toml"]).code(3);
    for text in ["dataset::record", "`sums.jsonl`, line 2", "`prompt` is a number, expected a text"]
    {
        says(&refused, text);
    }
}
