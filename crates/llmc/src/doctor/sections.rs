//! The report as titled rows of plain text, for whoever prints it.

use super::{DoctorReport, Tool, ToolStatus};
use serde::{Deserialize, Serialize};

/// Free space below which a run is likely to fill the disk.
const LITTLE_DISK_BYTES: u64 = 2 << 30;

/// Memory below which only small models train.
const LITTLE_MEMORY_BYTES: u64 = 2 << 30;

/// How a row reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Not there; something will not work.
    Missing,
    /// There, but not as it should be.
    Bad,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// How it reads.
    pub mark: Mark,
    /// What it is about.
    pub label: String,
    /// What was found.
    pub value: String,
    /// More, for a second line: paths, purposes, what to do.
    pub note: Option<String>,
}

/// Rows under a title.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// The title.
    pub title: String,
    /// The rows.
    pub rows: Vec<Row>,
}

fn row(mark: Mark, label: &str, value: impl Into<String>) -> Row {
    Row { mark, label: label.to_string(), value: value.into(), note: None }
}

impl Row {
    fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

impl DoctorReport {
    /// The report for people.
    pub fn sections(&self) -> Vec<Section> {
        let is_package = |tool: &&Tool| {
            matches!(
                tool.name.as_str(),
                "python" | "numpy" | "torch" | "transformers" | "tokenizers"
            )
        };
        let (python, programs): (Vec<&Tool>, Vec<&Tool>) = self.tools.iter().partition(is_package);
        let rows = |tools: Vec<&Tool>| tools.into_iter().map(tool_row).collect();
        let section = |title: &str, rows| Section { title: title.to_string(), rows };
        vec![
            section(
                "llmc",
                vec![row(
                    Mark::Good,
                    "version",
                    format!("{} (numerics version {})", self.version, self.numerics_version),
                )],
            ),
            section("Machine", self.machine_rows()),
            section("Python", rows(python)),
            section("Compilers", rows(programs)),
        ]
    }

    fn machine_rows(&self) -> Vec<Row> {
        let machine = &self.machine;
        let mut rows = Vec::new();
        let system = [machine.os.as_str(), machine.kernel.as_str(), machine.architecture.as_str()];
        let system: Vec<&str> = system.into_iter().filter(|text| !text.is_empty()).collect();
        rows.push(row(Mark::Good, "system", system.join(", ")));
        if !machine.cpu.is_empty() {
            rows.push(row(Mark::Good, "processor", &machine.cpu));
        }
        let mut cores = format!("{} usable", machine.usable_cores);
        if let Some(physical) = machine.physical_cores {
            cores += &format!(", {physical} physical");
        }
        let mut cores = row(Mark::Good, "cores", cores);
        if let Some(limit) = machine.cpu_limit {
            cores.mark = Mark::Note;
            cores = cores.note(format!("this container is limited to {limit} cores"));
        }
        rows.push(cores);
        let sets = &machine.instruction_sets;
        let is_fast = sets.iter().any(|s| s == "avx2" || s == "neon");
        rows.push(match is_fast {
            true => row(Mark::Good, "instruction sets", sets.join(" ")),
            false => row(Mark::Note, "instruction sets", sets.join(" "))
                .note("neither AVX2 nor NEON: the scalar kernels are used, with the same results"),
        });
        rows.push(self.memory_row());
        rows.push(match &self.disk {
            Some(disk) if disk.free_bytes < LITTLE_DISK_BYTES => {
                row(Mark::Bad, "disk", format!("{} free", show_bytes(disk.free_bytes)))
                    .note(format!("at `{}`; a run may fill it", disk.path))
            }
            Some(disk) => row(Mark::Good, "disk", format!("{} free", show_bytes(disk.free_bytes)))
                .note(format!("at `{}`", disk.path)),
            None => row(Mark::Note, "disk", "free space unknown"),
        });
        rows
    }

    fn memory_row(&self) -> Row {
        let machine = &self.machine;
        if machine.memory_bytes == 0 {
            return row(Mark::Note, "memory", "unknown");
        }
        let usable = machine.memory_limit_bytes.unwrap_or(machine.memory_bytes);
        let mut text = show_bytes(usable);
        if let Some(free) = self.memory_available_bytes {
            text += &format!(", {} available now", show_bytes(free));
        }
        let mark = if usable < LITTLE_MEMORY_BYTES { Mark::Bad } else { Mark::Good };
        let memory = row(mark, "memory", text);
        match machine.memory_limit_bytes {
            Some(_) => memory.note(format!(
                "this container is limited; the machine has {}",
                show_bytes(machine.memory_bytes)
            )),
            None => memory,
        }
    }
}

fn tool_row(tool: &Tool) -> Row {
    let purpose = || format!("needed for: {}", tool.purpose);
    match tool.status {
        ToolStatus::Works => {
            let version = tool.version.clone().unwrap_or_default();
            let works = row(Mark::Good, &tool.name, version);
            if tool.paths.is_empty() { works } else { works.note(tool.paths.join(", ")) }
        }
        ToolStatus::Missing => row(Mark::Missing, &tool.name, "not installed").note(purpose()),
        ToolStatus::Fails => {
            let detail = tool.detail.clone().unwrap_or_default();
            row(Mark::Bad, &tool.name, format!("fails: {detail}")).note(purpose())
        }
        ToolStatus::TimedOut => {
            let detail = tool.detail.clone().unwrap_or_default();
            row(Mark::Bad, &tool.name, detail).note(purpose())
        }
    }
}

/// Bytes with a binary unit and three digits: `23.5 GiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {}", UNITS[unit])
}
