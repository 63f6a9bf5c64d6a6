//! A decoder and random tokens, for the examples that measure training.

use llmc_runtime::Engine;
use llmc_spec::{DimExprs, Goal, from_json, resolve};
use llmc_train::{Batch, Modules, Trainer, differentiate, optim};
use serde_json::json;
use std::time::Instant;

/// Dims of a decoder and of its batch.
#[derive(Clone, Copy)]
pub struct Shape {
    pub vocab: usize,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub ffn: usize,
    pub sequence: usize,
    pub batch: usize,
}

/// A trainer for the shape, and how many parameters it has.
pub fn trainer(shape: Shape, precision: &str, threads: usize) -> (Trainer, u64) {
    let Shape { vocab, hidden, layers, heads, kv_heads, ffn, sequence, batch } = shape;
    let spec = json!({
        "model": {
            "vocab_size": vocab, "context_length": sequence, "num_layers": layers,
            "hidden_size": hidden, "num_heads": heads, "num_kv_heads": kv_heads,
            "intermediate_size": ffn, "activation": "swiglu", "norm": "rmsnorm",
            "tie_embeddings": true, "attention": "gqa",
        },
        "dataset": {"domains": ["synthetic"], "target_tokens": 100},
        "tokenizer": {"type": "char", "vocab_size": vocab},
        "optimizer": {"type": "adamw", "lr": 1e-3, "max_grad_norm": 1.0},
        "training": {
            "batch_size": batch, "microbatch_size": batch, "max_steps": 1000, "precision": precision,
        },
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
    let trainer = Trainer::new(modules, &optimizer, &training, engine).expect("plans");
    (trainer, model.solution.params)
}

/// The seconds of the median step, of so many after two.
pub fn median_step(trainer: &mut Trainer, shape: Shape, steps: usize) -> f64 {
    let (rows, length) = (shape.batch, shape.sequence);
    let n = rows * length;
    let mut times = Vec::new();
    for step in 0..steps + 2 {
        // A linear congruential walk: tokens that nothing can learn in a few steps.
        let id = |i: usize| ((i + step * n).wrapping_mul(2_654_435_761) >> 7) % shape.vocab;
        let batch = Batch {
            first_sample: (step * rows) as u64,
            rows,
            tokens: (0..n).map(|i| id(i) as i32).collect(),
            targets: (0..n).map(|i| id(i + 1) as i32).collect(),
            positions: (0..n).map(|i| (i % length) as i32).collect(),
            segments: vec![0; n],
            weights: vec![1.0; n],
        };
        let began = Instant::now();
        trainer.step(&batch).expect("a finite step");
        times.push(began.elapsed().as_secs_f64());
    }
    let timed = &mut times[2..];
    timed.sort_by(f64::total_cmp);
    timed[timed.len() / 2]
}
