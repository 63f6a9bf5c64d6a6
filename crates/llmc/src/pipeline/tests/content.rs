//! What changes a run's hashes, and what does not.

use super::super::rerun::{rerun, resume};
use super::*;
use crate::checkpoint;

/// Recipe and content of a complete run.
#[track_caller]
fn hashes(changes: &[&str], threads: Option<usize>) -> [String; 2] {
    let store = MemStore::new();
    let options = TrainOptions { threads, ..options(&store) };
    let result = train(&tiny(changes), &options, &mut Watch::default()).unwrap();
    let found = manifest(&store, &result.run);
    assert_eq!((found.recipe, Some(found.content)), (result.recipe, result.content));
    [result.recipe.to_string(), found.content.to_string()]
}

#[test]
fn execution_and_labels_change_neither_hash() {
    let expected = hashes(&[], None);
    for changes in [
        &["training.microbatch_size=1"][..],
        &["training.microbatch_size=4"],
        &["training.keep_checkpoints=1", "training.checkpoint_interval=1"],
        &["training.keep_best=false"],
        &["model.name=other", "dataset.name=other", "training.name=other"],
        &["training.threads=3", "training.log_interval=2"],
    ] {
        assert_eq!(hashes(changes, None), expected, "{changes:?}");
    }
    assert_eq!(hashes(&[], Some(2)), expected);
}

#[test]
fn a_calibrated_machine_shows_the_plan_beside_the_run_and_changes_neither_hash() {
    use crate::cache::StageCache;
    use crate::calibration::{keep, tests::made_up};
    use llmc_runtime::Isa;
    let expected = hashes(&[], Some(1));
    let store = MemStore::new();
    let cache = StageCache::new(&store, "cache");
    keep(&cache, Isa::detect(), 1, &made_up()).unwrap();
    let with_cache = TrainOptions { threads: Some(1), cache: Some(&cache), ..options(&store) };
    let result = train(&tiny(&[]), &with_cache, &mut Watch::default()).unwrap();
    let found = manifest(&store, &result.run);
    assert_eq!([found.recipe, found.content].map(|h| h.to_string()), expected);
    let plan = result.plan.unwrap();
    assert!(plan.step_s.predicted > 0.0 && plan.step_s.actual > 0.0);
    // No system tells of memory here.
    assert_eq!(plan.peak_growth, None);
    let noted = found.observations.values["plan"].clone();
    assert_eq!(serde_json::from_value::<super::super::plan::PlanCheck>(noted).unwrap(), plan);
    let report = store.read_text(&result.run.join("report.html")).unwrap();
    assert!(report.contains("Predicted and actual"));
    // Without one there is nothing to show, and nothing is measured.
    let other = MemStore::new();
    let cache = StageCache::new(&other, "cache");
    let with_cache = TrainOptions { threads: Some(1), cache: Some(&cache), ..options(&other) };
    let result = train(&tiny(&[]), &with_cache, &mut Watch::default()).unwrap();
    assert_eq!(result.plan, None);
    assert!(!other.exists(Path::new("cache/calibration")).unwrap());
}

#[test]
fn meaning_changes_both_hashes() {
    let [recipe, content] = hashes(&[], None);
    for change in ["optimizer.lr=2e-2", "training.seed=1", "training.max_steps=5", "dataset.seed=3"]
    {
        let other = hashes(&[change], None);
        assert_ne!(other[0], recipe, "{change}");
        assert_ne!(other[1], content, "{change}");
    }
}

#[test]
fn an_interruption_changes_neither_hash() {
    let expected = hashes(&[], None);
    // Step 3 is no step of the checkpoint interval, so another checkpoint is kept.
    let (store, project) = (MemStore::new(), tiny(&["training.keep_checkpoints=9"]));
    let stopped = stopped_after(&store, &project, 3);
    let found = manifest(&store, &stopped.run);
    assert_eq!(found.status, crate::manifest::RunStatus::Interrupted);
    assert_eq!((stopped.step, stopped.content), (3, None));
    assert_ne!(found.content.to_string(), expected[1]);
    let result = resume(&stopped.run, None, options(&store), &mut Watch::default()).unwrap();
    assert_eq!([result.recipe, result.content.unwrap()].map(|h| h.to_string()), expected);
    let steps: Vec<u64> =
        checkpoint::list(&store, &result.run).unwrap().iter().map(|l| l.step).collect();
    assert!(steps.contains(&3), "{steps:?}");
}

#[test]
fn a_run_that_continues_another_does_not_depend_on_where_that_lies() {
    let contents = ["runs", "elsewhere/deep"].map(|folder| {
        let store = MemStore::new();
        let options = || TrainOptions { output: Path::new(folder), ..options(&store) };
        let first = train(&tiny(&[]), &options(), &mut Watch::default()).unwrap();
        let more = resume(&first.run, Some(9), options(), &mut Watch::default()).unwrap();
        assert_eq!((more.step, more.run == first.run), (9, false));
        let report = rerun(&store, &more.run, Path::new("s"), None, None, &mut Watch::default());
        assert!(report.unwrap().is_same());
        (more.recipe, more.content.unwrap())
    });
    assert_eq!(contents[0], contents[1]);
}

#[test]
fn the_manifest_names_the_recipe_of_every_part() {
    let store = MemStore::new();
    with_text(&store);
    let project = over_files(r#"["corpus"]"#, &[]);
    let result = run_whole(&store, &project);
    let found = manifest(&store, &result.run);
    let hashes = project.resolved.hashes;
    assert_eq!(Some(found.recipe_of.training), hashes.training);
    let recipe = |name: &str| found.artifact(name).unwrap().recipe;
    assert_eq!(recipe("spec"), hashes.training);
    assert_eq!(recipe("model"), hashes.model);
    assert_eq!(recipe("tokenizer"), hashes.tokenizer);
    assert_eq!(recipe("data"), hashes.dataset);
    assert_eq!(recipe("text"), Some(found.recipe_of.text));
    assert_eq!(recipe("step-000006"), Some(found.recipe));
    // Where the text lies is in the spec; what it says is in the text's own hash.
    store.write(Path::new("corpus/a.txt"), "seven eight ".repeat(30).as_bytes()).unwrap();
    let other = manifest(&store, &run_whole(&store, &project).run).recipe_of;
    assert_eq!(other.training, found.recipe_of.training);
    assert_ne!(other.text, found.recipe_of.text);
}
