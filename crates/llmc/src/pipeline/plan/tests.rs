//! Plans of random specs against what they plan.

use super::super::{Defaults, Project};
use super::*;
use crate::calibration::tests::made_up;
use crate::store::MemStore;
use llmc_base::expr::{Env, Symbol};
use llmc_ir::{Op, account};
use llmc_runtime::Engine;
use llmc_spec::{Format, Goal};
use llmc_train::{Modules, Trainer};

#[path = "../../../examples/plan_accuracy/specs.rs"]
mod specs;

const SPECS: u64 = 30;

fn parsed(text: &str, changes: &[&str]) -> Project {
    let changes: Vec<String> = changes.iter().map(|c| (*c).to_string()).collect();
    let found = Project::parse(text, Format::Toml, "s", &changes, Goal::Training, Defaults::Record);
    found.unwrap_or_else(|e| panic!("{e} in\n{text}")).0
}

fn random(n: u64) -> Project {
    parsed(&specs::spec(n, 1), &[])
}

fn planned(project: &Project, calibration: Option<&MachineCalibration>) -> RunPlan {
    let options = PlanOptions { threads: Some(2), isa: None };
    plan(project, &options, calibration, &MemStore::new()).unwrap()
}

/// FLOPs of a function by the account of its IR.
fn flops(module: &Module, function: &str, dims: &[(&str, u64)]) -> i128 {
    let env: Env = dims.iter().map(|(s, n)| (Symbol::new(s), i128::from(*n))).collect();
    let work = account::work(module, module.find(function).unwrap()).unwrap();
    work.total().flops.eval(&env).unwrap()
}

#[test]
fn flops_are_those_of_the_account_of_the_ir() {
    for n in 0..SPECS {
        let project = random(n);
        let training = project.resolved.training.as_ref().unwrap();
        let optimizer = project.resolved.optimizer.as_ref().unwrap();
        let module = project.build().unwrap();
        let gradient = differentiate(&module, optimizer, training, 2).unwrap();
        let parameters = optim::parameters(&gradient, "grad").unwrap();
        let update = optim::update_module(optimizer, training.ema, &parameters).unwrap();
        let update = llmc_passes::legalise(&update, &|op| !matches!(op, Op::NewtonSchulz(_)));
        let dims = [("B", training.microbatch_size), ("T", training.sequence_length)];
        let micro_batches = i128::from(training.batch_size / training.microbatch_size);
        // `@grad` as autodiff makes it: what the plan fuses is the same work.
        let expected = flops(&gradient, "grad", &dims) * micro_batches
            + flops(&optim::merge_module(&parameters).unwrap(), "merge", &[])
            + flops(&update.unwrap(), "update", &[]);
        let found = planned(&project, None).work;
        assert_eq!(i128::from(found.flops), expected, "spec {n}:\n{}", specs::spec(n, 1));
        assert_eq!(i128::from(found.micro_batches), micro_batches);
    }
}

#[test]
fn memory_is_what_the_trainer_reserves() {
    for n in 0..SPECS {
        let project = random(n);
        let training = project.resolved.training.as_ref().unwrap();
        let optimizer = project.resolved.optimizer.as_ref().unwrap();
        let model = project.model().unwrap();
        let module = project.build().unwrap();
        let gradient = differentiate(&module, optimizer, training, 2).unwrap();
        let modules = Modules {
            model: &module,
            gradient: &gradient,
            parameters: optim::parameters(&gradient, "grad").unwrap(),
            n_layers: model.dims.num_layers,
            init: model.architecture.init,
        };
        let engine = Engine::new(2, None).unwrap();
        let trainer = Trainer::new(modules, optimizer, training, engine).unwrap();
        let found = planned(&project, None).memory;
        assert_eq!(found.reserved, trainer.memory_bytes() as u64, "spec {n}");
        // Every plan of these specs is executed, so what is reserved is used.
        let parts = found.weights + found.gradients + found.optimizer + found.activations;
        assert_eq!(parts, found.reserved, "spec {n}");
        let elements = |paths: Vec<String>| -> u64 {
            paths.iter().map(|p| words_for(trainer.tensor(p).unwrap().1.len()) as u64).sum()
        };
        let weights = trainer.parameters().iter().map(|p| p.path.clone()).collect();
        assert_eq!(found.weights, 4 * elements(weights), "spec {n}");
        assert_eq!(found.optimizer, 4 * elements(trainer.moment_paths()), "spec {n}");
    }
}

#[test]
fn every_launch_of_random_specs_has_a_class_in_the_calibration() {
    let calibration = made_up();
    for n in 0..SPECS {
        let project = random(n);
        let training = project.resolved.training.as_ref().unwrap();
        let module = project.build().unwrap();
        let planned = Planned::new(&project, &module, training, 2).unwrap();
        for plan in planned.plans.all() {
            let distances = &reuse(&[plan])[0];
            let found = calibration.launches.plan(plan, distances);
            for (launch, predicted) in plan.launches.iter().zip(found) {
                assert!(
                    predicted.class.is_some(),
                    "spec {n}: {} {}",
                    launch.op.name(),
                    launch.kernel
                );
                assert!(predicted.seconds > 0.0 && predicted.seconds < 1.0);
            }
        }
    }
}

