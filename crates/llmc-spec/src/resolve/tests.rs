//! Tests of [`super`]: the typed structs, the rules, what has to fit.

mod counts;
mod hashes;
mod published;

use crate::testing::{good, params, resolved, show};
use crate::*;
use proptest::prelude::*;
use serde_json::json;

const EXAMPLE: &str = r#"
[model]
name = "debug-2k-transformer"
template = "decoder_only"
vocab_size = 32
context_length = 16
num_layers = 1
hidden_size = 16
num_heads = 2
intermediate_size = 32
activation = "relu"
norm = "rmsnorm"
tie_embeddings = true

[dataset]
name = "debug_dataset"
target_tokens = 1_000
languages = { en = 1.0 }
domains = ["synthetic"]
min_length = 4
max_length = 16

[tokenizer]
name = "debug_tokenizer"
type = "bpe"
vocab_size = 32

[training]
name = "debug_run"
optimizer = { type = "adamw", lr = 1e-3, weight_decay = 0.0 }
batch_size = 2
microbatch_size = 1
max_steps = 10
"#;

fn errors(text: &str, goal: Goal) -> String {
    match resolve(&good(text), goal, &params) {
        Ok(_) => String::new(),
        Err(diagnostics) => show(&diagnostics, text),
    }
}

fn model(lines: &str) -> ResolvedModel {
    let base = "[model]\nvocab_size = 64\ncontext_length = 32\nnum_layers = 2\nhidden_size = 64\n";
    resolved(&format!("{base}{lines}\n")).model.unwrap()
}

#[test]
fn the_example_of_the_package_resolves() {
    let r = resolved(EXAMPLE);
    let model = r.model.unwrap();
    assert_eq!(model.name, "debug-2k-transformer");
    assert_eq!(model.solution.params, 2608);
    assert_eq!(
        model.dims,
        Dims {
            vocab_size: 32,
            context_length: 16,
            num_layers: 1,
            hidden_size: 16,
            num_heads: 2,
            num_kv_heads: 2,
            head_dim: 8,
            intermediate_size: 32,
        }
    );
    assert_eq!(model.architecture.biases, Biases::default());
    assert_eq!(model.architecture.activation, Activation::Relu);
    let optimizer = r.optimizer.unwrap();
    assert_eq!((optimizer.lr, optimizer.weight_decay), (1e-3, 0.0));
    let training = r.training.unwrap();
    assert_eq!((training.sequence_length, training.microbatch_size), (16, 1));
    assert_eq!(r.tokenizer.unwrap().special_tokens.unk.as_deref(), Some("<unk>"));
    assert_eq!(r.dataset.unwrap().domains, [Domain::Synthetic]);
}

/// Every field of the table reaches a typed struct, and every member of a struct has a
/// field: the structs refuse unknown members and lack none.
#[test]
fn the_table_and_the_structs_have_the_same_fields() {
    for optimizer in ["adamw", "sgd"] {
        for schedule in ["cosine", "wsd", "constant"] {
            for tokenizer in ["byte_bpe", "bpe", "char"] {
                let text = format!(
                    "[model]\nvocab_size = 512\nnum_layers = 1\nhidden_size = 16\n\
                     [dataset]\ndomains = [\"synthetic\"]\n[tokenizer]\ntype = \"{tokenizer}\"\n\
                     [optimizer]\ntype = \"{optimizer}\"\n[training]\nschedule = \"{schedule}\"\n"
                );
                let r = resolved(&text);
                assert!(r.dataset.is_some() && r.tokenizer.is_some());
                assert!(r.optimizer.is_some() && r.training.is_some());
            }
        }
    }
    let arch = model("rope_scaling = { type = \"llama3\", factor = 8.0 }").architecture;
    let members = serde_json::to_value(&arch).unwrap();
    assert_eq!(members.as_object().unwrap().len(), 12);
}

