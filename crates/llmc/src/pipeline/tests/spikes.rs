//! Skipped steps, growing batches, averages and z-loss through whole runs: what of them is state
//! comes back exactly.

use super::super::generate::{Model, WeightSet, Which};
use super::super::rerun::rerun;
use super::super::why::why;
use super::*;
use crate::checkpoint;
use crate::logs;
use crate::manifest::verify;

/// With these, some steps are spikes and some are not.
const SPIKY: [&str; 4] = [
    "training.skip_spikes={ factor = 1.02, window = 2 }",
    "training.max_steps=12",
    "optimizer.lr=0.1",
    "training.checkpoint_interval=5",
];

fn skipped(store: &dyn Store, run: &Path) -> Vec<u64> {
    let (records, _) = metrics::read(store, run).unwrap();
    let of = |r: &Record| match r {
        Record::Train(t) if t.is_skipped => Some(t.step),
        _ => None,
    };
    records.iter().filter_map(of).collect()
}

#[test]
fn a_run_that_skips_steps_resumes_exactly_at_every_step() {
    let (store, project) = (MemStore::new(), tiny(&SPIKY));
    let whole = run_whole(&store, &project);
    let steps = skipped(&store, &whole.run);
    assert!((1..9).contains(&steps.len()), "{steps:?}; choose another factor");
    assert_eq!(whole.skipped, steps.len() as u64);
    let log = logs::read(&store, &whole.run).unwrap().concat();
    assert!(log.contains(&format!("{} steps were spikes and skipped", steps.len())), "{log}");
    assert_ne!(whole.weights, run_whole(&MemStore::new(), &tiny(&SPIKY[1..])).weights);
    let report = rerun(&store, &whole.run, Path::new("s"), None, None, &mut Watch::default());
    assert!(report.unwrap().is_same());
    let other = MemStore::new();
    for step in 1..12 {
        stopped_after(&other, &project, step);
    }
    let resumed = run_whole(&other, &project);
    assert_eq!((resumed.content, skipped(&other, &resumed.run)), (whole.content, steps));
    // A median that any loss is above twice skips nothing.
    let calm =
        run_whole(&MemStore::new(), &tiny(&["training.skip_spikes={ factor = 1e9, window = 2 }"]));
    assert_eq!(calm.skipped, 0);
}

#[test]
fn a_run_in_float16_resumes_exactly_while_its_scale_comes_down_and_grows() {
    let settings = [
        "training.precision=float16",
        "training.loss_scale={ init_scale = 1099511627776, backoff_factor = 0.015625, growth_interval = 2 }",
        "training.skip_spikes={ factor = 1.00001, window = 1 }",
        "optimizer.lr=0.1",
        "training.max_steps=12",
        "training.checkpoint_interval=5",
    ];
    let (store, project) = (MemStore::new(), tiny(&settings));
    let whole = run_whole(&store, &project);
    let records = |store: &dyn Store, run: &Path| -> Vec<(u64, bool, bool, Option<f64>)> {
        let (records, _) = metrics::read(store, run).unwrap();
        let of = |r: &Record| match r {
            Record::Train(t) => Some((t.step, t.is_skipped, t.is_overflow, t.loss_scale)),
            _ => None,
        };
        records.iter().filter_map(of).collect()
    };
    let steps = records(&store, &whole.run);
    assert_eq!(steps[0], (1, true, true, Some(1_099_511_627_776.0)));
    let overflows = steps.iter().filter(|s| s.2).count() as u64;
    assert!((1..9).contains(&overflows), "{steps:?}");
    assert_eq!(whole.overflows, overflows);
    assert!(whole.skipped > overflows, "no spike among them: {steps:?}");
    assert!(steps.windows(2).any(|s| s[1].3 > s[0].3), "the scale never grew: {steps:?}");
    let log = logs::read(&store, &whole.run).unwrap().concat();
    assert!(log.contains(&format!("{overflows} steps overflowed float16")), "{log}");
    let report = rerun(&store, &whole.run, Path::new("s"), None, None, &mut Watch::default());
    assert!(report.unwrap().is_same());
    let other = MemStore::new();
    for step in 1..12 {
        stopped_after(&other, &project, step);
    }
    let resumed = run_whole(&other, &project);
    assert_eq!((resumed.content, records(&other, &resumed.run)), (whole.content, steps.clone()));
    // An overflow is as it was recorded, with the first number that is not finite.
    let ask =
        |step| why(&store, &whole.run, Some(step), None, None, &mut Watch::default()).unwrap();
    let first = ask(1);
    assert_eq!((first.is_as_recorded, first.loss_scale), (Some(true), steps[0].3));
    assert_eq!(first.non_finite.unwrap().quantity, "grad_norm");
    let good = steps.iter().rfind(|s| !s.2).unwrap();
    let found = ask(good.0);
    assert!(found.is_as_recorded == Some(true) && found.non_finite.is_none());
    assert_eq!(found.loss_scale, good.3);
}

