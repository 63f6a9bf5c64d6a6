//! Reading, cutting, duplicates, splits, the generated corpus, and what goes wrong.

use super::builder::pieces;
use super::*;
use crate::source::MemorySource;
use llmc_base::Span;
use proptest::prelude::*;

fn config(paths: &[&str]) -> DatasetConfig {
    let paths = paths.iter().map(|path| path.to_string()).collect();
    DatasetConfig { name: "test".into(), paths, ..DatasetConfig::default() }
}

fn built(config: &DatasetConfig, files: &[(&str, &str)]) -> Dataset {
    build(config, &MemorySource::new(files.iter().copied())).unwrap().0
}

fn codes(config: &DatasetConfig, files: &[(&str, &[u8])]) -> Vec<String> {
    let found = build(config, &MemorySource::new(files.iter().copied())).unwrap_err();
    found.into_iter().map(|diagnostic| diagnostic.code).collect()
}

fn places(dataset: &Dataset) -> Vec<(&str, u64)> {
    dataset.documents.iter().map(|d| (d.source.as_str(), d.index)).collect()
}

#[test]
fn files_are_documents_in_the_order_of_their_paths() {
    let files = [("d/b.txt", "two words"), ("d/a.txt", "one"), ("d/c.py", "x"), ("d/t/a.txt", "y")];
    let mut asked = config(&["d/b.txt", "d"]);
    assert_eq!(places(&built(&asked, &files)).len(), 4);
    asked.extensions = vec![".txt".into()];
    asked.exclude = vec!["**/t/**".into()];
    let dataset = built(&asked, &files);
    assert_eq!(places(&dataset), [("d/a.txt", 0), ("d/b.txt", 0)]);
    assert_eq!(dataset.documents[1].words, 2);
    asked.extensions = vec!["rs".into()];
    let found = build(&asked, &MemorySource::new(files)).unwrap_err();
    assert_eq!(found[0].code, "dataset::all_excluded");
    let help = found[0].help.as_deref();
    assert_eq!(help, Some("check `extensions` and `exclude`"), "keys that a spec knows");
}

#[test]
fn of_equal_documents_the_first_stays() {
    let files = [("b", "same text"), ("a", "other"), ("c", "same text")];
    let dataset = built(&config(&["c", "b", "a"]), &files);
    assert_eq!(places(&dataset), [("a", 0), ("b", 0)]);
    let [duplicate] = dataset.ledger.duplicates.as_slice() else { panic!("one duplicate") };
    assert_eq!((duplicate.dropped.source.as_str(), duplicate.kept.source.as_str()), ("c", "b"));
    let all = DatasetConfig { deduplicate: false, ..config(&["a", "b", "c"]) };
    assert_eq!(built(&all, &files).documents.len(), 3);
}

#[test]
fn long_files_are_cut_without_loss() {
    let text = "  a b\nc  d\te ";
    assert_eq!(pieces(text, 2), [("  a b\n", 2), ("c  d\t", 2), ("e ", 1)]);
    let asked = DatasetConfig { max_length: Some(2), ..config(&["f"]) };
    let dataset = built(&asked, &[("f", text)]);
    assert_eq!(dataset.texts(Split::Train).len() + dataset.texts(Split::Validation).len(), 3);
    let short = DatasetConfig { min_length: 2, ..asked };
    let dataset = built(&short, &[("f", text)]);
    assert_eq!(dataset.documents.len(), 2);
    assert_eq!(dataset.ledger.sources[0].too_short, 1);
}

