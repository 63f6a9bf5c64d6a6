//! One written value to the normal form of its field's kind.

mod groups;

use super::Place;
use super::expected::{can_be, high_text, low_text, what_to_write};
use crate::field::{Choice, Field, Kind, Limit};
use crate::tree::{Node, Value};
use llmc_base::diag::nearest;
use llmc_base::{Diagnostic, Span};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// Largest value of a dimension.
pub(crate) const MAX_DIM: u64 = 1 << 32;
/// Largest integer that every format carries exactly.
pub(crate) const MAX_SIZE: u64 = 1 << 53;

type Converted = (Json, BTreeMap<String, Span>);

/// The normal form of `node` for `field`, and the places of its parts.
pub(super) fn convert(
    field: &Field,
    node: &Node,
    place: Place<'_>,
) -> Result<Converted, Vec<Diagnostic>> {
    let c = Converter { field, place };
    let is_none = matches!(&node.value, Value::Text(t) if t == "none") || node.value == Value::Null;
    if field.is_optional && is_none {
        return Ok((Json::Null, BTreeMap::new()));
    }
    let value = match field.kind {
        Kind::Dim => return c.dim(node),
        Kind::Int { min, max } => c.int(node, min, max, field.path).map(Json::from),
        Kind::Size => c.size(node).map(Json::from),
        Kind::Float { min, max } => c.float(node, min, max).map(Json::from),
        Kind::Bool => match &node.value {
            Value::Bool(b) => Ok(Json::Bool(*b)),
            Value::Text(t) => {
                let d = c.wrong_type(node, "true or false");
                Err(match t.to_ascii_lowercase().as_str() {
                    "true" | "yes" | "on" => vec![d.help("write `true`, without quotes")],
                    "false" | "no" | "off" => vec![d.help("write `false`, without quotes")],
                    _ => vec![d],
                })
            }
            _ => Err(vec![c.wrong_type(node, "true or false")]),
        },
        Kind::Text => match &node.value {
            Value::Text(t) => Ok(Json::from(t.as_str())),
            _ => Err(vec![c.wrong_type(node, "a text")]),
        },
        Kind::Hash => c.hash(node),
        Kind::Choice(choices) => c.choice(node, choices).map(Json::from),
        Kind::Choices(choices) => c.list(node, |item| c.choice(item, choices)),
        Kind::Texts => c.list(node, |item| c.item_text(item)),
        Kind::TextSet => c.list(node, |item| c.item_text(item)).map(sorted),
        Kind::Weights => c.weights(node),
        Kind::Pair => c.pair(node),
        Kind::Checkpointing => c.checkpointing(node),
        Kind::Groups => c.groups(node),
    };
    Ok((value?, BTreeMap::new()))
}

fn sorted(list: Json) -> Json {
    let Json::Array(mut items) = list else { return list };
    items.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    items.dedup();
    Json::Array(items)
}

struct Converter<'a> {
    field: &'a Field,
    place: Place<'a>,
}

