//! Canonical TOML: what `runs/…/spec.toml` holds.
//!
//! Sections and fields in the order of the table, canonical names, one line each.
//! What is printed reads back as the same spec.

#[cfg(test)]
mod tests;

use crate::field::{self, Field, Section};
use crate::resolve::Resolved;
use crate::spec::Spec;
use serde_json::Value;
use std::fmt::Write;

/// The spec as written, overrides applied; each override is recorded in a comment.
pub fn to_toml(spec: &Spec) -> String {
    let mut out = String::new();
    for argument in spec.overrides() {
        // A comment ends with its line.
        let _ = writeln!(out, "# --set {}", argument.replace(|c: char| c.is_control(), " "));
    }
    let has = |section: Section| spec.has(section);
    print(&mut out, has, |field| spec.get(field.path).map(|s| s.value.clone()));
    out
}

/// The resolved spec with every value written; it passes `--explicit` and has the same hashes.
pub fn to_explicit_toml(resolved: &Resolved) -> String {
    let mut out = String::new();
    let sections: Vec<Section> =
        resolved.values.keys().filter_map(|path| Section::of(path)).collect();
    // The dims are written, so there is nothing left to solve for.
    let is_question = |f: &Field| f.path == "model.param_tolerance";
    print(
        &mut out,
        |section| sections.contains(&section),
        |field| resolved.values.get(field.path).filter(|_| !is_question(field)).cloned(),
    );
    out
}

fn print(
    out: &mut String,
    has: impl Fn(Section) -> bool,
    value_of: impl Fn(&Field) -> Option<Value>,
) {
    for section in Section::ALL.into_iter().filter(|s| has(*s)) {
        let separator = if out.is_empty() { "" } else { "\n" };
        let _ = writeln!(out, "{separator}[{section}]");
        for field in field::fields().filter(|f| f.section() == section) {
            if let Some(value) = value_of(field) {
                let _ = writeln!(out, "{} = {}", field.local_path(), toml_value(&value));
            }
        }
    }
}

/// A value on one line; "nothing" is `"none"`.
pub(crate) fn toml_value(value: &Value) -> String {
    match value {
        Value::Null => "\"none\"".to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => match n.as_f64() {
            // TOML wants a point or an exponent in a float, as Rust's debug form has.
            Some(f) if n.is_f64() => format!("{f:?}"),
            _ => n.to_string(),
        },
        Value::String(s) => toml_text(s),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(toml_value).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let entries: Vec<_> =
                map.iter().map(|(k, v)| format!("{} = {}", toml_key(k), toml_value(v))).collect();
            match entries.is_empty() {
                true => "{}".to_string(),
                false => format!("{{ {} }}", entries.join(", ")),
            }
        }
    }
}

fn toml_key(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !key.is_empty() && key.chars().all(is_bare) {
        true => key.to_string(),
        false => toml_text(key),
    }
}

/// A basic string.
fn toml_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
