//! Exports of a run, each with its certificate.

use super::chat;
use super::failure::Failure;
use super::fold::fold;
use super::generate::{Model, WeightFormat, export};
use crate::store::{FolderWriter, Store, commit_folder};
use llmc_base::{Diagnostic, Hash};
use llmc_codegen::certificate::{Certificate, Check, FileHash};
use llmc_codegen::weights::ModelFacts;
use llmc_codegen::{huggingface, probe, pytorch, weights};
use llmc_formats::names::{Tensors, tensors_of};
use llmc_formats::safetensors::SafeTensors;
use llmc_ir::DType;
use llmc_ir::eval::{Data, EvalOptions, Mode, Tensor, run as evaluate};
use llmc_spec::Position;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A format that a run can be exported to.
pub struct Format {
    /// Its name, which is also the name of its folder.
    pub name: &'static str,
    /// What it is, for people.
    pub summary: &'static str,
    /// Whether it computes, so that a probe can be compared.
    pub is_program: bool,
    write: fn(&Input) -> Result<Files, Failure>,
}

/// All formats. To add one: a function that makes its files, and an entry here.
pub const FORMATS: &[Format] = &[
    Format {
        name: "pytorch",
        summary: "readable PyTorch: model.py and model.safetensors",
        is_program: true,
        write: pytorch_files,
    },
    Format {
        name: "safetensors",
        summary: "weights with llmc's own names",
        is_program: false,
        write: weight_files,
    },
    Format {
        name: "huggingface",
        summary: "a folder that `transformers` loads",
        is_program: true,
        write: huggingface_files,
    },
];

/// The format of this name.
pub fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// What formats are made from.
struct Input<'a> {
    model: &'a Model,
    facts: ModelFacts,
    tensors: Tensors<'a>,
}

/// Files by name, and what the export is.
struct Files {
    files: BTreeMap<String, Vec<u8>>,
    kind: String,
    /// Whether factors of the graph are folded into the weights.
    is_folded: bool,
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::Internal(error.to_string())
}

/// The weights with our names, and the tokenizer.
fn weight_files(input: &Input) -> Result<Files, Failure> {
    let bytes = weights::to_bytes(&input.tensors, &input.facts.metadata()).map_err(internal)?;
    let files = BTreeMap::from([
        ("model.safetensors".to_string(), bytes),
        ("tokenizer.json".to_string(), input.model.tokenizer.to_json().into_bytes()),
        ("tokenizer_config.json".to_string(), input.model.tokenizer.to_config_json().into_bytes()),
    ]);
    Ok(Files { files, kind: "safetensors".to_string(), is_folded: false })
}

fn pytorch_files(input: &Input) -> Result<Files, Failure> {
    let mut made = weight_files(input)?;
    let options = pytorch::Options::new(&input.facts.model_name);
    let text = pytorch::emit(&input.model.module, &options);
    let text = text.map_err(|e| Diagnostic::error("emit::pytorch", e.to_string()))?;
    made.files.insert("model.py".to_string(), text.into_bytes());
    made.kind = "pytorch".to_string();
    Ok(made)
}

fn huggingface_files(input: &Input) -> Result<Files, Failure> {
    let model = input.model;
    let roles = model.tokenizer.roles();
    let mut options = huggingface::Options::new(input.facts.max_position_embeddings);
    options.initializer_range = model.project.model()?.architecture.init.std;
    options.bos_token_id = roles.bos.map(u64::from);
    options.eos_token_id = roles.eos.map(u64::from);
    options.pad_token_id = roles.pad.map(u64::from);
    options.tokenizer = Some(huggingface::TokenizerFiles {
        tokenizer_json: model.tokenizer.to_json().into_bytes(),
        tokenizer_config_json: model.tokenizer.to_config_json().into_bytes(),
    });
    let folded = fold(model, &input.tensors)?;
    let (module, tensors) = match &folded {
        Some(folded) => (&folded.module, &folded.tensors),
        None => (&model.module, &input.tensors),
    };
    let export = huggingface::export(module, &options, tensors).map_err(|e| {
        Diagnostic::error("emit::no_family", e.to_string())
            .help("export with `--to pytorch`, which takes every structure")
    })?;
    let mut bytes = Vec::new();
    export.write_weights(&mut bytes).map_err(internal)?;
    let mut files: BTreeMap<String, Vec<u8>> = export.files.clone();
    files.insert("model.safetensors".to_string(), bytes);
    let kind = export.family.architecture().to_string();
    Ok(Files { files, kind, is_folded: folded.is_some() })
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Exported {
    /// The folder.
    pub path: PathBuf,
    /// Files by name with their hashes.
    pub files: BTreeMap<String, Hash>,
    /// What the export is, e.g. `LlamaForCausalLM`.
    pub kind: String,
    /// Status of the certificate.
    pub certificate: String,
    /// The certificate.
    pub checks: Certificate,
}

/// Tokens of the probe on which an export is compared.
const PROBE_TOKENS: usize = 32;

fn facts(model: &Model) -> Result<ModelFacts, Failure> {
    let resolved = model.project.model()?;
    let (arch, dims) = (&resolved.architecture, &resolved.dims);
    let word = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default()
    };
    Ok(ModelFacts {
        model_name: resolved.name.clone(),
        architecture: word(serde_json::to_value(arch.template)),
        vocab_size: dims.vocab_size,
        hidden_size: dims.hidden_size,
        num_layers: dims.num_layers,
        num_attention_heads: dims.num_heads,
        num_key_value_heads: dims.num_kv_heads,
        head_dim: dims.head_dim,
        intermediate_size: dims.intermediate_size,
        max_position_embeddings: dims.context_length,
        rope_theta: match arch.position {
            Position::Rope { theta, .. } => Some(theta),
            _ => None,
        },
        attention_type: word(serde_json::to_value(arch.attention)),
        norm_type: word(serde_json::to_value(arch.norm)),
        activation: word(serde_json::to_value(arch.activation)),
        parameter_count: resolved.solution.params,
    })
}

