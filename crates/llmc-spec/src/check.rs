//! What fields of one spec say about each other, and what is not built yet.
//!
//! Needs no solved dimensions; what does is checked in [`crate::resolve`].

#[cfg(test)]
mod tests;
mod training;

use crate::dims::Dim;
use crate::field::{self, DefaultRule, Field, Kind, Section};
use crate::spec::{Setting, Spec};
use crate::view::View;
use llmc_base::{Diagnostic, Span};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Reports every clash between written fields, and what is missing unless it was `tried`.
pub(crate) fn check(
    spec: &Spec,
    tried: &BTreeSet<&'static str>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let nothing = BTreeMap::new();
    let c = Checker { spec, tried, view: View::new(spec, &nothing), out: diagnostics };
    c.run();
}

struct Checker<'a, 'd> {
    spec: &'a Spec,
    tried: &'a BTreeSet<&'static str>,
    view: View<'a>,
    out: &'d mut Vec<Diagnostic>,
}

/// Adds the places of the written ones among `paths`, the first as the primary; the section of
/// the first path where none is written.
pub(crate) fn at_fields(mut d: Diagnostic, spec: &Spec, paths: &[&str]) -> Diagnostic {
    let Some(first) = paths.first() else { return d };
    d = d.field(*first);
    for path in paths {
        if let Some(setting) = spec.get(path)
            && let Some(span) = &setting.span
        {
            d = d.at(span.clone(), format!("`{}` is {}", setting.written_as, setting.value));
        }
    }
    match Section::of(first) {
        Some(section) => at_section(d, spec, section),
        None => d,
    }
}

/// Adds the header of a section as the place, if nothing better is there; the start of the
/// file where the section has no header.
pub(crate) fn at_section(d: Diagnostic, spec: &Spec, section: Section) -> Diagnostic {
    match (spec.section_span(section), &spec.start) {
        _ if !d.labels.is_empty() => d,
        (Some(span), _) => d.at(span.clone(), "in this section"),
        (None, Some(span)) => d.at(span.clone(), format!("there is no [{section}]")),
        (None, None) => d,
    }
}

impl Checker<'_, '_> {
    fn run(mut self) {
        for (field, setting) in self.spec.settings() {
            self.support(field, setting);
            self.effect(field);
        }
        self.shorthands();
        if self.spec.has(Section::Model) {
            self.model();
        }
        if self.spec.has(Section::Dataset) {
            self.dataset();
        }
        if self.spec.has(Section::Tokenizer) {
            self.tokenizer();
        }
        if self.spec.has(Section::Training) {
            self.training();
        }
    }

    fn conflict(&mut self, message: String, help: &str, paths: &[&str]) {
        let d = Diagnostic::error("spec::conflict", message).help(help);
        self.out.push(at_fields(d, self.spec, paths));
    }

    /// Whether someone meant to write the field.
    fn is_meant(&self, path: &str) -> bool {
        self.view.is_written(path) || self.tried.contains(path)
    }

    fn missing(&mut self, message: String, help: &str, section: Section, paths: &[&str]) {
        let d = Diagnostic::error("spec::missing", message).help(help);
        let d = at_section(at_fields(d, self.spec, paths), self.spec, section);
        self.out.push(d);
    }

    /// Words and values that parse but do not work yet.
    fn support(&mut self, field: &Field, setting: &Setting) {
        let has_word = |name: &str| match &setting.value {
            Value::Array(items) => items.iter().any(|item| item.as_str() == Some(name)),
            value => value.as_str() == Some(name),
        };
        let (is_unbuilt, built) = match field.kind {
            Kind::Choice(choices) | Kind::Choices(choices) => {
                let built: Vec<_> = choices.iter().filter(|c| c.is_built).map(|c| c.name).collect();
                (choices.iter().any(|c| !c.is_built && has_word(c.name)), built)
            }
            _ => {
                let is_default = self.view.default(field).as_ref() == Some(&setting.value);
                (field.is_later && !is_default, Vec::new())
            }
        };
        if is_unbuilt {
            let message = format!("`{} = {}` is not supported yet", field.path, setting.value);
            let help = match built.as_slice() {
                [] => "leave it out".to_string(),
                names => format!("supported today: {}", names.join(", ")),
            };
            let d = Diagnostic::error("spec::not_supported_yet", message).help(help);
            self.out.push(at_fields(d, self.spec, &[field.path]));
        }
    }

    /// A field that was written where it changes nothing.
    fn effect(&mut self, field: &Field) {
        let Some(condition) = field.applies else { return };
        if self.view.applies(field) {
            return;
        }
        let other = match self.view.value(condition.path) {
            Some(value) => format!("`{}` is {value}", condition.path),
            None => format!("`{}` has no effect either", condition.path),
        };
        let words: Vec<_> = condition.any_of.iter().map(|w| format!("\"{w}\"")).collect();
        let help =
            format!("leave it out, or write `{} = {}`", condition.path, words.join("` or `"));
        let message = format!("`{}` has no effect: {other}", field.path);
        self.conflict(message, &help, &[field.path, condition.path]);
    }

