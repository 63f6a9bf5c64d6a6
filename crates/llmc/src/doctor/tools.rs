//! Programs and Python packages, asked for their versions.

use super::{DoctorOptions, Tool, ToolStatus};
use crate::machine::command::{CommandError, Output, locate, run};
use serde::Deserialize;
use std::ffi::OsStr;
use std::path::Path;
use std::thread;

/// Programs that print their version, and what they are for.
const PROGRAMS: [(&str, &str); 4] = [
    ("g++", "compiling models to native programs (`llmc build`)"),
    ("clang++", "compiling models to native programs (`llmc build`)"),
    ("rustc", "building llmc itself"),
    ("cargo", "building llmc itself"),
];

/// Python packages, and what they are for.
const PACKAGES: [(&str, &str); 4] = [
    ("numpy", "arrays in and out of the Python package"),
    ("torch", "running exported models, and certifying them against PyTorch"),
    ("transformers", "loading exported models, and certifying them"),
    ("tokenizers", "comparing tokenizers"),
];

/// Prints where this Python and its standard library are.
const PYTHON_SCRIPT: &str = "import json, platform, sys, sysconfig\n\
    print(json.dumps({'version': platform.python_version(), 'executable': sys.executable, \
    'stdlib': sysconfig.get_paths()['stdlib']}))";

#[derive(Deserialize)]
struct PythonAnswer {
    version: String,
    executable: String,
    stdlib: String,
}

/// Asks all tools side by side; the order of the answer is fixed.
pub(super) fn look(options: &DoctorOptions) -> Vec<Tool> {
    thread::scope(|scope| {
        let mut waiting = vec![scope.spawn(|| python(options))];
        for (name, purpose) in PACKAGES {
            waiting.push(scope.spawn(move || package(name, purpose, options)));
        }
        for (name, purpose) in PROGRAMS {
            waiting.push(scope.spawn(move || program(name, purpose, options)));
        }
        waiting
            .into_iter()
            .map(|thread| thread.join().expect("asking a tool never panics"))
            .collect()
    })
}

fn python(options: &DoctorOptions) -> Tool {
    let purpose = "the Python package, and real text for `llmc quickstart`";
    let args = ["-c".as_ref(), PYTHON_SCRIPT.as_ref()];
    let mut tool = ask("python", purpose, &options.python, &args, options);
    if tool.status != ToolStatus::Works {
        return tool;
    }
    let said = tool.version.take().unwrap_or_default();
    match serde_json::from_str::<PythonAnswer>(&said) {
        Ok(answer) => {
            tool.version = Some(answer.version);
            tool.paths = vec![answer.executable, answer.stdlib];
        }
        Err(_) => {
            tool.status = ToolStatus::Fails;
            tool.detail = Some(format!("unexpected answer `{said}`"));
        }
    }
    tool
}

fn package(name: &str, purpose: &str, options: &DoctorOptions) -> Tool {
    let script = format!("import {name}; print({name}.__version__)");
    let mut tool = ask(name, purpose, &options.python, &["-c".as_ref(), script.as_ref()], options);
    let is_absent = |detail: &String| detail.contains(&format!("No module named '{name}'"));
    if tool.detail.as_ref().is_some_and(is_absent) {
        tool.status = ToolStatus::Missing;
        tool.detail = None;
    }
    tool
}

fn program(name: &str, purpose: &str, options: &DoctorOptions) -> Tool {
    let mut tool = ask(name, purpose, Path::new(name), &["--version".as_ref()], options);
    if tool.status == ToolStatus::Works {
        tool.paths = locate(Path::new(name)).iter().map(|p| p.display().to_string()).collect();
    }
    tool
}

/// Runs a program; the first line that it prints is the version.
fn ask(
    name: &str,
    purpose: &str,
    program: &Path,
    args: &[&OsStr],
    options: &DoctorOptions,
) -> Tool {
    let mut tool = Tool {
        name: name.to_string(),
        purpose: purpose.to_string(),
        status: ToolStatus::Missing,
        version: None,
        paths: Vec::new(),
        detail: None,
    };
    match run(program, args, options.time_limit) {
        Ok(Output { is_success: true, stdout, .. }) if !stdout.trim().is_empty() => {
            tool.status = ToolStatus::Works;
            tool.version = stdout.trim().lines().next().map(str::to_string);
        }
        Ok(Output { stderr, .. }) => {
            tool.status = ToolStatus::Fails;
            // The last line of a Python traceback, or of a compiler, says why.
            let last = stderr.trim().lines().last().unwrap_or("it said nothing");
            tool.detail = Some(last.to_string());
        }
        Err(CommandError::NotFound) => {}
        Err(error @ CommandError::TimedOut(_)) => {
            tool.status = ToolStatus::TimedOut;
            tool.detail = Some(error.to_string());
        }
        Err(CommandError::Io(error)) => {
            tool.status = ToolStatus::Fails;
            tool.detail = Some(error.to_string());
        }
    }
    tool
}