#[test]
fn architectures_have_what_was_written() {
    let a = model(
        r#"
attention = "sliding_window"
sliding_window_size = 8
norm = "layernorm"
norm_eps = 1e-6
activation = "gelu_tanh"
positional_encoding = "learned"
tie_embeddings = false
bias = { attention = true, down = true, lm_head = true, norm = false }
dropout = { residual = 0.1 }
attention_scale = 0.5
init_std = 0.01
init_residual_scaled = false
"#,
    )
    .architecture;
    let want = Architecture {
        template: Template::DecoderOnly,
        attention: AttentionKind::Gqa,
        sliding_window: Some(8),
        norm: Norm::LayerNorm,
        norm_eps: 1e-6,
        activation: Activation::GeluTanh,
        position: Position::Learned,
        tie_embeddings: false,
        biases: Biases {
            q: true,
            k: true,
            v: true,
            o: true,
            gate: false,
            up: false,
            down: true,
            lm_head: true,
            norm: false,
        },
        dropout: Dropout { embedding: 0.0, attention: 0.0, residual: 0.1 },
        attention_scale: Some(0.5),
        init: Init { std: 0.01, is_residual_scaled: false },
        mup: None,
    };
    assert_eq!(a, want);
}

#[test]
fn biases_follow_their_shorthands() {
    let all = |a: &Architecture| [a.biases.q, a.biases.down, a.biases.lm_head, a.biases.norm];
    assert_eq!(all(&model("").architecture), [false; 4]);
    assert_eq!(all(&model("norm = \"layernorm\"").architecture), [false, false, false, true]);
    let gpt2 = model("norm = \"layernorm\"\nbias = true\nactivation = \"gelu\"").architecture;
    assert_eq!(all(&gpt2), [true, true, false, true]);
    assert!(!gpt2.biases.gate);
    assert_eq!(all(&model("bias = true").architecture), [true, true, false, false]);
    assert_eq!(all(&model("norm = \"layernorm\"\nbias = false").architecture), [false; 4]);
    let qwen = model("bias = { q = true, k = true, v = true }").architecture;
    assert!(qwen.biases.q && qwen.biases.k && qwen.biases.v && !qwen.biases.o);
}

#[test]
fn rope_scalings() {
    let scaling = |lines: &str| match model(lines).architecture.position {
        Position::Rope { theta, scaling } => (theta, scaling),
        other => panic!("{other:?}"),
    };
    assert_eq!(scaling(""), (10000.0, RopeScaling::None));
    assert_eq!(
        scaling("rope_theta = 5e5\nrope_scaling_factor = 4.0"),
        (5e5, RopeScaling::Linear { factor: 4.0 })
    );
    assert_eq!(
        scaling("rope_scaling = { type = \"llama3\", factor = 32 }"),
        (
            10000.0,
            RopeScaling::Llama3 {
                factor: 32.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_context_length: 8192,
            }
        )
    );
}

#[test]
fn key_value_heads_default_to_heads_where_heads_are_written() {
    assert_eq!(model("num_heads = 4").dims.num_kv_heads, 4);
    assert_eq!(model("num_heads = 4\nnum_kv_heads = 2").dims.num_kv_heads, 2);
    assert_eq!(model("num_heads = 4\nattention = \"mqa\"").dims.num_kv_heads, 1);
    assert_eq!(model("attention = \"mha\"\nhead_dim = 16").dims.num_kv_heads, 4);
    let explicit = model("num_heads = 4\nhead_dim = 32").dims;
    assert_eq!((explicit.num_heads, explicit.head_dim, explicit.hidden_size), (4, 32, 64));
}