    /// `betas` and `beta1`: two ways of saying one thing in one file.
    fn shorthands(&mut self) {
        for (field, setting) in self.spec.settings() {
            let DefaultRule::Shorthand { covers, .. } = field.default else { continue };
            if !matches!(field.kind, Kind::Pair | Kind::Float { .. }) || field.name() == "all" {
                continue;
            }
            for covered in covers {
                if let Some(other) = self.spec.get(covered)
                    && other.is_override == setting.is_override
                {
                    let message = format!("`{}` and `{covered}` are both written", field.path);
                    self.conflict(message, "keep one of them", &[covered, field.path]);
                }
            }
        }
    }

    fn model(&mut self) {
        let path_of = |dim: Dim| -> &'static str {
            field::find(&format!("model.{dim}")).map_or("model", |f| f.path)
        };
        let is_number = |dim: Dim| self.spec.get(path_of(dim)).is_some_and(|s| s.value.is_number());
        if let Some(setting) = self.spec.get("model.activation")
            && setting.written_as == "model.hidden_act"
            && setting.value == "silu"
        {
            // LLaMA's configuration says `silu` and means a gated block.
            self.conflict(
                "`hidden_act = \"silu\"` means a gated block in some models and a plain one in others"
                    .to_string(),
                "write `activation = \"swiglu\"` (three matrices, as LLaMA has) or `activation = \"silu\"`",
                &["model.activation"],
            );
        }
        if self.view.text("model.attention").as_deref() == Some("sliding_window")
            && !self.is_meant("model.sliding_window_size")
        {
            self.missing(
                "`model.sliding_window_size` is missing".to_string(),
                "write it, e.g. `sliding_window_size = 4096`",
                Section::Model,
                &["model.attention"],
            );
        }
        if let Some(kind) = self.view.text("model.rope_scaling.type")
            && kind != "none"
            && !self.is_meant("model.rope_scaling.factor")
        {
            self.missing(
                "`model.rope_scaling.factor` is missing".to_string(),
                "write it, e.g. `rope_scaling = { type = \"linear\", factor = 4.0 }`",
                Section::Model,
                &["model.rope_scaling.type"],
            );
        }
        let ends = ["model.rope_scaling.low_freq_factor", "model.rope_scaling.high_freq_factor"];
        let [low, high] = ends.map(|path| self.view.value(path).and_then(|v| v.as_f64()));
        if let (Some(low), Some(high)) = (low, high)
            && low >= high
        {
            let message = format!("`low_freq_factor` {low} is not below `high_freq_factor` {high}");
            self.conflict(message, "Llama 3.1 has 1.0 and 4.0", &ends);
        }
        if !self.is_meant("model.vocab_size") && !self.is_meant("tokenizer.vocab_size") {
            self.missing(
                "`model.vocab_size` is missing".to_string(),
                "write it, or `vocab_size` in [tokenizer]",
                Section::Model,
                &[],
            );
        }
        let target = "model.target_params";
        let has_target = self.spec.get(target).is_some_and(|s| !s.value.is_null());
        let explicit: Vec<&str> = self
            .spec
            .settings()
            .filter(|(_, s)| s.written_as.starts_with("model.explicit_dims."))
            .map(|(f, _)| f.path)
            .collect();
        let decisive =
            [Dim::NumLayers, Dim::HiddenSize, Dim::NumHeads, Dim::IntermediateSize, Dim::VocabSize];
        if has_target && !explicit.is_empty() {
            let paths: Vec<_> = [target].into_iter().chain(explicit).collect();
            let message = "`target_params` and `explicit_dims` are both written".to_string();
            self.conflict(message, "keep one: dims to solve for, or dims", &paths);
        } else if has_target && decisive.into_iter().all(is_number) {
            let paths: Vec<_> = [target].into_iter().chain(decisive.map(path_of)).collect();
            let message =
                "`target_params` and every dimension are written: nothing is left to solve"
                    .to_string();
            self.conflict(message, "leave out `target_params`, or one of the dimensions", &paths);
        } else if !has_target && !self.tried.contains(target) {
            for dim in [Dim::NumLayers, Dim::HiddenSize] {
                if !is_number(dim) && !self.tried.contains(path_of(dim)) {
                    let message = match self.view.is_written(path_of(dim)) {
                        true => format!("`model.{dim}` is not a number, and there is no target"),
                        false => format!("`model.{dim}` is missing"),
                    };
                    let help = "write it, or `target_params`, e.g. `target_params = \"125M\"`";
                    self.missing(message, help, Section::Model, &[path_of(dim)]);
                }
            }
        }
        if !has_target && self.view.is_written("model.param_tolerance") {
            let message =
                "`model.param_tolerance` has no effect without `target_params`".to_string();
            self.conflict(message, "leave it out", &["model.param_tolerance"]);
        }
    }

    fn dataset(&mut self) {
        let is_empty = |path: &str| {
            self.view.value(path).and_then(|v| v.as_array().map(Vec::is_empty)).unwrap_or(true)
        };
        let (no_paths, no_domains) = (is_empty("dataset.paths"), is_empty("dataset.domains"));
        let is_tried = ["dataset.paths", "dataset.domains"].iter().any(|p| self.tried.contains(p));
        if no_paths && no_domains && !is_tried {
            self.missing(
                "`dataset` has neither `paths` nor `domains`".to_string(),
                "write `paths = [\"corpus/\"]`, or `domains = [\"synthetic\"]`",
                Section::Dataset,
                &["dataset.paths", "dataset.domains"],
            );
        }
        if no_domains && self.view.is_written("dataset.languages") {
            self.conflict(
                "`dataset.languages` has no effect without `domains`".to_string(),
                "leave it out, or write `domains = [\"synthetic\"]`",
                &["dataset.languages"],
            );
        }
        if let (Some(min), Some(max)) =
            (self.view.int("dataset.min_length"), self.view.int("dataset.max_length"))
            && min > max
        {
            self.conflict(
                format!("`min_length` {min} is above `max_length` {max}: no document is left"),
                "lower one or raise the other",
                &["dataset.min_length", "dataset.max_length"],
            );
        }
    }

    fn tokenizer(&mut self) {
        let base = "tokenizer.special_tokens";
        let paths = ["unk", "pad", "bos", "eos"].map(|name| format!("{base}.{name}"));
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        let mut n_tokens = 0u64;
        let named = paths.iter().filter_map(|p| Some((p.clone(), self.view.text(p)?)));
        let additional_path = format!("{base}.additional");
        let additional: Vec<(String, String)> = self
            .view
            .value(&additional_path)
            .and_then(|v| v.as_array().cloned())
            .unwrap_or_default()
            .iter()
            .filter_map(|v| Some((additional_path.clone(), v.as_str()?.to_string())))
            .collect();
        for (path, token) in named.chain(additional).collect::<Vec<_>>() {
            n_tokens += 1;
            if token.is_empty() {
                let message = format!("`{path}` is an empty text");
                let d = Diagnostic::error("spec::out_of_range", message)
                    .help("write \"none\" for no such token");
                self.out.push(at_fields(d, self.spec, &[&path]));
            } else if let Some(first) = seen.insert(token.clone(), path.clone()) {
                let message = format!("`{first}` and `{path}` are both \"{token}\"");
                self.conflict(message, "special tokens differ", &[&path, &first]);
            }
        }
        let written = self.view.written("tokenizer.vocab_size").and_then(Value::as_u64);
        if let Some(kind) = self.view.text("tokenizer.type")
            && let Some(vocab_size) = written
        {
            self.out.extend(vocab_too_small(self.spec, &kind, vocab_size, n_tokens));
        }
    }

    fn training(&mut self) {
        let view = self.view;
        let int = |path: &str| view.int(path);
        if let (Some(batch), Some(micro)) =
            (int("training.batch_size"), int("training.microbatch_size"))
            && batch % micro != 0
        {
            self.conflict(
                format!("`microbatch_size` {micro} does not divide `batch_size` {batch}"),
                "choose a divisor; it never changes the numbers",
                &["training.microbatch_size", "training.batch_size"],
            );
        }
        let steps = "training.max_steps";
        let (warmup, decay) = ("training.schedule.warmup_steps", "training.schedule.decay_steps");
        if let (Some(max), Some(up)) = (int(steps), int(warmup)) {
            let down = int(decay).unwrap_or(0);
            if up.saturating_add(down) > max {
                self.conflict(
                    format!(
                        "warm-up of {up} and decay of {down} steps do not fit into {max} steps"
                    ),
                    "raise `max_steps` or lower the others",
                    &[warmup, decay, steps],
                );
            }
        }
        self.parts();
        self.batch_ramp();
        self.loss_scale();
        self.early_stopping();
    }
}

/// The complaint about a vocabulary that cannot hold the alphabet and the special tokens.
pub(crate) fn vocab_too_small(
    spec: &Spec,
    kind: &str,
    vocab_size: u64,
    n_special: u64,
) -> Option<Diagnostic> {
    let alphabet = if kind == "byte_bpe" { 256 } else { 1 };
    let least = alphabet + n_special;
    (vocab_size < least).then(|| {
        let message = format!(
            "a vocabulary of {vocab_size} is too small for `{kind}`: {alphabet} and {n_special} special tokens make {least}"
        );
        let d = Diagnostic::error("spec::out_of_range", message)
            .help(format!("write at least {least}, or `type = \"bpe\"`"));
        let d = at_fields(d, spec, &["tokenizer.vocab_size", "model.vocab_size", "tokenizer.type"]);
        at_section(d, spec, Section::Tokenizer)
    })
}

/// A span of the part of a dimension, or of the whole setting.
pub(crate) fn dim_span(spec: &Spec, dim: Dim, part: &str) -> Option<Span> {
    let setting = spec.get(&format!("model.{dim}"))?;
    setting.part_spans.get(part).or(setting.span.as_ref()).cloned()
}
