//! The `llmc` command: arguments, rendering, exit codes. The work is in the `llmc` crate.

mod args;
mod commands;
mod diagnostics;
mod environment;
mod format;
mod output;
mod progress;

use args::Cli;
use clap::Parser;
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
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
