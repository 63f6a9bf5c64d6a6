//! A conversation with a model: messages, the text that they make, and the next reply.

mod clock;
mod masked;
mod template;
#[cfg(test)]
mod tests;

pub use clock::strftime;
pub use masked::masked;
pub(super) use template::text_in;
pub use template::{ChatTemplate, FILE as TEMPLATE_FILE, Message, Origin, text_beside};

use super::Failure;
use super::generate::{Generated, Settings, Speaker, prompt_ids};
use crate::store::{Store, write_atomic};
use llmc_base::Diagnostic;
use llmc_data::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a file of a conversation says it is.
const FORMAT: &str = "llmc-chat";
/// Version of such files.
const VERSION: u32 = 1;

/// A conversation as a file.
#[derive(Serialize, Deserialize)]
struct Saved {
    format: String,
    version: u32,
    messages: Vec<Message>,
}

/// A conversation, and how it becomes a text.
pub struct Chat<'t> {
    tokenizer: &'t Tokenizer,
    template: ChatTemplate,
    system: Option<String>,
    /// User and assistant in turn.
    turns: Vec<Message>,
}

impl<'t> Chat<'t> {
    /// A conversation without a message.
    pub fn new(tokenizer: &'t Tokenizer, template: ChatTemplate) -> Self {
        Chat { tokenizer, template, system: None, turns: Vec::new() }
    }

    /// How messages become a text.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// All messages, the system prompt first.
    pub fn messages(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new("system", text));
        system.chain(self.turns.iter().cloned()).collect()
    }

    /// What the user and the model have said.
    pub fn turns(&self) -> &[Message] {
        &self.turns
    }

    /// The system prompt.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Sets or removes the system prompt, from the start of the conversation on.
    pub fn set_system(&mut self, text: Option<String>) {
        self.system = text;
    }

    /// Forgets what was said; the system prompt stays.
    pub fn reset(&mut self) {
        self.turns.clear();
    }

    /// Takes the last exchange back: the model's reply and what it replied to. False if there is none.
    pub fn undo(&mut self) -> bool {
        let Some(at) = self.turns.iter().rposition(|message| message.role == "user") else {
            return false;
        };
        self.turns.truncate(at);
        true
    }

    /// Says something; `each` gets the reply piece by piece and may stop it by returning false. A reply
    /// that was stopped stays as far as it came; after an error the conversation is as before.
    ///
    /// Errors: `chat::refused` and `chat::template` of the template; those of `generate`.
    pub fn say(
        &mut self,
        speaker: &mut dyn Speaker,
        text: &str,
        settings: &Settings,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generated, Failure> {
        self.turns.push(Message::new("user", text));
        let replied = self.reply(speaker, settings, each);
        if replied.is_err() {
            self.turns.pop();
        }
        replied
    }

    /// Replies to the last message of the user once more, instead of the last reply.
    ///
    /// Errors: `chat::nothing` if the user has said nothing; those of [`Chat::say`].
    pub fn regenerate(
        &mut self,
        speaker: &mut dyn Speaker,
        settings: &Settings,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generated, Failure> {
        let Some(at) = self.turns.iter().rposition(|message| message.role == "user") else {
            let message = "there is no message to reply to";
            return Err(Diagnostic::error("chat::nothing", message).help("say something").into());
        };
        let before = self.turns.split_off(at + 1);
        let replied = self.reply(speaker, settings, each);
        if replied.is_err() {
            self.turns.extend(before);
        }
        replied
    }

    fn reply(
        &mut self,
        speaker: &mut dyn Speaker,
        settings: &Settings,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generated, Failure> {
        let ids = self.ids()?;
        let reply = speaker.speak(self.tokenizer, ids, settings, each)?;
        self.turns.push(Message::new("assistant", &reply.text));
        Ok(reply)
    }

    /// The ids that the next reply continues. A template writes the token that starts a text itself; the
    /// plain text gets the one of training.
    fn ids(&self) -> Result<Vec<u32>, Failure> {
        let text = self.template.render(&self.messages(), true)?;
        let ids = self.tokenizer.encode(&text);
        match self.template.is_plain() || ids.is_empty() {
            true => prompt_ids(self.tokenizer, &text),
            false => Ok(ids),
        }
    }

    /// Writes the messages to a file, whole or not at all.
    ///
    /// Errors: those of the disk.
    pub fn save(&self, store: &dyn Store, path: &Path) -> Result<(), Failure> {
        let saved =
            Saved { format: FORMAT.to_string(), version: VERSION, messages: self.messages() };
        let mut text =
            serde_json::to_string_pretty(&saved).map_err(|e| Failure::Internal(e.to_string()))?;
        text.push('\n');
        Ok(write_atomic(store, path, text.as_bytes())?)
    }

    /// Takes the messages of a file instead of those here.
    ///
    /// Errors: `chat::file` if it holds no conversation; then nothing changes.
    pub fn load(&mut self, store: &dyn Store, path: &Path) -> Result<(), Failure> {
        let bad = |what: String| -> Failure {
            let message = format!("`{}` holds no conversation: {what}", path.display());
            Diagnostic::error("chat::file", message).help("name a file that `/save` wrote").into()
        };
        let text = store.read_text(path)?;
        let saved: Saved = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        if (saved.format.as_str(), saved.version) != (FORMAT, VERSION) {
            return Err(bad(format!("format `{}`, version {}", saved.format, saved.version)));
        }
        let mut turns = saved.messages;
        let system = match turns.first() {
            Some(first) if first.role == "system" => Some(turns.remove(0).content),
            _ => None,
        };
        for (at, message) in turns.iter().enumerate() {
            let expected = if at % 2 == 0 { "user" } else { "assistant" };
            if message.role != expected {
                return Err(bad(format!(
                    "message {at} is of `{}`, not `{expected}`",
                    message.role
                )));
            }
        }
        (self.system, self.turns) = (system, turns);
        Ok(())
    }
}
