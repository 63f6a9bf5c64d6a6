//! Using a model: text from its weights, one at a time or many at once.

mod batch;
mod blocks;
pub mod export;
mod model;
mod sessions;
mod speculate;

pub use batch::generate_all;
pub use llmc_passes::{CacheFormat, WeightFormat};
pub use model::{Model, PREFIX_BYTES, SessionOptions, WeightSet, Which};
pub use sessions::{SessionKey, Sessions};
pub use speculate::{Speculating, Speculation, propose};

use super::failure::Failure;
use llmc_base::Diagnostic;
use llmc_data::tokenizer::{StreamDecoder, Tokenizer};
use llmc_runtime::{Context, Sampling, StopStrings, logprobs, sample};
use serde::Serialize;

/// Logits of the token that follows some ids, one per token of the vocabulary.
pub type NextLogits<'a> = &'a mut dyn FnMut(&[u32]) -> Result<Vec<f32>, Failure>;

/// What continues a text: logits for any ids, or a session that speculates.
pub trait Speaker {
    /// Goes on from the ids of a prompt, of which there is at least one; see [`generate`].
    ///
    /// Errors: `sampling::*` for values out of range; those of the model.
    fn speak(
        &mut self,
        tokenizer: &Tokenizer,
        prompt: Vec<u32>,
        settings: &Settings,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generated, Failure>;
}

impl<F: FnMut(&[u32]) -> Result<Vec<f32>, Failure>> Speaker for F {
    fn speak(
        &mut self,
        tokenizer: &Tokenizer,
        prompt: Vec<u32>,
        settings: &Settings,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generated, Failure> {
        generate_ids(self, tokenizer, prompt, settings, each)
    }
}

/// How a text is continued, and how far.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Most tokens to add.
    pub max_tokens: u64,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The text ends before the first of these.
    pub stop: Vec<String>,
    /// Whether to keep the logarithm of each token's probability, and of how many likely others.
    pub logprobs: Option<usize>,
    /// Most tokens that are proposed at a time from the text itself, where a session speculates. Changes
    /// no token.
    pub speculate: usize,
}

impl Settings {
    /// This many tokens, with nothing but sampling.
    pub fn new(max_tokens: u64, sampling: Sampling) -> Self {
        Settings { max_tokens, sampling, stop: Vec::new(), logprobs: None, speculate: 0 }
    }
}

/// A token and its text, which may be part of a character.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// Its id.
    pub id: u32,
    /// What it decodes to alone.
    pub text: String,
    /// Natural logarithm of its probability under the model, before temperature and cuts.
    pub logprob: f64,
}

/// A token that was chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chosen {
    /// The token.
    #[serde(flatten)]
    pub token: Scored,
    /// The most likely tokens at its place.
    pub top: Vec<Scored>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It has as many tokens as were asked for.
    Length,
    /// The model ended it.
    EndOfText,
    /// A stop string was met.
    Stop,
    /// The caller had enough.
    Cancelled,
}

/// What a model said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generated {
    /// The continuation, without the prompt.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt, with what stands in front of every text.
    pub prompt_tokens: usize,
    /// Tokens that were generated.
    pub new_tokens: usize,
    /// The tokens with their logarithms, if these were asked for.
    pub logprobs: Option<Vec<Chosen>>,
}

