//! What each model class of `transformers` can compute, and what of a decoder it cannot.

use super::decoder::{Decoder, Layer, NormFacts, NormKind, Projection};
use llmc_formats::names::Family;

/// Why a decoder is no model of a family, one reason an entry; empty if it is one.
pub fn misfits(family: Family, decoder: &Decoder) -> Vec<String> {
    let mut out = Vec::new();
    common(decoder, &mut out);
    match family {
        Family::Llama | Family::Mistral | Family::Qwen2 => llama_like(family, decoder, &mut out),
        Family::Gpt2 => gpt2(decoder, &mut out),
    }
    out.dedup();
    out
}

/// What all of them ask for.
fn common(decoder: &Decoder, out: &mut Vec<String>) {
    let Some(first) = decoder.layers.first() else {
        out.push("there are no layers".to_string());
        return;
    };
    let is_alike = |layer: &Layer| {
        let shape = |l: &Layer| {
            let biases = projections(l).map(|p| p.map(|p| p.bias.is_some()));
            let widths = (l.num_heads, l.num_kv_heads, l.head_dim, l.mlp.up.width);
            (biases, widths, l.mlp.activation)
        };
        shape(layer) == shape(first) && layer.rope == first.rope
    };
    if !decoder.layers.iter().all(is_alike) {
        out.push("layers differ from each other".to_string());
    }
    if decoder.layers.iter().any(|l| !l.attention.causal) {
        out.push("attention is not causal".to_string());
    }
    for layer in &decoder.layers {
        let default = 1.0 / (layer.head_dim as f64).sqrt();
        if let Some(scale) = layer.attention.scale.filter(|s| *s != default) {
            out.push(format!("attention is scaled by {scale:?}, it scales by 1/sqrt(head_dim)"));
            break;
        }
    }
    if decoder.head.bias.is_some() {
        out.push("the head has a bias, it has none".to_string());
    }
    if first.num_kv_heads == 0 || first.num_heads % first.num_kv_heads != 0 {
        out.push("the key-value heads do not divide the heads".to_string());
    }
}

fn projections(layer: &Layer) -> [Option<&Projection>; 7] {
    let mlp = &layer.mlp;
    [
        Some(&layer.q),
        Some(&layer.k),
        Some(&layer.v),
        Some(&layer.o),
        mlp.gate.as_ref(),
        Some(&mlp.up),
        Some(&mlp.down),
    ]
}

/// All norms with their places.
fn norms(decoder: &Decoder) -> Vec<Option<&NormFacts>> {
    decoder
        .layers
        .iter()
        .flat_map(|l| [l.attention_norm.as_ref(), l.mlp_norm.as_ref()])
        .chain([decoder.norm.as_ref()])
        .collect()
}

fn check_norms(decoder: &Decoder, kind: NormKind, has_bias: bool, out: &mut Vec<String>) {
    let name = match kind {
        NormKind::Rms => "RMS norm",
        NormKind::Layer => "layer norm",
    };
    let norms = norms(decoder);
    if norms.iter().any(Option::is_none) {
        out.push(format!("a norm is missing, it has {name} before each block and the head"));
        return;
    }
    let norms: Vec<&NormFacts> = norms.into_iter().flatten().collect();
    if norms.iter().any(|n| n.kind != kind) {
        let other = if kind == NormKind::Rms { "layer norm" } else { "RMS norm" };
        out.push(format!("the norm is {other}, it has {name}"));
        return;
    }
    if norms.iter().any(|n| n.bias.is_some() != has_bias) {
        let (is, has) = if has_bias { ("no bias", "one") } else { ("a bias", "none") };
        out.push(format!("the norm has {is}, it has {has}"));
    }
    if norms.iter().any(|n| n.eps != norms[0].eps) {
        out.push("norms differ in their epsilon".to_string());
    }
}

