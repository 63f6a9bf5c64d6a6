//! YAML 1.2 (core schema, one document) to a tree, from `saphyr-parser`'s events.
//!
//! Anchors and aliases work, within a limit on the expanded size. Tags other than
//! `!!str`, keys that are not scalars and merge keys are refused: none has a
//! meaning in a spec.

use super::{Entry, Fault, MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, Value};
use saphyr_parser::{Event, Parser, ScalarStyle, Span as YamlSpan, Tag};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// Reads one document; an empty one is an empty table.
pub(super) fn read(text: &str) -> Result<Node, Fault> {
    let places = Places::new(text);
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| {
            let at = places.byte(e.marker().index());
            Fault::syntax(e.info().to_string(), at..at, help(e.info()))
        })?;
        builder.event(event, places.span(&span))?;
    }
    Ok(builder.root.unwrap_or(Node { value: Value::Table(Vec::new()), span: 0..0 }))
}

/// What to try, by what the parser says.
fn help(message: &str) -> &'static str {
    let table: [(&str, &str); 5] = [
        ("tab", "indent with spaces"),
        ("flow", "close every `[` and `{`, and put a comma between two entries"),
        ("quoted", "end the text with the quote that it begins with"),
        (
            "mapping values",
            "indent all fields of a section alike, and quote a text that holds `: `",
        ),
        ("':'", "indent all fields of a section alike, and quote a text that holds `: `"),
    ];
    let found = table.into_iter().find(|(part, _)| message.contains(part));
    found
        .map_or("YAML is `field: value` lines, indented by spaces below `section:`", |(_, help)| {
            help
        })
}

/// Character indices, which the parser gives, to byte offsets.
struct Places {
    /// Empty when all characters are one byte long.
    starts: Vec<usize>,
    len: usize,
}

impl Places {
    fn new(text: &str) -> Places {
        let starts = match text.is_ascii() {
            true => Vec::new(),
            false => text.char_indices().map(|(at, _)| at).collect(),
        };
        Places { starts, len: text.len() }
    }

    fn byte(&self, idx: usize) -> usize {
        match self.starts.is_empty() {
            true => idx.min(self.len),
            false => self.starts.get(idx).copied().unwrap_or(self.len),
        }
    }

    fn span(&self, span: &YamlSpan) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }
}

/// What a node takes in memory.
#[derive(Clone, Copy, Default)]
struct Size {
    n_nodes: usize,
    /// Of texts and keys.
    n_bytes: usize,
}

impl Size {
    fn add(&mut self, other: Size) {
        self.n_nodes += other.n_nodes;
        self.n_bytes += other.n_bytes;
    }
}

