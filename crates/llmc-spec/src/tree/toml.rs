//! TOML text to a tree, through the `toml` crate's spanned and recovering parser.

use super::{Entry, Fault, Node, Value};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// Reads a whole document; every syntax error that the parser can recover from is reported.
pub(super) fn read(text: &str) -> (Option<Node>, Vec<Fault>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<Fault> = errors.iter().map(|e| fault(e, text.len())).collect();
    let span = table.span();
    let value = entries(table.into_inner(), &mut faults);
    (Some(Node { value, span }), faults)
}

/// Reads one value: a scalar, an array or an inline table.
pub(super) fn read_value(text: &str) -> Result<Node, Fault> {
    let value = DeValue::parse(text).map_err(|e| fault(&e, text.len()))?;
    let mut faults = Vec::new();
    let node = convert(value, &mut faults);
    match faults.into_iter().next() {
        Some(fault) => Err(fault),
        None => Ok(node),
    }
}

fn fault(error: &Error, len: usize) -> Fault {
    let span = error.span().map_or(0..0, |s| s.start.min(len)..s.end.min(len));
    let code = match error.message() {
        "duplicate key" => "spec::duplicate_key",
        _ => "spec::syntax",
    };
    let message = error.message().trim().replace('\n', ", ");
    Fault { code, help: help(&message).to_string(), message, span }
}

/// What to try, by what the parser says.
fn help(message: &str) -> &'static str {
    let table: [(&str, &str); 9] = [
        ("duplicate key", "keep one of the two"),
        ("string values must be quoted", "put a text in double quotes; one value follows a `=`"),
        ("escape", "write `\\\\` for a backslash, or put the text in single quotes"),
        ("string, expected", "end the text with the quote that it begins with, on the same line"),
        ("unclosed table", "close the header: `[model]`"),
        ("unclosed", "close every `[`, `{` and quote that is open"),
        ("with no value", "write `key = value`"),
        ("keys cannot be empty", "write `key = value`"),
        ("depth", "a spec has sections, fields, and at most tables in fields"),
    ];
    let found = table.into_iter().find(|(part, _)| message.contains(part));
    found.map_or(
        "TOML is lines of `key = value` below `[section]` headers, texts in double quotes",
        |(_, help)| help,
    )
}

fn entries(table: DeTable<'_>, faults: &mut Vec<Fault>) -> Value {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| Entry {
            key_span: key.span(),
            key: key.into_inner().into_owned(),
            node: convert(value, faults),
        })
        .collect();
    // The table is sorted by key; the tree is in file order.
    entries.sort_by_key(|entry| entry.key_span.start);
    Value::Table(entries)
}

fn convert(value: Spanned<DeValue<'_>>, faults: &mut Vec<Fault>) -> Node {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(b) => Value::Bool(b),
        DeValue::Integer(i) => match i128::from_str_radix(i.as_str(), i.radix()) {
            Ok(i) => Value::Int(i),
            Err(_) => {
                faults.push(too_large(i.as_str(), &span));
                Value::Null
            }
        },
        DeValue::Float(f) => match f.as_str().parse() {
            Ok(f) => Value::Float(f),
            Err(_) => {
                faults.push(too_large(f.as_str(), &span));
                Value::Null
            }
        },
        DeValue::Datetime(date) => {
            faults.push(Fault {
                code: "spec::wrong_type",
                message: format!("`{date}` is a date, which no field takes"),
                span: span.clone(),
                help: "put it in double quotes if it is a text".to_string(),
            });
            Value::Null
        }
        DeValue::Array(items) => {
            Value::List(items.into_iter().map(|item| convert(item, faults)).collect())
        }
        DeValue::Table(table) => entries(table, faults),
    };
    Node { value, span }
}

fn too_large(text: &str, span: &Range<usize>) -> Fault {
    let help = "write a smaller number";
    Fault::syntax(format!("`{text}` is not a number that can be read"), span.clone(), help)
}
