//! Reads a pre-norm decoder out of a graph: what it is made of, with all numbers and weight paths.
//!
//! The pattern is followed backwards from the logits:
//!
//! ```text
//! logits = head(norm(x))
//! x = mid + mlp(norm(mid));  mid = x' + o(attention(q, k, v of norm(x')));  … for each layer
//! x = embedding[tokens] (+ position_embedding[positions])
//! ```
//!
//! Only the ops, their attributes and operands count; names of functions and weights do not.

use super::view::{Place, Source, View};
use llmc_base::expr::Env;
use llmc_ir::ops::{Attention, Binary, BinaryKind, LayerNorm, Linear, RmsNorm, Rope, RopeScaling};
use llmc_ir::{DType, Module, Node, Op};

/// A decoder of pre-norm blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoder {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Dtype of the embedding.
    pub dtype: DType,
    /// Path of the embedding.
    pub embedding: String,
    /// Learned positions.
    pub positions: Option<PositionTable>,
    /// The blocks, first to last.
    pub layers: Vec<Layer>,
    /// The norm before the head.
    pub norm: Option<NormFacts>,
    /// The head; tied if its weight is the embedding.
    pub head: Projection,
}

/// A learned matrix of positions.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionTable {
    /// Its path.
    pub weight: String,
    /// Its rows.
    pub rows: usize,
}

/// One block.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Before attention.
    pub attention_norm: Option<NormFacts>,
    /// Query projection.
    pub q: Projection,
    /// Key projection.
    pub k: Projection,
    /// Value projection.
    pub v: Projection,
    /// Output projection.
    pub o: Projection,
    /// Query heads.
    pub num_heads: usize,
    /// Key/value heads.
    pub num_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rotary positions: base and scaling.
    pub rope: Option<(f64, RopeScaling)>,
    /// Mask, window and scale.
    pub attention: Attention,
    /// Before the feed-forward block.
    pub mlp_norm: Option<NormFacts>,
    /// Feed-forward block.
    pub mlp: Mlp,
}

/// A linear map.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// Path of the matrix.
    pub weight: String,
    /// Path of the bias.
    pub bias: Option<String>,
    /// Rows of the matrix.
    pub width: usize,
}

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `rms_norm`.
    Rms,
    /// `layer_norm`.
    Layer,
}

/// A norm with its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct NormFacts {
    /// Which.
    pub kind: NormKind,
    /// Its epsilon.
    pub eps: f64,
    /// Path of the weight.
    pub weight: String,
    /// Path of the bias.
    pub bias: Option<String>,
}

/// A feed-forward block.
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp {
    /// Only if gated.
    pub gate: Option<Projection>,
    /// Up projection.
    pub up: Projection,
    /// Down projection.
    pub down: Projection,
    /// Name of the activation op.
    pub activation: &'static str,
}

/// A mismatch: what was found where something else had to be.
type Matched<T> = Result<T, String>;

/// Reads the decoder that `entry` computes, dims bound by `dims`.
///
/// Errors: where the graph leaves the pattern, and what stands there.
pub fn read(module: &Module, entry: &str, dims: &Env) -> Matched<Decoder> {
    let id = module.find(entry).ok_or_else(|| format!("there is no function `@{entry}`"))?;
    let function = module.function(id);
    let mut outputs = function.outputs();
    let (Some((_, logits)), None) = (outputs.next(), outputs.next()) else {
        return Err(format!("`@{entry}` does not have one output"));
    };
    let mut reader = Reader { view: View::new(module, id, dims) };
    let logits = reader.view.entry(logits);
    reader.decoder(logits)
}

struct Reader<'m> {
    view: View<'m>,
}

impl<'m> Reader<'m> {
    fn decoder(&mut self, logits: Place) -> Matched<Decoder> {
        let (mut x, head) = self.linear(logits, "the head")?;
        let norm = self.norm(&mut x)?;
        let mut layers = Vec::new();
        let (embedding, positions) = loop {
            let stop = match self.embeddings(x) {
                Ok(found) => break found,
                Err(stop) => stop,
            };
            let n = layers.len();
            let layer = self.layer(x).map_err(|why| match self.is_add(x) {
                true => format!("in block {} from the end, {why}", n + 1),
                false => stop,
            })?;
            layers.push(layer.0);
            x = layer.1;
        };
        layers.reverse();
        let (table, vocab_size, hidden_size, dtype) = embedding;
        Ok(Decoder {
            vocab_size,
            hidden_size,
            dtype,
            embedding: table,
            positions,
            layers,
            norm,
            head,
        })
    }

