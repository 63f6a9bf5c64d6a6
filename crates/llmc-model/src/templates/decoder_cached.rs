//! The functions of `decoder_only` for generation: the same model with a KV cache.
//!
//! The cache of a layer is linear state, `layers.{i}.attention.k_cache` and `…v_cache`,
//! f32[B, S, K, D]: slot `s` of a row holds the (rotated) key and the value of one token, and
//! S ≥ all tokens of a row. Shorter rows are padded on the left, so that all rows end in one slot.
//!
//! - `@prefill`: tokens, positions, segments i32[B, T] → logits f32[B, V] of the last token; fills
//!   slots `0..T`. Padding has segment −1, text 0.
//! - `@decode`: tokens and positions i32[B, 1], key_segments i32[B, S], start i32[] → logits
//!   f32[B, V]; writes slot `start` and reads the slots whose segment is 0 (within the window):
//!   the caller marks with 0 what is text up to and with `start`, and all else with −1.
//!
//! Without padding the logits have the bits of `@forward`: unused slots add exact zeros.

use crate::blocks::{Ctx, FLOAT};
use crate::templates::Layers;
use crate::templates::decoder_only::{call_layer, embed, head, per_token, scopes};
use llmc_base::Expr;
use llmc_ir::ops::{Attention, CompareKind, UpdateSlice};
use llmc_ir::{DType, FuncId, Function, FunctionBuilder, Module, TensorType, TypeError, ValueId};

/// Adds `@prefill` and `@decode` with their layers.
///
/// Errors: the type rules of the ops.
pub fn add(ctx: &Ctx, module: &mut Module, layers: Layers) -> Result<(), TypeError> {
    module.declare_symbol("S", 1, 1);
    for step in [Step::Prefill, Step::Decode] {
        let layer = match layers {
            Layers::Count(0) => None,
            _ => Some(module.add(layer(ctx, module, step)?)),
        };
        let entry = match step {
            Step::Prefill => prefill(ctx, module, layer, layers)?,
            Step::Decode => decode(ctx, module, layer, layers)?,
        };
        module.add(entry);
    }
    Ok(())
}

/// Which of the two functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// All tokens of the prompt at once, into an empty cache.
    Prefill,
    /// One more token.
    Decode,
}

fn int(dims: &[Expr]) -> TensorType {
    TensorType::new(DType::I32, dims.iter().cloned())
}

/// One block over the cache: `@layer_prefill` or `@layer_decode`.
fn layer(ctx: &Ctx, module: &Module, step: Step) -> Result<Function, TypeError> {
    let (name, tokens) = match step {
        Step::Prefill => ("layer_prefill", Expr::symbol("T")),
        Step::Decode => ("layer_decode", Expr::from(1)),
    };
    let mut b = FunctionBuilder::new(module, name);
    let [batch, slots] = [Expr::symbol("B"), Expr::symbol("S")];
    let x_ty =
        TensorType::new(FLOAT, [batch.clone(), tokens.clone(), ctx.dims.hidden_size.clone()]);
    let x = b.input("x", x_ty);
    let positions = b.input("positions", int(&[batch.clone(), tokens.clone()]));
    let segments = b.input("segments", int(&[batch.clone(), tokens]));
    let (key_segments, start) = match step {
        Step::Prefill => (segments, None),
        Step::Decode => {
            let key_segments = b.input("key_segments", int(&[batch.clone(), slots.clone()]));
            (key_segments, Some(b.input("start", int(&[]))))
        }
    };
    let cache_dims = [batch, slots, ctx.dims.num_kv_heads.clone(), ctx.dims.head_dim.clone()];
    let cache = TensorType::new(FLOAT, cache_dims);

    let normed = ctx.norm(&mut b, "attention_norm", x)?;
    let [q, k, v] = ctx.queries_keys_values(&mut b, normed, positions)?;
    b.set_origin(ctx.origins.attention);
    let start = match start {
        Some(start) => start,
        None => b.scalar(DType::I32, 0.0)?,
    };
    let store = |b: &mut FunctionBuilder, name: &str, new: ValueId| {
        let path = format!("attention.{name}");
        let old = b.state(&path, cache.clone());
        let cached = b.op1(UpdateSlice { axis: 1 }, &[old, new, start])?;
        b.name(cached, name);
        b.state_result(&path, cached);
        Ok::<ValueId, TypeError>(cached)
    };
    let (k_cache, v_cache) = (store(&mut b, "k_cache", k)?, store(&mut b, "v_cache", v)?);
    let o = match step {
        Step::Prefill => b.op1(ctx.attention_op(), &[q, k, v, segments, key_segments])?,
        // The window is in `key_segments`, because slots are not aligned with the one query.
        Step::Decode => {
            let op = Attention { causal: false, window: None, ..ctx.attention_op() };
            b.op1(op, &[q, k_cache, v_cache, segments, key_segments])?
        }
    };
    b.name(o, "attended");
    let branch = ctx.attention_output(&mut b, o)?;
    let x = ctx.residual(&mut b, x, branch)?;
    let normed = ctx.norm(&mut b, "mlp_norm", x)?;
    let branch = ctx.mlp(&mut b, normed)?;
    let y = ctx.residual(&mut b, x, branch)?;
    b.output("y", y);
    Ok(b.finish())
}

