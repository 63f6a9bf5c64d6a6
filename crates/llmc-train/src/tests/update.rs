//! What may be asked of an update beside its rule: averages, groups, spikes, ramps, z-loss.

use super::*;
use crate::{Spikes, ramp, with_z_loss};
use llmc_spec::ParameterGroup;

fn values(trainer: &Trainer, path: &str) -> Vec<f32> {
    trainer.tensor(path).expect("placed").1.to_vec()
}

fn bits(trainer: &Trainer) -> Vec<u32> {
    let paths = trainer.parameters().iter().map(|p| p.path.clone());
    let paths = paths.chain(trainer.moment_paths()).chain(trainer.ema_paths());
    paths.flat_map(|path| values(trainer, &path)).map(f32::to_bits).collect()
}

fn trained(training: Value, threads: usize) -> Trainer {
    Setup::new(llama(), training, threads, None).trainer()
}

#[test]
fn the_average_follows_its_formula_and_trades_places_with_the_weights() {
    let decay = 0.75;
    let mut trainer =
        trained(json!({"batch_size": 4, "microbatch_size": 4, "max_steps": 6, "ema": decay}), 1);
    let path = "layers.0.mlp.up.weight";
    let mut average = values(&trainer, path);
    assert_eq!(values(&trainer, &format!("{path}.ema")), average);
    for step in 0..3 {
        trainer.step(&batch(step, 4, 8)).expect("finite");
        let weights = values(&trainer, path);
        for (e, p) in average.iter_mut().zip(&weights) {
            *e += (p - *e) * (1.0 - decay) as f32;
        }
        assert_eq!(values(&trainer, &format!("{path}.ema")), average);
        assert_ne!(weights, average);
    }
    // The average leaves the weights alone.
    let plain = json!({"batch_size": 4, "microbatch_size": 4, "max_steps": 6});
    let mut other = trained(plain, 1);
    for step in 0..3 {
        other.step(&batch(step, 4, 8)).expect("finite");
    }
    assert_eq!(values(&other, path), values(&trainer, path));
    assert!(other.ema_paths().is_empty());

    let (before, loss) = (bits(&trainer), trainer.evaluate(&batch(9, 4, 8)).expect("runs"));
    trainer.swap_ema().expect("placed");
    assert_eq!(values(&trainer, path), average);
    assert_ne!(trainer.evaluate(&batch(9, 4, 8)).expect("runs"), loss);
    trainer.swap_ema().expect("placed");
    assert_eq!((bits(&trainer), trainer.evaluate(&batch(9, 4, 8)).expect("runs")), (before, loss));
}

fn group(pattern: &str, lr_scale: f64, weight_decay: Option<f64>) -> ParameterGroup {
    ParameterGroup { pattern: pattern.to_string(), lr_scale, weight_decay }
}

#[test]
fn the_first_group_that_names_a_parameter_has_it() {
    let stepped = |groups: Vec<ParameterGroup>| {
        let training = json!({"batch_size": 4, "max_steps": 6, "schedule": "constant"});
        let mut setup = Setup::new(llama(), training, 1, None);
        let optimizer = setup.resolved.optimizer.as_mut().expect("there is an optimizer");
        (optimizer.kind, optimizer.lr, optimizer.weight_decay) = (OptimizerKind::Sgd, 0.5, 0.25);
        optimizer.momentum = 0.0;
        optimizer.groups = groups;
        let mut trainer = setup.trainer();
        let before = weights(&trainer);
        trainer.step(&batch(0, 4, 8)).expect("finite");
        (before, weights(&trainer))
    };
    let (before, plain) = stepped(Vec::new());
    let (_, grouped) = stepped(vec![
        group("layers.0.mlp.*", 0.0, None),
        group("layers.*.mlp.*", 0.5, None),
        group("embedding.weight", 1.0, Some(0.0)),
        group("1-D", 2.0, Some(0.5)),
    ]);
    assert_eq!(grouped["layers.0.mlp.up.weight"], before["layers.0.mlp.up.weight"]);
    assert_eq!(grouped["layers.1.attention.q.weight"], plain["layers.1.attention.q.weight"]);
    let near = |path: &str, want: &dyn Fn(f64, f64) -> f64| {
        for ((w, p), got) in before[path].iter().zip(&plain[path]).zip(&grouped[path]) {
            assert!((want(*w, *p) - got).abs() < 1e-6, "{path}: {w} {p} {got}");
        }
    };
    near("layers.1.mlp.up.weight", &|w, p| w + 0.5 * (p - w));
    // Without its decay, and with one that `no_decay` had taken away.
    near("embedding.weight", &|w, p| p + 0.5 * 0.25 * w);
    near("layers.0.mlp_norm.weight", &|w, p| w + 2.0 * (p - w) - 1.0 * 0.5 * w);
}

