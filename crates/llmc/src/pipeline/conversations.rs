//! The chat template of a dataset: what makes the conversations of its records into text.

use super::chat::{ChatTemplate, Message, masked, text_in};
use super::failure::Failure;
use crate::store::{FileHash, Source};
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use llmc_data::dataset::{self, MaskedText};
use llmc_spec::{DatasetConfig, DatasetFormat, TokenizerConfig};
use std::path::Path;

/// The template that needs no file.
const CHATML: &str = "chatml";

/// Messages between `<|im_start|>` and `<|im_end|>`, as most open models have them.
const CHATML_TEXT: &str = "{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' -%}
{%- generation -%}{{ message.content + '<|im_end|>' }}{%- endgeneration -%}
{%- else -%}
{{ message.content + '<|im_end|>' }}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
";

/// Makes conversations into text.
pub(super) struct Conversations {
    template: ChatTemplate,
    /// The template as it is written, for those who chat with the model.
    pub text: String,
    /// Names template and special tokens.
    pub hash: Hash,
    /// The file that it was read from.
    pub file: Option<FileHash>,
}

/// What makes the conversations of a dataset into text; `None` where it names no template.
///
/// Errors: `chat::template` if there is none in the file, or it does not parse; the store.
pub(super) fn conversations(
    dataset: &DatasetConfig,
    tokenizer: Option<&TokenizerConfig>,
    source: &dyn Source,
) -> Result<Option<Conversations>, Failure> {
    let Some(name) = &dataset.chat_template else { return Ok(None) };
    if dataset.format != DatasetFormat::Jsonl {
        return Ok(None);
    }
    let path = Path::new(name);
    let (text, file) = match name.as_str() {
        CHATML => (CHATML_TEXT.to_string(), None),
        _ => {
            let at_field = |d: Diagnostic| d.field("dataset.chat_template");
            let bytes = source.read(path).map_err(|e| {
                let message = format!("cannot read `{name}`: {}", e.source);
                let d = Diagnostic::error("chat::template", message);
                at_field(d.help("name a file of Jinja, or write \"chatml\""))
            })?;
            let text = text_in(source, path)?.ok_or_else(|| {
                let message = format!("`{name}` has no `chat_template`");
                at_field(Diagnostic::error("chat::template", message).help("name a file of Jinja"))
            })?;
            let length = bytes.len() as u64;
            (text, Some(FileHash { path: name.clone(), length, hash: Hash::of_bytes(&bytes) }))
        }
    };
    let tokens = tokenizer.map(token_names).unwrap_or_default();
    let mut hasher = CanonicalHasher::new("llmc.chat_template.v1");
    hasher.str(&text).seq(tokens.len());
    for (name, token) in &tokens {
        hasher.str(name).str(token);
    }
    let hash = hasher.finish();
    // The clock of a template that asks for it stands at 1970-01-01.
    let template = ChatTemplate::from_text(&text, path, tokens, 0)
        .map_err(|d| d.field("dataset.chat_template"))?;
    Ok(Some(Conversations { template, text, hash, file }))
}

impl Conversations {
    /// The text of a conversation and what of it is learned.
    pub(super) fn render(&self, messages: &[dataset::Message]) -> Result<MaskedText, Diagnostic> {
        let said: Vec<Message> =
            messages.iter().map(|m| Message::new(&m.role, &m.content)).collect();
        masked(&self.template, &said).map_err(|d| match d.code.as_str() {
            "chat::not_learnable" => d,
            _ => Diagnostic {
                help: Some(
                    "change the record, or name another template in `dataset.chat_template`".into(),
                ),
                ..d
            },
        })
    }
}

/// Special tokens by the names that templates use.
fn token_names(tokenizer: &TokenizerConfig) -> Vec<(String, String)> {
    let tokens = &tokenizer.special_tokens;
    [
        ("bos_token", &tokens.bos),
        ("eos_token", &tokens.eos),
        ("pad_token", &tokens.pad),
        ("unk_token", &tokens.unk),
    ]
    .into_iter()
    .filter_map(|(name, text)| Some((name.to_string(), text.clone()?)))
    .collect()
}