    fn is_add(&mut self, x: Place) -> bool {
        self.add(x).is_some()
    }

    /// The operands of a sum.
    fn add(&mut self, x: Place) -> Option<[Place; 2]> {
        match self.view.source(x) {
            Source::Node(
                Node { op: Op::Binary(Binary { kind: BinaryKind::Add }), .. },
                operands,
            ) => operands.try_into().ok(),
            _ => None,
        }
    }

    fn expected<T>(&mut self, what: &str, found: Place) -> Matched<T> {
        Err(format!("{what} is expected, {} is found", self.view.describe(found)))
    }

    /// The embedding of the tokens, with learned positions or without.
    #[allow(clippy::type_complexity)]
    fn embeddings(
        &mut self,
        x: Place,
    ) -> Matched<((String, usize, usize, DType), Option<PositionTable>)> {
        if let Some([a, b]) = self.add(x) {
            for (tokens, positions) in [(a, b), (b, a)] {
                let table = self.rows(tokens, "tokens");
                let learned = self.rows(positions, "positions");
                if let (Ok(table), Ok((weight, rows, ..))) = (table, learned) {
                    return Ok((table, Some(PositionTable { weight, rows })));
                }
            }
        }
        Ok((self.rows(x, "tokens")?, None))
    }

    /// Path, rows, width and dtype of a table indexed by an input: the first if it is `tokens`.
    fn rows(&mut self, x: Place, input: &str) -> Matched<(String, usize, usize, DType)> {
        let Source::Node(Node { op: Op::Embedding(_), .. }, operands) = self.view.source(x) else {
            return self.expected("an embedding", x);
        };
        let (table, ids) = (operands[0], operands[1]);
        let is_wanted = match self.view.source(ids) {
            Source::Input(0) => input == "tokens",
            Source::Input(_) => self.view.describe(ids) == format!("input `{input}`"),
            _ => false,
        };
        if !is_wanted {
            return self.expected(&format!("an embedding of input `{input}`"), ids);
        }
        let weight = self.weight(table)?;
        match self.view.ty(table).concrete().as_deref() {
            Some([rows, width]) => Ok((weight, *rows, *width, self.view.ty(table).dtype)),
            _ => Err(format!("the dims of `{weight}` are not all numbers")),
        }
    }

    fn weight(&mut self, place: Place) -> Matched<String> {
        match self.view.source(place) {
            Source::Weight(path) => Ok(path),
            _ => self.expected("a weight", place),
        }
    }

    /// A linear map: what goes in, and its weights.
    fn linear(&mut self, y: Place, what: &str) -> Matched<(Place, Projection)> {
        let Source::Node(Node { op: Op::Linear(linear), .. }, operands) = self.view.source(y)
        else {
            return self.expected(&format!("{what} (`linear`)"), y);
        };
        if *linear != Linear::default() {
            return self.expected(&format!("{what} (`linear` in f32)"), y);
        }
        let weight = self.weight(operands[1])?;
        let bias = match operands.get(2) {
            Some(bias) => Some(self.weight(*bias)?),
            None => None,
        };
        match self.view.ty(operands[1]).concrete().as_deref() {
            Some([width, _]) => Ok((operands[0], Projection { weight, bias, width: *width })),
            _ => Err(format!("the dims of `{weight}` are not all numbers")),
        }
    }

    /// The norm that gives `x`, if there is one; `x` becomes what goes into it.
    fn norm(&mut self, x: &mut Place) -> Matched<Option<NormFacts>> {
        let Source::Node(node, operands) = self.view.source(*x) else { return Ok(None) };
        let (kind, eps) = match &node.op {
            Op::RmsNorm(RmsNorm { eps }) => (NormKind::Rms, *eps),
            Op::LayerNorm(LayerNorm { eps }) => (NormKind::Layer, *eps),
            _ => return Ok(None),
        };
        let weight = self.weight(operands[1])?;
        let bias = match operands.get(2) {
            Some(bias) => Some(self.weight(*bias)?),
            None => None,
        };
        *x = operands[0];
        Ok(Some(NormFacts { kind, eps, weight, bias }))
    }