#[test]
fn every_value_that_was_not_written_is_listed_with_its_rule() {
    let r = resolved(EXAMPLE);
    let rule = |path: &str| {
        let found = r.defaults.iter().find(|d| d.path == path);
        found.map(|d| (d.value.clone(), d.rule.clone()))
    };
    assert_eq!(rule("model.norm_eps"), Some((json!(1e-5), "default".into())));
    assert_eq!(
        rule("model.num_kv_heads"),
        Some((json!(2), "num_heads, by default where num_heads is a number".into()))
    );
    assert_eq!(
        rule("model.head_dim"),
        Some((json!(8), "16 / 2: hidden_size = num_heads * head_dim".into()))
    );
    assert_eq!(
        rule("training.sequence_length"),
        Some((json!(16), "`model.context_length`".into()))
    );
    assert_eq!(rule("training.threads"), Some((json!(null), "none: one per core".into())));
    assert_eq!(rule("model.vocab_size"), None);
    // Written or listed: everything that has a value, once.
    let spec = good(EXAMPLE);
    for path in r.values.keys() {
        let is_listed = r.defaults.iter().filter(|d| d.path == *path).count();
        assert_eq!(is_listed, usize::from(spec.get(path).is_none()), "{path}");
    }
}

#[test]
fn explicit_refuses_defaults_and_the_explicit_form_passes() {
    let r = resolved(EXAMPLE);
    let refused = refuse_defaults(&good(EXAMPLE), &r.defaults);
    assert_eq!(refused.len(), r.defaults.len());
    let shown = show(&refused, EXAMPLE);
    assert!(
        shown.contains(
            "spec::implicit: `training.seed` is not written; it would be 0 (default)\n  \
             spec.toml:28:2: \"training\" in this section\n  help: write `seed = 0` in [training]\n"
        ),
        "{shown}"
    );
    let text = to_explicit_toml(&r);
    let again = resolved(&text);
    assert_eq!(again.defaults, [], "{text}");
    assert_eq!(again.hashes, r.hashes);
    assert_eq!(again.model.unwrap().architecture, r.model.unwrap().architecture);
    assert_eq!(again.training, r.training);
}

#[test]
fn names_say_the_size() {
    let text = "[model]\nvocab_size = 32000\ntarget_params = \"125M\"\n";
    let model = resolved(text).model.unwrap();
    assert_eq!(model.name, "llmc-decoder-only-125m");
}

#[test]
fn what_does_not_fit_the_model_is_a_conflict() {
    let base = "[model]\nvocab_size = 64\ncontext_length = 32\nnum_layers = 1\nhidden_size = 16\n";
    for (lines, want) in [
        (
            "[tokenizer]\ntype = \"char\"\nvocab_size = 65\n",
            "a tokenizer of 65 ids needs more than 64 embedding rows",
        ),
        ("[tokenizer]\n", "a vocabulary of 64 is too small for `byte_bpe`"),
        (
            "[training]\nsequence_length = 64\n",
            "sequences of 64 tokens are longer than the context of 32",
        ),
        (
            "[training]\nmodel_hash = \"0000000000000000000000000000000000000000000000000000000000000000\"\n",
            "`training.model_hash` is 00000000",
        ),
    ] {
        let shown = errors(&format!("{base}{lines}"), Goal::Written);
        assert!(shown.contains(want), "{shown}");
    }
}

#[test]
fn goals_ask_for_sections() {
    let data = "[dataset]\ndomains = [\"synthetic\"]\n";
    assert!(errors(data, Goal::Model).contains("the spec has no [model]"));
    assert_eq!(errors(data, Goal::Written), "");
    let model = "[model]\nvocab_size = 512\nnum_layers = 1\nhidden_size = 16\n";
    assert!(errors(model, Goal::Training).contains("the spec has no [dataset]"));
    let text = format!("{model}[dataset]\ndomains = [\"synthetic\"]\n");
    let r = resolve(&good(&text), Goal::Training, &params).unwrap();
    assert!(r.tokenizer.is_some() && r.training.is_some() && r.optimizer.is_some());
    assert_eq!(r.tokenizer.unwrap().vocab_size, 512);
}

