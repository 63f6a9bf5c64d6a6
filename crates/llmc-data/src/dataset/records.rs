//! Records of JSON lines: a text, a prompt with its completion, or a conversation.
//!
//! | keys | what a model learns from |
//! |---|---|
//! | `text` | all of it |
//! | `prompt`, `completion` | the completion |
//! | `messages`, each with `role` and `content` | what the assistant says |
//!
//! The names are those of Hugging Face's TRL. Other keys are left alone. A conversation becomes
//! text by a chat template, which is not known here: [`Render`] is asked.

use llmc_base::{Diagnostic, Span};
use serde_json::{Map, Value};

/// Bad lines of one file that are told one by one.
const MAX_TOLD: usize = 8;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or what the template knows.
    pub role: String,
    /// What they say.
    pub content: String,
}

/// The role whose messages are learned.
pub const ASSISTANT: &str = "assistant";

/// A text of which some parts are only read, not learned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskedText {
    /// All of it.
    pub text: String,
    /// Bytes at which the parts end that are read and learned in turn: up to the first it is read,
    /// from there to the second learned, and so on. Without any, all of it is learned.
    pub cuts: Vec<usize>,
}

impl MaskedText {
    /// The parts in order, and whether each is learned. Empty ones are left out.
    pub fn parts(&self) -> impl Iterator<Item = (&str, bool)> {
        parts(&self.text, &self.cuts)
    }
}

/// The parts of a text between its cuts, and whether each is learned. Empty ones are left out.
pub(super) fn parts<'t>(
    text: &'t str,
    cuts: &'t [usize],
) -> impl Iterator<Item = (&'t str, bool)> + use<'t> {
    let ends = cuts.iter().copied().chain([text.len()]);
    let is_whole = cuts.is_empty();
    let mut start = 0;
    ends.enumerate()
        .map(move |(i, end)| {
            let part = text.get(start..end).unwrap_or_default();
            start = end;
            (part, is_whole || i % 2 == 1)
        })
        .filter(|(part, _)| !part.is_empty())
}

/// Makes the text of a conversation, in which what the assistant says is learned.
pub type Render<'r> = &'r dyn Fn(&[Message]) -> Result<MaskedText, Diagnostic>;

/// A record of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub text: MaskedText,
    /// Whether a template wrote it, with all special tokens that belong there.
    pub is_rendered: bool,
}

/// The records of a file of JSON lines, in order; blank lines are none.
pub(super) fn records(
    path: &str,
    text: &str,
    trains_on_prompt: bool,
    render: Option<Render<'_>>,
    found: &mut Vec<Diagnostic>,
) -> Vec<Record> {
    let mut records = Vec::new();
    let (mut n_bad, mut start) = (0, 0);
    for (line, content) in (1..).zip(text.split('\n')) {
        let at = start;
        start += content.len() + 1;
        if content.trim().is_empty() {
            continue;
        }
        match record(content, render) {
            Ok(mut record) => {
                if trains_on_prompt {
                    record.text.cuts.clear();
                }
                records.push(record);
            }
            Err(wrong) => {
                n_bad += 1;
                if n_bad <= MAX_TOLD {
                    found.push(wrong.told(path, line, at, content));
                }
            }
        }
    }
    if n_bad > MAX_TOLD {
        let message = format!("`{path}`: {} more lines cannot be read", n_bad - MAX_TOLD);
        found.push(Diagnostic::error("dataset::record", message).field("dataset.format"));
    }
    records
}

/// What is wrong with a line.
struct Wrong {
    code: String,
    message: String,
    help: String,
    /// Byte in the line.
    at: Option<usize>,
}

/// What a line should be.
const EXPECTED: &str = "a line is {\"text\": …}, {\"prompt\": …, \"completion\": …} or {\"messages\": [{\"role\": …, \"content\": …}, …]}";

impl Wrong {
    fn new(message: impl Into<String>) -> Self {
        let code = "dataset::record".to_string();
        Wrong { code, message: message.into(), help: EXPECTED.to_string(), at: None }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Wrong { help: help.into(), ..self }
    }

