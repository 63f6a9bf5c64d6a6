//! `decoder_only`: a causal language model with pre-norm blocks.
//!
//! ```text
//! x = embedding[tokens] (+ position_embedding[positions])
//! for each layer:  x = x + o(attention(q, k, v of norm(x)));  x = x + mlp(norm(x))
//! logits = head(norm(x)), with μP head(norm(x)·(base width / width))
//! ```
//!
//! Functions:
//!
//! - `@layer`: one block, called with scope `layers.{i}`;
//! - `@forward`: tokens, positions, segments i32[B, T] → logits f32[B, T, V]; no dropout;
//! - `@loss`: the same and targets i32[B, T], weights f32[B, T], norm f32[] → state `loss`;
//!   with dropout also key `u32[2]`, step `u32[]`, sample `u32[B]`, and then `@layer_dropout` is the
//!   block and `@eval_loss` the loss without dropout;
//! - `@prefill` and `@decode`: generation with a KV cache, see [`super::decoder_cached`].
//!
//! A token sees tokens of its own segment. The loss of a batch is
//! Σ over tokens of cross_entropy · weight · norm, folded into the state in token order, so that
//! micro-batches accumulate exactly; norm is 1 / Σ weight over the *global* batch, so the state ends
//! as the mean loss and its gradient is the gradient of the mean.
//!
//! Sources: Radford et al. 2019 (GPT-2: pre-norm, tied head); Touvron et al. 2023,
//! arXiv:2302.13971 (LLaMA: rms_norm, swiglu, rope).

use crate::blocks::{Ctx, DropoutInputs, FLOAT, Origins, float, logits_factor};
use crate::templates::{ANY_LAYER, Layers, decoder_cached};
use llmc_base::Expr;
use llmc_ir::ops::{CrossEntropy, Embedding, Linear, Order, Reduce, ReduceKind};
use llmc_ir::types::ensure;
use llmc_ir::{DType, FuncId, Function, FunctionBuilder, Module, TensorType, TypeError, ValueId};
use llmc_spec::{Architecture, DimExprs, Norm, Position};

/// Builds the module.
///
/// Errors: `model::c1` (a norm bias without layer norm), `model::c2` (a gate bias without a gate),
/// `model::c3` (a parametrization by a width that is a symbol),
/// and the type rules of the ops.
pub fn build(arch: &Architecture, dims: &DimExprs, layers: Layers) -> Result<Module, TypeError> {
    ensure(!arch.biases.norm || arch.norm == Norm::LayerNorm, "model::c1", || {
        "a norm bias needs `norm = layernorm`".to_string()
    })?;
    ensure(!arch.biases.gate || arch.activation.is_gated(), "model::c2", || {
        "a gate bias needs a gated activation".to_string()
    })?;
    let widths = [&dims.hidden_size, &dims.head_dim];
    let has_widths = widths.iter().all(|width| width.as_usize().is_some());
    ensure(arch.mup.is_none() || has_widths, "model::c3", || {
        "`parametrization = mup` needs a width and a width of heads that are numbers".to_string()
    })?;
    let mut module = Module::new("decoder_only");
    module.declare_symbol("B", 1, 1);
    module.declare_symbol("T", 1, 1);
    let origins = Origins::new(&mut module, logits_factor(arch, dims).is_some());
    let ctx = Ctx { arch, dims, origins: &origins };

    let has_layers = layers != Layers::Count(0);
    let layer = match has_layers {
        true => Some(module.add(layer(&ctx, &module, false)?)),
        false => None,
    };
    let forward = forward(&ctx, &module, layer, layers)?;
    module.add(forward);
    decoder_cached::add(&ctx, &mut module, layers)?;
    if !has_dropout(arch) {
        let loss = loss(&ctx, &module, "loss", layer, layers, false)?;
        module.add(loss);
        return Ok(module);
    }
    let eval_loss = loss(&ctx, &module, "eval_loss", layer, layers, false)?;
    module.add(eval_loss);
    let with_dropout = match has_layers {
        true => Some(module.add(self::layer(&ctx, &module, true)?)),
        false => None,
    };
    let loss = loss(&ctx, &module, "loss", with_dropout, layers, true)?;
    module.add(loss);
    Ok(module)
}