#[test]
fn a_spike_changes_nothing_but_the_step() {
    let training = json!({
        "batch_size": 4, "max_steps": 6, "schedule": { "type": "constant", "warmup_steps": 0 },
        "skip_spikes": { "factor": 3.0, "window": 2 }, "ema": 0.5,
    });
    let mut trainer = trained(training.clone(), 1);
    let calm = Spikes { losses: [1e-3, 1e-3].into(), grad_norms: [1e9, 1e9].into(), skipped: 0 };
    trainer.set_spikes(calm);
    let before = bits(&trainer);
    let report = trainer.step(&batch(5, 4, 8)).expect("finite");
    assert!(report.is_skipped && report.loss > 3e-3);
    assert_eq!((bits(&trainer), trainer.step_count()), (before, 1));
    assert_eq!((trainer.spikes().skipped, trainer.spikes().losses[1]), (1, report.loss));
    // The moments know nothing of it: what follows is what a run without that step does.
    trainer.set_spikes(Spikes { skipped: 1, ..Default::default() });
    let mut other = trained(training, 1);
    for step in 0..2 {
        let report = trainer.step(&batch(step, 4, 8)).expect("finite");
        assert!(!report.is_skipped);
        other.step(&batch(step, 4, 8)).expect("finite");
    }
    assert_eq!(bits(&trainer), bits(&other));
}

#[test]
fn a_growing_batch_leaves_no_trace_of_threads_and_micro_batches() {
    let run = |micro: u64, threads| {
        let training = json!({
            "batch_size": 6, "microbatch_size": micro, "max_steps": 6,
            "batch_ramp": { "start": 2, "steps": 4 },
        });
        let mut trainer = trained(training.clone(), threads);
        let config = resolved(llama(), training).training.expect("there is a training");
        let sizes: Vec<usize> = (0..6).map(|s| ramp::batch_size(&config, s) as usize).collect();
        assert_eq!(sizes, [2, 2, 4, 4, 6, 6]);
        for (step, size) in sizes.into_iter().enumerate() {
            trainer.step(&batch(step as u64, size, 8)).expect("finite");
        }
        let wrong = trainer.step(&batch(0, 4, 8)).expect_err("the ramp is over");
        assert!(wrong.to_string().contains("has 4 elements, expected 6"), "{wrong}");
        bits(&trainer)
    };
    let reference = run(2, 1);
    assert!(run(1, 1) == reference && run(2, 3) == reference);
}

/// One row of which only the last token counts.
fn last_token(ids: &[i32]) -> Batch {
    let n = ids.len();
    Batch {
        rows: 1,
        tokens: ids.to_vec(),
        targets: (0..n as i32).collect(),
        positions: (0..n as i32).collect(),
        segments: vec![0; n],
        weights: (0..n).map(|i| f32::from(i == n - 1)).collect(),
        ..Batch::default()
    }
}

#[test]
fn z_loss_adds_the_square_of_log_z_to_the_training_loss_alone() {
    let training =
        |z: f64| json!({"batch_size": 1, "max_steps": 6, "schedule": "constant", "z_loss": z});
    let ids = [3, 1, 4, 1, 5, 9, 2, 6];
    let mut plain = trained(training(0.0), 1);
    let logits = plain.next_logits(&ids.map(|i| i as u32)).expect("runs").to_vec();
    let log_z = logits.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
    let mut with = trained(training(0.5), 1);
    let held_out = with.evaluate(&last_token(&ids)).expect("runs");
    assert_eq!(held_out, plain.evaluate(&last_token(&ids)).expect("runs"));
    let [a, b] = [&mut plain, &mut with].map(|t| t.step(&last_token(&ids)).expect("finite").loss);
    assert!((b - a - 0.5 * log_z * log_z).abs() < 1e-4, "{a} {b} {log_z}");
    assert!((a - held_out.0).abs() < 1e-6);
}

