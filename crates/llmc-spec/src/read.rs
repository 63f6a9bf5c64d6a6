//! From a value tree to a [`Spec`]: names, types, ranges, duplicates, overrides.
//!
//! Everything that can be said about one field alone is said here; what fields say
//! about each other is in [`crate::check`].

mod convert;

#[cfg(test)]
mod tests;

pub(crate) use convert::{MAX_DIM, MAX_SIZE};

use crate::check;
use crate::field::{self, DefaultRule, Field, Section};
use crate::spec::{Setting, Spec};
use crate::tree::{self, Entry, Format, Node, Value};
use llmc_base::diag::nearest;
use llmc_base::{Diagnostic, Span};
use std::collections::BTreeSet;
use std::ops::Range;

/// Reads a spec from text. `file` names the text in diagnostics.
///
/// The spec is there unless a diagnostic is an error; every error is reported.
pub fn parse(text: &str, format: Format, file: &str) -> (Option<Spec>, Vec<Diagnostic>) {
    parse_with(text, format, file, &[])
}

/// Reads a spec from text and applies `--set` arguments (`training.lr=3e-4`) in order.
///
/// The value of an argument is a TOML value; a bare word is a text. Diagnostics about
/// an argument have the file name `--set` and spans into the arguments joined by line ends.
pub fn parse_with(
    text: &str,
    format: Format,
    file: &str,
    overrides: &[String],
) -> (Option<Spec>, Vec<Diagnostic>) {
    let (node, faults) = tree::read(text, format);
    let diagnostics: Vec<_> = faults.into_iter().map(|f| f.into_diagnostic(file)).collect();
    finish(node, Some(file), diagnostics, overrides)
}

/// Reads a spec from a JSON value, as Python passes it: diagnostics have no places,
/// and members that are `null` count as not written.
pub fn from_json(
    value: &serde_json::Value,
    overrides: &[String],
) -> (Option<Spec>, Vec<Diagnostic>) {
    match tree::from_json_value(value) {
        Ok(node) => finish(Some(node), None, Vec::new(), overrides),
        Err(fault) => (None, vec![Diagnostic::error(fault.code, fault.message)]),
    }
}

fn finish(
    node: Option<Node>,
    file: Option<&str>,
    diagnostics: Vec<Diagnostic>,
    overrides: &[String],
) -> (Option<Spec>, Vec<Diagnostic>) {
    let mut reader = Reader { file, spec: Spec::default(), diagnostics, tried: BTreeSet::new() };
    let has_text = reader.diagnostics.is_empty();
    if let Some(node) = node {
        reader.root(node);
    }
    let mut offset = 0;
    for argument in overrides {
        reader.override_with(argument, offset);
        offset += argument.len() + 1;
    }
    let Reader { spec, mut diagnostics, tried, .. } = reader;
    // What is missing from a text that could not be read is not known.
    if has_text {
        check::check(&spec, &tried, &mut diagnostics);
    }
    let place = |d: &Diagnostic| d.labels.first().map(|l| (l.span.file.clone(), l.span.start));
    diagnostics.sort_by_key(place);
    let is_good = !diagnostics.iter().any(Diagnostic::is_error);
    (is_good.then_some(spec), diagnostics)
}

/// The file name of spans into `--set` arguments.
const OVERRIDES: &str = "--set";

struct Reader<'a> {
    /// `None` for values without text.
    file: Option<&'a str>,
    spec: Spec,
    diagnostics: Vec<Diagnostic>,
    /// Fields whose value was refused, or whose name was nearly hit: not missing.
    tried: BTreeSet<&'static str>,
}

/// Where a value stands: which file, and how far its spans are shifted.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    file: Option<&'a str>,
    offset: usize,
}

impl Place<'_> {
    pub(crate) fn span(&self, range: &Range<usize>) -> Option<Span> {
        self.file.map(|file| Span::new(file, range.start + self.offset, range.end + self.offset))
    }

    pub(crate) fn label(
        &self,
        diagnostic: Diagnostic,
        range: &Range<usize>,
        text: &str,
    ) -> Diagnostic {
        match self.span(range) {
            Some(span) => diagnostic.at(span, text),
            None => diagnostic,
        }
    }
}