#[test]
fn the_split_follows_the_content_only() {
    let files: Vec<(String, String)> =
        (0..400).map(|i| (format!("f{i:03}"), format!("document number {i}"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    let asked = DatasetConfig { validation_fraction: 0.25, ..config(&["**"]) };
    let all = built(&asked, &files);
    let held_out = all.split(Split::Validation).count();
    assert!((70..130).contains(&held_out), "{held_out}");
    let half = built(&asked, &files[200..]);
    for document in &half.documents {
        let same = all.documents.iter().find(|d| d.hash == document.hash).unwrap();
        assert_eq!(same.split, document.split);
    }
    let reseeded = built(&DatasetConfig { seed: 1, ..asked }, &files);
    assert_ne!(reseeded.content_hash, all.content_hash);
}

#[test]
fn both_sides_of_the_split_have_a_document() {
    for validation_fraction in [1e-300, 0.999_999] {
        let asked = DatasetConfig { validation_fraction, ..config(&["a", "b"]) };
        let dataset = built(&asked, &[("a", "one"), ("b", "two")]);
        assert_eq!(dataset.split(Split::Validation).count(), 1);
    }
    let (dataset, warnings) = build(&config(&["a"]), &MemorySource::new([("a", "one")])).unwrap();
    assert_eq!(dataset.split(Split::Train).count(), 1);
    assert_eq!(warnings[0].code, "dataset::no_validation");
}

#[test]
fn a_validation_share_is_not_rounded() {
    let at_least = |fraction: f64| {
        let asked = DatasetConfig { validation_fraction: fraction, ..config(&["a"]) };
        built(&asked, &[("a", "one")]).recipe_hash
    };
    assert_ne!(at_least(0.0), at_least(1e-7));
    assert_ne!(at_least(0.25), at_least(0.25 + 1e-9));
    // Both sides of one document's own draw.
    let files: Vec<(String, String)> =
        (0..50).map(|i| (format!("f{i:02}"), format!("document {i}"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    let held_out = |fraction: f64| {
        let asked = DatasetConfig { validation_fraction: fraction, ..config(&["**"]) };
        built(&asked, &files).split(Split::Validation).count()
    };
    let (mut low, mut high) = (0.5, 1.0);
    let n_low = held_out(low);
    assert!(n_low < held_out(0.999));
    while high - low > 1e-12 {
        let middle = (low + high) / 2.0;
        if held_out(middle) > n_low { high = middle } else { low = middle }
    }
    assert_eq!((held_out(low), held_out(high)), (n_low, n_low + 1));
}

#[test]
fn a_target_keeps_some_documents() {
    let files: Vec<(String, String)> =
        (0..50).map(|i| (format!("f{i:02}"), format!("w{i} w w w"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    let asked = DatasetConfig { target_tokens: Some(42), ..config(&["**"]) };
    let dataset = built(&asked, &files);
    assert_eq!(dataset.documents.len(), 11);
    assert!(places(&dataset).is_sorted());
    assert_eq!(dataset.ledger.sources.iter().map(|s| s.over_target).sum::<u64>(), 39);
    let more = DatasetConfig { target_tokens: Some(1000), ..asked };
    let (_, warnings) = build(&more, &MemorySource::new(files)).unwrap();
    assert_eq!(warnings[0].code, "dataset::below_target");
}

fn synthetic(target: u64, min: u64, max: u64) -> DatasetConfig {
    DatasetConfig {
        domains: vec!["synthetic".into()],
        languages: [("en".to_string(), 1.0)].into(),
        target_tokens: Some(target),
        min_length: min,
        max_length: Some(max),
        ..DatasetConfig::default()
    }
}

#[test]
fn the_generated_corpus_has_the_asked_size() {
    let dataset = built(&synthetic(1000, 4, 16), &[]);
    assert_eq!(dataset.ledger.train.words + dataset.ledger.validation.words, 1000);
    assert!(dataset.documents.iter().all(|d| (4..=16).contains(&d.words)));
    assert!(dataset.split(Split::Validation).count() > 0);
    let text = &dataset.documents[0].text;
    assert!(text.ends_with(['.', '?']) && text.starts_with(char::is_uppercase), "{text}");
}

/// The corpus is part of the definition: its text moves only with `VERSION`.
#[test]
fn the_generated_corpus_does_not_move() {
    let dataset = built(&synthetic(1000, 4, 16), &[]);
    assert_eq!(dataset.content_hash.short(), "f72d5eecc380");
    assert_eq!(dataset.recipe_hash.short(), "c34d2f1a9a53");
}

#[test]
fn generated_lengths_are_the_ones_asked_for() {
    let short = built(&synthetic(1000, 0, 3), &[]);
    let words = |n: u64| short.documents.iter().any(|d| d.words == n);
    assert!(words(1) && words(2) && words(3) && !words(4));
    let open = DatasetConfig { max_length: None, ..synthetic(20_000, 0, 1) };
    let longest = built(&open, &[]).documents.iter().map(|d| d.words).max().unwrap();
    assert!((100..=DEFAULT_MAX_LENGTH).contains(&longest), "{longest}");
}

#[test]
fn the_generated_corpus_can_run_out() {
    assert_eq!(codes(&synthetic(100_000, 1, 1), &[]), ["dataset::synthetic_exhausted"]);
}

#[test]
fn recipe_follows_content_and_config_but_not_paths() {
    let base = built(&config(&["a", "b"]), &[("a", "one"), ("b", "two")]);
    let moved = built(&config(&["x/a", "x/b"]), &[("x/a", "one"), ("x/b", "two")]);
    assert_eq!(base.recipe_hash, moved.recipe_hash);
    assert_eq!(base.content_hash, moved.content_hash);
    let edited = built(&config(&["a", "b"]), &[("a", "one"), ("b", "twos")]);
    assert_ne!(base.recipe_hash, edited.recipe_hash);
    let asked = DatasetConfig { min_length: 1, ..config(&["a", "b"]) };
    assert_ne!(base.recipe_hash, built(&asked, &[("a", "one"), ("b", "two")]).recipe_hash);
}

#[test]
fn invalid_utf8_names_file_and_byte() {
    let files: [(&str, &[u8]); 2] = [("a", b"fine"), ("b", b"bad \xff byte")];
    let source = MemorySource::new(files);
    let found = build(&config(&["**"]), &source).unwrap_err();
    assert_eq!(found[0].labels[0].span, Span::new("b", 4, 5));
    assert!(found[0].message.contains("0xff at offset 4"), "{}", found[0].message);

    let asked = DatasetConfig { invalid_utf8: InvalidUtf8::Skip, ..config(&["**"]) };
    let (dataset, _) = build(&asked, &source).unwrap();
    assert_eq!(places(&dataset), [("a", 0)]);
    assert_eq!(dataset.ledger.invalid_utf8[0].offset, 4);

    let asked = DatasetConfig { invalid_utf8: InvalidUtf8::Replace, ..config(&["**"]) };
    let (dataset, _) = build(&asked, &source).unwrap();
    assert_eq!(dataset.documents[1].text, "bad \u{FFFD} byte");
}

#[test]
fn what_cannot_be_done_is_said_all_at_once() {
    assert_eq!(codes(&DatasetConfig::default(), &[]), ["dataset::no_source"]);
    assert_eq!(codes(&config(&["none"]), &[]), ["dataset::no_files"]);
    assert_eq!(
        codes(&config(&["x[", "[bad", "a[b].txt", "[[]"]), &[("x[", b"x")]),
        ["dataset::bad_glob", "dataset::no_files", "dataset::no_files"]
    );
    assert_eq!(codes(&config(&["a"]), &[("a", b" \n ")]), ["dataset::empty"]);
    assert_eq!(
        codes(&config(&["a.jsonl"]), &[("a.jsonl", b"{}")]),
        ["dataset::format_not_supported"]
    );
    let asked = DatasetConfig {
        domains: vec!["syntetic".into()],
        languages: [("de".to_string(), 1.0)].into(),
        min_length: 3,
        max_length: Some(2),
        validation_fraction: 1.0,
        ..DatasetConfig::default()
    };
    let expect = [
        "dataset::domain_not_supported",
        "dataset::language_not_supported",
        "dataset::target_missing",
        "dataset::length_range",
        "dataset::validation_range",
    ];
    assert_eq!(codes(&asked, &[]), expect);
}

#[test]
fn the_ledger_is_json() {
    let dataset = built(&config(&["**"]), &[("a", "one"), ("b", "one"), ("c", "")]);
    let json: serde_json::Value = serde_json::from_str(&dataset.ledger.to_json()).unwrap();
    assert_eq!(json["sources"][1]["duplicates"], 1);
    assert_eq!(json["sources"][2]["empty"], 1);
    assert_eq!(json["duplicates"][0]["kept"]["source"], "a");
    assert_eq!(json["content_hash"], dataset.content_hash.to_string());
}

proptest! {
    #[test]
    fn pieces_are_the_text(text in "[a-c \n\u{a0}é]{0,60}", max in 1u64..5) {
        let pieces = pieces(&text, max);
        prop_assert_eq!(pieces.iter().map(|(piece, _)| *piece).collect::<String>(), &*text);
        for (piece, words) in pieces {
            prop_assert_eq!(piece.split_whitespace().count() as u64, words);
            prop_assert!(words <= max);
        }
    }

    #[test]
    fn generated_words_add_up(target in 1u64..400, min in 4u64..10, extra in 0u64..12) {
        let texts = synthetic::generate(&synthetic(target, min, min + extra), target).unwrap();
        let words: Vec<u64> = texts.iter().map(|t| t.split_whitespace().count() as u64).collect();
        prop_assert!(words.iter().all(|w| (min..=min + extra).contains(w)));
        let sum: u64 = words.iter().sum();
        prop_assert!((target..target + min).contains(&sum));
    }
}
