//! Runs that start from the weights of another.

use super::super::finetune::{Start, parent};
use super::super::generate::{Model, Which};
use super::super::rerun::{rerun, resume};
use super::super::train::Parent;
use super::*;
use crate::checkpoint;
use crate::logs;
use crate::manifest::verify;

/// Another text and another schedule for the same model.
const OTHER: [&str; 3] =
    ["dataset.seed=7", "training.max_steps=4", "training.schedule.warmup_steps=0"];

fn from(store: &dyn Store, run: &Path, start: Start, project: &Project) -> Result<Parent, Failure> {
    parent(store, run, start, project).map(|(parent, _)| parent)
}

fn tuned(store: &dyn Store, project: &Project, parent: Parent) -> Result<TrainResult, Failure> {
    let options = TrainOptions { parent: Some(parent), ..options(store) };
    train(project, &options, &mut Watch::default())
}

fn tokenizer(store: &dyn Store, run: &Path) -> Vec<u8> {
    store.read(&run.join("tokenizer/tokenizer.json")).unwrap()
}

#[test]
fn a_run_takes_weights_and_tokenizer_of_another_and_starts_its_own_steps() {
    let store = MemStore::new();
    let base = run_whole(&store, &tiny(&[]));
    let still = tiny(&["dataset.seed=7", "training.max_steps=1", "optimizer.lr=0"]);
    let parent = from(&store, &base.run, Start::Step(4), &still).unwrap();
    let result = tuned(&store, &still, parent).unwrap();
    assert_eq!((result.step, result.run == base.run), (1, false));
    // A step at rate 0 leaves the weights of step 4; the moments are its own.
    let there = checkpoint::load_step(&store, &base.run, 4).unwrap();
    assert_eq!(result.weights, super::super::train::weights_hash(&there).unwrap());
    assert_ne!(result.recipe, run_whole(&store, &still).recipe);
    assert_eq!(tokenizer(&store, &result.run), tokenizer(&store, &base.run));
    let own = run_whole(&store, &still);
    assert_ne!(tokenizer(&store, &result.run), tokenizer(&store, &own.run));
    let log = logs::read(&store, &result.run).unwrap();
    assert!(log[0].starts_with("started from the weights of step 4 of runs/"), "{log:?}");
    assert_eq!(verify(&store, &result.run).unwrap().problems, []);
    Model::open(&store, &result.run, Which::Last).unwrap();
}

#[test]
fn a_fine_tuned_run_is_resumed_repeated_and_extended_exactly() {
    let (store, project) = (MemStore::new(), tiny(&OTHER));
    let base = run_whole(&store, &tiny(&[]));
    let parent = from(&store, &base.run, Start::Last, &project).unwrap();
    let whole = tuned(&store, &project, parent.clone()).unwrap();
    let again = rerun(&store, &whole.run, Path::new("s"), None, None, &mut Watch::default());
    assert!(again.unwrap().is_same());

    let other = MemStore::new();
    let base = run_whole(&other, &tiny(&[]));
    let options_of = |parent| TrainOptions { parent, ..options(&other) };
    let mut watch = Watch { stop_after: Some(3), ..Watch::default() };
    let stopped = train(&project, &options_of(Some(parent)), &mut watch).unwrap();
    let resumed = resume(&stopped.run, None, options(&other), &mut Watch::default()).unwrap();
    assert_eq!((resumed.content, resumed.run == base.run), (whole.content, false));

    // More steps: the tokenizer is still that of the first run, also when it is executed again.
    let longer = resume(&whole.run, Some(6), options(&store), &mut Watch::default()).unwrap();
    assert_eq!(longer.step, 6);
    assert_eq!(tokenizer(&store, &longer.run), tokenizer(&store, &whole.run));
    let again = rerun(&store, &longer.run, Path::new("t"), None, None, &mut Watch::default());
    assert!(again.unwrap().is_same());
}

