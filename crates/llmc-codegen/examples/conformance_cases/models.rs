//! Models of every family, and odd ones.

use crate::{Done, noise, seed, write_case, write_certificate, write_file};
use llmc_base::Hash;
use llmc_codegen::{huggingface, probe, pytorch, weights};
use llmc_formats::names::{Tensor as Weight, Tensors};
use llmc_formats::safetensors::{DType as FileDType, Metadata};
use llmc_ir::eval::{self, EvalOptions, Mode, Tensor};
use llmc_ir::{Module, account};
use llmc_model::build;
use llmc_spec::{
    Activation, Architecture, AttentionKind, Biases, DimExprs, Dims, Dropout, Init, Mup, Norm,
    Position, RopeScaling, Template,
};
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A model to export.
pub struct Case {
    pub name: &'static str,
    arch: Architecture,
    dims: Dims,
    /// The class that has to be found; `None` if none fits.
    family: Option<&'static str>,
}

fn llama() -> Architecture {
    Architecture {
        template: Template::DecoderOnly,
        attention: AttentionKind::Gqa,
        sliding_window: None,
        norm: Norm::RmsNorm,
        norm_eps: 1e-5,
        activation: Activation::SwiGlu,
        position: Position::Rope { theta: 10_000.0, scaling: RopeScaling::None },
        tie_embeddings: false,
        biases: Biases::default(),
        dropout: Dropout::default(),
        attention_scale: None,
        init: Init { std: 0.02, is_residual_scaled: false },
        mup: None,
    }
}

fn gpt2() -> Architecture {
    Architecture {
        attention: AttentionKind::Mha,
        norm: Norm::LayerNorm,
        activation: Activation::GeluTanh,
        position: Position::Learned,
        tie_embeddings: true,
        biases: Biases {
            q: true,
            k: true,
            v: true,
            o: true,
            up: true,
            down: true,
            norm: true,
            ..Biases::default()
        },
        ..llama()
    }
}

const GQA: Dims = Dims {
    vocab_size: 61,
    context_length: 48,
    num_layers: 3,
    hidden_size: 32,
    num_heads: 4,
    num_kv_heads: 2,
    head_dim: 8,
    intermediate_size: 52,
};

const MHA: Dims = Dims { num_kv_heads: 4, ..GQA };

pub fn cases() -> Vec<Case> {
    let rope = |theta, scaling| Position::Rope { theta, scaling };
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context_length: 32,
    };
    let qkv = Biases { q: true, k: true, v: true, ..Biases::default() };
    let all = Biases { o: true, gate: true, up: true, down: true, ..qkv };
    let case = |name, family, arch, dims| Case { name, arch, dims, family };
    vec![
        case("llama", Some("llama"), llama(), GQA),
        case(
            "llama3-scaling-tied",
            Some("llama"),
            Architecture { position: rope(500_000.0, llama3), tie_embeddings: true, ..llama() },
            Dims { head_dim: 16, num_heads: 8, ..GQA },
        ),
        case(
            "llama-linear-scaling-biases",
            Some("llama"),
            Architecture {
                position: rope(10_000.0, RopeScaling::Linear { factor: 4.0 }),
                biases: all,
                ..llama()
            },
            MHA,
        ),
        case(
            "mistral",
            Some("mistral"),
            Architecture { sliding_window: Some(5), norm_eps: 1e-6, ..llama() },
            Dims { head_dim: 12, ..GQA },
        ),
        case(
            "qwen2",
            Some("qwen2"),
            Architecture {
                biases: qkv,
                tie_embeddings: true,
                position: rope(1_000_000.0, RopeScaling::None),
                ..llama()
            },
            Dims { head_dim: 12, ..GQA },
        ),
        case(
            "qwen2-window",
            Some("qwen2"),
            Architecture { biases: qkv, sliding_window: Some(7), ..llama() },
            GQA,
        ),
        case("gpt2", Some("gpt2"), gpt2(), MHA),
        case(
            "gpt2-untied-gelu",
            Some("gpt2"),
            Architecture { activation: Activation::Gelu, tie_embeddings: false, ..gpt2() },
            MHA,
        ),
        case(
            "odd-mqa-no-norm-relu",
            None,
            Architecture {
                attention: AttentionKind::Mqa,
                norm: Norm::None,
                activation: Activation::Relu,
                ..llama()
            },
            Dims { num_kv_heads: 1, ..GQA },
        ),
        case(
            "odd-head-dim-scale-layernorm",
            None,
            Architecture {
                norm: Norm::LayerNorm,
                activation: Activation::Silu,
                attention_scale: Some(0.25),
                ..llama()
            },
            Dims { head_dim: 12, num_heads: 3, num_kv_heads: 3, ..GQA },
        ),
        case(
            "odd-mup",
            None,
            Architecture {
                mup: Some(Mup { base_hidden_size: 12, base_head_dim: Some(3) }),
                tie_embeddings: true,
                ..llama()
            },
            GQA,
        ),
        case(
            "odd-no-positions-head-bias",
            None,
            Architecture {
                position: Position::None,
                biases: Biases { lm_head: true, v: true, ..Biases::default() },
                ..llama()
            },
            GQA,
        ),
    ]
}

