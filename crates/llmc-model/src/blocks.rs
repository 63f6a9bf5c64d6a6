//! The blocks that templates are made of: norm, projection, attention, feed-forward, dropout.
//!
//! Shape letters: B batch, T positions, H query heads, K key-value heads, D head width,
//! E model width, F feed-forward width. A block names its weights by a path relative to the
//! function it stands in; matrices are [out, in]. Every node has the spec field it
//! follows from as its origin.

use llmc_base::{Expr, Hash};
use llmc_ir::ops::{
    self, Dropout, Gelu, GeluTanh, LayerNorm, Linear, Relu, RmsNorm, Rope, Silu, Swiglu,
};
use llmc_ir::{DType, FunctionBuilder, Module, OriginId, TensorType, TypeError, ValueId};
use llmc_spec::{Activation, Architecture, DimExprs, Norm, Position, RopeScaling};

/// Element type of weights and activations.
pub const FLOAT: DType = DType::F32;

/// A float type.
pub fn float(dims: &[&Expr]) -> TensorType {
    TensorType::new(FLOAT, dims.iter().map(|d| (*d).clone()))
}

/// The spec fields that nodes come from.
#[derive(Clone, Copy, Debug)]
pub struct Origins {
    /// `model.vocab_size`: embedding and head.
    pub vocab: OriginId,
    /// `model.tie_embeddings`.
    pub tie: OriginId,
    /// `model.norm`.
    pub norm: OriginId,
    /// `model.attention`.
    pub attention: OriginId,
    /// `model.activation`: the feed-forward block.
    pub mlp: OriginId,
    /// `model.positional_encoding`.
    pub position: OriginId,
    /// `model.dropout`.
    pub dropout: OriginId,
    /// `model.num_layers`: calls of layers and residual sums.
    pub layers: OriginId,
    /// `training`: the loss.
    pub loss: OriginId,
    /// `model.parametrization`: the scale of the logits; that of the head where there is none.
    pub scale: OriginId,
}

impl Origins {
    /// Enters all of them into the table of a module.
    pub fn new(module: &mut Module, has_scale: bool) -> Self {
        let scale = if has_scale { "model.parametrization" } else { "model.vocab_size" };
        Origins {
            vocab: module.origin("model.vocab_size"),
            tie: module.origin("model.tie_embeddings"),
            norm: module.origin("model.norm"),
            attention: module.origin("model.attention"),
            mlp: module.origin("model.activation"),
            position: module.origin("model.positional_encoding"),
            dropout: module.origin("model.dropout"),
            layers: module.origin("model.num_layers"),
            loss: module.origin("training"),
            scale: module.origin(scale),
        }
    }
}

/// What every block needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Ctx<'a> {
    /// The choices.
    pub arch: &'a Architecture,
    /// The dims.
    pub dims: &'a DimExprs,
    /// The origins.
    pub origins: &'a Origins,
}

/// The three inputs from which dropout draws its bits.
#[derive(Clone, Copy, Debug)]
pub struct DropoutInputs {
    /// `u32[2]`: the seed, mixed with the path of each call on the way.
    pub key: ValueId,
    /// `u32[]`: the optimiser step.
    pub step: ValueId,
    /// `u32[B]`: the global index of each sequence.
    pub sample: ValueId,
}

