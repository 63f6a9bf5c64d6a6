//! A step is a pure function of the program: neither threads, nor the micro-batch split, nor the
//! instruction set leave a trace in the weights.

mod exactness;
mod float16;
mod lora;
mod mup;
mod update;

use crate::{Batch, Modules, Plans, TrainError, Trainer, differentiate, optim};
use llmc_runtime::{Engine, Isa};
use llmc_spec::{
    Goal, GradientCheckpointing, OptimizerConfig, OptimizerKind, Resolved, TrainingConfig,
    from_json, resolve,
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

/// A training with every default.
pub(crate) fn plain_training() -> TrainingConfig {
    resolved(llama(), json!({})).training.expect("there is a training")
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
        let optimizer: OptimizerConfig = r.optimizer.expect("there is an optimizer");
        let training: TrainingConfig = r.training.expect("there is a training");
        let module = crate::with_z_loss(&module, training.z_loss).expect("one cross entropy");
        let module = crate::with_lora(&module, &training)?;
        let gradient = differentiate(&module, &optimizer, &training, self.engine.threads())?;
        let parameters = optim::parameters(&gradient, "grad").expect("accumulators");
        let width = model.architecture.width_multiplier(model.dims.hidden_size);
        let parameters = optim::widened(parameters, width);
        let modules = Modules {
            model: &module,
            gradient: &gradient,
            parameters,
            n_layers: model.dims.num_layers,
            init: model.architecture.init,
        };
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

#[test]
fn no_optimiser_sees_threads_micro_batches_or_instruction_sets() {
    for kind in ["sgd", "muon", "lion"] {
        let trainer = |micro, threads, isa| {
            let mut setup = Setup::new(llama(), training(6, micro), threads, isa);
            let spec = json!({"optimizer": {"type": kind, "lr": 1e-2}});
            let spec = from_json(&spec, &[]).0.expect("good");
            let resolved = resolve(&spec, Goal::Written, &|_| unreachable!("no model"));
            setup.resolved.optimizer = resolved.expect("good").optimizer;
            setup.trainer()
        };
        let reference = run(trainer(6, 1, None), 3, 6);
        for (micro, threads) in [(2, 3), (1, 2)] {
            assert!(
                run(trainer(micro, threads, None), 3, 6) == reference,
                "{kind} {micro} {threads}"
            );
        }
        for isa in Isa::available() {
            assert!(run(trainer(3, 2, Some(isa)), 3, 6) == reference, "{kind} {isa:?}");
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
        Some("muon") => OptimizerKind::Muon,
        Some("lion") => OptimizerKind::Lion,
        _ => OptimizerKind::AdamW,
    };
    spec.ns_steps = 5;
    spec.adamw_parameters = vec!["*embedding*".to_string(), "lm_head.*".to_string()];
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

/// Gradient of the first batch at these weights: what plain SGD takes away, at a rate that makes it
/// large beside the rounding of the weights.
fn gradient(at: &BTreeMap<String, Vec<f64>>) -> BTreeMap<String, Vec<f64>> {
    let lr = 1024.0;
    let mut trainer = with_optimizer(json!({"type": "sgd", "lr": lr}), Some(at));
    trainer.step(&batch(0, 4, 8)).expect("finite");
    let after = weights(&trainer);
    let minus = |(path, w): (&String, &Vec<f64>)| {
        (path.clone(), w.iter().zip(&after[path]).map(|(w, next)| (w - next) / lr).collect())
    };
    at.iter().map(minus).collect()
}

/// Two steps of a trainer against the formulas of its optimiser, in f64: the decay and its
/// exemptions, the global norm and its clip, the moments.
fn check_optimizer(optimizer: Value, rule: impl Fn(f64, f64, f64, &mut [f64; 2], i32) -> f64) {
    let each = |_: &optim::Parameter, w: &[f64], g: &[f64], decay, kept: &mut [[f64; 2]], t| {
        (0..w.len()).map(|i| rule(w[i], g[i], decay, &mut kept[i], t)).collect()
    };
    check_tensors(optimizer, each);
}

/// The same with a rule over whole tensors: weights, gradient, decay, moments, step → weights.
fn check_tensors(
    optimizer: Value,
    rule: impl Fn(&optim::Parameter, &[f64], &[f64], f64, &mut [[f64; 2]], i32) -> Vec<f64>,
) {
    let mut trainer = with_optimizer(optimizer.clone(), None);
    let mut moments: BTreeMap<String, Vec<[f64; 2]>> = BTreeMap::new();
    // Elements for which the rule gives no number, because any is right.
    let mut n_any = 0;
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
            let clipped: Vec<f64> = gradient[&p.path].iter().map(|g| g * clip).collect();
            let wanted = rule(p, &before[&p.path], &clipped, decay, kept, t);
            for (i, (w, want)) in before[&p.path].iter().zip(wanted).enumerate() {
                let (got, moved) = (after[&p.path][i], (want - w).abs());
                n_any += usize::from(want.is_nan());
                let is_near = (got - want).abs() < 2e-6 + 1e-3 * moved;
                assert!(want.is_nan() || is_near, "{}[{i}]: {got} {want}", p.path);
            }
        }
    }
    assert!(n_any < 20, "{n_any} elements could be anything");
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

/// AdamW of the tests below: its betas and eps are these.
fn adamw(lr: f64, w: f64, g: f64, decay: f64, [m, v]: &mut [f64; 2], t: i32) -> f64 {
    *m = 0.8 * *m + 0.2 * g;
    *v = 0.9 * *v + 0.1 * g * g;
    let (m, v) = (*m / (1.0 - 0.8f64.powi(t)), *v / (1.0 - 0.9f64.powi(t)));
    w - lr * decay * w - lr * m / (v.sqrt() + 1e-2)
}

/// x: [rows, columns] → its product with the transpose of y: [other, columns].
fn times_transposed(x: &[f64], y: &[f64], columns: usize) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    x.chunks(columns).flat_map(|a| y.chunks(columns).map(move |b| dot(a, b))).collect()
}

fn transposed(x: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|j| x.iter().skip(j).step_by(columns)).copied().collect()
}

/// Newton–Schulz in f64, on the side of the rows whatever the shape.
fn newton_schulz(x: &[f64], columns: usize) -> Vec<f64> {
    let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut x: Vec<f64> = x.iter().map(|x| x / (norm + 1e-7)).collect();
    for _ in 0..5 {
        let a = times_transposed(&x, &x, columns);
        let n = x.len() / columns;
        let square = times_transposed(&a, &a, n); // a is symmetric
        let p: Vec<f64> = a.iter().zip(square).map(|(a, s)| -4.775 * a + 2.0315 * s).collect();
        let bent = times_transposed(&p, &transposed(&x, columns), n);
        x = x.iter().zip(bent).map(|(x, b)| 3.4445 * x + b).collect();
    }
    x
}

#[test]
fn muon_is_its_formula_and_leaves_the_rest_to_adamw() {
    let (lr, momentum) = (0.02, 0.9);
    let optimizer = json!({
        "type": "muon", "lr": lr, "weight_decay": 0.3, "momentum": momentum, "beta1": 0.8,
        "beta2": 0.9, "eps": 1e-2, "max_grad_norm": 0.5,
    });
    check_tensors(optimizer, |p, w, g, decay, kept, t| {
        if p.ty.rank() < 2 || p.path == "embedding.weight" {
            return (0..w.len()).map(|i| adamw(lr, w[i], g[i], decay, &mut kept[i], t)).collect();
        }
        let sides = [0, 1].map(|axis| p.ty.shape[axis].as_usize().expect("a number"));
        let mut ahead = Vec::new();
        for (g, [m, _]) in g.iter().zip(kept) {
            *m = momentum * *m + g;
            ahead.push(g + momentum * *m);
        }
        let o = newton_schulz(&ahead, sides[1]);
        let scale = lr * 0.2 * (sides[0].max(sides[1]) as f64).sqrt();
        w.iter().zip(o).map(|(w, o)| w - lr * decay * w - scale * o).collect()
    });
}

#[test]
fn lion_is_its_formula() {
    let lr = 0.01;
    let optimizer = json!({
        "type": "lion", "lr": lr, "weight_decay": 0.3, "beta1": 0.8, "beta2": 0.9,
    });
    check_optimizer(optimizer, |w, g, decay, [m, _], _| {
        let c = 0.8 * *m + 0.2 * g;
        *m = 0.9 * *m + 0.1 * g;
        // Below the rounding of the gradient the sign is anyone's; an unused row has none.
        let sign = match c.abs() {
            0.0 => 0.0,
            small if small < 1e-9 => f64::NAN,
            _ => c.signum(),
        };
        w - lr * decay * w - lr * sign
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
fn training_in_bf16_leaves_no_trace_and_stays_near_f32() {
    // An odd and an even sequence length: pairs of tokens stay within a sequence.
    for length in [7, 8] {
        let model = json!({
            "vocab_size": 32, "context_length": 8, "num_layers": 2, "hidden_size": 16,
            "num_heads": 4, "num_kv_heads": 2, "intermediate_size": 24, "activation": "swiglu",
            "norm": "rmsnorm", "attention": "gqa",
        });
        let with = |precision: &str, micro: u64, threads, isa, checkpointing: &str| {
            let training = json!({
                "batch_size": 6, "microbatch_size": micro, "sequence_length": length,
                "max_steps": 12, "precision": precision, "gradient_checkpointing": checkpointing,
            });
            Setup::new(model.clone(), training, threads, isa).trainer()
        };
        let steps = |mut trainer: Trainer, n: u64| {
            let losses: Vec<f64> = (0..n)
                .map(|step| trainer.step(&batch(step % 2, 6, length)).expect("finite").loss)
                .collect();
            let bits: Vec<u64> =
                weights(&trainer).into_values().flatten().map(f64::to_bits).collect();
            (bits, losses)
        };
        let reference = steps(with("bfloat16", 6, 1, None, "none"), 3);
        for (micro, threads) in [(3, 2), (2, 8), (1, 3)] {
            let other = steps(with("bfloat16", micro, threads, None, "block"), 3);
            assert!(other == reference, "length {length}, micro-batch {micro}, {threads} threads");
        }
        for isa in Isa::available() {
            assert!(steps(with("bfloat16", 2, 2, Some(isa), "none"), 3) == reference, "{isa:?}");
        }
        let (_, narrow) = steps(with("bfloat16", 6, 2, None, "none"), 12);
        let (_, wide) = steps(with("float32", 6, 2, None, "none"), 12);
        assert_ne!(narrow, wide);
        for (a, b) in narrow.iter().zip(&wide) {
            assert!((a - b).abs() < 0.02, "{narrow:?}\n{wide:?}");
        }
    }
}

#[test]
fn recomputation_takes_less_memory_and_leaves_no_trace() {
    let model = || {
        json!({
            "vocab_size": 32, "context_length": 32, "num_layers": 4, "hidden_size": 32,
            "num_heads": 4, "intermediate_size": 96, "activation": "swiglu", "norm": "rmsnorm",
            "attention": "mha", "dropout": 0.1,
        })
    };
    let with = |checkpointing: Value| {
        let training = json!({
            "batch_size": 4, "microbatch_size": 4, "sequence_length": 8, "max_steps": 6,
            "gradient_checkpointing": checkpointing,
        });
        Setup::new(model(), training, 1, None).trainer_or_error()
    };
    // What the largest frame and the weights take, without the scratch of the kernels.
    let bytes = |trainer: &Trainer| trainer.memory_bytes();
    let (none, block) = (with(json!("none")).expect("plans"), with(json!("block")).expect("plans"));
    let (most, least) = (bytes(&none), bytes(&block));
    assert!(least < most, "{least} of {most}");
    let scratch = 16 << 20;
    let between = with(json!({"budget": (most + least) / 2 + scratch})).expect("fits");
    let reference = run(none, 3, 4);
    assert!(run(block, 3, 4) == reference);
    assert!(run(between, 3, 4) == reference);
    let error = with(json!({"budget": 4096})).err().expect("too small").to_string();
    assert!(error.contains("train::budget") && error.contains("4096"), "{error}");
}

#[test]
fn a_budget_is_kept_with_as_little_recomputation_as_fits() {
    let r = resolved(
        json!({
            "vocab_size": 64, "context_length": 64, "num_layers": 6, "hidden_size": 64,
            "num_heads": 4, "intermediate_size": 192, "activation": "swiglu", "norm": "rmsnorm",
            "attention": "mha",
        }),
        json!({"batch_size": 8, "microbatch_size": 8, "max_steps": 6}),
    );
    let model = r.model.expect("there is a model");
    let dims = llmc_spec::DimExprs::from(&model.dims);
    let module = llmc_model::build(&model.architecture, &dims).expect("builds");
    let optimizer = r.optimizer.expect("there is an optimizer");
    let training = r.training.expect("there is a training");
    let with = |checkpointing| {
        let training = TrainingConfig { gradient_checkpointing: checkpointing, ..training.clone() };
        let gradient = differentiate(&module, &optimizer, &training, 1)?;
        let parameters = optim::parameters(&gradient, "grad")?;
        let plans = Plans::new(&module, &gradient, &parameters, &optimizer, &training)?;
        Ok::<_, TrainError>((plans.bytes(1), plans.gradient.flops))
    };
    let (most, fewest_flops) = with(GradientCheckpointing::None).expect("plans");
    let (least, most_flops) = with(GradientCheckpointing::Block).expect("plans");
    assert!(least < most && fewest_flops < most_flops);
    let mut flops = vec![most_flops];
    for part in 0..=4 {
        let budget = least + (most - least) * part / 4;
        let (bytes, work) = with(GradientCheckpointing::Budget(budget)).expect("fits");
        assert!(bytes <= budget, "{bytes} > {budget}");
        assert!(work <= flops[flops.len() - 1], "{work} after {flops:?}");
        flops.push(work);
    }
    assert!(flops[1] > flops[3] && flops[3] > flops[5], "{flops:?}");
    assert_eq!(flops[5], fewest_flops);
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
    let mut mup = llama();
    mup["parametrization"] = json!("mup");
    mup["mup"] = json!({ "base_hidden_size": 12, "base_head_dim": 3 });
    for model in [llama(), windowed, mup] {
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