/// Whether training draws random bits, so that `@loss` takes key, step and sample.
pub fn has_dropout(arch: &Architecture) -> bool {
    let rates = arch.dropout;
    [rates.embedding, rates.attention, rates.residual].iter().any(|rate| *rate > 0.0)
}

/// A type [B, T].
pub(super) fn per_token(dtype: DType) -> TensorType {
    TensorType::new(dtype, [Expr::symbol("B"), Expr::symbol("T")])
}

/// The inputs that every entry shares.
#[derive(Clone, Copy)]
struct Inputs {
    tokens: ValueId,
    positions: ValueId,
    segments: ValueId,
}

impl Inputs {
    fn declare(b: &mut FunctionBuilder) -> Self {
        Inputs {
            tokens: b.input("tokens", per_token(DType::I32)),
            positions: b.input("positions", per_token(DType::I32)),
            segments: b.input("segments", per_token(DType::I32)),
        }
    }
}

fn dropout_inputs(b: &mut FunctionBuilder) -> DropoutInputs {
    DropoutInputs {
        key: b.input("key", TensorType::new(DType::U32, [2])),
        step: b.input("step", TensorType::scalar(DType::U32)),
        sample: b.input("sample", TensorType::new(DType::U32, [Expr::symbol("B")])),
    }
}

/// One block: x f32[B, T, E], positions and segments i32[B, T] → y f32[B, T, E].
fn layer(ctx: &Ctx, module: &Module, has_dropout: bool) -> Result<Function, TypeError> {
    let name = if has_dropout { "layer_dropout" } else { "layer" };
    let mut b = FunctionBuilder::new(module, name);
    let [batch, tokens] = [Expr::symbol("B"), Expr::symbol("T")];
    let x = b.input("x", float(&[&batch, &tokens, &ctx.dims.hidden_size]));
    let positions = b.input("positions", per_token(DType::I32));
    let segments = b.input("segments", per_token(DType::I32));
    let dropout = has_dropout.then(|| dropout_inputs(&mut b));
    let rates = ctx.arch.dropout;

    let normed = ctx.norm(&mut b, "attention_norm", x)?;
    let [q, k, v] = ctx.queries_keys_values(&mut b, normed, positions)?;
    b.set_origin(ctx.origins.attention);
    let o = ctx.attention(&mut b, [q, k, v], segments, dropout)?;
    b.name(o, "attended");
    let branch = ctx.attention_output(&mut b, o)?;
    let branch = ctx.dropout(&mut b, "attention.dropout", rates.residual, dropout, branch)?;
    let x = ctx.residual(&mut b, x, branch)?;

    let normed = ctx.norm(&mut b, "mlp_norm", x)?;
    let branch = ctx.mlp(&mut b, normed)?;
    let branch = ctx.dropout(&mut b, "mlp.dropout", rates.residual, dropout, branch)?;
    let y = ctx.residual(&mut b, x, branch)?;
    b.output("y", y);
    Ok(b.finish())
}

/// Token embedding with positions added → [B, T, E], and the embedding matrix.
pub(super) fn embed(
    ctx: &Ctx,
    b: &mut FunctionBuilder,
    tokens: ValueId,
    positions: ValueId,
) -> Result<(ValueId, ValueId), TypeError> {
    let (dims, origins) = (ctx.dims, ctx.origins);
    b.set_origin(origins.vocab);
    let embedding = b.weight("embedding.weight", float(&[&dims.vocab_size, &dims.hidden_size]));
    let mut x = b.op1(Embedding, &[embedding, tokens])?;
    b.name(x, "embedded");
    if ctx.arch.position == Position::Learned {
        b.set_origin(origins.position);
        let ty = float(&[&dims.context_length, &dims.hidden_size]);
        let table = b.weight("position_embedding.weight", ty);
        let rows = b.op1(Embedding, &[table, positions])?;
        x = b.add(x, rows)?;
        b.name(x, "positioned");
    }
    Ok((x, embedding))
}

