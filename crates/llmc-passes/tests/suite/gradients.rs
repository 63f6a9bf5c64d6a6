//! Gradients of a whole model: against finite differences, and bit for bit over every way to
//! split the batch.

use crate::common::*;
use llmc_ir::eval::{Data, Mode, Tensor};
use llmc_passes::{autodiff, grad_accumulators};
use llmc_spec::{Activation, Architecture, Biases, Dims, Dropout, Norm, Position, RopeScaling};
use std::collections::BTreeMap;

fn values(tensor: &Tensor) -> &[f64] {
    match &tensor.data {
        Data::Float(values) => values,
        Data::Int(_) => panic!("an integer tensor"),
    }
}

/// The gradient by weight: accumulators added in order.
fn gradients(
    module: &llmc_ir::Module,
    states: &BTreeMap<String, Tensor>,
) -> BTreeMap<String, Vec<f64>> {
    let mut out: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for accumulator in grad_accumulators(module, "grad") {
        let part = values(&states[&accumulator.state]);
        let sum = out.entry(accumulator.weight).or_insert_with(|| vec![0.0; part.len()]);
        sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
    }
    out
}

/// Compares with central differences: two elements and one direction per weight.
fn check_gradient(arch: &Architecture, dims: &Dims) {
    const STEP: f64 = 1e-5;
    /// Of the differences, and of the f32-sized constants that gelu has in both directions.
    const TOLERANCE: f64 = 2e-7;
    let module = build(arch, dims);
    let module = verified(autodiff(&module, &Default::default()).unwrap());
    let weights = weights(&module, 1);
    let inputs = inputs(arch, dims, 2, 5, (0, 2));
    let loss = |weights: &Weights| {
        let result = evaluate(&module, "loss", &inputs, weights, &no_loss(), Mode::Real);
        values(&result.states["loss"])[0]
    };
    let result = evaluate(&module, "grad", &inputs, &weights, &no_gradient(&module), Mode::Real);
    assert_eq!(values(&result.states["loss"])[0], loss(&weights));
    let gradients = gradients(&module, &result.states);
    assert_eq!(gradients.keys().collect::<Vec<_>>(), weights.keys().collect::<Vec<_>>());

    let mut random = Random(99);
    for (path, gradient) in &gradients {
        let n = gradient.len();
        let mut directions = vec![(0..n).map(|_| random.signed()).collect::<Vec<f64>>()];
        for _ in 0..2 {
            let at = random.below(n as u64) as usize;
            directions.push((0..n).map(|i| f64::from(u8::from(i == at))).collect());
        }
        for direction in directions {
            let moved = |by: f64| {
                let mut weights = weights.clone();
                let Some(Data::Float(values)) = weights.get_mut(path).map(|t| &mut t.data) else {
                    panic!("no weight `{path}`");
                };
                values.iter_mut().zip(&direction).for_each(|(v, d)| *v += by * d);
                loss(&weights)
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let got: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
            let error = (got - expected).abs() / expected.abs().max(1.0);
            assert!(error < TOLERANCE, "{path}: {got} instead of {expected} in {arch:?}");
        }
    }
}

fn all_biases(norm: Norm, activation: Activation) -> Biases {
    Biases {
        q: true,
        k: true,
        v: true,
        o: true,
        gate: activation.is_gated(),
        up: true,
        down: true,
        lm_head: true,
        norm: norm == Norm::LayerNorm,
    }
}

#[test]
fn gradients_are_finite_differences_for_every_pair_of_options() {
    let norms = [Norm::RmsNorm, Norm::LayerNorm, Norm::None];
    let activations = [
        Activation::SwiGlu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Relu,
        Activation::Silu,
    ];
    let rope = |scaling| Position::Rope { theta: 100.0, scaling };
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context_length: 4,
    };
    let positions = [
        rope(RopeScaling::None),
        Position::Learned,
        Position::None,
        rope(RopeScaling::Linear { factor: 4.0 }),
        rope(llama3),
    ];
    let kv_heads = [2, 4, 1];
    let dropouts = [
        Dropout::default(),
        Dropout { embedding: 0.2, attention: 0.0, residual: 0.2 },
        Dropout { embedding: 0.0, attention: 0.3, residual: 0.0 },
    ];
    let rows = pairwise(&[3, 5, 5, 3, 3, 2, 2, 2, 2]);
    assert!(rows.len() >= 25);
    for (index, row) in rows.into_iter().enumerate() {
        let [norm, activation, position, kv, dropout, tie, bias, window, scale] = row[..] else {
            panic!("a row has nine values");
        };
        let (norm, activation) = (norms[norm], activations[activation]);
        let arch = Architecture {
            norm,
            activation,
            position: positions[position],
            dropout: dropouts[dropout],
            tie_embeddings: tie == 0,
            biases: if bias == 0 { Biases::default() } else { all_biases(norm, activation) },
            sliding_window: (window == 1).then_some(2),
            attention_scale: (scale == 1).then_some(0.3),
            ..arch()
        };
        // A second layer costs time and adds only the call between two layers.
        let num_layers = if index % 8 == 0 { 2 } else { 1 };
        check_gradient(&arch, &Dims { num_kv_heads: kv_heads[kv], num_layers, ..dims() });
    }
}

/// The states after a batch of four in parts, `Rounded`.
fn after_parts(arch: &Architecture, parts: &[(usize, usize)]) -> BTreeMap<String, Tensor> {
    let dims = dims();
    let module = autodiff(&build(arch, &dims), &Default::default()).unwrap();
    let weights = weights(&module, 2);
    parts.iter().fold(no_gradient(&module), |states, part| {
        let inputs = inputs(arch, &dims, 4, 5, *part);
        evaluate(&module, "grad", &inputs, &weights, &states, Mode::Rounded).states
    })
}

#[test]
fn the_micro_batch_split_changes_no_bit() {
    let gpt2 = Architecture {
        norm: Norm::LayerNorm,
        activation: Activation::GeluTanh,
        position: Position::Learned,
        biases: all_biases(Norm::LayerNorm, Activation::GeluTanh),
        ..arch()
    };
    let dropped = Architecture {
        dropout: Dropout { embedding: 0.1, attention: 0.2, residual: 0.1 },
        tie_embeddings: false,
        ..arch()
    };
    for arch in [arch(), gpt2, dropped] {
        let whole = after_parts(&arch, &[(0, 4)]);
        let bits = |states: &BTreeMap<String, Tensor>| -> Vec<(String, Vec<u64>)> {
            let bits = |t: &Tensor| values(t).iter().map(|v| v.to_bits()).collect();
            states.iter().map(|(path, t)| (path.clone(), bits(t))).collect()
        };
        assert!(values(&whole["loss"])[0] > 0.0);
        for parts in [
            &[(0, 1), (1, 2), (2, 3), (3, 4)][..],
            &[(0, 2), (2, 4)],
            &[(0, 1), (1, 4)],
            &[(0, 3), (3, 4)],
        ] {
            assert_eq!(bits(&after_parts(&arch, parts)), bits(&whole), "{parts:?} of {arch:?}");
        }
    }
}