#[test]
fn other_weights_make_another_run_and_a_copy_of_them_does_not() {
    let (store, project) = (MemStore::new(), tiny(&OTHER));
    let base = run_whole(&store, &tiny(&[]));
    let [last, fourth] = [Start::Last, Start::Step(4)]
        .map(|start| from(&store, &base.run, start, &project).unwrap());
    let moved = Parent { run: "elsewhere".into(), ..last.clone() };
    assert_eq!(moved.hash(), last.hash());
    assert_ne!(fourth.hash(), last.hash());
    assert_ne!(Parent { is_weights_only: false, ..last.clone() }.hash(), last.hash());
    let best = from(&store, &base.run, Start::Best, &project).unwrap();
    let newest = checkpoint::load_latest_whole(&store, &base.run).unwrap().0.unwrap();
    let state = store.read_text(&newest.path.join("state.json")).unwrap();
    let state: super::super::train::CheckpointState = serde_json::from_str(&state).unwrap();
    assert_eq!(best.step, state.best.unwrap().0);
}

#[test]
fn what_does_not_fit_is_named_with_both_sides() {
    let store = MemStore::new();
    let base = run_whole(&store, &tiny(&[]));
    let wide = tiny(&["model.hidden_size=16"]);
    let failure = from(&store, &base.run, Start::Last, &wide).unwrap_err();
    let found = &failure.diagnostics()[0];
    assert_eq!((found.code.as_str(), failure.exit_code()), ("finetune::shapes", 3));
    let text = &found.message;
    assert!(text.contains("`embedding.weight` is [16, 16] here, [16, 8] there"), "{text}");
    let flip = if text.contains("lm_head") { "true" } else { "false" };
    let other = tiny(&[&format!("model.tie_embeddings={flip}")]);
    let text = from(&store, &base.run, Start::Last, &other).unwrap_err().to_string();
    assert!(text.contains("`lm_head.weight` is "), "{text}");
    assert!(text.contains("missing"), "{text}");

    let words =
        tiny(&["tokenizer.type=byte_bpe", "tokenizer.vocab_size=300", "model.vocab_size=300"]);
    let found = from(&store, &base.run, Start::Last, &words).unwrap_err().diagnostics();
    assert_eq!(found[0].code, "finetune::tokenizer");
    let about = |path: &str| found.iter().find(|d| d.message.contains(path)).unwrap();
    let kind = about("`tokenizer.type`");
    assert!(kind.message.starts_with(r#"`tokenizer.type` is "byte_bpe", but "char" in `runs/"#));
    assert_eq!(kind.help.as_deref(), Some(r#"write `type = "char"` in [tokenizer]"#));
    assert_eq!(kind.labels.len(), 1);
    assert!(about("embedding.weight").message.contains("[300, 8] here, [16, 8] there"));

    // The same shapes, but not the same model.
    let gelu = tiny(&["model.norm_eps=0.01", "model.dropout=0.1"]);
    let (_, warnings) = parent(&store, &base.run, Start::Last, &gelu).unwrap();
    assert_eq!(warnings.len(), 1);
    let text = &warnings[0].message;
    assert!(
        text.contains("`model.norm_eps` is 0.01 here and") && !text.contains("dropout"),
        "{text}"
    );
    let unknown = from(&store, &base.run, Start::Step(5), &gelu);
    assert_eq!(code(unknown), "checkpoint::unknown_step");
}

#[test]
fn a_parent_that_is_another_now_is_refused() {
    let (store, project) = (MemStore::new(), tiny(&OTHER));
    let base = run_whole(&store, &tiny(&[]));
    let parent = from(&store, &base.run, Start::Last, &project).unwrap();
    let zero = llmc_base::Hash::of_bytes(b"other");
    let other = Parent { weights: zero, ..parent.clone() };
    assert_eq!(code(tuned(&store, &project, other)), "run::parent_changed");
    let other = Parent { tokenizer: Some(zero), ..parent };
    assert_eq!(code(tuned(&store, &project, other)), "run::parent_changed");
}
