//! From a spec to resolved, typed settings: defaults by rule, dims by the solver,
//! hashes of the recipe.

mod hashes;
mod typed;

#[cfg(test)]
mod tests;

use crate::architecture::Architecture;
use crate::check::{at_fields, at_section, vocab_too_small};
use crate::config::{DatasetConfig, OptimizerConfig, TokenizerConfig, TrainingConfig};
use crate::dims::Dims;
use crate::field::{self, DefaultRule, Field, Section};
use crate::recipe::{self, RecipeHashes};
use crate::solver::{Problem, Solution, solve};
use crate::spec::Spec;
use crate::view::View;
use llmc_base::{Diagnostic, Expr};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use typed::{special_tokens, to_architecture, typed};

/// What the resolved spec is for: which sections must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Whatever sections are written.
    Written,
    /// A model; other sections where they are written.
    Model,
    /// A training run: all five sections, by default where they are not written.
    Training,
}

/// A spec with everything filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// `[model]`, if there is one.
    pub model: Option<ResolvedModel>,
    /// `[dataset]`, if there is one.
    pub dataset: Option<DatasetConfig>,
    /// `[tokenizer]`, if there is one.
    pub tokenizer: Option<TokenizerConfig>,
    /// `[optimizer]`, if there is one or a `[training]`.
    pub optimizer: Option<OptimizerConfig>,
    /// `[training]`, if there is one and its `sequence_length` is known: written, or the
    /// context length of a model.
    pub training: Option<TrainingConfig>,
    /// Every value that was not written, with the rule that set it, in table order.
    pub defaults: Vec<Defaulted>,
    /// What names each artifact.
    pub hashes: RecipeHashes,
    /// Every value by path, written or not: the explicit form of the spec.
    pub values: BTreeMap<&'static str, Value>,
}

/// `[model]` with its dims solved.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedModel {
    /// A label; not part of the recipe.
    pub name: String,
    /// Everything that is not a dim.
    pub architecture: Architecture,
    /// The dims.
    pub dims: Dims,
    /// How they were found; holds the parameter count.
    pub solution: Solution,
}

/// A value that was not written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Defaulted {
    /// Path of the field.
    pub path: &'static str,
    /// The value; `null` is "nothing".
    pub value: Value,
    /// The rule that set it.
    pub rule: String,
}

/// Fills in everything: defaults, dims, hashes.
///
/// `params` gives the parameter count of an architecture in the symbols of
/// [`crate::DimExprs::symbolic`]. Errors: everything that is missing, clashes, or does not fit.
pub fn resolve(
    spec: &Spec,
    goal: Goal,
    params: &dyn Fn(&Architecture) -> Expr,
) -> Result<Resolved, Vec<Diagnostic>> {
    let mut work = Work::new(spec);
    work.sections = sections_of(spec, goal);
    let model = work.model(params);
    for section in [Section::Dataset, Section::Tokenizer, Section::Optimizer, Section::Training] {
        work.fill(section);
    }
    work.check_fits();
    let hashes = recipe::hashes(&work.values, &work.sections);
    work.check_hashes(&hashes);
    if work.diagnostics.iter().any(Diagnostic::is_error) {
        return Err(work.diagnostics);
    }
    Ok(Resolved {
        model,
        dataset: work.typed(Section::Dataset),
        tokenizer: work.typed(Section::Tokenizer),
        optimizer: work.typed(Section::Optimizer),
        training: work
            .values
            .contains_key("training.sequence_length")
            .then(|| work.typed(Section::Training))
            .flatten(),
        defaults: work.defaults,
        hashes,
        values: work.values,
    })
}

/// The architecture of `[model]` alone, with its defaults.
///
/// Errors: what is missing.
pub fn architecture(spec: &Spec) -> Result<Architecture, Vec<Diagnostic>> {
    let mut work = Work::new(spec);
    work.sections.insert(Section::Model);
    work.fill(Section::Model);
    match work.diagnostics.is_empty() {
        true => Ok(to_architecture(&work.values)),
        false => Err(work.diagnostics),
    }
}

/// `--explicit`: every default as an error, with the line that would silence it.
pub fn refuse_defaults(spec: &Spec, defaults: &[Defaulted]) -> Vec<Diagnostic> {
    defaults
        .iter()
        .map(|d| {
            let field = field::find(d.path);
            let value = crate::print::toml_value(&d.value);
            let line = format!("{} = {value}", field.map_or(d.path, Field::local_path));
            let message = format!("`{}` is not written; it would be {value} ({})", d.path, d.rule);
            let section = Section::of(d.path).unwrap_or(Section::Model);
            let diagnostic = Diagnostic::error("spec::implicit", message)
                .help(format!("write `{line}` in [{section}]"));
            at_section(diagnostic, spec, section)
        })
        .collect()
}

