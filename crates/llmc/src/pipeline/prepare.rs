//! The stages before the first step: data, model, recipe, and a trainer over them.

use super::data::{self, Rows, TextSet};
use super::failure::Failure;
use super::finetune;
use super::observer::{Event, Observer};
use super::project::{Project, build_model};
use super::train::{Parent, TrainOptions};
use crate::manifest::RecipeParts;
use crate::store::Source;
use llmc_base::{Diagnostic, Hash};
use llmc_data::tokenizer::Tokenizer;
use llmc_ir::Module;
use llmc_runtime::{Engine, Isa};
use llmc_spec::{OptimizerConfig, ResolvedModel, TrainingConfig};
use llmc_train::{Modules, Trainer, optim};
use std::path::PathBuf;

/// Everything that a run is made of, before the first step.
pub struct Prepared {
    /// The spec.
    pub project: Project,
    /// The documents.
    pub set: TextSet,
    /// The folder against which relative paths of text were found; `None` where nothing says.
    pub text_folder: Option<PathBuf>,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Whether it comes from the run that this one starts from.
    pub has_parent_tokenizer: bool,
    /// The packed rows.
    pub rows: Rows,
    /// The model.
    pub module: Module,
    /// The gradient module.
    pub gradient: Module,
    /// What the run's recipe is over.
    pub recipe_of: RecipeParts,
    /// Names the run.
    pub recipe: Hash,
}

impl Prepared {
    /// The same text, tokenizer, rows and model under another number of steps, from a parent's
    /// checkpoint.
    pub(super) fn trained_otherwise(
        self,
        project: Project,
        parent: &Parent,
    ) -> Result<Self, Failure> {
        let recipe_of = recipe_parts(&project, &self.set, Some(parent))?;
        Ok(Prepared { project, recipe_of, recipe: recipe_of.hash(), ..self })
    }
}

/// Most threads that may be asked for: four per core, and never less than this.
const MIN_LIMIT: usize = 256;

/// Threads to use: what was asked, what the spec says, or one per core.
///
/// Errors: `train::threads` if none or more than four per core (256 on a small machine) are asked
/// for. A spec may come from a larger machine; of its number this one takes what it can.
pub fn thread_count(asked: Option<usize>, spec: Option<u64>) -> Result<usize, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let limit = cores.saturating_mul(4).max(MIN_LIMIT);
    match asked {
        Some(n) if n == 0 || n > limit => {
            let message = format!("{n} threads were asked for; this machine takes 1 to {limit}");
            let d = Diagnostic::error("train::threads", message);
            Err(d.help(format!("one per core is the default, here {cores}")).into())
        }
        Some(n) => Ok(n),
        None => {
            let spec = spec.map(|n| usize::try_from(n).unwrap_or(limit));
            Ok(spec.unwrap_or(cores).clamp(1, limit))
        }
    }
}

/// What the run's recipe is over: the spec, the text, the parent.
fn recipe_parts(
    project: &Project,
    set: &TextSet,
    parent: Option<&Parent>,
) -> Result<RecipeParts, Failure> {
    let training = project.resolved.hashes.training;
    let training = training.ok_or_else(|| Failure::Internal("a spec without a run".to_string()))?;
    Ok(RecipeParts { training, text: set.recipe, parent: parent.map(Parent::hash) })
}

/// Stops between two stages if somebody asked to.
fn go_on(observer: &dyn Observer, stage: &str) -> Result<(), Failure> {
    match observer.is_interrupted() {
        true => Err(Failure::Interrupted(format!("after `{stage}`, before the first step"))),
        false => Ok(()),
    }
}

/// A section that `Goal::Training` guarantees.
pub(super) fn section<T>(value: &Option<T>) -> Result<&T, Failure> {
    value.as_ref().ok_or_else(|| Failure::Internal("a run without all sections".to_string()))
}

/// Runs the stages before training.
///
/// Errors: those of the stages; `train::interrupted` if the observer asks to stop between two.
pub fn prepare(
    project: &Project,
    options: &TrainOptions,
    observer: &mut dyn Observer,
) -> Result<Prepared, Failure> {
    prepare_if(project, options, options.store, observer, &|_, _| Ok(()))
}

