//! The engine is the `rounded` evaluator, bit for bit: every op's samples and whole gradient modules,
//! on every instruction set of this machine and for several thread counts.

use llmc_base::expr::{Env, Symbol};
use llmc_ir::eval::{self, Data, EvalOptions, Mode, Tensor};
use llmc_ir::sample::{Fill, filled};
use llmc_ir::{Class, DType, FuncId, FunctionBuilder, Module, Op, TensorType};
use llmc_plan::{AddressSpace, Kernel, Plan, plan};
use llmc_runtime::{Engine, Isa, Memory};
use llmc_spec::{DimExprs, Goal, from_json, resolve};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The words of a tensor, for comparison.
fn bits(tensor: &Tensor) -> Vec<u32> {
    match &tensor.data {
        Data::Float(values) => values.iter().map(|v| (*v as f32).to_bits()).collect(),
        Data::Int(values) => values.iter().map(|v| *v as u32).collect(),
    }
}

/// Equal bits, except that any NaN equals any NaN (the payload is not defined).
fn same(a: &[u32], b: &[u32], dtype: DType) -> bool {
    let is_nan = |x: u32| dtype.is_float() && f32::from_bits(x).is_nan();
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x == y || (is_nan(*x) && is_nan(*y)))
}

fn engines() -> Vec<(Isa, usize, Engine)> {
    let mut engines = Vec::new();
    for isa in Isa::available() {
        for threads in [1, 2, 3] {
            engines.push((isa, threads, Engine::new(threads, Some(isa)).expect("available")));
        }
    }
    engines
}

fn runs_on_engine(types: &[TensorType]) -> bool {
    let runs = |t: &TensorType| {
        let is_wide = matches!(t.dtype, DType::I64 | DType::U64 | DType::F64);
        !is_wide && !matches!(t.dtype, DType::F8E4M3 | DType::F8E5M2)
    };
    types.iter().all(runs)
}

