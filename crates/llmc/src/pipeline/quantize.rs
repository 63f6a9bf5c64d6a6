//! A run's model with its weights in a narrow format, in a folder of its own.
//!
//! ```text
//! model.safetensors     weights by path, packed as the kernels read them; 4-bit ones two to a byte
//! model.toml            the spec of the run
//! model.json            format, where the weights come from, the loss on held-out text before and after
//! tokenizer.json, tokenizer_config.json, chat_template.jinja if there is one, certificate.json, COMPLETE
//! ```
//!
//! `generate` takes the folder as it takes a run, without the f32 weights.

use super::chat;
use super::data::{read_held_out, read_tokenizer, write_tokenizer};
use super::failure::Failure;
use super::generate::{Model, SessionOptions, WeightFormat, WeightSet};
use super::held_out::{HeldOutLoss, held_out_loss};
use super::project::{Defaults, Project, build_model};
use super::runs;
use super::train::thread_count;
use super::weights::{file_shape, file_type};
use crate::checkpoint::Checkpoint;
use crate::store::{
    Complete, FolderWriter, Source, Store, commit_folder, map_verified, read_marker, read_verified,
};
use llmc_base::{Diagnostic, Hash};
use llmc_codegen::certificate::{Certificate, Check, FileHash};
use llmc_formats::safetensors::{Data, TensorSource, to_bytes};
use llmc_passes::pack_weights;
use llmc_runtime::{Engine, Isa};
use llmc_spec::Goal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Weights in such a folder.
pub(super) const FILE: &str = "model.safetensors";
/// What marks such a folder.
const CARD: &str = "model.json";
/// The spec in it. It has another name than in a run, so that nothing takes the folder for one.
const SPEC: &str = "model.toml";

/// What `model.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Card {
    /// Name of the weight format.
    weights: String,
    /// Order of the elements in the file, 1.
    layout: u64,
    /// BLAKE3 of the f32 weights.
    source: Hash,
    /// Step of the checkpoint that they are from.
    step: u64,
    /// Nats per token on held-out text by the f32 weights.
    loss_before: Option<f64>,
    /// The same by the weights of this folder.
    loss_after: Option<f64>,
}

/// The order of elements that this version writes.
const LAYOUT: u64 = 1;

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Quantized {
    /// The folder.
    pub path: PathBuf,
    /// The format of the weights.
    pub format: &'static str,
    /// Files by name with their hashes.
    pub files: BTreeMap<String, Hash>,
    /// Bytes of the f32 weights.
    pub bytes_before: u64,
    /// Bytes of the weights in the folder.
    pub bytes_after: u64,
    /// Loss on the held-out rows of the run by the f32 weights; `None` if nothing is held out.
    pub before: Option<HeldOutLoss>,
    /// The same by the weights in the folder.
    pub after: Option<HeldOutLoss>,
}

/// How to work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Threads; what the spec says without it.
    pub threads: Option<usize>,
    /// Instruction set; the best one without it.
    pub isa: Option<Isa>,
}

/// Whether `folder` is one that [`quantize`] wrote.
pub fn is_quantized(source: &dyn Source, folder: &Path) -> Result<bool, Failure> {
    Ok(source.exists(&folder.join(CARD))?)
}

/// Writes the model of a run with its weights in `format` to `folder`, which must not exist.
///
/// Errors: `quantize::exists`; `quantize::twice` if the model is quantised; `quantize::f32` if `format` changes
/// nothing; weights that cannot be rounded.
pub fn quantize(
    store: &dyn Store,
    (run, model): (&Path, &Model),
    format: WeightFormat,
    folder: &Path,
    work: Work,
) -> Result<Quantized, Failure> {
    let refuse = |code: &str, message: String, help: &str| -> Failure {
        Diagnostic::error(code, message).help(help).into()
    };
    if store.exists(folder)? {
        let message = format!("`{}` exists already", folder.display());
        let help = "remove it, or name another folder with `--output`";
        return Err(refuse("quantize::exists", message, help));
    }
    if model.format != WeightFormat::F32 {
        let message = format!("`{}` has {} weights already", run.display(), model.format.name());
        return Err(refuse("quantize::twice", message, "quantise the run that it was made from"));
    }
    if format == WeightFormat::F32 {
        let message = "f32 is the format of the run itself".to_string();
        return Err(refuse("quantize::f32", message, "choose bf16, q8_0, q4_0, q4_k or int4"));
    }
    let packed = pack_weights(&model.module, format)?;
    let bytes = packed_file(model, &packed, format, work)?;

    let training = model.project.resolved.training.as_ref();
    let limit = training.and_then(|t| Some(t.eval_batches? * t.batch_size));
    let held_out = read_held_out(store, &run.join("data"))?;
    let loss = |module, weights| -> Result<Option<HeldOutLoss>, Failure> {
        let Some(split) = &held_out else { return Ok(None) };
        let engine =
            Engine::new(thread_count(work.threads, training.and_then(|t| t.threads))?, work.isa)?;
        held_out_loss(module, weights, split, limit, engine)
    };
    let original = model.checkpoint.path.join(model.weight_set.file());
    let before = loss(&model.module, (&model.weights, &original))?;
    let after = loss(&packed, (&bytes, &folder.join(FILE)))?;

    let source = Hash::of_bytes(&model.weights);
    let card = Card {
        weights: format.name().to_string(),
        layout: LAYOUT,
        source,
        step: model.checkpoint.step,
        loss_before: before.map(|l| l.loss),
        loss_after: after.map(|l| l.loss),
    };
    let card = serde_json::to_string_pretty(&card).map_err(|e| Failure::Internal(e.to_string()))?;
    let spec = store.read_text(&run.join(runs::SPEC))?;
    let mut certificate = Certificate::new(format.name(), source, Vec::new());
    let reason = "weights are rounded on purpose; model.json has the loss before and after";
    certificate.checks.push(Check::not_checked("logits", "real", reason));
    let marker: Complete = commit_folder(store, folder, |out: &mut FolderWriter| {
        let mut add = |name: &str, bytes: &[u8]| -> Result<(), Failure> {
            let hash = out.bytes(name, bytes)?;
            certificate.files.push(FileHash { path: name.to_string(), hash });
            Ok(())
        };
        add(FILE, &bytes)?;
        add(SPEC, spec.as_bytes())?;
        add(CARD, format!("{card}\n").as_bytes())?;
        write_tokenizer(out, &model.tokenizer)?;
        if let Some(template) = chat::text_beside(store, &model.tokenizer_folder)? {
            out.bytes(chat::TEMPLATE_FILE, template.as_bytes())?;
        }
        out.bytes("certificate.json", certificate.to_json().as_bytes())?;
        Ok::<(), Failure>(())
    })?;
    Ok(Quantized {
        path: folder.to_path_buf(),
        format: format.name(),
        files: marker.files.iter().map(|f| (f.path.clone(), f.hash)).collect(),
        bytes_before: model.weights.len() as u64,
        bytes_after: bytes.len() as u64,
        before,
        after,
    })
}