#[test]
fn what_overflows_float16_on_the_way_forward_is_told_with_the_wider_format() {
    let help = |precision: &str| {
        let project = tiny(&[precision, "optimizer.lr=1e30", "training.schedule=constant"]);
        let failure = run_with(&MemStore::new(), &project, &mut Watch::default()).unwrap_err();
        let found = failure.diagnostics().remove(0);
        assert_eq!(found.code, "train::non_finite");
        found.help.unwrap()
    };
    assert!(
        help("training.precision=float16").contains("`training.precision = \"bfloat16\"` does not")
    );
    assert!(!help("training.precision=float32").contains("float16"));
}

#[test]
fn a_growing_batch_goes_through_the_data_without_gap_or_repetition() {
    let ramp = ["training.batch_ramp={ start = 1, steps = 4 }", "training.microbatch_size=1"];
    let (store, project) = (MemStore::new(), tiny(&ramp));
    let training = project.resolved.training.as_ref().unwrap();
    let mut next = 0;
    for step in 0..6 {
        let (rows, first) = super::super::data::step_rows(training, 1 << 40, step);
        assert_eq!((first, rows.len() as u64), (next, [1, 1, 2, 3, 4, 4][step as usize]));
        next += rows.len() as u64;
        let wanted: Vec<u64> = (first..next)
            .map(|s| llmc_data::order::row_of_sample(training.seed, 1 << 40, s.into()))
            .collect();
        assert_eq!(rows, wanted);
    }
    let whole = run_whole(&store, &project);
    let other = MemStore::new();
    stopped_after(&other, &project, 3);
    assert_eq!(run_whole(&other, &project).content, whole.content);
    assert_ne!(whole.recipe, run_whole(&other, &tiny(&[])).recipe);
}

#[test]
fn the_average_is_kept_resumed_exported_and_proved() {
    let (store, project) = (MemStore::new(), tiny(&["training.ema=0.5"]));
    let whole = run_whole(&store, &project);
    let plain = run_whole(&MemStore::new(), &tiny(&[]));
    assert_eq!(whole.weights, plain.weights);
    assert!(whole.validation.as_ref().unwrap().ema_loss.is_some());
    assert_eq!(plain.validation.as_ref().unwrap().ema_loss, None);
    let [trained, ema] = [WeightSet::Trained, WeightSet::Ema]
        .map(|set| Model::open_weights(&store, &whole.run, Which::Last, set).unwrap());
    assert!(trained.weights.len() == ema.weights.len() && trained.weights != ema.weights);
    let proof = &manifest(&store, &whole.run).artifacts;
    let last = proof.iter().rfind(|a| a.name == "step-000006").unwrap();
    assert_eq!(last.proof, ["weights.safetensors", "optimizer.safetensors", "ema.safetensors"]);
    assert_eq!(verify(&store, &whole.run).unwrap().problems, []);

    let other = MemStore::new();
    stopped_after(&other, &project, 3);
    let resumed = run_whole(&other, &project);
    assert_eq!(resumed.content, whole.content);
    let found = |store: &MemStore, run: &Path| {
        let last = checkpoint::load_latest_whole(store, run).unwrap().0.unwrap();
        last.complete.file("ema.safetensors").cloned().unwrap()
    };
    assert_eq!(found(&other, &resumed.run), found(&store, &whole.run));
    let none = Model::open_weights(
        &other,
        &run_whole(&other, &tiny(&[])).run,
        Which::Last,
        WeightSet::Ema,
    );
    assert_eq!(code(none), "run::no_ema");
}

#[test]
fn z_loss_is_in_the_program_of_the_run_and_not_in_its_model() {
    let store = MemStore::new();
    let run = run_whole(&store, &tiny(&["training.z_loss=0.1"]));
    let program = store.read_text(&run.run.join("model.ir")).unwrap();
    assert!(program.contains("log_z") && program.contains("@eval_loss"));
    let plain = run_whole(&store, &tiny(&[]));
    assert!(!store.read_text(&plain.run.join("model.ir")).unwrap().contains("log_z"));
    assert_ne!(run.weights, plain.weights);
    let [with, without] =
        [&run, &plain].map(|r| Model::open(&store, &r.run, Which::Last).unwrap().module);
    assert_eq!(with, without);
}
