//! Tests of the readers: one meaning in three formats, spans that mark the value, and
//! no panic on any text.

use super::*;
use proptest::prelude::*;

fn tree(text: &str, format: Format) -> Node {
    let (node, faults) = read(text, format);
    assert_eq!(faults, [], "{text}");
    node.unwrap()
}

/// The values without spans.
fn plain(node: &Node) -> serde_json::Value {
    use serde_json::Value as Json;
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::from(*b),
        Value::Int(i) => Json::from(i64::try_from(*i).unwrap()),
        Value::Float(f) => Json::from(*f),
        Value::Text(t) => Json::from(t.as_str()),
        Value::List(items) => items.iter().map(plain).collect(),
        Value::Table(entries) => {
            Json::Object(entries.iter().map(|e| (e.key.clone(), plain(&e.node))).collect())
        }
    }
}

/// The first fault as `message @ marked text`.
fn fault(text: &str, format: Format) -> String {
    let (_, faults) = read(text, format);
    let fault = faults.first().unwrap_or_else(|| panic!("no fault in {text:?}"));
    format!("{} @ {:?}", fault.message, &text[fault.span.clone()])
}

const TOML: &str = r#"
# a comment
[model]
num_layers = 4
rope_scaling = { type = "linear", factor = 2.5 }
name = "größe"
tie = true
[data]
paths = ["a", "b"]
lr = 3e-4
"#;

const YAML: &str = r#"
# a comment
model:
  num_layers: 4
  rope_scaling: {type: linear, factor: 2.5}
  name: größe
  tie: true
data:
  paths:
    - a
    - "b"
  lr: 3e-4
"#;

const JSON: &str = r#"{
  "model": {"num_layers": 4, "rope_scaling": {"type": "linear", "factor": 2.5},
            "name": "gr\u00f6ße", "tie": true},
  "data": {"paths": ["a", "b"], "lr": 3e-4}
}"#;

#[test]
fn three_formats_have_one_tree() {
    let toml = plain(&tree(TOML, Format::Toml));
    assert_eq!(toml, plain(&tree(YAML, Format::Yaml)));
    assert_eq!(toml, plain(&tree(JSON, Format::Json)));
}

/// Every scalar's span marks exactly its text.
fn marked(node: &Node, text: &str, out: &mut Vec<String>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| marked(item, text, out)),
        Value::Table(entries) => {
            for e in entries {
                out.push(text[e.key_span.clone()].trim_matches('"').to_string());
                marked(&e.node, text, out);
            }
        }
        _ => out.push(text[node.span.clone()].trim_matches('"').to_string()),
    }
}

#[test]
fn spans_mark_keys_and_values_in_bytes() {
    for (text, format) in [(TOML, Format::Toml), (YAML, Format::Yaml), (JSON, Format::Json)] {
        let mut out = Vec::new();
        marked(&tree(text, format), text, &mut out);
        let name = if format == Format::Json { "gr\\u00f6ße" } else { "größe" };
        let want = [
            "model",
            "num_layers",
            "4",
            "rope_scaling",
            "type",
            "linear",
            "factor",
            "2.5",
            "name",
            name,
            "tie",
            "true",
            "data",
            "paths",
            "a",
            "b",
            "lr",
            "3e-4",
        ];
        assert_eq!(out, want, "{format:?}");
    }
}

#[test]
fn yaml_scalars_follow_the_core_schema() {
    for (text, want) in [
        ("~", Value::Null),
        ("", Value::Null),
        ("True", Value::Bool(true)),
        ("yes", Value::Text("yes".into())),
        ("0o17", Value::Int(15)),
        ("0x1F", Value::Int(31)),
        ("+12", Value::Int(12)),
        ("-12", Value::Int(-12)),
        ("1_000", Value::Text("1_000".into())),
        ("1.", Value::Float(1.0)),
        (".5", Value::Float(0.5)),
        ("1e3", Value::Float(1000.0)),
        ("-.inf", Value::Float(f64::NEG_INFINITY)),
        ("inf", Value::Text("inf".into())),
        ("nan", Value::Text("nan".into())),
        ("1.2.3", Value::Text("1.2.3".into())),
        ("e5", Value::Text("e5".into())),
        (".", Value::Text(".".into())),
        ("'12'", Value::Text("12".into())),
        ("!!str 12", Value::Text("12".into())),
    ] {
        let node = tree(&format!("a: {text}"), Format::Yaml);
        let Value::Table(entries) = node.value else { panic!("{text}") };
        assert_eq!(entries[0].node.value, want, "{text}");
    }
}