    fn told(self, path: &str, line: usize, start: usize, content: &str) -> Diagnostic {
        let (from, to) = match self.at {
            Some(at) => (start + at, start + at + 1),
            None => (start, start + content.trim_end().len()),
        };
        let mut span = Span::new(path, from, to);
        span.line = Some(line);
        span.column = Some(content[..self.at.unwrap_or(0)].chars().count() + 1);
        Diagnostic::error(self.code, format!("`{path}`, line {line}: {}", self.message))
            .at(span, "in this record")
            .help(self.help)
            .field("dataset.format")
    }
}

fn record(line: &str, render: Option<Render<'_>>) -> Result<Record, Wrong> {
    let value: Value = serde_json::from_str(line).map_err(|e| {
        // Columns are bytes here, from 1.
        let mut at = e.column().saturating_sub(1).min(line.len());
        while !line.is_char_boundary(at) {
            at -= 1;
        }
        let what = e.to_string();
        let what = what.split(" at line").next().unwrap_or_default();
        Wrong { at: Some(at), ..Wrong::new(format!("this is no JSON: {what}")) }
    })?;
    let Value::Object(map) = &value else {
        return Err(Wrong::new(format!("this is {}, expected an object", kind(&value))));
    };
    let has = |key: &str| map.contains_key(key);
    match (has("text"), has("prompt") || has("completion"), has("messages")) {
        (true, false, false) => {
            let text = MaskedText { text: text_of(map, "text")?, cuts: Vec::new() };
            Ok(Record { text, is_rendered: false })
        }
        (false, true, false) => {
            let (prompt, completion) = (text_of(map, "prompt")?, text_of(map, "completion")?);
            let cuts = vec![prompt.len()];
            let text = MaskedText { text: prompt + &completion, cuts };
            Ok(Record { text, is_rendered: false })
        }
        (false, false, true) => {
            let text = conversation(&map["messages"], render)?;
            Ok(Record { text, is_rendered: true })
        }
        (false, false, false) => {
            let keys: Vec<String> = map.keys().map(|key| format!("`{key}`")).collect();
            let keys = if keys.is_empty() { "nothing".to_string() } else { keys.join(", ") };
            let message = format!(
                "the record has {keys}, but neither `text` nor `prompt` and `completion` nor `messages`"
            );
            Err(Wrong::new(message))
        }
        _ => Err(Wrong::new("the record is of more than one kind")
            .help(format!("leave out what does not belong there: {EXPECTED}"))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn text_of(map: &Map<String, Value>, key: &str) -> Result<String, Wrong> {
    match map.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(Wrong::new(format!("`{key}` is {}, expected a text", kind(other)))),
        None => Err(Wrong::new(format!("the record has no `{key}`"))),
    }
}

fn conversation(messages: &Value, render: Option<Render<'_>>) -> Result<MaskedText, Wrong> {
    let Value::Array(messages) = messages else {
        let message = format!("`messages` is {}, expected a list", kind(messages));
        return Err(Wrong::new(message));
    };
    let mut said = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        let Value::Object(map) = message else {
            let message = format!("`messages[{i}]` is {}, expected an object", kind(message));
            return Err(Wrong::new(message));
        };
        let field = |key: &str| {
            text_of(map, key).map_err(|wrong| Wrong {
                message: format!("`messages[{i}]`: {}", wrong.message),
                ..wrong
            })
        };
        said.push(Message { role: field("role")?, content: field("content")? });
    }
    if !said.iter().any(|message| message.role == ASSISTANT) {
        let message = "no message is of the role `assistant`, so there is nothing to learn";
        let help = "leave the record out, or add what the assistant should say";
        return Err(Wrong::new(message).help(help));
    }
    let Some(render) = render else {
        let message = "`messages` need a chat template to become text";
        let help = "set `dataset.chat_template` to a file of Jinja, or to \"chatml\"";
        return Err(Wrong {
            code: "dataset::no_chat_template".to_string(),
            ..Wrong::new(message).help(help)
        });
    };
    render(&said).map_err(|d| Wrong {
        code: d.code.clone(),
        message: d.message.clone(),
        help: d.help.clone().unwrap_or_else(|| EXPECTED.to_string()),
        at: None,
    })
}