#[test]
fn sections_resolve_alone_as_python_compiles_them() {
    let tokenizer = "[tokenizer]\ntype = \"bpe\"\nvocab_size = 32\n";
    assert_eq!(resolved(tokenizer).tokenizer.unwrap().vocab_size, 32);
    assert!(errors("[tokenizer]\n", Goal::Written).contains("`tokenizer.vocab_size` is missing"));
    let r = resolved("[training]\nmax_steps = 10\n");
    assert!(r.training.is_none() && r.hashes.training.is_some() && r.optimizer.is_some());
    let r = resolved("[training]\nmax_steps = 10\nsequence_length = 16\n");
    assert_eq!(r.training.unwrap().sequence_length, 16);
}

#[test]
fn a_conflict_has_the_places_of_its_constraints() {
    let text = "[model]\nvocab_size = 64\nnum_layers = 1\nhidden_size = 100\nnum_heads = 3\n";
    let want = "\
spec::infeasible: `hidden_size = 100`, `num_heads = 3` cannot hold together with `hidden_size = num_heads * head_dim`
  spec.toml:5:13: \"3\" num_heads = 3
  spec.toml:4:15: \"100\" hidden_size = 100
  help: raise `model.hidden_size` from 100 to 102
";
    assert_eq!(errors(text, Goal::Written), want);
    let text = "[model]\nvocab_size = 32000\ntarget_params = \"1B\"\nhidden_size = 2048\n\
                num_layers = { min = 2, max = 4 }\nintermediate_size = { max = 8192 }\n";
    let shown = errors(text, Goal::Written);
    assert!(shown.contains("\"4\" num_layers ≤ 4"), "{shown}");
    assert!(shown.contains("help: raise `model.hidden_size` from 2048 to 4792"), "{shown}");
}

#[test]
fn polynomials_that_are_none_are_reported() {
    let spec = good("[model]\nvocab_size = 64\nnum_layers = 1\nhidden_size = 16\n");
    let bad = |_: &Architecture| llmc_base::Expr::symbol("width");
    let diagnostics = resolve(&spec, Goal::Model, &bad).unwrap_err();
    assert_eq!(diagnostics[0].code, "spec::unsolvable");
}

#[test]
fn dims_are_symbols_named_like_the_fields() {
    let symbols = DimExprs::symbolic();
    assert_eq!(symbols.hidden_size, llmc_base::Expr::symbol("hidden_size"));
    let dims = model("num_heads = 4").dims;
    assert_eq!(DimExprs::from(&dims).num_layers.as_constant(), Some(2));
    assert_eq!(Dims::from_array(dims.to_array()), dims);
    let env = dims.env();
    for dim in Dim::ALL {
        assert_eq!(Dim::from_name(dim.name()), Some(dim));
        assert_eq!(env[&llmc_base::Symbol::new(dim.name())], i128::from(dims.get(dim)));
        assert_eq!(dims.to_array()[dim.idx()], dims.get(dim));
    }
}

