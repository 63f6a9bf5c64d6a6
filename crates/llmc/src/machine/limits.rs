//! Limits of control groups, which is how containers are given less than the
//! machine has.
//!
//! A limit holds for a group and all below it, so the least on the way to the
//! root counts. Inside a container the group's own path may be hidden; then the
//! mounted root is the group.
//!
//! Source: Linux kernel documentation, cgroup-v2.rst and cgroup-v1/memory.rst,
//! scheduler/sched-bwc.rst.

use crate::store::Source;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// The limit in cores.
pub(super) fn cores(source: &dyn Source) -> Option<f64> {
    let v2 = groups(source, Version::Two).into_iter().filter_map(|group| {
        let text = read(source, &group, "cpu.max")?;
        let (quota, period) = text.split_once(' ')?;
        ratio(quota, period)
    });
    let v1 = groups(source, Version::One("cpu")).into_iter().filter_map(|group| {
        let quota = read(source, &group, "cpu.cfs_quota_us")?;
        ratio(&quota, &read(source, &group, "cpu.cfs_period_us")?)
    });
    v2.chain(v1).reduce(f64::min)
}

/// The limit in bytes; a v1 group without limit gives a very large number.
pub(super) fn memory_bytes(source: &dyn Source) -> Option<u64> {
    memory_groups(source).map(|(limit, _)| limit).min()
}

/// What is left below the tightest limit.
pub(super) fn memory_left_bytes(source: &dyn Source) -> Option<u64> {
    memory_groups(source).map(|(limit, used)| limit.saturating_sub(used)).min()
}

/// Limit and use of every group on the way to the root that has a limit.
fn memory_groups(source: &dyn Source) -> impl Iterator<Item = (u64, u64)> {
    let files = [
        (Version::Two, "memory.max", "memory.current"),
        (Version::One("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ];
    files.into_iter().flat_map(move |(version, limit, used)| {
        groups(source, version).into_iter().filter_map(move |group| {
            let limit = read(source, &group, limit)?.parse().ok()?;
            let used = read(source, &group, used).and_then(|u| u.parse().ok()).unwrap_or(0);
            Some((limit, used))
        })
    })
}

/// A hierarchy of groups: the one of version 2, or that of a v1 controller.
#[derive(Clone, Copy)]
enum Version {
    One(&'static str),
    Two,
}

/// The folders of this process's group and all above it.
fn groups(source: &dyn Source, version: Version) -> Vec<PathBuf> {
    let own = source.read_text(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_it = match version {
            Version::Two => id == "0" && controllers.is_empty(),
            Version::One(name) => controllers.split(',').any(|c| c == name),
        };
        is_it.then(|| path.trim_start_matches('/').to_string())
    });
    let Some(path) = path else { return Vec::new() };
    let root = match version {
        Version::Two => PathBuf::from(ROOT),
        Version::One(name) => Path::new(ROOT).join(name),
    };
    let path = if path.contains("..") { String::new() } else { path };
    let mut groups: Vec<PathBuf> =
        Path::new(&path).ancestors().map(|below| root.join(below)).collect();
    groups.dedup();
    groups
}

fn read(source: &dyn Source, group: &Path, file: &str) -> Option<String> {
    Some(source.read_text(&group.join(file)).ok()?.trim().to_string())
}

/// quota / period; `max` and -1 mean that there is no limit.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}
