//! Adapters: only they move, whatever the optimiser; nothing else is kept for the weights beside them.

use super::*;
use llmc_passes::adapters::is_adapter;

/// A training of adapters of rank 3 beside the small model.
fn setup(precision: &str, micro: u64, threads: usize, isa: Option<Isa>) -> Setup {
    let lora = json!({"rank": 3, "alpha": 6.0, "target_modules": ["all-linear"]});
    let training = json!({
        "batch_size": 6, "microbatch_size": micro, "max_steps": 6, "precision": precision,
        "lora": lora, "schedule": "constant",
    });
    Setup::new(llama(), training, threads, isa)
}

fn with_kind(mut setup: Setup, kind: &str) -> Trainer {
    let spec = json!({"optimizer": {"type": kind, "lr": 1e-2}});
    let spec = from_json(&spec, &[]).0.expect("good");
    let resolved = resolve(&spec, Goal::Written, &|_| unreachable!("no model"));
    setup.resolved.optimizer = resolved.expect("good").optimizer;
    setup.trainer()
}

fn values(trainer: &Trainer, paths: &[String]) -> Vec<Vec<f32>> {
    paths.iter().map(|p| trainer.tensor(p).expect("placed").1.to_vec()).collect()
}

#[test]
fn adapters_have_the_same_bits_for_any_threads_micro_batches_and_instruction_sets() {
    for (kind, precision) in [
        ("adamw", "float32"),
        ("adamw", "bfloat16"),
        ("muon", "float32"),
        ("sgd", "float32"),
        ("lion", "bfloat16"),
    ] {
        let reference = run(with_kind(setup(precision, 6, 1, None), kind), 3, 6);
        for (micro, threads) in [(3, 2), (1, 3)] {
            let other = run(with_kind(setup(precision, micro, threads, None), kind), 3, 6);
            assert!(other == reference, "{kind} {precision} {micro} {threads}");
        }
        for isa in Isa::available() {
            let other = run(with_kind(setup(precision, 2, 2, Some(isa)), kind), 3, 6);
            assert!(other == reference, "{kind} {precision} {isa:?}");
        }
    }
}

#[test]
fn the_first_step_sees_the_weights_beside_and_only_adapters_move() {
    let base =
        json!({"batch_size": 6, "microbatch_size": 6, "max_steps": 6, "schedule": "constant"});
    let mut base = Setup::new(llama(), base, 1, None).trainer();
    for kind in ["adamw", "sgd", "muon", "lion"] {
        let mut trainer = with_kind(setup("float32", 6, 1, None), kind);
        let frozen = trainer.frozen_paths();
        let whole: Vec<String> = base.parameters().iter().map(|p| p.path.clone()).collect();
        assert_eq!(frozen, whole);
        assert_eq!(values(&trainer, &frozen), values(&base, &whole));
        let held_out = batch(9, 6, 8);
        let (a, b) = (trainer.evaluate(&held_out).unwrap(), base.evaluate(&held_out).unwrap());
        assert_eq!((a.0.to_bits(), a.1), (b.0.to_bits(), b.1));
        let adapters: Vec<String> = trainer.parameters().iter().map(|p| p.path.clone()).collect();
        // Seven linear maps of two layers, each with two matrices.
        assert_eq!(adapters.len(), 2 * 7 * 2);
        assert!(adapters.iter().all(|path| is_adapter(path)));
        assert!(trainer.moment_paths().iter().all(|path| path.contains(".lora_")));
        let before = (values(&trainer, &frozen), values(&trainer, &adapters));
        for step in 0..3 {
            trainer.step(&batch(step, 6, 8)).expect("finite");
        }
        assert_eq!(values(&trainer, &frozen), before.0, "{kind}");
        let after = values(&trainer, &adapters);
        // Steps of plain gradients may be too small for a first matrix to show them.
        for ((path, after), before) in adapters.iter().zip(&after).zip(&before.1) {
            let may_stay = kind == "sgd" && path.ends_with("lora_A.weight");
            assert!(after != before || may_stay, "{kind} {path}");
        }
    }
}

#[test]
fn the_loss_falls_by_adapters_alone() {
    let (_, losses) = run(with_kind(setup("float32", 6, 1, None), "adamw"), 40, 6);
    assert!(losses[39] < losses[0] - 0.15, "{losses:?}");
}

#[test]
fn what_does_not_move_takes_neither_gradients_nor_moments() {
    let model = json!({
        "vocab_size": 64, "context_length": 8, "num_layers": 2, "hidden_size": 64, "num_heads": 4,
        "intermediate_size": 128,
    });
    let memory = |lora: Value| {
        let mut training = json!({"batch_size": 1, "max_steps": 6});
        training["lora"] = lora;
        let trainer = Setup::new(model.clone(), training, 1, None).trainer();
        let count = |paths: Vec<String>| -> usize {
            paths.iter().map(|p| trainer.tensor(p).expect("placed").1.len()).sum()
        };
        let trained = trainer.parameters().iter().map(|p| p.path.clone()).collect();
        (
            trainer.memory_bytes(),
            count(trainer.moment_paths()),
            count(trained),
            count(trainer.frozen_paths()),
        )
    };
    let (whole, moments, trained, frozen) = memory(json!({}));
    assert_eq!((moments, frozen), (2 * trained, 0));
    let (little, moments, adapters, frozen) = memory(json!({"rank": 2}));
    assert_eq!((moments, frozen), (2 * adapters, trained));
    // q and v of two layers: two matrices of rank 2 beside each [64, 64].
    assert_eq!(adapters, 2 * 2 * 2 * 2 * 64);
    // Gradients and both moments of the weights are not there.
    assert!(little + 4 * 5 * trained / 2 < whole, "{little} {whole} {trained}");
}
