//! Using a run: its weights in a generation session, and text from it.

use super::data::read_tokenizer;
use super::failure::Failure;
use super::project::{Project, build_model};
use super::quantize;
use super::runs;
use super::train::{CheckpointState, STATE, WEIGHTS, thread_count};
use super::weights;
use crate::checkpoint::{self, Checkpoint};
use crate::store::Store;
use llmc_base::Diagnostic;
use llmc_data::tokenizer::{StreamDecoder, Tokenizer};
use llmc_ir::Module;
pub use llmc_passes::WeightFormat;
use llmc_passes::{pack_panels, pack_weights};
use llmc_runtime::{Context, Engine, Isa, Sampling, Session, StopStrings, logprobs, sample};
use serde::Serialize;
use std::path::Path;

/// Which checkpoint of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The newest whole one.
    #[default]
    Last,
    /// The one with the lowest validation loss.
    Best,
}

/// A trained model, read from a run.
pub struct Model {
    /// Its spec.
    pub project: Project,
    /// Its IR.
    pub module: Module,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The checkpoint that the weights come from.
    pub checkpoint: Checkpoint,
    /// Bytes of the weights file.
    pub weights: Vec<u8>,
    /// The format of the weights in the file.
    pub format: WeightFormat,
}

impl Model {
    /// Reads a run, or a folder that `quantize` wrote, which has one state only.
    ///
    /// Errors: `run::no_checkpoint`; a damaged run.
    pub fn open(store: &dyn Store, run: &Path, which: Which) -> Result<Model, Failure> {
        if quantize::is_quantized(store, run)? {
            return quantize::open(store, run);
        }
        let project = runs::project(store, run)?;
        let module = build_model(project.model()?)?;
        let tokenizer = read_tokenizer(store, &run.join("tokenizer"))?;
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
        let format = WeightFormat::F32;
        Ok(Model { project, module, tokenizer, checkpoint, weights, format })
    }

    /// The model with its weights rounded to a format, as sessions are to hold them.
    ///
    /// Errors: `generate::weights` if the file has them in another format than f32 already.
    pub fn with_weights(self, format: WeightFormat) -> Result<Model, Failure> {
        if self.format == format {
            return Ok(self);
        }
        if self.format != WeightFormat::F32 {
            let place = self.checkpoint.path.display();
            let (have, want) = (self.format.name(), format.name());
            let message = format!("`{place}` has {have} weights, and {want} was asked for");
            let help = "leave `--weights` out, or name the run that it was made from";
            return Err(Diagnostic::error("generate::weights", message).help(help).into());
        }
        Ok(Model { module: pack_weights(&self.module, format)?, ..self })
    }

    /// A generation session with these weights.
    pub fn session(&self, threads: Option<usize>, isa: Option<Isa>) -> Result<Session, Failure> {
        self.session_of(&self.module, threads, isa)
    }

    /// A generation session of another module over these weights. What is f32 there stands in panels.
    pub(super) fn session_of(
        &self,
        module: &Module,
        threads: Option<usize>,
        isa: Option<Isa>,
    ) -> Result<Session, Failure> {
        let training = self.project.resolved.training.as_ref();
        let threads = thread_count(threads, training.and_then(|t| t.threads))?;
        let context = self.project.model()?.dims.context_length;
        let capacity = usize::try_from(context).map_err(|e| Failure::Internal(e.to_string()))?;
        let internal = |e: llmc_runtime::SessionError| Failure::Internal(e.to_string());
        let engine = Engine::new(threads, isa)?;
        let mut session =
            Session::new(&pack_panels(module)?, capacity, engine).map_err(internal)?;
        let file = match self.format {
            WeightFormat::F32 => WEIGHTS,
            _ => quantize::FILE,
        };
        let wanted = weights::wanted(&session);
        let file = self.checkpoint.path.join(file);
        weights::fill(&wanted, &self.weights, &file, &mut |path, bytes| {
            let to = session.weight_bytes_mut(path).map_err(|e| e.to_string())?;
            weights::copy(path, bytes, to)
        })?;
        Ok(session)
    }
}

