//! A μP model for formats that know no factor on logits and attention scores: its factors folded into weights.
//!
//! The factor on what the head reads goes into the final norm, or into a head of its own; that on the scores into
//! the queries. Each is a rounding to f32 of its own, none where the factor is a power of two.

use super::failure::Failure;
use super::generate::Model;
use llmc_base::Diagnostic;
use llmc_formats::names::{Tensor, Tensors};
use llmc_formats::safetensors::DType;
use llmc_ir::Module;
use llmc_model::blocks::logits_factor;
use llmc_spec::{Architecture, DimExprs, Norm};
use std::borrow::Cow;

/// The same model in the standard parametrization.
pub(super) struct Folded<'a> {
    /// Its graph, without the factors.
    pub module: Module,
    /// Its weights, with them.
    pub tensors: Tensors<'a>,
}

/// Fields of the model that say nothing of the folded one.
pub(super) fn is_folded_away(path: &str) -> bool {
    path == "model.parametrization"
        || path == "model.attention_scale"
        || path.starts_with("model.mup.")
}

/// The folded model; `None` for one in the standard parametrization.
///
/// Errors: `emit::mup` where there is no weight that can take the factor on the logits.
pub(super) fn fold<'a>(
    model: &Model,
    tensors: &Tensors<'a>,
) -> Result<Option<Folded<'a>>, Failure> {
    let resolved = model.project.model()?;
    let (arch, dims) = (&resolved.architecture, &resolved.dims);
    if arch.mup.is_none() {
        return Ok(None);
    }
    let symbols = DimExprs::from(dims);
    let logits = logits_factor(arch, &symbols);
    let (of_norm, of_head) = match (arch.norm, arch.tie_embeddings) {
        _ if logits.is_none() => (None, None),
        (Norm::None, true) => {
            let message = "there is no norm before a tied head, so no weight can take the factor on the logits of `parametrization = \"mup\"`";
            let d = Diagnostic::error("emit::mup", message).field("model.parametrization");
            return Err(d.help("export with `--to pytorch`, which takes every structure").into());
        }
        (Norm::None, false) => (None, logits),
        _ => (logits, None),
    };
    let root = (dims.head_dim as f64).sqrt();
    let of_queries = arch.scores_factor(dims.head_dim).map(|factor| factor * root);
    let factor_of = |name: &str| match name {
        "norm.weight" | "norm.bias" => of_norm,
        "lm_head.weight" => of_head,
        q if q.ends_with(".attention.q.weight") || q.ends_with(".attention.q.bias") => of_queries,
        _ => None,
    };
    let mut folded = Tensors::new();
    for (name, tensor) in tensors {
        let tensor = match factor_of(name) {
            Some(factor) => times(tensor, factor)?,
            None => tensor.clone(),
        };
        folded.insert(name.clone(), tensor);
    }
    let standard = Architecture { mup: None, attention_scale: None, ..arch.clone() };
    let module = super::project::verified(llmc_model::build(&standard, &symbols)?)?;
    Ok(Some(Folded { module, tensors: folded }))
}

/// Every element times the factor, rounded once.
fn times<'a>(tensor: &Tensor<'_>, factor: f64) -> Result<Tensor<'a>, Failure> {
    if tensor.dtype != DType::F32 {
        return Err(Failure::Internal(format!("weights of {:?} in an export", tensor.dtype)));
    }
    let (words, _) = tensor.data.as_chunks::<4>();
    let scaled = |word: &[u8; 4]| (f64::from(f32::from_le_bytes(*word)) * factor) as f32;
    let data: Vec<u8> = words.iter().flat_map(|word| scaled(word).to_le_bytes()).collect();
    Ok(Tensor { dtype: tensor.dtype, shape: tensor.shape.clone(), data: Cow::Owned(data) })
}
