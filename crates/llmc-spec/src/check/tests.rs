//! Tests of [`super`]: one clash each.

use crate::testing::show;
use crate::{Format, parse};

/// The first line of what is reported.
fn check(text: &str, want: &str) {
    let (_, diagnostics) = parse(text, Format::Toml, "s");
    let shown = show(&diagnostics, text);
    assert!(shown.lines().any(|line| line == want), "want {want}\nfound {shown}");
    assert!(diagnostics.iter().all(|d| d.help.is_some()), "{shown}");
    assert!(diagnostics.iter().all(|d| !d.labels.is_empty()), "{shown}");
}

fn check_model(lines: &str, want: &str) {
    let base = "[model]\nvocab_size = 32\nnum_layers = 1\nhidden_size = 16\n";
    check(&format!("{base}{lines}\n"), want);
}

#[test]
fn fields_without_effect() {
    for (lines, want) in [
        (
            "positional_encoding = \"learned\"\nrope_theta = 1e6",
            "spec::conflict: `model.rope_theta` has no effect: `model.positional_encoding` is \"learned\"",
        ),
        (
            "norm = \"none\"\nnorm_eps = 1e-6",
            "spec::conflict: `model.norm_eps` has no effect: `model.norm` is \"none\"",
        ),
        (
            "activation = \"gelu\"\nbias.gate = true",
            "spec::conflict: `model.bias.gate` has no effect: `model.activation` is \"gelu\"",
        ),
        (
            "rope_scaling.type = \"linear\"\nrope_scaling.factor = 2\nrope_scaling.low_freq_factor = 1",
            "spec::conflict: `model.rope_scaling.low_freq_factor` has no effect: `model.rope_scaling.type` is \"linear\"",
        ),
        (
            "alibi_max_bias = 8.0",
            "spec::conflict: `model.alibi_max_bias` has no effect: `model.positional_encoding` is \"rope\"",
        ),
        (
            "param_tolerance = 0.1",
            "spec::conflict: `model.param_tolerance` has no effect without `target_params`",
        ),
    ] {
        check_model(lines, want);
    }
    check(
        "[optimizer]\ntype = \"sgd\"\nbeta1 = 0.9\n",
        "spec::conflict: `optimizer.beta1` has no effect: `optimizer.type` is \"sgd\"",
    );
    check(
        "[optimizer]\nmomentum = 0.9\n",
        "spec::conflict: `optimizer.momentum` has no effect: `optimizer.type` is \"adamw\"",
    );
    check(
        "[training]\nschedule = \"cosine\"\ndecay_steps = 9\n",
        "spec::conflict: `training.schedule.decay_steps` has no effect: `training.schedule.type` is \"cosine\"",
    );
    check(
        "[tokenizer]\ntype = \"char\"\nmin_frequency = 3\n",
        "spec::conflict: `tokenizer.min_frequency` has no effect: `tokenizer.type` is \"char\"",
    );
    check(
        "[dataset]\npaths = [\"a\"]\nlanguages = { en = 1.0 }\n",
        "spec::conflict: `dataset.languages` has no effect without `domains`",
    );
}

#[test]
fn a_written_bias_shorthand_needs_no_gate() {
    let text = "[model]\nvocab_size = 32\nnum_layers = 1\nhidden_size = 16\nactivation = \"gelu\"\nbias = true\n";
    assert_eq!(parse(text, Format::Toml, "s").1, []);
}

#[test]
fn target_or_dims_but_not_both() {
    check_model(
        "target_params = \"1M\"\nnum_heads = 2\nintermediate_size = 32",
        "spec::conflict: `target_params` and every dimension are written: nothing is left to solve",
    );
    check(
        "[model]\nvocab_size = 32\ntarget_params = \"1M\"\nexplicit_dims = { num_layers = 2 }\n",
        "spec::conflict: `target_params` and `explicit_dims` are both written",
    );
    check(
        "[model]\nvocab_size = 32\nnum_layers = { min = 2 }\nhidden_size = 16\n",
        "spec::missing: `model.num_layers` is not a number, and there is no target",
    );
}

#[test]
fn what_must_be_written() {
    check_model(
        "attention = \"sliding_window\"",
        "spec::missing: `model.sliding_window_size` is missing",
    );
    check_model(
        "rope_scaling = \"llama3\"",
        "spec::missing: `model.rope_scaling.factor` is missing",
    );
    check("[dataset]\n", "spec::missing: `dataset` has neither `paths` nor `domains`");
    check(
        "[model]\nnum_layers = 1\nhidden_size = 16\n",
        "spec::missing: `model.vocab_size` is missing",
    );
}

#[test]
fn numbers_that_do_not_fit_together() {
    check(
        "[training]\nbatch_size = 8\nmicrobatch_size = 3\n",
        "spec::conflict: `microbatch_size` 3 does not divide `batch_size` 8",
    );
    check(
        "[training]\nmax_steps = 10\nwarmup_steps = 20\n",
        "spec::conflict: warm-up of 20 and decay of 0 steps do not fit into 10 steps",
    );
    check(
        "[training]\nmax_steps = 10\nschedule = { type = \"wsd\", warmup_steps = 4, decay_steps = 7 }\n",
        "spec::conflict: warm-up of 4 and decay of 7 steps do not fit into 10 steps",
    );
    check(
        "[dataset]\npaths = [\"a\"]\nmin_length = 9\nmax_length = 3\n",
        "spec::conflict: `min_length` 9 is above `max_length` 3: no document is left",
    );
    check_model(
        "rope_scaling = { type = \"llama3\", factor = 8.0, low_freq_factor = 4.0, high_freq_factor = 1.0 }",
        "spec::conflict: `low_freq_factor` 4 is not below `high_freq_factor` 1",
    );
}

