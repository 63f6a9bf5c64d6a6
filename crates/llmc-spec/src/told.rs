//! Tests: what every diagnostic of this crate tells: a code, a place with a text at its
//! caret, line and column, and what to try.

use crate::testing::{params, show};
use crate::*;
use llmc_base::Diagnostic;
use std::collections::BTreeSet;

const MODEL: &str = "[model]\nvocab_size = 32\nnum_layers = 1\nhidden_size = 16\n";

/// Every diagnostic about `text`, which is the file `s`, tells everything.
pub(crate) fn check_told(found: &[Diagnostic], text: &str) {
    for d in found {
        let shown = show(std::slice::from_ref(d), text);
        assert!(d.code.starts_with("spec::") && !d.message.is_empty(), "{shown}");
        assert!(d.help.as_deref().is_some_and(|h| h.len() > 4 && !h.ends_with('.')), "{shown}");
        assert!(!d.labels.is_empty(), "{shown}");
        for label in &d.labels {
            let span = &label.span;
            let text = span.argument().unwrap_or(text);
            assert!(span.file == "s" || span.file.starts_with("--set "), "{shown}");
            assert!(!label.text.is_empty(), "{shown}");
            assert!(text.get(span.start..span.end).is_some(), "{shown}");
            let place = span.line_column(text);
            assert_eq!((span.line, span.column), (Some(place.0), Some(place.1)), "{shown}");
        }
    }
}

/// Everything that parsing and resolving find.
fn found(text: &str, format: Format, sets: &[&str]) -> Vec<Diagnostic> {
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    let (spec, mut found) = parse_with(text, format, "s", &sets);
    if let Some(spec) = spec {
        match resolve(&spec, Goal::Training, &params) {
            Ok(resolved) => found.extend(refuse_defaults(&spec, &resolved.defaults)),
            Err(more) => found.extend(more),
        }
    }
    found
}

fn toml(text: &str) -> Vec<Diagnostic> {
    let found = found(text, Format::Toml, &[]);
    check_told(&found, text);
    found
}

#[test]
fn every_code_has_a_place_a_caret_and_a_help() {
    let data = "[dataset]\ndomains = [\"synthetic\"]\n[tokenizer]\ntype = \"char\"\n";
    let zeros = "0".repeat(64);
    let many: String = (0..200).map(|i| format!("k{i} = 1\n")).collect();
    let cases = [
        ("spec::syntax", "a = \"x".to_string()),
        ("spec::empty", String::new()),
        ("spec::too_many", format!("[model]\n{many}")),
        ("spec::unknown_key", format!("{MODEL}hiden_size = 1\n")),
        ("spec::duplicate_key", format!("{MODEL}n_embd = 16\n")),
        ("spec::wrong_type", format!("{MODEL}num_heads = 2.5\n")),
        ("spec::out_of_range", format!("{MODEL}dropout = 1\n")),
        ("spec::unknown_value", format!("{MODEL}norm = \"x\"\n")),
        ("spec::not_supported_yet", format!("{MODEL}attention = \"flash\"\n")),
        ("spec::missing", MODEL.to_string()),
        ("spec::conflict", format!("{MODEL}positional_encoding = \"none\"\nrope_theta = 1\n")),
        ("spec::infeasible", format!("{MODEL}num_heads = 3\n")),
        ("spec::hash_mismatch", format!("{MODEL}{data}[training]\nmodel_hash = \"{zeros}\"\n")),
        ("spec::implicit", format!("{MODEL}{data}")),
    ];
    let mut seen = BTreeSet::new();
    for (code, text) in &cases {
        let found = toml(text);
        assert!(found.iter().any(|d| d.code == *code), "{code}: {}", show(&found, text));
        seen.insert(*code);
    }
    // Two that no text alone can have.
    let spec = parse(MODEL, Format::Toml, "s").0.unwrap();
    let bad = |_: &Architecture| llmc_base::Expr::symbol("width");
    let unsolvable = resolve(&spec, Goal::Model, &bad).unwrap_err();
    check_told(&unsolvable, MODEL);
    seen.insert("spec::unsolvable");
    assert_eq!(unsolvable[0].code, "spec::unsolvable");
    let encoding = decode(b"[model]\nname = \"\xff\"\n", "s").unwrap_err();
    assert_eq!(encoding.code, "spec::encoding");
    assert_eq!(encoding.message, "`s` is not UTF-8: byte 16 (line 2) is 0xff");
    let span = &encoding.labels[0].span;
    assert_eq!((span.start, span.line, span.column), (16, Some(2), Some(9)));
    assert!(encoding.help.is_some());
    seen.insert("spec::encoding");
    let documented: BTreeSet<_> = crate::reference::CODES.iter().map(|(code, _)| *code).collect();
    assert_eq!(seen, documented);
}