#[test]
fn every_op_on_the_engine_is_the_evaluator() {
    let mut engines = engines();
    let (mut native, mut compared) = (BTreeSet::new(), 0);
    for (name, samples) in Op::all_samples() {
        for (at, sample) in samples.good.iter().enumerate() {
            if sample.op.class() == Class::Region {
                continue;
            }
            let types: Vec<TensorType> = sample.operands.iter().map(|(t, _)| t.clone()).collect();
            let empty = Module::default();
            let results = sample.op.infer(&empty, &types).expect("a good sample");
            if !runs_on_engine(&types) || !runs_on_engine(&results) {
                continue;
            }
            let tensors = sample.tensors(at as u64 + 1);
            let expected =
                eval::op(&empty, &sample.op, &tensors, Mode::Rounded).expect("evaluates");
            let (module, entry) = one_node(&sample.op, &types);
            let mut space = AddressSpace::default();
            let plan = plan(&module, entry, &Env::new(), &mut space).expect("plans");
            if plan
                .launches
                .iter()
                .any(|l| l.kernel != Kernel::Evaluate && l.kernel != Kernel::Copy)
            {
                native.insert(name);
            }
            for (isa, threads, engine) in &mut engines {
                let mut memory = Memory::default();
                memory.reserve(&space, [&plan]).expect("small");
                for ((_, view), tensor) in plan.inputs.iter().zip(&tensors) {
                    memory.write_tensor(view, tensor);
                }
                engine.run(&plan, &mut memory).unwrap_or_else(|e| panic!("{name} {at}: {e}"));
                for ((_, view), tensor) in plan.outputs.iter().zip(&expected) {
                    assert!(
                        same(&bits(&memory.tensor(view)), &bits(tensor), view.dtype),
                        "{name}, sample {at}, {isa:?}, {threads} threads"
                    );
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 300, "only {compared} comparisons");
    // What the training of a decoder spends its time on must not fall back to the evaluator.
    for op in [
        "linear",
        "linear_weight_grad",
        "dot",
        "rms_norm",
        "layer_norm",
        "attention",
        "attention_backward",
        "rope",
        "swiglu",
        "swiglu_backward",
        "cross_entropy",
        "cross_entropy_backward",
        "embedding",
        "embedding_grad",
        "adamw_step",
        "sgd_step",
        "packed_linear",
        "packed_embedding",
        "quantized_linear",
        "group_quantized_linear",
        "quantized_embedding",
        "quantize_rows",
        "update_slice",
        "cast",
    ] {
        assert!(native.contains(op), "`{op}` has no kernel in the plan");
    }
}

fn one_node(op: &Op, types: &[TensorType]) -> (Module, FuncId) {
    let empty = Module::new("one");
    let mut b = FunctionBuilder::new(&empty, "main");
    let inputs: Vec<_> =
        types.iter().enumerate().map(|(i, t)| b.input(&format!("x{i}"), t.clone())).collect();
    let results = b.op(op.clone(), &inputs).expect("a good sample");
    for (i, value) in results.into_iter().enumerate() {
        b.output(&format!("y{i}"), value);
    }
    let function = b.finish();
    let mut module = Module::new("one");
    let entry = module.add(function);
    (module, entry)
}

fn gradient_module(model: Value) -> Module {
    let (spec, diagnostics) = from_json(&json!({ "model": model }), &[]);
    let spec = spec.unwrap_or_else(|| panic!("{diagnostics:#?}"));
    let count = |a: &llmc_spec::Architecture| llmc_model::parameter_polynomial(a).expect("builds");
    let resolved = resolve(&spec, Goal::Model, &count).unwrap_or_else(|d| panic!("{d:#?}"));
    let model = resolved.model.expect("there is a model");
    let dims = DimExprs::from(&model.dims);
    let module = llmc_model::build(&model.architecture, &dims).expect("builds");
    llmc_passes::autodiff(&module, &Default::default()).expect("differentiable")
}

/// A tensor for an input of `@grad`, by its name.
fn input(name: &str, ty: &TensorType, vocab: i64) -> Tensor {
    let fill = match name {
        "tokens" | "targets" => Fill::Below(vocab),
        "positions" => Fill::Positions,
        "segments" => Fill::Segments,
        "weights" => Fill::Constant(1.0),
        "norm" => Fill::Constant(0.05),
        _ => Fill::Below(7),
    };
    filled(ty, fill, name.len() as u64)
}

#[test]
fn whole_gradients_on_the_engine_are_the_evaluator() {
    let models = [
        json!({
            "vocab_size": 40, "context_length": 17, "num_layers": 2, "hidden_size": 24,
            "num_heads": 4, "num_kv_heads": 2, "head_dim": 8, "intermediate_size": 40,
            "activation": "swiglu", "norm": "rmsnorm", "tie_embeddings": true,
        }),
        json!({
            "vocab_size": 33, "context_length": 17, "num_layers": 1, "hidden_size": 18,
            "num_heads": 2, "intermediate_size": 30, "activation": "gelu_tanh",
            "norm": "layernorm", "positional_encoding": "learned", "bias": true,
            "attention": "mha", "tie_embeddings": false, "dropout": 0.1,
        }),
        json!({
            "vocab_size": 33, "context_length": 17, "num_layers": 1, "hidden_size": 16,
            "num_heads": 4, "intermediate_size": 32, "activation": "gelu", "norm": "none",
            "attention": "sliding_window", "sliding_window_size": 5, "num_kv_heads": 1,
        }),
    ];
    for model in models {
        let vocab = model["vocab_size"].as_i64().expect("a number");
        let module = gradient_module(model);
        let entry = module.find("grad").expect("the gradient");
        let env = Env::from([(Symbol::new("B"), 3), (Symbol::new("T"), 17)]);
        let mut space = AddressSpace::default();
        let plan = plan(&module, entry, &env, &mut space).expect("plans");
        check_gradient(&module, entry, &env, &space, &plan, vocab);
    }
}

fn check_gradient(
    module: &Module,
    entry: FuncId,
    env: &Env,
    space: &AddressSpace,
    plan: &Plan,
    vocab: i64,
) {
    let f = module.function(entry);
    let inputs: Vec<Tensor> = f
        .inputs()
        .zip(&plan.inputs)
        .map(|(v, (name, _))| input(name, &f.ty(v).bind(env), vocab))
        .collect();
    // Persistent tensors by path: accumulators start at something other than zero.
    let persistent: BTreeMap<String, Tensor> = space
        .iter()
        .enumerate()
        .map(|(i, (path, view))| {
            let ty = TensorType::new(view.dtype, view.shape.iter().copied());
            (path.to_string(), filled(&ty, Fill::Normal, i as u64 + 100))
        })
        .collect();
    let is_state = |path: &str| path.contains(".grad") || path == "loss";
    let states: BTreeMap<String, Tensor> = persistent
        .iter()
        .filter(|(p, _)| is_state(p))
        .map(|(p, t)| (p.clone(), t.clone()))
        .collect();
    let weights = |path: &str| persistent.get(path).cloned();
    let options = EvalOptions::new(Mode::Rounded);
    let expected =
        eval::run(module, entry, &inputs, &weights, &states, &options).expect("evaluates");
    for (isa, threads, mut engine) in engines() {
        let mut memory = Memory::default();
        memory.reserve(space, [plan]).expect("small");
        for (path, tensor) in &persistent {
            memory.write_tensor(space.get(path).expect("placed"), tensor);
        }
        for ((_, view), tensor) in plan.inputs.iter().zip(&inputs) {
            memory.write_tensor(view, tensor);
        }
        engine.run(plan, &mut memory).expect("runs");
        for (path, tensor) in &expected.states {
            let view = space.get(path).expect("placed");
            assert!(
                same(&bits(&memory.tensor(view)), &bits(tensor), view.dtype),
                "`{path}` differs on {isa:?} with {threads} threads"
            );
        }
    }
}
