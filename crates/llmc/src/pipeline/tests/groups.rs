//! Parameter groups, from the spec to the run's solution.

use super::*;
use serde_json::json;

fn groups(list: &str) -> Result<(Project, Vec<Diagnostic>), Failure> {
    let set = format!("optimizer.groups={list}");
    Project::parse(TINY, Format::Toml, "tiny.toml", &[set], Goal::Training, Defaults::Record)
}

#[test]
fn the_solution_lists_the_parameters_of_every_group() {
    let list = r#"[{ pattern = "layers.*.attention.q.*", lr_scale = 0.5 }, { pattern = "1-D", weight_decay = 0.3 }]"#;
    let project = groups(list).unwrap().0;
    let solution = project.solution();
    let norms = ["layers.0.attention_norm.weight", "layers.0.mlp_norm.weight", "norm.weight"];
    assert_eq!(
        solution["groups"],
        json!([
            {"pattern": "layers.*.attention.q.*", "lr_scale": 0.5, "weight_decay": null,
             "parameters": ["layers.0.attention.q.weight"]},
            {"pattern": "1-D", "lr_scale": 1.0, "weight_decay": 0.3, "parameters": norms},
        ])
    );
    assert_eq!(tiny(&[]).solution().get("groups"), None);
    let store = MemStore::new();
    let run = run_whole(&store, &project);
    let text = store.read_text(&run.run.join("solution.json")).unwrap();
    assert!(text.contains("layers.0.attention.q.weight"));
    assert_ne!(run.weights, run_whole(&store, &tiny(&[])).weights);
}

#[test]
fn a_pattern_without_parameters_is_an_error_with_its_place() {
    let check = |list: &str, message: &str| {
        let found = groups(list).unwrap_err().diagnostics();
        assert_eq!((found.len(), found[0].code.as_str()), (1, "optimizer::group"), "{found:?}");
        assert!(found[0].message.contains(message), "{}", found[0].message);
        assert!(!found[0].labels.is_empty() && found[0].help.is_some());
    };
    check(
        r#"[{ pattern = "layer.*" }]"#,
        r#"the pattern "layer.*" of `optimizer.groups` names no parameter"#,
    );
    check(
        r#"[{ pattern = "1-D" }, { pattern = "norm.weight" }]"#,
        r#"is in an earlier group, e.g. `norm.weight` in "1-D""#,
    );
}
