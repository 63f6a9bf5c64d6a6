//! A power failure at any moment of a whole run: whatever of the unsynced names and bytes arrived, and in
//! whatever order, the run ends in the bits of one that nothing disturbed.
//!
//! Everyday tests look at every 397th disk; `LLMC_EXACTNESS=1` (`make exactness`) at all of a run with AdamW, and at
//! every 397th of runs with the other optimisers, whose files are others but written in the same order.

use super::super::train::{Prepared, train_prepared};
use super::*;
use crate::checkpoint;
use crate::manifest::verify;
use crate::store::RecordingStore;
use llmc_base::Hash;
use std::collections::BTreeMap;

/// Everyday tests look at one disk of so many.
const THINNING: usize = 397;

fn is_long() -> bool {
    std::env::var_os("LLMC_EXACTNESS").is_some()
}

/// Notes after how many changes each checkpoint was told of.
struct Told<'a> {
    store: &'a RecordingStore,
    checkpoints: Vec<(usize, u64)>,
}

impl Observer for Told<'_> {
    fn event(&mut self, event: &Event) {
        if let Event::Checkpoint { step, .. } = event {
            self.checkpoints.push((self.store.position(), *step));
        }
    }
}

fn hashes(store: &dyn Store, run: &Path) -> BTreeMap<u64, Hash> {
    let weights = checkpoint::list(store, run).unwrap().into_iter().map(|listed| {
        let found = checkpoint::load_step(store, run, listed.step).unwrap();
        (listed.step, super::super::train::weights_hash(&found).unwrap())
    });
    weights.collect()
}

/// Replays every prefix of a run with everything that a crash there may leave; how many disks were looked at.
fn replay(project: &Project, step_by: usize) -> usize {
    let prepared = prepare(project, &options(&MemStore::new()), &mut Watch::default()).unwrap();
    let prepared = Prepared { project: project.clone(), ..prepared };
    let store = RecordingStore::new();
    let mut told = Told { store: &store, checkpoints: Vec::new() };
    let whole = train_prepared(&prepared, &options(&store), &mut told).unwrap();
    let weights = hashes(&store, &whole.run);
    let (mut seen, mut looked_at) = (0, 0);
    for after in 0..=store.position() {
        store.each_crash_state(after, |state| {
            seen += 1;
            if seen % step_by != 0 {
                return;
            }
            looked_at += 1;
            let (disk, what) = (&state.disk, &state.what);
            // A checkpoint that somebody was told of is there, or a newer one is.
            let promised = told.checkpoints.iter().rfind(|(at, _)| *at <= after);
            if let Some((_, step)) = promised {
                let newest = checkpoint::load_latest_whole(disk, &whole.run).unwrap().0;
                let newest = newest.unwrap_or_else(|| panic!("no checkpoint {what}"));
                assert!(newest.step >= *step, "{what}");
                let hash = super::super::train::weights_hash(&newest).unwrap();
                assert_eq!(Some(&hash), weights.get(&newest.step), "{what}");
            }
            let again = train_prepared(&prepared, &options(disk), &mut Watch::default());
            let again = again.unwrap_or_else(|failure| panic!("{what}: {failure}"));
            assert_eq!(again.content, whole.content, "{what}");
            let report = verify(disk, &again.run).unwrap();
            assert!(report.outputs_are_whole(), "{what}: {:?}", report.problems);
        });
    }
    assert!(seen > 1000, "a run leaves more disks than {seen}");
    looked_at
}

#[test]
fn a_power_failure_at_any_moment_changes_no_bit() {
    let keep = "training.keep_checkpoints=9";
    let optimizers: &[&str] =
        if is_long() { &["adamw", "muon", "lion", "sgd"] } else { &["adamw"] };
    for optimizer in optimizers {
        let optimizer = format!("optimizer.type={optimizer}");
        let project = tiny(&[keep, "training.max_steps=4", &optimizer]);
        let is_whole = is_long() && optimizer.ends_with("adamw");
        assert!(replay(&project, if is_whole { 1 } else { THINNING }) > 10);
    }
}