/// The random stream of an op or call: the first 8 bytes of the BLAKE3 hash of its path.
pub fn stream(path: &str) -> u64 {
    let Hash(bytes) = Hash::of_bytes(path.as_bytes());
    bytes.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The factor on what the head reads, with μP: base width over width. `None` at the base.
pub fn logits_factor(arch: &Architecture, dims: &DimExprs) -> Option<f64> {
    let hidden_size = u64::try_from(dims.hidden_size.as_usize()?).ok()?;
    let factor = 1.0 / arch.width_multiplier(hidden_size);
    (factor != 1.0).then_some(factor)
}

impl Ctx<'_> {
    /// Normalisation with weights under `path`; the value itself if there is none.
    pub fn norm(
        &self,
        b: &mut FunctionBuilder,
        path: &str,
        x: ValueId,
    ) -> Result<ValueId, TypeError> {
        if self.arch.norm == Norm::None {
            return Ok(x);
        }
        b.set_origin(self.origins.norm);
        let width = float(&[&self.dims.hidden_size]);
        let eps = self.arch.norm_eps;
        let mut operands = vec![x, b.weight(&format!("{path}.weight"), width.clone())];
        if self.arch.biases.norm {
            operands.push(b.weight(&format!("{path}.bias"), width));
        }
        let y = match self.arch.norm {
            Norm::LayerNorm => b.op1(LayerNorm { eps }, &operands)?,
            _ => b.op1(RmsNorm { eps }, &operands)?,
        };
        b.name(y, "normed");
        Ok(y)
    }

    /// A projection [.., in] → [.., out] with weights under `path`.
    pub fn linear(
        &self,
        b: &mut FunctionBuilder,
        path: &str,
        x: ValueId,
        out: &Expr,
        has_bias: bool,
    ) -> Result<ValueId, TypeError> {
        let width = b.ty(x).shape.last().cloned().unwrap_or_default();
        let mut operands = vec![x, b.weight(&format!("{path}.weight"), float(&[out, &width]))];
        if has_bias {
            operands.push(b.weight(&format!("{path}.bias"), float(&[out])));
        }
        b.op1(Linear::default(), &operands)
    }

    /// Queries, keys and values [B, T, heads, D] of normed activations [B, T, E], rotated if
    /// positions are rotary.
    pub fn queries_keys_values(
        &self,
        b: &mut FunctionBuilder,
        x: ValueId,
        positions: ValueId,
    ) -> Result<[ValueId; 3], TypeError> {
        let (arch, dims) = (self.arch, self.dims);
        let heads = |b: &mut FunctionBuilder, name: &str, n_heads: &Expr, has_bias: bool| {
            b.set_origin(self.origins.attention);
            let width = n_heads * &dims.head_dim;
            let flat = self.linear(b, &format!("attention.{name}"), x, &width, has_bias)?;
            b.name(flat, &format!("{name}_flat"));
            let lead = b.ty(x).shape[..2].to_vec();
            let shape = [&lead[..], &[n_heads.clone(), dims.head_dim.clone()]].concat();
            let split = b.reshape(flat, shape)?;
            b.name(split, name);
            Ok::<ValueId, TypeError>(split)
        };
        let mut q = heads(b, "q", &dims.num_heads, arch.biases.q)?;
        let mut k = heads(b, "k", &dims.num_kv_heads, arch.biases.k)?;
        let v = heads(b, "v", &dims.num_kv_heads, arch.biases.v)?;
        if let Position::Rope { theta, scaling } = arch.position {
            b.set_origin(self.origins.position);
            let rope = Rope { theta, scaling: rope_scaling(scaling), inverse: false };
            q = b.op1(rope.clone(), &[q, positions])?;
            b.name(q, "q_rotated");
            k = b.op1(rope, &[k, positions])?;
            b.name(k, "k_rotated");
        }
        Ok([q, k, v])
    }

    /// Attention output [B, T, H, D] → [B, T, E].
    pub fn attention_output(
        &self,
        b: &mut FunctionBuilder,
        o: ValueId,
    ) -> Result<ValueId, TypeError> {
        b.set_origin(self.origins.attention);
        let mut shape = b.ty(o).shape[..2].to_vec();
        shape.push(&self.dims.num_heads * &self.dims.head_dim);
        let flat = b.reshape(o, shape)?;
        b.name(flat, "attended_flat");
        let has_bias = self.arch.biases.o;
        let y = self.linear(b, "attention.o", flat, &self.dims.hidden_size, has_bias)?;
        b.name(y, "attention");
        Ok(y)
    }

    /// Feed-forward block [B, T, E] → [B, T, E].
    pub fn mlp(&self, b: &mut FunctionBuilder, x: ValueId) -> Result<ValueId, TypeError> {
        b.set_origin(self.origins.mlp);
        let (arch, dims) = (self.arch, self.dims);
        let width = &dims.intermediate_size;
        let gate = match arch.activation.is_gated() {
            true => Some(self.linear(b, "mlp.gate", x, width, arch.biases.gate)?),
            false => None,
        };
        if let Some(gate) = gate {
            b.name(gate, "gate");
        }
        let up = self.linear(b, "mlp.up", x, width, arch.biases.up)?;
        b.name(up, "up");
        let inner = match (arch.activation, gate) {
            (Activation::SwiGlu, Some(gate)) => b.op1(Swiglu, &[gate, up])?,
            (Activation::Gelu, _) => b.op1(Gelu, &[up])?,
            (Activation::GeluTanh, _) => b.op1(GeluTanh, &[up])?,
            (Activation::Relu, _) => b.op1(Relu, &[up])?,
            (Activation::Silu | Activation::SwiGlu, _) => b.op1(Silu, &[up])?,
        };
        b.name(inner, "activated");
        let y = self.linear(b, "mlp.down", inner, &dims.hidden_size, arch.biases.down)?;
        b.name(y, "mlp");
        Ok(y)
    }

    /// `x + branch`.
    pub fn residual(
        &self,
        b: &mut FunctionBuilder,
        x: ValueId,
        branch: ValueId,
    ) -> Result<ValueId, TypeError> {
        b.set_origin(self.origins.layers);
        let sum = b.add(x, branch)?;
        b.name(sum, "residual");
        Ok(sum)
    }

    /// Dropout of `x` [B, …] in the stream of `path`; `x` itself without inputs or rate.
    pub fn dropout(
        &self,
        b: &mut FunctionBuilder,
        path: &str,
        rate: f64,
        inputs: Option<DropoutInputs>,
        x: ValueId,
    ) -> Result<ValueId, TypeError> {
        let Some(DropoutInputs { key, step, sample }) = inputs.filter(|_| rate > 0.0) else {
            return Ok(x);
        };
        b.set_origin(self.origins.dropout);
        let y = b.op1(Dropout { rate, stream: stream(path) }, &[x, key, step, sample])?;
        b.name(y, "dropped");
        Ok(y)
    }

    /// The key under a scope: `key xor hash(scope)`, so that each call draws its own bits.
    pub fn scoped_key(
        &self,
        b: &mut FunctionBuilder,
        scope: &str,
        key: ValueId,
    ) -> Result<ValueId, TypeError> {
        b.set_origin(self.origins.dropout);
        let word = stream(scope);
        let values = vec![(word & 0xffff_ffff) as f64, (word >> 32) as f64];
        let salt = b.literal(DType::U32, &[2], values)?;
        b.xor(key, salt)
    }
}

fn rope_scaling(scaling: RopeScaling) -> ops::RopeScaling {
    match scaling {
        RopeScaling::None => ops::RopeScaling::None,
        RopeScaling::Linear { factor } => ops::RopeScaling::Linear { factor },
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context_length,
        } => ops::RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context_length: original_context_length as f64,
        },
    }
}