fn llama_like(family: Family, decoder: &Decoder, out: &mut Vec<String>) {
    check_norms(decoder, NormKind::Rms, false, out);
    if decoder.positions.is_some() {
        out.push("positions are learned, it has rotary positions".to_string());
    }
    let Some(first) = decoder.layers.first() else { return };
    if first.rope.is_none() && decoder.positions.is_none() {
        out.push("there are no positions, it has rotary positions".to_string());
    }
    if first.mlp.activation != "swiglu" {
        out.push(format!("the activation is `{}`, it has `swiglu`", first.mlp.activation));
    }
    let [q, k, v, o, gate, up, down] =
        projections(first).map(|p| p.is_some_and(|p| p.bias.is_some()));
    let mlp = [gate, up, down];
    match family {
        Family::Llama => {
            if [k, v, o].iter().any(|b| *b != q) {
                out.push("biases of q, k, v, o differ, it has all or none".to_string());
            }
            if mlp.iter().any(|b| *b != gate) {
                out.push("biases of gate, up, down differ, it has all or none".to_string());
            }
            if !decoder.hidden_size.is_multiple_of(first.num_heads.max(1)) {
                out.push(format!(
                    "hidden_size {} is no multiple of {} heads, which its configuration asks for",
                    decoder.hidden_size, first.num_heads
                ));
            }
        }
        Family::Mistral => {
            if [q, k, v, o].contains(&true) || mlp.contains(&true) {
                out.push("projections have biases, it has none".to_string());
            }
        }
        _ => {
            if ![q, k, v].iter().all(|b| *b) || o || mlp.contains(&true) {
                out.push("biases are not on q, k, v alone, where it has them".to_string());
            }
        }
    }
    let windows: Vec<Option<usize>> = decoder.layers.iter().map(|l| l.attention.window).collect();
    match family {
        Family::Llama if windows.iter().any(Option::is_some) => {
            out.push("attention has a window, it has none".to_string());
        }
        Family::Mistral if windows.iter().any(|w| *w != windows[0]) => {
            out.push("layers differ in their window, it has one for all".to_string());
        }
        Family::Qwen2 => {
            let mut given: Vec<usize> = windows.into_iter().flatten().collect();
            given.dedup();
            if given.len() > 1 {
                out.push(
                    "layers differ in their window, it has one for all that have any".to_string(),
                );
            }
        }
        _ => {}
    }
}

fn gpt2(decoder: &Decoder, out: &mut Vec<String>) {
    check_norms(decoder, NormKind::Layer, true, out);
    let Some(first) = decoder.layers.first() else { return };
    if first.rope.is_some() {
        out.push("positions are rotary, it has learned positions".to_string());
    } else if decoder.positions.is_none() {
        out.push("there are no positions, it has learned positions".to_string());
    }
    if activation(first.mlp.activation).is_none() {
        out.push(format!(
            "the activation is `{}`, which is gated or unknown to it",
            first.mlp.activation
        ));
    }
    if projections(first).iter().flatten().any(|p| p.bias.is_none()) {
        out.push("a projection has no bias, it has one on each".to_string());
    }
    if first.num_heads != first.num_kv_heads {
        out.push(format!(
            "{} heads share {} key-value heads, it has one for each",
            first.num_heads, first.num_kv_heads
        ));
    }
    if first.num_heads * first.head_dim != decoder.hidden_size {
        out.push(format!(
            "{} heads of width {} do not make hidden_size {}",
            first.num_heads, first.head_dim, decoder.hidden_size
        ));
    }
    if decoder.layers.iter().any(|l| l.attention.window.is_some()) {
        out.push("attention has a window, it has none".to_string());
    }
}

/// What `transformers` calls an activation without a gate.
pub fn activation(op: &str) -> Option<&'static str> {
    match op {
        "gelu" => Some("gelu"),
        "gelu_tanh" => Some("gelu_new"),
        "relu" => Some("relu"),
        "relu_squared" => Some("relu2"),
        "silu" => Some("silu"),
        _ => None,
    }
}
