//! From a value tree to a [`Spec`]: names, types, ranges, duplicates, overrides.
//!
//! Everything that can be said about one field alone is said here; what fields say
//! about each other is in [`crate::check`].

mod convert;
mod expected;
mod overrides;
mod place;

#[cfg(test)]
mod tests;

pub(crate) use convert::{MAX_DIM, MAX_SIZE};
pub(crate) use place::Place;

use crate::check;
use crate::field::{self, Field, Section};
use crate::spec::{Setting, Spec};
use crate::tree::{self, Entry, Format, Node, Value};
use llmc_base::diag::nearest;
use llmc_base::{Diagnostic, Span};
use place::SET;
use std::collections::BTreeSet;
use std::ops::Range;

/// What a spec is made of.
const WRITE_SECTIONS: &str =
    "write sections: [model], [dataset], [tokenizer], [optimizer], [training]";

/// Problems that are told one by one; of the rest only the number is.
const MAX_TOLD: usize = 100;

/// Reads a spec from text. `file` names the text in diagnostics.
///
/// The spec is there unless a diagnostic is an error; every error is reported.
pub fn parse(text: &str, format: Format, file: &str) -> (Option<Spec>, Vec<Diagnostic>) {
    parse_with(text, format, file, &[])
}

/// Reads a spec from text and applies `--set` arguments (`training.lr=3e-4`) in order.
///
/// The value of an argument is a TOML value; a bare word is a text. Diagnostics about
/// an argument have the whole of it as their file (`--set training.lr=3e-4`), and spans into that.
pub fn parse_with(
    text: &str,
    format: Format,
    file: &str,
    overrides: &[String],
) -> (Option<Spec>, Vec<Diagnostic>) {
    let (node, faults) = tree::read(text, format);
    let diagnostics: Vec<_> = faults.into_iter().map(|f| f.into_diagnostic(file, text)).collect();
    finish(node, Some((file, text)), diagnostics, overrides)
}

/// The text of a spec file.
///
/// Errors: `spec::encoding` with line and byte offset.
pub fn decode<'a>(bytes: &'a [u8], file: &str) -> Result<&'a str, Diagnostic> {
    std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        let line = bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
        let message =
            format!("`{file}` is not UTF-8: byte {at} (line {line}) is 0x{:02x}", bytes[at]);
        let mut span = Span::new(file, at, at + 1);
        span.locate(&String::from_utf8_lossy(&bytes[..at]));
        Diagnostic::error("spec::encoding", message)
            .at(span, format!("line {line}, byte {at}"))
            .help("save the file as UTF-8, or remove the byte")
    })
}

/// Reads a spec from a JSON value, as Python passes it: diagnostics have no places,
/// and members that are `null` count as not written.
pub fn from_json(
    value: &serde_json::Value,
    overrides: &[String],
) -> (Option<Spec>, Vec<Diagnostic>) {
    match tree::from_json_value(value) {
        Ok(node) => finish(Some(node), None, Vec::new(), overrides),
        Err(fault) => (None, vec![Diagnostic::error(fault.code, fault.message).help(fault.help)]),
    }
}

fn finish(
    node: Option<Node>,
    source: Option<(&str, &str)>,
    diagnostics: Vec<Diagnostic>,
    overrides: &[String],
) -> (Option<Spec>, Vec<Diagnostic>) {
    let arguments: Vec<String> = overrides.iter().map(|a| format!("{SET}{a}")).collect();
    let place = Place::file(source);
    let spec = Spec { start: place.span(&(0..0)), ..Spec::default() };
    let has_tree = diagnostics.is_empty();
    let mut reader = Reader { place, spec, diagnostics, n_untold: 0, tried: BTreeSet::new() };
    if let Some(node) = node {
        reader.root(node);
    }
    for argument in &arguments {
        reader.override_with(argument);
    }
    // What is missing from a text that could not be read is not known.
    if has_tree {
        reader.refuse_nothing();
        check::check(&reader.spec, &reader.tried, &mut reader.diagnostics);
    }
    let Reader { mut spec, mut diagnostics, n_untold, .. } = reader;
    let order = |d: &Diagnostic| {
        let span = &d.labels.first()?.span;
        Some((arguments.iter().position(|a| *a == span.file), span.start))
    };
    diagnostics.sort_by_key(order);
    cut(&mut diagnostics, n_untold);
    let places = diagnostics.iter_mut().flat_map(|d| &mut d.labels).map(|label| &mut label.span);
    for span in places.chain(spec.spans_mut()) {
        match span.argument().map(str::to_string) {
            Some(argument) => span.locate(&argument),
            None => span.locate(source.map_or("", |(_, text)| text)),
        }
    }
    let is_good = !diagnostics.iter().any(Diagnostic::is_error);
    (is_good.then_some(spec), diagnostics)
}

