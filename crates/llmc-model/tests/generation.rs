//! Generation with a KV cache gives the logits of the whole forward pass, bit for bit.

// The whole program is a test; helpers panic on purpose.
#![allow(clippy::unwrap_used)]

use llmc_ir::eval::{EvalOptions, Evaluation, Mode, Tensor, run};
use llmc_ir::{DType, Module, account};
use llmc_model::build;
use llmc_spec::{
    Activation, Architecture, AttentionKind, Biases, DimExprs, Dims, Dropout, Init, Norm, Position,
    RopeScaling, Template,
};
use std::collections::BTreeMap;

const DIMS: Dims = Dims {
    vocab_size: 13,
    context_length: 24,
    num_layers: 2,
    hidden_size: 8,
    num_heads: 4,
    num_kv_heads: 2,
    head_dim: 4,
    intermediate_size: 12,
};

fn arch(position: Position, sliding_window: Option<u64>) -> Architecture {
    Architecture {
        template: Template::DecoderOnly,
        attention: AttentionKind::Gqa,
        sliding_window,
        norm: Norm::RmsNorm,
        norm_eps: 1e-5,
        activation: Activation::SwiGlu,
        position,
        tie_embeddings: false,
        biases: Biases { q: true, k: true, v: true, ..Biases::default() },
        dropout: Dropout::default(),
        attention_scale: None,
        init: Init { std: 0.02, is_residual_scaled: false },
        mup: None,
    }
}

/// A weight as a function of its path: the same in every test.
fn weight(module: &Module, path: &str) -> Option<Tensor> {
    let weights = account::weights(module, module.find("forward")?);
    let shape = weights.iter().find(|w| w.path == path)?.ty.concrete()?;
    let n: usize = shape.iter().product();
    let seed: usize = path.bytes().map(usize::from).sum();
    let values = (0..n).map(|i| ((i * 7919 + seed * 31) % 1000) as f64 / 500.0 - 1.0);
    Tensor::floats(DType::F32, &shape, values.collect()).ok()
}

fn evaluate(
    module: &Module,
    entry: &str,
    inputs: &[Tensor],
    states: &BTreeMap<String, Tensor>,
) -> Evaluation {
    let id = module.find(entry).unwrap();
    let lookup = |path: &str| weight(module, path);
    run(module, id, inputs, &lookup, states, &EvalOptions::new(Mode::Rounded)).unwrap()
}

fn int(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::ints(DType::I32, shape, values.to_vec()).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u64> {
    tensor.as_floats().unwrap().iter().map(|v| v.to_bits()).collect()
}

#[test]
fn cached_generation_has_the_bits_of_the_forward_pass() {
    const SLOTS: usize = 20;
    const PROMPT: usize = 5;
    const TOKENS: usize = 9;
    let rope = Position::Rope { theta: 100.0, scaling: RopeScaling::None };
    for arch in [arch(rope, None), arch(Position::Learned, Some(3))] {
        let module = build(&arch, &DimExprs::from(&DIMS)).unwrap();
        assert_eq!(llmc_ir::verify::verify(&module), vec![]);
        let ids: Vec<i64> = (0..2 * TOKENS as i64).map(|i| (i * 5 + 3) % 13).collect();
        let columns = |from: usize, to: usize| {
            let rows = (0..2).flat_map(|row| ids[row * TOKENS + from..row * TOKENS + to].to_vec());
            int(&[2, to - from], &rows.collect::<Vec<_>>())
        };
        let counted = |from: usize, to: usize| {
            let row: Vec<i64> = (from as i64..to as i64).collect();
            int(&[2, to - from], &[row.clone(), row].concat())
        };
        let zeros = |n: usize| int(&[2, n], &vec![0; 2 * n]);
        let start = |n: usize| int(&[2], &[n as i64; 2]);
        let whole = [columns(0, TOKENS), counted(0, TOKENS), zeros(TOKENS)];
        let whole = evaluate(&module, "forward", &whole, &BTreeMap::new());
        let expected = |row: usize, token: usize| {
            let start = (row * TOKENS + token) * 13;
            bits(&whole.outputs[0])[start..start + 13].to_vec()
        };

        let mut states = BTreeMap::new();
        for layer in 0..2 {
            for name in ["k_cache", "v_cache"] {
                // Garbage in unused slots must not matter.
                let cache = Tensor::splat(DType::F32, &[2, SLOTS, 2, 4], 7.0);
                states.insert(format!("layers.{layer}.attention.{name}"), cache);
            }
        }
        let piece = |from: usize, to: usize| [columns(from, to), counted(from, to), start(from)];
        // The prompt in two pieces, then one token at a time.
        let first = evaluate(&module, "prefill", &piece(0, 2), &states);
        let mut step = evaluate(&module, "prefill", &piece(2, PROMPT), &first.states);
        for token in PROMPT..=TOKENS {
            let got = bits(&step.outputs[0]);
            let want = [expected(0, token - 1), expected(1, token - 1)].concat();
            assert_eq!(got, want, "token {token} of {arch:?}");
            if token == TOKENS {
                break;
            }
            step = evaluate(&module, "decode", &piece(token, token + 1), &step.states);
        }

        // Rows of different lengths: the first goes on from token 5, the second from token 2, over what
        // the cache holds behind it.
        let rows = |a: usize, b: usize| int(&[2, 3], &[&ids[a..a + 3], &ids[b..b + 3]].concat());
        let counts = |a: i64, b: i64| int(&[2, 3], &[a, a + 1, a + 2, b, b + 1, b + 2]);
        let inputs = [rows(5, TOKENS + 2), counts(5, 2), int(&[2], &[5, 2])];
        let mixed = evaluate(&module, "decode", &inputs, &step.states);
        let want: Vec<u64> = (0..3)
            .flat_map(|i| expected(0, 5 + i))
            .chain((0..3).flat_map(|i| expected(1, 2 + i)))
            .collect();
        assert_eq!(bits(&mixed.outputs[0]), want, "{arch:?}");
    }
}
