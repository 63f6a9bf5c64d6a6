//! Models of a parametrization by width, through whole runs and exports.

use super::super::emit::{emit, find};
use super::super::generate::{Model, SessionOptions, Which};
use super::super::rerun::rerun;
use super::*;

/// Twice as wide as the base, heads and all.
const WIDE: [&str; 3] = [
    "model.parametrization=mup",
    "model.mup={ base_hidden_size = 4, base_head_dim = 2 }",
    "model.init_std=0.2",
];

fn logits(model: &Model) -> Vec<f32> {
    let options = SessionOptions { threads: Some(1), ..SessionOptions::default() };
    let mut session = model.session(&options).unwrap();
    let ids: Vec<u32> = (0..9).map(|i| (i * 7 + 3) % 11).collect();
    (1..=ids.len()).flat_map(|n| session.next_logits(&ids[..n]).unwrap().to_vec()).collect()
}

fn exported(store: &MemStore, model: &Model, format: &str) -> Model {
    let folder = Path::new("exports").join(format);
    create_dir_all(store, Path::new("exports")).unwrap();
    emit(store, model, find(format).unwrap(), &folder).unwrap();
    Model::open(store, &folder, Which::Last).unwrap()
}

#[test]
fn exports_compute_what_the_run_computes_whether_they_have_the_factors_or_not() {
    for changes in [
        &[][..],
        &["model.tie_embeddings=false"],
        &[
            "model.norm=layernorm",
            "model.activation=gelu_tanh",
            "model.positional_encoding=learned",
            "model.bias=true",
            "model.attention=mha",
        ],
    ] {
        let (store, project) = (MemStore::new(), tiny(&[&WIDE[..], changes].concat()));
        let run = run_whole(&store, &project).run;
        let model = Model::open(&store, &run, Which::Last).unwrap();
        let want = logits(&model);
        for format in ["pytorch", "safetensors"] {
            let export = exported(&store, &model, format);
            assert_eq!((logits(&export), export.module), (want.clone(), model.module.clone()));
        }
        let export = exported(&store, &model, "huggingface");
        let architecture = &export.project.model().unwrap().architecture;
        assert_eq!((architecture.mup, architecture.attention_scale), (None, None));
        let got = logits(&export);
        let size = want.iter().fold(0f32, |most, x| most.max(x.abs()));
        assert!(
            want.iter().zip(&got).all(|(a, b)| (a - b).abs() < 1e-5 * size),
            "{want:?}\n{got:?}"
        );
        // Nothing of it comes from weights that were small.
        let graph = llmc_ir::text::print(&model.module);
        assert!(graph.contains("%scaled") && graph.contains("scale ="), "{graph}");
        assert_ne!(llmc_ir::text::print(&export.module), graph);
    }
}

#[test]
fn without_a_weight_for_the_factor_there_is_no_folder_for_transformers() {
    let (store, project) = (MemStore::new(), tiny(&[&WIDE[..], &["model.norm=none"]].concat()));
    let model = Model::open(&store, &run_whole(&store, &project).run, Which::Last).unwrap();
    let found = emit(&store, &model, find("huggingface").unwrap(), Path::new("e"));
    assert_eq!(code(found), "emit::mup");
    exported(&store, &model, "pytorch");
}

#[test]
fn a_base_trains_to_the_weights_of_the_standard_and_a_wide_one_to_its_own_again() {
    let store = MemStore::new();
    let standard = run_whole(&store, &tiny(&[]));
    let base = ["model.parametrization=mup", "model.mup.base_hidden_size=8"];
    let base = run_whole(&store, &tiny(&base));
    assert_eq!(base.weights, standard.weights);
    assert_ne!(base.recipe, standard.recipe);
    let project = tiny(&WIDE);
    let wide = run_whole(&store, &project);
    let again = rerun(&store, &wide.run, Path::new("s"), None, None, &mut Watch::default());
    assert!(again.unwrap().is_same());
    let other = MemStore::new();
    stopped_after(&other, &project, 3);
    assert_eq!(run_whole(&other, &project).content, wide.content);
}
