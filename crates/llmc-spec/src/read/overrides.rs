//! `--set path=value` arguments.

use super::place::{Place, SET};
use super::{Reader, homes_of};
use crate::field::{self, DefaultRule, Section};
use crate::tree::{self, Node, Value};
use llmc_base::diag::nearest;
use llmc_base::{Diagnostic, Span};
use std::ops::Range;

impl Reader<'_> {
    /// Applies one argument, given with the `--set ` in front.
    pub(super) fn override_with(&mut self, argument: &str) {
        let written = &argument[SET.len()..];
        let fail = |code: &str, message: String, range: Range<usize>, text: &str, help: String| {
            Diagnostic::error(code, message)
                .at(Span::new(argument, range.start, range.end), text)
                .help(help)
        };
        let Some((path, text)) = written.split_once('=') else {
            let message = format!("`{argument}` has no `=`");
            let help = format!("write `--set path=value`, e.g. `{}`", example(written));
            let place = SET.len()..argument.len();
            self.push(fail("spec::syntax", message, place, "no `=`", help));
            return;
        };
        let value_start = SET.len() + path.len() + 1;
        let key_span = SET.len()..SET.len() + path.len();
        let path = path.trim();
        let is_table = field::is_table(path) || Section::ALL.iter().any(|s| s.name() == path);
        if field::find(path).is_none() && !is_table {
            let message = format!("there is no field `{path}`");
            let near = nearest(path, field::all_paths()).map(str::to_string);
            let help = match near.or_else(|| homes_of(path).into_iter().next()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "a path is section and field, e.g. `training.lr`".to_string(),
            };
            self.push(fail("spec::unknown_key", message, key_span, "unknown", help));
            return;
        }
        if text.trim().is_empty() {
            let message = format!("`{argument}` has no value");
            let help = format!("write one after the `=`, e.g. `{}`", example(path));
            let end = argument.len();
            self.push(fail("spec::syntax", message, end..end, "a value is missing", help));
            return;
        }
        let node = match override_value(text) {
            Ok(node) => node,
            Err(fault) => {
                let range = value_start + fault.span.start..value_start + fault.span.end;
                self.push(fail(fault.code, fault.message, range, "here", fault.help));
                return;
            }
        };
        self.spec.overrides.push(written.to_string());
        self.replace(path, node, Place::argument(argument, value_start));
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
            (None, value) => self.not_a_table(path, value.kind(), &node.span, place),
        }
    }
}

/// A whole argument that would work, for this path or in general.
fn example(path: &str) -> String {
    let known = field::find(path.trim()).map(|f| (f.path, f.default));
    match known {
        Some((path, DefaultRule::Is(lit))) => {
            format!("--set {path}={}", crate::print::toml_value(&lit.value()))
        }
        _ => "--set training.lr=3e-4".to_string(),
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
        Err(fault) if word.starts_with(['"', '\'', '[', '{']) => {
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
