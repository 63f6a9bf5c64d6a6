//! A tiny model, its inputs and weights, and ways to evaluate it.

use llmc_ir::eval::{EvalOptions, Evaluation, Mode, Tensor, run};
use llmc_ir::module::join_path;
use llmc_ir::{DType, Module, Op, TensorType};
use llmc_spec::{
    Activation, Architecture, AttentionKind, Biases, DimExprs, Dims, Dropout, Init, Norm, Position,
    RopeScaling, Template,
};
use std::collections::BTreeMap;

/// SplitMix64: the tests' own numbers, the same on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// In (-1, 1), exact in f32.
    pub fn signed(&mut self) -> f64 {
        let unit = (self.bits() >> 41) as f64 / (1u64 << 23) as f64;
        2.0 * unit - 1.0
    }
}

/// LLaMA-shaped, with a head width that is not `hidden_size / num_heads`.
pub fn arch() -> Architecture {
    Architecture {
        template: Template::DecoderOnly,
        attention: AttentionKind::Gqa,
        sliding_window: None,
        norm: Norm::RmsNorm,
        norm_eps: 1e-5,
        activation: Activation::SwiGlu,
        position: Position::Rope { theta: 10_000.0, scaling: RopeScaling::None },
        tie_embeddings: true,
        biases: Biases::default(),
        dropout: Dropout::default(),
        attention_scale: None,
        init: Init { std: 0.02, is_residual_scaled: true },
        mup: None,
    }
}

pub fn dims() -> Dims {
    Dims {
        vocab_size: 11,
        context_length: 8,
        num_layers: 2,
        hidden_size: 8,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 4,
        intermediate_size: 12,
    }
}

pub fn build(arch: &Architecture, dims: &Dims) -> Module {
    llmc_model::build(arch, &DimExprs::from(dims)).unwrap()
}

/// The module, in which the verifier must find nothing and which must survive its text form.
pub fn verified(module: Module) -> Module {
    let findings = llmc_ir::verify::verify(&module);
    let text = llmc_ir::text::print(&module);
    assert!(findings.is_empty(), "{findings:?}\n{text}");
    let parsed = llmc_ir::text::parse(&text);
    assert!(parsed.as_ref() == Ok(&module), "{:?}\n{text}", parsed.err());
    module
}

