//! One function per command: call the pipeline, show what came of it, say the exit code.

mod chat;
mod corpus;
mod explain;
mod generating;
mod ir;
mod plan;
mod quantize;
mod runs;
mod spec;
mod training;
mod using;
mod why;

use crate::args::{Cli, Command, ModelArgs, RunArg, SpecArgs};
use crate::environment;
use crate::output::Output;
use clap::CommandFactory;
use llmc::cache::cache_folder;
use llmc::pipeline::generate::{Model, SessionOptions, WeightSet, Which};
use llmc::pipeline::{Defaults, Failure, Project, runs as run_folders};
use llmc::store::FsStore;
use llmc_base::Diagnostic;
use llmc_spec::Goal;
use std::path::PathBuf;

/// Exit code of a command that did its work.
pub const DONE: u8 = 0;
/// Exit code of a check that found a difference.
pub const DIFFERENCE: u8 = 4;

/// Runs a command. The result is its exit code.
pub fn run(command: &Command, out: &mut Output) -> Result<u8, Failure> {
    match command {
        Command::Quickstart(args) => training::quickstart(args, out),
        Command::New(args) => spec::new(args, out),
        Command::Check(args) => spec::check(args, out),
        Command::Solve(args) => spec::solve(args, out),
        Command::Count(args) => spec::count(args, out),
        Command::Plan(args) => plan::plan(args, out),
        Command::Explain(args) => explain::explain(args, out),
        Command::Ir(args) => ir::ir(args, out),
        Command::Graph(args) => ir::graph(args, out),
        Command::Tokenizer(args) => corpus::tokenizer(args, out),
        Command::Data(args) => corpus::data(args, out),
        Command::Train(args) => training::train(args, out),
        Command::Resume(args) => training::resume(args, out),
        Command::Generate(args) => generating::generate(args, out),
        Command::Chat(args) => chat::chat(args, out),
        Command::Runs(args) => runs::runs(args, out),
        Command::Verify(args) => runs::verify(args, out),
        Command::Rerun(args) => training::rerun(args, out),
        Command::Why(args) => why::why(args, out),
        Command::Emit(args) => using::emit(args, out),
        Command::Quantize(args) => quantize::quantize(args, out),
        Command::Doctor => using::doctor(out),
        Command::Help { command } => help(command, out),
    }
}

/// Names of the commands for which [`is_stream`] holds.
pub const STREAMS: [&str; 5] = ["quickstart", "train", "resume", "rerun", "chat"];

/// Whether a command tells of itself while it works: with `--json` one event per line.
pub fn is_stream(command: &Command) -> bool {
    use Command::{Chat, Quickstart, Rerun, Resume, Train};
    matches!(command, Quickstart(_) | Train(_) | Resume(_) | Rerun(_) | Chat(_))
}

/// `llmc help`.
fn help(names: &[String], out: &mut Output) -> Result<u8, Failure> {
    let mut root = Cli::command().color(clap::ColorChoice::Never);
    // Gives every command its full name.
    root.build();
    let mut command = &mut root;
    for name in names {
        let known: Vec<String> =
            command.get_subcommands().map(|c| c.get_name().to_string()).collect();
        let place = command.get_bin_name().unwrap_or("llmc").to_string();
        command = command.find_subcommand_mut(name).ok_or_else(|| {
            let message = format!("`{place}` has no command `{name}`");
            let help = match known.as_slice() {
                [] => format!("`{place} --help` says what it takes"),
                known => format!("one of: {}", known.join(", ")),
            };
            Diagnostic::error("help::unknown_command", message).help(help)
        })?;
    }
    let text = command.render_long_help().to_string();
    match out.is_json {
        true => out.json(&serde_json::json!({ "help": text })),
        false => {
            out.text(&text);
        }
    }
    Ok(DONE)
}

/// The spec of a command, with its warnings.
fn project(args: &SpecArgs, goal: Goal) -> Result<(Project, Vec<Diagnostic>), Failure> {
    let defaults = if args.explicit { Defaults::Refuse } else { Defaults::Record };
    Project::read(&FsStore, &args.spec, &args.set, goal, defaults)
}

/// The folder of the run of a command.
fn run_folder(args: &RunArg) -> Result<PathBuf, Failure> {
    run_folders::find(&FsStore, &args.runs, args.run.as_deref())
}

/// The model that a text is made with.
fn open_model(args: &ModelArgs) -> Result<Model, Failure> {
    let which = if args.best { Which::Best } else { Which::Last };
    let folder = run_folders::find_model(&FsStore, &args.run.runs, args.run.run.as_deref())?;
    let model = Model::open_weights(&FsStore, &folder, which, weight_set(args.ema))?;
    let model = if args.no_mmap { model.in_own_memory() } else { model };
    model.in_format(args.weights)
}

/// How a model is to be run.
fn session_options(args: &ModelArgs) -> Result<SessionOptions, Failure> {
    let weight_cache = if args.no_mmap { None } else { cache_folder() };
    let (isa, cache) = (environment::isa()?, args.kv_cache_dtype);
    Ok(SessionOptions { isa, cache, weight_cache, ..SessionOptions::default() })
}

/// Which weights of a checkpoint are meant.
fn weight_set(ema: bool) -> WeightSet {
    match ema {
        true => WeightSet::Ema,
        false => WeightSet::Trained,
    }
}

/// A value as JSON; what the pipeline returns always has one.
fn value(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}