#[test]
fn every_refused_value_says_what_to_write() {
    for (text, help) in [
        ("[model]\nvocab_size = \"many\"", "write an integer from 1 to 4294967296, \"free\", or"),
        ("[model]\nnum_heads = 2.5", "write an integer from 1 to 4294967296, \"free\", or"),
        ("[dataset]\nlanguages = { en = \"a\" }", "write a table from names to numbers above 0"),
        ("[optimizer]\nbetas = [0.9]", "write two numbers, each at least 0 and less than 1"),
        ("[model]\nnum_layers = 0", "write an integer from 1 to 4294967296, \"free\", or"),
        ("[model]\ndropout = 2", "write a number at least 0 and less than 1"),
        ("[model]\ntie_embeddings = 1", "write `true` or `false`, without quotes"),
        ("[model]\nname = 1", "write a text in double quotes"),
        ("[model]\nquantize = 3", "it can be none; not supported yet: int8, int4, nf4, fp8"),
        ("[training]\nmodel_hash = \"x\"", "write the 64 hexadecimal digits"),
        ("[training]\nseed = -1", "write an integer from 0 to 9007199254740992; the default is 0"),
        ("[dataset]\npaths = [1]", "write a list of texts in double quotes"),
        ("[model]\ntarget_params = \"big\"", "write an integer, or a text such as \"125M\""),
    ] {
        let shown = show(&toml(text), text);
        assert!(shown.contains(&format!("help: {help}")), "{shown}");
    }
}

#[test]
fn every_syntax_error_says_what_to_try() {
    use Format::{Json, Toml, Yaml};
    for (text, format, help) in [
        ("a = \"x\n", Toml, "end the text with the quote"),
        ("a = \"\\q\"\n", Toml, "write `\\\\` for a backslash"),
        ("[model\n", Toml, "close the header"),
        ("a\n", Toml, "write `key = value`"),
        ("a = [1\n", Toml, "close every `[`"),
        ("a = x y\n", Toml, "put a text in double quotes"),
        ("model:\n\tname: x\n", Yaml, "indent with spaces"),
        ("model: {a: 1\n", Yaml, "close every `[` and `{`"),
        ("a: 1\n b: 2\n", Yaml, "indent all fields of a section alike"),
        ("model: {}\n---\nmodel: {}\n", Yaml, "remove the `---`"),
        ("a: \"x\n", Yaml, "end the text with the quote"),
        ("{\"model\": {},}", Json, "remove the comma"),
        ("{\"a\": [1,]}", Json, "remove the comma"),
        ("{'a': 1}", Json, "JSON has double quotes only"),
        ("{\"a\": 1", Json, "close every"),
        ("// x\n{}", Json, "JSON has no comments"),
    ] {
        let found = found(text, format, &[]);
        check_told(&found, text);
        let shown = show(&found, text);
        assert!(found.iter().any(|d| d.code == "spec::syntax"), "{shown}");
        assert!(shown.contains(&format!("help: {help}")), "{shown}");
    }
}

#[test]
fn an_empty_spec_is_one_error_in_three_formats() {
    use Format::{Json, Toml, Yaml};
    for (text, format) in [
        ("", Toml),
        ("# c\n\n", Toml),
        ("spec_version = 1\n", Toml),
        ("", Yaml),
        ("# c\n", Yaml),
        ("---\n", Yaml),
        ("{}", Yaml),
        ("", Json),
        (" \n", Json),
        ("{}", Json),
    ] {
        let (spec, found) = parse(text, format, "s");
        check_told(&found, text);
        assert!(spec.is_none());
        let codes: Vec<_> = found.iter().map(|d| d.code.as_str()).collect();
        assert_eq!(codes, ["spec::empty"], "{text:?} {format:?}");
        assert!(found[0].help.as_ref().unwrap().contains("[model], [dataset], [tokenizer]"));
    }
    let set = ["model.vocab_size=32".to_string()];
    let (_, found) = parse_with("", Toml, "s", &set);
    assert!(found.iter().all(|d| d.code == "spec::missing"), "{found:?}");
}

#[test]
fn a_range_names_the_end_that_was_passed_and_the_value_as_written() {
    for (line, want) in [
        ("[training]\nseed = 18446744073709551615", "is 18446744073709551615, but must be at most"),
        ("[training]\nseed = -1", "is -1, but must be at least 0"),
        ("[optimizer]\nlr = -1", "is -1, but must be at least 0"),
        ("[optimizer]\nlr = -1e0", "is -1e0, but must be at least 0"),
        ("[optimizer]\nlr = inf", "is inf, but must be a finite number"),
        ("[dataset]\nvalidation_fraction = 1", "is 1, but must be less than 1"),
        ("[dataset]\nvalidation_fraction = -0.50", "is -0.50, but must be at least 0"),
        ("[model]\nvocab_size = 4_294_967_297", "is 4_294_967_297, but must be at most 4294967296"),
        ("[model]\nnum_heads = 2.50", "not a number (2.50)"),
    ] {
        let shown = show(&toml(line), line);
        assert!(shown.contains(want), "{shown}");
    }
}