/// Inputs and f64 logits on which an export is compared: the reference evaluator on the run's weights.
fn probe_of(model: &Model, parsed: &SafeTensors) -> Result<Vec<u8>, Failure> {
    let dims = model.project.model()?.dims;
    let length = PROBE_TOKENS.min(dims.context_length as usize);
    let ids = |f: &dyn Fn(usize) -> i64| Tensor {
        dtype: DType::I32,
        shape: vec![1, length],
        data: Data::Int((0..length).map(f).collect()),
    };
    let vocab = dims.vocab_size as usize;
    // A fixed walk over the vocabulary: steps of a large odd number meet many different ids.
    let tokens = ids(&|i| ((i * 40_503 + 7) % vocab) as i64);
    let positions = ids(&|i| i as i64);
    let segments = ids(&|_| 0);
    let internal = |e: String| Failure::Internal(e);
    let weights = |path: &str| -> Option<Tensor> {
        let tensor = parsed.tensor(path).ok()?;
        let shape = parsed.header().get(path)?.shape.clone();
        Some(Tensor { dtype: DType::F32, shape, data: Data::Float(tensor.to_f64().ok()?) })
    };
    let entry = model.module.find("forward");
    let entry = entry.ok_or_else(|| internal("no `@forward`".to_string()))?;
    let inputs = [tokens, positions, segments];
    let options = EvalOptions::new(Mode::Real);
    let out = evaluate(&model.module, entry, &inputs, &weights, &BTreeMap::new(), &options)
        .map_err(|e| internal(e.to_string()))?;
    let named: Vec<(&str, &Tensor)> =
        ["tokens", "positions", "segments"].into_iter().zip(&inputs).collect();
    let outputs: Vec<(&str, &Tensor)> = ["logits"].into_iter().zip(&out.outputs).collect();
    probe::to_bytes(&named, &outputs).map_err(|e| internal(e.to_string()))
}

/// Writes an export of a run to `folder`, which must not exist.
///
/// The folder holds the export, `llmc.json` from which llmc reads it back, `probe.safetensors` (inputs and f64 reference outputs),
/// `check_export.py` that compares them, and `certificate.json`, which says `not checked here` until
/// that program has run.
///
/// Errors: `emit::no_family` where no `transformers` class computes the graph, with the reasons.
pub fn emit(
    store: &dyn Store,
    model: &Model,
    format: &Format,
    folder: &Path,
) -> Result<Exported, Failure> {
    if store.exists(folder)? {
        let message = format!("`{}` exists already", folder.display());
        let d = Diagnostic::error("emit::exists", message);
        return Err(d.help("remove it, or name another folder with `--output`").into());
    }
    if model.format != WeightFormat::F32 {
        let place = model.checkpoint.path.display();
        let message = format!("`{place}` has {} weights; exports are in f32", model.format.name());
        let d = Diagnostic::error("emit::quantized", message);
        return Err(d.help("export the run that it was made from").into());
    }
    let parsed = SafeTensors::parse(&model.weights).map_err(internal)?;
    let input = Input { model, facts: facts(model)?, tensors: tensors_of(&parsed) };
    let Files { mut files, kind, is_folded } = (format.write)(&input)?;
    if let Some(template) = chat::text_beside(store, &model.tokenizer_folder)? {
        files.insert(chat::TEMPLATE_FILE.to_string(), template.into_bytes());
    }
    files.insert(export::FILE.to_string(), export::card(model, &kind, is_folded)?);
    if format.is_program {
        files.insert("probe.safetensors".to_string(), probe_of(model, &parsed)?);
        files.insert("check_export.py".to_string(), probe::CHECKER.as_bytes().to_vec());
    }
    let hashes: BTreeMap<String, Hash> =
        files.iter().map(|(name, bytes)| (name.clone(), Hash::of_bytes(bytes))).collect();
    let listed = hashes.iter().map(|(path, hash)| FileHash { path: path.clone(), hash: *hash });
    let mut certificate =
        Certificate::new(format.name, Hash::of_bytes(&model.weights), listed.collect());
    let reason = match format.is_program {
        true => {
            "run `python check_export.py` in this folder, with torch (and transformers) installed"
        }
        false => "weights alone compute nothing",
    };
    certificate.checks.push(Check::not_checked("logits", "real", reason));
    files.insert("certificate.json".to_string(), certificate.to_json().into_bytes());
    commit_folder(store, folder, |out: &mut FolderWriter| {
        files.iter().try_for_each(|(name, bytes)| out.bytes(name, bytes).map(|_| ()))
    })?;
    let status = serde_json::to_value(certificate.status()).ok();
    let status = status.and_then(|s| s.as_str().map(str::to_string)).unwrap_or_default();
    let path = folder.to_path_buf();
    Ok(Exported { path, files: hashes, kind, certificate: status, checks: certificate })
}
