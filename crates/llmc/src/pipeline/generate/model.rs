//! A trained model, read from a run or an export: program, weights, tokenizer.

use super::super::adapters;
use super::super::data::read_tokenizer;
use super::super::failure::Failure;
use super::super::project::{Project, build_model};
use super::super::quantize;
use super::super::runs;
use super::super::train::{CheckpointState, EMA, STATE, WEIGHTS, thread_count};
use super::{blocks, export};
use crate::checkpoint::{self, Checkpoint};
use crate::store::{Bytes, Store};
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use llmc_data::tokenizer::Tokenizer;
use llmc_formats::names::tensors_of;
use llmc_formats::safetensors::SafeTensors;
use llmc_ir::Module;
use llmc_passes::{CacheFormat, WeightFormat, narrow_cache, pack_panels, pack_weights};
use llmc_runtime::{Batch, Engine, Isa, Session, SessionError};
use llmc_spec::TrainingConfig;
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
    pub(in super::super) fn file(self) -> &'static str {
        match self {
            WeightSet::Trained => WEIGHTS,
            WeightSet::Ema => EMA,
        }
    }
}

/// How a model is run. None of it but the cache's format changes a bit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads; without it what the spec says, or one per core.
    pub threads: Option<usize>,
    /// The instruction set; without it the best of this machine.
    pub isa: Option<Isa>,
    /// How the KV cache holds keys and values.
    pub cache: CacheFormat,
    /// Bytes of the cache of earlier texts that are kept for others with the same beginning; without it
    /// [`PREFIX_BYTES`].
    pub prefix_bytes: Option<usize>,
    /// The stage cache in which packed weights are kept, so that processes share them; without it they are packed
    /// into memory of this process.
    pub weight_cache: Option<PathBuf>,
}

/// What is kept of earlier texts if nothing else is asked for: 64 MiB.
pub const PREFIX_BYTES: usize = 64 << 20;

impl SessionOptions {
    fn prefixes(&self) -> usize {
        self.prefix_bytes.unwrap_or(PREFIX_BYTES)
    }
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
    /// Which of its weights.
    pub weight_set: WeightSet,
    /// Bytes of the weights file.
    pub weights: Bytes,
    /// Their hash.
    pub weights_hash: Hash,
    /// The format of the weights in the file.
    pub format: WeightFormat,
}

impl Model {
    /// Reads a run, or an export or quantised folder, which has one set of weights whatever `which` says.
    ///
    /// Errors: `run::no_checkpoint`; a damaged run or export.
    pub fn open(store: &dyn Store, run: &Path, which: Which) -> Result<Model, Failure> {
        Self::open_weights(store, run, which, WeightSet::Trained)
    }

    /// The same with a choice of weights.
    ///
    /// Errors: `run::no_ema` if there is no average of them.
    pub fn open_weights(
        store: &dyn Store,
        run: &Path,
        which: Which,
        weight_set: WeightSet,
    ) -> Result<Model, Failure> {
        let no_ema = || -> Failure {
            let message = format!("`{}` keeps no moving average of its weights", run.display());
            let d = Diagnostic::error("run::no_ema", message);
            d.help("train with e.g. `training.ema = 0.999`").into()
        };
        let is_quantized = quantize::is_quantized(store, run)?;
        if is_quantized || export::is_export(store, run)? {
            return match (weight_set, is_quantized) {
                (WeightSet::Ema, _) => Err(no_ema()),
                (_, true) => quantize::open(store, run),
                (_, false) => export::open(store, run),
            };
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
        if checkpoint.complete.file(weight_set.file()).is_none() && weight_set == WeightSet::Ema {
            return Err(no_ema());
        }
        let (training, file) = (project.resolved.training.as_ref(), weight_set.file());
        let (weights, weights_hash) = match training.and_then(TrainingConfig::adapters) {
            // What is merged is in no file.
            Some(_) => {
                let merged = adapters::whole_weights(store, run, &checkpoint, file, training)?;
                let hash = Hash::of_bytes(&merged);
                (merged.into(), hash)
            }
            None => {
                let weights = checkpoint.map(store, file)?;
                let known = checkpoint.complete.file(file);
                let hash = known.map_or_else(|| Hash::of_bytes(&weights), |file| file.hash);
                (weights, hash)
            }
        };
        let (folder, format) = (run.to_path_buf(), WeightFormat::F32);
        Ok(Model {
            folder,
            project,
            module,
            tokenizer,
            tokenizer_folder,
            checkpoint,
            weight_set,
            weights,
            weights_hash,
            format,
        })
    }

    /// The model with its weights in memory of this process, where nobody else can change them.
    pub fn in_own_memory(self) -> Model {
        Model { weights: self.weights.into_owned(), ..self }
    }

    /// [`Model::with_weights`] if a format is asked for.
    pub fn in_format(self, format: Option<WeightFormat>) -> Result<Model, Failure> {
        match format {
            Some(format) => self.with_weights(format),
            None => Ok(self),
        }
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
    pub fn session(&self, options: &SessionOptions) -> Result<Session, Failure> {
        self.session_of(&self.module, options)
    }

    /// A generation session of another module over these weights. What is f32 there stands in panels.
    pub(in super::super) fn session_of(
        &self,
        module: &Module,
        options: &SessionOptions,
    ) -> Result<Session, Failure> {
        let (capacity, engine) = (self.capacity()?, self.engine(options)?);
        let module = runnable(module, options.cache)?;
        let mut session = Session::new(&module, capacity, engine).map_err(internal)?;
        session.keep_prefixes(options.prefixes());
        blocks::give(self, &mut session, options.weight_cache.as_deref())?;
        Ok(session)
    }

    /// A batch of up to `n_rows` texts with these weights.
    pub fn batch(&self, n_rows: usize, options: &SessionOptions) -> Result<Batch, Failure> {
        let (capacity, engine) = (self.capacity()?, self.engine(options)?);
        let module = runnable(&self.module, options.cache)?;
        let mut batch = Batch::new(&module, n_rows, capacity, engine).map_err(internal)?;
        batch.keep_prefixes(options.prefixes());
        blocks::give(self, &mut batch, options.weight_cache.as_deref())?;
        Ok(batch)
    }

    /// Where the weights are from, for messages.
    pub(super) fn weights_file(&self) -> PathBuf {
        self.checkpoint.path.join(match self.format {
            WeightFormat::F32 => self.weight_set.file(),
            _ => quantize::FILE,
        })
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

    fn engine(&self, options: &SessionOptions) -> Result<Engine, Failure> {
        let training = self.project.resolved.training.as_ref();
        let threads = thread_count(options.threads, training.and_then(|t| t.threads))?;
        Ok(Engine::new(threads, options.isa)?)
    }

    fn damaged(&self, error: &llmc_formats::safetensors::Error) -> Failure {
        let message = format!("the weights in `{}`: {error}", self.checkpoint.path.display());
        Diagnostic::error("checkpoint::weights", message).into()
    }
}

/// The module as sessions run it: matrices in panels, the cache in its format.
fn runnable(module: &Module, cache: CacheFormat) -> Result<Module, Failure> {
    Ok(narrow_cache(&pack_panels(module)?, cache)?)
}

pub(super) fn internal(error: SessionError) -> Failure {
    Failure::Internal(error.to_string())
}
