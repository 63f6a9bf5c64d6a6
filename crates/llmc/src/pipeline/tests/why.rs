//! Steps looked at after the fact.

use super::super::why::why;
use super::*;
use crate::checkpoint;

fn records(store: &dyn Store, run: &Path) -> Vec<crate::metrics::TrainRecord> {
    let (records, _) = metrics::read(store, run).unwrap();
    let of = |r: Record| match r {
        Record::Train(r) => Some(r),
        _ => None,
    };
    records.into_iter().filter_map(of).collect()
}

#[test]
fn a_step_is_what_it_was_from_whatever_checkpoint() {
    let store = MemStore::new();
    let settings = [
        "training.ema=0.5",
        "training.batch_ramp={ start = 2, steps = 3 }",
        "training.keep_checkpoints=9",
    ];
    let run = run_whole(&store, &tiny(&settings)).run;
    let trained = records(&store, &run);
    let ask = |store: &MemStore, step| {
        why(store, &run, Some(step), None, None, &mut Watch::default()).unwrap()
    };
    let before = store.list(&run.join("checkpoints")).unwrap();
    for (step, from_step) in [(1, 0), (2, 0), (3, 2), (5, 4), (6, 4)] {
        let found = ask(&store, step);
        let record = &trained[step as usize - 1];
        assert_eq!(
            (found.step, found.from_step, found.is_as_recorded),
            (step, from_step, Some(true))
        );
        assert_eq!(found.loss, record.loss);
        assert!((found.lr - record.lr).abs() < 1e-15);
        let squares: f64 = found.layers.iter().map(|l| l.grad_norm * l.grad_norm).sum();
        assert!((squares.sqrt() - found.grad_norm).abs() < 1e-9 * found.grad_norm);
        let layers: Vec<&str> = found.layers.iter().map(|l| l.layer.as_str()).collect();
        assert!(
            layers.starts_with(&["embedding"]) && layers.ends_with(&["layers.0"]),
            "{layers:?}"
        );
        let rows: std::collections::BTreeSet<usize> =
            found.documents.iter().flat_map(|d| d.rows.clone()).collect();
        let n = [2, 2, 2, 4, 4, 4][step as usize - 1];
        assert_eq!(rows, (0..n).collect());
        assert!(found.documents.iter().all(|d| d.source == "synthetic:en"));
        assert!(found.non_finite.is_none() && found.bad_weights.is_empty());
    }
    assert_eq!(store.list(&run.join("checkpoints")).unwrap(), before);
    // Without the checkpoint before it, from an earlier one, or from the start.
    let fifth = ask(&store, 5);
    for listed in checkpoint::list(&store, &run).unwrap() {
        store.remove_dir_all(&listed.path).unwrap();
        let again = ask(&store, 5);
        assert_eq!((again.grad_norm, again.layers), (fifth.grad_norm, fifth.layers.clone()));
    }
    assert_eq!(ask(&store, 5).from_step, 0);
}

#[test]
fn a_failed_run_says_where_its_numbers_stopped() {
    let store = MemStore::new();
    let project = tiny(&["optimizer.lr=1e30", "training.checkpoint_interval=1"]);
    run_with(&store, &project, &mut Watch::default()).unwrap_err();
    let run = super::super::runs::list(&store, Path::new("runs")).unwrap()[0].path.clone();
    let found = why(&store, &run, None, None, None, &mut Watch::default()).unwrap();
    assert_eq!((found.step, found.from_step, found.is_as_recorded), (2, 1, None));
    let fault = found.non_finite.unwrap();
    assert!(fault.quantity == "loss" || fault.quantity == "grad_norm");
    assert!(fault.node.as_ref().unwrap().contains("in `@"), "{fault:?}");
    assert!(!fault.documents.is_empty() && fault.rows[0] <= fault.rows[1]);
    let beyond = why(&store, &run, Some(3), None, None, &mut Watch::default());
    let text = beyond.unwrap_err().to_string();
    assert!(text.contains("comes to an end at step 2"), "{text}");
    let json = serde_json::to_value(
        why(&store, &run, Some(1), None, None, &mut Watch::default()).unwrap(),
    );
    assert!(json.unwrap()["loss"].is_number());
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let store = MemStore::new();
    let project = tiny(&["optimizer.lr=1e39", "training.checkpoint_interval=1"]);
    run_with(&store, &project, &mut Watch::default()).unwrap_err();
    let run = super::super::runs::list(&store, Path::new("runs")).unwrap()[0].path.clone();
    let found = why(&store, &run, None, None, None, &mut Watch::default()).unwrap();
    assert!(found.non_finite.is_some() && !found.bad_weights.is_empty());
    // No number of the report is `null`: those that are none are texts.
    assert!(!serde_json::to_value(&found).unwrap()["loss"].is_null());
}

#[test]
fn a_step_that_is_none_is_refused_and_so_is_another_text() {
    let store = MemStore::new();
    with_text(&store);
    let project = over_files(r#"["corpus"]"#, &[]);
    let run = run_whole(&store, &project).run;
    let ask = |step| why(&store, &run, step, None, None, &mut Watch::default());
    for step in [None, Some(0), Some(7)] {
        let failure = ask(step).unwrap_err();
        assert_eq!((failure.diagnostics()[0].code.as_str(), failure.exit_code()), ("why::step", 2));
    }
    store.write(Path::new("corpus/a.txt"), b"other words").unwrap();
    let failure = ask(Some(3)).unwrap_err();
    assert_eq!((failure.diagnostics()[0].code.as_str(), failure.exit_code()), ("why::changed", 4));
}
