//! The weights file with our names: `model.safetensors`.

#[cfg(test)]
mod tests;

use llmc_formats::names::Tensors;
use llmc_formats::safetensors::{self, Data, Metadata, TensorSource};
use std::io;

/// What the metadata of the file says about the model. All of it is optional for readers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelFacts {
    /// Name of the model.
    pub model_name: String,
    /// Template, e.g. `decoder_only`.
    pub architecture: String,
    /// Rows of the embedding.
    pub vocab_size: u64,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Number of blocks.
    pub num_layers: u64,
    /// Query heads.
    pub num_attention_heads: u64,
    /// Key/value heads.
    pub num_key_value_heads: u64,
    /// Width of one head.
    pub head_dim: u64,
    /// Width of the feed-forward block.
    pub intermediate_size: u64,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: u64,
    /// Base of rotary frequencies, if positions are rotary.
    pub rope_theta: Option<f64>,
    /// `mha`, `gqa`, `mqa`, …
    pub attention_type: String,
    /// `rmsnorm`, …
    pub norm_type: String,
    /// `swiglu`, …
    pub activation: String,
    /// Unique parameters.
    pub parameter_count: u64,
}

impl ModelFacts {
    /// The metadata of the file. `format = pt` is what Python loaders look for.
    pub fn metadata(&self) -> Metadata {
        let number = |n: u64| n.to_string();
        let mut out: Metadata = [
            ("model_name", self.model_name.clone()),
            ("format", "pt".to_string()),
            ("architecture", self.architecture.clone()),
            ("vocab_size", number(self.vocab_size)),
            ("hidden_size", number(self.hidden_size)),
            ("num_layers", number(self.num_layers)),
            ("num_attention_heads", number(self.num_attention_heads)),
            ("num_key_value_heads", number(self.num_key_value_heads)),
            ("head_dim", number(self.head_dim)),
            ("intermediate_size", number(self.intermediate_size)),
            ("max_position_embeddings", number(self.max_position_embeddings)),
            ("attention_type", self.attention_type.clone()),
            ("norm_type", self.norm_type.clone()),
            ("activation", self.activation.clone()),
            ("parameter_count", number(self.parameter_count)),
            ("generator", "llmc".to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_string(), value))
        .collect();
        if let Some(theta) = self.rope_theta {
            out.insert("rope_theta".to_string(), format!("{theta:?}"));
        }
        out
    }
}

/// Writes tensors with their names as they are.
///
/// Errors: those of [`safetensors::write_to`].
pub fn write(
    out: &mut dyn io::Write,
    tensors: &Tensors<'_>,
    metadata: &Metadata,
) -> io::Result<()> {
    safetensors::write_to(out, &sources(tensors), metadata)
}

/// The file in memory.
///
/// Errors: those of [`safetensors::to_bytes`].
pub fn to_bytes(tensors: &Tensors<'_>, metadata: &Metadata) -> Result<Vec<u8>, safetensors::Error> {
    safetensors::to_bytes(&sources(tensors), metadata)
}

fn sources<'t>(tensors: &'t Tensors<'_>) -> Vec<TensorSource<'t>> {
    tensors
        .iter()
        .map(|(name, tensor)| TensorSource {
            name,
            dtype: tensor.dtype,
            shape: &tensor.shape,
            data: Data::Bytes(&tensor.data),
        })
        .collect()
}