/// The same with the text files of `text`, if `check` likes the recipe. It is asked as soon as the text is read: of other text the
/// later stages may say things that nobody wants to know.
pub(super) fn prepare_if(
    project: &Project,
    options: &TrainOptions,
    text: &dyn Source,
    observer: &mut dyn Observer,
    check: &dyn Fn(&RecipeParts, &TextSet) -> Result<(), Failure>,
) -> Result<Prepared, Failure> {
    let resolved = &project.resolved;
    let training = section(&resolved.training)?;
    let model = project.model()?;
    let threads = thread_count(options.threads, training.threads)?;
    let (set, mut warnings) = data::documents(section(&resolved.dataset)?, text, options.cache)
        .map_err(|e| e.located(&project.spec))?;
    project.spec.locate(&mut warnings);
    warnings.iter().for_each(|w| observer.event(&Event::Warning(w)));
    let words: u64 = set.documents.iter().map(|d| d.words).sum();
    let detail = format!("{} documents, {words} words", set.documents.len());
    observer.event(&Event::Stage { name: "dataset", detail });
    go_on(observer, "dataset")?;
    let recipe_of = recipe_parts(project, &set, options.parent.as_ref())?;
    check(&recipe_of, &set)?;

    let config = section(&resolved.tokenizer)?;
    let inherited = finetune::tokenizer(options.store, options.parent.as_ref())?;
    let has_parent_tokenizer = inherited.is_some();
    let tokenizer = match inherited {
        Some(tokenizer) => tokenizer,
        None => data::tokenizer(config, &set, threads, options.cache)
            .map_err(|e| e.located(&project.spec))?,
    };
    check_vocabulary(model, &tokenizer)?;
    let from = if has_parent_tokenizer { ", of the run that this one starts from" } else { "" };
    let (kind, size) = (tokenizer.kind().name(), tokenizer.vocab_size());
    let detail = format!("{kind} of {size} tokens{from}");
    observer.event(&Event::Stage { name: "tokenizer", detail });
    go_on(observer, "tokenizer")?;

    let rows = data::rows(&set, &tokenizer, training.sequence_length, threads, options.cache)?;
    let detail = format!(
        "{} rows of {} tokens, {:.1} % full",
        rows.train.plan.n_rows(),
        rows.train.plan.sequence_length(),
        rows.train.plan.fill() * 100.0
    );
    observer.event(&Event::Stage { name: "rows", detail });
    go_on(observer, "rows")?;

    let module = llmc_train::with_z_loss(&build_model(model)?, training.z_loss)?;
    let optimizer: &OptimizerConfig = section(&resolved.optimizer)?;
    let threads = training_threads(model, training, options.threads)?;
    let gradient = llmc_train::differentiate(&module, optimizer, training, threads)?;
    let detail = format!("{} parameters", model.solution.params);
    observer.event(&Event::Stage { name: "model", detail });
    go_on(observer, "model")?;
    let (project, recipe) = (project.clone(), recipe_of.hash());
    let text_folder = text.working_folder();
    Ok(Prepared {
        project,
        set,
        text_folder,
        tokenizer,
        has_parent_tokenizer,
        rows,
        module,
        gradient,
        recipe_of,
        recipe,
    })
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

/// Threads of a training: those asked for, by the call or the spec, otherwise one per core or, for a
/// small model, one.
pub(super) fn training_threads(
    model: &ResolvedModel,
    training: &TrainingConfig,
    asked: Option<usize>,
) -> Result<usize, Failure> {
    let tokens_per_step = training.batch_size.saturating_mul(training.sequence_length);
    let flops_per_step = 6.0 * model.solution.params as f64 * tokens_per_step as f64;
    match asked.is_none() && training.threads.is_none() && flops_per_step < SERIAL_FLOPS {
        true => Ok(1),
        false => thread_count(asked, training.threads),
    }
}

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
    let width = model.architecture.width_multiplier(model.dims.hidden_size);
    let modules = Modules {
        model: &prepared.module,
        gradient: &prepared.gradient,
        parameters: optim::widened(optim::parameters(&prepared.gradient, "grad")?, width),
        n_layers: model.dims.num_layers,
        init: model.architecture.init,
    };
    let engine = Engine::new(training_threads(model, training, threads)?, isa)?;
    Ok(Trainer::new(modules, optimizer, training, engine)?)
}
