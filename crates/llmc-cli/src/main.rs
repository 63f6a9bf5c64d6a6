//! The `llmc` command: arguments, rendering, exit codes. The work is in the `llmc` crate.

mod args;
mod commands;
mod diagnostics;
mod environment;
mod format;
mod output;
mod progress;
mod screen;

use args::Cli;
use clap::Parser;
use llmc::pipeline::Failure;
use llmc_base::Diagnostic;
use output::Output;
use std::process::ExitCode;

/// A command line that does not parse, or one that asks for help: as text for people, or as JSON where
/// that is asked for.
fn wrong(error: &clap::Error) -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if !error.use_stderr() || !args.iter().any(|arg| arg == "--json") {
        error.exit();
    }
    let text = error.render().to_string();
    let (message, help) = text.split_once('\n').unwrap_or((&text, ""));
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let diagnostic = Diagnostic::error("cli::usage", message).help(help.trim());
    let is_stream = args
        .iter()
        .find(|arg| !arg.starts_with('-'))
        .is_some_and(|name| commands::STREAMS.contains(&name.as_str()));
    let mut out = Output::new(true, false, is_stream);
    let failure = Failure::from(diagnostic);
    out.failure(&failure.diagnostics());
    out.flush();
    ExitCode::from(failure.exit_code())
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return wrong(&error),
    };
    let mut out = Output::new(cli.json, cli.quiet, commands::is_stream(&cli.command));
    let code = match commands::run(&cli.command, &mut out) {
        Ok(code) => code,
        Err(failure) => {
            out.failure(&failure.diagnostics());
            failure.exit_code()
        }
    };
    out.flush();
    ExitCode::from(code)
}
