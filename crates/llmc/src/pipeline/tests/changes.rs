//! Going on with a run, and executing it again, when it was killed or something changed.

use super::super::rerun::{rerun, resume};
use super::super::runs;
use super::*;
use crate::checkpoint;
use crate::manifest::{RunStatus, verify};
use crate::store::{Fault, FaultStore};

/// A run that is killed once it has saved `checkpoints` of them.
fn killed(project: &Project, checkpoints: usize) -> (MemStore, std::path::PathBuf) {
    for n in 0.. {
        let disk = MemStore::new();
        with_text(&disk);
        let store = FaultStore::new(disk, n, Fault::Abort);
        let mut watch = Watch::default();
        let failed = run_with(&store, project, &mut watch).is_err();
        assert!(failed && store.has_failed(), "it ended before it had {checkpoints} checkpoints");
        if watch.checkpoints.len() == checkpoints {
            let prepared = prepare(project, &options(store.inner()), &mut Watch::default());
            let recipe = prepared.unwrap().recipe;
            let run = super::super::train::run_folder(Path::new("runs"), &recipe);
            return (store.into_inner(), run);
        }
    }
    unreachable!("the loop ends")
}

fn expected(project: &Project) -> TrainResult {
    let store = MemStore::new();
    with_text(&store);
    run_whole(&store, project)
}

