//! Every launch has ops, a way and a reason, every node is accounted for, and every kept value is told.

use super::*;
use crate::pipeline::Defaults;
use llmc_ir::Op;
use llmc_spec::{Format, Goal};
use std::collections::BTreeSet;

const SPEC: &str = r#"
[model]
name = "small"
template = "decoder_only"
num_layers = 3
hidden_size = 32
num_heads = 2
intermediate_size = 64
vocab_size = 300
context_length = 32

[dataset]
domains = ["synthetic"]

[tokenizer]
type = "byte_bpe"

[optimizer]
type = "adamw"
lr = 3e-3

[training]
batch_size = 4
microbatch_size = 2
sequence_length = 16
max_steps = 2
"#;

fn explained(changes: &[&str], format: WeightFormat) -> (Project, Explanation) {
    let changes: Vec<String> = changes.iter().map(|c| (*c).to_string()).collect();
    let found = Project::parse(SPEC, Format::Toml, "s", &changes, Goal::Training, Defaults::Record);
    let project = found.unwrap_or_else(|e| panic!("{e}")).0;
    let options = PlanOptions { threads: Some(2), isa: Some(llmc_runtime::Isa::Scalar) };
    let found = explain(&project, &options, format, None).unwrap();
    (project, found)
}

/// Specs that take different ways.
const WAYS: [&[&str]; 5] = [
    &[],
    &["training.gradient_checkpointing=block"],
    &["training.precision=bfloat16", "optimizer.type=muon"],
    &["model.tie_embeddings=true", "optimizer.type=lion", "training.z_loss=1e-4"],
    &["optimizer.type=sgd", "training.gradient_checkpointing={budget = \"100 MiB\"}"],
];

#[test]
fn no_decision_is_without_a_reason() {
    for changes in WAYS {
        let (_, found) = explained(changes, WeightFormat::Q4);
        assert_eq!(found.phases.len(), 2);
        for kernel in found.phases.iter().flat_map(|p| &p.kernels) {
            assert!(!kernel.why.is_empty() && !kernel.path.is_empty(), "{kernel:?}");
            assert!(!kernel.ops.is_empty() && kernel.count > 0, "{kernel:?}");
            assert!((1..=2).contains(&kernel.scopes.len()), "{kernel:?}");
        }
        for decision in &found.decisions {
            let Decision { subject, choice, why, .. } = decision;
            assert!(![subject.as_str(), choice, why].contains(&""), "{decision:?}");
        }
        for buffer in found.memory.iter().flat_map(|m| &m.buffers) {
            assert!(!buffer.why.is_empty() && !buffer.storage.is_empty(), "{buffer:?}");
        }
        for phase in &found.phases {
            let share: f64 = phase.kernels.iter().map(|k| k.share).sum();
            assert!((share - 1.0).abs() < 1e-9, "{share}");
        }
    }
}

#[test]
fn launches_and_flops_are_those_of_the_plan() {
    for changes in WAYS {
        let (project, found) = explained(changes, WeightFormat::F32);
        let options = PlanOptions { threads: Some(2), isa: None };
        let store = crate::store::MemStore::new();
        let plan = crate::pipeline::plan::plan(&project, &options, None, &store).unwrap();
        let step = &found.phases[0];
        assert_eq!((step.launches, step.flops), (plan.work.launches, plan.work.flops));
        assert_eq!(step.bytes, plan.work.bytes);
    }
}

/// Each node of a step is a launch of its own, part of another's, or a view: none is forgotten.
#[test]
fn every_op_of_the_gradient_is_accounted_for() {
    let (project, found) = explained(&[], WeightFormat::F32);
    let training = project.resolved.training.as_ref().unwrap();
    let optimizer = project.resolved.optimizer.as_ref().unwrap();
    let module = project.build().unwrap();
    let gradient = llmc_train::differentiate(&module, optimizer, training, 2).unwrap();
    let gradient = llmc_passes::dce(&gradient).unwrap();
    let step = &found.phases[0];
    let halves = ["layer_forward", "layer_backward"];
    let reached = |name: &str| name == "grad" || halves.iter().any(|h| name.starts_with(h));
    for f in gradient.functions.iter().filter(|f| reached(&f.name)) {
        let told: BTreeSet<&str> = step
            .kernels
            .iter()
            .filter(|k| k.function == f.name)
            .flat_map(|k| k.ops.iter().copied())
            .collect();
        for node in &f.nodes {
            if !matches!(node.op, Op::Call(_) | Op::Reshape(_)) {
                assert!(told.contains(node.op.name()), "@{}: {}", f.name, node.op.name());
            }
        }
    }
}

#[test]
fn every_residual_is_kept_for_a_reason() {
    for changes in [WAYS[0], WAYS[1]] {
        let (_, found) = explained(changes, WeightFormat::F32);
        let kept: BTreeSet<&str> = found
            .decisions
            .iter()
            .filter(|d| d.stage == "recompute" && d.choice == "kept")
            .filter_map(|d| d.subject.split(' ').next())
            .collect();
        // What a backward half takes besides inputs of the layer and cotangents.
        let backward = found.memory.iter().filter(|m| m.function.starts_with("layer_backward"));
        for m in backward {
            let inputs = m.buffers.iter().filter(|b| b.why == "the caller's");
            for b in inputs.map(|b| b.value.as_str()) {
                let is_layer_input = ["%x", "%positions", "%segments"].contains(&b);
                assert!(
                    is_layer_input || b.starts_with("%d_") || kept.contains(b),
                    "{b}: {kept:?}"
                );
            }
        }
        assert_eq!(changes.is_empty(), !kept.is_empty());
    }
}

#[test]
fn equal_layers_are_one_line() {
    let (_, found) = explained(&[], WeightFormat::Q8);
    let decode = &found.phases[1];
    let norm = decode.kernels.iter().find(|k| k.kernel == "rms_norm").unwrap();
    assert_eq!((norm.count, norm.scopes.clone()), (3, vec!["layers.0".into(), "layers.2".into()]));
    assert_eq!(decode.share_of, "bytes");
    assert!(decode.kernels.iter().any(|k| k.kernel == "quantized_linear"));
}

#[test]
fn a_name_narrows_and_an_unknown_one_is_refused() {
    let (_, found) = explained(&[], WeightFormat::F32);
    let about = |what: &str| found.clone().about(what);
    let attention = about("attention").unwrap();
    let kernels = attention.phases.iter().flat_map(|p| &p.kernels);
    assert!(kernels.clone().count() >= 2);
    assert!(kernels.clone().all(|k| k.ops == ["attention"]));
    let memory = about("memory").unwrap();
    assert!(memory.phases.is_empty() && !memory.memory.is_empty() && !memory.decisions.is_empty());
    let layer = about("@layer_backward").unwrap();
    assert!(layer.memory.iter().any(|m| m.function == "layer_backward"));
    assert!(layer.decisions.iter().any(|d| d.stage == "recompute"));
    assert_eq!(about("gemm").unwrap().decisions, []);
    let error = about("atention").unwrap_err().to_string();
    assert!(error.contains("explain::unknown") || error.contains("atention"), "{error}");
}