fn sections_of(spec: &Spec, goal: Goal) -> BTreeSet<Section> {
    let mut sections: BTreeSet<Section> =
        Section::ALL.into_iter().filter(|s| spec.has(*s)).collect();
    match goal {
        Goal::Written => {}
        Goal::Model => {
            sections.insert(Section::Model);
        }
        Goal::Training => sections.extend(Section::ALL),
    }
    if sections.contains(&Section::Training) {
        sections.insert(Section::Optimizer);
    }
    sections
}

struct Work<'a> {
    spec: &'a Spec,
    sections: BTreeSet<Section>,
    values: BTreeMap<&'static str, Value>,
    defaults: Vec<Defaulted>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Work<'a> {
    fn new(spec: &'a Spec) -> Work<'a> {
        Work {
            spec,
            sections: BTreeSet::new(),
            values: BTreeMap::new(),
            defaults: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    fn missing(&mut self, message: String, help: &str, section: Section) {
        let d = Diagnostic::error("spec::missing", message).help(help);
        self.diagnostics.push(at_section(d, self.spec, section));
    }

    /// Settles every field of a section that has a value by now.
    fn fill(&mut self, section: Section) {
        if !self.sections.contains(&section) {
            return;
        }
        for field in field::fields().filter(|f| f.section() == section) {
            if self.values.contains_key(field.path) || field.is_shorthand() {
                continue;
            }
            let view = View::new(self.spec, &self.values);
            if !view.applies(field) {
                continue;
            }
            let is_dim = matches!(field.default, DefaultRule::Solved(_));
            if let Some(value) = view.written(field.path) {
                if !is_dim {
                    self.values.insert(field.path, value.clone());
                }
                continue;
            }
            let default = view.default(field);
            match (default, field.default) {
                (Some(value), _) => {
                    let rule = rule_text(field);
                    self.defaults.push(Defaulted { path: field.path, value: value.clone(), rule });
                    self.values.insert(field.path, value);
                }
                (None, DefaultRule::Required(help)) => {
                    self.missing(format!("`{}` is missing", field.path), help, section);
                }
                _ => {}
            }
        }
    }

    /// Everything of `[model]`; `None` if it has errors or is not there.
    fn model(&mut self, params: &dyn Fn(&Architecture) -> Expr) -> Option<ResolvedModel> {
        if !self.sections.contains(&Section::Model) {
            return None;
        }
        self.fill(Section::Model);
        let before = self.diagnostics.len();
        if !self.spec.has(Section::Model) {
            self.missing_model();
        }
        if self.diagnostics.len() > before {
            return None;
        }
        let architecture = to_architecture(&self.values);
        let problem = match Problem::from_spec(self.spec, &architecture, params(&architecture)) {
            Ok(problem) => problem,
            Err(message) => {
                let d = Diagnostic::error("spec::unsolvable", message)
                    .help("write every dimension as a number, without `target_params`");
                self.diagnostics.push(at_section(d, self.spec, Section::Model));
                return None;
            }
        };
        let solution = match solve(&problem) {
            Ok(solution) => solution,
            Err(conflict) => {
                let found = conflict.to_diagnostics().into_iter();
                let spec = self.spec;
                self.diagnostics.extend(found.map(|d| at_section(d, spec, Section::Model)));
                return None;
            }
        };
        for why in &solution.why {
            let path = field::find(&format!("model.{}", why.dim))?.path;
            let value = Value::from(why.value);
            if !why.is_written {
                let rule = why.text.clone();
                self.defaults.push(Defaulted { path, value: value.clone(), rule });
            }
            self.values.insert(path, value);
        }
        // The name counts parameters, so it comes last.
        self.values.insert(PARAMETER_COUNT, Value::from(solution.params));
        self.fill(Section::Model);
        self.values.remove(PARAMETER_COUNT);
        let name = self.values.get("model.name").and_then(Value::as_str).unwrap_or_default();
        Some(ResolvedModel { name: name.to_string(), architecture, dims: solution.dims, solution })
    }

    fn missing_model(&mut self) {
        let message = "the spec has no [model]".to_string();
        let help = "write [model] with `vocab_size`, and `target_params` or dimensions";
        self.missing(message, help, Section::Model);
    }

    /// What has to fit once dims are known.
    fn check_fits(&mut self) {
        let view = View::new(self.spec, &self.values);
        let mut found = Vec::new();
        let conflict = |message: String, help: &str, paths: &[&str]| {
            at_fields(Diagnostic::error("spec::conflict", message).help(help), self.spec, paths)
        };
        if self.sections.contains(&Section::Dataset) && !self.spec.has(Section::Dataset) {
            let d = Diagnostic::error("spec::missing", "the spec has no [dataset]").help(
                "write [dataset] with `paths = [\"corpus/\"]`, or `domains = [\"synthetic\"]`",
            );
            found.push(at_section(d, self.spec, Section::Dataset));
        }
        let model_vocab = view.int("model.vocab_size");
        if let Some(vocab_size) = self.values.get("tokenizer.vocab_size").and_then(Value::as_u64) {
            if let Some(rows) = model_vocab
                && rows < vocab_size
            {
                found.push(conflict(
                    format!(
                        "a tokenizer of {vocab_size} ids needs more than {rows} embedding rows"
                    ),
                    "lower `tokenizer.vocab_size` or raise `model.vocab_size`",
                    &["tokenizer.vocab_size", "model.vocab_size"],
                ));
            }
            // A written vocabulary was checked with the spec.
            if !view.is_written("tokenizer.vocab_size")
                && let Some(kind) = view.text("tokenizer.type")
            {
                let n_special = special_tokens(&self.values).all().count() as u64;
                found.extend(vocab_too_small(self.spec, &kind, vocab_size, n_special));
            }
        } else if self.sections.contains(&Section::Tokenizer) && model_vocab.is_none() {
            found.extend(self.unknown("tokenizer.vocab_size", "model.vocab_size"));
        }
        match (
            self.values.get("training.sequence_length").and_then(Value::as_u64),
            view.int("model.context_length"),
        ) {
            (Some(length), Some(context)) if length > context => found.push(conflict(
                format!("sequences of {length} tokens are longer than the context of {context}"),
                "lower `training.sequence_length` or raise `model.context_length`",
                &["training.sequence_length", "model.context_length"],
            )),
            _ => {}
        }
        found.extend(self.too_many_tokens());
        found.extend(self.too_many_logits());
        self.diagnostics.extend(found);
    }

    /// The complaint about counts whose product no tensor or counter can hold.
    fn too_many_tokens(&self) -> Option<Diagnostic> {
        let int = |path: &str| self.values.get(path).and_then(Value::as_u64).map(u128::from);
        let (batch, length) = ("training.batch_size", "training.sequence_length");
        // Fields end at 2⁵³, so this product is exact, and the later ones start from 2³¹.
        let tokens = int(batch)? * int(length)?;
        let complain = |what: &str, tokens: u128, most: u128, paths: &[&str]| {
            let message = format!("{what} of {tokens} tokens is above the limit of {most}");
            let d = Diagnostic::error("spec::out_of_range", message)
                .help(format!("lower `{}`", paths.join("` or `")));
            Some(at_section(at_fields(d, self.spec, paths), self.spec, Section::Training))
        };
        if tokens > MAX_STEP_TOKENS {
            return complain("a step", tokens, MAX_STEP_TOKENS, &[batch, length]);
        }
        for (what, path) in
            [("a run", "training.max_steps"), ("a validation", "training.eval_batches")]
        {
            let tokens = tokens * int(path).unwrap_or(0);
            if tokens > u128::from(u64::MAX) {
                return complain(what, tokens, u64::MAX.into(), &[path, batch, length]);
            }
        }
        None
    }

    /// The complaint about a z-loss over more logits than an i32 counts.
    fn too_many_logits(&self) -> Option<Diagnostic> {
        let int = |path: &str| self.values.get(path).and_then(Value::as_u64).map(u128::from);
        let z_loss = self.values.get("training.z_loss").and_then(Value::as_f64)?;
        let paths = ["training.microbatch_size", "training.sequence_length", "model.vocab_size"];
        let [rows, length, vocab] = paths.map(int);
        // Each is below 2⁵³, and the first two together are checked above.
        let logits = rows?.saturating_mul(length?).saturating_mul(vocab?);
        if z_loss == 0.0 || logits <= MAX_STEP_TOKENS {
            return None;
        }
        let message = format!(
            "`z_loss` over {logits} logits of a micro-batch is above the limit of {MAX_STEP_TOKENS}"
        );
        let d = Diagnostic::error("spec::out_of_range", message)
            .help("lower `training.microbatch_size`; it never changes the numbers");
        let d = at_fields(d, self.spec, &["training.z_loss", paths[0], paths[1]]);
        Some(at_section(d, self.spec, Section::Training))
    }

    /// The complaint about a value whose rule needs a section that is not there.
    fn unknown(&self, path: &str, needs: &str) -> Option<Diagnostic> {
        if self.sections.contains(&Section::Model) {
            return None;
        }
        let section = Section::of(path)?;
        let d = Diagnostic::error("spec::missing", format!("`{path}` is missing"))
            .help(format!("write it, or `{needs}`"));
        Some(at_section(d, self.spec, section))
    }

    /// The typed form of a section.
    fn typed<T: DeserializeOwned>(&self, section: Section) -> Option<T> {
        if !self.sections.contains(&section) {
            return None;
        }
        Some(typed(&self.values, section.name()))
    }
}

/// Most tokens of one step: elements of one tensor, indexed by i32.
const MAX_STEP_TOKENS: u128 = i32::MAX as u128;

/// The path under which default rules find the solved count; no field.
const PARAMETER_COUNT: &str = "model.parameter_count";

fn rule_text(field: &Field) -> String {
    match field.default {
        DefaultRule::Is(_) => "default".to_string(),
        DefaultRule::Nothing(text) | DefaultRule::Rule { text, .. } => text.to_string(),
        DefaultRule::Solved(text) | DefaultRule::Required(text) => text.to_string(),
        DefaultRule::Shorthand { text, .. } => text.to_string(),
    }
}
