//! One value tree with byte spans, whatever the format.
//!
//! TOML, YAML and JSON text, JSON values from Python, and `--set` arguments all
//! become a [`Node`] first; everything after that exists once. Readers are safe
//! on hostile input: text is at most [`MAX_BYTES`], nesting at most
//! [`MAX_DEPTH`], and YAML aliases expand to at most [`MAX_NODES`] nodes and
//! [`MAX_BYTES`] of text.

mod json;
mod toml;
mod yaml;

#[cfg(test)]
mod tests;

use llmc_base::{Diagnostic, Span};
use std::ops::Range;
use std::path::Path;

/// Longest accepted text.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// Deepest accepted nesting.
pub(crate) const MAX_DEPTH: usize = 64;
/// Most nodes after YAML aliases are expanded.
pub(crate) const MAX_NODES: usize = 100_000;

/// How a spec is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// TOML 1.0.
    Toml,
    /// YAML 1.2, core schema, one document.
    Yaml,
    /// JSON, RFC 8259, without extensions.
    Json,
}

impl Format {
    /// By the extension of a file name: `.yaml`, `.yml`, `.json`, otherwise TOML.
    pub fn from_path(path: &str) -> Format {
        match Path::new(path).extension().and_then(|e| e.to_str()) {
            Some(e) if e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml") => {
                Format::Yaml
            }
            Some(e) if e.eq_ignore_ascii_case("json") => Format::Json,
            _ => Format::Toml,
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub value: Value,
    pub span: Range<usize>,
}

/// What a format can say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In file order; keys may repeat, which a later stage reports.
    Table(Vec<Entry>),
}

/// One `key = value`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Range<usize>,
    pub node: Node,
}

impl Value {
    /// The kind of the value, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// The value as JSON-like text for messages, cut at 60 characters.
    pub fn show(&self) -> String {
        let text = match self {
            Value::Null => "null".to_string(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Float(f) => format!("{f:?}"),
            Value::Text(t) => format!("{t:?}"),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Table(entries) => format!("a table of {}", entries.len()),
        };
        match text.char_indices().nth(60) {
            Some((cut, _)) => format!("{}…", &text[..cut]),
            None => text,
        }
    }
}

/// A complaint about text, before file names are known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub code: &'static str,
    pub message: String,
    pub span: Range<usize>,
    pub help: String,
}

impl Fault {
    fn syntax(message: impl Into<String>, span: Range<usize>, help: impl Into<String>) -> Fault {
        Fault { code: "spec::syntax", message: message.into(), span, help: help.into() }
    }

    /// The diagnostic for this complaint in `file`, which holds `text`. What is missing at the end is
    /// missing behind the last word, where a caret can be seen.
    pub fn into_diagnostic(self, file: &str, text: &str) -> Diagnostic {
        let end = text.trim_end().len();
        let (start, end) = match self.span.is_empty() && self.span.start > end {
            true => (end, end),
            false => (self.span.start, self.span.end),
        };
        Diagnostic::error(self.code, self.message)
            .at(Span::new(file, start, end), "here")
            .help(self.help)
    }
}

/// Reads `text` into a tree. With faults the tree holds what could still be read.
pub(crate) fn read(text: &str, format: Format) -> (Option<Node>, Vec<Fault>) {
    if text.len() > MAX_BYTES {
        let message = format!("the text has {} bytes, more than {MAX_BYTES}", text.len());
        let help = "a spec is short; text to train on goes into files that `dataset.paths` names";
        return (None, vec![Fault::syntax(message, 0..0, help)]);
    }
    match format {
        Format::Toml => toml::read(text),
        Format::Yaml => one_fault(yaml::read(text)),
        Format::Json => one_fault(json::read(text)),
    }
}

/// Reads one TOML value, as in `--set path=value`.
pub(crate) fn read_toml_value(text: &str) -> Result<Node, Fault> {
    toml::read_value(text)
}

/// The tree of a JSON value that has no text; all spans are empty.
pub(crate) fn from_json_value(value: &serde_json::Value) -> Result<Node, Fault> {
    json::from_value(value, 0)
}

fn one_fault(result: Result<Node, Fault>) -> (Option<Node>, Vec<Fault>) {
    match result {
        Ok(node) => (Some(node), Vec::new()),
        Err(fault) => (None, vec![fault]),
    }
}
