//! Chat templates: a conversation as the one text that a model continues.
//!
//! A template is Jinja, as `transformers` has it: `messages`, `add_generation_prompt`, `bos_token`,
//! `eos_token` and the other special tokens, `raise_exception`, `strftime_now`, `tojson`, the methods of
//! Python's strings and dicts, blocks trimmed. `{% generation %}` marks what a model learns of a
//! conversation (`masked`), and nothing in a chat.
//!
//! Templates come from files of others: they reach no file and no other template, and have limits
//! in steps, depth and output. Special tokens written in a message are special tokens, as there.

use super::clock::strftime;
use crate::pipeline::Failure;
use crate::store::Source;
use llmc_base::Diagnostic;
use llmc_data::tokenizer::Tokenizer;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, ErrorKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Instructions that a template may take.
const MAX_STEPS: u64 = 2_000_000;
/// Calls within calls.
const MAX_DEPTH: usize = 200;
/// Bytes of a template.
const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// Bytes of a rendered conversation.
const MAX_TEXT_BYTES: usize = 16 << 20;

/// The file of a template alone.
pub const FILE: &str = "chat_template.jinja";
/// Files beside a tokenizer that may hold a template, the first one first.
const FILES: [&str; 2] = [FILE, "tokenizer_config.json"];

/// What a model without a template gets: the messages after each other. A reply goes on where the
/// user's text ends; the next message starts a line.
const PLAIN: &str = "{%- for message in messages %}{{ message.content }}{% if message.role != 'user' and not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}";

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: &str, content: &str) -> Self {
        Message { role: role.to_string(), content: content.to_string() }
    }
}

/// Where a template comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file: Jinja, or JSON with `chat_template`.
    File(PathBuf),
    /// The model has none: the conversation is one running text.
    Plain,
}

/// A template, and the names of special tokens in it.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    /// Where it comes from.
    pub origin: Origin,
    /// `bos_token` and the like with their texts.
    tokens: Vec<(String, String)>,
    /// Seconds since 1970-01-01, for `strftime_now`.
    now: i64,
}

impl ChatTemplate {
    /// The template for a model without one.
    pub fn plain() -> Self {
        ChatTemplate {
            source: PLAIN.to_string(),
            origin: Origin::Plain,
            tokens: Vec::new(),
            now: 0,
        }
    }

    /// The template beside a tokenizer: `chat_template.jinja`, or `chat_template` of
    /// `tokenizer_config.json`; the plain one if there is neither. `now` is in seconds since 1970-01-01.
    ///
    /// Errors: those of [`ChatTemplate::read`].
    pub fn find(
        source: &dyn Source,
        folder: &Path,
        tokenizer: &Tokenizer,
        now: i64,
    ) -> Result<Self, Failure> {
        for name in FILES {
            let path = folder.join(name);
            if source.exists(&path)?
                && let Some(found) = Self::in_file(source, &path, tokenizer, now)?
            {
                return Ok(found);
            }
        }
        Ok(Self::plain())
    }

    /// The template in a file: Jinja, or JSON with `chat_template`.
    ///
    /// Errors: `chat::template` if the file holds none, if it is too large, or does not parse.
    pub fn read(
        source: &dyn Source,
        path: &Path,
        tokenizer: &Tokenizer,
        now: i64,
    ) -> Result<Self, Failure> {
        Self::in_file(source, path, tokenizer, now)?.ok_or_else(|| {
            let message = format!("`{}` has no `chat_template`", path.display());
            let help = "name a file of Jinja, or a tokenizer_config.json that has one";
            Diagnostic::error("chat::template", message).help(help).into()
        })
    }

    fn in_file(
        source: &dyn Source,
        path: &Path,
        tokenizer: &Tokenizer,
        now: i64,
    ) -> Result<Option<Self>, Failure> {
        let Some(text) = text_in(source, path)? else { return Ok(None) };
        Ok(Some(Self::from_text(&text, path, token_names(tokenizer), now)?))
    }

