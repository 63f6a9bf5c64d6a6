//! Looking inside: the IR of a spec after any stage, what a model costs, and
//! the tokenizer that a user names.

use super::adapters;
use super::data::read_tokenizer;
use super::failure::Failure;
use super::project::{Defaults, Project, build_model, verified};
use super::runs;
use crate::store::{EntryKind, Source, Store};
use llmc_base::diag::nearest;
use llmc_base::expr::{Env, Symbol};
use llmc_base::{Diagnostic, Expr};
use llmc_data::tokenizer::Tokenizer;
use llmc_ir::account::{self, Work};
use llmc_ir::module::FuncId;
use llmc_ir::{Function, Module};
use llmc_passes::PASSES;
use llmc_spec::{Dim, DimExprs, Goal};
use serde::Serialize;
use std::path::Path;

/// A stage after which the IR can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Its name, as `--after` takes it.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
}

/// Symbolic dims, one call for all layers.
const SKELETON: Stage = Stage {
    name: "skeleton",
    summary: "the template with symbolic dims and one call for all layers, which the solver counts",
};
/// The model as built.
const BUILD: Stage =
    Stage { name: "build", summary: "the model of the spec, or an .ir file as it is" };

/// All stages in order: the two of the template, then every pass.
pub fn stages() -> Vec<Stage> {
    let passes = PASSES.iter().map(|p| Stage { name: p.name, summary: p.summary });
    [SKELETON, BUILD].into_iter().chain(passes).collect()
}

/// The module of a spec, or of a file of IR text (`.ir`), after a stage and all before it. The
/// second part are warnings.
///
/// Errors: `ir::unknown_stage`; everything that is wrong in the file; those of the passes.
pub fn module_after(
    source: &dyn Source,
    file: &Path,
    overrides: &[String],
    stage: &str,
) -> Result<(Module, Vec<Diagnostic>), Failure> {
    let known = stages();
    if !known.iter().any(|s| s.name == stage) {
        let names = || known.iter().map(|s| s.name);
        let d = Diagnostic::error("ir::unknown_stage", format!("there is no stage `{stage}`"));
        let help = match nearest(stage, names()) {
            Some(name) => format!("did you mean `{name}`? `--after help` lists the stages"),
            None => format!("one of: {}", names().collect::<Vec<_>>().join(", ")),
        };
        return Err(d.help(help).into());
    }
    let is_text = file.extension().is_some_and(|e| e == "ir");
    let (mut module, warnings) = match is_text {
        true => (read_text(source, file, stage)?, Vec::new()),
        false => {
            let (project, warnings) =
                Project::read(source, file, overrides, Goal::Model, Defaults::Record)?;
            let model = project.model()?;
            if stage == SKELETON.name {
                let skeleton = llmc_model::skeleton(&model.architecture, &DimExprs::symbolic())?;
                let mut module = skeleton.module;
                Dim::ALL.into_iter().for_each(|dim| module.declare_symbol(dim.name(), 1, 1));
                return Ok((module, warnings));
            }
            // As it is trained.
            let module = match &project.resolved.training {
                Some(training) => adapters::training_module(model, training)?,
                None => build_model(model)?,
            };
            (module, warnings)
        }
    };
    if stage == BUILD.name {
        return Ok((module, warnings));
    }
    for pass in PASSES {
        module = verified((pass.run)(&module)?)?;
        if pass.name == stage {
            break;
        }
    }
    Ok((module, warnings))
}

fn read_text(source: &dyn Source, file: &Path, stage: &str) -> Result<Module, Failure> {
    let name = file.display().to_string();
    if stage == SKELETON.name {
        let message = format!("`{name}` is IR already, it has no skeleton");
        let d = Diagnostic::error("ir::no_skeleton", message);
        return Err(d.help("name a spec, or take `--after build` or a pass").into());
    }
    let text = source.read_text(file).map_err(|e| {
        let message = format!("cannot read `{name}`: {}", e.source);
        Diagnostic::error("ir::unreadable", message).help("name a spec, or a file of IR text")
    })?;
    Ok(llmc_ir::text::parse_and_verify(&name, &text)?)
}

/// The function of this name, with or without `@`.
///
/// Errors: `ir::unknown_function`, with the nearest name.
pub fn function(module: &Module, name: &str) -> Result<FuncId, Failure> {
    let name = name.trim_start_matches('@');
    if let Some(id) = module.find(name) {
        return Ok(id);
    }
    let names: Vec<&str> = module.functions.iter().map(|f: &Function| f.name.as_str()).collect();
    let message = format!("there is no function `@{name}`");
    let help = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `@{near}`? there are: {}", names.join(", ")),
        None => format!("there are: {}", names.join(", ")),
    };
    Err(Diagnostic::error("ir::unknown_function", message).help(help).into())
}

