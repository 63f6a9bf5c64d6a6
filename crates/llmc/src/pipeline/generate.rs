//! Using a run: its weights in a generation session, and text from it.

use super::data::read_tokenizer;
use super::failure::Failure;
use super::project::{Project, build_model};
use super::runs;
use super::train::{CheckpointState, EMA, STATE, WEIGHTS, thread_count};
use crate::checkpoint::{self, Checkpoint};
use crate::store::Store;
use llmc_base::Diagnostic;
use llmc_data::tokenizer::{StreamDecoder, Tokenizer};
use llmc_formats::safetensors::SafeTensors;
use llmc_ir::Module;
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

/// Which weights of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightSet {
    /// Those that were trained.
    #[default]
    Trained,
    /// Their moving average, of a run with `training.ema`.
    Ema,
}

impl WeightSet {
    /// Its file in a checkpoint.
    fn file(self) -> &'static str {
        match self {
            WeightSet::Trained => WEIGHTS,
            WeightSet::Ema => EMA,
        }
    }
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
    /// Which of its weights.
    pub weight_set: WeightSet,
    /// Bytes of the weights file.
    pub weights: Vec<u8>,
}

impl Model {
    /// Reads a run.
    ///
    /// Errors: `run::no_checkpoint`; a damaged run.
    pub fn open(store: &dyn Store, run: &Path, which: Which) -> Result<Model, Failure> {
        Self::open_weights(store, run, which, WeightSet::Trained)
    }

    /// The same with a choice of weights.
    ///
    /// Errors: `run::no_ema` if the run keeps no average of them.
    pub fn open_weights(
        store: &dyn Store,
        run: &Path,
        which: Which,
        weight_set: WeightSet,
    ) -> Result<Model, Failure> {
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
        if checkpoint.complete.file(weight_set.file()).is_none() && weight_set == WeightSet::Ema {
            let message = format!("`{}` keeps no moving average of its weights", run.display());
            let d = Diagnostic::error("run::no_ema", message);
            return Err(d.help("train with e.g. `training.ema = 0.999`").into());
        }
        let weights = checkpoint.read(store, weight_set.file())?;
        Ok(Model { project, module, tokenizer, checkpoint, weight_set, weights })
    }

    /// A generation session with these weights.
    pub fn session(&self, threads: Option<usize>, isa: Option<Isa>) -> Result<Session, Failure> {
        let training = self.project.resolved.training.as_ref();
        let threads = thread_count(threads, training.and_then(|t| t.threads))?;
        let context = self.project.model()?.dims.context_length;
        let capacity = usize::try_from(context).map_err(|e| Failure::Internal(e.to_string()))?;
        let internal = |e: llmc_runtime::SessionError| Failure::Internal(e.to_string());
        let engine = Engine::new(threads, isa)?;
        let mut session = Session::new(&self.module, capacity, engine).map_err(internal)?;
        let bad = |e: llmc_formats::safetensors::Error| -> Failure {
            let file = self.checkpoint.path.join(self.weight_set.file());
            let message = format!("`{}`: {e}", file.display());
            Diagnostic::error("checkpoint::weights", message).into()
        };
        let parsed = SafeTensors::parse(&self.weights).map_err(bad)?;
        for path in session.weights() {
            let values = parsed.tensor(&path).and_then(|t| t.to_f32()).map_err(bad)?;
            let out = session.weight_mut(&path).map_err(internal)?;
            if out.len() != values.len() {
                let message =
                    format!("`{path}` has {} elements, expected {}", values.len(), out.len());
                return Err(Diagnostic::error("checkpoint::weights", message).into());
            }
            out.copy_from_slice(&values);
        }
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