/// A collection that is still open.
enum Open {
    List { items: Vec<Node>, start: usize, anchor: usize },
    Table { entries: Vec<Entry>, key: Option<(String, Range<usize>)>, start: usize, anchor: usize },
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    anchors: BTreeMap<usize, (Node, Size)>,
    /// Of all aliases as if they were written out.
    size: Size,
    root: Option<Node>,
    n_documents: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), Fault> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.n_documents += 1;
                match self.n_documents {
                    1 => Ok(()),
                    _ => Err(Fault::syntax(
                        "a second document; a spec is one document",
                        span,
                        "remove the `---` and what follows it",
                    )),
                }
            }
            Event::Scalar(text, style, anchor, tag) => self.scalar(text, style, anchor, tag, span),
            Event::Alias(id) => {
                let Some((_, size)) = self.anchors.get(&id) else {
                    return Err(Fault::syntax(
                        "an alias of something that is still open",
                        span,
                        "write the value out instead of the alias",
                    ));
                };
                // Before the copy is made.
                self.grow(*size, &span)?;
                let node = self.anchors[&id].0.clone();
                self.place(node)
            }
            Event::SequenceStart(anchor, tag) => {
                no_tag(tag.as_deref(), &span)?;
                self.open(Open::List { items: Vec::new(), start: span.start, anchor }, span)
            }
            Event::MappingStart(anchor, tag) => {
                no_tag(tag.as_deref(), &span)?;
                let start = span.start;
                self.open(Open::Table { entries: Vec::new(), key: None, start, anchor }, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        span: Range<usize>,
    ) -> Result<(), Fault> {
        let is_str = tag.as_deref().is_some_and(|t| t.is_yaml_core_schema() && t.suffix == "str");
        if !is_str {
            no_tag(tag.as_deref(), &span)?;
        }
        // A key is its text, whatever the schema would make of it.
        if let Some(Open::Table { key: key @ None, .. }) = self.stack.last_mut() {
            if style == ScalarStyle::Plain && text == "<<" {
                return Err(Fault::syntax(
                    "merge keys are not part of YAML 1.2",
                    span,
                    "write the fields out",
                ));
            }
            *key = Some((text.into_owned(), span));
            return Ok(());
        }
        let value = match style {
            ScalarStyle::Plain if !is_str => core_schema(&text),
            _ => Value::Text(text.into_owned()),
        };
        self.add(Node { value, span }, anchor)
    }

    fn open(&mut self, open: Open, span: Range<usize>) -> Result<(), Fault> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(Fault::syntax(
                format!("nested deeper than {MAX_DEPTH}"),
                span,
                "a spec has sections, fields, and at most tables in fields",
            ));
        }
        if let Some(Open::Table { key: None, .. }) = self.stack.last() {
            return Err(Fault::syntax(
                "a key must be a plain word",
                span,
                "write the key as a word or a quoted text",
            ));
        }
        self.stack.push(open);
        Ok(())
    }

    fn close(&mut self, span: Range<usize>) -> Result<(), Fault> {
        let (value, start, anchor) = match self.stack.pop() {
            Some(Open::List { items, start, anchor }) => (Value::List(items), start, anchor),
            Some(Open::Table { entries, start, anchor, .. }) => {
                (Value::Table(entries), start, anchor)
            }
            None => {
                return Err(Fault::syntax("an end without a start", span, "check the brackets"));
            }
        };
        let end = span.end.max(start);
        self.add(Node { value, span: start..end }, anchor)
    }

    /// A new node, whose parts are there already. Its text is part of the text that was read.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        self.grow(Size { n_nodes: 1, n_bytes: 0 }, &node.span)?;
        if anchor > 0 {
            // The copy for the anchor counts as an alias does: anchors nest.
            let size = size_of(&node);
            self.grow(Size { n_nodes: 0, ..size }, &node.span)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        self.place(node)
    }

    fn grow(&mut self, size: Size, span: &Range<usize>) -> Result<(), Fault> {
        self.size.add(size);
        if self.size.n_nodes > MAX_NODES {
            return Err(Fault::syntax(
                format!("more than {MAX_NODES} values"),
                span.clone(),
                "write values out instead of aliases",
            ));
        }
        if self.size.n_bytes > MAX_BYTES {
            let message = format!("aliases stand for more than {MAX_BYTES} bytes of text");
            let help = "write values out instead of aliases";
            return Err(Fault::syntax(message, span.clone(), help));
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node) -> Result<(), Fault> {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Table { entries, key, .. }) => match key.take() {
                Some((key, key_span)) => entries.push(Entry { key, key_span, node }),
                None => {
                    return Err(Fault::syntax(
                        "a key must be a plain word",
                        node.span,
                        "write the key as a word or a quoted text",
                    ));
                }
            },
        }
        Ok(())
    }
}

fn no_tag(tag: Option<&Tag>, span: &Range<usize>) -> Result<(), Fault> {
    match tag {
        None => Ok(()),
        Some(tag) => {
            let message = format!("the tag `{}{}` has no meaning here", tag.handle, tag.suffix);
            Err(Fault::syntax(message, span.clone(), "leave the tag out; quotes make a text"))
        }
    }
}

fn size_of(node: &Node) -> Size {
    let mut size = Size { n_nodes: 1, n_bytes: 0 };
    match &node.value {
        Value::Text(text) => size.n_bytes += text.len(),
        Value::List(items) => items.iter().for_each(|item| size.add(size_of(item))),
        Value::Table(entries) => {
            for entry in entries {
                size.n_bytes += entry.key.len();
                size.add(size_of(&entry.node));
            }
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
    }
    size
}

/// What a plain scalar means: YAML 1.2.2 section 10.3.2.
fn core_schema(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(rest) = text.strip_prefix(prefix)
            && !rest.starts_with(['+', '-'])
            && let Ok(i) = i128::from_str_radix(rest, radix)
        {
            return Value::Int(i);
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits(unsigned)
        && let Ok(i) = text.parse()
    {
        return Value::Int(i);
    }
    // [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let is_mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    let is_exponent = exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)));
    if is_mantissa
        && is_exponent
        && let Ok(f) = text.parse()
    {
        return Value::Float(f);
    }
    Value::Text(text.to_string())
}