    /// The template of a text, which `path` names in messages, with the texts of special tokens by
    /// the names that templates use.
    ///
    /// Errors: `chat::template` if it is too large or does not parse.
    pub fn from_text(
        text: &str,
        path: &Path,
        tokens: Vec<(String, String)>,
        now: i64,
    ) -> Result<Self, Diagnostic> {
        if text.len() > MAX_TEMPLATE_BYTES {
            let what = format!("has {} bytes, more than {MAX_TEMPLATE_BYTES}", text.len());
            return Err(bad(path, &what));
        }
        let source = with_marks(text);
        let origin = Origin::File(path.to_path_buf());
        let template = ChatTemplate { source, origin, tokens, now };
        let environment = template.environment(&Marks::default());
        environment.template_from_str(&template.source).map_err(|e| bad(path, &told(&e)))?;
        drop(environment);
        Ok(template)
    }

    /// The text of a conversation. With `add_generation_prompt` it ends where the model's reply begins.
    ///
    /// Errors: `chat::refused` if the template raises an exception, `chat::template` if it fails or
    /// goes over a limit.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, Diagnostic> {
        Ok(self.render_marked(messages, add_generation_prompt)?.0)
    }

    /// The same with the bytes at which `{% generation %}` and its end stand, in order.
    ///
    /// Errors: those of [`ChatTemplate::render`].
    pub(super) fn render_marked(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<(String, Vec<usize>), Diagnostic> {
        let marks = Marks::default();
        let environment = self.environment(&marks);
        let place = match &self.origin {
            Origin::File(path) => path.clone(),
            Origin::Plain => PathBuf::from("plain"),
        };
        let template = environment.template_from_str(&self.source);
        let template = template.map_err(|e| bad(&place, &told(&e)))?;
        let named =
            self.tokens.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str())));
        let message = |message: &Message| -> Value {
            minijinja::context! { role => message.role.as_str(), content => message.content.as_str() }
        };
        let context: BTreeMap<String, Value> = [
            ("messages".to_string(), messages.iter().map(message).collect()),
            ("add_generation_prompt".to_string(), Value::from(add_generation_prompt)),
        ]
        .into_iter()
        .chain(named)
        .collect();
        let mut out = Limited(Vec::new(), marks.clone());
        match template.render_captured_to(Value::from_object(context), &mut out) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::OutOfFuel => {
                let what = format!("takes more than {MAX_STEPS} steps");
                return Err(bad(&place, &what));
            }
            Err(e) if e.detail().is_some_and(|d| d.starts_with(RAISED)) => {
                let said = e.detail().unwrap_or_default();
                let said = said.strip_prefix(RAISED).unwrap_or(said);
                let message = format!("the chat template refuses the conversation: {said}");
                let help = "`/undo` takes the last exchange back, `/system` without a text the system prompt";
                return Err(Diagnostic::error("chat::refused", message).help(help));
            }
            Err(_) if out.0.len() >= MAX_TEXT_BYTES => {
                return Err(bad(&place, &format!("makes more than {MAX_TEXT_BYTES} bytes")));
            }
            Err(e) => return Err(bad(&place, &told(&e))),
        }
        let text = String::from_utf8(out.0).map_err(|e| bad(&place, &e.to_string()))?;
        Ok((text, marks.places()))
    }

    /// Whether the model has a template of its own.
    pub fn is_plain(&self) -> bool {
        self.origin == Origin::Plain
    }

    fn environment(&self, marks: &Marks) -> Environment<'_> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.unwrap_or_default());
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(MAX_STEPS));
        environment.set_recursion_limit(MAX_DEPTH);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function(
            "raise_exception",
            |text: String| -> Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{text}")))
            },
        );
        let marks = marks.clone();
        environment.add_function(MARK, move || marks.mark());
        let now = self.now;
        environment.add_function("strftime_now", move |format: String| strftime(&format, now));
        environment
    }
}