/// The ids of a prompt: bos, or eos where there is no bos, as in training, then the text.
///
/// Errors: `generate::empty`.
pub fn prompt_ids(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>, Failure> {
    let roles = tokenizer.roles();
    let mut ids: Vec<u32> = roles.bos.or(roles.eos).into_iter().collect();
    ids.extend(tokenizer.encode(prompt));
    if ids.is_empty() {
        let message = "there is nothing to continue: the prompt is empty and the tokenizer has neither bos nor eos";
        return Err(Diagnostic::error("generate::empty", message).help("give a prompt").into());
    }
    Ok(ids)
}

/// Continues a prompt; `each` gets what every token adds to the text, which may be nothing, and may stop between
/// two tokens by returning false.
/// `next_logits` gives the logits of the token that follows some ids.
///
/// Errors: `sampling::*` for values out of range, all at once; `generate::empty`.
pub fn generate(
    next_logits: NextLogits,
    tokenizer: &Tokenizer,
    prompt: &str,
    settings: &Settings,
    each: &mut dyn FnMut(&str) -> bool,
) -> Result<Generated, Failure> {
    let ids = prompt_ids(tokenizer, prompt)?;
    generate_ids(next_logits, tokenizer, ids, settings, each)
}

/// [`generate`] from the ids of a prompt, of which there is at least one.
pub fn generate_ids(
    next_logits: NextLogits,
    tokenizer: &Tokenizer,
    prompt: Vec<u32>,
    settings: &Settings,
    each: &mut dyn FnMut(&str) -> bool,
) -> Result<Generated, Failure> {
    let mut text = Text::new(prompt, settings)?;
    while !text.is_finished() {
        let logits = next_logits(text.ids())?;
        let piece = text.push(tokenizer, &logits);
        if !each(&piece) {
            text.cancel();
        }
    }
    let piece = text.close();
    if !piece.is_empty() {
        each(&piece);
    }
    Ok(text.into_generated())
}

/// A text in the making, a token at a time.
pub struct Text {
    settings: Settings,
    ids: Vec<u32>,
    n_prompt: usize,
    decoder: StreamDecoder,
    stops: StopStrings,
    text: String,
    finish: Option<Finish>,
    kept: Option<Vec<Chosen>>,
}

impl Text {
    /// A text that begins with the ids of a prompt.
    ///
    /// Errors: `sampling::*` for values out of range, all at once.
    pub fn new(prompt: Vec<u32>, settings: &Settings) -> Result<Self, Failure> {
        let problems = settings.sampling.check();
        if !problems.is_empty() {
            return Err(problems.into());
        }
        Ok(Text {
            n_prompt: prompt.len(),
            ids: prompt,
            decoder: StreamDecoder::new(),
            stops: StopStrings::new(settings.stop.iter().cloned()),
            text: String::new(),
            finish: (settings.max_tokens == 0).then_some(Finish::Length),
            kept: settings.logprobs.map(|_| Vec::new()),
            settings: settings.clone(),
        })
    }

    /// All ids: the prompt, then what was generated.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Whether no token is to follow.
    pub fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Whether the model itself has ended the text, so that its last choice is not in [`Text::ids`].
    pub fn has_ended(&self) -> bool {
        self.finish == Some(Finish::EndOfText)
    }

    /// Why it ended; `None` while it goes on.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// How many tokens may follow.
    pub fn tokens_left(&self) -> usize {
        let new_tokens = (self.ids.len() - self.n_prompt) as u64;
        usize::try_from(self.settings.max_tokens.saturating_sub(new_tokens)).unwrap_or(usize::MAX)
    }

    /// Chooses the next token from the logits of the token after [`Text::ids`]. The result is the text
    /// that is certain by now, and may be empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, logits: &[f32]) -> String {
        // Rows of the embedding beyond the vocabulary have no text.
        let logits = &logits[..(tokenizer.vocab_size() as usize).min(logits.len())];
        let context = Context { ids: &self.ids, n_prompt: self.n_prompt };
        let next = sample(logits, &self.settings.sampling, context);
        if let (Some(kept), Some(n)) = (&mut self.kept, self.settings.logprobs) {
            kept.push(score(tokenizer, logits, next, n));
        }
        if tokenizer.roles().eos == Some(next) {
            self.finish = Some(Finish::EndOfText);
            return String::new();
        }
        self.ids.push(next);
        let (piece, is_stopped) = self.stops.push(&self.decoder.push(tokenizer, next));
        let new_tokens = (self.ids.len() - self.n_prompt) as u64;
        if is_stopped {
            self.finish = Some(Finish::Stop);
        } else if new_tokens >= self.settings.max_tokens {
            self.finish = Some(Finish::Length);
        }
        self.text.push_str(&piece);
        piece
    }

    /// Ends the text here because the caller has enough. One that has ended already keeps its reason.
    pub fn cancel(&mut self) {
        self.finish.get_or_insert(Finish::Cancelled);
    }

    /// The end of the text that was held back, because it could have become a stop string or a character.
    pub fn close(&mut self) -> String {
        if self.finish == Some(Finish::Stop) {
            return String::new();
        }
        let rest = std::mem::take(&mut self.decoder).finish();
        let (mut piece, is_stopped) = self.stops.push(&rest);
        match is_stopped {
            true => self.finish = Some(Finish::Stop),
            false => piece.push_str(&self.stops.finish()),
        }
        self.text.push_str(&piece);
        piece
    }

    /// The result; complete after [`Text::close`].
    pub fn into_generated(self) -> Generated {
        Generated {
            text: self.text,
            finish: self.finish.unwrap_or(Finish::Length),
            prompt_tokens: self.n_prompt,
            new_tokens: self.ids.len() - self.n_prompt,
            logprobs: self.kept,
        }
    }
}

/// The chosen token and the `n` most likely ones; of equal ones the smaller id first.
fn score(tokenizer: &Tokenizer, logits: &[f32], chosen: u32, n: usize) -> Chosen {
    let logprobs = logprobs(logits);
    let scored = |id: u32| Scored {
        id,
        text: tokenizer.decode(&[id]),
        logprob: logprobs.get(id as usize).copied().unwrap_or(f64::NEG_INFINITY),
    };
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.sort_by(|a, b| {
        logprobs[*b as usize].total_cmp(&logprobs[*a as usize]).then_with(|| a.cmp(b))
    });
    ids.truncate(n);
    Chosen { token: scored(chosen), top: ids.into_iter().map(scored).collect() }
}

/// The continuation of a prompt; [`generate`] with nothing but sampling.
pub fn continue_text(
    next_logits: NextLogits,
    tokenizer: &Tokenizer,
    prompt: &str,
    max_tokens: u64,
    sampling: &Sampling,
    each: &mut dyn FnMut(&str) -> bool,
) -> Result<String, Failure> {
    let settings = Settings::new(max_tokens, sampling.clone());
    Ok(generate(next_logits, tokenizer, prompt, &settings, each)?.text)
}

#[cfg(test)]
mod tests;
