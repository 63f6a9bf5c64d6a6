//! Runs that end early, and the best checkpoints of those that go on.

use super::super::generate::{Model, Which};
use super::super::rerun::{rerun, resume};
use super::*;
use crate::checkpoint;
use crate::logs;
use crate::manifest::{RunStatus, verify};

/// A rate at which the loss on held-out text falls and rises again.
const RESTLESS: [&str; 4] = [
    "optimizer.lr=0.3",
    "training.eval_interval=1",
    "training.checkpoint_interval=4",
    "training.max_steps=30",
];

const PATIENT: &str = "training.early_stopping={ patience = 2, min_delta = 0.3 }";

/// Step and loss of every validation.
fn validations(store: &dyn Store, run: &Path) -> Vec<(u64, f64)> {
    let (records, _) = metrics::read(store, run).unwrap();
    let of = |r: &Record| match r {
        Record::Validation(v) => Some((v.step, v.loss)),
        _ => None,
    };
    records.iter().filter_map(of).collect()
}

/// The step at which a run of these losses ends.
fn end(losses: &[(u64, f64)], patience: u64, delta: f64) -> u64 {
    let (mut best, mut stale) = (f64::INFINITY, 0);
    for (step, loss) in losses {
        (best, stale) = if *loss < best - delta { (*loss, 0) } else { (best, stale + 1) };
        if stale == patience {
            return *step;
        }
    }
    losses.last().unwrap().0
}

#[test]
fn a_run_ends_where_the_held_out_loss_falls_no_more_however_often_it_was_stopped() {
    let (store, whole) = (MemStore::new(), tiny(&RESTLESS));
    let losses = validations(&store, &run_whole(&store, &whole).run);
    let wanted = end(&losses, 2, 0.3);
    assert!(wanted < 28, "it ends at {wanted}; choose another rate");

    let project = tiny(&[&RESTLESS[..], &[PATIENT]].concat());
    let result = run_whole(&store, &project);
    assert_eq!((result.step, result.is_stopped_early), (wanted, true));
    assert_eq!(manifest(&store, &result.run).status, RunStatus::Complete);
    assert_eq!(validations(&store, &result.run), losses[..wanted as usize]);
    let log = logs::read(&store, &result.run).unwrap();
    assert!(log.last().unwrap().ends_with("the held-out loss fell no more"), "{log:?}");
    assert_eq!(verify(&store, &result.run).unwrap().problems, []);
    let again = run_whole(&store, &project);
    assert_eq!(
        (again.status, again.is_stopped_early),
        (super::super::TrainStatus::AlreadyComplete, true)
    );
    let report = rerun(&store, &result.run, Path::new("s"), None, None, &mut Watch::default());
    assert!(report.unwrap().is_same());

    let other = MemStore::new();
    for step in 1..=wanted {
        stopped_after(&other, &project, step);
    }
    let resumed = run_whole(&other, &project);
    assert_eq!((resumed.step, resumed.content), (wanted, result.content));
    // More steps are another run, with patience of its own.
    let more = resume(&result.run, Some(wanted + 2), options(&store), &mut Watch::default());
    assert_eq!(more.unwrap().step, wanted + 2);
}

#[test]
fn a_death_after_the_last_checkpoint_of_an_early_end_takes_no_step_more() {
    let project = tiny(&[&RESTLESS[..], &[PATIENT]].concat());
    let expected = run_whole(&MemStore::new(), &project);
    let prepared = prepare(&project, &options(&MemStore::new()), &mut Watch::default()).unwrap();
    for n in 0.. {
        let store = crate::store::FaultStore::new(MemStore::new(), n, crate::store::Fault::Abort);
        let mut watch = Watch::default();
        let result = super::super::train::train_prepared(&prepared, &options(&store), &mut watch);
        if result.is_ok() {
            panic!("no death after the last checkpoint");
        }
        if watch.checkpoints.last() == Some(&expected.step) {
            let mut watch = Watch::default();
            let disk = store.into_inner();
            let result = train(&project, &options(&disk), &mut watch).unwrap();
            assert_eq!((result.step, result.content), (expected.step, expected.content));
            assert_eq!(watch.first_step, Some(expected.step));
            return;
        }
    }
}

#[test]
fn the_best_checkpoints_are_those_of_the_lowest_losses() {
    let settings = ["training.best_checkpoints=3", "training.keep_checkpoints=1"];
    let (store, project) = (MemStore::new(), tiny(&[&RESTLESS[..], &settings[..]].concat()));
    stopped_after(&store, &project, 7);
    let result = run_whole(&store, &project);
    let mut losses = validations(&store, &result.run);
    losses.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut wanted: Vec<u64> = losses[..3].iter().map(|(step, _)| *step).collect();
    let best = Model::open(&store, &result.run, Which::Best).unwrap();
    assert_eq!(best.checkpoint.step, wanted[0]);
    wanted.push(result.step);
    wanted.sort();
    wanted.dedup();
    let kept = checkpoint::list(&store, &result.run).unwrap();
    assert_eq!(kept.iter().map(|l| l.step).collect::<Vec<_>>(), wanted);
    assert_eq!(verify(&store, &result.run).unwrap().problems, []);
}

#[test]
fn samples_continue_every_prompt_and_change_nothing() {
    let store = MemStore::new();
    let settings = [
        "training.sample_prompts=[\"a\", \"the \"]",
        "training.sample_interval=3",
        "training.sample_tokens=5",
    ];
    let result = run_whole(&store, &tiny(&settings));
    let (records, _) = metrics::read(&store, &result.run).unwrap();
    let samples: Vec<_> = records
        .iter()
        .filter_map(|r| match r {
            Record::Sample(s) => Some((s.step, s.prompt.as_str(), s.text.clone())),
            _ => None,
        })
        .collect();
    let places: Vec<_> = samples.iter().map(|(step, prompt, _)| (*step, *prompt)).collect();
    assert_eq!(places, [(3, "a"), (3, "the "), (6, "a"), (6, "the ")]);
    let page = store.read_text(&result.run.join(crate::report::FILE)).unwrap();
    assert_eq!(page.matches("card sample").count(), 4);
    let other = MemStore::new();
    let again = run_whole(&other, &tiny(&settings));
    let texts = |store: &MemStore, run: &Path| {
        let (records, _) = metrics::read(store, run).unwrap();
        records.into_iter().filter(|r| matches!(r, Record::Sample(_))).collect::<Vec<_>>()
    };
    assert_eq!(texts(&other, &again.run), texts(&store, &result.run));
    let plain = run_whole(&MemStore::new(), &tiny(&["training.sample_tokens=0"]));
    assert_eq!((plain.content, plain.recipe), (result.content, result.recipe));
}