/// The text of the template beside a tokenizer as it stands there, if there is one.
///
/// Errors: `chat::template` for a `chat_template` that is none.
pub fn text_beside(source: &dyn Source, folder: &Path) -> Result<Option<String>, Failure> {
    for name in FILES {
        let path = folder.join(name);
        if source.exists(&path)?
            && let Some(text) = text_in(source, &path)?
        {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// The text of the template in a file of Jinja, or of JSON with `chat_template`.
pub(in crate::pipeline) fn text_in(
    source: &dyn Source,
    path: &Path,
) -> Result<Option<String>, Failure> {
    let text = source.read_text(path)?;
    match path.extension().is_some_and(|extension| extension == "json") {
        true => Ok(from_config(&text).map_err(|e| bad(path, &e))?),
        false => Ok(Some(text)),
    }
}

/// What marks an exception of the template itself.
const RAISED: &str = "raise_exception: ";

fn bad(path: &Path, what: &str) -> Diagnostic {
    let message = format!("the chat template of `{}` does not work: {what}", path.display());
    Diagnostic::error("chat::template", message)
        .help("`--template FILE` takes another one; see docs/chat.md for what templates may use")
}

/// An error of the engine with its line.
fn told(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{detail}{line}", error.kind())
}

/// `chat_template` of a tokenizer_config.json: a text, or the one called `default` of a list.
fn from_config(text: &str) -> Result<Option<String>, String> {
    let config: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    match &config["chat_template"] {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => Ok(Some(text.clone())),
        serde_json::Value::Array(all) => {
            let found = all.iter().find(|entry| entry["name"] == "default");
            let text = found.and_then(|entry| entry["template"].as_str());
            let missing = || "`chat_template` is a list without `default`".to_string();
            text.map(|text| Some(text.to_string())).ok_or_else(missing)
        }
        _ => Err("`chat_template` is neither a text nor a list".to_string()),
    }
}

/// Special tokens by the names that templates use.
fn token_names(tokenizer: &Tokenizer) -> Vec<(String, String)> {
    let roles = tokenizer.roles();
    let text = |id: Option<u32>| {
        let id = id?;
        tokenizer.special_tokens().iter().find(|(_, own)| *own == id).map(|(text, _)| text.clone())
    };
    [
        ("bos_token", roles.bos),
        ("eos_token", roles.eos),
        ("pad_token", roles.pad),
        ("unk_token", roles.unk),
    ]
    .into_iter()
    .filter_map(|(name, id)| Some((name.to_string(), text(id)?)))
    .collect()
}

/// The function that a template calls where Python's marks the start or end of a generation.
const MARK: &str = "llmc_mark";

/// How far the output is, and where it was marked.
#[derive(Clone, Default)]
struct Marks(Arc<Mutex<(usize, Vec<usize>)>>);

impl Marks {
    fn mark(&self) {
        if let Ok(mut state) = self.0.lock() {
            let at = state.0;
            state.1.push(at);
        }
    }

    fn advance(&self, bytes: usize) {
        if let Ok(mut state) = self.0.lock() {
            state.0 += bytes;
        }
    }

    fn places(&self) -> Vec<usize> {
        self.0.lock().map(|state| state.1.clone()).unwrap_or_default()
    }
}

/// The template with `{% generation %}` and `{% endgeneration %}` as calls that note the place.
fn with_marks(text: &str) -> String {
    let call = format!("set {MARK}ed = {MARK}()");
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{%") {
        let Some(end) = rest[at..].find("%}").map(|end| at + end) else { break };
        let inner = &rest[at + 2..end];
        let name = inner.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        let plain = match name {
            "generation" | "endgeneration" => Some(call.as_str()),
            _ => None,
        };
        out.push_str(&rest[..at + 2]);
        match plain {
            Some(plain) => out.push_str(&inner.replace(name, plain)),
            None => out.push_str(inner),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// `json.dumps` of Python, without its escapes of what is not ASCII.
fn to_json(value: Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let failed =
        |e: serde_json::Error| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string());
    let mut out = Vec::new();
    match indent {
        Some(indent) => {
            let indent = " ".repeat(indent.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value
                .serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
                .map_err(failed)?;
        }
        None => {
            value
                .serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced))
                .map_err(failed)?;
        }
    }
    String::from_utf8(out)
        .map_err(|e| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string()))
}

/// JSON on one line with a space after each comma and colon, as Python writes it.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        if is_first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        if is_first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// Bytes up to a limit, counted.
struct Limited(Vec<u8>, Marks);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_TEXT_BYTES - self.0.len();
        if bytes.len() > room {
            self.0.extend_from_slice(&bytes[..room]);
            return Err(io::Error::other("the text is too long"));
        }
        self.0.extend_from_slice(bytes);
        self.1.advance(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
