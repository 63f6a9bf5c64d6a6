//! The checkpoint of the lowest validation loss.

use super::super::generate::{Model, Which};
use super::*;
use crate::checkpoint;
use crate::manifest::verify;

/// A rate at which the loss on held-out text falls and rises again.
const RESTLESS: [&str; 4] = [
    "optimizer.lr=0.3",
    "training.eval_interval=1",
    "training.checkpoint_interval=4",
    "training.max_steps=12",
];

/// Step of the lowest validation loss, by the metrics.
fn lowest(store: &dyn Store, run: &Path) -> u64 {
    let (records, _) = metrics::read(store, run).unwrap();
    let validations = records.iter().filter_map(|r| match r {
        Record::Validation(v) => Some((v.loss, v.step)),
        _ => None,
    });
    validations.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1
}

#[test]
fn the_best_checkpoint_is_the_state_at_the_lowest_validation_loss() {
    let (store, project) = (MemStore::new(), tiny(&RESTLESS));
    let result = run_whole(&store, &project);
    let best = lowest(&store, &result.run);
    assert!(
        best < result.step && !best.is_multiple_of(4),
        "the best is at step {best}; choose another rate"
    );
    let model = Model::open(&store, &result.run, Which::Best).unwrap();
    let last = Model::open(&store, &result.run, Which::Last).unwrap();
    assert_eq!((model.checkpoint.step, last.checkpoint.step), (best, result.step));
    // The very state of that step, as a run that stops there leaves it.
    let other = MemStore::new();
    let stopped = stopped_after(&other, &project, best);
    let there = Model::open(&other, &stopped.run, Which::Last).unwrap();
    assert_eq!(there.checkpoint.step, best);
    assert!(model.weights == there.weights && model.weights != last.weights);
    let moments = |m: &Model| m.checkpoint.complete.file("optimizer.safetensors").cloned();
    assert_eq!(moments(&model), moments(&there));
    assert_eq!(verify(&store, &result.run).unwrap().problems, []);
}

#[test]
fn the_best_checkpoint_survives_an_interruption_and_pruning() {
    let (store, project) =
        (MemStore::new(), tiny(&[&RESTLESS[..], &["training.keep_checkpoints=1"]].concat()));
    let run = stopped_after(&store, &project, 7).run;
    let result = run_whole(&store, &project);
    assert_eq!(result.run, run);
    let best = lowest(&store, &run);
    let steps: Vec<u64> = checkpoint::list(&store, &run).unwrap().iter().map(|l| l.step).collect();
    assert_eq!(steps, [best, result.step]);
    let model = Model::open(&store, &run, Which::Best).unwrap();
    assert_eq!(model.checkpoint.step, best);
}

#[test]
fn without_keep_best_the_last_checkpoint_has_to_do() {
    let (store, project) =
        (MemStore::new(), tiny(&[&RESTLESS[..], &["training.keep_best=false"]].concat()));
    let run = run_whole(&store, &project).run;
    let steps: Vec<u64> = checkpoint::list(&store, &run).unwrap().iter().map(|l| l.step).collect();
    assert!(!steps.contains(&lowest(&store, &run)), "{steps:?}");
    assert_eq!(code(Model::open(&store, &run, Which::Best)), "checkpoint::unknown_step");
}