/// What a model costs, from its IR.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counts {
    /// Parameters, tied ones once.
    pub parameters: u64,
    /// Without the tables of token and position embeddings.
    pub non_embedding: u64,
    /// In a file that keeps a tied head beside its embedding.
    pub stored: u64,
    /// Bytes of the parameters in their dtype.
    pub bytes: u64,
    /// Tokens of the sequence over which FLOPs are averaged.
    pub sequence_length: u64,
    /// FLOPs per token of `@forward`, the attention over the whole sequence included.
    pub forward_flops_per_token: f64,
    /// FLOPs per token of `@grad`: forward, backward and recomputation, as the IR has them.
    pub training_flops_per_token: f64,
    /// Bytes of the key-value cache per token of one sequence.
    pub kv_cache_bytes_per_token: u64,
    /// Work of `@forward` per op over one sequence.
    pub ops: Vec<OpCount>,
}

/// One kind of op in a forward pass over one sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpCount {
    /// Its name in the text form.
    pub op: String,
    /// How often it is executed.
    pub count: u64,
    /// FLOPs in all.
    pub flops: u64,
    /// Bytes read in all, without any reuse.
    pub bytes_read: u64,
    /// Bytes written in all.
    pub bytes_written: u64,
}

/// Counts the model of a project, over one sequence of its context length.
pub fn counts(project: &Project) -> Result<Counts, Failure> {
    let dims = project.model()?.dims;
    let module = project.build()?;
    let length = dims.context_length;
    let env: Env = [("B", 1), ("T", length), ("S", length)]
        .into_iter()
        .map(|(name, value)| (Symbol::new(name), i128::from(value)))
        .collect();
    let slot: Env = ["B", "T", "S"].into_iter().map(|name| (Symbol::new(name), 1)).collect();
    let value = |e: &Expr, env: &Env| -> Result<u64, Failure> {
        let value = e.eval(env).and_then(|v| u64::try_from(v).ok());
        value.ok_or_else(|| Failure::Internal(format!("`{e}` has no value")))
    };
    let work_of = |module: &Module, name: &str| -> Result<Work, Failure> {
        account::work(module, function(module, name)?).map_err(|e| Failure::Internal(e.to_string()))
    };
    let forward = function(&module, "forward")?;
    let parameters = account::parameter_count(&module, forward);
    let work = work_of(&module, "forward")?;
    let gradient = llmc_passes::autodiff(&module, &Default::default())?;
    let gradient_work = work_of(&gradient, "grad")?;
    let decode = function(&module, "decode")?;
    let cache: Expr =
        account::states(&module, decode).iter().map(|(_, ty)| account::bytes(ty)).sum();
    let per_token = |work: &Work| -> Result<f64, Failure> {
        Ok(value(&work.total().flops, &env)? as f64 / length as f64)
    };
    let mut ops = Vec::new();
    for (op, work) in &work.by_op {
        ops.push(OpCount {
            op: op.clone(),
            count: value(&work.count, &env)?,
            flops: value(&work.cost.flops, &env)?,
            bytes_read: value(&work.cost.bytes_read, &env)?,
            bytes_written: value(&work.cost.bytes_written, &env)?,
        });
    }
    ops.sort_by(|a, b| b.flops.cmp(&a.flops).then_with(|| a.op.cmp(&b.op)));
    Ok(Counts {
        parameters: value(&parameters.unique, &env)?,
        non_embedding: value(&parameters.non_embedding, &env)?,
        stored: value(&parameters.stored, &env)?,
        bytes: value(&parameters.bytes, &env)?,
        sequence_length: length,
        forward_flops_per_token: per_token(&work)?,
        training_flops_per_token: per_token(&gradient_work)?,
        kv_cache_bytes_per_token: value(&cache, &slot)?,
        ops,
    })
}

/// The tokenizer that a user names: a `tokenizer.json` that llmc wrote, or a run.
///
/// Errors: an unreadable or foreign file; those of [`runs::find`].
pub fn tokenizer(store: &dyn Store, runs_folder: &Path, name: &str) -> Result<Tokenizer, Failure> {
    let path = Path::new(name);
    if store.kind(path)? != Some(EntryKind::File) {
        let run = runs::find(store, runs_folder, Some(name))?;
        return read_tokenizer(store, &run.join("tokenizer"));
    }
    let config = path.with_file_name("tokenizer_config.json");
    let config = match store.exists(&config)? {
        true => Some(store.read_text(&config)?),
        false => None,
    };
    let text = store.read_text(path)?;
    Tokenizer::from_json(&text, config.as_deref()).map_err(|d| named(d, name).into())
}

/// The diagnostic about the file that a user named, which need not be called `tokenizer.json`.
fn named(mut diagnostic: Diagnostic, name: &str) -> Diagnostic {
    const FILE: &str = "tokenizer.json";
    diagnostic.message = diagnostic.message.replace(&format!("`{FILE}`"), &format!("`{name}`"));
    for label in &mut diagnostic.labels {
        if label.span.file.as_str() == FILE {
            label.span.file = name.into();
        }
    }
    let help = "name a run, or a tokenizer.json that `llmc tokenizer train` or a run wrote";
    if diagnostic.help.is_none() { diagnostic.help(help) } else { diagnostic }
}
