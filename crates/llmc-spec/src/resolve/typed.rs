//! Values by path to typed structs.

use crate::architecture::{
    Activation, Architecture, AttentionKind, Biases, Dropout, Init, Mup, Norm, Position,
    RopeScaling, Template,
};
use crate::config::SpecialTokens;
use crate::spec::insert;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The values below `prefix` as a typed struct.
pub(super) fn typed<T: DeserializeOwned>(
    values: &BTreeMap<&'static str, Value>,
    prefix: &str,
) -> T {
    let mut map = Map::new();
    for (path, value) in values {
        if let Some(rest) = path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')) {
            insert(&mut map, rest, value.clone());
        }
    }
    serde_json::from_value(Value::Object(map))
        .expect("the field table and the resolved structs have the same fields, as a test shows")
}

pub(super) fn special_tokens(values: &BTreeMap<&'static str, Value>) -> SpecialTokens {
    typed(values, "tokenizer.special_tokens")
}

/// Values of fields that do not apply are absent and become the neutral value.
pub(super) fn to_architecture(values: &BTreeMap<&'static str, Value>) -> Architecture {
    let get = |name: &str| values.get(format!("model.{name}").as_str());
    let float = |name: &str| get(name).and_then(Value::as_f64);
    let is = |name: &str| get(name).and_then(Value::as_bool).unwrap_or(false);
    let word = |name: &str| get(name).and_then(Value::as_str).unwrap_or_default();
    let scaling = |kind: &str| match kind {
        "linear" => RopeScaling::Linear { factor: float("rope_scaling.factor").unwrap_or(1.0) },
        "llama3" => RopeScaling::Llama3 {
            factor: float("rope_scaling.factor").unwrap_or(1.0),
            low_freq_factor: float("rope_scaling.low_freq_factor").unwrap_or(1.0),
            high_freq_factor: float("rope_scaling.high_freq_factor").unwrap_or(4.0),
            original_context_length: get("rope_scaling.original_context_length")
                .and_then(Value::as_u64)
                .unwrap_or(8192),
        },
        _ => RopeScaling::None,
    };
    Architecture {
        template: Template::DecoderOnly,
        attention: match word("attention") {
            "mha" => AttentionKind::Mha,
            "mqa" => AttentionKind::Mqa,
            _ => AttentionKind::Gqa,
        },
        sliding_window: get("sliding_window_size").and_then(Value::as_u64),
        norm: match word("norm") {
            "layernorm" => Norm::LayerNorm,
            "none" => Norm::None,
            _ => Norm::RmsNorm,
        },
        norm_eps: float("norm_eps").unwrap_or(0.0),
        activation: match word("activation") {
            "gelu" => Activation::Gelu,
            "gelu_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            "silu" => Activation::Silu,
            _ => Activation::SwiGlu,
        },
        position: match word("positional_encoding") {
            "learned" => Position::Learned,
            "none" => Position::None,
            _ => Position::Rope {
                theta: float("rope_theta").unwrap_or(10000.0),
                scaling: scaling(word("rope_scaling.type")),
            },
        },
        tie_embeddings: is("tie_embeddings"),
        biases: Biases {
            q: is("bias.q"),
            k: is("bias.k"),
            v: is("bias.v"),
            o: is("bias.o"),
            gate: is("bias.gate"),
            up: is("bias.up"),
            down: is("bias.down"),
            lm_head: is("bias.lm_head"),
            norm: is("bias.norm"),
        },
        dropout: Dropout {
            embedding: float("dropout.embedding").unwrap_or(0.0),
            attention: float("dropout.attention").unwrap_or(0.0),
            residual: float("dropout.residual").unwrap_or(0.0),
        },
        attention_scale: float("attention_scale"),
        init: Init {
            std: float("init_std").unwrap_or(0.02),
            is_residual_scaled: is("init_residual_scaled"),
        },
        mup: get("mup.base_hidden_size").and_then(Value::as_u64).map(|base_hidden_size| Mup {
            base_hidden_size,
            base_head_dim: get("mup.base_head_dim").and_then(Value::as_u64),
        }),
    }
}
