//! Numbers that are too large, and numbers that are none.

use super::super::runs;
use super::super::train::thread_count;
use super::*;
use crate::logs;
use crate::manifest::RunStatus;

#[test]
fn a_loss_that_is_not_finite_says_where_and_marks_the_run_as_failed() {
    let store = MemStore::new();
    let project = tiny(&["optimizer.lr=1e30", "training.checkpoint_interval=1"]);
    let failure = run_with(&store, &project, &mut Watch::default()).unwrap_err();
    assert_eq!(failure.exit_code(), 1);
    let text = failure.to_string();
    assert!(text.contains("train::non_finite"), "{text}");
    // The first step is done with the initial weights, and is in the metrics; the second fails.
    assert!(text.contains("is not finite at step 2, first at "), "{text}");
    assert!(text.contains("documents: `synthetic:en` #"), "{text}");
    let listed = runs::list(&store, Path::new("runs")).unwrap();
    assert_eq!((listed[0].status.as_str(), listed[0].step), ("failed", 1));
    let found = manifest(&store, &listed[0].path);
    assert_eq!(found.status, RunStatus::Failed);
    let error = found.observations.values["error"].as_str().unwrap();
    assert!(error.contains("at step 2"), "{error}");
    let log = logs::read(&store, &listed[0].path).unwrap();
    assert_eq!(log[0], "started, threads: 1");
    assert!(log[1].starts_with("failed after step 1: ") && log[1].contains("at step 2"), "{log:?}");
    let page = store.read_text(&listed[0].path.join(crate::report::FILE)).unwrap();
    assert!(page.contains("is not finite at step 2"));
    let (records, _) = metrics::read(&store, &listed[0].path).unwrap();
    assert_eq!(records.iter().map(Record::step).max(), Some(1));
}

#[test]
fn absurd_numbers_of_threads_are_refused() {
    for n in [0, 1_000_000, usize::MAX] {
        let result = thread_count(Some(n), Some(1));
        assert!(result.unwrap_err().to_string().contains(&format!("{n} threads")), "{n}");
    }
    let count = |asked, spec| thread_count(asked, spec).unwrap();
    assert_eq!(count(Some(256), None), 256);
    assert_eq!((count(Some(2), Some(3)), count(None, Some(3))), (2, 3));
    // The spec of a larger machine works here.
    assert!((256..=4096).contains(&count(None, Some(4096))));
    assert!(count(None, None) >= 1);
    let store = MemStore::new();
    let options = TrainOptions { threads: Some(1_000_000), ..options(&store) };
    let result = train(&tiny(&[]), &options, &mut Watch::default());
    assert_eq!(code(result), "train::threads");
}
