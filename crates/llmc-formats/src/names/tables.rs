//! The tables. A rule whose tensors are not there is skipped, so one table serves models
//! with and without biases or a head of their own.

use super::Rule;
use super::Transform::{Identity, Transpose};

const fn same(theirs: &'static str, ours: &'static [&'static str]) -> Rule {
    Rule { theirs, ours, transform: Identity }
}

/// GPT-2's `Conv1D` stores `[in, out]`.
const fn conv1d(theirs: &'static str, ours: &'static [&'static str]) -> Rule {
    Rule { theirs, ours, transform: Transpose }
}

/// LLaMA, and what kept its names: Mistral, Qwen2.
pub const LLAMA: &[Rule] = &[
    same("model.embed_tokens.weight", &["embedding.weight"]),
    same("model.layers.{}.input_layernorm.weight", &["layers.{}.attention_norm.weight"]),
    same("model.layers.{}.self_attn.q_proj.weight", &["layers.{}.attention.q.weight"]),
    same("model.layers.{}.self_attn.q_proj.bias", &["layers.{}.attention.q.bias"]),
    same("model.layers.{}.self_attn.k_proj.weight", &["layers.{}.attention.k.weight"]),
    same("model.layers.{}.self_attn.k_proj.bias", &["layers.{}.attention.k.bias"]),
    same("model.layers.{}.self_attn.v_proj.weight", &["layers.{}.attention.v.weight"]),
    same("model.layers.{}.self_attn.v_proj.bias", &["layers.{}.attention.v.bias"]),
    same("model.layers.{}.self_attn.o_proj.weight", &["layers.{}.attention.o.weight"]),
    same("model.layers.{}.self_attn.o_proj.bias", &["layers.{}.attention.o.bias"]),
    same("model.layers.{}.post_attention_layernorm.weight", &["layers.{}.mlp_norm.weight"]),
    same("model.layers.{}.mlp.gate_proj.weight", &["layers.{}.mlp.gate.weight"]),
    same("model.layers.{}.mlp.gate_proj.bias", &["layers.{}.mlp.gate.bias"]),
    same("model.layers.{}.mlp.up_proj.weight", &["layers.{}.mlp.up.weight"]),
    same("model.layers.{}.mlp.up_proj.bias", &["layers.{}.mlp.up.bias"]),
    same("model.layers.{}.mlp.down_proj.weight", &["layers.{}.mlp.down.weight"]),
    same("model.layers.{}.mlp.down_proj.bias", &["layers.{}.mlp.down.bias"]),
    same("model.norm.weight", &["norm.weight"]),
    same("lm_head.weight", &["lm_head.weight"]),
];

/// GPT-2: one matrix for q, k and v, and `Conv1D` everywhere.
pub const GPT2: &[Rule] = &[
    same("transformer.wte.weight", &["embedding.weight"]),
    same("transformer.wpe.weight", &["position_embedding.weight"]),
    same("transformer.h.{}.ln_1.weight", &["layers.{}.attention_norm.weight"]),
    same("transformer.h.{}.ln_1.bias", &["layers.{}.attention_norm.bias"]),
    conv1d(
        "transformer.h.{}.attn.c_attn.weight",
        &[
            "layers.{}.attention.q.weight",
            "layers.{}.attention.k.weight",
            "layers.{}.attention.v.weight",
        ],
    ),
    same(
        "transformer.h.{}.attn.c_attn.bias",
        &["layers.{}.attention.q.bias", "layers.{}.attention.k.bias", "layers.{}.attention.v.bias"],
    ),
    conv1d("transformer.h.{}.attn.c_proj.weight", &["layers.{}.attention.o.weight"]),
    same("transformer.h.{}.attn.c_proj.bias", &["layers.{}.attention.o.bias"]),
    same("transformer.h.{}.ln_2.weight", &["layers.{}.mlp_norm.weight"]),
    same("transformer.h.{}.ln_2.bias", &["layers.{}.mlp_norm.bias"]),
    conv1d("transformer.h.{}.mlp.c_fc.weight", &["layers.{}.mlp.up.weight"]),
    same("transformer.h.{}.mlp.c_fc.bias", &["layers.{}.mlp.up.bias"]),
    conv1d("transformer.h.{}.mlp.c_proj.weight", &["layers.{}.mlp.down.weight"]),
    same("transformer.h.{}.mlp.c_proj.bias", &["layers.{}.mlp.down.bias"]),
    same("transformer.ln_f.weight", &["norm.weight"]),
    same("transformer.ln_f.bias", &["norm.bias"]),
    same("lm_head.weight", &["lm_head.weight"]),
];
