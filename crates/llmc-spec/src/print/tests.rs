//! Tests of [`super`]: what is printed reads back as the same spec.

use super::*;
use crate::testing::{good, show};
use crate::{Format, from_json, parse, parse_with};
use serde_json::json;

#[test]
fn printing_is_canonical_and_reads_back() {
    let text = r#"
# comments go, names become canonical, order is that of the table
[training]
schedule = { kind = "wsd", decay_fraction = 0.1 }
lr = 3e-4
sample_prompt = "def f(x):\n\t\"\u0007\" \\ ü"
[model]
num_hidden_layers = { max = 8, min = 2 }
target_params = "1.3M"
vocab_size = 512
norm = "rms_norm"
bias = true
[dataset]
paths = "corpus/"
exclude = ["b", "a", "a"]
domains = ["synthetic"]
languages = { "zh-Hant" = 2, en = 1, "a b" = 1 }
"#;
    let want = r#"[model]
target_params = 1300000
vocab_size = 512
num_layers = { max = 8, min = 2 }
norm = "rmsnorm"
bias.all = true

[dataset]
paths = ["corpus/"]
exclude = ["a", "b"]
domains = ["synthetic"]
languages = { "a b" = 1.0, en = 1.0, zh-Hant = 2.0 }

[optimizer]
lr = 0.0003

[training]
schedule.type = "wsd"
schedule.decay_fraction = 0.1
sample_prompts = ["def f(x):\n\t\"\u0007\" \\ ü"]
"#;
    let spec = good(text);
    let printed = to_toml(&spec);
    assert_eq!(printed, want);
    assert_eq!(values(&good(&printed)), values(&spec));
    assert_eq!(to_toml(&good(&printed)), printed);
}

fn values(spec: &Spec) -> Value {
    spec.to_json()
}

#[test]
fn json_reads_back_too() {
    let spec = good(
        "[model]\nvocab_size = 8\ntarget_params = 1000000\n[optimizer]\nmax_grad_norm = \"none\"\n",
    );
    let json = spec.to_json();
    assert_eq!(
        json,
        json!({
            "model": {"vocab_size": 8, "target_params": 1000000},
            "optimizer": {"max_grad_norm": null}
        })
    );
    let text = json.to_string();
    let (again, diagnostics) = parse(&text, Format::Json, "s");
    assert_eq!(show(&diagnostics, &text), "");
    assert_eq!(values(&again.unwrap()), json);
    let (again, _) = from_json(&json!({"model": {"vocab_size": 8, "target_params": "1M"}}), &[]);
    assert_eq!(to_toml(&again.unwrap()), "[model]\ntarget_params = 1000000\nvocab_size = 8\n");
}

#[test]
fn overrides_are_applied_and_recorded() {
    let sets = ["training.seed=7".to_string(), "training.name=a\nb".to_string()];
    let (spec, diagnostics) = parse_with("[training]\nseed = 1\n", Format::Toml, "s", &sets);
    assert_eq!(show(&diagnostics, ""), "");
    let printed = to_toml(&spec.unwrap());
    assert_eq!(
        printed,
        "# --set training.seed=7\n# --set training.name=a b\n\n[training]\nname = \"a\\nb\"\nseed = 7\n"
    );
    good(&printed);
}

#[test]
fn empty_sections_stay() {
    assert_eq!(to_toml(&good("[training]\n")), "[training]\n");
    assert_eq!(to_toml(&Spec::default()), "");
}