/// Leaves the first [`MAX_TOLD`] problems and the number of the others.
fn cut(diagnostics: &mut Vec<Diagnostic>, n_untold: usize) {
    let n = diagnostics.len() + n_untold;
    if n <= MAX_TOLD {
        return;
    }
    let next = diagnostics.get(MAX_TOLD).or(diagnostics.last()).map(|d| d.labels.clone());
    diagnostics.truncate(MAX_TOLD);
    let message = format!("{} more problems are not shown", n - diagnostics.len());
    let mut d = Diagnostic::error("spec::too_many", message)
        .help("mend those above first; many unknown keys may mean that the file is no spec");
    d.labels = next.unwrap_or_default();
    diagnostics.push(d);
}

struct Reader<'a> {
    /// Of the file.
    place: Place<'a>,
    spec: Spec,
    diagnostics: Vec<Diagnostic>,
    /// Problems beyond [`MAX_TOLD`], which are only counted.
    n_untold: usize,
    /// Fields whose value was refused, or whose name was nearly hit: not missing.
    tried: BTreeSet<&'static str>,
}

impl Reader<'_> {
    fn push(&mut self, diagnostic: Diagnostic) {
        match self.diagnostics.len() {
            0..MAX_TOLD => self.diagnostics.push(diagnostic),
            _ => self.n_untold += 1,
        }
    }

    /// A spec without a section asks for nothing, whatever the format.
    fn refuse_nothing(&mut self) {
        if !self.spec.sections.is_empty() || !self.diagnostics.is_empty() {
            return;
        }
        let d = Diagnostic::error("spec::empty", "the spec is empty")
            .help(format!("{WRITE_SECTIONS}; `llmc new NAME` writes a spec to start from"));
        let d = self.place.label(d, &(0..0), "no section");
        self.push(d);
    }

    fn root(&mut self, node: Node) {
        let place = self.place;
        // A YAML document with nothing in it is null.
        if node.value == Value::Null && place.written(&node.span).is_none_or(|t| t.trim() != "null")
        {
            return;
        }
        let Value::Table(entries) = node.value else {
            let found = node.value.kind();
            let d =
                Diagnostic::error("spec::wrong_type", format!("a spec is a table, not {found}"))
                    .help(WRITE_SECTIONS);
            self.push(place.label(d, &node.span, found));
            return;
        };
        for entry in entries {
            let section = Section::ALL.into_iter().find(|s| s.name() == entry.key);
            match (section, entry.key.as_str()) {
                (Some(section), _) => self.section(section, entry, place),
                (None, "spec_version") => self.version(&entry.node, place),
                (None, _) => self.unknown_section(&entry, place),
            }
        }
    }

    fn section(&mut self, section: Section, entry: Entry, place: Place<'_>) {
        if let Some(first) = self.spec.sections.get(&section) {
            let message = format!("`{section}` is written twice");
            let mut d = Diagnostic::error("spec::duplicate_key", message)
                .help("put all of its fields into one table");
            d = place.label(d, &entry.key_span, "again here");
            if let Some(first) = first {
                d = d.at(first.clone(), "first here");
            }
            self.push(d);
            return;
        }
        self.spec.sections.insert(section, place.span(&entry.key_span));
        match entry.node.value {
            Value::Table(entries) => self.table(section.name(), entries, place),
            Value::Null => {}
            other => {
                let message = format!("`{section}` is a table, not {}", other.kind());
                let d = Diagnostic::error("spec::wrong_type", message)
                    .help(format!("write [{section}] and its fields below it"));
                self.push(place.label(d, &entry.node.span, other.kind()));
            }
        }
    }

    fn version(&mut self, node: &Node, place: Place<'_>) {
        if node.value != Value::Int(i128::from(crate::SPEC_VERSION)) {
            let message =
                format!("`spec_version` is {}, not {}", node.value.show(), crate::SPEC_VERSION);
            let d = Diagnostic::error("spec::out_of_range", message).help(format!(
                "this llmc reads version {}; leave the line out to mean it",
                crate::SPEC_VERSION
            ));
            self.push(place.label(d, &node.span, "not known"));
        }
    }

    fn unknown_section(&mut self, entry: &Entry, place: Place<'_>) {
        if self.diagnostics.len() >= MAX_TOLD {
            // A search for the nearest name is dear.
            self.n_untold += 1;
            return;
        }
        let names = Section::ALL.iter().map(|s| s.name()).chain(["spec_version"]);
        let mut d =
            Diagnostic::error("spec::unknown_key", format!("there is no section `{}`", entry.key));
        d = match (nearest(&entry.key, names), homes_of(&entry.key).first()) {
            (Some(name), _) => d.help(format!("did you mean `{name}`?")),
            (None, Some(home)) => d.help(format!("did you mean `{home}`?")),
            (None, None) => {
                d.help("sections are model, dataset, tokenizer, optimizer and training")
            }
        };
        self.push(place.label(d, &entry.key_span, "unknown"));
    }

    fn table(&mut self, table: &str, entries: Vec<Entry>, place: Place<'_>) {
        for entry in entries {
            let path = format!("{table}.{}", entry.key);
            // A dot inside a key is not a table: `"a.b"` is one unknown name.
            let field = field::find(&path).filter(|_| !entry.key.contains('.'));
            let is_table = field::is_table(&path) && !entry.key.contains('.');
            match (field, entry.node.value) {
                (_, Value::Table(entries)) if is_table => self.table(&path, entries, place),
                (Some(field), value) => {
                    let node = Node { value, span: entry.node.span };
                    self.set(field, &path, &entry.key_span, &node, place, false);
                }
                (None, Value::Null) if is_table => {}
                (None, value) if is_table => {
                    self.not_a_table(&path, value.kind(), &entry.node.span, place);
                }
                (None, _) => self.unknown_key(table, &entry.key, &entry.key_span, place),
            }
        }
    }

    fn not_a_table(&mut self, path: &str, found: &str, span: &Range<usize>, place: Place<'_>) {
        let message = format!("`{path}` is a table, not {found}");
        let d = Diagnostic::error("spec::wrong_type", message)
            .help(format!("its fields are {}", field::names_in(path).join(", ")))
            .field(path);
        self.push(place.label(d, span, found));
    }

    fn unknown_key(&mut self, table: &str, key: &str, key_span: &Range<usize>, place: Place<'_>) {
        if self.diagnostics.len() >= MAX_TOLD {
            self.n_untold += 1;
            return;
        }
        let message = format!("`{table}` has no field `{key}`");
        let near = nearest(key, field::names_in(table));
        let help = match (near, homes_of(key).first()) {
            (Some(name), _) => {
                self.tried.extend(field::find(&format!("{table}.{name}")).map(|f| f.path));
                format!("did you mean `{name}`?")
            }
            (None, Some(home)) => format!("did you mean `{home}`?"),
            (None, None) => format!("its fields are {}", field::names_in(table).join(", ")),
        };
        let path = format!("{table}.{key}");
        let d = Diagnostic::error("spec::unknown_key", message).help(help).field(path);
        self.push(place.label(d, key_span, "unknown"));
    }

    fn set(
        &mut self,
        field: &'static Field,
        written_as: &str,
        key_span: &Range<usize>,
        node: &Node,
        place: Place<'_>,
        is_override: bool,
    ) {
        // Python passes `None` for what was not given.
        if node.value == Value::Null && !place.has_text() {
            return;
        }
        let (value, part_spans) = match convert::convert(field, node, place) {
            Ok(converted) => converted,
            Err(diagnostics) => {
                diagnostics.into_iter().for_each(|d| self.push(d));
                self.tried.insert(field.path);
                return;
            }
        };
        if !is_override && let Some(first) = self.spec.settings.get(field.path) {
            let message = match first.written_as == written_as {
                true => format!("`{written_as}` is written twice"),
                false => {
                    format!("`{}` and `{written_as}` are the same field", first.written_as)
                }
            };
            let mut d = Diagnostic::error("spec::duplicate_key", message)
                .help(format!("keep one, best as `{}`", field.path))
                .field(field.path);
            d = place.label(d, key_span, "again here");
            if let Some(span) = &first.span {
                d = d.at(span.clone(), "first here");
            }
            self.push(d);
            return;
        }
        self.spec.sections.entry(field.section()).or_insert(None);
        let span = place.span(&node.span);
        let setting =
            Setting { value, written_as: written_as.to_string(), span, part_spans, is_override };
        self.spec.settings.insert(field.path, setting);
    }
}

/// Paths of fields that are called `key` in some other section.
fn homes_of(key: &str) -> Vec<String> {
    field::all_paths()
        .filter(|path| path.rsplit('.').next() == Some(key))
        .filter_map(|path| Some(field::find(path)?.path.to_string()))
        .collect()
}