#[test]
fn the_gradient_of_the_z_loss_is_its_slope() {
    let path = "layers.1.mlp.down.weight";
    let lr = 1024.0;
    let start = || {
        let training =
            json!({"batch_size": 4, "max_steps": 6, "schedule": "constant", "z_loss": 0.3});
        let mut setup = Setup::new(llama(), training, 1, None);
        let optimizer = setup.resolved.optimizer.as_mut().expect("there is an optimizer");
        (optimizer.kind, optimizer.lr, optimizer.weight_decay) = (OptimizerKind::Sgd, lr, 0.0);
        (optimizer.momentum, optimizer.max_grad_norm) = (0.0, None);
        setup.trainer()
    };
    let mut trainer = start();
    let before = values(&trainer, path);
    trainer.step(&batch(0, 4, 8)).expect("finite");
    let after = values(&trainer, path);
    for at in [0, 17, 100] {
        let gradient = f64::from(before[at] - after[at]) / lr;
        let loss = |by: f32| {
            let mut trainer = start();
            trainer.tensor_mut(path).expect("placed")[at] += by;
            trainer.step(&batch(0, 4, 8)).expect("finite").loss
        };
        let slope = (loss(0.05) - loss(-0.05)) / 0.1;
        assert!((gradient - slope).abs() < 2e-4 + 0.02 * slope.abs(), "{at}: {gradient} {slope}");
    }
}

#[test]
fn z_loss_passes_the_verifier_and_sees_no_threads_and_micro_batches() {
    for dropout in [0.0, 0.1] {
        let mut model = llama();
        model["dropout"] = json!(dropout);
        let r = resolved(model.clone(), json!({}));
        let m = r.model.expect("there is a model");
        let dims = llmc_spec::DimExprs::from(&m.dims);
        let module = llmc_model::build(&m.architecture, &dims).expect("builds");
        assert_eq!(with_z_loss(&module, 0.0).expect("nothing to do"), module);
        let with = with_z_loss(&module, 1e-4).expect("one cross entropy");
        let found = llmc_ir::verify::verify(&with);
        assert!(found.is_empty(), "{found:#?}");
        let function = |m: &llmc_ir::Module, name: &str| {
            let mut f = m.function(m.find(name).expect("there")).clone();
            f.name.clear();
            f
        };
        let evaluates = if dropout > 0.0 { "eval_loss" } else { "loss" };
        assert_eq!(function(&with, "eval_loss"), function(&module, evaluates));
        assert_eq!(function(&with, "forward"), function(&module, "forward"));

        let training = |micro: u64| json!({"batch_size": 6, "microbatch_size": micro, "max_steps": 6, "z_loss": 1e-2});
        let reference = run(Setup::new(model.clone(), training(6), 1, None).trainer(), 3, 6);
        for (micro, threads) in [(3, 2), (1, 3)] {
            let other = Setup::new(model.clone(), training(micro), threads, None).trainer();
            assert!(run(other, 3, 6) == reference, "{micro} {threads}");
        }
    }
}

#[test]
fn no_optimiser_with_everything_sees_threads_micro_batches_or_instruction_sets() {
    for kind in ["adamw", "sgd", "muon", "lion"] {
        let run = |micro: u64, threads, isa| {
            let training = json!({
                "batch_size": 6, "microbatch_size": micro, "max_steps": 6, "ema": 0.9,
                "batch_ramp": { "start": 2, "steps": 4 }, "z_loss": 1e-3,
                "skip_spikes": { "factor": 1.01, "window": 2 },
            });
            let mut setup = Setup::new(llama(), training.clone(), threads, isa);
            let groups = [json!({"pattern": "layers.1.*", "lr_scale": 0.5, "weight_decay": 0.2})];
            let spec = json!({"optimizer": {"type": kind, "lr": 1e-2, "groups": groups}});
            let spec = from_json(&spec, &[]).0.expect("good");
            let resolved = resolve(&spec, Goal::Written, &|_| unreachable!("no model"));
            setup.resolved.optimizer = resolved.expect("good").optimizer;
            let config = setup.resolved.training.clone().expect("there is a training");
            let mut trainer = setup.trainer();
            // As after calmer steps, so that the first ones are spikes.
            let (losses, grad_norms) = ([9.0, 9.0].into(), [0.01, 0.01].into());
            trainer.set_spikes(Spikes { losses, grad_norms, skipped: 0 });
            for step in 0..6 {
                let size = ramp::batch_size(&config, step) as usize;
                trainer.step(&batch(step, size, 8)).expect("finite");
            }
            (bits(&trainer), trainer.spikes().clone())
        };
        let reference = run(2, 1, None);
        assert!((1..5).contains(&reference.1.skipped), "{kind}: {:?}", reference.1);
        assert!(run(1, 3, None) == reference && run(2, 2, None) == reference, "{kind}");
        for isa in Isa::available() {
            assert!(run(1, 2, Some(isa)) == reference, "{kind} {isa:?}");
        }
    }
}