#[test]
fn words_are_found_in_any_case_and_those_that_work_come_first() {
    let sets = ["model.activation=SwiGLU"];
    let found = found(MODEL, Format::Toml, &sets);
    let shown = show(&found, MODEL);
    let want = "help: did you mean \"swiglu\"? it can be gelu, gelu_tanh, relu, silu, swiglu; not supported yet: relu_squared, geglu\n";
    assert!(shown.contains(want), "{shown}");
}

#[test]
fn overrides_show_the_argument_with_a_caret() {
    let sets = [
        "training.lr",
        "training.lrr=1",
        "training.seed=\"x",
        "model.num_layers = x",
        "training.lr=",
        "training.seed= ",
        "model.rope_scaling={ factr = 1 }",
    ];
    let found = found(MODEL, Format::Toml, &sets);
    check_told(&found, MODEL);
    let want = "\
spec::syntax: `--set training.lr` has no `=`
  --set training.lr:1:7: \"training.lr\" no `=`
  help: write `--set path=value`, e.g. `--set training.lr=3e-4`
spec::unknown_key: there is no field `training.lrr`
  --set training.lrr=1:1:7: \"training.lrr\" unknown
  help: did you mean `training.lr`?
spec::syntax: invalid basic string, expected `\"`
  --set training.seed=\"x:1:23: \"\" here
  help: end the text with the quote that it begins with, on the same line
spec::wrong_type: `model.num_layers` is an integer, \"free\" or { min, max, multiple_of }, not a text (\"x\")
  --set model.num_layers = x:1:26: \"x\" a text
  help: write an integer from 1 to 4294967296, \"free\", or bounds such as { min = 64, multiple_of = 64 }
spec::syntax: `--set training.lr=` has no value
  --set training.lr=:1:19: \"\" a value is missing
  help: write one after the `=`, e.g. `--set training.lr=3e-4`
spec::syntax: `--set training.seed= ` has no value
  --set training.seed= :1:22: \"\" a value is missing
  help: write one after the `=`, e.g. `--set training.seed=0`
spec::unknown_key: `model.rope_scaling` has no field `factr`
  --set model.rope_scaling={ factr = 1 }:1:28: \"factr\" unknown
  help: did you mean `factor`?
";
    let shown = show(&found, MODEL);
    assert!(shown.starts_with(want), "{shown}");
}

/// A file that is no spec is answered at once: nearest names are looked for 100 times.
#[test]
fn of_many_problems_the_first_hundred_are_told() {
    let keys: String = (0..100_000).map(|i| format!("unknown_key_{i} = {i}\n")).collect();
    let text = format!("[model]\n{keys}");
    let (_, found) = parse(&text, Format::Toml, "s");
    assert_eq!(found.len(), 101);
    check_told(&found, &text);
    assert_eq!(found[100].code, "spec::too_many");
    // The fields that are missing from [model] count, too.
    assert_eq!(found[100].message, "99903 more problems are not shown");
}

/// Later stages name a field; the spec knows its place.
#[test]
fn diagnostics_of_later_stages_get_their_place() {
    let text = "[dataset]\npath = [\"[bad\"]\n";
    let spec = parse(text, Format::Toml, "s").0.unwrap();
    let place = |d: Diagnostic| {
        let mut found = [d];
        spec.locate(&mut found);
        let labels =
            found[0].labels.iter().map(|l| (l.span.file.clone(), l.span.line, l.text.clone()));
        labels.collect::<Vec<_>>()
    };
    let d = || Diagnostic::error("dataset::no_files", "no file");
    let here = ("s".to_string(), Some(2), "`dataset.path` is written here".to_string());
    let section = ("s".to_string(), Some(1), "`dataset.seed` is not written".to_string());
    let start = ("s".to_string(), Some(1), "`tokenizer.type` is not written".to_string());
    assert_eq!(place(d().field("dataset.paths")), std::slice::from_ref(&here));
    assert_eq!(place(d().field("dataset.seed")), [section]);
    assert_eq!(place(d().field("tokenizer.type")), [start]);
    assert_eq!(place(d()), []);
    // A whole file is less telling than the spec; a byte of it is more.
    let file = |end| llmc_base::Span::new("data", 0, end);
    let of_file = ("data".to_string(), None, String::new());
    assert_eq!(place(d().at(file(0), "").field("dataset.paths")), [here.clone(), of_file.clone()]);
    assert_eq!(place(d().at(file(1), "").field("dataset.paths")), [of_file, here]);
}
