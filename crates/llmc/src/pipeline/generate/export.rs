//! Reading back what `llmc emit` wrote: an export is a model as well as the run it was made from.
//!
//! Each export holds `llmc.json`: the model's section of the spec with every value, the step, and the
//! kind of the export. Weights under other names come back to ours by the tables that renamed them.

use super::super::failure::Failure;
use super::super::project::{Defaults, Project, build_model};
use super::{Model, WeightFormat, WeightSet};
use crate::checkpoint::Checkpoint;
use crate::pipeline::data::read_tokenizer;
use crate::pipeline::fold::is_folded_away;
use crate::store::{Source, map_verified, read_marker, read_verified};
use llmc_base::{Diagnostic, Hash};
use llmc_codegen::{huggingface, weights};
use llmc_formats::names::{Family, Tensors, tensors_of, to_ours};
use llmc_formats::safetensors::SafeTensors;
use llmc_ir::Module;
use llmc_spec::{Format, Goal};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file that makes a folder an export.
pub const FILE: &str = "llmc.json";
const FORMAT: &str = "llmc-export";
const VERSION: u32 = 1;

/// What an export says of itself.
#[derive(Serialize, Deserialize)]
struct Card {
    format: String,
    version: u32,
    /// What the export is: `safetensors`, `pytorch`, or a class of `transformers`.
    kind: String,
    step: u64,
    /// The model's section of the spec as TOML, every value written.
    spec: String,
}

/// The card of an export of this kind; one whose weights hold the factors of the graph is of the standard
/// parametrization.
pub fn card(model: &Model, kind: &str, is_folded: bool) -> Result<Vec<u8>, Failure> {
    let mut resolved = model.project.resolved.clone();
    let is_said = |path: &str| path.starts_with("model.") && !(is_folded && is_folded_away(path));
    resolved.values.retain(|path, _| is_said(path));
    let card = Card {
        format: FORMAT.to_string(),
        version: VERSION,
        kind: kind.to_string(),
        step: model.checkpoint.step,
        spec: llmc_spec::to_explicit_toml(&resolved),
    };
    let mut text =
        serde_json::to_string_pretty(&card).map_err(|e| Failure::Internal(e.to_string()))?;
    text.push('\n');
    Ok(text.into_bytes())
}

/// Whether a folder is an export of llmc.
pub fn is_export(source: &dyn Source, folder: &Path) -> Result<bool, Failure> {
    Ok(source.exists(&folder.join(FILE))?)
}

/// Reads an export.
///
/// Errors: `export::damaged` if its card, weights or tokenizer are not what llmc wrote.
pub(super) fn open(source: &dyn Source, folder: &Path) -> Result<Model, Failure> {
    let damaged = |what: String| -> Failure {
        let message = format!("`{}` is not as llmc wrote it: {what}", folder.display());
        let help = "export it again: `llmc emit RUN --to FORMAT`";
        Diagnostic::error("export::damaged", message).help(help).into()
    };
    let complete = read_marker(source, folder).map_err(|e| damaged(e.to_string()))?;
    let read = |name: &str| {
        let bytes = read_verified(source, folder, &complete, name);
        bytes.map_err(|e| damaged(e.to_string()))
    };
    let card: Card =
        serde_json::from_slice(&read(FILE)?).map_err(|e| damaged(format!("{FILE}: {e}")))?;
    if (card.format.as_str(), card.version) != (FORMAT, VERSION) {
        return Err(damaged(format!("{FILE} is `{}`, version {}", card.format, card.version)));
    }
    let name = folder.join(FILE).display().to_string();
    let (project, _) =
        Project::parse(&card.spec, Format::Toml, &name, &[], Goal::Model, Defaults::Record)?;
    let module = build_model(project.model()?)?;
    let tokenizer = read_tokenizer(source, folder)?;
    let mapped = map_verified(source, folder, &complete, "model.safetensors");
    let mut bytes = mapped.map_err(|e| damaged(e.to_string()))?;
    let family = Family::ALL.into_iter().find(|family| family.architecture() == card.kind);
    if let Some(family) = family {
        let theirs = SafeTensors::parse(&bytes).map_err(|e| damaged(e.to_string()))?;
        let context = project.model()?.dims.context_length;
        bytes = ours(&module, context, family, &tensors_of(&theirs)).map_err(&damaged)?.into();
    }
    let (step, path) = (card.step, folder.to_path_buf());
    let (folder, tokenizer_folder) = (path.clone(), path.clone());
    let checkpoint = Checkpoint { step, path, complete };
    Ok(Model {
        folder,
        project,
        module,
        tokenizer,
        tokenizer_folder,
        checkpoint,
        weight_set: WeightSet::Trained,
        weights_hash: Hash::of_bytes(&bytes),
        weights: bytes,
        format: WeightFormat::F32,
    })
}

/// Weights of a family as a file with the paths of the module.
fn ours(
    module: &Module,
    context_length: u64,
    family: Family,
    theirs: &Tensors,
) -> Result<Vec<u8>, String> {
    let standard = to_ours(family, theirs).map_err(|e| e.to_string())?;
    let options = huggingface::Options::new(context_length);
    let (_, decoder) = huggingface::recognise(module, &options).map_err(|e| e.to_string())?;
    let mut own = Tensors::new();
    for (path, actual) in decoder.paths() {
        let tensor = standard.get(&path).ok_or_else(|| format!("there is no tensor `{path}`"))?;
        own.insert(actual, tensor.clone());
    }
    weights::to_bytes(&own, &Default::default()).map_err(|e| e.to_string())
}
