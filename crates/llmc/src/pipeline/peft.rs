//! The adapters of a run in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`, to be put
//! beside the exported base by `PeftModel.from_pretrained(base, folder)`.
//!
//! Names are those of the base's class in `transformers`; a matrix of ours that is stored there
//! together with others (`c_attn` of GPT-2) has no adapter of its own, and is refused.
//!
//! Source: Hugging Face `peft` 0.13, `LoraConfig` and `save_pretrained`.

use super::failure::Failure;
use super::generate::Model;
use crate::store::Source;
use llmc_base::Diagnostic;
use llmc_codegen::huggingface;
use llmc_formats::names::{Family, pairs};
use llmc_formats::safetensors::{Data, SafeTensors, TensorSource, to_bytes};
use llmc_passes::adapters::{DOWN, UP};
use llmc_spec::TrainingConfig;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// What stands before every name in the file.
const PREFIX: &str = "base_model.model.";

/// The files by name.
///
/// Errors: `emit::no_adapters` for a model without them; `emit::no_family` and `emit::peft` where
/// `transformers` has no class for the base, or no matrix of its own for an adapter.
pub(super) fn files(
    source: &dyn Source,
    model: &Model,
    context_length: u64,
) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let training = model.project.resolved.training.as_ref();
    let lora = training.and_then(TrainingConfig::adapters).ok_or_else(|| {
        let message = format!("`{}` has no adapters", model.folder.display());
        let help = "train some: `[training.lora] rank = 8` and `llmc train SPEC --from RUN`";
        Diagnostic::error("emit::no_adapters", message).help(help)
    })?;
    let options = huggingface::Options::new(context_length);
    let (family, _) = huggingface::recognise(&model.module, &options)
        .map_err(|e| Diagnostic::error("emit::no_family", e.to_string()))?;
    let internal = |e: &dyn std::fmt::Display| Failure::Internal(e.to_string());
    let bytes = model.checkpoint.read(source, model.weight_set.file())?;
    let own = SafeTensors::parse(&bytes).map_err(|e| internal(&e))?;
    let whole = SafeTensors::parse(&model.weights).map_err(|e| internal(&e))?;
    let names = whole.header().tensors().iter().map(|t| t.name.as_str());
    let theirs = pairs(family, names).map_err(|e| internal(&e))?;
    let mut tensors = Vec::new();
    let mut modules = BTreeSet::new();
    for view in own.tensors() {
        let name = view.info.name.as_str();
        let end = if name.ends_with(DOWN) { DOWN } else { UP };
        let map = name.strip_suffix(end).and_then(|n| n.strip_suffix('.'));
        let map = map.ok_or_else(|| internal(&format!("`{name}` is of no adapter")))?;
        let weight = format!("{map}.weight");
        let found = theirs.iter().find(|(ours, _)| *ours == weight);
        let (_, stored) = found.ok_or_else(|| internal(&format!("there is no `{weight}`")))?;
        if theirs.iter().filter(|(_, other)| other == stored).count() > 1 {
            let class = family.architecture();
            let message = format!(
                "`{map}` is a part of `{stored}` in {class}, so its adapter has no place there"
            );
            let d = Diagnostic::error("emit::peft", message);
            return Err(d.help("export with `--to huggingface`, which merges the adapters").into());
        }
        let module = stored.strip_suffix(".weight").unwrap_or(stored);
        modules.insert(in_layer(module).to_string());
        tensors.push((format!("{PREFIX}{module}.{end}"), view));
    }
    let values: Vec<Vec<f32>> = tensors
        .iter()
        .map(|(_, view)| view.to_f32())
        .collect::<Result<_, _>>()
        .map_err(|e| internal(&e))?;
    let sources: Vec<TensorSource> = tensors
        .iter()
        .zip(&values)
        .map(|((name, view), values)| TensorSource {
            name,
            dtype: llmc_formats::safetensors::DType::F32,
            shape: &view.info.shape,
            data: Data::F32(values),
        })
        .collect();
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    let weights = to_bytes(&sources, &metadata).map_err(|e| internal(&e))?;
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": null,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": modules,
        "bias": "none",
        // Conv1D of GPT-2 stores its matrices the other way round.
        "fan_in_fan_out": family == Family::Gpt2,
        "inference_mode": true,
        "init_lora_weights": true,
        "modules_to_save": null,
        "use_rslora": false,
        "use_dora": false,
    });
    let config = format!("{config:#}\n").into_bytes();
    Ok(BTreeMap::from([
        ("adapter_config.json".to_string(), config),
        ("adapter_model.safetensors".to_string(), weights),
    ]))
}

/// The name of a module in its layer: what follows the layer's number.
fn in_layer(module: &str) -> &str {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match module.split('.').find(|part| is_number(part)) {
        Some(number) => module.split_once(&format!(".{number}.")).map_or(module, |(_, rest)| rest),
        None => module,
    }
}
