//! Every field of the spec reaches the stage that it speaks of, and no file is dropped in silence.

use super::*;
use crate::store::FsStore;
use llmc_base::Expr;
use llmc_spec::{Format, Goal, Resolved, Section};
use std::collections::BTreeMap;
use std::fs;

/// For each field, a value unlike the one of the spec that the tests start from.
const OTHER: &[(&str, &str)] = &[
    ("dataset.format", "\"text\""),
    ("dataset.train_on_prompt", "true"),
    ("dataset.name", "\"other\""),
    ("dataset.paths", "[\"b\"]"),
    ("dataset.extensions", "[\"py\"]"),
    ("dataset.exclude", "[\"*x*\"]"),
    ("dataset.domains", "[]"),
    ("dataset.languages", "{ en = 2.0 }"),
    ("dataset.target_tokens", "7"),
    ("dataset.min_length", "3"),
    ("dataset.max_length", "9"),
    ("dataset.deduplicate", "\"none\""),
    ("dataset.validation_fraction", "1e-7"),
    ("dataset.invalid_utf8", "\"skip\""),
    ("dataset.seed", "5"),
    ("tokenizer.name", "\"other\""),
    ("tokenizer.type", "\"char\""),
    ("tokenizer.vocab_size", "301"),
    ("tokenizer.min_frequency", "5"),
    ("tokenizer.pre_tokenizer", "\"none\""),
    ("tokenizer.special_tokens.unk", "\"<u>\""),
    ("tokenizer.special_tokens.pad", "\"<p>\""),
    ("tokenizer.special_tokens.bos", "\"<s>\""),
    ("tokenizer.special_tokens.eos", "\"</s>\""),
    ("tokenizer.special_tokens.additional", "[\"<x>\"]"),
];

/// Fields that act elsewhere.
const ELSEWHERE: &[&str] = &[
    // A filter of [`TextFiles`], tested below.
    "dataset.include",
    // Read where the documents are.
    "dataset.chat_template",
    // Compared with the dataset beside it when the spec is resolved.
    "tokenizer.dataset_hash",
];

fn resolved(settings: &BTreeMap<&str, &str>) -> Resolved {
    let mut text = String::new();
    for section in ["dataset", "tokenizer"] {
        text.push_str(&format!("[{section}]\n"));
        for (path, value) in settings {
            if let Some(name) = path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')) {
                text.push_str(&format!("{name} = {value}\n"));
            }
        }
    }
    let (spec, found) = llmc_spec::parse(&text, Format::Toml, "spec.toml");
    assert!(found.is_empty(), "{text}{found:?}");
    llmc_spec::resolve(&spec.unwrap(), Goal::Written, &|_| Expr::constant(0)).unwrap()
}

#[test]
fn every_field_of_dataset_and_tokenizer_is_read() {
    let base = BTreeMap::from([
        ("dataset.paths", "[\"a\"]"),
        ("dataset.format", "\"jsonl\""),
        ("dataset.domains", "[\"synthetic\"]"),
        ("tokenizer.type", "\"bpe\""),
        ("tokenizer.vocab_size", "300"),
    ]);
    let configs = |settings: &BTreeMap<&str, &str>| {
        let r = resolved(settings);
        (dataset_config(&r.dataset.unwrap()), tokenizer_config(&r.tokenizer.unwrap()))
    };
    let before = configs(&base);
    let sections = [Section::Dataset, Section::Tokenizer];
    for field in llmc_spec::fields().filter(|f| sections.contains(&f.section())) {
        if ELSEWHERE.contains(&field.path) {
            continue;
        }
        let other = OTHER.iter().find(|(path, _)| *path == field.path);
        let (path, value) = other.unwrap_or_else(|| panic!("`{}` is not tried", field.path));
        let mut settings = base.clone();
        settings.insert(path, value);
        assert_ne!(configs(&settings), before, "`{path}` changes nothing");
    }
}

#[test]
fn values_arrive_as_they_are_recorded() {
    let generated =
        BTreeMap::from([("dataset.domains", "[\"synthetic\"]"), ("tokenizer.vocab_size", "300")]);
    let config = |path: &'static str, value: &'static str| {
        let mut settings = generated.clone();
        settings.insert(path, value);
        dataset_config(&resolved(&settings).dataset.unwrap())
    };
    let by_default = config("dataset.seed", "0");
    assert_eq!((by_default.min_length, by_default.max_length), (16, Some(128)));
    assert_eq!(by_default.max_length, Some(llmc_data::dataset::DEFAULT_MAX_LENGTH));
    assert_eq!(config("dataset.min_length", "0").min_length, 0);
    assert_eq!(config("dataset.validation_fraction", "1e-7").validation_fraction, 1e-7);
}

fn files(settings: &[(&'static str, &'static str)]) -> TextFiles<'static> {
    let mut all =
        BTreeMap::from([("dataset.domains", "[\"synthetic\"]"), ("tokenizer.vocab_size", "300")]);
    all.extend(settings.iter().copied());
    TextFiles::new(&FsStore, &resolved(&all).dataset.unwrap())
}

#[test]
fn include_globs_filter_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    for name in ["a.py", "b.txt"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    assert_eq!(files(&[]).list(root).unwrap().len(), 2);
    let included = files(&[("dataset.include", "[\"**/*.py\"]")]);
    assert_eq!(included.list(root).unwrap(), [format!("{root}/a.py")]);
    assert_eq!(included.list(&format!("{root}/b.txt")).unwrap(), [""; 0]);
    assert_eq!(included.list(&format!("{root}/*")).unwrap().len(), 1);
    // Tests run in the folder of their crate.
    let relative = files(&[]).list("./src/pipeline/tex*.rs").unwrap();
    assert_eq!(relative, ["src/pipeline/text.rs"]);
}

/// Other systems refuse to make such a file.
#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_utf8_is_an_error_with_its_folder() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    fs::create_dir(folder.path().join("inner")).unwrap();
    fs::write(folder.path().join("a.py"), "x").unwrap();
    let name = std::ffi::OsStr::from_bytes(b"b\xff.txt");
    fs::write(folder.path().join("inner").join(name), "y").unwrap();
    for pattern in [root.to_string(), format!("{root}/**")] {
        let found = files(&[]).list(&pattern).unwrap_err();
        assert_eq!(found.code, "source::name_not_utf8");
        assert_eq!(found.labels[0].span.file, format!("{root}/inner"));
        assert!(found.message.contains("b\u{fffd}.txt"), "{}", found.message);
    }
    // Filters that leave it out settle the matter.
    for filter in [
        ("dataset.extensions", "[\"py\"]"),
        ("dataset.include", "[\"**/*.py\"]"),
        ("dataset.exclude", "[\"**/b*\"]"),
    ] {
        assert_eq!(files(&[filter]).list(root).unwrap(), [format!("{root}/a.py")], "{filter:?}");
    }
    assert_eq!(files(&[]).list(&format!("{root}/*")).unwrap().len(), 1);
}
