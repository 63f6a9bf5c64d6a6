//! Lengths of documents by rule, and counts whose product is too large.

use super::*;

fn dataset(lines: &str) -> Resolved {
    resolved(&format!("[dataset]\n{lines}\n"))
}

#[test]
fn lengths_of_a_generated_corpus_are_values_of_the_spec() {
    for (lines, min, max) in [
        ("domains = [\"synthetic\"]", 16, Some(128)),
        ("domains = [\"synthetic\"]\nmax_length = 8", 8, Some(8)),
        ("domains = [\"synthetic\"]\nmin_length = 300", 300, Some(300)),
        ("domains = [\"synthetic\"]\nmin_length = 0", 0, Some(128)),
        ("domains = [\"synthetic\"]\nmax_length = \"none\"", 16, None),
        ("paths = [\"a\"]", 0, None),
        ("paths = [\"a\"]\ndomains = [\"synthetic\"]", 0, None),
    ] {
        let config = dataset(lines).dataset.unwrap();
        assert_eq!((config.min_length, config.max_length), (min, max), "{lines}");
    }
    let r = dataset("domains = [\"synthetic\"]");
    let rule = |path: &str| r.defaults.iter().find(|d| d.path == path).unwrap();
    assert_eq!(rule("dataset.min_length").value, 16);
    assert!(rule("dataset.max_length").rule.starts_with("128 "), "{r:?}");
}

#[test]
fn a_written_length_hashes_by_its_value_not_by_how_it_was_set() {
    let hash = |lines: &str| dataset(lines).hashes.dataset;
    let generated = "domains = [\"synthetic\"]";
    let with = |lines: &str| hash(&format!("{generated}\n{lines}"));
    assert_eq!(with("min_length = 16"), hash(generated));
    assert_eq!(with("max_length = 8"), with("min_length = 8\nmax_length = 8"));
    assert_ne!(with("min_length = 0"), hash(generated));
}

#[test]
fn the_pre_tokenizer_by_default_is_the_one_that_runs() {
    for kind in ["byte_bpe", "bpe"] {
        let r = resolved(&format!("[tokenizer]\ntype = \"{kind}\"\nvocab_size = 300\n"));
        assert_eq!(r.tokenizer.unwrap().pre_tokenizer, PreTokenizer::Gpt2);
        assert_eq!(r.values["tokenizer.pre_tokenizer"], "gpt2");
    }
    let (_, found) = parse("[tokenizer]\npre_tokenizer = \"whitespace\"", Format::Toml, "");
    assert_eq!(found[0].code, "spec::not_supported_yet");
}

#[test]
fn counts_that_overflow_together_are_refused() {
    let check = |lines: &str, want: &str| {
        let text = format!("{EXAMPLE}{lines}\n")
            .replace("batch_size = 2\nmicrobatch_size = 1\nmax_steps = 10\n", "");
        let shown = errors(&text, Goal::Written);
        match want {
            "" => assert_eq!(shown, ""),
            _ => assert!(shown.starts_with(want), "{shown}"),
        }
    };
    check("batch_size = 134_217_727\nmax_steps = 1_000_000", "");
    check(
        "batch_size = 134_217_728",
        "spec::out_of_range: a step of 2147483648 tokens is above the limit of 2147483647\n",
    );
    check(
        "batch_size = 9_007_199_254_740_992",
        "spec::out_of_range: a step of 144115188075855872 ",
    );
    check(
        "batch_size = 65_536\nmax_steps = 9_007_199_254_740_992",
        "spec::out_of_range: a run of 9444732965739290427392 tokens is above",
    );
    check(
        "batch_size = 65_536\neval_batches = 9_007_199_254_740_992",
        "spec::out_of_range: a validation of 9444732965739290427392 tokens is above",
    );
    check(
        "batch_size = 134_217_727\nz_loss = 1e-4",
        "spec::out_of_range: `z_loss` over 68719476224 logits of a micro-batch is above",
    );
}