/// Bounds that people and others may write.
fn bounds() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        1u64..10,
        1u64..5000,
        prop::sample::select(vec![64, 128, 4096, 1 << 31, 1 << 32])
    ];
    let part = |name: &'static str| number.clone().prop_map(move |n| format!("{name} = {n}"));
    prop_oneof![
        number.clone().prop_map(|n| n.to_string()),
        Just("\"free\"".to_string()),
        part("min").prop_map(|p| format!("{{ {p} }}")),
        part("max").prop_map(|p| format!("{{ {p} }}")),
        part("multiple_of").prop_map(|p| format!("{{ {p} }}")),
        (part("min"), part("multiple_of")).prop_map(|(a, b)| format!("{{ {a}, {b} }}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever dims are written, there is an answer in reasonable time: dims that
    /// satisfy everything, or reasons.
    #[test]
    fn every_model_resolves_or_says_why_not(
        dims in prop::collection::vec((0usize..8, bounds()), 0..8),
        target in prop::option::of(1u64..1 << 40),
        attention in prop::sample::select(vec!["mha", "gqa", "mqa"]),
    ) {
        let mut lines = std::collections::BTreeMap::from([("vocab_size", "512".to_string())]);
        lines.extend(dims.into_iter().map(|(idx, bound)| (Dim::ALL[idx].name(), bound)));
        let mut text = format!("[model]\nattention = \"{attention}\"\n");
        lines.iter().for_each(|(name, bound)| text.push_str(&format!("{name} = {bound}\n")));
        text.extend(target.map(|t| format!("target_params = {t}\n")));
        let (spec, diagnostics) = parse(&text, Format::Toml, "s");
        prop_assert_eq!(spec.is_none(), !diagnostics.is_empty());
        let Some(spec) = spec else { return Ok(()) };
        match resolve(&spec, Goal::Model, &params) {
            Ok(resolved) => {
                let model = resolved.model.unwrap();
                prop_assert_eq!(model.dims.num_heads % model.dims.num_kv_heads, 0, "{}", text);
                let count = params(&model.architecture).eval(&model.dims.env()).unwrap();
                prop_assert_eq!(count, i128::from(model.solution.params));
                if let Some(target) = target {
                    prop_assert!(model.solution.params.abs_diff(target) <= target / 100);
                }
            }
            Err(diagnostics) => prop_assert!(!diagnostics.is_empty()),
        }
    }
}

#[test]
fn parameter_groups_are_a_list_of_tables_in_order() {
    let text = "[optimizer]\nweight_decay = 0.2\n[[optimizer.groups]]\npattern = \"*.norm.weight\"\nweight_decay = 0\n\
                [[optimizer.groups]]\nlr_scale = 0.5\npattern = \"1-D\"\n";
    let groups = resolved(text).optimizer.unwrap().groups;
    let group = |pattern: &str, lr_scale, weight_decay| crate::ParameterGroup {
        pattern: pattern.into(),
        lr_scale,
        weight_decay,
    };
    assert_eq!(groups, [group("*.norm.weight", 1.0, Some(0.0)), group("1-D", 0.5, None)]);
    // The order is part of the recipe; how it is written is not.
    let hash = |groups: &str| {
        let text = format!("[optimizer]\ngroups = {groups}\n[training]\nsequence_length = 8\n");
        resolved(&text).hashes.training
    };
    let (a, b) = (r#"{ pattern = "a" }"#, r#"{ pattern = "b", lr_scale = 2 }"#);
    assert_ne!(hash(&format!("[{a}, {b}]")), hash(&format!("[{b}, {a}]")));
    assert_eq!(hash(a), hash(r#"[{ lr_scale = 1.0, pattern = "a" }]"#));
    assert_ne!(hash(a), hash("[]"));
    let spec = good(text);
    let printed = resolved(&crate::to_toml(&spec));
    assert_eq!(printed.optimizer.unwrap().groups, groups);
    let json = r#"{"optimizer": {"groups": [{"pattern": "*.norm.weight", "weight_decay": 0}, {"pattern": "1-D", "lr_scale": 0.5}]}}"#;
    let (spec, found) = crate::parse(json, crate::Format::Json, "s");
    assert!(found.is_empty());
    assert_eq!(
        crate::to_toml(&spec.unwrap()).lines().last(),
        crate::to_toml(&good(&text.replace("weight_decay = 0.2\n", ""))).lines().last()
    );
}

#[test]
fn a_bad_parameter_group_says_what_it_takes() {
    let check = |line: &str, wanted: &str| {
        let text = format!("[optimizer]\ngroups = {line}\n");
        let found = show(&crate::parse(&text, crate::Format::Toml, "s").1, &text);
        assert!(found.contains(wanted), "{found}");
    };
    check("[{ lr_scale = 2 }]", "spec::wrong_type: a group of `optimizer.groups` has no `pattern`");
    check(r#"[{ patern = "x" }]"#, "did you mean `pattern`?");
    check(
        r#"[{ pattern = "x", lr_scale = -1 }]"#,
        "`optimizer.groups` is -1, but must be at least 0",
    );
    check("3", "`optimizer.groups` is a list of tables, not an integer (3)");
}
