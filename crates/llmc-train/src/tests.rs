//! A step is a pure function of the program: neither threads, nor the micro-batch split, nor the
//! instruction set leave a trace in the weights.

use crate::{Batch, Modules, TrainError, Trainer, optim};
use llmc_runtime::{Engine, Isa};
use llmc_spec::{
    Goal, OptimizerConfig, OptimizerKind, Resolved, TrainingConfig, from_json, resolve,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn resolved(model: Value, training: Value) -> Resolved {
    let spec = json!({
        "model": model,
        "dataset": {"domains": ["synthetic"], "target_tokens": 100},
        "tokenizer": {"type": "char", "vocab_size": 32},
        "optimizer": {"type": "adamw", "lr": 1e-2},
        "training": training,
    });
    let (spec, diagnostics) = from_json(&spec, &[]);
    let spec = spec.unwrap_or_else(|| panic!("{diagnostics:#?}"));
    let params = |arch: &llmc_spec::Architecture| {
        llmc_model::parameter_polynomial(arch).expect("the template builds")
    };
    resolve(&spec, Goal::Training, &params).unwrap_or_else(|d| panic!("{d:#?}"))
}

fn llama() -> Value {
    json!({
        "vocab_size": 32, "context_length": 8, "num_layers": 2, "hidden_size": 16, "num_heads": 4,
        "num_kv_heads": 2, "intermediate_size": 24, "activation": "swiglu", "norm": "rmsnorm",
        "tie_embeddings": true,
    })
}

fn training(batch: u64, micro: u64) -> Value {
    json!({"batch_size": batch, "microbatch_size": micro, "max_steps": 6})
}

struct Setup {
    resolved: Resolved,
    engine: Engine,
}

impl Setup {
    fn new(model: Value, training: Value, threads: usize, isa: Option<Isa>) -> Self {
        let engine = Engine::new(threads, isa).expect("available");
        Setup { resolved: resolved(model, training), engine }
    }

    fn trainer(self) -> Trainer {
        self.trainer_or_error().expect("plans")
    }

    fn trainer_or_error(self) -> Result<Trainer, TrainError> {
        let r = self.resolved;
        let model = r.model.expect("there is a model");
        let dims = llmc_spec::DimExprs::from(&model.dims);
        let module = llmc_model::build(&model.architecture, &dims).expect("builds");
        let gradient = llmc_passes::autodiff(&module, &Default::default()).expect("differentiable");
        let parameters = optim::parameters(&gradient, "grad").expect("accumulators");
        let modules = Modules {
            model: &module,
            gradient: &gradient,
            parameters,
            n_layers: model.dims.num_layers,
            init: model.architecture.init,
        };
        let optimizer: OptimizerConfig = r.optimizer.expect("there is an optimizer");
        let training: TrainingConfig = r.training.expect("there is a training");
        Trainer::new(modules, &optimizer, &training, self.engine)
    }
}

/// Rows with two segments and some empty slots.
fn batch(step: u64, rows: usize, length: usize) -> Batch {
    let n = rows * length;
    let id = |i: usize, salt: usize| ((i * 7 + step as usize * 13 + salt) % 31) as i32;
    let cut = length / 2 + 1;
    Batch {
        first_sample: step * rows as u64,
        rows,
        tokens: (0..n).map(|i| id(i, 0)).collect(),
        targets: (0..n).map(|i| id(i + 1, 0)).collect(),
        positions: (0..n)
            .map(|i| (if i % length < cut { i % length } else { i % length - cut }) as i32)
            .collect(),
        segments: (0..n).map(|i| i32::from(i % length >= cut)).collect(),
        weights: (0..n)
            .map(|i| if i % length == length - 1 && i % 3 == 0 { 0.0 } else { 1.0 })
            .collect(),
    }
}

/// All weights and moments after `steps`, by bits, and the losses, of which the last is held out.
fn run(mut trainer: Trainer, steps: u64, rows: usize) -> (Vec<u32>, Vec<f64>) {
    let mut losses: Vec<f64> = (0..steps)
        .map(|step| trainer.step(&batch(step % 2, rows, 8)).expect("finite").loss)
        .collect();
    let mut bits = Vec::new();
    let paths: Vec<String> = trainer.parameters().iter().map(|p| p.path.clone()).collect();
    for path in paths.into_iter().chain(trainer.moment_paths()) {
        bits.extend(trainer.tensor(&path).expect("placed").1.iter().map(|x| x.to_bits()));
    }
    losses.push(trainer.evaluate(&batch(9, 2 * rows - 1, 8)).expect("runs").0);
    (bits, losses)
}

#[test]
fn the_loss_falls() {
    let trainer = Setup::new(llama(), training(4, 4), 1, None).trainer();
    let (_, losses) = run(trainer, 12, 4);
    assert!(losses[11] < losses[0] - 0.3, "{losses:?}");
    assert!((losses[0] - 32f64.ln()).abs() < 0.3, "{losses:?}");
}

#[test]
fn threads_micro_batches_and_instruction_sets_leave_no_trace() {
    let models = [
        llama(),
        json!({
            "vocab_size": 32, "context_length": 8, "num_layers": 1, "hidden_size": 16,
            "num_heads": 2, "intermediate_size": 20, "activation": "gelu_tanh", "norm": "layernorm",
            "positional_encoding": "learned", "tie_embeddings": false, "bias": true,
            "attention": "mha", "dropout": 0.1,
        }),
    ];
    for model in models {
        let reference = run(Setup::new(model.clone(), training(6, 6), 1, None).trainer(), 3, 6);
        for (micro, threads) in [(6, 2), (3, 3), (2, 8), (1, 1), (1, 2)] {
            let setup = Setup::new(model.clone(), training(6, micro), threads, None);
            let other = run(setup.trainer(), 3, 6);
            assert!(other == reference, "micro-batch {micro}, {threads} threads");
        }
        for isa in Isa::available() {
            let setup = Setup::new(model.clone(), training(6, 2), 2, Some(isa));
            assert!(run(setup.trainer(), 3, 6) == reference, "{isa:?}");
        }
    }
}

/// Weights by path.
fn weights(trainer: &Trainer) -> BTreeMap<String, Vec<f64>> {
    let path = |p: &optim::Parameter| p.path.clone();
    let values =
        |p: &str| trainer.tensor(p).expect("placed").1.iter().map(|x| f64::from(*x)).collect();
    trainer.parameters().iter().map(path).map(|p| (p.clone(), values(&p))).collect()
}

/// A trainer with this optimizer and a constant schedule; its weights are those of `from`.
fn with_optimizer(optimizer: Value, from: Option<&BTreeMap<String, Vec<f64>>>) -> Trainer {
    let mut setup = Setup::new(
        llama(),
        json!({"batch_size": 4, "microbatch_size": 2, "max_steps": 6, "schedule": "constant"}),
        1,
        None,
    );
    let mut spec = setup.resolved.optimizer.take().expect("there is an optimizer");
    let set = |name: &str| optimizer[name].as_f64().unwrap_or(0.0);
    spec.kind = match optimizer["type"].as_str() {
        Some("sgd") => OptimizerKind::Sgd,
        _ => OptimizerKind::AdamW,
    };
    (spec.lr, spec.weight_decay, spec.momentum) = (set("lr"), set("weight_decay"), set("momentum"));
    (spec.beta1, spec.beta2, spec.eps) = (set("beta1"), set("beta2"), set("eps"));
    spec.max_grad_norm = optimizer["max_grad_norm"].as_f64();
    spec.no_decay = vec!["1-D".to_string(), "layers.1.*".to_string()];
    setup.resolved.optimizer = Some(spec);
    let mut trainer = setup.trainer();
    for (path, values) in from.into_iter().flatten() {
        let out = trainer.tensor_mut(path).expect("placed");
        out.iter_mut().zip(values).for_each(|(out, x)| *out = *x as f32);
    }
    trainer
}

/// Gradient of the first batch at these weights: what plain SGD with lr 1 takes away.
fn gradient(at: &BTreeMap<String, Vec<f64>>) -> BTreeMap<String, Vec<f64>> {
    let mut trainer = with_optimizer(json!({"type": "sgd", "lr": 1.0}), Some(at));
    trainer.step(&batch(0, 4, 8)).expect("finite");
    let after = weights(&trainer);
    let minus = |(path, w): (&String, &Vec<f64>)| {
        (path.clone(), w.iter().zip(&after[path]).map(|(w, next)| w - next).collect())
    };
    at.iter().map(minus).collect()
}

/// Two steps of a trainer against the formulas of its optimiser, in f64: the decay and its
/// exemptions, the global norm and its clip, the moments.
fn check_optimizer(optimizer: Value, rule: impl Fn(f64, f64, f64, &mut [f64; 2], i32) -> f64) {
    let mut trainer = with_optimizer(optimizer.clone(), None);
    let mut moments: BTreeMap<String, Vec<[f64; 2]>> = BTreeMap::new();
    for t in 1..=2 {
        let before = weights(&trainer);
        let gradient = gradient(&before);
        let norm = gradient.values().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let report = trainer.step(&batch(0, 4, 8)).expect("finite");
        assert!((report.grad_norm / norm - 1.0).abs() < 1e-4, "{} {norm}", report.grad_norm);
        let clip = optimizer["max_grad_norm"].as_f64().map_or(1.0, |max| (max / norm).min(1.0));
        let after = weights(&trainer);
        for p in trainer.parameters() {
            let is_exempt = p.ty.rank() <= 1 || p.path.starts_with("layers.1.");
            let decay = if is_exempt { 0.0 } else { optimizer["weight_decay"].as_f64().unwrap() };
            let kept = moments.entry(p.path.clone()).or_default();
            kept.resize(before[&p.path].len(), [0.0; 2]);
            for (i, w) in before[&p.path].iter().enumerate() {
                let want = rule(*w, gradient[&p.path][i] * clip, decay, &mut kept[i], t);
                let (got, moved) = (after[&p.path][i], (want - w).abs());
                assert!((got - want).abs() < 2e-6 + 1e-3 * moved, "{}[{i}]: {got} {want}", p.path);
            }
        }
    }
}

#[test]
fn adamw_is_its_formula() {
    let (lr, beta1, beta2, eps): (f64, f64, f64, f64) = (0.05, 0.8, 0.9, 1e-2);
    let optimizer = json!({
        "type": "adamw", "lr": lr, "weight_decay": 0.3, "beta1": beta1, "beta2": beta2, "eps": eps,
        "max_grad_norm": 0.5,
    });
    check_optimizer(optimizer, |w, g, decay, [m, v], t| {
        *m = beta1 * *m + (1.0 - beta1) * g;
        *v = beta2 * *v + (1.0 - beta2) * g * g;
        let (m, v) = (*m / (1.0 - beta1.powi(t)), *v / (1.0 - beta2.powi(t)));
        w - lr * decay * w - lr * m / (v.sqrt() + eps)
    });
}

#[test]
fn sgd_is_its_formula() {
    let (lr, momentum) = (0.1, 0.7);
    let optimizer = json!({
        "type": "sgd", "lr": lr, "weight_decay": 0.3, "momentum": momentum, "max_grad_norm": 0.5,
    });
    check_optimizer(optimizer, |w, g, decay, [m, _], _| {
        *m = momentum * *m + g + decay * w;
        w - lr * *m
    });
}

#[test]
fn a_memory_that_no_machine_has_is_an_error() {
    let setup = Setup::new(llama(), training(1 << 27, 1 << 27), 1, None);
    let error = setup.trainer_or_error().err().expect("an error");
    assert!(error.to_string().contains("bytes of memory"), "{error}");
}

#[test]
fn a_non_finite_weight_is_named_with_its_node_and_rows() {
    let mut trainer = Setup::new(llama(), training(4, 2), 1, None).trainer();
    trainer.tensor_mut("layers.1.mlp.up.weight").expect("placed")[0] = f32::INFINITY;
    let before: Vec<f32> = trainer.tensor("embedding.weight").expect("placed").1.to_vec();
    let error = trainer.step(&batch(0, 4, 8)).expect_err("not finite");
    let TrainError::NonFinite(found) = error else { panic!("{error}") };
    let node = found.node.expect("one node is the first");
    assert!(node.starts_with("layers.1: `linear`"), "{node}");
    assert_eq!(found.rows, 0..2);
    assert_eq!(trainer.tensor("embedding.weight").expect("placed").1, before);
}

#[test]
fn a_session_over_the_cache_gives_the_bits_of_the_whole_forward_pass() {
    let windowed = json!({
        "vocab_size": 32, "context_length": 8, "num_layers": 2, "hidden_size": 16, "num_heads": 2,
        "num_kv_heads": 1, "intermediate_size": 24, "attention": "sliding_window",
        "sliding_window_size": 3, "tie_embeddings": false,
    });
    for model in [llama(), windowed] {
        let setup = Setup::new(model.clone(), training(4, 4), 1, None);
        let r = setup.resolved.model.clone().expect("there is a model");
        let module = llmc_model::build(&r.architecture, &llmc_spec::DimExprs::from(&r.dims))
            .expect("builds");
        let mut trainer = setup.trainer();
        trainer.step(&batch(0, 4, 8)).expect("finite");
        let engine = Engine::new(2, None).expect("available");
        let mut session = llmc_runtime::Session::new(&module, 8, engine).expect("plans");
        for path in session.weights() {
            let values = trainer.tensor(&path).expect("placed").1.to_vec();
            session.weight_mut(&path).expect("placed").copy_from_slice(&values);
        }
        let ids = [3, 1, 4, 1, 5, 9, 2, 6];
        for n in 2..=ids.len() {
            let whole: Vec<u32> =
                trainer.next_logits(&ids[..n]).expect("runs").iter().map(|x| x.to_bits()).collect();
            let cached: Vec<u32> =
                session.next_logits(&ids[..n]).expect("runs").iter().map(|x| x.to_bits()).collect();
            assert_eq!(whole, cached, "{n} tokens");
        }
        // What the session was asked before leaves no trace: neither a text that ends like
        // another, nor where the window over a long text went on.
        let mut ask = |ids: &[u32]| -> Vec<u32> {
            session.next_logits(ids).expect("runs").iter().map(|x| x.to_bits()).collect()
        };
        let fresh = ask(&[0, 1, 3, 8]);
        ask(&[3]);
        assert_eq!(ask(&[0, 1, 3, 8]), fresh);
        // Another end, a few tokens more, and fewer.
        let first = ask(&[7, 2, 9, 4, 4, 1]);
        let other = ask(&[7, 2, 9, 4, 5, 3]);
        assert_eq!(ask(&[7, 2, 9, 4, 4, 1]), first);
        ask(&[7, 2, 9]);
        assert_eq!(ask(&[7, 2, 9, 4, 5, 3]), other);
        let long: Vec<u32> = (0..20).collect();
        let going_on: Vec<Vec<u32>> = (1..=20).map(|n| ask(&long[..n])).collect();
        for n in (1..=20).rev() {
            assert_eq!(ask(&long[..n]), going_on[n - 1], "{n} tokens");
        }
    }
}
