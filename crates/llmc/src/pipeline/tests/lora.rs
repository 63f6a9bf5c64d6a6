//! Runs that train adapters beside the weights of another.

use super::super::data::read_held_out;
use super::super::emit::{self, emit};
use super::super::finetune::{Start, parent};
use super::super::generate::{Model, WeightFormat, Which};
use super::super::held_out::held_out_loss;
use super::super::plan::{PlanOptions, plan};
use super::super::quantize::{Work, quantize};
use super::super::rerun::{rerun, resume};
use super::super::train::{Parent, train_prepared};
use super::super::why::why;
use super::*;
use crate::checkpoint;
use crate::manifest::verify;
use crate::store::{Fault, FaultStore};
use llmc_formats::safetensors::SafeTensors;
use llmc_runtime::Engine;
use std::collections::BTreeMap;

const LORA: &str = "training.lora={ rank = 2, alpha = 4.0, target_modules = [\"q\", \"mlp.*\"] }";

fn tuned_by(changes: &[&str]) -> Project {
    tiny(&[&[LORA, "dataset.seed=7", "training.max_steps=4"], changes].concat())
}

fn from(store: &dyn Store, run: &Path, project: &Project) -> Parent {
    parent(store, run, Start::Last, project).unwrap().0
}

fn tuned(store: &dyn Store, project: &Project, parent: Parent) -> TrainResult {
    let options = TrainOptions { parent: Some(parent), ..options(store) };
    train(project, &options, &mut Watch::default()).unwrap()
}

fn tensors(bytes: &[u8]) -> BTreeMap<String, Vec<f32>> {
    let parsed = SafeTensors::parse(bytes).unwrap();
    parsed.tensors().map(|view| (view.info.name.clone(), view.to_f32().unwrap())).collect()
}

fn weights(store: &dyn Store, run: &Path) -> BTreeMap<String, Vec<f32>> {
    tensors(&Model::open(store, run, Which::Last).unwrap().weights)
}

#[test]
fn a_checkpoint_holds_adapters_and_the_run_what_they_stand_beside() {
    let store = MemStore::new();
    let base = run_whole(&store, &tiny(&[]));
    let before = weights(&store, &base.run);
    // Of rate 0: the second matrices stay 0, and nothing is added.
    let still = tuned_by(&["optimizer.lr=0"]);
    let result = tuned(&store, &still, from(&store, &base.run, &still));
    assert_eq!(weights(&store, &result.run), before);

    let project = tuned_by(&["training.ema=0.5"]);
    let result = tuned(&store, &project, from(&store, &base.run, &project));
    let last = checkpoint::load_step(&store, &result.run, 4).unwrap();
    let own = tensors(&last.read(&store, "weights.safetensors").unwrap());
    let names: Vec<&str> = own.keys().map(String::as_str).collect();
    let maps = ["attention.q", "mlp.down", "mlp.gate", "mlp.up"];
    let expected: Vec<String> = maps
        .iter()
        .flat_map(|map| ["A", "B"].map(|m| format!("layers.0.{map}.lora_{m}.weight")))
        .collect();
    assert_eq!(names, expected);
    let after = weights(&store, &result.run);
    for (path, values) in &after {
        let is_adapted = maps.iter().any(|map| *path == format!("layers.0.{map}.weight"));
        assert_eq!(*values != before[path], is_adapted, "{path}");
    }
    assert_eq!(verify(&store, &result.run).unwrap().problems, []);
    let recorded = manifest(&store, &result.run);
    assert!(recorded.artifact("base").is_some());
    // Without the run that it started from it is still whole.
    store.remove_dir_all(&base.run).unwrap();
    assert_eq!(weights(&store, &result.run), after);
    assert_eq!(verify(&store, &result.run).unwrap().problems, []);
    let again = rerun(&store, &result.run, Path::new("s"), None, None, &mut Watch::default());
    assert_eq!(code(again), "run::parent_missing");
    store.remove_dir_all(&result.run.join("base")).unwrap();
    assert_eq!(code(Model::open(&store, &result.run, Which::Last)), "run::no_base");
    assert!(!verify(&store, &result.run).unwrap().problems.is_empty());
}

