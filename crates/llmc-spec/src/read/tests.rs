//! Tests of [`super`]: what a person sees for each mistake, in three formats; aliases,
//! overrides, and that nothing panics.

use super::*;
use crate::field::fields;
use crate::testing::{good, show};
use proptest::prelude::*;

const MODEL: &str = "[model]\nvocab_size = 32\nnum_layers = 1\nhidden_size = 16\nnum_heads = 2\n";

/// What is reported for a TOML text.
fn report(text: &str) -> String {
    show(&parse(text, Format::Toml, "s.toml").1, text)
}

/// What is reported for one more line in `[model]`.
fn model_report(line: &str) -> String {
    report(&format!("{MODEL}{line}\n"))
}

fn with_sets(text: &str, sets: &[&str]) -> (Option<Spec>, Vec<Diagnostic>) {
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    parse_with(text, Format::Toml, "s.toml", &sets)
}

fn value(spec: &Spec, path: &str) -> serde_json::Value {
    spec.get(path).unwrap_or_else(|| panic!("{path}")).value.clone()
}

#[test]
fn a_misspelt_key_has_its_place_and_the_nearest_name_in_three_formats() {
    let cases = [
        (Format::Toml, "[model]\nhiden_size = 16\n", "2:1: \"hiden_size\""),
        (Format::Yaml, "model:\n  hiden_size: 16\n", "2:3: \"hiden_size\""),
        (Format::Json, "{\"model\":\n{\"hiden_size\": 16}}", "2:2: \"\\\"hiden_size\\\"\""),
    ];
    for (format, text, place) in cases {
        let (spec, diagnostics) = parse(text, format, "spec");
        assert!(spec.is_none());
        let shown = show(&diagnostics, text);
        assert!(shown.contains("spec::unknown_key: `model` has no field `hiden_size`"), "{shown}");
        assert!(shown.contains(place), "{shown}");
        assert!(shown.contains("help: did you mean `hidden_size`?"), "{shown}");
    }
}

#[test]
fn everything_is_reported_at_once() {
    let text = r#"
[modle]
[model]
vocab_size = 0
num_layers = "four"
hidden_size = { min = 8, max = 4, step = 2 }
activation = "swigul"
norm_eps = -1.0
dropout = 1.0
attention = "flash"
lr = 3e-4
[optimizer]
beta1 = 1
colour = "red"
"#;
    let want = "\
spec::unknown_key: there is no section `modle`
  s.toml:2:2: \"modle\" unknown
  help: did you mean `model`?
spec::out_of_range: `model.vocab_size` is 0, but must be at least 1
  s.toml:4:14: \"0\" must be at least 1
  help: write an integer from 1 to 4294967296, \"free\", or bounds such as { min = 64, multiple_of = 64 }
spec::wrong_type: `model.num_layers` is an integer, \"free\" or { min, max, multiple_of }, not a text (\"four\")
  s.toml:5:14: \"\\\"four\\\"\" a text
  help: write an integer from 1 to 4294967296, \"free\", or bounds such as { min = 64, multiple_of = 64 }
spec::conflict: `model.hidden_size` has min 8 above max 4
  s.toml:6:15: \"{ min = 8, max = 4, step = 2 }\" no value fits
  help: swap them
spec::unknown_key: `model.hidden_size` has no field `step`
  s.toml:6:35: \"step\" unknown
  help: its fields are min, max and multiple_of
spec::unknown_value: `model.activation` cannot be \"swigul\"
  s.toml:7:14: \"\\\"swigul\\\"\" unknown
  help: did you mean \"swiglu\"? it can be gelu, gelu_tanh, relu, silu, swiglu; not supported yet: relu_squared, geglu
spec::out_of_range: `model.norm_eps` is -1.0, but must be greater than 0
  s.toml:8:12: \"-1.0\" must be greater than 0
  help: write a number greater than 0; the default is 1e-5
spec::out_of_range: `model.dropout.all` is 1.0, but must be less than 1
  s.toml:9:11: \"1.0\" must be less than 1
  help: write a number at least 0 and less than 1
spec::not_supported_yet: `model.attention = \"flash\"` is not supported yet
  s.toml:10:13: \"\\\"flash\\\"\" `model.attention` is \"flash\"
  help: supported today: mha, gqa, mqa, sliding_window
spec::unknown_key: `model` has no field `lr`
  s.toml:11:1: \"lr\" unknown
  help: did you mean `optimizer.lr`?
spec::out_of_range: `optimizer.beta1` is 1, but must be less than 1
  s.toml:13:9: \"1\" must be less than 1
  help: write a number at least 0 and less than 1
spec::unknown_key: `optimizer` has no field `colour`
  s.toml:14:1: \"colour\" unknown
  help: its fields are adam_beta1, adam_beta2, adam_epsilon, adamw_parameters, beta1, beta2, betas, eps, epsilon, grad_clip, groups, learning_rate, lr, max_grad_norm, momentum, no_decay, ns_steps, param_groups, type, weight_decay
";
    let found = report(text);
    assert_eq!(found, want, "{found}");
}

