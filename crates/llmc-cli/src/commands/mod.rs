//! One function per command: call the pipeline, show what came of it, say the exit code.

mod corpus;
mod ir;
mod runs;
mod spec;
mod training;
mod using;

use crate::args::{Command, RunArg, SpecArgs};
use crate::output::Output;
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
        Command::Ir(args) => ir::ir(args, out),
        Command::Graph(args) => ir::graph(args, out),
        Command::Tokenizer(args) => corpus::tokenizer(args, out),
        Command::Data(args) => corpus::data(args, out),
        Command::Train(args) => training::train(args, out),
        Command::Resume(args) => training::resume(args, out),
        Command::Generate(args) => using::generate(args, out),
        Command::Runs(args) => runs::runs(args, out),
        Command::Verify(args) => runs::verify(args, out),
        Command::Rerun(args) => training::rerun(args, out),
        Command::Emit(args) => using::emit(args, out),
        Command::Doctor => using::doctor(out),
    }
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

/// A value as JSON; what the pipeline returns always has one.
fn value(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}
