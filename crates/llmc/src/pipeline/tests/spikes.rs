//! Skipped steps, growing batches, averages and z-loss through whole runs: what of them is state
//! comes back exactly.

use super::super::generate::{Model, WeightSet, Which};
use super::super::rerun::rerun;
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
