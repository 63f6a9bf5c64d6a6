//! The file is current, and the schema and the parser agree on every name and value.

use super::*;
use crate::{Format, parse};
use std::path::Path;

#[test]
fn the_file_is_made_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/spec.schema.json");
    let text = format!("{:#}\n", json_schema());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/spec.schema.json is stale: UPDATE_DOCS=1 cargo test -p llmc-spec");
}

/// Whether a value fits, by the keywords that [`json_schema`] uses; any other is a panic.
fn fits(schema: &Value, value: &Value) -> bool {
    let schema = schema.as_object().unwrap();
    let is_integer = value.as_f64().is_some_and(|f| f.fract() == 0.0);
    let is_type = |name: &Value| match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => is_integer,
        other => panic!("the type {other}"),
    };
    let number = |end: &Value, compare: fn(f64, f64) -> bool| {
        value.as_f64().is_none_or(|number| compare(number, end.as_f64().unwrap()))
    };
    let members = || value.as_object().into_iter().flatten();
    let len = value.as_array().map(|items| items.len() as u64);
    schema.iter().all(|(keyword, rule)| match keyword.as_str() {
        "$schema" | "title" | "description" | "default" => true,
        "type" if rule.is_array() => rule.as_array().unwrap().iter().any(is_type),
        "type" => is_type(rule),
        "const" => value == rule,
        "enum" => rule.as_array().unwrap().contains(value),
        "anyOf" => rule.as_array().unwrap().iter().any(|one| fits(one, value)),
        "properties" => {
            members().all(|(name, member)| rule.get(name).is_none_or(|schema| fits(schema, member)))
        }
        "additionalProperties" => members()
            .filter(|(name, _)| schema.get("properties").is_none_or(|p| p.get(name).is_none()))
            .all(|(_, member)| rule.is_object() && fits(rule, member)),
        "required" => value.as_object().is_none_or(|object| {
            rule.as_array().unwrap().iter().all(|name| object.contains_key(name.as_str().unwrap()))
        }),
        "items" => value.as_array().into_iter().flatten().all(|item| fits(rule, item)),
        "minItems" => len.is_none_or(|n| n >= rule.as_u64().unwrap()),
        "maxItems" => len.is_none_or(|n| n <= rule.as_u64().unwrap()),
        "minimum" => number(rule, |a, b| a >= b),
        "maximum" => number(rule, |a, b| a <= b),
        "exclusiveMinimum" => number(rule, |a, b| a > b),
        "exclusiveMaximum" => number(rule, |a, b| a < b),
        // Three patterns, as functions.
        "pattern" => value.as_str().is_none_or(|text| match rule.as_str().unwrap() {
            "^[0-9a-fA-F]{64}$" => text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()),
            pattern if pattern.contains("iB") => is_bytes(text),
            _ => is_count(text),
        }),
        other => panic!("the keyword {other}"),
    })
}

/// The pattern of a size: digits, a point and digits, a letter.
fn is_count(text: &str) -> bool {
    let text = text.trim();
    let number = text.strip_suffix(|c| "kKmMbBgGtT".contains(c)).unwrap_or(text).trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == '_');
    whole.contains(|c: char| c.is_ascii_digit()) && is_digits(whole) && is_digits(fraction)
}

/// The pattern of bytes: a number and a unit.
fn is_bytes(text: &str) -> bool {
    let text = text.trim();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let units = ["", "B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"];
    let number_text = number.trim_end();
    units.contains(&&text[number.len()..])
        && number_text.starts_with(|c: char| c.is_ascii_digit())
        && number_text.chars().all(|c| c.is_ascii_digit() || c == '_' || c == '.')
}

/// What the parser says of this value alone, conflicts and missing fields aside.
fn is_read(spec: &Value) -> Result<(), String> {
    let (_, found) = parse(&spec.to_string(), Format::Json, "spec.json");
    let elsewhere = ["spec::conflict", "spec::missing"];
    let is_own = |d: &&llmc_base::Diagnostic| {
        // A vocabulary is held against its special tokens.
        !elsewhere.contains(&d.code.as_str()) && !d.message.contains("is too small for")
    };
    match found.iter().find(is_own) {
        Some(d) => Err(d.to_string()),
        None => Ok(()),
    }
}

