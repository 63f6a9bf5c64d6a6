//! Using a model: its weights in a generation session, and text from it.

mod batch;
pub mod export;
mod sessions;
mod speculate;

pub use batch::generate_all;
pub use sessions::{SessionKey, Sessions};
pub use speculate::{Speculating, Speculation, propose};

use super::data::read_tokenizer;
use super::failure::Failure;
use super::project::{Project, build_model};
use super::runs;
use super::train::{CheckpointState, STATE, WEIGHTS, thread_count};
use crate::checkpoint::{self, Checkpoint};
use crate::store::Store;
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use llmc_data::tokenizer::{StreamDecoder, Tokenizer};
use llmc_formats::names::tensors_of;
use llmc_formats::safetensors::SafeTensors;
use llmc_ir::Module;
use llmc_runtime::{
    Batch, Context, Engine, Isa, Sampling, Session, SessionError, StopStrings, logprobs, sample,
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Which checkpoint of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The newest whole one.
    #[default]
    Last,
    /// The one with the lowest validation loss.
    Best,
}

/// A trained model, read from a run or an export.
pub struct Model {
    /// The folder of the run or export.
    pub folder: PathBuf,
    /// Its spec.
    pub project: Project,
    /// Its IR.
    pub module: Module,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The folder of its tokenizer, where a chat template may be as well.
    pub tokenizer_folder: PathBuf,
    /// The checkpoint that the weights come from; of an export its folder.
    pub checkpoint: Checkpoint,
    /// Bytes of the weights file.
    pub weights: Vec<u8>,
}

impl Model {
    /// Reads a run, or an export, which has one set of weights whatever `which` says.
    ///
    /// Errors: `run::no_checkpoint`; a damaged run or export.
    pub fn open(store: &dyn Store, run: &Path, which: Which) -> Result<Model, Failure> {
        if export::is_export(store, run)? {
            return export::open(store, run);
        }
        let project = runs::project(store, run)?;
        let module = build_model(project.model()?)?;
        let tokenizer_folder = run.join("tokenizer");
        let tokenizer = read_tokenizer(store, &tokenizer_folder)?;
        let (newest, _) = checkpoint::load_latest_whole(store, run)?;
        let newest = newest.ok_or_else(|| {
            let message = format!("`{}` has no checkpoint yet", run.display());
            Diagnostic::error("run::no_checkpoint", message)
                .help("train it first: `llmc resume RUN`")
        })?;
        let checkpoint = match which {
            Which::Last => newest,
            Which::Best => {
                let state: CheckpointState = serde_json::from_slice(&newest.read(store, STATE)?)
                    .map_err(|e| Failure::Internal(e.to_string()))?;
                match state.best {
                    Some((step, _)) => checkpoint::load_step(store, run, step)?,
                    None => newest,
                }
            }
        };
        let weights = checkpoint.read(store, WEIGHTS)?;
        let folder = run.to_path_buf();
        Ok(Model { folder, project, module, tokenizer, tokenizer_folder, checkpoint, weights })
    }

    /// A generation session with these weights.
    pub fn session(&self, threads: Option<usize>, isa: Option<Isa>) -> Result<Session, Failure> {
        let (capacity, engine) = (self.capacity()?, self.engine(threads, isa)?);
        let mut session = Session::new(&self.module, capacity, engine).map_err(internal)?;
        self.each_weight(&session.weights(), &mut |path, values| {
            fill(path, session.weight_mut(path), values)
        })?;
        Ok(session)
    }

    /// A batch of up to `n_rows` texts with these weights.
    pub fn batch(
        &self,
        n_rows: usize,
        threads: Option<usize>,
        isa: Option<Isa>,
    ) -> Result<Batch, Failure> {
        let (capacity, engine) = (self.capacity()?, self.engine(threads, isa)?);
        let mut batch = Batch::new(&self.module, n_rows, capacity, engine).map_err(internal)?;
        self.each_weight(&batch.weights(), &mut |path, values| {
            fill(path, batch.weight_mut(path), values)
        })?;
        Ok(batch)
    }

    /// What a session depends on: the program, every weight by name and bits, the tokenizer. The same for
    /// a run and its exports.
    pub fn content_hash(&self) -> Result<Hash, Failure> {
        let mut hasher = CanonicalHasher::new("llmc-model");
        hasher.field("program").str(&llmc_ir::text::print(&self.module));
        hasher.field("tokenizer").hash(&self.tokenizer.content_hash());
        let parsed = SafeTensors::parse(&self.weights).map_err(|e| self.damaged(&e))?;
        let tensors = tensors_of(&parsed);
        hasher.field("weights").seq(tensors.len());
        for (name, tensor) in &tensors {
            hasher.str(name).bytes(&tensor.data);
        }
        Ok(hasher.finish())
    }

    fn capacity(&self) -> Result<usize, Failure> {
        let context = self.project.model()?.dims.context_length;
        usize::try_from(context).map_err(|e| Failure::Internal(e.to_string()))
    }

    fn engine(&self, threads: Option<usize>, isa: Option<Isa>) -> Result<Engine, Failure> {
        let training = self.project.resolved.training.as_ref();
        let threads = thread_count(threads, training.and_then(|t| t.threads))?;
        Ok(Engine::new(threads, isa)?)
    }

    fn damaged(&self, error: &llmc_formats::safetensors::Error) -> Failure {
        let message = format!("the weights in `{}`: {error}", self.checkpoint.path.display());
        Diagnostic::error("checkpoint::weights", message).into()
    }

    /// Reads the weights of these paths.
    fn each_weight(&self, paths: &[String], each: EachWeight) -> Result<(), Failure> {
        let parsed = SafeTensors::parse(&self.weights).map_err(|e| self.damaged(&e))?;
        for path in paths {
            let values = parsed.tensor(path).and_then(|t| t.to_f32());
            each(path, &values.map_err(|e| self.damaged(&e))?)?;
        }
        Ok(())
    }
}

/// Gets the path and the values of each weight.
type EachWeight<'a> = &'a mut dyn FnMut(&str, &[f32]) -> Result<(), Failure>;

/// Writes a weight to where a session has it.
fn fill(path: &str, out: Result<&mut [f32], SessionError>, values: &[f32]) -> Result<(), Failure> {
    let out = out.map_err(internal)?;
    if out.len() != values.len() {
        let message = format!("`{path}` has {} elements, expected {}", values.len(), out.len());
        return Err(Diagnostic::error("checkpoint::weights", message).into());
    }
    out.copy_from_slice(values);
    Ok(())
}

fn internal(error: SessionError) -> Failure {
    Failure::Internal(error.to_string())
}

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

/// Continues a prompt; `each` gets every new piece of text and may stop by returning false.
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
        if !piece.is_empty() && !each(&piece) {
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

    /// Ends the text here because the caller has enough. A stop string that was met stays the reason.
    pub fn cancel(&mut self) {
        if self.finish != Some(Finish::Stop) {
            self.finish = Some(Finish::Cancelled);
        }
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
