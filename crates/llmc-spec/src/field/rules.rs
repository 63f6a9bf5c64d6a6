//! Default rules of the field table. Each takes what was written and what is
//! already settled, and gives a value, `Null` for "nothing", or `None` where the
//! spec does not hold what the rule needs.

use crate::view::View;
use serde_json::{Value, json};

pub(super) fn model_name(view: &View<'_>) -> Option<Value> {
    let template = view.text("model.template")?.replace('_', "-");
    let count = view.int("model.parameter_count")?;
    Some(Value::from(format!("llmc-{template}-{}", short_count(count))))
}

pub(super) fn param_tolerance(view: &View<'_>) -> Option<Value> {
    view.written("model.target_params").filter(|v| !v.is_null()).map(|_| json!(0.01))
}

/// A count in three significant digits, as model names have it: `125m`, `1.3b`.
pub(crate) fn short_count(count: u64) -> String {
    let mut scale = 1u64;
    for suffix in ["", "k", "m", "b", "t"] {
        // Rounded to tenths below ten of a unit, to whole units above.
        let tenths = (u128::from(count) * 10 + u128::from(scale) / 2) / u128::from(scale);
        if tenths < 9995 || suffix == "t" {
            return match (suffix, tenths % 10) {
                ("", _) => count.to_string(),
                (_, rest) if tenths < 100 && rest > 0 => format!("{}.{rest}{suffix}", tenths / 10),
                _ => format!("{}{suffix}", (tenths + 5) / 10),
            };
        }
        scale *= 1000;
    }
    count.to_string()
}

pub(super) fn rope_scaling_type(view: &View<'_>) -> Option<Value> {
    let has_factor = view.is_written("model.rope_scaling.factor");
    Some(Value::from(if has_factor { "linear" } else { "none" }))
}

pub(super) fn bias_attention(view: &View<'_>) -> Option<Value> {
    Some(first_written(view, &["model.bias.attention", "model.bias.all"], json!(false)))
}

pub(super) fn bias_mlp(view: &View<'_>) -> Option<Value> {
    Some(first_written(view, &["model.bias.mlp", "model.bias.all"], json!(false)))
}

pub(super) fn bias_norm(view: &View<'_>) -> Option<Value> {
    Some(match view.text("model.norm")?.as_str() {
        "layernorm" => first_written(view, &["model.bias.all"], json!(true)),
        _ => json!(false),
    })
}

pub(super) fn dropout(view: &View<'_>) -> Option<Value> {
    Some(first_written(view, &["model.dropout.all"], json!(0.0)))
}

pub(super) fn gradient_checkpointing(view: &View<'_>) -> Option<Value> {
    let is_asked = view.written("model.gradient_checkpointing") == Some(&json!(true));
    Some(json!(if is_asked { "block" } else { "none" }))
}

fn first_written(view: &View<'_>, paths: &[&str], otherwise: Value) -> Value {
    paths.iter().find_map(|path| view.written(path).cloned()).unwrap_or(otherwise)
}

pub(super) fn languages(view: &View<'_>) -> Option<Value> {
    is_generated(view)?.then(|| json!({ "en": 1.0 }))
}

pub(super) fn target_tokens(view: &View<'_>) -> Option<Value> {
    Some(if is_generated(view)? { json!(1_000_000) } else { Value::Null })
}

fn is_generated(view: &View<'_>) -> Option<bool> {
    Some(view.value("dataset.domains")?.as_array().is_some_and(|domains| !domains.is_empty()))
}

/// A generated corpus that no files stand beside has lengths of its own.
fn is_only_generated(view: &View<'_>) -> Option<bool> {
    let has_paths = view.value("dataset.paths")?.as_array().is_some_and(|p| !p.is_empty());
    Some(is_generated(view)? && !has_paths)
}

pub(super) fn min_length(view: &View<'_>) -> Option<Value> {
    // Only a written maximum: one by default yields to the minimum.
    let max = view.written("dataset.max_length").and_then(Value::as_u64).unwrap_or(u64::MAX);
    Some(json!(if is_only_generated(view)? { max.min(16) } else { 0 }))
}

pub(super) fn max_length(view: &View<'_>) -> Option<Value> {
    let min = view.int("dataset.min_length")?;
    Some(if is_only_generated(view)? { json!(min.max(128)) } else { Value::Null })
}