    /// The block that gives `x`, and what goes into it.
    fn layer(&mut self, x: Place) -> Matched<(Layer, Place)> {
        let (mid, mlp_norm, mlp) = self.branch(x, |reader, y| {
            let (input, mlp) = reader.mlp(y)?;
            Ok((input, mlp))
        })?;
        let (start, attention_norm, attention) = self.branch(mid, Self::attention)?;
        let AttentionFacts { q, k, v, o, heads: [num_heads, num_kv_heads, head_dim], rope, op } =
            attention;
        let layer = Layer {
            attention_norm,
            q,
            k,
            v,
            o,
            num_heads,
            num_kv_heads,
            head_dim,
            rope,
            attention: op,
            mlp_norm,
            mlp,
        };
        Ok((layer, start))
    }

    /// `x = r + f(norm(r))`: r, the norm and what `read` finds in f.
    fn branch<T>(
        &mut self,
        x: Place,
        read: impl Fn(&mut Self, Place) -> Matched<(Place, T)>,
    ) -> Matched<(Place, Option<NormFacts>, T)> {
        let Some([a, b]) = self.add(x) else { return self.expected("a residual sum", x) };
        let mut why = String::new();
        for (residual, branch) in [(a, b), (b, a)] {
            match read(self, branch) {
                Err(reason) if why.is_empty() => why = reason,
                Err(_) => {}
                Ok((mut input, found)) => {
                    let norm = self.norm(&mut input)?;
                    let residual = self.view.resolve(residual);
                    if self.view.resolve(input) == residual {
                        return Ok((residual, norm, found));
                    }
                    why = "the branch does not start at the residual stream".to_string();
                }
            }
        }
        Err(why)
    }

    fn mlp(&mut self, y: Place) -> Matched<(Place, Mlp)> {
        let (inner, down) = self.linear(y, "the down projection")?;
        let Source::Node(node, operands) = self.view.source(inner) else {
            return self.expected("an activation", inner);
        };
        let activation = node.op.name();
        match &node.op {
            Op::Swiglu(_) => {
                let (x, gate) = self.linear(operands[0], "the gate projection")?;
                let (x2, up) = self.linear(operands[1], "the up projection")?;
                if self.view.resolve(x) != self.view.resolve(x2) {
                    return Err("gate and up projections read different values".to_string());
                }
                Ok((x, Mlp { gate: Some(gate), up, down, activation }))
            }
            Op::Relu(_) | Op::ReluSquared(_) | Op::Gelu(_) | Op::GeluTanh(_) | Op::Silu(_) => {
                let (x, up) = self.linear(operands[0], "the up projection")?;
                Ok((x, Mlp { gate: None, up, down, activation }))
            }
            _ => self.expected("an activation", inner),
        }
    }

    fn attention(&mut self, y: Place) -> Matched<(Place, AttentionFacts)> {
        let (flat, o) = self.linear(y, "the output projection of attention")?;
        let heads = self.reshape(flat)?;
        let Source::Node(Node { op: Op::Attention(op), .. }, operands) = self.view.source(heads)
        else {
            return self.expected("`attention`", heads);
        };
        if op.dropout.is_some() {
            return self.expected("`attention` without dropout", heads);
        }
        if let Some(segments) = operands.get(3) {
            let (a, b) = (self.view.resolve(*segments), self.view.resolve(operands[4]));
            if a != b || self.view.describe(a) != "input `segments`" {
                return self.expected("attention within input `segments`", b);
            }
        }
        let mut found = Vec::new();
        for (place, what) in operands.iter().zip([
            "the query projection",
            "the key projection",
            "the value projection",
        ]) {
            found.push(self.head_projection(*place, what)?);
        }
        let [q, k, v] = <[HeadProjection; 3]>::try_from(found)
            .map_err(|_| "attention has too few operands".to_string())?;
        if q.rope != k.rope || v.rope.is_some() {
            return Err("queries and keys are not rotated alike, or values are".to_string());
        }
        if q.input != k.input || q.input != v.input {
            return Err("queries, keys and values read different values".to_string());
        }
        let heads = [q.heads, k.heads, q.head_dim];
        let facts = AttentionFacts {
            q: q.projection,
            k: k.projection,
            v: v.projection,
            o,
            heads,
            rope: q.rope,
            op: op.clone(),
        };
        Ok((q.input, facts))
    }