/// Weights of `@forward`: f32 values, with norms around 1.
fn random_weights(module: &Module, case: &str) -> Done<BTreeMap<String, Vec<f32>>> {
    let entry = module.find("forward").ok_or("no forward")?;
    let mut out = BTreeMap::new();
    for info in account::weights(module, entry) {
        let shape = info.ty.concrete().ok_or("a weight has symbolic dims")?;
        let seed = seed(&format!("{case}/{}", info.path));
        let n: usize = shape.iter().product();
        let is_norm = info.path.contains("norm") && info.path.ends_with("weight");
        let (centre, width) = match is_norm {
            true => (1.0, 0.5),
            false => (0.0, 1.5 / (*shape.last().unwrap_or(&1) as f64).sqrt()),
        };
        let values = (0..n as u64).map(|i| (centre + width * noise(seed, i)) as f32).collect();
        out.insert(info.path.clone(), values);
    }
    Ok(out)
}

/// Tokens, positions and segments of a batch of 2; packed: three documents in each row.
fn tokens(case: &Case, is_packed: bool) -> Done<[Tensor; 3]> {
    let (batch, length) = (2, 24usize);
    let seed = seed(case.name);
    let ids = (0..(batch * length) as u64)
        .map(|i| ((noise(seed, i) + 1.0) / 2.0 * case.dims.vocab_size as f64) as i32)
        .collect::<Vec<_>>();
    let starts = [[0, 5, 14], [0, 9, 10]];
    let (mut positions, mut segments) = (Vec::new(), Vec::new());
    for row in starts.iter().take(batch) {
        for t in 0..length {
            let segment = match is_packed {
                true => row.iter().filter(|start| **start <= t).count() - 1,
                false => 0,
            };
            let start = if is_packed { row[segment] } else { 0 };
            positions.push((t - start) as i32);
            segments.push(segment as i32);
        }
    }
    let shape = [batch, length];
    Ok([
        Tensor::i32(&shape, &ids)?,
        Tensor::i32(&shape, &positions)?,
        Tensor::i32(&shape, &segments)?,
    ])
}

/// Writes a model with all its exports.
pub fn write(folder: &Path, case: &Case) -> Done {
    let module = build(&case.arch, &DimExprs::from(&case.dims))?;
    let entry = module.find("forward").ok_or("no forward")?;
    let values = random_weights(&module, case.name)?;
    let shapes: BTreeMap<String, Vec<usize>> = account::weights(&module, entry)
        .into_iter()
        .filter_map(|info| Some((info.path, info.ty.concrete()?)))
        .collect();
    let bytes: BTreeMap<&String, Vec<u8>> = values
        .iter()
        .map(|(path, v)| (path, v.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let tensors: Tensors<'_> = bytes
        .iter()
        .map(|(path, bytes)| {
            let (shape, data) = (shapes[*path].clone(), Cow::Borrowed(bytes.as_slice()));
            ((*path).clone(), Weight { dtype: FileDType::F32, shape, data })
        })
        .collect();
    let weights_file = weights::to_bytes(&tensors, &Metadata::new())?;
    let source = Hash::of_bytes(&weights_file);

    fs::create_dir_all(folder)?;
    let mut probes = Vec::new();
    for (name, is_packed) in [("plain", false), ("packed", true)] {
        let inputs = tokens(case, is_packed)?;
        let lookup = |path: &str| Tensor::f32(&shapes[path], &values[path]).ok();
        let options = EvalOptions::new(Mode::Real);
        let done = eval::run(&module, entry, &inputs, &lookup, &BTreeMap::new(), &options)?;
        let [tokens, positions, segments] = &inputs;
        let file = probe::to_bytes(
            &[("tokens", tokens), ("positions", positions), ("segments", segments)],
            &[("logits", &done.outputs[0])],
        )?;
        fs::write(folder.join(format!("{name}.safetensors")), &file)?;
        probes.push(json!({"path": format!("{name}.safetensors"), "hash": probe::hash(&file)}));
    }

    // The same model written with its dims by name.
    let mut options = pytorch::Options::new(case.name);
    options.dims = case.dims.env();
    let mut dims = DimExprs::symbolic();
    dims.num_layers = case.dims.num_layers.into();
    if case.arch.mup.is_some() {
        let numbers = DimExprs::from(&case.dims);
        (dims.hidden_size, dims.head_dim) = (numbers.hidden_size, numbers.head_dim);
    }
    let symbolic = build(&case.arch, &dims)?;
    let mut exports = Vec::new();
    for (name, text) in [
        ("pytorch", pytorch::emit(&symbolic, &options)?),
        ("pytorch-numbers", pytorch::emit(&module, &pytorch::Options::new(case.name))?),
    ] {
        let (target, mut files) = (folder.join(name), Vec::new());
        write_file(&target, "model.py", text.as_bytes(), &mut files)?;
        write_file(&target, "model.safetensors", &weights_file, &mut files)?;
        write_certificate(&target, "pytorch", source, files)?;
        exports.push(json!({"folder": name, "probes": probes}));
    }

    let options = huggingface::Options::new(case.dims.context_length);
    match (huggingface::export(&module, &options, &tensors), case.family) {
        (Ok(export), Some(family)) if export.family.model_type() == family => {
            let (target, mut files) = (folder.join("huggingface"), Vec::new());
            let mut model = Vec::new();
            export.write_weights(&mut model)?;
            write_file(&target, "model.safetensors", &model, &mut files)?;
            for (name, bytes) in &export.files {
                write_file(&target, name, bytes, &mut files)?;
            }
            write_certificate(&target, "huggingface", source, files)?;
            exports.push(json!({"folder": "huggingface", "probes": [probes[0]]}));
        }
        (Err(huggingface::Error::NoFamily(why)), None) => {
            fs::write(folder.join("huggingface.txt"), why.to_string())?;
        }
        (found, expected) => {
            let found = found.map(|export| export.family);
            return Err(format!("{}: expected {expected:?}, got {found:?}", case.name).into());
        }
    }
    write_case(folder, exports)
}