/// The file of the packed weights.
fn packed_file(
    model: &Model,
    packed: &llmc_ir::Module,
    format: WeightFormat,
    work: Work,
) -> Result<Vec<u8>, Failure> {
    let options =
        SessionOptions { threads: work.threads, isa: work.isa, ..SessionOptions::default() };
    let session = model.session_of(packed, &options)?;
    let internal = |e: String| Failure::Internal(e);
    let mut tensors = Vec::new();
    for path in session.weights() {
        let view = session.weight_view(&path).ok_or_else(|| internal(format!("no `{path}`")))?;
        let (dtype, shape) = (view.dtype, file_shape(view.dtype, &view.shape));
        let dtype = file_type(dtype)?;
        tensors.push((path, dtype, shape));
    }
    let mut sources = Vec::new();
    for (path, dtype, shape) in &tensors {
        let bytes = session.weight_bytes(path).map_err(|e| internal(e.to_string()))?;
        let len = shape.iter().product::<usize>() * dtype.bytes();
        let bytes = bytes.get(..len).ok_or_else(|| internal(format!("`{path}` is too short")))?;
        sources.push(TensorSource { name: path, dtype: *dtype, shape, data: Data::Bytes(bytes) });
    }
    let metadata = BTreeMap::from([("weights".to_string(), format.name().to_string())]);
    to_bytes(&sources, &metadata).map_err(|e| internal(e.to_string()))
}

/// Reads a folder that [`quantize`] wrote.
///
/// Errors: `quantize::card` for one of another version; a damaged folder.
pub(super) fn open(store: &dyn Store, folder: &Path) -> Result<Model, Failure> {
    let complete = read_marker(store, folder)?;
    let text = |file: &str| -> Result<String, Failure> {
        let bytes = read_verified(store, folder, &complete, file)?;
        String::from_utf8(bytes).map_err(|e| Failure::Internal(format!("`{file}`: {e}")))
    };
    let bad = |message: String| -> Failure {
        let message = format!("`{}`: {message}", folder.join(CARD).display());
        let help = "quantise the run again with this version of llmc";
        Diagnostic::error("quantize::card", message).help(help).into()
    };
    let card: Card = serde_json::from_str(&text(CARD)?).map_err(|e| bad(e.to_string()))?;
    let format = WeightFormat::parse(&card.weights).filter(|_| card.layout == LAYOUT);
    let format = format.ok_or_else(|| {
        bad(format!("weights `{}` in layout {} are not known here", card.weights, card.layout))
    })?;
    let name = folder.join(SPEC).display().to_string();
    let spec = text(SPEC)?;
    let toml = llmc_spec::Format::Toml;
    let goal = Goal::Training;
    let project = Project::parse(&spec, toml, &name, &[], goal, Defaults::Record)?.0;
    let module = pack_weights(&build_model(project.model()?)?, format)?;
    let tokenizer = read_tokenizer(store, folder)?;
    let weights = map_verified(store, folder, &complete, FILE)?;
    let weights_hash = Hash::of_bytes(&weights);
    let checkpoint = Checkpoint { step: card.step, path: folder.to_path_buf(), complete };
    let (folder, tokenizer_folder) = (folder.to_path_buf(), folder.to_path_buf());
    Ok(Model {
        folder,
        project,
        module,
        tokenizer,
        tokenizer_folder,
        checkpoint,
        weight_set: WeightSet::Trained,
        weights,
        weights_hash,
        format,
    })
}
