//! Every choice about a model that is not a dimension.
//!
//! Templates (`llmc-model`) build graphs from an [`Architecture`] and dims. All
//! values are resolved: nothing here is optional because it was not written.

use serde::{Deserialize, Serialize};

/// All model choices that are not dims, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// Which template builds the graph.
    pub template: Template,
    /// How heads are grouped. A graph needs only `num_kv_heads`; this is what was asked.
    pub attention: AttentionKind,
    /// Query `i` sees keys `j` with `i - j < window`; `None` sees all of them.
    pub sliding_window: Option<u64>,
    /// Normalisation before each block and at the end.
    pub norm: Norm,
    /// Added to the mean square or variance before the root; positive.
    pub norm_eps: f64,
    /// Of the feed-forward block.
    pub activation: Activation,
    /// How positions enter.
    pub position: Position,
    /// Whether the output projection is the embedding matrix.
    pub tie_embeddings: bool,
    /// Which projections have a bias.
    pub biases: Biases,
    /// Dropout rates during training.
    pub dropout: Dropout,
    /// Factor on the attention scores; `None` is 1/√head_dim.
    pub attention_scale: Option<f64>,
    /// How weights start.
    pub init: Init,
    /// How the model follows from a narrower one; `None` is the standard parametrization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mup: Option<Mup>,
}

impl Architecture {
    /// How many times wider than its base a model of this width is; 1 in the standard parametrization.
    pub fn width_multiplier(&self, hidden_size: u64) -> f64 {
        self.mup.map_or(1.0, |mup| hidden_size as f64 / mup.base_hidden_size as f64)
    }

    /// The factor on the attention scores of heads of this width; `None` is 1/√head_dim.
    pub fn scores_factor(&self, head_dim: u64) -> Option<f64> {
        match self.mup.and_then(|mup| mup.base_head_dim) {
            Some(base) if base != head_dim => {
                let base = base as f64;
                let of_base = self.attention_scale.unwrap_or_else(|| 1.0 / base.sqrt());
                Some(of_base * base / head_dim as f64)
            }
            _ => self.attention_scale,
        }
    }
}

/// Maximal update parametrization: what holds for a base model holds for wider ones (Yang et al. 2022,
/// arXiv:2203.03466, table 8). `docs/mup.md` has the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mup {
    /// The width at which learning rate and initial weights were chosen.
    pub base_hidden_size: u64,
    /// The width of a head there; `None` is that of this model.
    pub base_head_dim: Option<u64>,
}

/// A template of `llmc-model`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// A causal language model: embedding, blocks, final norm, head.
    DecoderOnly,
}

/// How query heads share key and value heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionKind {
    /// One key/value head per query head.
    Mha,
    /// `num_kv_heads` divides `num_heads`.
    Gqa,
    /// One key/value head in all.
    Mqa,
}

/// Normalisation kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Root mean square, no mean subtracted (arXiv:1910.07467).
    #[serde(rename = "rmsnorm")]
    RmsNorm,
    /// Mean and variance (arXiv:1607.06450).
    #[serde(rename = "layernorm")]
    LayerNorm,
    /// No normalisation anywhere.
    None,
}

/// Feed-forward activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// GELU with erf.
    Gelu,
    /// GELU with the tanh approximation.
    GeluTanh,
    /// max(x, 0).
    Relu,
    /// x·sigmoid(x).
    Silu,
    /// silu(gate)·up, with three matrices (arXiv:2002.05202).
    #[serde(rename = "swiglu")]
    SwiGlu,
}

impl Activation {
    /// Whether the block has a gate matrix beside up and down.
    pub fn is_gated(self) -> bool {
        self == Activation::SwiGlu
    }
}

/// How positions enter the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Position {
    /// Rotary embedding of queries and keys, half-split (arXiv:2104.09864).
    Rope {
        /// Base of the frequencies, positive.
        theta: f64,
        /// How frequencies are stretched.
        scaling: RopeScaling,
    },
    /// A learned matrix [context_length, hidden_size] added to the embedding.
    Learned,
    /// No positions.
    None,
}

/// How rotary frequencies are stretched for longer contexts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency divided by `factor` (arXiv:2306.15595).
    Linear {
        /// Greater than or equal to 1.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a smooth ramp between.
    Llama3 {
        /// Divides the low frequencies.
        factor: f64,
        /// Wavelengths above `original_context_length / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_context_length / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length before stretching, in tokens.
        original_context_length: u64,
    },
}

/// Which projections and norms have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Biases {
    /// Query projection.
    pub q: bool,
    /// Key projection.
    pub k: bool,
    /// Value projection.
    pub v: bool,
    /// Attention output projection.
    pub o: bool,
    /// Feed-forward gate; only with a gated activation.
    pub gate: bool,
    /// Feed-forward up projection.
    pub up: bool,
    /// Feed-forward down projection.
    pub down: bool,
    /// Output projection to the vocabulary.
    pub lm_head: bool,
    /// Norms.
    pub norm: bool,
}

/// Dropout rates in training, each in [0, 1).
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// On the embedding (with positions added).
    pub embedding: f64,
    /// On the attention probabilities.
    pub attention: f64,
    /// On each branch before it is added to the residual stream.
    pub residual: f64,
}

/// How weights start: normal with mean 0, norms with 1, biases with 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Init {
    /// Standard deviation of matrices and embeddings.
    pub std: f64,
    /// Whether `o` and `down` use `std / √(2·num_layers)` (GPT-2, §2.3).
    pub is_residual_scaled: bool,
}