fn agree(schema: &Value, spec: &Value) {
    let read = is_read(spec);
    assert_eq!(fits(schema, spec), read.is_ok(), "{spec}: {read:?}");
}

#[test]
fn schema_and_parser_agree_on_every_field_under_every_name() {
    let schema = json_schema();
    let hash = "0123456789abcdef".repeat(4);
    let mut pool: Vec<Value> = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(2),
        json!(16),
        json!(17),
        json!(0.5),
        json!(1.5),
        json!(-0.5),
        json!(5e-9),
        json!(8192.0),
        json!(5000),
        json!(1e300),
        json!(1u64 << 32),
        json!((1u64 << 32) + 1),
        json!(1u64 << 53),
        json!((1u64 << 53) + 2),
        json!("none"),
        json!("free"),
        json!("word"),
        json!("125M"),
        json!("1.3B"),
        json!(hash),
        json!([]),
        json!(["a"]),
        json!([1]),
        json!(["none"]),
        json!([0.5, 0.5]),
        json!([0.5]),
        json!([0.5, 1.0]),
        json!([0.1, 0.1, 0.1]),
        json!({}),
        json!({ "en": 1 }),
        json!({ "en": 0 }),
        json!({ "min": 64 }),
        json!({ "min": 0 }),
        json!({ "least": 4 }),
        json!({ "min": 8, "max": 16, "multiple_of": 4 }),
        json!({ "type": "word" }),
        json!({ "budget": "2 GiB" }),
        json!({ "budget": 4096 }),
        json!({ "budget": 0 }),
        json!({ "budget": "2 Gib" }),
        json!({ "budget": "much" }),
        json!({ "pattern": "*.bias" }),
        json!([{ "pattern": "*.bias", "lr_scale": 0.5 }, { "pattern": "1-D", "weight_decay": 0 }]),
        json!([{ "pattern": "*.bias", "lr_scale": -1 }]),
        json!([{ "lr_scale": 1 }]),
        json!([{ "pattern": 3 }]),
    ];
    for field in field::fields() {
        if let Kind::Choice(choices) | Kind::Choices(choices) = field.kind {
            let words =
                choices.iter().flat_map(|c| [c.name].into_iter().chain(c.aliases.iter().copied()));
            pool.extend(words.flat_map(|word| [json!(word), json!([word])]));
        }
    }
    pool.sort_by_key(Value::to_string);
    pool.dedup();
    for (path, _) in field::accepted() {
        for value in &pool {
            let mut spec = Map::new();
            crate::spec::insert(&mut spec, path, value.clone());
            agree(&schema, &Value::Object(spec));
        }
    }
}

#[test]
fn names_that_do_not_exist_are_marked() {
    let schema = json_schema();
    for spec in [
        json!({ "modle": {} }),
        json!({ "model": { "hiden_size": 8 } }),
        json!({ "model": { "rope_scaling": { "facto": 2.0 } } }),
        json!({ "training": { "optimizer": { "lrr": 1.0 } } }),
        json!({ "spec_version": 2 }),
        json!({ "model": 3 }),
    ] {
        assert!(!fits(&schema, &spec), "{spec}");
        assert!(is_read(&spec).is_err(), "{spec}");
    }
    agree(&schema, &json!({ "spec_version": 1, "model": null, "dataset": {} }));
}

#[test]
fn every_default_fits_its_field() {
    fn walk(schema: &Value) {
        if let Some(default) = schema.get("default") {
            assert!(fits(schema, default), "{schema}");
        }
        assert_ne!(schema.get("enum"), Some(&json!([])), "{schema}");
        let properties = schema.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().for_each(|(_, property)| walk(property));
        schema.get("anyOf").and_then(Value::as_array).into_iter().flatten().for_each(walk);
    }
    walk(&json_schema());
}
