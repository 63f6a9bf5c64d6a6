//! `[model]`: the architecture and its dimensions.

use super::DefaultRule::{Is, Nothing, Required, Rule, Shorthand, Solved};
use super::{Choice, Field, Hashing, Kind, Limit, Lit, also, built, later, rules};

const DROPOUT: Kind = Kind::Float { min: Limit::Closed(0.0), max: Limit::Beyond(1.0) };
const POSITIVE: Kind = Kind::Float { min: Limit::Beyond(0.0), max: Limit::Open };
const AT_LEAST_ONE: Kind = Kind::Float { min: Limit::Closed(1.0), max: Limit::Open };

const TEMPLATE: &[Choice] = &[
    also("decoder_only", &["decoder-only", "decoder_only_v1", "decoder-only-v1"]),
    later("encoder_decoder"),
    later("encoder_only"),
];
const ATTENTION: &[Choice] = &[
    built("mha"),
    built("gqa"),
    built("mqa"),
    built("sliding_window"),
    later("flash"),
    later("global_local"),
];
const NORM: &[Choice] = &[
    also("rmsnorm", &["rms_norm"]),
    also("layernorm", &["layer_norm"]),
    also("none", &["no_norm"]),
    later("scalenorm"),
];
const ACTIVATION: &[Choice] = &[
    built("gelu"),
    also("gelu_tanh", &["gelu_new", "gelu_pytorch_tanh"]),
    built("relu"),
    also("silu", &["swish"]),
    built("swiglu"),
    later("relu_squared"),
    later("geglu"),
];
const POSITION: &[Choice] = &[
    also("rope", &["rotary"]),
    built("learned"),
    built("none"),
    later("alibi"),
    later("sinusoidal"),
    later("relative"),
];
const SCALING: &[Choice] = &[
    also("none", &["default"]),
    built("linear"),
    built("llama3"),
    later("yarn"),
    later("dynamic"),
];
const PRECISION: &[Choice] = &[also("float32", &["f32"]), later("bfloat16"), later("float16")];
const PARAMETRIZATION: &[Choice] = &[also("standard", &["sp"]), also("mup", &["mu_p"])];
const MUP: &[&str] = &["mup"];
const WEIGHT_FORMAT: &[Choice] =
    &[built("safetensors"), later("pytorch"), later("numpy"), later("gguf")];
const BACKEND: &[Choice] = &[
    built("pytorch_training"),
    later("pytorch_inference"),
    later("torchscript"),
    later("onnx"),
    later("jax"),
];
const QUANTIZE: &[Choice] = &[later("int8"), later("int4"), later("nf4"), later("fp8")];

const GATED: &[&str] = &["swiglu"];
const NORMS: &[&str] = &["rmsnorm", "layernorm"];
const ROPE: &[&str] = &["rope"];

