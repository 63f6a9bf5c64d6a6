//! The functions of `decoder_only` for generation: the same model with a KV cache.
//!
//! The cache of a layer is linear state, `layers.{i}.attention.k_cache` and `…v_cache`,
//! f32[B, S, K, D]: slot `s` of a row holds the (rotated) key and the value of the row's token `s`.
//!
//! Both functions go on from a cache: tokens and positions i32[B, T], and start `i32[B]`, the number of
//! tokens that the cache of each row holds. They write the slots `start..start + T` of each row, which
//! must be there, and see nothing behind them.
//!
//! - `@prefill` → logits f32[B, V] of the token after the last one: the prompt, or a part of it.
//! - `@decode` → logits f32[B, T, V] of the tokens after each one: one more token of several texts, or
//!   several tokens that were guessed.
//!
//! Rows do not see each other. The logits have the bits of `@forward`, however a text is cut.

use crate::blocks::{Ctx, FLOAT};
use crate::templates::Layers;
use crate::templates::decoder_only::{call_layer, embed, head, per_token, scopes};
use llmc_base::Expr;
use llmc_ir::ops::{Attention, UpdateSlice};
use llmc_ir::{DType, FuncId, Function, FunctionBuilder, Module, TensorType, TypeError, ValueId};

/// Adds `@prefill` and `@decode` with their layer.
///
/// Errors: the type rules of the ops.
pub fn add(ctx: &Ctx, module: &mut Module, layers: Layers) -> Result<(), TypeError> {
    module.declare_symbol("S", 1, 1);
    let layer = match layers {
        Layers::Count(0) => None,
        _ => Some(module.add(layer(ctx, module)?)),
    };
    for logits in [Logits::Last, Logits::All] {
        let entry = entry(ctx, module, logits, layer, layers)?;
        module.add(entry);
    }
    Ok(())
}

/// Which tokens get logits, and so which of the two functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logits {
    /// The last one: `@prefill`.
    Last,
    /// Each one: `@decode`.
    All,
}

fn int(dims: &[Expr]) -> TensorType {
    TensorType::new(DType::I32, dims.iter().cloned())
}

/// One block over the cache: `@layer_cached`.
fn layer(ctx: &Ctx, module: &Module) -> Result<Function, TypeError> {
    let mut b = FunctionBuilder::new(module, "layer_cached");
    let [batch, tokens, slots] = [Expr::symbol("B"), Expr::symbol("T"), Expr::symbol("S")];
    let x_ty =
        TensorType::new(FLOAT, [batch.clone(), tokens.clone(), ctx.dims.hidden_size.clone()]);
    let x = b.input("x", x_ty);
    let positions = b.input("positions", int(&[batch.clone(), tokens]));
    let start = b.input("start", int(std::slice::from_ref(&batch)));
    let cache_dims = [batch, slots, ctx.dims.num_kv_heads.clone(), ctx.dims.head_dim.clone()];
    let cache = TensorType::new(FLOAT, cache_dims);

    let normed = ctx.norm(&mut b, "attention_norm", x)?;
    let [q, k, v] = ctx.queries_keys_values(&mut b, normed, positions)?;
    b.set_origin(ctx.origins.attention);
    let store = |b: &mut FunctionBuilder, name: &str, new: ValueId| {
        let path = format!("attention.{name}");
        let old = b.state(&path, cache.clone());
        let cached = b.op1(UpdateSlice { axis: 1 }, &[old, new, start])?;
        b.name(cached, name);
        b.state_result(&path, cached);
        Ok::<ValueId, TypeError>(cached)
    };
    let (k_cache, v_cache) = (store(&mut b, "k_cache", k)?, store(&mut b, "v_cache", v)?);
    let op = Attention { cached: true, ..ctx.attention_op() };
    let o = b.op1(op, &[q, k_cache, v_cache, start])?;
    b.name(o, "attended");
    let branch = ctx.attention_output(&mut b, o)?;
    let x = ctx.residual(&mut b, x, branch)?;
    let normed = ctx.norm(&mut b, "mlp_norm", x)?;
    let branch = ctx.mlp(&mut b, normed)?;
    let y = ctx.residual(&mut b, x, branch)?;
    b.output("y", y);
    Ok(b.finish())
}

fn entry(
    ctx: &Ctx,
    module: &Module,
    logits: Logits,
    layer: Option<FuncId>,
    layers: Layers,
) -> Result<Function, TypeError> {
    let name = match logits {
        Logits::Last => "prefill",
        Logits::All => "decode",
    };
    let mut b = FunctionBuilder::new(module, name);
    let tokens = b.input("tokens", per_token(DType::I32));
    let positions = b.input("positions", per_token(DType::I32));
    let start = b.input("start", int(&[Expr::symbol("B")]));
    let (mut x, embedding) = embed(ctx, &mut b, tokens, positions)?;
    for (scope, layer) in scopes(layers).iter().zip(layer.iter().cycle()) {
        x = call_layer(ctx, &mut b, *layer, scope, &[x, positions, start])?;
    }
    if logits == Logits::Last {
        let length = Expr::symbol("T");
        let last = b.slice(x, 1, length.clone() - 1, length)?;
        // [B, 1, E] → [B, E]
        let row = [b.ty(last).shape[0].clone(), ctx.dims.hidden_size.clone()];
        x = b.reshape(last, row)?;
    }
    let logits = head(ctx, &mut b, x, embedding)?;
    b.output("logits", logits);
    Ok(b.finish())
}
