//! `docs/spec.schema.json`: the field table as a JSON Schema, for editors that complete and
//! check a spec while it is written.
//!
//! Draft 2020-12. It knows every name that the parser knows, aliases too, with types,
//! ranges, words and defaults. What fields say about each other (`min` above `max`, a field
//! that has no effect) is for `llmc check`. A word or a value that is not built yet is no part of
//! it, so an editor marks it.
//!
//! Source: <https://json-schema.org/draft/2020-12>.

use crate::SPEC_VERSION;
use crate::field::{self, Choice, DefaultRule, Field, Kind, Limit, Section};
use crate::read::{MAX_DIM, MAX_SIZE};
use crate::reference;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// The schema of a whole spec.
pub fn json_schema() -> Value {
    let mut properties = Map::new();
    properties.insert(
        "spec_version".to_string(),
        json!({ "const": SPEC_VERSION, "description": "Version of the meaning of a spec." }),
    );
    for section in Section::ALL {
        let mut table = Table::default();
        for (path, field) in field::accepted() {
            if let Some(rest) = path.strip_prefix(section.name()).and_then(|r| r.strip_prefix('.'))
            {
                table.insert(rest, path, field);
            }
        }
        properties.insert(section.name().to_string(), or_null(table.schema()));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "llmc spec",
        "description": "A model, its data, tokenizer, optimizer and training run. Made from the field table of llmc-spec.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false
    })
}

/// The names of one table: a name may be a field, a table, or either.
#[derive(Default)]
struct Table<'a> {
    names: BTreeMap<&'a str, (Option<Value>, Table<'a>)>,
}

impl<'a> Table<'a> {
    fn insert(&mut self, rest: &'a str, path: &str, field: &Field) {
        match rest.split_once('.') {
            None => self.names.entry(rest).or_default().0 = Some(of_field(path, field)),
            Some((head, rest)) => self.names.entry(head).or_default().1.insert(rest, path, field),
        }
    }

    fn schema(self) -> Value {
        let mut properties = Map::new();
        for (name, (field, table)) in self.names {
            let schema = match (field, table.names.is_empty()) {
                (Some(field), true) => field,
                (Some(field), false) => json!({ "anyOf": [field, table.schema()] }),
                (None, _) => or_null(table.schema()),
            };
            properties.insert(name.to_string(), schema);
        }
        json!({ "type": "object", "properties": properties, "additionalProperties": false })
    }
}

/// A table that is written without anything in it is `null` in YAML.
fn or_null(mut table: Value) -> Value {
    table["type"] = json!(["object", "null"]);
    table
}

/// The value of a field under one of its names.
fn of_field(path: &str, field: &Field) -> Value {
    let mut schema = match default_value(field) {
        Some(only) if field.is_later => json!({ "const": only }),
        _ => or_nothing(field, of_kind(field.kind)),
    };
    let description = match path == field.path {
        true => reference::meaning(field),
        false => format!("Another name of `{}`. {}", field.path, reference::meaning(field)),
    };
    let default = reference::default(field);
    schema["description"] = json!(format!("{description} Default: {default}."));
    if let Some(value) = default_value(field) {
        schema["default"] = value;
    }
    schema
}

fn default_value(field: &Field) -> Option<Value> {
    match field.default {
        DefaultRule::Is(lit) => Some(lit.value()),
        _ => None,
    }
}

/// The same, or "nothing": `"none"`, and `null` in the formats that have it.
fn or_nothing(field: &Field, schema: Value) -> Value {
    let nothing = json!({ "enum": ["none", null] });
    match field.is_optional {
        true if schema["enum"] == json!([]) => nothing,
        true => json!({ "anyOf": [schema, nothing] }),
        false => schema,
    }
}

fn of_kind(kind: Kind) -> Value {
    let dim = json!({ "type": "integer", "minimum": 1, "maximum": MAX_DIM });
    let text = json!({ "type": "string" });
    match kind {
        Kind::Dim => json!({ "anyOf": [
            dim,
            { "const": "free" },
            {
                "type": "object",
                "properties": { "min": dim, "max": dim, "multiple_of": dim },
                "additionalProperties": false
            }
        ] }),
        Kind::Int { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Size => json!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": MAX_SIZE },
            { "type": "string", "pattern": r"^\s*_*[0-9][0-9_]*(\.[0-9_]*)?\s*[kKmMbBgGtT]?\s*$" }
        ] }),
        Kind::Float { min, max } => number(min, max),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Text => text,
        Kind::Texts | Kind::TextSet => one_or_more(text),
        Kind::Hash => json!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" }),
        Kind::Choice(choices) => words(choices),
        Kind::Choices(choices) => one_or_more(words(choices)),
        Kind::Weights => json!({
            "type": "object",
            "additionalProperties": number(Limit::Beyond(0.0), Limit::Open)
        }),
        Kind::Groups => one_or_more(json!({
            "type": "object",
            "properties": {
                "pattern": text,
                "lr_scale": number(Limit::Closed(0.0), Limit::Open),
                "weight_decay": number(Limit::Closed(0.0), Limit::Open)
            },
            "required": ["pattern"],
            "additionalProperties": false
        })),
        Kind::Pair => json!({
            "type": "array",
            "items": number(Limit::Closed(0.0), Limit::Beyond(1.0)),
            "minItems": 2,
            "maxItems": 2
        }),
        Kind::Checkpointing => json!({ "anyOf": [
            { "enum": ["none", "block"] },
            {
                "type": "object",
                "properties": { "budget": { "anyOf": [
                    { "type": "integer", "minimum": 1, "maximum": MAX_SIZE },
                    { "type": "string", "pattern": r"^\s*[0-9][0-9_.]*\s*([kMGT]?B|[KMGT]iB)?\s*$" }
                ] } },
                "required": ["budget"],
                "additionalProperties": false
            }
        ] }),
    }
}

/// A list, or one item for a list of one.
fn one_or_more(item: Value) -> Value {
    json!({ "anyOf": [{ "type": "array", "items": item }, item] })
}

fn number(min: Limit, max: Limit) -> Value {
    let mut schema = json!({ "type": "number" });
    match min {
        Limit::Open => {}
        Limit::Closed(end) => schema["minimum"] = json!(end),
        Limit::Beyond(end) => schema["exclusiveMinimum"] = json!(end),
    }
    match max {
        Limit::Open => {}
        Limit::Closed(end) => schema["maximum"] = json!(end),
        Limit::Beyond(end) => schema["exclusiveMaximum"] = json!(end),
    }
    schema
}

/// The words that work, under all their spellings.
fn words(choices: &[Choice]) -> Value {
    let built = choices.iter().filter(|choice| choice.is_built);
    let mut words: Vec<Value> = built
        .flat_map(|c| [c.name].into_iter().chain(c.aliases.iter().copied()))
        .map(Value::from)
        .collect();
    if choices.iter().any(|choice| choice.name == "none" && choice.is_built) {
        words.push(Value::Null);
    }
    json!({ "enum": words })
}