#[test]
fn one_thing_said_in_two_ways() {
    check(
        "[optimizer]\nbetas = [0.9, 0.95]\nbeta2 = 0.99\n",
        "spec::conflict: `optimizer.betas` and `optimizer.beta2` are both written",
    );
    check(
        "[training]\nschedule = { type = \"wsd\", decay_steps = 10, decay_fraction = 0.1 }\n",
        "spec::conflict: `training.schedule.decay_fraction` and `training.schedule.decay_steps` are both written",
    );
}

#[test]
fn special_tokens_and_vocabulary() {
    check(
        "[tokenizer]\nspecial_tokens = { bos = \"<s>\", eos = \"<s>\" }\n",
        "spec::conflict: `tokenizer.special_tokens.bos` and `tokenizer.special_tokens.eos` are both \"<s>\"",
    );
    check(
        "[tokenizer]\nspecial_tokens = { bos = \"\" }\n",
        "spec::out_of_range: `tokenizer.special_tokens.bos` is an empty text",
    );
    check(
        "[tokenizer]\nvocab_size = 256\n",
        "spec::out_of_range: a vocabulary of 256 is too small for `byte_bpe`: 256 and 1 special tokens make 257",
    );
    let text = "[tokenizer]\nvocab_size = 256\nspecial_tokens = { eos = \"none\" }\n";
    assert_eq!(parse(text, Format::Toml, "s").1, []);
}

const TRAIN: &str = "[model]\nvocab_size = 512\nnum_layers = 1\nhidden_size = 16\n[training]\n";

/// What a `[training]` with this line says.
#[track_caller]
fn training(line: &str, wanted: &str) {
    let text = format!("{TRAIN}{line}\n");
    let found = crate::testing::show(&parse(&text, Format::Toml, "s").1, &text);
    match wanted.is_empty() {
        true => assert_eq!(found, ""),
        false => assert!(found.contains(wanted), "{found}"),
    }
}

#[test]
fn parts_of_training_need_what_they_are_parts_of() {
    training("early_stopping = { patience = 3, min_delta = 0.01 }", "");
    training("early_stopping.min_delta = 0.0", "");
    training(
        "early_stopping.min_delta = 0.01",
        "`training.early_stopping.min_delta` has no effect without `training.early_stopping.patience`",
    );
    training("skip_spikes.window = 5", "has no effect without `training.skip_spikes.factor`");
    training("skip_spikes = { factor = 1.0 }", "must be greater than 1");
    training("batch_ramp.steps = 5", "has no effect without `training.batch_ramp.start`");
    training(
        "early_stopping.patience = 1\n[dataset]\ndomains = [\"synthetic\"]\nvalidation_fraction = 0",
        "`early_stopping` needs held-out text, but `validation_fraction` is 0",
    );
}

#[test]
fn a_ramp_grows_in_multiples_of_its_start() {
    training("batch_size = 8\nbatch_ramp = { start = 2, steps = 10 }", "");
    training("batch_size = 8\nbatch_ramp = { start = 4 }\nmicrobatch_size = 2", "");
    training(
        "batch_size = 8\nbatch_ramp.start = 3",
        "`batch_ramp.start` 3 does not divide `batch_size` 8",
    );
    training(
        "batch_size = 8\nbatch_ramp.start = 2\nmicrobatch_size = 4",
        "`microbatch_size` 4 does not divide `batch_ramp.start` 2",
    );
    training(
        "max_steps = 5\nbatch_ramp = { start = 1, steps = 6 }",
        "a ramp of 6 steps does not fit into 5 steps",
    );
}

#[test]
fn the_loss_is_scaled_by_powers_of_two_and_only_in_float16() {
    let float16 = |line: &str| format!("precision = \"float16\"\n{line}");
    training(&float16(""), "");
    training(&float16("loss_scale = { init_scale = 1024, growth_interval = 5 }"), "");
    training(
        "loss_scale.init_scale = 1024",
        "`training.loss_scale.init_scale` has no effect: `training.precision` is \"float32\"",
    );
    let found = "`loss_scale.init_scale` is 1000, which is not a power of two";
    training(&float16("loss_scale.init_scale = 1000"), found);
    training(&float16("loss_scale.init_scale = 1000"), "write 1024: gradients");
    training(&float16("loss_scale.backoff_factor = 0.3"), "write 0.25: gradients");
    training(&float16("loss_scale.growth_factor = 1"), "must be greater than 1");
    training(&float16("loss_scale.init_scale = 1e300"), "is not a power of two");
}

#[test]
fn a_parametrization_by_width_needs_its_base() {
    training("", "");
    let model = |line: &str, wanted: &str| {
        let text = format!("[model]\nvocab_size = 512\nnum_layers = 1\nhidden_size = 16\n{line}\n");
        let found = crate::testing::show(&parse(&text, Format::Toml, "s").1, &text);
        assert!(found.contains(wanted) && (found.is_empty() == wanted.is_empty()), "{found}");
    };
    model("parametrization = \"mup\"\nmup = { base_hidden_size = 8 }", "");
    model("parametrization = \"mup\"\nmup = { base_hidden_size = 8, base_head_dim = 4 }", "");
    model(
        "mup.base_hidden_size = 8",
        "`model.mup.base_hidden_size` has no effect: `model.parametrization` is \"standard\"",
    );
    model("parametrization = \"mup\"\nmup.base_hidden_size = 0", "`model.mup.base_hidden_size`");
}