impl Converter<'_> {
    fn error(&self, code: &str, message: String, node: &Node, label: &str) -> Diagnostic {
        let d = Diagnostic::error(code, message).field(self.field.path);
        self.place.label(d, &node.span, label).help(what_to_write(self.field))
    }

    /// The value for messages; a number as it was written.
    fn shown(&self, node: &Node) -> String {
        let is_number = matches!(node.value, Value::Int(_) | Value::Float(_));
        let written = self.place.written(&node.span).filter(|t| is_number && t.len() <= 60);
        written.map_or_else(|| node.value.show(), |text| text.trim().to_string())
    }

    fn wrong_type(&self, node: &Node, wanted: &str) -> Diagnostic {
        let (path, found) = (self.field.path, node.value.kind());
        let message = format!("`{path}` is {wanted}, not {found} ({})", self.shown(node));
        self.error("spec::wrong_type", message, node, found)
    }

    fn twice(&self, message: String, node: &Node) -> Diagnostic {
        self.error("spec::duplicate_key", message, node, "again here").help("keep one of the two")
    }

    /// `must` names the end of the range that was passed.
    fn out_of_range(&self, what: &str, must: &str, node: &Node) -> Diagnostic {
        let message = format!("`{what}` is {}, but must be {must}", self.shown(node));
        self.error("spec::out_of_range", message, node, &format!("must be {must}"))
    }

    fn checkpointing(&self, node: &Node) -> Result<Json, Vec<Diagnostic>> {
        const WANTED: &str = "\"none\", \"block\" or { budget = BYTES }";
        let entries = match &node.value {
            Value::Text(t) if t == "none" || t == "block" => return Ok(Json::from(t.as_str())),
            Value::Text(_) => {
                let message = format!("`{}` cannot be {}", self.field.path, node.value.show());
                return Err(vec![self.error("spec::unknown_value", message, node, "unknown")]);
            }
            Value::Table(entries) => entries,
            _ => return Err(vec![self.wrong_type(node, WANTED)]),
        };
        let [entry] = entries.as_slice() else {
            return Err(vec![self.wrong_type(node, WANTED)]);
        };
        let path = format!("{}.{}", self.field.path, entry.key);
        if entry.key != "budget" {
            let message = format!("`{}` has no field `{}`", self.field.path, entry.key);
            let help = "its field is `budget`";
            let d = Diagnostic::error("spec::unknown_key", message).help(help).field(path);
            return Err(vec![self.place.label(d, &entry.key_span, "unknown")]);
        }
        let bytes = match &entry.node.value {
            Value::Text(text) => parse_bytes(text).filter(|b| (1..=MAX_SIZE).contains(b)),
            _ => Some(self.int(&entry.node, 1, MAX_SIZE, &path)?),
        };
        let wrong = || {
            let message = format!("`{path}` is {}, not a number of bytes", self.shown(&entry.node));
            vec![self.error("spec::wrong_type", message, &entry.node, "not a size")]
        };
        Ok(serde_json::json!({ "budget": bytes.ok_or_else(wrong)? }))
    }

    fn int(&self, node: &Node, min: u64, max: u64, what: &str) -> Result<u64, Vec<Diagnostic>> {
        let value = match &node.value {
            Value::Int(i) => *i,
            // `1e6` is a float in every format, but means an integer here.
            Value::Float(f) if f.fract() == 0.0 && f.abs() <= MAX_SIZE as f64 => *f as i128,
            _ => return Err(vec![self.wrong_type(node, "an integer")]),
        };
        let must = match value < i128::from(min) {
            true => format!("at least {min}"),
            false => format!("at most {max}"),
        };
        let in_range = u64::try_from(value).ok().filter(|v| (min..=max).contains(v));
        in_range.ok_or_else(|| vec![self.out_of_range(what, &must, node)])
    }

    fn size(&self, node: &Node) -> Result<u64, Vec<Diagnostic>> {
        let Value::Text(text) = &node.value else {
            return self.int(node, 1, MAX_SIZE, self.field.path);
        };
        match parse_size(text) {
            Some(size) if (1..=MAX_SIZE).contains(&size) => Ok(size),
            _ => Err(vec![self.wrong_type(node, "a count")]),
        }
    }

    fn float(&self, node: &Node, min: Limit, max: Limit) -> Result<f64, Vec<Diagnostic>> {
        let value = match &node.value {
            Value::Int(i) => *i as f64,
            Value::Float(f) => *f,
            _ => return Err(vec![self.wrong_type(node, "a number")]),
        };
        let is_above = match min {
            Limit::Open => true,
            Limit::Closed(end) => value >= end,
            Limit::Beyond(end) => value > end,
        };
        let is_below = match max {
            Limit::Open => true,
            Limit::Closed(end) => value <= end,
            Limit::Beyond(end) => value < end,
        };
        if value.is_finite() && is_above && is_below {
            // −0 is 0.
            return Ok(value + 0.0);
        }
        let broken = match (value.is_finite(), is_above) {
            (false, _) => None,
            (true, false) => low_text(min),
            (true, true) => high_text(max),
        };
        let must = broken.unwrap_or_else(|| "a finite number".to_string());
        Err(vec![self.out_of_range(self.field.path, &must, node)])
    }

    fn hash(&self, node: &Node) -> Result<Json, Vec<Diagnostic>> {
        match &node.value {
            Value::Text(t) => match t.parse::<llmc_base::Hash>() {
                Ok(hash) => Ok(Json::from(hash.to_string())),
                Err(message) => Err(vec![self.error(
                    "spec::wrong_type",
                    format!("`{}`: {message}", self.field.path),
                    node,
                    "not a hash",
                )]),
            },
            _ => Err(vec![self.wrong_type(node, "a hash of 64 hexadecimal digits")]),
        }
    }

    fn choice(&self, node: &Node, choices: &[Choice]) -> Result<String, Vec<Diagnostic>> {
        let names = || choices.iter().filter(|c| c.is_built).map(|c| c.name);
        let word = match &node.value {
            Value::Text(t) => t.as_str(),
            // Hugging Face writes `rope_scaling: null`.
            Value::Null if names().any(|n| n == "none") => "none",
            _ => return Err(vec![self.wrong_type(node, "a word")]),
        };
        if let Some(choice) = choices.iter().find(|c| c.name == word || c.aliases.contains(&word)) {
            return Ok(choice.name.to_string());
        }
        let message = format!("`{}` cannot be {}", self.field.path, node.value.show());
        let all =
            choices.iter().flat_map(|c| [c.name].into_iter().chain(c.aliases.iter().copied()));
        let listed = can_be(choices, self.field.is_optional);
        let help = match nearest(word, all) {
            Some(name) => format!("did you mean \"{name}\"? {listed}"),
            None => listed,
        };
        Err(vec![self.error("spec::unknown_value", message, node, "unknown").help(help)])
    }

    fn item_text(&self, node: &Node) -> Result<String, Vec<Diagnostic>> {
        match &node.value {
            Value::Text(t) => Ok(t.clone()),
            _ => Err(vec![self.wrong_type(node, "a list of texts")]),
        }
    }

    /// A list, or one item for a list of one; all bad items are reported.
    fn list(
        &self,
        node: &Node,
        item: impl Fn(&Node) -> Result<String, Vec<Diagnostic>>,
    ) -> Result<Json, Vec<Diagnostic>> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut values = Vec::new();
        let mut diagnostics = Vec::new();
        for result in items.iter().map(item) {
            match result {
                Ok(value) => values.push(Json::from(value)),
                Err(found) => diagnostics.extend(found),
            }
        }
        if diagnostics.is_empty() { Ok(Json::Array(values)) } else { Err(diagnostics) }
    }

    fn weights(&self, node: &Node) -> Result<Json, Vec<Diagnostic>> {
        let Value::Table(entries) = &node.value else {
            return Err(vec![self.wrong_type(node, "a table from names to shares")]);
        };
        let mut map = Map::new();
        let mut diagnostics = Vec::new();
        for entry in entries {
            if map.contains_key(&entry.key) {
                let message = format!("`{}.{}` is written twice", self.field.path, entry.key);
                diagnostics.push(self.twice(message, &entry.node));
            }
            match self.float(&entry.node, Limit::Beyond(0.0), Limit::Open) {
                Ok(share) => {
                    map.insert(entry.key.clone(), Json::from(share));
                }
                Err(found) => diagnostics.extend(found),
            }
        }
        map.sort_keys();
        if diagnostics.is_empty() { Ok(Json::Object(map)) } else { Err(diagnostics) }
    }

    fn pair(&self, node: &Node) -> Result<Json, Vec<Diagnostic>> {
        let Value::List(items) = &node.value else {
            return Err(vec![self.wrong_type(node, "a list of two numbers")]);
        };
        if items.len() != 2 {
            return Err(vec![self.wrong_type(node, "a list of two numbers")]);
        }
        let end = |item| self.float(item, Limit::Closed(0.0), Limit::Beyond(1.0));
        Ok(Json::Array(vec![Json::from(end(&items[0])?), Json::from(end(&items[1])?)]))
    }

    /// An integer, `"free"`, or `{ min, max, multiple_of }`.
    fn dim(&self, node: &Node) -> Result<Converted, Vec<Diagnostic>> {
        let entries = match &node.value {
            Value::Text(t) if t == "free" => return Ok((Json::from("free"), BTreeMap::new())),
            Value::Table(entries) => entries,
            Value::Int(_) | Value::Float(_) => {
                let value = self.int(node, 1, MAX_DIM, self.field.path)?;
                return Ok((Json::from(value), BTreeMap::new()));
            }
            _ => {
                let wanted = "an integer, \"free\" or { min, max, multiple_of }";
                return Err(vec![self.wrong_type(node, wanted)]);
            }
        };
        let mut map = Map::new();
        let mut spans = BTreeMap::new();
        let mut diagnostics = Vec::new();
        for entry in entries {
            let path = format!("{}.{}", self.field.path, entry.key);
            let names = ["min", "max", "multiple_of"];
            if !names.contains(&entry.key.as_str()) {
                let message = format!("`{}` has no field `{}`", self.field.path, entry.key);
                let help = match nearest(&entry.key, names) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => "its fields are min, max and multiple_of".to_string(),
                };
                let d = Diagnostic::error("spec::unknown_key", message).help(help).field(path);
                diagnostics.push(self.place.label(d, &entry.key_span, "unknown"));
                continue;
            }
            if map.contains_key(&entry.key) {
                let message = format!("`{path}` is written twice");
                diagnostics.push(self.twice(message, &entry.node));
                continue;
            }
            match self.int(&entry.node, 1, MAX_DIM, &path) {
                Ok(value) => {
                    map.insert(entry.key.clone(), Json::from(value));
                    if let Some(span) = self.place.span(&entry.node.span) {
                        spans.insert(entry.key.clone(), span);
                    }
                }
                Err(found) => diagnostics.extend(found),
            }
        }
        map.sort_keys();
        let end = |name: &str| map.get(name).and_then(Json::as_u64);
        if let (Some(min), Some(max)) = (end("min"), end("max"))
            && min > max
        {
            let message = format!("`{}` has min {min} above max {max}", self.field.path);
            let d = self.error("spec::conflict", message, node, "no value fits");
            diagnostics.push(d.help("swap them"));
        }
        if diagnostics.is_empty() { Ok((Json::Object(map), spans)) } else { Err(diagnostics) }
    }
}