#[test]
fn a_killed_run_is_listed_verified_resumed_and_executed_again() {
    let project = over_files(r#"["corpus"]"#, &[]);
    let (store, run) = killed(&project, 2);
    assert_eq!(manifest(&store, &run).status, RunStatus::Unfinished);
    let listed = runs::list(&store, Path::new("runs")).unwrap();
    assert_eq!((listed[0].status.as_str(), listed[0].content), ("unfinished", None));
    let report = verify(&store, &run).unwrap();
    assert!(report.outputs_are_whole(), "{:?}", report.problems);
    let last = checkpoint::load_latest_whole(&store, &run).unwrap().0.unwrap();

    let again = rerun(&store, &run, Path::new("s"), None, None, &mut Watch::default()).unwrap();
    assert!(again.is_same() && again.step == last.step && again.step < 6);

    let more = resume(&run, Some(8), options(&store), &mut Watch::default()).unwrap();
    assert_eq!((more.step, more.run == run), (8, false));

    let mut watch = Watch::default();
    let result = resume(&run, None, options(&store), &mut watch).unwrap();
    assert_eq!(watch.first_step, Some(last.step));
    assert_eq!(result.content, expected(&project).content);
}

#[test]
fn an_interrupted_run_is_executed_again_up_to_its_last_step() {
    let (store, project) = (MemStore::new(), tiny(&[]));
    let stopped = stopped_after(&store, &project, 3);
    let mut watch = Watch::default();
    let report = rerun(&store, &stopped.run, Path::new("s"), None, None, &mut watch).unwrap();
    assert!(report.is_same());
    assert_eq!((report.step, watch.checkpoints.last()), (3, Some(&3)));
    // Somebody stops the repetition: nothing was compared.
    let mut watch = Watch { stop_after: Some(2), ..Watch::default() };
    let result = rerun(&store, &stopped.run, Path::new("t"), None, None, &mut watch);
    assert_eq!(code(result), "train::interrupted");
}

/// The message of going on, and of executing again, after a change.
fn after(change: impl Fn(&MemStore)) -> String {
    let store = MemStore::new();
    with_text(&store);
    let project = over_files(r#"["corpus/**/*.txt"]"#, &[]);
    let run = stopped_after(&store, &project, 3).run;
    change(&store);
    let mut watch = Watch::default();
    let resumed = resume(&run, None, options(&store), &mut watch).unwrap_err().diagnostics();
    assert_eq!((resumed[0].code.as_str(), watch.first_step), ("resume::changed", None));
    let longer = resume(&run, Some(9), options(&store), &mut watch);
    assert_eq!(code(longer), "resume::changed");
    let again = rerun(&store, &run, Path::new("s"), None, None, &mut watch);
    assert_eq!(code(again), "rerun::changed");
    assert_eq!(runs::list(&store, Path::new("runs")).unwrap().len(), 1);
    resumed[0].message.split_once("text: ").map_or("", |(_, files)| files).to_string()
}

#[test]
fn going_on_after_files_changed_is_refused_and_names_them() {
    let write = |s: &MemStore, path: &str| s.write(Path::new(path), b"other words").unwrap();
    assert_eq!(after(|s| write(s, "corpus/a.txt")), "`corpus/a.txt` differs");
    let several = after(|s| {
        write(s, "corpus/new.txt");
        s.remove_file(Path::new("corpus/sub/b.txt")).unwrap();
    });
    assert_eq!(several, "`corpus/new.txt` is new, `corpus/sub/b.txt` is gone");
}

#[test]
fn going_on_after_the_recorded_spec_changed_is_refused() {
    let (store, project) = (MemStore::new(), tiny(&[]));
    let run = stopped_after(&store, &project, 3).run;
    let spec = run.join("spec.toml");
    let text = store.read_text(&spec).unwrap();
    assert!(text.contains("0.01"), "{text}");
    store.write(&spec, text.replace("0.01", "0.02").as_bytes()).unwrap();
    let failure = resume(&run, None, options(&store), &mut Watch::default()).unwrap_err();
    assert!(failure.to_string().contains("its spec now gives"), "{failure}");
}

#[test]
fn a_run_in_a_folder_of_another_name_goes_on_there() {
    let (store, project) = (MemStore::new(), tiny(&[]));
    let run = stopped_after(&store, &project, 3).run;
    let renamed = Path::new("runs/mine");
    store.rename(&run, renamed).unwrap();
    let result = resume(renamed, None, options(&store), &mut Watch::default()).unwrap();
    assert_eq!((result.run.as_path(), result.step), (renamed, 6));
    assert_eq!(runs::list(&store, Path::new("runs")).unwrap().len(), 1);
}

#[test]
fn going_on_with_other_labels_records_them() {
    let store = MemStore::new();
    let run = stopped_after(&store, &tiny(&[]), 3).run;
    let result = run_whole(&store, &tiny(&["training.keep_checkpoints=5"]));
    assert_eq!(result.run, run);
    for file in ["spec.toml", "solution.json"] {
        let text = store.read_text(&run.join(file)).unwrap();
        assert!(text.contains("keep_checkpoints"), "{file}: {text}");
    }
    let recorded = runs::project(&store, &run).unwrap();
    assert_eq!(recorded.resolved.training.unwrap().keep_checkpoints, 5);
    assert_eq!(verify(&store, &run).unwrap().problems, []);
}

#[test]
fn damage_to_a_complete_run_names_the_damaged_file() {
    let (store, project) = (MemStore::new(), tiny(&[]));
    let run = run_whole(&store, &project).run;
    store.write(&run.join("aaa.txt"), b"extra").unwrap();
    store.write(&run.join("model.ir"), b"other").unwrap();
    let failure = run_with(&store, &project, &mut Watch::default()).unwrap_err();
    assert_eq!((failure.diagnostics()[0].code.as_str(), failure.exit_code()), ("run::damaged", 1));
    assert!(failure.to_string().contains("`model.ir` differs"), "{failure}");
}

#[test]
fn a_folder_that_holds_another_run_is_left_alone() {
    let store = MemStore::new();
    let project = tiny(&[]);
    let run = stopped_after(&store, &project, 3).run;
    let other = stopped_after(&store, &tiny(&["training.seed=1"]), 3).run;
    store.rename(&run, Path::new("runs/aside")).unwrap();
    store.rename(&other, &run).unwrap();
    let before = manifest(&store, &run);
    assert_eq!(code(run_with(&store, &project, &mut Watch::default())), "run::other");
    assert_eq!(manifest(&store, &run), before);
}
