//! Linux: `/proc` and `/etc/os-release`.
//!
//! Source: man pages proc_cpuinfo(5), proc_meminfo(5), os-release(5).

use super::{Machine, limits};
use crate::store::Source;
use std::collections::BTreeSet;
use std::path::Path;

/// All that the files say.
pub(super) fn read(source: &dyn Source) -> Machine {
    let text = |path: &str| source.read_text(Path::new(path)).unwrap_or_default();
    let cpuinfo = text("/proc/cpuinfo");
    let memory_bytes = meminfo_bytes(&text("/proc/meminfo"), "MemTotal").unwrap_or(0);
    let release = text("/proc/sys/kernel/osrelease");
    Machine {
        os: os_name(&text("/etc/os-release")).unwrap_or_else(|| std::env::consts::OS.to_string()),
        kernel: if release.is_empty() { release } else { format!("Linux {}", release.trim()) },
        cpu: field(&cpuinfo, "model name").unwrap_or_default().to_string(),
        physical_cores: physical_cores(&cpuinfo),
        cpu_limit: limits::cores(source),
        memory_bytes,
        memory_limit_bytes: limits::memory_bytes(source).filter(|l| *l < memory_bytes),
        ..Machine::default()
    }
}

/// Memory that can be used without swapping, over the whole machine.
pub(super) fn available_memory_bytes(source: &dyn Source) -> Option<u64> {
    meminfo_bytes(&source.read_text(Path::new("/proc/meminfo")).ok()?, "MemAvailable")
}

/// Resident memory of this process now and at its peak.
pub(super) fn resident_bytes(source: &dyn Source) -> Option<(u64, u64)> {
    let text = source.read_text(Path::new("/proc/self/status")).ok()?;
    Some((meminfo_bytes(&text, "VmRSS")?, meminfo_bytes(&text, "VmHWM")?))
}

fn meminfo_bytes(text: &str, name: &str) -> Option<u64> {
    let kib: u64 = field(text, name)?.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The first value under `name` in lines `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// Distinct pairs of package and core; arm64 does not tell.
fn physical_cores(cpuinfo: &str) -> Option<usize> {
    let cores: BTreeSet<_> = cpuinfo
        .split("\n\n")
        .filter_map(|block| Some((field(block, "physical id")?, field(block, "core id")?)))
        .collect();
    (!cores.is_empty()).then_some(cores.len())
}

fn os_name(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim().trim_matches(['"', '\'']).to_string())
}