fn prefill(
    ctx: &Ctx,
    module: &Module,
    layer: Option<FuncId>,
    layers: Layers,
) -> Result<Function, TypeError> {
    let mut b = FunctionBuilder::new(module, "prefill");
    let tokens = b.input("tokens", per_token(DType::I32));
    let positions = b.input("positions", per_token(DType::I32));
    let segments = b.input("segments", per_token(DType::I32));
    let (mut x, embedding) = embed(ctx, &mut b, tokens, positions)?;
    for (scope, layer) in scopes(layers).iter().zip(layer.iter().cycle()) {
        x = call_layer(ctx, &mut b, *layer, scope, &[x, positions, segments])?;
    }
    let length = Expr::symbol("T");
    let last = b.slice(x, 1, length.clone() - 1, length)?;
    logits(ctx, &mut b, last, embedding)?;
    Ok(b.finish())
}

fn decode(
    ctx: &Ctx,
    module: &Module,
    layer: Option<FuncId>,
    layers: Layers,
) -> Result<Function, TypeError> {
    let mut b = FunctionBuilder::new(module, "decode");
    let one = [Expr::symbol("B"), Expr::from(1)];
    let tokens = b.input("tokens", int(&one));
    let positions = b.input("positions", int(&one));
    let slots = int(&[Expr::symbol("B"), Expr::symbol("S")]);
    let mut key_segments = b.input("key_segments", slots);
    let start = b.input("start", int(&[]));
    let (mut x, embedding) = embed(ctx, &mut b, tokens, positions)?;

    b.set_origin(ctx.origins.attention);
    let segments = b.constant(&int(&one), 0.0)?;
    if let Some(window) = ctx.arch.sliding_window {
        key_segments = windowed(&mut b, key_segments, start, window)?;
    }
    for (scope, layer) in scopes(layers).iter().zip(layer.iter().cycle()) {
        let operands = [x, positions, segments, key_segments, start];
        x = call_layer(ctx, &mut b, *layer, scope, &operands)?;
    }
    logits(ctx, &mut b, x, embedding)?;
    Ok(b.finish())
}

/// The key segments i32[B, S] with −1 for the slots before the window that ends in slot `start`.
fn windowed(
    b: &mut FunctionBuilder,
    key_segments: ValueId,
    start: ValueId,
    window: u64,
) -> Result<ValueId, TypeError> {
    let slots = b.ty(key_segments).shape.clone();
    let slot = b.iota(DType::I32, &slots, 1)?;
    let last = b.splat_like(start, slot)?;
    let distance = b.sub(last, slot)?;
    // A window of 2³¹ or more hides nothing.
    let window = b.constant_like(distance, window.min(i32::MAX as u64) as f64)?;
    let is_near = b.compare(CompareKind::Lt, distance, window)?;
    let hidden = b.constant_like(key_segments, -1.0)?;
    let visible = b.select(is_near, key_segments, hidden)?;
    b.name(visible, "windowed_segments");
    Ok(visible)
}

/// Head over one token per row: [B, 1, E] → output `logits` f32[B, V].
fn logits(
    ctx: &Ctx,
    b: &mut FunctionBuilder,
    x: ValueId,
    embedding: ValueId,
) -> Result<(), TypeError> {
    let row = [b.ty(x).shape[0].clone(), ctx.dims.hidden_size.clone()];
    let x = b.reshape(x, row)?;
    let logits = head(ctx, b, x, embedding)?;
    b.output("logits", logits);
    Ok(())
}
