//! `llmc generate` from runs and exports, many prompts at once, and with proposals of the text itself.

// The whole program is a test; helpers panic on purpose.
#![allow(clippy::unwrap_used)]

mod common;

use common::Place;
use serde_json::Value;

/// A trained run, and the folders of its exports.
fn place() -> (Place, Vec<String>) {
    let place = Place::new();
    place.llmc(&["train", "tiny.toml", "--quiet"]).code(0);
    let formats = ["safetensors", "pytorch", "huggingface"];
    let exports = formats.map(|format| {
        let folder = format!("out-{format}");
        place.llmc(&["emit", "--to", format, "-o", &folder, "--quiet"]).code(0);
        folder
    });
    (place, exports.into())
}

fn text(place: &Place, args: &[&str]) -> Value {
    let said = place.llmc(&[&["generate", "-n", "40", "--json"], args].concat()).code(0);
    said.json()["text"].clone()
}

#[test]
fn runs_and_exports_are_one_model() {
    let (place, exports) = place();
    let run = place.llmc(&["runs", "list", "--json"]).json()["runs"][0]["id"]
        .as_str()
        .unwrap()
        .to_string();
    let prompt = ["--prompt", "the ", "--seed", "4"];
    let expected = text(&place, &prompt);
    let folder = format!("runs/{run}");
    let sources = [&run[..6], &folder, &exports[0], &exports[1], &exports[2]];
    for source in sources {
        assert_eq!(text(&place, &[&[source], &prompt[..]].concat()), expected, "{source}");
    }
    let mut command = place.command(&["chat", &exports[2], "-n", "3", "--json"]);
    let said: common::Said = command.output().unwrap().into();
    assert_eq!(said.code(0).event("start")["step"], 8);

    // An export that was changed is refused.
    let weights = place.path().join(&exports[2]).join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let said = place.llmc(&["generate", &exports[2]]).code(4);
    assert!(said.err.contains("export::damaged"), "{}", said.err);
    place.llmc(&["generate", "cache"]).code(2);
}

#[test]
fn many_prompts_at_once_are_what_each_is_alone() {
    let place = place().0;
    let prompts = ["the ", "", "a b", "the w", "zz", "and so on and so on"];
    place.write("prompts.txt", &prompts.join("\n"));
    let seed = ["--seed", "9", "--stop", "q"];
    for batch in ["1", "3", "8"] {
        let args = ["generate", "-n", "40", "--prompts", "prompts.txt", "--batch", batch, "--json"];
        let said = place.llmc(&[&args[..], &seed].concat()).code(0).json();
        let texts = said["texts"].as_array().unwrap();
        assert_eq!(texts.len(), prompts.len());
        // All begin alike, if only with the token that starts a text.
        let count = |name: &str| said[name].as_u64().unwrap();
        assert!(count("shared_tokens") >= 5 && count("computed_tokens") > 6, "{said}");
        for (found, prompt) in texts.iter().zip(prompts) {
            assert_eq!(found["prompt"], prompt);
            let alone = text(&place, &[&["--prompt", prompt], &seed[..]].concat());
            assert_eq!(found["text"], alone, "{prompt:?} in {batch}");
        }
    }
    let said = place.llmc(&["generate", "--prompts", "prompts.txt", "-n", "2"]).code(0);
    assert!(said.out.contains("==> 6 <==\nand so on and so on"), "{}", said.out);
    place.llmc(&["generate", "--prompts", "prompts.txt", "--prompt", "a"]).code(2);
}

#[test]
fn a_narrow_cache_gives_one_text_whatever_the_way() {
    let place = place().0;
    place.write("prompts.txt", "the \nthe w\nthe end of the end of the");
    for dtype in ["bf16", "int8"] {
        let format = ["--kv-cache-dtype", dtype, "--seed", "3"];
        let args = ["generate", "-n", "30", "--prompts", "prompts.txt", "--batch", "2", "--json"];
        let said = place.llmc(&[&args[..], &format].concat()).code(0).json();
        for found in said["texts"].as_array().unwrap() {
            let prompt = ["--prompt", found["prompt"].as_str().unwrap(), "-n", "30"];
            for more in [&["--speculate", "4"][..], &[]] {
                let args = [&["generate", "--json"], &prompt[..], &format, more].concat();
                assert_eq!(place.llmc(&args).code(0).json()["text"], found["text"], "{dtype}");
            }
        }
    }
    let said = place.llmc(&["generate", "--kv-cache-dtype", "fp8"]).code(2);
    assert!(said.err.contains("int8"), "{}", said.err);
}

#[test]
fn proposals_change_no_token() {
    let place = place().0;
    let prompt = ["--prompt", "the end of the end of the end of the"];
    for how in [["--temperature", "0"], ["--seed", "1"], ["--seed", "2"], ["--stop", "e"]] {
        let args = [&prompt[..], &how].concat();
        let expected = text(&place, &args);
        for most in ["1", "4", "16"] {
            let said = place.llmc(
                &[&["generate", "-n", "40", "--json", "--speculate", most], &args[..]].concat(),
            );
            let said = said.code(0).json();
            assert_eq!(said["text"], expected, "{how:?} {most}");
            let count = |name: &str| said["speculation"][name].as_u64().unwrap();
            assert!(count("accepted") <= count("proposed"));
            let tokens = said["new_tokens"].as_u64().unwrap();
            let ended = u64::from(said["finish"] == "end_of_text");
            assert_eq!(count("passes") + count("accepted"), tokens + ended, "{said}");
        }
    }
    // Greedy text of a model this small repeats itself, so many are accepted.
    let greedy = ["--temperature", "0", "--logit-bias", "0=-100"];
    let args = ["generate", "-n", "100", "--json", "--speculate", "8"];
    let counts = &place.llmc(&[&args[..], &greedy].concat()).code(0).json()["speculation"];
    assert!(counts["accepted"].as_u64().unwrap() > 2 * counts["passes"].as_u64().unwrap());
}
