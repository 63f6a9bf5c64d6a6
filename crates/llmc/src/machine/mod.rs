//! What this machine is: processor, instruction sets, memory and their limits.
//!
//! Files of the system (`/proc`, `/sys`) come through a [`Source`], so that the
//! reading is tested on made-up machines. A container's limits count: the cores
//! and the memory that are usable may be fewer than there are. An observation;
//! it enters no hash.

pub(crate) mod command;
mod limits;
mod linux;
#[cfg(test)]
mod tests;

use crate::store::Source;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// A machine, as far as it matters for speed and for finding faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name and version of the operating system.
    pub os: String,
    /// Version of the kernel; empty if unknown.
    pub kernel: String,
    /// Architecture, as Rust names it: `x86_64`, `aarch64`.
    pub architecture: String,
    /// Name of the processor; empty if unknown.
    pub cpu: String,
    /// Instruction sets that kernels can use, by their usual names.
    pub instruction_sets: Vec<String>,
    /// Cores without hyper-threads, if known.
    pub physical_cores: Option<usize>,
    /// Cores that this process may use: affinity and container limits count.
    pub usable_cores: usize,
    /// The container's limit in cores, e.g. 1.5; `None` without one.
    pub cpu_limit: Option<f64>,
    /// Memory of the machine; 0 if unknown.
    pub memory_bytes: u64,
    /// The container's memory limit; `None` without one.
    pub memory_limit_bytes: Option<u64>,
}

/// Space on the disk that holds a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The folder that was asked about.
    pub path: String,
    /// Bytes that this user can still write.
    pub free_bytes: u64,
}

/// How long a helper program of the system may take.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Looks at this machine. Never fails: what cannot be found is left empty.
pub fn probe(source: &dyn Source) -> Machine {
    let mut machine = if std::env::consts::OS == "macos" { mac() } else { linux::read(source) };
    machine.architecture = std::env::consts::ARCH.to_string();
    machine.instruction_sets = instruction_sets();
    machine.usable_cores = std::thread::available_parallelism().map_or(1, usize::from);
    machine
}

/// Memory that can be used now without swapping, the container's limit
/// included; `None` if unknown.
pub fn available_memory_bytes(source: &dyn Source) -> Option<u64> {
    let free = linux::available_memory_bytes(source)?;
    Some(match limits::memory_left_bytes(source) {
        Some(left) => free.min(left),
        None => free,
    })
}

/// Resident memory of this process in bytes, now and at its peak; `None` if unknown.
pub fn resident_bytes(source: &dyn Source) -> Option<(u64, u64)> {
    linux::resident_bytes(source)
}

/// Free space where `folder` is, or would be created; `None` if unknown.
pub fn disk(folder: &Path) -> Option<Disk> {
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let args = ["-P".as_ref(), "-k".as_ref(), existing.as_os_str()];
    let output = command::run(Path::new("df"), &args, TIME_LIMIT).ok()?;
    let free_bytes = parse_df(&output.stdout)?;
    Some(Disk { path: folder.display().to_string(), free_bytes })
}

/// The fourth column of the second line of `df -P -k`, in KiB.
/// Source: POSIX.1-2017, utility `df`, option `-P`. Names with spaces stand in
/// the first and the last column, so the columns are found from the `%`.
fn parse_df(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    let percent = words.iter().position(|w| w.ends_with('%') && w.len() > 1)?;
    words.get(percent.checked_sub(1)?)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The instruction sets that matter here and that both processor and system
/// have, sorted.
fn instruction_sets() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    let known = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512dq", is_x86_feature_detected!("avx512dq")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("fma", is_x86_feature_detected!("fma")),
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
    ];
    #[cfg(target_arch = "aarch64")]
    let known = [
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known: [(&str, bool); 0] = [];
    known.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_string()).collect()
}

/// macOS answers through two programs.
fn mac() -> Machine {
    let ask = |program: &str, args: &[&str]| {
        let args: Vec<&std::ffi::OsStr> = args.iter().map(|a| a.as_ref()).collect();
        command::run(Path::new(program), &args, TIME_LIMIT).map(|o| o.stdout).unwrap_or_default()
    };
    let keys = ["hw.memsize", "hw.physicalcpu", "machdep.cpu.brand_string", "kern.osrelease"];
    let values = ask("/usr/sbin/sysctl", &[&["-n"][..], &keys[..]].concat());
    parse_mac(&values, &ask("/usr/bin/sw_vers", &["-productVersion"]))
}

fn parse_mac(sysctl: &str, version: &str) -> Machine {
    let mut lines = sysctl.lines().map(str::trim);
    let mut next = || lines.next().unwrap_or_default();
    Machine {
        memory_bytes: next().parse().unwrap_or(0),
        physical_cores: next().parse().ok(),
        cpu: next().to_string(),
        kernel: format!("Darwin {}", next()).trim_end().to_string(),
        os: format!("macOS {}", version.trim()).trim_end().to_string(),
        ..Machine::default()
    }
}
