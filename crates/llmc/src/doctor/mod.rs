//! What this machine has for the work ahead: `llmc doctor`.
//!
//! Nothing here is required but the machine itself; each missing tool says
//! what it would be good for. Every program has a time limit and all run side
//! by side, so the answer takes as long as the slowest of them.

mod sections;
#[cfg(test)]
mod tests;
mod tools;

pub(crate) use sections::show_bytes;
pub use sections::{Mark, Row, Section};

use crate::machine::{self, Disk, Machine};
use crate::store::Source;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What to look at.
#[derive(Clone, Debug)]
pub struct DoctorOptions {
    /// The Python to ask; a bare name is searched for.
    pub python: PathBuf,
    /// Where runs will be written.
    pub folder: PathBuf,
    /// How long each program may take; importing `torch` from a cold disk is
    /// the slowest.
    pub time_limit: Duration,
}

impl Default for DoctorOptions {
    fn default() -> Self {
        DoctorOptions {
            python: "python3".into(),
            folder: ".".into(),
            time_limit: Duration::from_secs(60),
        }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoctorReport {
    /// Version of llmc.
    pub version: String,
    /// Version of the definitions of the numbers.
    pub numerics_version: u32,
    /// The machine.
    pub machine: Machine,
    /// Memory that can be used now, if known.
    pub memory_available_bytes: Option<u64>,
    /// Free space where runs will be written, if known.
    pub disk: Option<Disk>,
    /// Programs and Python packages, in the order in which they are shown.
    pub tools: Vec<Tool>,
}

/// A program or a Python package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What llmc uses it for.
    pub purpose: String,
    /// Whether it works.
    pub status: ToolStatus,
    /// Its version, if it works.
    pub version: Option<String>,
    /// The file, or for Python the standard library's folder; else empty.
    pub paths: Vec<String>,
    /// What it said instead, if it does not work.
    pub detail: Option<String>,
}

/// Whether a tool works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// It answered with its version.
    Works,
    /// It is not installed.
    Missing,
    /// It is there, but fails.
    Fails,
    /// It is there, but did not answer in time.
    TimedOut,
}

/// Looks at the machine and its tools.
pub fn doctor(source: &dyn Source, options: &DoctorOptions) -> DoctorReport {
    DoctorReport {
        version: env!("CARGO_PKG_VERSION").to_string(),
        numerics_version: llmc_base::NUMERICS_VERSION,
        machine: machine::probe(source),
        memory_available_bytes: machine::available_memory_bytes(source),
        disk: machine::disk(&options.folder),
        tools: tools::look(options),
    }
}

impl DoctorReport {
    /// The tool of this name.
    pub fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }
}
