//! Every combination of options builds; the polynomial is the count of the concrete module.

use crate::{build, parameter_polynomial, skeleton};
use llmc_base::Expr;
use llmc_ir::{Module, Op, account};
use llmc_spec::{
    Activation, Architecture, AttentionKind, Biases, DimExprs, Dims, Dropout, Init, Mup, Norm,
    Position, RopeScaling, Template,
};
use proptest::prelude::*;

pub(crate) fn arch() -> Architecture {
    Architecture {
        template: Template::DecoderOnly,
        attention: AttentionKind::Gqa,
        sliding_window: None,
        norm: Norm::RmsNorm,
        norm_eps: 1e-5,
        activation: Activation::SwiGlu,
        position: Position::Rope { theta: 10_000.0, scaling: RopeScaling::None },
        tie_embeddings: false,
        biases: Biases::default(),
        dropout: Dropout::default(),
        attention_scale: None,
        init: Init { std: 0.02, is_residual_scaled: true },
        mup: None,
    }
}

fn dims() -> Dims {
    Dims {
        vocab_size: 32,
        context_length: 16,
        num_layers: 2,
        hidden_size: 12,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 6,
        intermediate_size: 20,
    }
}

/// Elements of the unique weights that an entry reaches, by the accounting of the IR.
fn count(module: &Module, entry: &str) -> u64 {
    let total = account::parameter_count(module, module.find(entry).unwrap()).unique;
    total.as_usize().unwrap() as u64
}

fn paths(module: &Module, entry: &str) -> Vec<String> {
    let weights = account::weights(module, module.find(entry).unwrap());
    let mut found: Vec<String> = weights.into_iter().map(|w| w.path).collect();
    found.sort();
    found
}

#[test]
fn every_node_has_a_field_of_the_spec_as_its_origin() {
    let gpt2 = Architecture {
        norm: Norm::LayerNorm,
        activation: Activation::GeluTanh,
        position: Position::Learned,
        dropout: Dropout { embedding: 0.1, attention: 0.1, residual: 0.1 },
        tie_embeddings: true,
        ..arch()
    };
    for arch in [arch(), gpt2] {
        let module = build(&arch, &DimExprs::from(&dims())).unwrap();
        for function in &module.functions {
            for node in &function.nodes {
                let origin = module.origin_text(node.origin);
                let is_known = llmc_spec::field::find(origin).is_some()
                    || llmc_spec::Section::ALL.iter().any(|s| s.name() == origin);
                assert!(is_known, "`{}` in @{} is from `{origin}`", node.op.name(), function.name);
            }
        }
    }
}

#[test]
fn parameter_paths_are_the_documented_ones() {
    let mut one_layer = dims();
    one_layer.num_layers = 1;
    let module = build(&arch(), &DimExprs::from(&one_layer)).unwrap();
    let layer = ["attention.k", "attention.o", "attention.q", "attention.v", "attention_norm"];
    let mlp = ["mlp.down", "mlp.gate", "mlp.up", "mlp_norm"];
    let mut expected: Vec<String> =
        layer.iter().chain(&mlp).map(|p| format!("layers.0.{p}.weight")).collect();
    expected.extend(["embedding.weight", "lm_head.weight", "norm.weight"].map(String::from));
    expected.sort();
    assert_eq!(paths(&module, "forward"), expected);
    assert_eq!(paths(&module, "loss"), expected);
}

#[test]
fn the_readme_model_has_2608_parameters() {
    let small = Architecture { activation: Activation::Relu, tie_embeddings: true, ..arch() };
    let dims = Dims {
        vocab_size: 32,
        context_length: 16,
        num_layers: 1,
        hidden_size: 16,
        num_heads: 2,
        num_kv_heads: 2,
        head_dim: 8,
        intermediate_size: 32,
    };
    let polynomial = parameter_polynomial(&small).unwrap();
    assert_eq!(polynomial.eval(&dims.env()), Some(2608));
    assert_eq!(count(&build(&small, &DimExprs::from(&dims)).unwrap(), "forward"), 2608);
}

#[test]
fn the_polynomial_reads_like_one() {
    let text = parameter_polynomial(&Architecture {
        activation: Activation::Relu,
        tie_embeddings: true,
        ..arch()
    })
    .unwrap()
    .to_string();
    assert_eq!(
        text,
        "2*head_dim*hidden_size*num_heads*num_layers \
         + 2*head_dim*hidden_size*num_kv_heads*num_layers \
         + 2*hidden_size*intermediate_size*num_layers \
         + 2*hidden_size*num_layers + hidden_size*vocab_size + hidden_size"
    );
}

#[test]
fn dropout_changes_the_loss_and_never_the_forward_pass() {
    let dropped = Architecture {
        dropout: Dropout { embedding: 0.1, attention: 0.2, residual: 0.3 },
        ..arch()
    };
    let plain = build(&arch(), &DimExprs::from(&dims())).unwrap();
    let module = build(&dropped, &DimExprs::from(&dims())).unwrap();
    let function = |m: &Module, name: &str| m.function(m.find(name).unwrap()).clone();
    assert_eq!(function(&module, "forward"), function(&plain, "forward"));
    let eval_loss = llmc_ir::Function { name: "loss".into(), ..function(&module, "eval_loss") };
    assert_eq!(eval_loss, function(&plain, "loss"));
    let names = |name: &str| -> Vec<String> {
        let f = function(&module, name);
        f.inputs().filter_map(|v| f.value(v).name.clone()).collect()
    };
    let shared = ["tokens", "positions", "segments", "targets", "weights", "norm"];
    assert_eq!(names("eval_loss"), shared);
    assert_eq!(names("loss"), [&shared[..], &["key", "step", "sample"]].concat());
    let draws = |op: &Op| match op {
        Op::Attention(attention) => attention.dropout.is_some(),
        op => op.name() == "dropout",
    };
    let drops = |name: &str| function(&module, name).nodes.iter().filter(|n| draws(&n.op)).count();
    assert_eq!((drops("loss"), drops("layer_dropout"), drops("layer")), (1, 3, 0));
}