    /// What a reshape takes.
    fn reshape(&mut self, y: Place) -> Matched<Place> {
        match self.view.source(y) {
            Source::Node(Node { op: Op::Reshape(_), .. }, operands) => Ok(operands[0]),
            _ => self.expected("`reshape`", y),
        }
    }

    /// Heads [B, T, H, D] of a projection, rotated or not.
    fn head_projection(&mut self, y: Place, what: &str) -> Matched<HeadProjection> {
        let mut heads = self.view.resolve(y);
        let mut rope = None;
        if let Source::Node(Node { op: Op::Rope(op), .. }, operands) = self.view.source(heads) {
            let Rope { theta, scaling, inverse } = op;
            if *inverse || self.view.describe(operands[1]) != "input `positions`" {
                return Err(format!("{what} is not rotated by input `positions`"));
            }
            rope = Some((*theta, *scaling));
            heads = self.view.resolve(operands[0]);
        }
        let ty = self.view.ty(heads);
        let width = |axis: usize| ty.shape.get(axis).and_then(|d| d.as_usize());
        let (Some(n_heads), Some(head_dim)) = (width(2), width(3)) else {
            return Err(format!("the heads of {what} are not numbers: {ty}"));
        };
        let flat = self.reshape(heads)?;
        let (input, projection) = self.linear(flat, what)?;
        let input = self.view.resolve(input);
        Ok(HeadProjection { input, projection, heads: n_heads, head_dim, rope })
    }
}

struct HeadProjection {
    input: Place,
    projection: Projection,
    heads: usize,
    head_dim: usize,
    rope: Option<(f64, RopeScaling)>,
}

struct AttentionFacts {
    q: Projection,
    k: Projection,
    v: Projection,
    o: Projection,
    /// Query heads, key/value heads, head width.
    heads: [usize; 3],
    rope: Option<(f64, RopeScaling)>,
    op: Attention,
}

impl Decoder {
    /// Whether the head is the embedding.
    pub fn is_tied(&self) -> bool {
        self.head.weight == self.embedding
    }

    /// For each standard path (`layers.0.attention.q.weight`, …): the path in the module.
    pub fn paths(&self) -> Vec<(String, String)> {
        let mut out = vec![("embedding.weight".to_string(), self.embedding.clone())];
        let mut add = |standard: String, weight: &str, bias: Option<&String>| {
            out.push((format!("{standard}.weight"), weight.to_string()));
            out.extend(bias.map(|bias| (format!("{standard}.bias"), bias.clone())));
        };
        if let Some(positions) = &self.positions {
            add("position_embedding".to_string(), &positions.weight, None);
        }
        for (i, layer) in self.layers.iter().enumerate() {
            for (name, norm) in
                [("attention_norm", &layer.attention_norm), ("mlp_norm", &layer.mlp_norm)]
            {
                if let Some(norm) = norm {
                    add(format!("layers.{i}.{name}"), &norm.weight, norm.bias.as_ref());
                }
            }
            let projections = [
                ("attention.q", Some(&layer.q)),
                ("attention.k", Some(&layer.k)),
                ("attention.v", Some(&layer.v)),
                ("attention.o", Some(&layer.o)),
                ("mlp.gate", layer.mlp.gate.as_ref()),
                ("mlp.up", Some(&layer.mlp.up)),
                ("mlp.down", Some(&layer.mlp.down)),
            ];
            for (name, projection) in projections {
                if let Some(p) = projection {
                    add(format!("layers.{i}.{name}"), &p.weight, p.bias.as_ref());
                }
            }
        }
        if let Some(norm) = &self.norm {
            add("norm".to_string(), &norm.weight, norm.bias.as_ref());
        }
        if !self.is_tied() {
            add("lm_head".to_string(), &self.head.weight, self.head.bias.as_ref());
        }
        out
    }
}