#[test]
fn adapters_are_resumed_repeated_explained_and_extended_exactly() {
    let (store, project) = (MemStore::new(), tuned_by(&[]));
    let base = run_whole(&store, &tiny(&[]));
    let whole = tuned(&store, &project, from(&store, &base.run, &project));
    let again = rerun(&store, &whole.run, Path::new("s"), Some(2), None, &mut Watch::default());
    assert!(again.unwrap().is_same());
    for step in [1, 4] {
        let found = why(&store, &whole.run, Some(step), None, None, &mut Watch::default()).unwrap();
        assert_eq!(found.is_as_recorded, Some(true));
        let layers: Vec<&str> = found.layers.iter().map(|l| l.layer.as_str()).collect();
        assert_eq!(layers, ["layers.0"]);
    }

    let other = MemStore::new();
    let base = run_whole(&other, &tiny(&[]));
    let parent = Some(from(&other, &base.run, &project));
    let mut watch = Watch { stop_after: Some(3), ..Watch::default() };
    let part = train(&project, &TrainOptions { parent, ..options(&other) }, &mut watch).unwrap();
    let resumed = resume(&part.run, None, options(&other), &mut Watch::default()).unwrap();
    assert_eq!((resumed.weights, resumed.content), (whole.weights, whole.content));

    // More steps go on with the adapters of the same base.
    let more = resume(&whole.run, Some(6), options(&store), &mut Watch::default()).unwrap();
    let kept = |run: &Path| store.read(&run.join("base/weights.safetensors")).unwrap();
    assert_eq!((more.step, kept(&more.run)), (6, kept(&whole.run)));
    assert_eq!(verify(&store, &more.run).unwrap().problems, []);
    // Another run starts from both, merged.
    let next = tuned_by(&["dataset.seed=8"]);
    let start = from(&store, &whole.run, &next);
    assert_ne!(start.weights, whole.weights);
    let next = tuned(&store, &next, start);
    assert_eq!(tensors(&kept(&next.run)), weights(&store, &whole.run));
    let plain = tiny(&["dataset.seed=8", "training.max_steps=1", "optimizer.lr=0"]);
    let plain = tuned(&store, &plain, from(&store, &whole.run, &plain));
    assert_eq!(weights(&store, &plain.run), weights(&store, &whole.run));
}

/// A death at every change that the run makes to the disk: what is there then ends in the same bits.
#[test]
fn a_death_at_any_change_loses_neither_base_nor_adapters() {
    let project = tuned_by(&[]);
    let disk = || {
        let store = MemStore::new();
        let base = run_whole(&store, &tiny(&[])).run;
        let parent = Some(from(&store, &base, &project));
        (store, parent)
    };
    let (store, parent) = disk();
    let start = TrainOptions { parent: parent.clone(), ..options(&store) };
    let prepared = prepare(&project, &start, &mut Watch::default()).unwrap();
    let run = |store: &dyn Store, parent: &Option<Parent>| {
        let options = TrainOptions { parent: parent.clone(), ..options(store) };
        train_prepared(&prepared, &options, &mut Watch::default())
    };
    let whole = run(&store, &parent).unwrap();
    for n in 0.. {
        let (disk, parent) = disk();
        let faulty = FaultStore::new(disk, n, Fault::Abort);
        let result = run(&faulty, &parent);
        if !faulty.has_failed() {
            assert_eq!(result.unwrap().content, whole.content);
            assert!(n > 50, "a run makes more changes than {n}");
            return;
        }
        let disk = faulty.inner();
        let result = run(disk, &parent).unwrap();
        assert_eq!((result.weights, result.content), (whole.weights, whole.content), "change {n}");
        assert!(verify(disk, &result.run).unwrap().outputs_are_whole(), "change {n}");
    }
}

