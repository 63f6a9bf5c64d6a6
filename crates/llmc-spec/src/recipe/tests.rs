//! Tests of [`super`]: what changes a hash, what does not, and golden hashes that guard
//! `spec_version`.

use super::*;
use crate::field::{DefaultRule, Field, Kind, fields};
use crate::spec::insert;
use crate::testing::{params, resolved, show};
use crate::{Format, Goal, parse, parse_with, resolve, to_toml};
use proptest::prelude::*;
use serde_json::{Map, json};

const BASE: &str = "
[model]
vocab_size = 512
context_length = 64
num_layers = 2
hidden_size = 64
num_heads = 4
intermediate_size = 128
[dataset]
paths = [\"corpus\"]
[tokenizer]
[optimizer]
[training]
max_steps = 100
";

fn hashes_with(text: &str, format: Format, sets: &[String]) -> RecipeHashes {
    let (spec, diagnostics) = parse_with(text, format, "s", sets);
    let Some(spec) = spec else { panic!("{sets:?}\n{}", show(&diagnostics, text)) };
    match resolve(&spec, Goal::Written, &params) {
        Ok(resolved) => resolved.hashes,
        Err(diagnostics) => panic!("{sets:?}\n{}", show(&diagnostics, text)),
    }
}

fn with_sets(sets: &[&str]) -> RecipeHashes {
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    hashes_with(BASE, Format::Toml, &sets)
}

/// If one of these fails although no meaning changed, the canonical form changed: raise
/// `SPEC_VERSION` or undo it. If a meaning changed on purpose, raise it, too.
#[test]
fn golden_hashes_guard_the_spec_version() {
    assert_eq!(SPEC_VERSION, 1);
    assert_eq!(NUMERICS_VERSION, 1);
    let short = |hashes: RecipeHashes| {
        [hashes.model, hashes.dataset, hashes.tokenizer, hashes.training]
            .map(|h| h.unwrap().short())
    };
    assert_eq!(short(with_sets(&[])), GOLDEN_BASE);
    assert_eq!(short(with_sets(EVERYTHING)), GOLDEN_EVERYTHING);
}

const GOLDEN_BASE: [&str; 4] = ["d730b99ed4ae", "26c1ea8313be", "6fe49d838a5d", "dd2980a4aca6"];
const GOLDEN_EVERYTHING: [&str; 4] =
    ["4fb65641c5bd", "1460cc2e404a", "1fa3a838799c", "a39eda9f01b0"];

/// A value unlike the default for every field that enters a hash and can be written
/// beside the others.
const EVERYTHING: &[&str] = &[
    "training.precision=bfloat16",
    "model.num_kv_heads=2",
    "model.head_dim=32",
    "model.sliding_window_size=16",
    "model.attention_scale=0.25",
    "model.norm=layernorm",
    "model.norm_eps=1e-6",
    "model.activation=gelu",
    "model.rope_theta=5e5",
    "model.rope_scaling={ type = \"llama3\", factor = 8.0, low_freq_factor = 2.0, high_freq_factor = 3.0, original_context_length = 32 }",
    "model.tie_embeddings=false",
    "model.bias={ q = true, k = true, v = true, o = true, up = true, down = true, lm_head = true, norm = false }",
    "model.dropout={ embedding = 0.1, attention = 0.2, residual = 0.3 }",
    "model.init_std=0.01",
    "model.init_residual_scaled=false",
    "dataset.extensions=[\"py\"]",
    "dataset.include=[\"*x*\"]",
    "dataset.exclude=[\"*y*\"]",
    "dataset.domains=[\"synthetic\"]",
    "dataset.languages={ de = 1.0 }",
    "dataset.target_tokens=1000",
    "dataset.min_length=2",
    "dataset.max_length=20",
    "dataset.deduplicate=none",
    "dataset.validation_fraction=0.1",
    "dataset.invalid_utf8=skip",
    "dataset.seed=1",
    "tokenizer.type=bpe",
    "tokenizer.vocab_size=500",
    "tokenizer.min_frequency=3",
    "tokenizer.pre_tokenizer=none",
    "tokenizer.special_tokens={ unk = \"<u>\", pad = \"<p>\", bos = \"<b>\", eos = \"<e>\", additional = [\"<x>\"] }",
    "optimizer.lr=1e-3",
    "optimizer.beta1=0.8",
    "optimizer.beta2=0.9",
    "optimizer.eps=1e-7",
    "optimizer.weight_decay=0.2",
    "optimizer.no_decay=[\"*.weight\"]",
    "optimizer.max_grad_norm=2.0",
    "training.batch_size=4",
    "training.sequence_length=32",
    "training.max_steps=200",
    "training.schedule={ type = \"wsd\", warmup_steps = 3, decay_steps = 7, min_lr_ratio = 0.5 }",
    "training.seed=9",
    "training.eval_interval=5",
    "training.eval_batches=6",
    "optimizer.groups=[{ pattern = \"1-D\", lr_scale = 0.5 }]",
    "training.batch_ramp={ start = 2, steps = 3 }",
    "training.early_stopping={ patience = 2, min_delta = 0.01 }",
    "training.skip_spikes={ factor = 3.0, window = 10 }",
    "training.z_loss=1e-4",
    "training.ema=0.99",
];

#[test]
fn each_change_of_meaning_changes_the_hash_of_its_section_and_of_what_uses_it() {
    let base = with_sets(&[]);
    for set in EVERYTHING {
        // These two need a companion; each companion alone is tried, too.
        let companions: &[&str] = match *set {
            "model.head_dim=32" | "model.sliding_window_size=16" => &[],
            "dataset.languages={ de = 1.0 }" => &["dataset.domains=[\"synthetic\"]"],
            "model.norm_eps=1e-6" => &[],
            "model.bias={ q = true, k = true, v = true, o = true, up = true, down = true, lm_head = true, norm = false }" => {
                &["model.norm=layernorm", "model.activation=gelu"]
            }
            _ => &[],
        };
        let before = with_sets(companions);
        let sets: Vec<&str> = companions.iter().copied().chain([*set]).collect();
        let after = with_sets(&sets);
        let changed = [
            before.model != after.model,
            before.dataset != after.dataset,
            before.tokenizer != after.tokenizer,
            before.training != after.training,
        ];
        let want = match set.split('.').next().unwrap() {
            "model" => [true, false, false, true],
            "dataset" => [false, true, true, true],
            "tokenizer" => [false, false, true, true],
            _ => [false, false, false, true],
        };
        assert_eq!(changed, want, "{set}");
        assert_ne!(base.training, after.training, "{set}");
    }
}

/// The list above leaves out no field that enters a hash.
#[test]
fn every_hashed_field_is_tried() {
    let text = BASE.to_string() + "# ";
    let sets: Vec<String> = EVERYTHING.iter().map(|s| s.to_string()).collect();
    let (spec, _) = parse_with(&text, Format::Toml, "s", &sets);
    let spec = spec.unwrap();
    let excused = [
        // One word each today, or only with SGD or Muon.
        "model.template",
        "model.precision",
        "model.alibi_max_bias",
        "optimizer.type",
        "optimizer.momentum",
        "optimizer.ns_steps",
        "optimizer.adamw_parameters",
        "model.positional_encoding",
        "model.bias.gate",
        // Only with μP or float16, see below.
        "model.parametrization",
        "model.mup.base_hidden_size",
        "model.mup.base_head_dim",
        "training.loss_scale.init_scale",
        "training.loss_scale.growth_factor",
        "training.loss_scale.backoff_factor",
        "training.loss_scale.growth_interval",
    ];
    for field in fields() {
        let is_tried = field.hashing == Hashing::Never
            || field.is_shorthand()
            || spec.get(field.path).is_some()
            || excused.contains(&field.path);
        assert!(is_tried, "{}", field.path);
    }
    for set in ["optimizer.type=sgd", "model.positional_encoding=none", "model.bias.gate=true"] {
        assert_ne!(with_sets(&[set]).training, with_sets(&[]).training, "{set}");
    }
    assert_ne!(
        with_sets(&["optimizer.type=sgd", "optimizer.momentum=0.5"]).training,
        with_sets(&["optimizer.type=sgd"]).training
    );
    let muon = ["optimizer.type=muon", "optimizer.betas=[0.9, 0.95]"];
    for set in ["optimizer.ns_steps=4", "optimizer.adamw_parameters=[\"lm_head.*\"]"] {
        let changed = with_sets(&[muon[0], muon[1], set]);
        assert_ne!(changed.training, with_sets(&muon).training, "{set}");
    }
}

#[test]
fn labels_and_observations_change_no_hash() {
    let base = with_sets(&[]);
    for set in [
        "model.name=x",
        "model.attention=mha",
        "model.weight_format=safetensors",
        "dataset.name=x",
        "tokenizer.name=x",
        "training.name=x",
        "training.microbatch_size=2",
        "training.threads=3",
        "training.log_interval=1",
        "training.sample_interval=5",
        "training.sample_prompt=x",
        "training.sample_tokens=5",
        "training.checkpoint_interval=5",
        "training.keep_checkpoints=5",
        "training.keep_best=false",
        "training.best_checkpoints=3",
    ] {
        assert_eq!(with_sets(&[set]), base, "{set}");
    }
}

#[test]
fn writing_a_default_changes_no_hash() {
    let r = resolved(BASE);
    for default in &r.defaults {
        let value = crate::print::toml_value(&default.value);
        let set = format!("{}={value}", default.path);
        // Writing one special token means that the others are none.
        if default.path.contains("special_tokens") {
            continue;
        }
        assert_eq!(hashes_with(BASE, Format::Toml, &[set]), r.hashes, "{}", default.path);
    }
}

#[test]
fn how_a_value_was_written_never_shows() {
    for (one, other) in [
        (
            "model.bias=true",
            "model.bias={ q = true, k = true, v = true, o = true, gate = true, up = true, down = true }",
        ),
        ("model.dropout=0.1", "model.dropout={ embedding = 0.1, attention = 0.1, residual = 0.1 }"),
        ("model.rope_scaling_factor=2.0", "model.rope_scaling={ type = \"linear\", factor = 2 }"),
        ("model.attention=mqa", "model.num_kv_heads=1"),
        ("optimizer.betas=[0.8, 0.9]", "optimizer={ beta1 = 0.8, beta2 = 0.9 }"),
        (
            "training.schedule={ type = \"wsd\", decay_fraction = 0.5 }",
            "training={ schedule = \"wsd\", decay_steps = 50 }",
        ),
        ("tokenizer.special_tokens={ eos = \"<|endoftext|>\" }", "tokenizer.type=byte_bpe"),
    ] {
        assert_eq!(with_sets(&[one]), with_sets(&[other]), "{one}");
    }
    for set in ["model.bias=true", "model.dropout=0.1", "optimizer.betas=[0.8, 0.9]"] {
        assert_ne!(with_sets(&[set]).training, with_sets(&[]).training, "{set}");
    }
}

#[test]
fn a_solved_model_is_the_model_with_its_dims_written() {
    let solved = resolved("[model]\nvocab_size = 512\ntarget_params = \"1M\"\n");
    let d = solved.model.unwrap().dims;
    let text = format!(
        "[model]\nvocab_size = 512\nnum_layers = {}\nhidden_size = {}\nnum_heads = {}\nnum_kv_heads = {}\nintermediate_size = {}\n",
        d.num_layers, d.hidden_size, d.num_heads, d.num_kv_heads, d.intermediate_size
    );
    assert_eq!(resolved(&text).hashes.model, solved.hashes.model);
}

#[test]
fn a_written_hash_stands_for_its_section() {
    let all = with_sets(&[]);
    let text =
        format!("[tokenizer]\nvocab_size = 512\ndataset_hash = \"{}\"\n", all.dataset.unwrap());
    assert_eq!(resolved(&text).hashes.tokenizer, all.tokenizer);
    let text = format!(
        "[training]\nmax_steps = 100\nmodel_hash = \"{}\"\ndataset_hash = \"{}\"\ntokenizer_hash = \"{}\"\n",
        all.model.unwrap(),
        all.dataset.unwrap(),
        all.tokenizer.unwrap()
    );
    assert_eq!(resolved(&text).hashes.training, all.training);
    let set = format!("training.model_hash={}", all.model.unwrap());
    assert_eq!(hashes_with(BASE, Format::Toml, &[set]), all);
}

/// A value for a field, unlike most defaults.
fn some_value(field: &Field, seed: u64) -> Option<Value> {
    Some(match field.kind {
        Kind::Int { min, max } => json!((min + 1 + seed % 7).min(max)),
        Kind::Float { .. } => json!(1.0 - 1.0 / (2.0 + (seed % 5) as f64)),
        Kind::Bool => json!(seed.is_multiple_of(2)),
        Kind::Text => json!(format!("t{}", seed % 5)),
        Kind::Texts | Kind::TextSet => json!([format!("x{}", seed % 3), "y"]),
        Kind::Choice(choices) => {
            let built: Vec<_> = choices.iter().filter(|c| c.is_built).collect();
            json!(built.get(seed as usize % built.len().max(1))?.name)
        }
        Kind::Weights => json!({ "en": 1.0, "de": (1 + seed % 4) as f64 }),
        _ => return None,
    })
}

/// The same settings as TOML, YAML and JSON, with other orders, names and comments.
fn spellings(settings: &[(&'static Field, Value)], seed: u64) -> Vec<(String, Format)> {
    let nested = |settings: &[(&'static Field, Value)], use_alias: bool| {
        let mut map = Map::new();
        for (field, value) in settings {
            let own = field.aliases.iter().find(|a| {
                // An alias in another section or of a whole table cannot always stand beside others.
                a.starts_with(field.section().name())
                    && !crate::field::is_table(a)
                    && a.matches('.').count() == 1
                    && **a != "model.hidden_act"
            });
            let path = if use_alias { own.copied().unwrap_or(field.path) } else { field.path };
            insert(&mut map, path, value.clone());
        }
        Value::Object(map)
    };
    let mut shuffled = settings.to_vec();
    for i in (1..shuffled.len()).rev() {
        shuffled.swap(i, (seed as usize).wrapping_mul(31).wrapping_add(i * 7) % (i + 1));
    }
    let json = nested(settings, false);
    let aliased = nested(&shuffled, true);
    vec![
        (serde_json::to_string(&json).unwrap(), Format::Json),
        (serde_json::to_string_pretty(&aliased).unwrap(), Format::Json),
        // JSON is YAML, and so is the block form.
        (serde_json::to_string(&aliased).unwrap(), Format::Yaml),
        (yaml(&aliased, 0), Format::Yaml),
    ]
}

/// Block YAML with a comment on every line.
fn yaml(value: &Value, indent: usize) -> String {
    let Value::Object(map) = value else { return value.to_string() };
    let mut out = String::new();
    for (key, value) in map {
        let pad = " ".repeat(indent);
        let is_block = value.as_object().is_some_and(|m| !m.is_empty());
        if is_block {
            out.push_str(&format!("{pad}{key}:   # comment\n{}", yaml(value, indent + 2)));
        } else {
            out.push_str(&format!("{pad}{key}: {value}  # comment\n"));
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn format_order_names_and_comments_change_no_hash(
        picks in prop::collection::vec((0usize..200, 0u64..1000), 0..20), seed in 0u64..1000
    ) {
        let all: Vec<&Field> = fields()
            .filter(|f| !f.is_shorthand() && !f.is_later)
            .filter(|f| !matches!(f.default, DefaultRule::Solved(_)))
            .collect();
        let (base, _) = parse(BASE, Format::Toml, "s");
        let mut settings: BTreeMap<&str, (&Field, Value)> =
            base.unwrap().settings().map(|(f, s)| (f.path, (f, s.value.clone()))).collect();
        for (idx, value_seed) in picks {
            let field = all[idx % all.len()];
            if let Some(value) = some_value(field, value_seed) {
                settings.insert(field.path, (field, value));
            }
        }
        let settings: Vec<_> = settings.into_values().collect();
        let texts = spellings(&settings, seed);
        let results: Vec<_> = texts
            .iter()
            .map(|(text, format)| {
                let (spec, diagnostics) = parse(text, *format, "s");
                let codes: Vec<_> = diagnostics.iter().map(|d| d.code.clone()).collect();
                (spec, codes)
            })
            .collect();
        // The same text is a good spec in all spellings or in none.
        prop_assert!(results.iter().all(|(s, _)| s.is_some() == results[0].0.is_some()), "{texts:#?} {results:#?}");
        let Some(first) = &results[0].0 else { return Ok(()) };
        let hashes = |spec: &crate::Spec| {
            resolve(spec, Goal::Written, &params).map(|r| r.hashes).map_err(|d| d.len())
        };
        let want = hashes(first);
        for (spec, _) in &results {
            prop_assert_eq!(hashes(spec.as_ref().unwrap()), want);
        }
        let (printed, _) = parse(&to_toml(first), Format::Toml, "s");
        prop_assert_eq!(hashes(&printed.unwrap()), want);
    }
}

#[test]
fn the_base_of_a_parametrization_is_part_of_the_model() {
    let mup = |sets: &[&str]| {
        let base = ["model.parametrization=mup", "model.mup.base_hidden_size=32"];
        with_sets(&[&base, sets].concat()).model
    };
    let plain = mup(&[]);
    assert_eq!(with_sets(&["model.parametrization=standard"]).model, with_sets(&[]).model);
    assert_ne!(plain, with_sets(&[]).model);
    assert_ne!(plain, mup(&["model.mup.base_hidden_size=64"]));
    assert_ne!(plain, mup(&["model.mup.base_head_dim=8"]));
}

#[test]
fn the_rule_of_the_loss_scale_enters_the_hash_where_it_is_unlike_the_default() {
    let float16 = |set: &str| with_sets(&["training.precision=float16", set]).training;
    let plain = float16("training.loss_scale.init_scale=65536");
    assert_eq!(plain, with_sets(&["training.precision=f16"]).training);
    assert_ne!(plain, with_sets(&[]).training);
    for set in ["init_scale=1024", "growth_factor=4", "backoff_factor=0.25", "growth_interval=7"] {
        assert_ne!(float16(&format!("training.loss_scale.{set}")), plain, "{set}");
    }
}