impl Reader<'_> {
    fn root(&mut self, node: Node) {
        let place = Place { file: self.file, offset: 0 };
        let Value::Table(entries) = node.value else {
            let found = node.value.kind();
            let d =
                Diagnostic::error("spec::wrong_type", format!("a spec is a table, not {found}"))
                    .help(
                        "write sections: [model], [dataset], [tokenizer], [optimizer], [training]",
                    );
            self.diagnostics.push(place.label(d, &node.span, ""));
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
            self.diagnostics.push(d);
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
                self.diagnostics.push(place.label(d, &entry.node.span, ""));
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
            self.diagnostics.push(place.label(d, &node.span, ""));
        }
    }

    fn unknown_section(&mut self, entry: &Entry, place: Place<'_>) {
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
        self.diagnostics.push(place.label(d, &entry.key_span, "unknown"));
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
                    let message = format!("`{path}` is a table, not {}", value.kind());
                    let d = Diagnostic::error("spec::wrong_type", message)
                        .help(format!("its fields are {}", field::names_in(&path).join(", ")));
                    self.diagnostics.push(place.label(d, &entry.node.span, ""));
                }
                (None, _) => self.unknown_key(table, &entry.key, &entry.key_span, place),
            }
        }
    }

    fn unknown_key(&mut self, table: &str, key: &str, key_span: &Range<usize>, place: Place<'_>) {
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
        let d = Diagnostic::error("spec::unknown_key", message).help(help);
        self.diagnostics.push(place.label(d, key_span, "unknown"));
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
        if node.value == Value::Null && place.file.is_none() {
            return;
        }
        let (value, part_spans) = match convert::convert(field, node, place) {
            Ok(converted) => converted,
            Err(diagnostics) => {
                self.diagnostics.extend(diagnostics);
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
                .help(format!("keep one, best as `{}`", field.path));
            d = place.label(d, key_span, "again here");
            if let Some(span) = &first.span {
                d = d.at(span.clone(), "first here");
            }
            self.diagnostics.push(d);
            return;
        }
        self.spec.sections.entry(field.section()).or_insert(None);
        let span = place.span(&node.span);
        let setting =
            Setting { value, written_as: written_as.to_string(), span, part_spans, is_override };
        self.spec.settings.insert(field.path, setting);
    }

    fn override_with(&mut self, argument: &str, offset: usize) {
        let fail = |code: &str, message: String, range: Range<usize>, help: String| {
            Diagnostic::error(code, message)
                .at(Span::new(OVERRIDES, range.start + offset, range.end + offset), "")
                .help(help)
        };
        let Some((path, text)) = argument.split_once('=') else {
            let message = format!("`--set {argument}` has no `=`");
            let help = "write `--set path=value`, e.g. `--set training.lr=3e-4`".to_string();
            self.diagnostics.push(fail("spec::syntax", message, 0..argument.len(), help));
            return;
        };
        let value_start = path.len() + 1;
        let key_span = 0..path.len();
        let path = path.trim();
        let node = match override_value(text) {
            Ok(node) => node,
            Err(fault) => {
                let range = value_start + fault.span.start..value_start + fault.span.end;
                let help = "the value is a TOML value: a number, \"text\", true, [..] or {..}";
                self.diagnostics.push(fail(fault.code, fault.message, range, help.to_string()));
                return;
            }
        };
        let is_table = field::is_table(path) || Section::ALL.iter().any(|s| s.name() == path);
        if field::find(path).is_none() && !is_table {
            let message = format!("there is no field `{path}`");
            let near = nearest(path, field::all_paths()).map(str::to_string);
            let help = match near.or_else(|| homes_of(path).into_iter().next()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "a path is section and field, e.g. `training.lr`".to_string(),
            };
            self.diagnostics.push(fail("spec::unknown_key", message, key_span, help));
            return;
        }
        self.spec.overrides.push(argument.to_string());
        let place = Place { file: Some(OVERRIDES), offset: offset + value_start };
        self.replace(path, node, place);
    }

    /// Applies one override: a table goes field by field; a value replaces the field and
    /// everything that the written path stands for.
    fn replace(&mut self, path: &str, node: Node, place: Place<'_>) {
        match (field::find(path), node.value) {
            (field, Value::Table(entries)) if field.is_none() || field::is_table(path) => {
                for entry in entries {
                    let inner = format!("{path}.{}", entry.key);
                    let is_known = field::find(&inner).is_some() || field::is_table(&inner);
                    if is_known && !entry.key.contains('.') {
                        self.replace(&inner, entry.node, place);
                    } else {
                        self.unknown_key(path, &entry.key, &entry.key_span, place);
                    }
                }
            }
            (Some(field), value) => {
                let node = Node { value, span: node.span };
                if field::is_table(path) && path.contains('.') {
                    let parent = field.path.rsplit_once('.').map_or("", |(parent, _)| parent);
                    if parent.contains('.') {
                        self.spec.settings.retain(|p, _| !is_below(p, parent));
                    }
                }
                if let DefaultRule::Shorthand { covers, .. } = field.default {
                    self.spec.settings.retain(|p, _| !covers.contains(p));
                }
                let key_span = node.span.clone();
                self.set(field, path, &key_span, &node, place, true);
            }
            (None, value) => {
                let message = format!("`{path}` is a table, not {}", value.kind());
                let d = Diagnostic::error("spec::wrong_type", message)
                    .help(format!("its fields are {}", field::names_in(path).join(", ")));
                self.diagnostics.push(place.label(d, &node.span, ""));
            }
        }
    }
}

fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'))
}

/// A TOML value, or a bare word as a text.
fn override_value(text: &str) -> Result<Node, tree::Fault> {
    let word = text.trim();
    let start = text.len() - text.trim_start().len();
    let shift = |span: Range<usize>| span.start + start..span.end + start;
    match tree::read_toml_value(word) {
        Ok(node) => Ok(shifted(node, start)),
        Err(fault) if word.is_empty() || word.starts_with(['"', '\'', '[', '{']) => {
            Err(tree::Fault { span: shift(fault.span), ..fault })
        }
        Err(_) => Ok(Node { value: Value::Text(word.to_string()), span: shift(0..word.len()) }),
    }
}

/// The node with every span `by` bytes further.
fn shifted(mut node: Node, by: usize) -> Node {
    let shift = |span: &mut Range<usize>| *span = span.start + by..span.end + by;
    shift(&mut node.span);
    node.value = match node.value {
        Value::List(items) => {
            Value::List(items.into_iter().map(|item| shifted(item, by)).collect())
        }
        Value::Table(mut entries) => {
            for entry in &mut entries {
                shift(&mut entry.key_span);
                entry.node = shifted(entry.node.clone(), by);
            }
            Value::Table(entries)
        }
        scalar => scalar,
    };
    node
}

/// Paths of fields that are called `key` in some other section.
fn homes_of(key: &str) -> Vec<String> {
    field::all_paths()
        .filter(|path| path.rsplit('.').next() == Some(key))
        .filter_map(|path| Some(field::find(path)?.path.to_string()))
        .collect()
}
