//! A trained model, read from a run or an export: program, weights, tokenizer.

use super::super::data::read_tokenizer;
use super::super::failure::Failure;
use super::super::project::{Project, build_model};
use super::super::runs;
use super::super::train::{CheckpointState, STATE, WEIGHTS, thread_count};
use super::export;
use crate::checkpoint::{self, Checkpoint};
use crate::store::Store;
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use llmc_data::tokenizer::Tokenizer;
use llmc_formats::names::tensors_of;
use llmc_formats::safetensors::SafeTensors;
use llmc_ir::Module;
use llmc_runtime::{Batch, Engine, Isa, Session, SessionError};
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

pub(super) fn internal(error: SessionError) -> Failure {
    Failure::Internal(error.to_string())
}
