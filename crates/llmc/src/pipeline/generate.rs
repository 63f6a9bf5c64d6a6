//! Using a run: its weights in a generation session, and text from it.

use super::data::read_tokenizer;
use super::failure::Failure;
use super::project::{Project, build_model};
use super::runs;
use super::train::{CheckpointState, STATE, WEIGHTS, thread_count};
use crate::checkpoint::{self, Checkpoint};
use crate::store::Store;
use llmc_base::Diagnostic;
use llmc_data::tokenizer::{StreamDecoder, Tokenizer};
use llmc_formats::safetensors::SafeTensors;
use llmc_ir::Module;
use llmc_runtime::{Context, Engine, Isa, Sampling, Session, sample};
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
}

impl Model {
    /// Reads a run.
    ///
    /// Errors: `run::no_checkpoint`; a damaged run.
    pub fn open(store: &dyn Store, run: &Path, which: Which) -> Result<Model, Failure> {
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
        Ok(Model { project, module, tokenizer, checkpoint, weights })
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
            let file = self.checkpoint.path.join(WEIGHTS);
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

/// Continues `prompt` by up to `n_tokens`; `each` gets every new piece of text and may stop by
/// returning false. `next_logits` gives the logits of the token that follows some ids.
///
/// The text starts with bos, or with eos where there is no bos, as in training.
pub fn continue_text(
    next_logits: NextLogits,
    tokenizer: &Tokenizer,
    prompt: &str,
    n_tokens: u64,
    sampling: &Sampling,
    each: &mut dyn FnMut(&str) -> bool,
) -> Result<String, Failure> {
    let roles = tokenizer.roles();
    let mut ids: Vec<u32> = roles.bos.or(roles.eos).into_iter().collect();
    ids.extend(tokenizer.encode(prompt));
    if ids.is_empty() {
        let message = "there is nothing to continue: the prompt is empty and the tokenizer has neither bos nor eos";
        return Err(Diagnostic::error("generate::empty", message).help("give a prompt").into());
    }
    let problems = sampling.check();
    if !problems.is_empty() {
        return Err(problems.into());
    }
    let n_prompt = ids.len();
    let mut decoder = StreamDecoder::new();
    let mut text = String::new();
    let n_known = tokenizer.vocab_size() as usize;
    for _ in 0..n_tokens {
        let logits = next_logits(&ids)?;
        // Rows of the embedding beyond the vocabulary have no text.
        let context = Context { ids: &ids, n_prompt };
        let next = sample(&logits[..n_known.min(logits.len())], sampling, context);
        if roles.eos == Some(next) {
            break;
        }
        ids.push(next);
        let piece = decoder.push(tokenizer, next);
        text.push_str(&piece);
        if !each(&piece) {
            break;
        }
    }
    let rest = decoder.finish();
    text.push_str(&rest);
    each(&rest);
    Ok(text)
}