#[test]
fn yaml_aliases_work_and_bombs_do_not() {
    let node = tree("a: &x {n: 1}\nb: *x\n", Format::Yaml);
    assert_eq!(plain(&node), serde_json::json!({"a": {"n": 1}, "b": {"n": 1}}));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for i in 1..9 {
        let one = format!("*a{}, ", i - 1);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", one.repeat(10).trim_end_matches(", ")));
    }
    assert!(fault(&bomb, Format::Yaml).starts_with("more than 100000 values"));
    assert!(fault("a: &x [*x]", Format::Yaml).starts_with("an alias of something"));
}

/// Few nodes, but each a long text: 100 MB if it were written out.
#[test]
fn yaml_aliases_of_long_texts_do_not_fill_memory() {
    let text = "x".repeat(1 << 20);
    let aliases = "*x, ".repeat(100);
    for node in [format!("\"{text}\""), format!("[{text}]"), format!("{{{text}: 1}}")] {
        let bomb = format!("a: &x {node}\nb: [{}]\n", aliases.trim_end_matches(", "));
        assert!(
            fault(&bomb, Format::Yaml).starts_with("aliases stand for more than 4194304 bytes")
        );
    }
    let anchors = (0..8).map(|i| format!("&a{i} [")).collect::<String>();
    let bomb = format!("a: {anchors}{text}{}\n", "]".repeat(8));
    assert!(fault(&bomb, Format::Yaml).starts_with("aliases stand for more than 4194304 bytes"));
}

#[test]
fn what_has_no_meaning_in_a_spec_is_refused() {
    for (text, format, want) in [
        ("a: 1\n---\nb: 2\n", Format::Yaml, "a second document"),
        ("a: !!int 12", Format::Yaml, "the tag `tag:yaml.org,2002:int`"),
        ("<<: {a: 1}", Format::Yaml, "merge keys"),
        ("? [a]\n: b", Format::Yaml, "a key must be a plain word"),
        ("a = 1979-05-27", Format::Toml, "`1979-05-27` is a date"),
        ("a = 99999999999999999999999999999999999999999", Format::Toml, "`99999"),
        ("a = 1\na = 2", Format::Toml, "duplicate key"),
        ("{\"a\": 01}", Format::Json, "expected a number without leading zeros"),
        ("{\"a\": 1,}", Format::Json, "expected a key in double quotes, found `}`"),
        ("{'a': 1}", Format::Json, "expected a key in double quotes, found `\\'`"),
        ("{\"a\": 1} x", Format::Json, "expected the end of the file, found `x`"),
        ("{\"a\": .5}", Format::Json, "expected a value"),
        ("{\"a\": 1. }", Format::Json, "expected a digit"),
        ("{\"a\": NaN}", Format::Json, "expected a value"),
        ("{\"a\": \"\\ud800\"}", Format::Json, "half of a surrogate pair"),
        ("{\"a\": \"\\x\"}", Format::Json, "expected an escape of JSON"),
        ("{\"a\": \"x", Format::Json, "the text does not end"),
        ("{\"a\": \"\t\"}", Format::Json, "expected no control character"),
        ("// c\n{}", Format::Json, "expected a value, found `/`"),
        ("[", Format::Json, "expected a value, found the end"),
    ] {
        let found = fault(text, format);
        assert!(found.starts_with(want), "{text:?}: {found}");
    }
}