pub(super) fn tokenizer_vocab_size(view: &View<'_>) -> Option<Value> {
    view.int("model.vocab_size").map(Value::from)
}

pub(super) fn unk(view: &View<'_>) -> Option<Value> {
    let is_byte_level = view.text("tokenizer.type")? == "byte_bpe";
    Some(if is_byte_level || has_special_tokens(view) { Value::Null } else { json!("<unk>") })
}

pub(super) fn eos(view: &View<'_>) -> Option<Value> {
    let is_byte_level = view.text("tokenizer.type")? == "byte_bpe";
    Some(match (has_special_tokens(view), is_byte_level) {
        (true, _) => Value::Null,
        (false, true) => json!("<|endoftext|>"),
        (false, false) => json!("<eos>"),
    })
}

fn has_special_tokens(view: &View<'_>) -> bool {
    ["unk", "pad", "bos", "eos", "additional"]
        .iter()
        .any(|name| view.is_written(&format!("tokenizer.special_tokens.{name}")))
}

pub(super) fn lr(view: &View<'_>) -> Option<Value> {
    Some(json!(match optimizer(view)?.as_str() {
        "sgd" => 0.1,
        "lion" => 0.0001,
        _ => 0.0003,
    }))
}

pub(super) fn weight_decay(view: &View<'_>) -> Option<Value> {
    Some(json!(match optimizer(view)?.as_str() {
        "sgd" => 0.0,
        "lion" => 0.3,
        _ => 0.1,
    }))
}

fn optimizer(view: &View<'_>) -> Option<String> {
    view.text("optimizer.type")
}

pub(super) fn momentum(view: &View<'_>) -> Option<Value> {
    Some(json!(if optimizer(view)? == "muon" { 0.95 } else { 0.9 }))
}

pub(super) fn beta1(view: &View<'_>) -> Option<Value> {
    Some(beta(view, 0).unwrap_or_else(|| json!(0.9)))
}

pub(super) fn beta2(view: &View<'_>) -> Option<Value> {
    let rule = if optimizer(view)? == "lion" { 0.99 } else { 0.95 };
    Some(beta(view, 1).unwrap_or_else(|| json!(rule)))
}

fn beta(view: &View<'_>, idx: usize) -> Option<Value> {
    view.written("optimizer.betas")?.get(idx).cloned()
}

pub(super) fn microbatch_size(view: &View<'_>) -> Option<Value> {
    let start = view.written("training.batch_ramp.start").filter(|v| !v.is_null()).cloned();
    start.or_else(|| view.value("training.batch_size"))
}

pub(super) fn sequence_length(view: &View<'_>) -> Option<Value> {
    view.int("model.context_length").map(Value::from)
}

pub(super) fn warmup_steps(view: &View<'_>) -> Option<Value> {
    Some(Value::from((max_steps(view)? / 20).min(2000)))
}

pub(super) fn decay_steps(view: &View<'_>) -> Option<Value> {
    let max_steps = max_steps(view)?;
    let steps = match view.written("training.schedule.decay_fraction").and_then(Value::as_f64) {
        // Step counts are below 2⁵³, so the product is within half a step.
        Some(fraction) => (fraction * max_steps as f64).round() as u64,
        None => max_steps / 5,
    };
    Some(Value::from(steps))
}

pub(super) fn min_lr_ratio(view: &View<'_>) -> Option<Value> {
    Some(json!(if view.text("training.schedule.type")? == "cosine" { 0.1 } else { 0.0 }))
}

pub(super) fn lora_alpha(view: &View<'_>) -> Option<Value> {
    Some(view.int("training.lora.rank").map_or(Value::Null, |rank| json!(rank as f64)))
}

pub(super) fn tenth_of_steps(view: &View<'_>) -> Option<Value> {
    Some(Value::from((max_steps(view)? / 10).max(1)))
}

/// Short runs are repeated in less time than many checkpoints take.
pub(super) fn checkpoint_interval(view: &View<'_>) -> Option<Value> {
    Some(Value::from((max_steps(view)? / 10).max(100)))
}

fn max_steps(view: &View<'_>) -> Option<u64> {
    view.int("training.max_steps")
}
