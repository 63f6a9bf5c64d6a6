//! The spec as it was written: one flat map from field paths to typed values.
//!
//! Values are in their normal form (aliases resolved, words canonical, numbers of
//! the field's kind), so two files with one meaning have equal maps. Spans point
//! into the file or the `--set` argument that a value came from.

use crate::field::{self, Field, Section};
use llmc_base::{Diagnostic, Label, Span};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A spec: settings by field, as written; nothing is filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    pub(crate) settings: BTreeMap<&'static str, Setting>,
    pub(crate) sections: BTreeMap<Section, Option<Span>>,
    pub(crate) overrides: Vec<String>,
    /// Where the file begins, if there is one: the place of what is missing altogether.
    pub(crate) start: Option<Span>,
}

/// One written value.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The normal form of the value. A dimension is an integer, `"free"`, or a table of
    /// `min`, `max`, `multiple_of`; "nothing" is `null`.
    pub value: Value,
    /// The path that was written: the field's own or an alias.
    pub written_as: String,
    /// Where the value stands, if it came from text.
    pub span: Option<Span>,
    /// Where `min`, `max` and `multiple_of` of a dimension stand.
    pub part_spans: BTreeMap<String, Span>,
    /// Whether it came from `--set`.
    pub is_override: bool,
}

impl Spec {
    /// What was written for a field, by its canonical path.
    pub fn get(&self, path: &str) -> Option<&Setting> {
        self.settings.get(path)
    }

    /// All settings with their fields, in path order.
    pub fn settings(&self) -> impl Iterator<Item = (&'static Field, &Setting)> {
        self.settings.iter().filter_map(|(path, setting)| Some((field::find(path)?, setting)))
    }

    /// Whether the section was written, be it empty.
    pub fn has(&self, section: Section) -> bool {
        self.sections.contains_key(&section)
    }

    /// The header of a section, if it was written in text.
    pub fn section_span(&self, section: Section) -> Option<&Span> {
        self.sections.get(&section)?.as_ref()
    }

    /// The `--set` arguments, in the order in which they were applied.
    pub fn overrides(&self) -> &[String] {
        &self.overrides
    }

    /// Adds to diagnostics of later stages the place of the field that they are about
    /// ([`Diagnostic::field`]), in front of a place that is no more than a file; where the field
    /// is not written, the place of the table or section that it would be in.
    pub fn locate(&self, diagnostics: &mut [Diagnostic]) {
        for d in diagnostics {
            let Some(path) = d.field.as_deref() else { continue };
            let Some((span, text)) = self.place(path) else { continue };
            if d.labels.iter().any(|label| label.span.file == span.file) {
                continue;
            }
            let is_file_only = |label: &Label| label.span.start == label.span.end;
            let at = d.labels.iter().take_while(|label| !is_file_only(label)).count();
            d.labels.insert(at, Label { span, text });
        }
    }

    fn place(&self, path: &str) -> Option<(Span, String)> {
        if let Some(setting) = self.get(path) {
            let text = format!("`{}` is written here", setting.written_as);
            return Some((setting.span.clone()?, text));
        }
        let section = Section::of(path)?;
        let text = format!("`{path}` is not written");
        Some((self.section_span(section).or(self.start.as_ref())?.clone(), text))
    }

    /// Every place, for lines and columns.
    pub(crate) fn spans_mut(&mut self) -> impl Iterator<Item = &mut Span> {
        let settings = self
            .settings
            .values_mut()
            .flat_map(|s| s.span.iter_mut().chain(s.part_spans.values_mut()));
        settings.chain(self.sections.values_mut().flatten()).chain(&mut self.start)
    }

    /// The spec as nested tables with canonical names: what [`crate::from_json`] reads back.
    pub fn to_json(&self) -> Value {
        let mut root = Map::new();
        for section in self.sections.keys() {
            root.insert(section.name().to_string(), Value::Object(Map::new()));
        }
        for (path, setting) in &self.settings {
            insert(&mut root, path, setting.value.clone());
        }
        Value::Object(root)
    }
}

/// Puts `value` at a dotted path, making tables on the way.
pub(crate) fn insert(root: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            root.insert(path.to_string(), value);
        }
        Some((head, rest)) => {
            let table = root.entry(head.to_string()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(table) = table {
                insert(table, rest, value);
            }
        }
    }
}