/// In documentation order.
pub(super) const FIELDS: &[Field] = &[
    Field::new(
        "model.name",
        Kind::Text,
        Rule { text: "`llmc-{template}-{size}`", compute: rules::model_name },
        "A label; not part of the recipe.",
    )
    .hashed(Hashing::Never),
    Field::new(
        "model.template",
        Kind::Choice(TEMPLATE),
        Is(Lit::Text("decoder_only")),
        "Which graph is built. `decoder_only`: embedding, pre-norm blocks of causal attention and feed-forward, final norm, head.",
    ),
    Field::new(
        "model.target_params",
        Kind::Size,
        Shorthand { text: "the dimensions that are not written", covers: &[] },
        "Unique parameters to come closest to. An integer, or a text such as \"125M\" or \"1.3B\".",
    )
    .or_nothing()
    .hashed(Hashing::Never),
    Field::new(
        "model.param_tolerance",
        Kind::Float { min: Limit::Closed(0.0), max: Limit::Beyond(1.0) },
        Rule { text: "0.01", compute: rules::param_tolerance },
        "Largest accepted distance from `target_params`, as a share of it; beyond it the spec is in conflict.",
    )
    .hashed(Hashing::Never),
    Field::new(
        "model.vocab_size",
        Kind::Dim,
        Solved("`tokenizer.vocab_size`; one of the two must be written"),
        "Rows of the embedding.",
    )
    .aliases(&["model.explicit_dims.vocab_size", "model.n_vocab"])
    .hashed(Hashing::Always),
    Field::new(
        "model.context_length",
        Kind::Dim,
        Solved("`training.sequence_length` if that is written, otherwise 1024"),
        "Longest sequence, in tokens.",
    )
    .aliases(&[
        "model.max_position_embeddings",
        "model.explicit_dims.context_length",
        "model.explicit_dims.max_position_embeddings",
        "model.n_positions",
        "model.n_ctx",
    ])
    .hashed(Hashing::Always),
    Field::new(
        "model.num_layers",
        Kind::Dim,
        Solved("solved for `target_params`"),
        "Number of blocks.",
    )
    .aliases(&[
        "model.num_hidden_layers",
        "model.explicit_dims.num_layers",
        "model.explicit_dims.num_hidden_layers",
        "model.n_layer",
        "model.n_layers",
    ])
    .hashed(Hashing::Always),
    Field::new(
        "model.hidden_size",
        Kind::Dim,
        Solved("solved for `target_params`"),
        "Width of the residual stream.",
    )
    .aliases(&["model.explicit_dims.hidden_size", "model.n_embd", "model.d_model"])
    .hashed(Hashing::Always),
    Field::new(
        "model.num_heads",
        Kind::Dim,
        Solved("solved: `hidden_size / head_dim`"),
        "Query heads.",
    )
    .aliases(&[
        "model.num_attention_heads",
        "model.explicit_dims.num_heads",
        "model.explicit_dims.num_attention_heads",
        "model.n_head",
        "model.n_heads",
    ])
    .hashed(Hashing::Always),
    Field::new(
        "model.num_kv_heads",
        Kind::Dim,
        Solved(
            "`num_heads` for `mha`, 1 for `mqa`; otherwise `num_heads` if that is written, and solved if not",
        ),
        "Key/value heads; divides `num_heads`.",
    )
    .aliases(&[
        "model.num_key_value_heads",
        "model.explicit_dims.num_kv_heads",
        "model.explicit_dims.num_key_value_heads",
        "model.n_kv_heads",
    ])
    .hashed(Hashing::Always),
    Field::new(
        "model.head_dim",
        Kind::Dim,
        Solved("`hidden_size / num_heads`; solved where those are"),
        "Width of one head. Where `hidden_size`, `num_heads` and `head_dim` are all numbers, `num_heads * head_dim` may differ from `hidden_size`.",
    )
    .aliases(&["model.explicit_dims.head_dim"])
    .hashed(Hashing::Always),
    Field::new(
        "model.intermediate_size",
        Kind::Dim,
        Solved("solved for `target_params`; without one near 8/3 (gated) or 4 times `hidden_size`"),
        "Width of the feed-forward block.",
    )
    .aliases(&["model.explicit_dims.intermediate_size", "model.ffn_hidden_size", "model.n_inner"])
    .hashed(Hashing::Always),
    Field::new(
        "model.attention",
        Kind::Choice(ATTENTION),
        Is(Lit::Text("gqa")),
        "How heads are shared: `mha` one key/value head per query head, `mqa` one in all, `gqa` any number that divides `num_heads`. `sliding_window` is `gqa` that must have a `sliding_window_size`; a written `sliding_window_size` applies to each of them. Hashed through `num_kv_heads`.",
    )
    .aliases(&["model.attention_type"])
    .hashed(Hashing::Never),
    Field::new(
        "model.sliding_window_size",
        Kind::Int { min: 1, max: 1 << 32 },
        Nothing("none: every earlier token is seen"),
        "A token sees itself and the tokens less than this far before it, whatever `attention` is.",
    )
    .aliases(&["model.sliding_window"]),
    Field::new(
        "model.attention_scale",
        POSITIVE,
        Nothing("none: 1/√head_dim"),
        "Factor on the attention scores.",
    ),
    Field::new(
        "model.norm",
        Kind::Choice(NORM),
        Is(Lit::Text("rmsnorm")),
        "Normalisation before each block and before the head.",
    )
    .aliases(&["model.norm_type"]),
    Field::new(
        "model.norm_eps",
        POSITIVE,
        Is(Lit::Float(1e-5)),
        "Added to the mean square or variance before the root.",
    )
    .aliases(&["model.rms_norm_eps", "model.layer_norm_eps", "model.layer_norm_epsilon"])
    .when("model.norm", NORMS),
    Field::new(
        "model.activation",
        Kind::Choice(ACTIVATION),
        Is(Lit::Text("swiglu")),
        "Of the feed-forward block: `swiglu` has three matrices, the others two. Hugging Face's `hidden_act = \"silu\"` is refused, because it is `swiglu` in LLaMA.",
    )
    .aliases(&["model.hidden_act", "model.activation_function"]),
    Field::new(
        "model.positional_encoding",
        Kind::Choice(POSITION),
        Is(Lit::Text("rope")),
        "How positions enter: rotary (half-split), a learned matrix added to the embedding, or not.",
    ),
    Field::new("model.rope_theta", POSITIVE, Is(Lit::Float(10000.0)), "Base of the rotary frequencies.")
        .aliases(&["model.rope_parameters.rope_theta"])
        .when("model.positional_encoding", ROPE),
    Field::new(
        "model.rope_scaling.type",
        Kind::Choice(SCALING),
        Rule {
            text: "`linear` if a factor is written, otherwise \"none\"",
            compute: rules::rope_scaling_type,
        },
        "How rotary frequencies are stretched.",
    )
    .aliases(&[
        "model.rope_scaling",
        "model.rope_scaling.rope_type",
        "model.rope_parameters.rope_type",
        "model.rope_parameters.type",
    ])
    .when("model.positional_encoding", ROPE),
    Field::new(
        "model.rope_scaling.factor",
        AT_LEAST_ONE,
        Required("write the factor, e.g. `rope_scaling = { type = \"linear\", factor = 4.0 }`"),
        "By how much the context is stretched.",
    )
    .aliases(&["model.rope_scaling_factor", "model.rope_parameters.factor"])
    .when("model.rope_scaling.type", &["linear", "llama3"]),
    Field::new(
        "model.rope_scaling.low_freq_factor",
        POSITIVE,
        Is(Lit::Float(1.0)),
        "Wavelengths above `original_context_length / low_freq_factor` are divided by `factor`.",
    )
    .aliases(&["model.rope_parameters.low_freq_factor"])
    .when("model.rope_scaling.type", &["llama3"]),
    Field::new(
        "model.rope_scaling.high_freq_factor",
        POSITIVE,
        Is(Lit::Float(4.0)),
        "Wavelengths below `original_context_length / high_freq_factor` are kept.",
    )
    .aliases(&["model.rope_parameters.high_freq_factor"])
    .when("model.rope_scaling.type", &["llama3"]),
    Field::new(
        "model.rope_scaling.original_context_length",
        Kind::Int { min: 1, max: 1 << 32 },
        Is(Lit::Int(8192)),
        "Context length before stretching, in tokens.",
    )
    .aliases(&[
        "model.rope_scaling.original_max_position_embeddings",
        "model.rope_parameters.original_max_position_embeddings",
    ])
    .when("model.rope_scaling.type", &["llama3"]),
    Field::new(
        "model.tie_embeddings",
        Kind::Bool,
        Is(Lit::Bool(true)),
        "Whether the head is the embedding matrix.",
    )
    .aliases(&["model.tie_word_embeddings"]),
    Field::new(
        "model.bias.all",
        Kind::Bool,
        Shorthand {
            text: "every bias but `lm_head`; for norms only with `layernorm`",
            covers: &[
                "model.bias.attention",
                "model.bias.mlp",
                "model.bias.q",
                "model.bias.k",
                "model.bias.v",
                "model.bias.o",
                "model.bias.gate",
                "model.bias.up",
                "model.bias.down",
                "model.bias.norm",
            ],
        },
        "`bias = true` or `bias = false`.",
    )
    .aliases(&["model.bias", "model.biases", "model.use_bias"]),
    Field::new(
        "model.bias.attention",
        Kind::Bool,
        Shorthand {
            text: "`q`, `k`, `v` and `o`",
            covers: &["model.bias.q", "model.bias.k", "model.bias.v", "model.bias.o"],
        },
        "Hugging Face's `attention_bias`.",
    )
    .aliases(&["model.attention_bias"]),
    Field::new(
        "model.bias.mlp",
        Kind::Bool,
        Shorthand {
            text: "`gate`, `up` and `down`",
            covers: &["model.bias.gate", "model.bias.up", "model.bias.down"],
        },
        "Hugging Face's `mlp_bias`.",
    )
    .aliases(&["model.mlp_bias"]),
    bias("model.bias.q", rules::bias_attention, "Query projection."),
    bias("model.bias.k", rules::bias_attention, "Key projection."),
    bias("model.bias.v", rules::bias_attention, "Value projection."),
    bias("model.bias.o", rules::bias_attention, "Attention output projection."),
    bias("model.bias.gate", rules::bias_mlp, "Feed-forward gate.").when("model.activation", GATED),
    bias("model.bias.up", rules::bias_mlp, "Feed-forward up projection."),
    bias("model.bias.down", rules::bias_mlp, "Feed-forward down projection."),
    Field::new(
        "model.bias.lm_head",
        Kind::Bool,
        Is(Lit::Bool(false)),
        "Projection to the vocabulary.",
    ),
    Field::new(
        "model.bias.norm",
        Kind::Bool,
        Rule { text: "`bias`, otherwise true for `layernorm`", compute: rules::bias_norm },
        "Norms.",
    )
    .when("model.norm", NORMS),
    Field::new(
        "model.dropout.all",
        DROPOUT,
        Shorthand {
            text: "`embedding`, `attention` and `residual`",
            covers: &[
                "model.dropout.embedding",
                "model.dropout.attention",
                "model.dropout.residual",
            ],
        },
        "One rate for all three: `dropout = 0.1`.",
    )
    .aliases(&["model.dropout"]),
    dropout("model.dropout.embedding", "On the embedding with positions added.")
        .aliases(&["model.embd_pdrop", "model.embedding_dropout"]),
    dropout("model.dropout.attention", "On the attention probabilities.")
        .aliases(&["model.attn_pdrop", "model.attention_dropout"]),
    dropout("model.dropout.residual", "On each branch before it is added to the residual stream.")
        .aliases(&["model.resid_pdrop", "model.residual_dropout"]),
    Field::new(
        "model.init_std",
        POSITIVE,
        Is(Lit::Float(0.02)),
        "Standard deviation of new matrices and embeddings.",
    )
    .aliases(&["model.initializer_range"]),
    Field::new(
        "model.init_residual_scaled",
        Kind::Bool,
        Is(Lit::Bool(true)),
        "Whether `o` and `down` start with `init_std / √(2·num_layers)`, as in GPT-2.",
    ),
    Field::new(
        "model.parametrization",
        Kind::Choice(PARAMETRIZATION),
        Is(Lit::Text("standard")),
        "How initial weights, learning rates and the scale of the logits depend on the width: not at all, or as in μP (arXiv:2203.03466), so that what was tuned on a narrow model holds for a wide one (`docs/mup.md`).",
    )
    .aliases(&["model.parameterization"]),
    Field::new(
        "model.mup.base_hidden_size",
        Kind::Int { min: 1, max: 1 << 32 },
        Required("write the `hidden_size` of the model on which learning rate and initial weights were tuned"),
        "Width of the base model: at this `hidden_size` nothing differs from `standard`.",
    )
    .when("model.parametrization", MUP),
    Field::new(
        "model.mup.base_head_dim",
        Kind::Int { min: 1, max: 1 << 32 },
        Nothing("none: `head_dim`, for models that are widened by more heads"),
        "Width of a head of the base model: scores are divided by `head_dim`, not by its root, from there on.",
    )
    .when("model.parametrization", MUP),
    Field::new(
        "model.precision",
        Kind::Choice(PRECISION),
        Is(Lit::Text("float32")),
        "Dtype of stored weights.",
    )
    .aliases(&["model.torch_dtype", "model.dtype"]),
    Field::new(
        "model.weight_format",
        Kind::Choice(WEIGHT_FORMAT),
        Is(Lit::Text("safetensors")),
        "File format of exported weights.",
    )
    .hashed(Hashing::Never),
    Field::new(
        "model.backend",
        Kind::Choice(BACKEND),
        Is(Lit::Text("pytorch_training")),
        "What `compile` emits.",
    )
    .hashed(Hashing::Never),
    Field::new(
        "model.quantize",
        Kind::Choice(QUANTIZE),
        Nothing("none: weights as trained"),
        "Quantisation of exported weights.",
    )
    .hashed(Hashing::Never),
    Field::new(
        "model.quantize_bits",
        Kind::Int { min: 2, max: 16 },
        Is(Lit::Int(16)),
        "Bits of quantised weights; 16 is none.",
    )
    .hashed(Hashing::Never)
    .later(),
    Field::new(
        "model.alibi_max_bias",
        POSITIVE,
        Is(Lit::Float(8.0)),
        "Largest ALiBi slope.",
    )
    .when("model.positional_encoding", &["alibi"]),
    Field::new(
        "model.gradient_checkpointing",
        Kind::Bool,
        Is(Lit::Bool(false)),
        "Recompute activations in the backward pass; see `training.gradient_checkpointing`.",
    )
    .hashed(Hashing::Never),
];

const fn bias(
    path: &'static str,
    compute: fn(&super::View<'_>) -> Option<super::Value>,
    doc: &'static str,
) -> Field {
    Field::new(path, Kind::Bool, Rule { text: "`bias`, otherwise false", compute }, doc)
}

const fn dropout(path: &'static str, doc: &'static str) -> Field {
    Field::new(path, DROPOUT, Rule { text: "`dropout`, otherwise 0", compute: rules::dropout }, doc)
}
