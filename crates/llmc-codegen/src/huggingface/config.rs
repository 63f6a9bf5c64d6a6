//! `config.json` and its companions, with every key written: defaults of `transformers` differ
//! between families and versions.

use super::Options;
use super::decoder::{Decoder, Layer};
use super::families::activation;
use llmc_formats::names::Family;
use llmc_ir::DType;
use llmc_ir::ops::RopeScaling;
use serde_json::{Map, Value, json};

/// The text of config.json. The decoder fits the family.
pub fn config(family: Family, decoder: &Decoder, options: &Options) -> String {
    let mut out = Map::new();
    let mut set = |key: &str, value: Value| {
        out.insert(key.to_string(), value);
    };
    set("architectures", json!([family.architecture()]));
    set("model_type", json!(family.model_type()));
    set("vocab_size", json!(decoder.vocab_size));
    set("tie_word_embeddings", json!(decoder.is_tied()));
    set("use_cache", json!(true));
    set("initializer_range", json!(options.initializer_range));
    // Versions before 5 read `torch_dtype`, later ones `dtype`.
    set("dtype", json!(torch_dtype(decoder.dtype)));
    set("torch_dtype", json!(torch_dtype(decoder.dtype)));
    set("bos_token_id", json!(options.bos_token_id));
    set("eos_token_id", json!(options.eos_token_id));
    set("pad_token_id", json!(options.pad_token_id));
    if let Some(first) = decoder.layers.first() {
        let eps = decoder.norm.as_ref().map(|n| n.eps);
        match family {
            Family::Gpt2 => gpt2(decoder, first, eps, &mut set),
            _ => llama_like(family, decoder, first, eps, options, &mut set),
        }
    }
    pretty(out)
}

fn gpt2(decoder: &Decoder, first: &Layer, eps: Option<f64>, set: &mut impl FnMut(&str, Value)) {
    set("n_embd", json!(decoder.hidden_size));
    set("n_layer", json!(decoder.layers.len()));
    set("n_head", json!(first.num_heads));
    set("n_inner", json!(first.mlp.up.width));
    set("n_positions", json!(decoder.positions.as_ref().map(|p| p.rows)));
    set("activation_function", json!(activation(first.mlp.activation)));
    set("layer_norm_epsilon", json!(eps));
    for rate in ["attn_pdrop", "embd_pdrop", "resid_pdrop"] {
        set(rate, json!(0.0));
    }
    set("scale_attn_weights", json!(true));
    set("scale_attn_by_inverse_layer_idx", json!(false));
    set("reorder_and_upcast_attn", json!(false));
}

fn llama_like(
    family: Family,
    decoder: &Decoder,
    first: &Layer,
    eps: Option<f64>,
    options: &Options,
    set: &mut impl FnMut(&str, Value),
) {
    set("hidden_size", json!(decoder.hidden_size));
    set("intermediate_size", json!(first.mlp.up.width));
    set("num_hidden_layers", json!(decoder.layers.len()));
    set("num_attention_heads", json!(first.num_heads));
    set("num_key_value_heads", json!(first.num_kv_heads));
    set("head_dim", json!(first.head_dim));
    set("hidden_act", json!("silu"));
    set("max_position_embeddings", json!(options.context_length));
    set("rms_norm_eps", json!(eps));
    set("attention_dropout", json!(0.0));
    if let Some((theta, scaling)) = first.rope {
        // Versions before 5 read `rope_theta` and `rope_scaling`, later ones `rope_parameters`.
        let scaling = rope_scaling(scaling);
        let mut parameters = scaling.clone();
        parameters.entry("rope_type").or_insert(json!("default"));
        parameters.insert("rope_theta".to_string(), json!(theta));
        set("rope_parameters", Value::Object(parameters));
        set("rope_theta", json!(theta));
        if !scaling.is_empty() {
            set("rope_scaling", Value::Object(scaling));
        }
    }
    let windows: Vec<Option<usize>> = decoder.layers.iter().map(|l| l.attention.window).collect();
    let window = windows.iter().flatten().next();
    match family {
        Family::Llama => {
            set("attention_bias", json!(first.q.bias.is_some()));
            set("mlp_bias", json!(first.mlp.up.bias.is_some()));
            set("pretraining_tp", json!(1));
        }
        Family::Mistral => set("sliding_window", json!(window)),
        Family::Qwen2 | Family::Gpt2 => {
            let kinds: Vec<&str> = windows
                .iter()
                .map(|w| if w.is_some() { "sliding_attention" } else { "full_attention" })
                .collect();
            let first_windowed = windows.iter().position(Option::is_some);
            set("layer_types", json!(kinds));
            set("use_sliding_window", json!(window.is_some()));
            set("sliding_window", json!(window));
            set("max_window_layers", json!(first_windowed.unwrap_or(windows.len())));
        }
    }
}

fn rope_scaling(scaling: RopeScaling) -> Map<String, Value> {
    let value = match scaling {
        RopeScaling::None => json!({}),
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context_length,
        } => {
            json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                // `transformers` asks for an integer.
                "original_max_position_embeddings": original_context_length as u64,
            })
        }
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The text of generation_config.json.
pub fn generation_config(options: &Options) -> String {
    let mut out = Map::new();
    out.insert("bos_token_id".to_string(), json!(options.bos_token_id));
    out.insert("eos_token_id".to_string(), json!(options.eos_token_id));
    out.insert("pad_token_id".to_string(), json!(options.pad_token_id));
    pretty(out)
}

fn torch_dtype(dtype: DType) -> &'static str {
    match dtype {
        DType::Bf16 => "bfloat16",
        DType::F16 => "float16",
        DType::F64 => "float64",
        _ => "float32",
    }
}

/// JSON with sorted keys, as `transformers` writes it.
pub fn pretty(map: Map<String, Value>) -> String {
    let mut entries: Vec<(String, Value)> = map.into_iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let sorted: Map<String, Value> = entries.into_iter().collect();
    let text = serde_json::to_string_pretty(&Value::Object(sorted));
    text.expect("a map of plain values has a text") + "\n"
}
