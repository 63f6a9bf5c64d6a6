//! Training speed of the engine on random tokens: what `benches/run.sh` compares with PyTorch.
//!
//! ```text
//! cargo run --release -p llmc-train --example train_speed -- b 6 2
//! ```
//!
//! Arguments: size (`tiny`, `b` of 7.9 M parameters, `c` of 46 M), timed steps, threads, `float32` or
//! `bfloat16`. Prints tokens per second of the median step.

use llmc_runtime::Engine;
use llmc_spec::{DimExprs, Goal, from_json, resolve};
use llmc_train::{Batch, Modules, Trainer, differentiate, optim};
use serde_json::json;
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1);
    let size = args.next().unwrap_or_else(|| "b".to_string());
    let steps: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(6);
    let threads: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(2);
    let precision = args.next().unwrap_or_else(|| "float32".to_string());
    // vocab, hidden, layers, heads, kv heads, ffn, sequence, batch
    let (v, e, l, h, k, f, t, b) = match size.as_str() {
        "tiny" => (32, 16, 1, 2, 1, 32, 16, 2),
        "c" => (16384, 512, 12, 8, 8, 1376, 512, 4),
        _ => (8192, 256, 8, 8, 4, 688, 256, 8),
    };
    let spec = json!({
        "model": {
            "vocab_size": v, "context_length": t, "num_layers": l, "hidden_size": e,
            "num_heads": h, "num_kv_heads": k, "intermediate_size": f, "activation": "swiglu",
            "norm": "rmsnorm", "tie_embeddings": true, "attention": "gqa",
        },
        "dataset": {"domains": ["synthetic"], "target_tokens": 100},
        "tokenizer": {"type": "char", "vocab_size": v},
        "optimizer": {"type": "adamw", "lr": 1e-3, "max_grad_norm": 1.0},
        "training": {"batch_size": b, "microbatch_size": b, "max_steps": 1000, "precision": precision},
    });
    let (spec, diagnostics) = from_json(&spec, &[]);
    let spec = spec.unwrap_or_else(|| panic!("{diagnostics:?}"));
    let count =
        |a: &llmc_spec::Architecture| llmc_model::parameter_polynomial(a).unwrap_or_default();
    let resolved = resolve(&spec, Goal::Model, &count).unwrap_or_else(|d| panic!("{d:?}"));
    let model = resolved.model.expect("the spec has a model");
    let module =
        llmc_model::build(&model.architecture, &DimExprs::from(&model.dims)).expect("builds");
    let optimizer = resolved.optimizer.expect("written");
    let training = resolved.training.expect("written");
    let gradient = differentiate(&module, &optimizer, &training, threads).expect("differentiable");
    let modules = Modules {
        model: &module,
        gradient: &gradient,
        parameters: optim::parameters(&gradient, "grad").expect("accumulators"),
        n_layers: model.dims.num_layers,
        init: model.architecture.init,
    };
    let engine = Engine::new(threads, None).expect("an engine");
    let isa = engine.isa();
    let mut trainer = Trainer::new(modules, &optimizer, &training, engine).expect("plans");
    let n = b * t;
    let mut times = Vec::new();
    for step in 0..steps + 2 {
        // A linear congruential walk: tokens that nothing can learn in a few steps.
        let id = |i: usize| ((i + step * n).wrapping_mul(2_654_435_761) >> 7) % v;
        let batch = Batch {
            first_sample: (step * b) as u64,
            rows: b,
            tokens: (0..n).map(|i| id(i) as i32).collect(),
            targets: (0..n).map(|i| id(i + 1) as i32).collect(),
            positions: (0..n).map(|i| (i % t) as i32).collect(),
            segments: vec![0; n],
            weights: vec![1.0; n],
        };
        let began = Instant::now();
        trainer.step(&batch).expect("a finite step");
        times.push(began.elapsed().as_secs_f64());
    }
    let mut timed = times[2..].to_vec();
    timed.sort_by(f64::total_cmp);
    let median = timed[timed.len() / 2];
    eprintln!(
        "{} parameters, {isa:?}, {threads} threads, {:.2} ms a step, {:.1} MiB",
        model.solution.params,
        median * 1e3,
        trainer.memory_bytes() as f64 / (1 << 20) as f64
    );
    println!("{:.1}", n as f64 / median);
}