/// Logits of the token that follows some ids, one per token of the vocabulary.
pub type NextLogits<'a> = &'a mut dyn FnMut(&[u32]) -> Result<Vec<f32>, Failure>;

/// What is asked of a model.
#[derive(Clone, Debug)]
pub struct Request {
    /// Text to continue.
    pub prompt: String,
    /// Most tokens to add.
    pub max_tokens: u64,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The text ends before the first of these.
    pub stop: Vec<String>,
    /// Whether to keep the logarithm of each token's probability, and of how many likely others.
    pub logprobs: Option<usize>,
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

/// Continues a prompt; `each` gets every new piece of text and may stop by returning false.
/// `next_logits` gives the logits of the token that follows some ids.
///
/// The text starts with bos, or with eos where there is no bos, as in training.
///
/// Errors: `sampling::*` for values out of range, all at once; `generate::empty`.
pub fn generate(
    next_logits: NextLogits,
    tokenizer: &Tokenizer,
    request: &Request,
    each: &mut dyn FnMut(&str) -> bool,
) -> Result<Generated, Failure> {
    let problems = request.sampling.check();
    if !problems.is_empty() {
        return Err(problems.into());
    }
    let roles = tokenizer.roles();
    let mut ids: Vec<u32> = roles.bos.or(roles.eos).into_iter().collect();
    ids.extend(tokenizer.encode(&request.prompt));
    if ids.is_empty() {
        let message = "there is nothing to continue: the prompt is empty and the tokenizer has neither bos nor eos";
        return Err(Diagnostic::error("generate::empty", message).help("give a prompt").into());
    }
    let n_prompt = ids.len();
    let (mut decoder, mut stops) =
        (StreamDecoder::new(), StopStrings::new(request.stop.iter().cloned()));
    let (mut text, mut finish) = (String::new(), Finish::Length);
    let mut kept = request.logprobs.map(|_| Vec::new());
    // Rows of the embedding beyond the vocabulary have no text.
    let n_known = tokenizer.vocab_size() as usize;
    let mut tell = |text: &mut String, piece: &str| {
        text.push_str(piece);
        piece.is_empty() || each(piece)
    };
    for _ in 0..request.max_tokens {
        let logits = next_logits(&ids)?;
        let logits = &logits[..n_known.min(logits.len())];
        let next = sample(logits, &request.sampling, Context { ids: &ids, n_prompt });
        if let (Some(kept), Some(n)) = (&mut kept, request.logprobs) {
            kept.push(score(tokenizer, logits, next, n));
        }
        if roles.eos == Some(next) {
            finish = Finish::EndOfText;
            break;
        }
        ids.push(next);
        let (piece, is_stopped) = stops.push(&decoder.push(tokenizer, next));
        let goes_on = tell(&mut text, &piece);
        if is_stopped || !goes_on {
            finish = if is_stopped { Finish::Stop } else { Finish::Cancelled };
            break;
        }
    }
    if finish != Finish::Stop {
        let (piece, is_stopped) = stops.push(&decoder.finish());
        tell(&mut text, &piece);
        match is_stopped {
            true => finish = Finish::Stop,
            false => {
                tell(&mut text, &stops.finish());
            }
        }
    }
    let new_tokens = ids.len() - n_prompt;
    Ok(Generated { text, finish, prompt_tokens: n_prompt, new_tokens, logprobs: kept })
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
    let (prompt, sampling) = (prompt.to_string(), sampling.clone());
    let request = Request { prompt, max_tokens, sampling, stop: Vec::new(), logprobs: None };
    Ok(generate(next_logits, tokenizer, &request, each)?.text)
}

#[cfg(test)]
mod tests;
