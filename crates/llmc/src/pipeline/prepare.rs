//! The stages before the first step: data, model, recipe, and a trainer over them.

use super::data::{self, Rows, TextSet};
use super::failure::Failure;
use super::observer::{Event, Observer};
use super::project::{Project, build_model, verified};
use super::train::{Parent, TrainOptions};
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use llmc_data::tokenizer::Tokenizer;
use llmc_ir::Module;
use llmc_runtime::{Engine, Isa};
use llmc_spec::{OptimizerConfig, ResolvedModel, TrainingConfig};
use llmc_train::{Modules, Trainer, optim};

/// Everything that a run is made of, before the first step.
pub struct Prepared {
    /// The spec.
    pub project: Project,
    /// The documents.
    pub set: TextSet,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The packed rows.
    pub rows: Rows,
    /// The model.
    pub module: Module,
    /// The gradient module.
    pub gradient: Module,
    /// Names the run.
    pub recipe: Hash,
}

/// Threads to use: what was asked, what the spec says, or one per core.
pub fn thread_count(asked: Option<usize>, spec: Option<u64>) -> usize {
    asked
        .or(spec.and_then(|n| usize::try_from(n).ok()))
        .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
        .unwrap_or(1)
        .max(1)
}

/// The name of a run: the spec's recipe, the content of its files, and its parent.
fn run_recipe(project: &Project, set: &TextSet, parent: Option<&Parent>) -> Result<Hash, Failure> {
    let spec = project.resolved.hashes.training;
    let spec = spec.ok_or_else(|| Failure::Internal("a spec without a run".to_string()))?;
    let mut hasher = CanonicalHasher::new("llmc.run.v1");
    hasher.hash(&spec).hash(&set.recipe);
    if let Some(parent) = parent {
        hasher.field("parent").hash(&parent.recipe).hash(&parent.weights).int(parent.step.into());
    }
    Ok(hasher.finish())
}

/// A section that `Goal::Training` guarantees.
pub(super) fn section<T>(value: &Option<T>) -> Result<&T, Failure> {
    value.as_ref().ok_or_else(|| Failure::Internal("a run without all sections".to_string()))
}

/// Runs the stages before training.
pub fn prepare(
    project: &Project,
    options: &TrainOptions,
    observer: &mut dyn Observer,
) -> Result<Prepared, Failure> {
    let resolved = &project.resolved;
    let training = section(&resolved.training)?;
    let model = project.model()?;
    let threads = thread_count(options.threads, training.threads);
    let (set, warnings) = data::documents(section(&resolved.dataset)?, options.cache)?;
    warnings.iter().for_each(|w| observer.event(&Event::Warning(w)));
    let words: u64 = set.documents.iter().map(|d| d.words).sum();
    let detail = format!("{} documents, {words} words", set.documents.len());
    observer.event(&Event::Stage { name: "dataset", detail });

    let config = section(&resolved.tokenizer)?;
    let tokenizer = data::tokenizer(config, &set, threads, options.cache)?;
    check_vocabulary(model, &tokenizer)?;
    let detail = format!("{} of {} tokens", tokenizer.kind().name(), tokenizer.vocab_size());
    observer.event(&Event::Stage { name: "tokenizer", detail });

    let rows = data::rows(&set, &tokenizer, training.sequence_length, threads, options.cache)?;
    let detail = format!(
        "{} rows of {} tokens, {:.1} % full",
        rows.train.plan.n_rows(),
        rows.train.plan.sequence_length(),
        rows.train.plan.fill() * 100.0
    );
    observer.event(&Event::Stage { name: "rows", detail });

    let module = build_model(model)?;
    let gradient = llmc_passes::autodiff(&module, &Default::default())?;
    let gradient = verified(gradient)?;
    let detail = format!("{} parameters", model.solution.params);
    observer.event(&Event::Stage { name: "model", detail });
    let recipe = run_recipe(project, &set, options.parent.as_ref())?;
    Ok(Prepared { project: project.clone(), set, tokenizer, rows, module, gradient, recipe })
}

/// The model must have a row for every token.
fn check_vocabulary(model: &ResolvedModel, tokenizer: &Tokenizer) -> Result<(), Failure> {
    let (rows, tokens) = (model.dims.vocab_size, u64::from(tokenizer.vocab_size()));
    if tokens <= rows {
        return Ok(());
    }
    let message = format!("the tokenizer has {tokens} tokens, the model `vocab_size = {rows}`");
    let d = Diagnostic::error("train::vocabulary", message);
    Err(d.help(format!("set `model.vocab_size` to at least {tokens}")).into())
}

/// Below so many FLOPs per step one thread is used, unless a number is asked for: waking others a
/// few hundred times takes longer, milliseconds on a busy machine.
const SERIAL_FLOPS: f64 = 2e7;

/// A trainer for a prepared run, with its initial weights.
pub fn trainer(
    prepared: &Prepared,
    threads: Option<usize>,
    isa: Option<Isa>,
) -> Result<Trainer, Failure> {
    let resolved = &prepared.project.resolved;
    let training: &TrainingConfig = section(&resolved.training)?;
    let optimizer: &OptimizerConfig = section(&resolved.optimizer)?;
    let model = prepared.project.model()?;
    let modules = Modules {
        model: &prepared.module,
        gradient: &prepared.gradient,
        parameters: optim::parameters(&prepared.gradient, "grad")?,
        n_layers: model.dims.num_layers,
        init: model.architecture.init,
    };
    let tokens_per_step = training.batch_size.saturating_mul(training.sequence_length);
    let flops_per_step = 6.0 * model.solution.params as f64 * tokens_per_step as f64;
    let is_chosen = threads.or(training.threads.map(|n| n as usize)).is_some();
    let threads = match !is_chosen && flops_per_step < SERIAL_FLOPS {
        true => 1,
        false => thread_count(threads, training.threads),
    };
    let engine = Engine::new(threads, isa)?;
    Ok(Trainer::new(modules, optimizer, training, engine)?)
}