#[test]
fn a_field_under_two_names_is_written_twice() {
    let text = format!("{MODEL}num_attention_heads = 4\n");
    let want = "\
spec::duplicate_key: `model.num_heads` and `model.num_attention_heads` are the same field
  s.toml:6:1: \"num_attention_heads\" again here
  s.toml:5:13: \"2\" first here
  help: keep one, best as `model.num_heads`
";
    assert_eq!(report(&text), want);
    for (format, text) in [
        (Format::Toml, "[model]\nnorm_eps = 1\nnorm_eps = 2"),
        (Format::Yaml, "model: {norm_eps: 1, norm_eps: 2}"),
        (Format::Json, r#"{"model": {"norm_eps": 1, "norm_eps": 2}}"#),
        (Format::Json, r#"{"model": {}, "model": {}}"#),
    ] {
        let (_, diagnostics) = parse(text, format, "s");
        assert!(diagnostics.iter().any(|d| d.code == "spec::duplicate_key"), "{text}");
    }
}

#[test]
fn words_that_are_not_built_answer_not_supported_yet() {
    for line in [
        "attention = \"global_local\"",
        "norm = \"scalenorm\"",
        "activation = \"relu_squared\"",
        "positional_encoding = \"alibi\"",
        "template = \"encoder_decoder\"",
        "precision = \"bfloat16\"",
        "weight_format = \"gguf\"",
        "backend = \"jax\"",
        "quantize = \"int8\"",
        "quantize_bits = 4",
        "rope_scaling = { rope_type = \"yarn\", factor = 4.0 }",
    ] {
        let shown = model_report(line);
        assert!(shown.starts_with("spec::not_supported_yet"), "{line}: {shown}");
        assert!(shown.contains("help:"), "{line}: {shown}");
    }
    for line in ["quantize_bits = 16", "gradient_checkpointing = true", "quantize = \"none\""] {
        assert_eq!(model_report(line), "", "{line}");
    }
}

#[test]
fn a_budget_of_memory_has_units() {
    let path = "training.gradient_checkpointing";
    let read = |text: &str| {
        let (spec, found) =
            parse(&format!("[training]\ngradient_checkpointing = {text}\n"), Format::Toml, "s");
        let codes: Vec<String> = found.into_iter().map(|d| d.code).collect();
        (spec.and_then(|s| s.get(path).map(|f| f.value.clone())), codes)
    };
    for (text, bytes) in [
        ("4096", 4096u64),
        ("\"2 GiB\"", 2 << 30),
        ("\"1.5GiB\"", 3 << 29),
        ("\"500 MB\"", 500_000_000),
        ("\"64 KiB\"", 64 << 10),
    ] {
        let (value, codes) = read(&format!("{{ budget = {text} }}"));
        assert_eq!(
            (value, codes),
            (Some(serde_json::json!({ "budget": bytes })), vec![]),
            "{text}"
        );
    }
    for (text, code) in [
        ("{ budget = \"2 gib\" }", "spec::wrong_type"),
        ("{ budget = \"-1 GiB\" }", "spec::wrong_type"),
        ("{ budget = 0 }", "spec::out_of_range"),
        ("{ budgte = 4096 }", "spec::unknown_key"),
        ("\"blocks\"", "spec::unknown_value"),
        ("true", "spec::wrong_type"),
        ("{}", "spec::wrong_type"),
    ] {
        assert!(read(text).1.contains(&code.to_string()), "{text}: {:?}", read(text).1);
    }
}

#[test]
fn names_of_hugging_face_and_of_the_original_read() {
    let spec = good(
        r#"
[model]
vocab_size = 128256
hidden_size = 4096
intermediate_size = 14336
num_hidden_layers = 32
num_attention_heads = 32
num_key_value_heads = 8
max_position_embeddings = 131072
rms_norm_eps = 1e-05
rope_theta = 500000.0
rope_scaling = { factor = 8.0, low_freq_factor = 1.0, high_freq_factor = 4.0, original_max_position_embeddings = 8192, rope_type = "llama3" }
tie_word_embeddings = false
attention_bias = false
mlp_bias = false
attention_dropout = 0.0
initializer_range = 0.02
torch_dtype = "float32"
"#,
    );
    assert_eq!(value(&spec, "model.num_layers"), 32);
    assert_eq!(value(&spec, "model.num_kv_heads"), 8);
    assert_eq!(value(&spec, "model.rope_scaling.type"), "llama3");
    assert_eq!(value(&spec, "model.rope_scaling.original_context_length"), 8192);
    let old = good(&format!("{MODEL}rope_scaling_factor = 2.0\ntokenizer = \"bpe\"\n"));
    assert_eq!(value(&old, "model.rope_scaling.factor"), 2.0);
    assert_eq!(value(&old, "tokenizer.type"), "bpe");
}

#[test]
fn hidden_act_of_llama_is_not_taken_for_a_plain_block() {
    assert!(model_report("hidden_act = \"silu\"").starts_with("spec::conflict"));
    assert_eq!(model_report("hidden_act = \"gelu_new\""), "");
    assert_eq!(model_report("activation = \"silu\""), "");
}

#[test]
fn counts_may_have_a_suffix() {
    for (text, want) in [
        ("125M", Some(125_000_000)),
        ("1.3B", Some(1_300_000_000)),
        ("2k", Some(2_000)),
        ("1T", Some(1_000_000_000_000)),
        ("0.5G", Some(500_000_000)),
        ("1_000", Some(1_000)),
        ("1.5", None),
        ("1.0005k", None),
        ("M", None),
        ("", None),
        ("-1M", None),
        ("1e6", None),
        ("99999999999999999999T", None),
    ] {
        assert_eq!(convert::parse_size(text), want, "{text}");
    }
    let spec = good("[model]\nvocab_size = 256\ntarget_params = \"1.3M\"\n");
    assert_eq!(value(&spec, "model.target_params"), 1_300_000);
    let spec = good("[model]\nvocab_size = 256\ntarget_params = 1.3e6\n");
    assert_eq!(value(&spec, "model.target_params"), 1_300_000);
}

#[test]
fn nothing_is_written_none_or_null() {
    for (text, format) in [
        ("[optimizer]\nmax_grad_norm = \"none\"", Format::Toml),
        ("optimizer: {max_grad_norm: null}", Format::Yaml),
        ("optimizer: {max_grad_norm: none}", Format::Yaml),
        ("{\"optimizer\": {\"max_grad_norm\": null}}", Format::Json),
    ] {
        let (spec, diagnostics) = parse(text, format, "s");
        assert_eq!(show(&diagnostics, text), "");
        assert!(value(&spec.unwrap(), "optimizer.max_grad_norm").is_null());
    }
    // Not every field may be nothing, and `null` from Python is "not given".
    let (_, diagnostics) = parse("optimizer: {lr: null}", Format::Yaml, "s");
    assert_eq!(diagnostics[0].code, "spec::wrong_type");
    let json = serde_json::json!({"optimizer": {"lr": null, "max_grad_norm": null}});
    let (spec, _) = from_json(&json, &[]);
    assert_eq!(spec.unwrap().settings.len(), 0);
}

#[test]
fn hugging_face_writes_null_for_no_scaling() {
    let text = "model: {vocab_size: 32, num_layers: 1, hidden_size: 16, rope_scaling: null}";
    let (spec, diagnostics) = parse(text, Format::Yaml, "s");
    assert_eq!(show(&diagnostics, text), "");
    assert_eq!(value(&spec.unwrap(), "model.rope_scaling.type"), "none");
}

#[test]
fn the_version_is_checked() {
    assert_eq!(report(&format!("spec_version = 1\n{MODEL}")), "");
    assert!(report("spec_version = 2\n").starts_with("spec::out_of_range: `spec_version` is 2"));
}

#[test]
fn sections_are_tables() {
    assert!(report("model = 3").contains("`model` is a table, not an integer"));
    assert!(report("[model.optimizer]").contains("`model` has no field `optimizer`"));
    let (_, d) = parse("[1, 2]", Format::Json, "s");
    assert!(d[0].message.contains("a spec is a table, not a list"));
    let (_, d) = parse("{\"training\": {\"schedule.type\": \"wsd\"}}", Format::Json, "s");
    assert_eq!(d[0].code, "spec::unknown_key");
    assert!(report("lr = 1").contains("did you mean `optimizer.lr`?"));
}

#[test]
fn overrides_replace_any_field() {
    let (spec, d) = with_sets(
        &format!("{MODEL}norm = \"rmsnorm\"\n[training]\nseed = 1\n"),
        &[
            "training.lr=3e-4",
            "training.seed = 2",
            "model.num_layers={ min = 2, max = 8 }",
            "model.target_params=1M",
            "model.norm=layernorm",
            "dataset.paths=[\"a\", \"b\"]",
            "training.name=my run",
            "training.schedule={ type = \"wsd\", decay_steps = 10 }",
        ],
    );
    assert_eq!(show(&d, ""), "");
    let spec = spec.unwrap();
    assert_eq!(value(&spec, "optimizer.lr"), 3e-4);
    assert_eq!(value(&spec, "training.seed"), 2);
    assert_eq!(value(&spec, "model.num_layers"), serde_json::json!({"max": 8, "min": 2}));
    assert_eq!(value(&spec, "model.norm"), "layernorm");
    assert_eq!(value(&spec, "dataset.paths"), serde_json::json!(["a", "b"]));
    assert_eq!(value(&spec, "training.name"), "my run");
    assert_eq!(value(&spec, "training.schedule.decay_steps"), 10);
    assert_eq!(spec.overrides().len(), 8);
}

#[test]
fn an_override_replaces_what_its_name_stands_for() {
    let text = format!(
        "{MODEL}rope_scaling = {{ type = \"linear\", factor = 2.0 }}\nbias.q = true\n[optimizer]\nbetas = [0.8, 0.9]\n"
    );
    let (spec, d) = with_sets(
        &text,
        &["model.rope_scaling=none", "model.attention_bias=false", "optimizer.beta1=0.7"],
    );
    assert_eq!(show(&d, &text), "");
    let spec = spec.unwrap();
    assert!(spec.get("model.rope_scaling.factor").is_none());
    assert!(spec.get("model.bias.q").is_none());
    assert_eq!(value(&spec, "optimizer.beta1"), 0.7);
    let (spec, _) = with_sets(&text, &["optimizer.beta1=0.7", "optimizer.betas=[0.6, 0.6]"]);
    assert!(spec.unwrap().get("optimizer.beta1").is_none());
}

#[test]
fn every_alias_of_every_field_reads_as_the_field() {
    for field in fields() {
        for path in [field.path].iter().chain(field.aliases) {
            assert_eq!(field::find(path).unwrap().path, field.path);
            let names: Vec<_> = path.split('.').collect();
            let table = names[..names.len() - 1].join(".");
            assert!(field::names_in(&table).contains(names.last().unwrap()), "{path}");
        }
    }
    assert_eq!(field::find("training.optimizer.lr").unwrap().path, "optimizer.lr");
    assert_eq!(field::find("training.optimizer").unwrap().path, "optimizer.type");
}

/// Texts that are nearly specs.
fn texts() -> impl Strategy<Value = String> {
    let paths: Vec<String> = fields()
        .flat_map(|f| [f.path].into_iter().chain(f.aliases.iter().copied()))
        .map(str::to_string)
        .collect();
    let values = prop::sample::select(vec![
        "1",
        "0",
        "-1",
        "1.5",
        "1e300",
        "nan",
        "inf",
        "true",
        "\"x\"",
        "\"none\"",
        "\"free\"",
        "\"125M\"",
        "[]",
        "[1, \"a\"]",
        "{}",
        "{ min = 3, max = 9 }",
        "{ type = \"linear\" }",
        "\"rope\"",
        "\"wsd\"",
        "\"layernorm\"",
        "18446744073709551616",
        "1979-05-27",
    ]);
    let line = (prop::sample::select(paths), values).prop_map(|(p, v)| format!("{p} = {v}\n"));
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_spec_panics(text in texts(), sets in prop::collection::vec("\\PC{0,30}", 0..3)) {
        let (spec, diagnostics) = parse_with(&text, Format::Toml, "s", &sets);
        prop_assert_eq!(spec.is_none(), diagnostics.iter().any(Diagnostic::is_error));
        crate::told::check_told(&diagnostics, &text);
    }

    #[test]
    fn no_override_panics(sets in prop::collection::vec("[a-z.=\"\\[{ 0-9}]{0,30}", 0..4)) {
        crate::told::check_told(&parse_with(MODEL, Format::Toml, "s", &sets).1, MODEL);
    }
}
