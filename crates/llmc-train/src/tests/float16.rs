//! Training in float16: the same bits everywhere, a loss near that of float32, and a scale of the loss that
//! comes down and grows.

use super::*;
use crate::{Scaler, Spikes};

fn setup(precision: &str, more: Value, micro: u64, threads: usize, isa: Option<Isa>) -> Setup {
    let mut training = json!({
        "batch_size": 6, "microbatch_size": micro, "sequence_length": 7, "max_steps": 40,
        "precision": precision, "schedule": { "type": "constant", "warmup_steps": 0 },
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        training[name] = value.clone();
    }
    Setup::new(llama(), training, threads, isa)
}

fn with(precision: &str, more: Value, micro: u64, threads: usize, isa: Option<Isa>) -> Trainer {
    setup(precision, more, micro, threads, isa).trainer()
}

/// Weights and moments by bits, the losses, the scale, and the steps that were skipped.
#[derive(Debug, PartialEq)]
struct Outcome {
    bits: Vec<u32>,
    losses: Vec<f64>,
    scaler: Option<Scaler>,
    spikes: Spikes,
    skipped: Vec<u64>,
}

fn go_on(trainer: &mut Trainer, steps: std::ops::Range<u64>) -> Outcome {
    let (mut losses, mut skipped) = (Vec::new(), Vec::new());
    for step in steps {
        let before = trainer.scaler().copied();
        let report = trainer.step(&batch(step % 2, 6, 7)).expect("a step");
        losses.push(report.loss);
        assert_eq!(report.loss_scale, before.map(|scaler| scaler.scale));
        assert_eq!(report.is_overflow, !report.grad_norm.is_finite());
        if report.is_overflow {
            assert!(
                report.is_skipped && trainer.scaler().expect("f16").scale < before.unwrap().scale
            );
            skipped.push(step);
        }
    }
    let paths: Vec<String> = trainer.parameters().iter().map(|p| p.path.clone()).collect();
    let paths = paths.into_iter().chain(trainer.moment_paths());
    let bits = paths.flat_map(|p| trainer.tensor(&p).expect("placed").1.to_vec());
    let bits = bits.map(f32::to_bits).collect();
    let (scaler, spikes) = (trainer.scaler().copied(), trainer.spikes().clone());
    Outcome { bits, losses, scaler, spikes, skipped }
}

/// A scale that is too large at first and grows again soon, with a z-loss; the first finite step is a spike.
fn eventful(optimizer: &str, micro: u64, threads: usize, isa: Option<Isa>) -> Outcome {
    let more = json!({
        "loss_scale": { "init_scale": 2f64.powi(40), "backoff_factor": 2f64.powi(-8), "growth_interval": 2 },
        "skip_spikes": { "factor": 2.0, "window": 1 }, "z_loss": 1e-3,
    });
    let mut setup = setup("float16", more, micro, threads, isa);
    let spec = json!({"optimizer": {"type": optimizer, "lr": 1e-2}});
    let spec = from_json(&spec, &[]).0.expect("good");
    let resolved = resolve(&spec, Goal::Written, &|_| unreachable!("no model"));
    setup.resolved.optimizer = resolved.expect("good").optimizer;
    let mut trainer = setup.trainer();
    let (losses, grad_norms) = ([0.1].into(), [1e9].into());
    trainer.set_spikes(Spikes { losses, grad_norms, skipped: 0 });
    go_on(&mut trainer, 0..8)
}

#[test]
fn an_overflow_lowers_the_scale_and_no_split_or_instruction_set_sees_it() {
    for optimizer in ["adamw", "sgd", "muon", "lion"] {
        let reference = eventful(optimizer, 6, 1, None);
        let scaler = reference.scaler.expect("f16");
        assert_eq!(reference.skipped[0], 0);
        assert!((1..6).contains(&reference.skipped.len()), "{:?}", reference.skipped);
        assert!(scaler.scale < 2f64.powi(40) && scaler.skipped == reference.skipped.len() as u64);
        // Steps that were not finite are not among those of the median: the first finite one is the spike.
        assert_eq!(reference.spikes.skipped, 1);
        for (micro, threads) in [(3, 2), (2, 8), (1, 3)] {
            let other = eventful(optimizer, micro, threads, None);
            assert!(other == reference, "{optimizer}, micro-batch {micro}, {threads} threads");
        }
        for isa in Isa::available() {
            assert!(eventful(optimizer, 2, 2, Some(isa)) == reference, "{optimizer} {isa:?}");
        }
    }
}

#[test]
fn the_loss_falls_as_in_f32() {
    let scale = json!({ "loss_scale": { "growth_interval": 10 } });
    let narrow = go_on(&mut with("float16", scale, 6, 2, None), 0..30);
    let wide = go_on(&mut with("float32", json!({}), 6, 2, None), 0..30);
    assert_ne!(narrow.losses, wide.losses);
    assert!(narrow.losses[29] < narrow.losses[0] - 0.5);
    for (a, b) in narrow.losses.iter().zip(&wide.losses) {
        assert!((a - b).abs() < 0.01, "{:?}\n{:?}", narrow.losses, wide.losses);
    }
    // Three times ten good steps.
    let scaler = Scaler { scale: 2f64.powi(19), good_steps: 0, skipped: 0 };
    assert_eq!(narrow.scaler, Some(scaler));
    assert_eq!(wide.scaler, None);
}

#[test]
fn the_moments_know_nothing_of_skipped_steps() {
    let scale = |init: f64| json!({ "loss_scale": { "init_scale": init, "backoff_factor": 2f64.powi(-24) } });
    let mut skipping = with("float16", scale(2f64.powi(40)), 6, 1, None);
    let report = skipping.step(&batch(0, 6, 7)).expect("a step");
    assert!(report.is_overflow && skipping.scaler().expect("f16").scale == 65536.0);
    let mut other = with("float16", scale(65536.0), 6, 1, None);
    let [a, b] = [&mut skipping, &mut other].map(|trainer| go_on(trainer, 0..3));
    assert!(a.bits == b.bits && a.losses == b.losses && a.skipped.is_empty());
}

#[test]
fn the_norm_of_the_gradient_is_that_without_the_scale() {
    let norms = |trainer: &mut Trainer| {
        let found = trainer.inspect(&batch(0, 6, 7)).expect("runs");
        assert!(found.non_finite.is_none());
        let step = trainer.step(&batch(0, 6, 7)).expect("finite");
        assert_eq!((found.grad_norm, found.loss_scale), (step.grad_norm, step.loss_scale));
        let mut norms: Vec<f64> = found.norms.into_iter().map(|(_, norm)| norm).collect();
        norms.push(step.grad_norm);
        norms
    };
    let narrow = norms(&mut with("float16", json!({}), 6, 1, None));
    let wide = norms(&mut with("float32", json!({}), 6, 1, None));
    for (a, b) in narrow.iter().zip(&wide) {
        assert!((a - b).abs() < 0.01 * b, "{narrow:?}\n{wide:?}");
    }
}

#[test]
fn what_no_scale_mends_is_an_error() {
    // The scale cannot come down far enough: the second step would go below the least.
    let scale = json!({ "init_scale": 2f64.powi(40), "backoff_factor": 2f64.powi(-40) });
    let mut trainer = with("float16", json!({ "loss_scale": scale }), 6, 1, None);
    let path = "layers.1.mlp.up.weight";
    trainer.tensor_mut(path).expect("placed").fill(f32::NAN);
    let error = trainer.step(&batch(0, 6, 7)).expect_err("the loss is not finite");
    assert!(error.to_string().starts_with("`loss` is not finite at step 0"), "{error}");
    let mut trainer = with("float16", json!({}), 6, 1, None);
    let mut low = *trainer.scaler().expect("f16");
    low.scale = 2f64.powi(127);
    trainer.set_scaler(low);
    assert!(trainer.step(&batch(0, 6, 7)).expect("a step").is_overflow);
    let inspected = trainer.inspect(&batch(0, 6, 7)).expect("runs");
    let fault = inspected.non_finite.expect("2¹²⁶ is too much as well");
    assert!(fault.quantity == "grad_norm" && fault.node.is_some(), "{fault}");
    // Other precisions have no scale.
    let mut plain = with("bfloat16", json!({}), 6, 1, None);
    plain.set_scaler(low);
    assert_eq!(plain.scaler(), None);
}
