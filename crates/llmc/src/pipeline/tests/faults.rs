//! A disk that fills up, and a process that dies, at every change that a whole run makes.

use super::super::train::{Prepared, train_prepared};
use super::*;
use crate::checkpoint::{self, Checkpoint};
use crate::manifest::verify;
use crate::store::{Fault, FaultStore};
use llmc_base::Hash;
use std::collections::BTreeMap;

/// Weights by step of an undisturbed run that keeps them all, and its content hash.
fn undisturbed(prepared: &Prepared) -> (BTreeMap<u64, Hash>, Hash) {
    let store = MemStore::new();
    let result = train_prepared(prepared, &options(&store), &mut Watch::default()).unwrap();
    let weights = checkpoint::list(&store, &result.run).unwrap().into_iter().map(|listed| {
        let found = checkpoint::load_step(&store, &result.run, listed.step).unwrap();
        (listed.step, super::super::train::weights_hash(&found).unwrap())
    });
    (weights.collect(), result.content.unwrap())
}

/// Breaks the run at every change in turn; each time the checkpoints that were there stay, and the
/// run ends in the bits of one that nothing disturbed.
fn sweep(fault: Fault, kept: usize) {
    let keep = |n: usize| {
        let keep = format!("training.keep_checkpoints={n}");
        tiny(&[&keep, "training.max_steps=4", "training.keep_best=false"])
    };
    let project = keep(9);
    let prepared = prepare(&project, &options(&MemStore::new()), &mut Watch::default()).unwrap();
    let (weights, content) = undisturbed(&prepared);
    assert_eq!(weights.keys().copied().collect::<Vec<_>>(), [2, 4]);
    let project = keep(kept);
    let prepared = Prepared { project, ..prepared };
    let run = super::super::train::run_folder(Path::new("runs"), &prepared.recipe);
    for n in 0.. {
        let store = FaultStore::new(MemStore::new(), n, fault);
        let mut watch = Watch::default();
        let result = train_prepared(&prepared, &options(&store), &mut watch);
        let (has_failed, disk) = (store.has_failed(), store.inner());
        let check = |found: Checkpoint| {
            let hash = super::super::train::weights_hash(&found).unwrap();
            assert_eq!(Some(&hash), weights.get(&found.step), "change {n}, step {}", found.step);
        };
        // What observers were told of is there, as it should be, or a newer one is.
        if let Some(step) = watch.checkpoints.last() {
            let newest = checkpoint::load_latest_whole(disk, &run).unwrap().0.unwrap();
            assert!(newest.step >= *step, "change {n}");
            check(newest);
        }
        if kept > 1 {
            let all = watch.checkpoints.iter();
            all.for_each(|step| check(checkpoint::load_step(disk, &run, *step).unwrap()));
        }
        let result = match result {
            Ok(result) if !has_failed => {
                assert!(n > 50, "a run makes more changes than {n}");
                assert_eq!(result.content, Some(content));
                return;
            }
            Err(failure) if !has_failed => panic!("change {n}: {failure}"),
            // Observations may be lost without a word: no hash covers them.
            _ => train_prepared(&prepared, &options(disk), &mut Watch::default()).unwrap(),
        };
        assert_eq!(result.content, Some(content), "change {n}");
        let report = verify(disk, &run).unwrap();
        assert!(report.outputs_are_whole(), "change {n}: {:?}", report.problems);
    }
}

#[test]
fn a_full_disk_at_any_change_loses_no_checkpoint() {
    sweep(Fault::DiskFull, 9);
    sweep(Fault::DiskFull, 1);
}

#[test]
fn a_death_at_any_change_loses_no_checkpoint() {
    sweep(Fault::Abort, 9);
    sweep(Fault::Abort, 1);
}