#[test]
fn merged_weights_are_the_model_that_was_trained() {
    let store = MemStore::new();
    let base = run_whole(&store, &tiny(&[]));
    let project = tuned_by(&["optimizer.lr=0.1"]);
    let result = tuned(&store, &project, from(&store, &base.run, &project));
    let model = Model::open(&store, &result.run, Which::Last).unwrap();
    let split = read_held_out(&store, &result.run.join("data")).unwrap().unwrap();
    let engine = Engine::new(1, None).unwrap();
    let file = (&model.weights[..], Path::new("merged"));
    let merged = held_out_loss(&model.module, file, &split, None, engine).unwrap().unwrap();
    let seen = result.validation.unwrap().loss;
    assert!((merged.loss - seen).abs() < 1e-5 * seen, "{merged:?} {seen}");
    // It is used as any other.
    let folder = Path::new("quantized");
    let narrow =
        quantize(&store, (&result.run, &model), WeightFormat::Bf16, folder, Work::default());
    assert!(narrow.unwrap().after.is_some());
    Model::open(&store, folder, Which::Last).unwrap();
    let safetensors = emit::find("safetensors").unwrap();
    emit(&store, &model, safetensors, Path::new("whole")).unwrap();
    let exported = Model::open(&store, Path::new("whole"), Which::Last).unwrap();
    assert_eq!(tensors(&exported.weights), tensors(&model.weights));
}

#[test]
fn adapters_leave_in_the_layout_of_peft() {
    let store = MemStore::new();
    let base = run_whole(&store, &tiny(&[]));
    let project = tuned_by(&[]);
    let result = tuned(&store, &project, from(&store, &base.run, &project));
    let model = Model::open(&store, &result.run, Which::Last).unwrap();
    let peft = emit::find("peft").unwrap();
    emit(&store, &model, peft, Path::new("peft")).unwrap();
    let config = store.read_text(Path::new("peft/adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&2.into(), &4.0.into()));
    let modules = ["mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "self_attn.q_proj"];
    assert_eq!(config["target_modules"], serde_json::json!(modules));
    let theirs = tensors(&store.read(Path::new("peft/adapter_model.safetensors")).unwrap());
    let ours = checkpoint::load_step(&store, &result.run, 4).unwrap();
    let ours = tensors(&ours.read(&store, "weights.safetensors").unwrap());
    let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
    assert_eq!(theirs[name], ours["layers.0.attention.q.lora_B.weight"]);
    assert_eq!(theirs.len(), ours.len());
    let plain = Model::open(&store, &base.run, Which::Last).unwrap();
    assert_eq!(code(emit(&store, &plain, peft, Path::new("none"))), "emit::no_adapters");
}

#[test]
fn what_is_wrong_with_adapters_is_told() {
    let store = MemStore::new();
    let prepare = |project: &Project| prepare(project, &options(&store), &mut Watch::default());
    assert_eq!(code(prepare(&tuned_by(&[])).map(drop)), "lora::no_base");
    let base = run_whole(&store, &tiny(&[]));
    let project = tuned_by(&["training.lora.target_modules=[\"query\"]"]);
    let parent = Some(from(&store, &base.run, &project));
    let options = TrainOptions { parent, ..options(&store) };
    let refused = train(&project, &options, &mut Watch::default());
    let failure = refused.err().unwrap();
    let d = &failure.diagnostics()[0];
    assert_eq!(d.code, "lora::target");
    assert!(d.help.as_deref().unwrap().contains("attention.q, attention.v, mlp.down"), "{d:?}");
}

#[test]
fn the_plan_shows_what_adapters_save() {
    let store = MemStore::new();
    let options = PlanOptions { threads: Some(1), isa: None };
    let whole = plan(&tiny(&[]), &options, None, &store).unwrap().memory;
    let little = plan(&tuned_by(&[]), &options, None, &store).unwrap().memory;
    assert_eq!((whole.frozen, little.frozen), (0, whole.weights));
    assert!(little.weights < whole.weights && little.optimizer < whole.optimizer);
    assert!(little.gradients < whole.gradients);
}