/// A spec that other tests change.
const BASE: &str = r#"[model]
name = "base"
num_layers = 2
hidden_size = 32
num_heads = 2
intermediate_size = 64
vocab_size = 64
context_length = 32

[dataset]
domains = ["synthetic"]
target_tokens = 2000
validation_fraction = 0.1

[tokenizer]
type = "char"

[optimizer]
lr = 1e-2

[training]
batch_size = 4
max_steps = 100
eval_interval = 10
checkpoint_interval = 20
sample_tokens = 8
"#;

#[test]
fn what_is_larger_takes_longer() {
    let calibration = made_up();
    let step =
        |changes: &[&str]| planned(&parsed(BASE, changes), Some(&calibration)).time.unwrap().step_s;
    let base = step(&[]);
    for changes in [
        &["training.batch_size=8"][..],
        &["training.microbatch_size=1"],
        &["model.num_layers=3"],
        &["model.intermediate_size=128"],
        &["model.hidden_size=64"],
        &["model.vocab_size=128"],
        &["model.context_length=64"],
        &["training.gradient_checkpointing=block"],
    ] {
        assert!(step(changes) > base, "{changes:?}");
    }
    assert_eq!(step(&["training.max_steps=200", "optimizer.lr=1e-3"]), base);
}

#[test]
fn a_run_is_its_steps_and_all_that_is_between_them() {
    let found = planned(&parsed(BASE, &[]), Some(&made_up()));
    let time = found.time.unwrap();
    assert_eq!((time.steps, time.evaluations, time.checkpoints), (100, 10, 5));
    let sum = 100.0 * time.step_s + time.evaluations_s + time.checkpoints_s + time.samples_s;
    assert!((time.run_s - sum).abs() < 1e-12);
    assert!(time.evaluations_s > 0.0 && time.checkpoints_s > 0.0 && time.samples_s > 0.0);
    assert!((time.tokens_per_s * time.step_s - 4.0 * 32.0).abs() < 1e-6);
    let seconds: f64 = found.launches.iter().filter_map(|l| l.seconds).sum();
    assert!(seconds > 0.5 * time.step_s && seconds <= time.step_s);
    assert!(found.launches.windows(2).all(|w| w[0].share >= w[1].share));
    let none = planned(
        &parsed(BASE, &["training.eval_interval=0", "training.sample_tokens=0"]),
        Some(&made_up()),
    );
    let time = none.time.unwrap();
    assert_eq!((time.evaluations, time.samples_s), (1, 0.0));
    // Two validations between checkpoints: the best state waits for the second.
    assert!(found.memory.best_state > 0 && none.memory.best_state == 0);
    assert_eq!(found.disk.checkpoints, 5.min(found.disk.checkpoints));
    assert!(found.disk.total_bytes > found.disk.checkpoint_bytes * found.disk.checkpoints);
}

#[test]
fn recomputation_is_offered_beside_what_the_spec_has() {
    let names = |found: &RunPlan| -> Vec<(&str, bool)> {
        found.gradient_checkpointing.iter().map(|a| (a.value, a.is_chosen)).collect()
    };
    let found = planned(&parsed(BASE, &[]), None);
    assert_eq!(names(&found), [("none", true), ("block", false)]);
    let [none, block] = &found.gradient_checkpointing[..] else { panic!("{found:?}") };
    assert!(block.flops > none.flops && block.peak_growth < none.peak_growth);
    assert_eq!((none.peak_growth, none.step_s), (found.memory.peak_growth, None));
    let budget =
        planned(&parsed(BASE, &["training.gradient_checkpointing={ budget = \"1 GiB\" }"]), None);
    assert_eq!(names(&budget), [("budget", true), ("none", false), ("block", false)]);
}

#[test]
fn text_that_is_there_is_measured_by_its_files() {
    use crate::store::{Store, create_dir_all};
    let text =
        BASE.replace("domains = [\"synthetic\"]\ntarget_tokens = 2000\n", "paths = [\"corpus\"]\n");
    let project = parsed(&text, &[]);
    let store = MemStore::new();
    let data =
        |store: &MemStore| plan(&project, &PlanOptions::default(), None, store).unwrap().data;
    assert_eq!(data(&store).text_bytes, None);
    create_dir_all(&store, std::path::Path::new("corpus")).unwrap();
    store.write(std::path::Path::new("corpus/a.txt"), &[b'a'; 6400]).unwrap();
    let found = data(&store);
    // One id of two bytes per character; a tenth is held out, in rows of 32.
    assert_eq!((found.text_bytes, found.tokens, found.held_out_rows), (Some(6400), 6400, 20));
    assert_eq!(found.memory_bytes, 6400 * 3);
}