/// Final norm and head: [.., E] → logits [.., V].
pub(super) fn head(
    ctx: &Ctx,
    b: &mut FunctionBuilder,
    x: ValueId,
    embedding: ValueId,
) -> Result<ValueId, TypeError> {
    let (arch, dims, origins) = (ctx.arch, ctx.dims, ctx.origins);
    let mut x = ctx.norm(b, "norm", x)?;
    if let Some(factor) = logits_factor(arch, dims) {
        b.set_origin(origins.scale);
        x = b.mul_scalar(x, factor)?;
        b.name(x, "scaled");
    }
    b.set_origin(if arch.tie_embeddings { origins.tie } else { origins.vocab });
    let head = match arch.tie_embeddings {
        true => embedding,
        false => b.weight("lm_head.weight", float(&[&dims.vocab_size, &dims.hidden_size])),
    };
    let mut operands = vec![x, head];
    if arch.biases.lm_head {
        operands.push(b.weight("lm_head.bias", float(&[&dims.vocab_size])));
    }
    let logits = b.op1(Linear::default(), &operands)?;
    b.name(logits, "logits");
    Ok(logits)
}

/// The scopes of the calls of a layer.
pub(super) fn scopes(layers: Layers) -> Vec<String> {
    match layers {
        Layers::Count(n) => (0..n).map(|i| format!("layers.{i}")).collect(),
        Layers::Folded => vec![ANY_LAYER.to_string()],
    }
}

/// Calls a layer, which has one output.
pub(super) fn call_layer(
    ctx: &Ctx,
    b: &mut FunctionBuilder,
    layer: FuncId,
    scope: &str,
    operands: &[ValueId],
) -> Result<ValueId, TypeError> {
    b.set_origin(ctx.origins.layers);
    match b.call(layer, scope, operands)?.as_slice() {
        &[y] => Ok(y),
        _ => Err(TypeError::new("model::layer", "a layer has one output")),
    }
}

/// Embedding, layers, final norm and head → logits f32[B, T, V].
fn trunk(
    ctx: &Ctx,
    b: &mut FunctionBuilder,
    inputs: Inputs,
    layer: Option<FuncId>,
    layers: Layers,
    dropout: Option<DropoutInputs>,
) -> Result<ValueId, TypeError> {
    let (mut x, embedding) = embed(ctx, b, inputs.tokens, inputs.positions)?;
    x = ctx.dropout(b, "embedding.dropout", ctx.arch.dropout.embedding, dropout, x)?;
    for (scope, layer) in scopes(layers).iter().zip(layer.iter().cycle()) {
        let mut operands = vec![x, inputs.positions, inputs.segments];
        if let Some(dropout) = dropout {
            let key = ctx.scoped_key(b, scope, dropout.key)?;
            operands.extend([key, dropout.step, dropout.sample]);
        }
        x = call_layer(ctx, b, *layer, scope, &operands)?;
    }
    head(ctx, b, x, embedding)
}

fn forward(
    ctx: &Ctx,
    module: &Module,
    layer: Option<FuncId>,
    layers: Layers,
) -> Result<Function, TypeError> {
    let mut b = FunctionBuilder::new(module, "forward");
    let inputs = Inputs::declare(&mut b);
    let logits = trunk(ctx, &mut b, inputs, layer, layers, None)?;
    b.output("logits", logits);
    Ok(b.finish())
}

fn loss(
    ctx: &Ctx,
    module: &Module,
    name: &str,
    layer: Option<FuncId>,
    layers: Layers,
    has_dropout: bool,
) -> Result<Function, TypeError> {
    let mut b = FunctionBuilder::new(module, name);
    let inputs = Inputs::declare(&mut b);
    let targets = b.input("targets", per_token(DType::I32));
    let weights = b.input("weights", per_token(FLOAT));
    let norm = b.input("norm", TensorType::scalar(FLOAT));
    let dropout = has_dropout.then(|| dropout_inputs(&mut b));
    let logits = trunk(ctx, &mut b, inputs, layer, layers, dropout)?;

    b.set_origin(ctx.origins.loss);
    let total = b.state("loss", TensorType::scalar(FLOAT));
    let losses = b.op1(CrossEntropy, &[logits, targets, weights])?;
    b.name(losses, "losses");
    let factor = b.splat_like(norm, losses)?;
    let shares = b.mul(losses, factor)?;
    b.name(shares, "shares");
    let sum = Reduce { kind: ReduceKind::Sum, axes: vec![0, 1], order: Order::Chain, acc: FLOAT };
    let total = b.op1(sum, &[shares, total])?;
    b.state_result("loss", total);
    Ok(b.finish())
}