/// The types of all weights that an entry reaches, by absolute path.
pub fn weight_types(module: &Module, entry: &str) -> BTreeMap<String, TensorType> {
    fn walk(module: &Module, name: &str, scope: &str, found: &mut BTreeMap<String, TensorType>) {
        let function = module.function(module.find(name).unwrap());
        for (path, value) in function.weights() {
            found.insert(join_path(scope, path), function.ty(value).clone());
        }
        for node in &function.nodes {
            if let Op::Call(call) = &node.op {
                walk(module, &call.callee, &join_path(scope, &call.scope), found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(module, entry, "", &mut found);
    found
}

pub type Weights = BTreeMap<String, Tensor>;

/// Random weights; those of norms lie around 1.
pub fn weights(module: &Module, seed: u64) -> Weights {
    let mut random = Random(seed);
    weight_types(module, "forward")
        .into_iter()
        .map(|(path, ty)| {
            let shape = ty.concrete().unwrap();
            let centre = if path.contains("norm.weight") { 1.0 } else { 0.0 };
            let numel = shape.iter().product();
            let values = (0..numel).map(|_| centre + 0.5 * random.signed()).collect();
            (path, Tensor::floats(DType::F32, &shape, values).unwrap())
        })
        .collect()
}

/// The inputs of `@loss` for sequences `from..to` of a batch of `n`, packed from two documents each.
///
/// `norm` is that of the whole batch, so parts add up.
pub fn inputs(
    arch: &Architecture,
    dims: &Dims,
    n: usize,
    tokens: usize,
    part: (usize, usize),
) -> Vec<Tensor> {
    let mut random = Random(7);
    let mut ids =
        || (0..n * tokens).map(|_| random.below(dims.vocab_size) as i64).collect::<Vec<_>>();
    let (token_ids, targets) = (ids(), ids());
    // Masked, halved and whole tokens.
    let weights: Vec<f64> =
        (0..n * tokens).map(|_| [0.0, 0.5, 1.0, 1.0][random.below(4) as usize]).collect();
    let total: f64 = weights.iter().sum();
    let cut = |row: usize| 1 + row % (tokens - 1).max(1);
    let place = |i: usize| (i / tokens, i % tokens);
    let positions = (0..n * tokens).map(|i| {
        let (row, t) = place(i);
        (if t < cut(row) { t } else { t - cut(row) }) as i64
    });
    let segments = (0..n * tokens).map(|i| {
        let (row, t) = place(i);
        i64::from(t >= cut(row))
    });
    let (from, to) = part;
    let shape = [to - from, tokens];
    let range = from * tokens..to * tokens;
    let int = |values: Vec<i64>| {
        Tensor::ints(DType::I32, &shape, values[range.clone()].to_vec()).unwrap()
    };
    let mut out = vec![
        int(token_ids),
        int(positions.collect()),
        int(segments.collect()),
        int(targets),
        Tensor::floats(DType::F32, &shape, weights[range.clone()].to_vec()).unwrap(),
        Tensor::scalar(DType::F32, f64::from((1.0 / total) as f32)),
    ];
    if llmc_model::templates::decoder_only::has_dropout(arch) {
        let samples = (from..to).map(|row| 100 + row as i64).collect();
        out.push(Tensor::ints(DType::U32, &[2], vec![123, 456]).unwrap());
        out.push(Tensor::scalar(DType::U32, 3.0));
        out.push(Tensor::ints(DType::U32, &[to - from], samples).unwrap());
    }
    out
}

/// Evaluates an entry.
pub fn evaluate(
    module: &Module,
    entry: &str,
    inputs: &[Tensor],
    weights: &Weights,
    states: &BTreeMap<String, Tensor>,
    mode: Mode,
) -> Evaluation {
    let id = module.find(entry).unwrap();
    let lookup = |path: &str| weights.get(path).cloned();
    run(module, id, inputs, &lookup, states, &EvalOptions::new(mode))
        .unwrap_or_else(|e| panic!("{e}"))
}

/// The state of `@loss`: no loss yet.
pub fn no_loss() -> BTreeMap<String, Tensor> {
    BTreeMap::from([("loss".to_string(), Tensor::scalar(DType::F32, 0.0))])
}

/// The state of `@grad`: no loss and zero accumulators.
pub fn no_gradient(module: &Module) -> BTreeMap<String, Tensor> {
    let mut states = no_loss();
    for accumulator in llmc_passes::grad_accumulators(module, "grad") {
        let shape = accumulator.ty.concrete().unwrap();
        states.insert(accumulator.state, Tensor::splat(accumulator.ty.dtype, &shape, 0.0));
    }
    states
}

/// One list of values per factor, such that every pair of values of two factors occurs in some row.
///
/// Greedy and deterministic: each row takes, factor by factor, the value that covers most new pairs.
pub fn pairwise(sizes: &[usize]) -> Vec<Vec<usize>> {
    let mut open = std::collections::BTreeSet::new();
    for i in 0..sizes.len() {
        for j in i + 1..sizes.len() {
            for a in 0..sizes[i] {
                for b in 0..sizes[j] {
                    open.insert((i, a, j, b));
                }
            }
        }
    }
    let mut rows = Vec::new();
    while let Some(&(i, a, j, b)) = open.first() {
        let mut row: Vec<Option<usize>> = vec![None; sizes.len()];
        (row[i], row[j]) = (Some(a), Some(b));
        for factor in 0..sizes.len() {
            if row[factor].is_some() {
                continue;
            }
            let covers = |value: usize| {
                let pairs = row.iter().enumerate().filter_map(|(other, v)| Some((other, (*v)?)));
                pairs
                    .filter(|(other, v)| {
                        let (low, high) =
                            ((*other, *v).min((factor, value)), (*other, *v).max((factor, value)));
                        open.contains(&(low.0, low.1, high.0, high.1))
                    })
                    .count()
            };
            row[factor] = (0..sizes[factor]).max_by_key(|v| (covers(*v), std::cmp::Reverse(*v)));
        }
        let row: Vec<usize> = row.into_iter().flatten().collect();
        open.retain(|(i, a, j, b)| row[*i] != *a || row[*j] != *b);
        rows.push(row);
    }
    rows
}