/// `"125M"`, `"1.3B"`, `"2_000"`: a decimal with an optional K, M, B (or G) or T.
/// `None` unless it is exactly an integer.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, zeros) = match text.chars().last()? {
        'k' | 'K' => (&text[..text.len() - 1], 3),
        'm' | 'M' => (&text[..text.len() - 1], 6),
        'b' | 'B' | 'g' | 'G' => (&text[..text.len() - 1], 9),
        't' | 'T' => (&text[..text.len() - 1], 12),
        _ => (text, 0),
    };
    let number = number.trim_end().replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let fraction = fraction.trim_end_matches('0');
    let is_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || fraction.len() > zeros {
        return None;
    }
    let padding = "0".repeat(zeros - fraction.len());
    format!("{whole}{fraction}{padding}").parse().ok()
}

/// Bytes with a unit: `"2 GiB"`, `"500MB"`, `"4096"`. IEC units are powers of 1024, SI units of 1000.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (_, factor) = BYTE_UNITS.iter().find(|(unit, _)| *unit == &text[number.len()..])?;
    let is_plain = number.starts_with(|c: char| c.is_ascii_digit())
        && number.trim_end().chars().all(|c| c.is_ascii_digit() || c == '_' || c == '.');
    let number: f64 = number.trim_end().replace('_', "").parse().ok().filter(|_| is_plain)?;
    let bytes = number * *factor as f64;
    (bytes >= 1.0 && bytes <= MAX_SIZE as f64).then_some(bytes as u64)
}

/// Units of bytes.
const BYTE_UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