#[test]
fn contradictions_are_refused() {
    let code = |arch: &Architecture| build(arch, &DimExprs::from(&dims())).unwrap_err().code;
    let norm_bias = Biases { norm: true, ..Biases::default() };
    assert_eq!(code(&Architecture { biases: norm_bias, ..arch() }), "model::c1");
    let gate_bias = Biases { gate: true, ..Biases::default() };
    let relu = Architecture { biases: gate_bias, activation: Activation::Relu, ..arch() };
    assert_eq!(code(&relu), "model::c2");
    let error = build(&arch(), &DimExprs::symbolic()).unwrap_err();
    assert_eq!(error.code, "model::num_layers");
    let mup = Mup { base_hidden_size: 6, base_head_dim: None };
    let mup = Architecture { mup: Some(mup), ..arch() };
    let named = DimExprs { num_layers: 2.into(), ..DimExprs::symbolic() };
    assert_eq!(build(&mup, &named).unwrap_err().code, "model::c3");
    // It has no parameters of its own.
    assert_eq!(parameter_polynomial(&mup), parameter_polynomial(&arch()));
}

#[test]
fn a_model_without_layers_builds() {
    let none = Dims { num_layers: 0, ..dims() };
    let module = build(&arch(), &DimExprs::from(&none)).unwrap();
    assert_eq!(count(&module, "forward"), 32 * 12 * 2 + 12);
}

#[test]
fn the_405b_model_is_as_small_as_its_functions() {
    let dims = Dims {
        vocab_size: 128_256,
        context_length: 131_072,
        num_layers: 126,
        hidden_size: 16_384,
        num_heads: 128,
        num_kv_heads: 8,
        head_dim: 128,
        intermediate_size: 53_248,
    };
    let module = build(&arch(), &DimExprs::from(&dims)).unwrap();
    assert_eq!(count(&module, "forward"), 405_853_388_800);
    // Every layer is one call: the module holds nothing per weight element, and a few hundred nodes.
    let nodes: usize = module.functions.iter().map(|f| f.nodes.len()).sum();
    let values: usize = module.functions.iter().map(|f| f.values.len()).sum();
    // Four entries with a call per layer each, and a node takes well under 1 kB.
    assert!(nodes < 126 * 4 + 128, "{nodes} nodes");
    assert!(values < 126 * 4 + 256, "{values} values");
}

fn any_arch() -> impl Strategy<Value = Architecture> {
    let norm = prop::sample::select(vec![Norm::RmsNorm, Norm::LayerNorm, Norm::None]);
    let activation = prop::sample::select(vec![
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Relu,
        Activation::Silu,
        Activation::SwiGlu,
    ]);
    let linear = RopeScaling::Linear { factor: 4.0 };
    let position = prop::sample::select(vec![
        Position::Rope { theta: 1e4, scaling: RopeScaling::None },
        Position::Rope { theta: 1e4, scaling: linear },
        Position::Learned,
        Position::None,
    ]);
    let window = prop::option::of(1u64..8);
    let rate = || prop::sample::select(vec![0.0, 0.25]);
    let flags =
        (any::<bool>(), prop::array::uniform9(any::<bool>()), window, (rate(), rate(), rate()));
    (norm, activation, position, flags).prop_map(
        |(
            norm,
            activation,
            position,
            (tie, b, sliding_window, (embedding, attention, residual)),
        )| {
            let biases = Biases {
                q: b[0],
                k: b[1],
                v: b[2],
                o: b[3],
                gate: b[4] && activation.is_gated(),
                up: b[5],
                down: b[6],
                lm_head: b[7],
                norm: b[8] && norm == Norm::LayerNorm,
            };
            Architecture {
                norm,
                activation,
                position,
                biases,
                sliding_window,
                tie_embeddings: tie,
                dropout: Dropout { embedding, attention, residual },
                ..arch()
            }
        },
    )
}

fn any_dims() -> impl Strategy<Value = Dims> {
    let sizes = (1u64..40, 1u64..20, 0u64..4, 1u64..20, 1u64..4, 1u64..4, 1u64..5, 1u64..40);
    sizes.prop_map(|(vocab_size, context_length, num_layers, hidden_size, kv, group, d, f)| Dims {
        vocab_size,
        context_length,
        num_layers,
        hidden_size,
        num_heads: kv * group,
        num_kv_heads: kv,
        head_dim: 2 * d,
        intermediate_size: f,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_polynomial_counts_every_concrete_module(arch in any_arch(), dims in any_dims()) {
        let polynomial = parameter_polynomial(&arch).unwrap();
        let module = build(&arch, &DimExprs::from(&dims)).unwrap();
        prop_assert_eq!(llmc_ir::verify::verify(&module), vec![]);
        prop_assert_eq!(llmc_ir::text::parse(&llmc_ir::text::print(&module)), Ok(module.clone()));
        let counted = i128::from(count(&module, "forward"));
        prop_assert_eq!(polynomial.eval(&dims.env()), Some(counted));
        prop_assert_eq!(count(&module, "loss"), count(&module, "forward"));
        let folded = skeleton(&arch, &DimExprs::from(&dims)).unwrap();
        prop_assert_eq!(folded.parameters("loss"), Expr::from(counted));
    }
}