#[test]
fn surrogate_pairs_and_escapes_read() {
    let node = tree(r#""\ud83d\ude00\n\t\"\\\/\b\f\r""#, Format::Json);
    assert_eq!(node.value, Value::Text("😀\n\t\"\\/\u{8}\u{c}\r".into()));
}

#[test]
fn all_syntax_errors_of_a_toml_file_are_reported() {
    let (node, faults) = read("a = \nb = 1\nc = ]\n", Format::Toml);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(node.is_some());
}

#[test]
fn deep_nesting_is_a_fault_not_an_overflow() {
    for (open, format) in [("[", Format::Json), ("[", Format::Yaml), ("{a: ", Format::Yaml)] {
        let (node, faults) = read(&open.repeat(100_000), format);
        assert!(node.is_none() && !faults.is_empty());
    }
    let (_, faults) = read(&format!("a = {}", "[".repeat(100_000)), Format::Toml);
    assert!(!faults.is_empty());
    let (_, faults) = read(&format!("a{} = 1", ".a".repeat(10_000)), Format::Toml);
    assert!(!faults.is_empty());
    let mut value = serde_json::Value::Null;
    for _ in 0..500 {
        value = serde_json::Value::Array(vec![value]);
    }
    assert!(from_json_value(&value).is_err());
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_keep_spans_right() {
    for format in [Format::Toml, Format::Yaml, Format::Json] {
        let text = match format {
            Format::Toml => "\u{feff}[a]\r\n# ü\r\nb = 12\r\n",
            Format::Yaml => "\u{feff}a:\r\n  # ü\r\n  b: 12\r\n",
            Format::Json => "\u{feff}{\"a\": {\r\n\"b\": 12\r\n}}",
        };
        let mut out = Vec::new();
        marked(&tree(text, format), text, &mut out);
        assert_eq!(out, ["a", "b", "12"], "{format:?}");
    }
}

#[test]
fn formats_go_by_extension() {
    for (path, format) in [
        ("a/spec.toml", Format::Toml),
        ("spec.YML", Format::Yaml),
        ("x.yaml", Format::Yaml),
        ("x.json", Format::Json),
        ("spec", Format::Toml),
    ] {
        assert_eq!(Format::from_path(path), format, "{path}");
    }
}

fn formats() -> impl Strategy<Value = Format> {
    prop::sample::select(vec![Format::Toml, Format::Yaml, Format::Json])
}

/// Faults and nodes point into the text, on character boundaries.
fn check_spans(text: &str, format: Format) {
    let (node, faults) = read(text, format);
    for fault in &faults {
        assert!(!fault.help.is_empty() && !fault.message.is_empty(), "{fault:?}");
        assert!(text.get(fault.span.clone()).is_some(), "{fault:?} in {text:?}");
    }
    fn walk(node: &Node, text: &str) {
        assert!(text.get(node.span.clone()).is_some(), "{node:?} in {text:?}");
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| walk(item, text)),
            Value::Table(entries) => entries.iter().for_each(|e| walk(&e.node, text)),
            _ => {}
        }
    }
    if let Some(node) = &node {
        walk(node, text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_panics(text in "\\PC{0,60}", format in formats()) {
        check_spans(&text, format);
    }

    #[test]
    fn no_text_of_syntax_panics(
        text in "[\\[\\]{}:,\"'#=a-c0-9.\\-\\\\ \n\t|>&*!?~ü😀]{0,60}", format in formats()
    ) {
        check_spans(&text, format);
    }

    #[test]
    fn no_damaged_file_panics(
        which in 0usize..3, at in 0usize..200, len in 0usize..8, insert in "\\PC{0,4}"
    ) {
        let (text, format) =
            [(TOML, Format::Toml), (YAML, Format::Yaml), (JSON, Format::Json)][which];
        let chars: Vec<char> = text.chars().collect();
        let at = at.min(chars.len());
        let end = (at + len).min(chars.len());
        let damaged: String =
            chars[..at].iter().copied().chain(insert.chars()).chain(chars[end..].iter().copied()).collect();
        check_spans(&damaged, format);
    }
}
