//! Made-up machines, and this one.

use super::*;
use crate::store::{FsStore, MemStore, Store, create_dir_all};

fn machine_with(files: &[(&str, &str)]) -> MemStore {
    let store = MemStore::new();
    for (path, text) in files {
        let path = Path::new(path);
        create_dir_all(&store, path.parent().unwrap()).unwrap();
        store.write(path, text.as_bytes()).unwrap();
    }
    store
}

const CPUINFO: &str = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nphysical id\t: 0\ncore id\t\t: 0\n\n\
                       processor\t: 1\nmodel name\t: Some CPU @ 2 GHz\nphysical id\t: 0\ncore id\t\t: 0\n\n\
                       processor\t: 2\nmodel name\t: Some CPU @ 2 GHz\nphysical id\t: 0\ncore id\t\t: 1\n\n";
const MEMINFO: &str = "MemTotal:        8000 kB\nMemFree: 1000 kB\nMemAvailable:    6000 kB\n";

#[test]
fn linux_files_are_read() {
    let source = machine_with(&[
        ("/proc/cpuinfo", CPUINFO),
        ("/proc/meminfo", MEMINFO),
        ("/proc/sys/kernel/osrelease", "6.1.0\n"),
        ("/etc/os-release", "ID=x\nPRETTY_NAME=\"Some Linux 12\"\n"),
    ]);
    let machine = linux::read(&source);
    assert_eq!(machine.os, "Some Linux 12");
    assert_eq!(machine.kernel, "Linux 6.1.0");
    assert_eq!(machine.cpu, "Some CPU @ 2 GHz");
    assert_eq!(machine.physical_cores, Some(2));
    assert_eq!(machine.memory_bytes, 8000 * 1024);
    assert_eq!((machine.cpu_limit, machine.memory_limit_bytes), (None, None));
    assert_eq!(available_memory_bytes(&source), Some(6000 * 1024));
}

#[test]
fn a_machine_without_files_gives_empty_answers() {
    let machine = linux::read(&MemStore::new());
    assert_eq!((machine.memory_bytes, machine.physical_cores), (0, None));
    assert!(machine.cpu.is_empty() && machine.kernel.is_empty());
    assert_eq!(available_memory_bytes(&MemStore::new()), None);
}

#[test]
fn the_tightest_limit_of_version_2_counts() {
    let source = machine_with(&[
        ("/proc/meminfo", MEMINFO),
        ("/proc/self/cgroup", "0::/a/b\n"),
        ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
        ("/sys/fs/cgroup/a/memory.max", "4096000\n"),
        ("/sys/fs/cgroup/a/memory.current", "1096000\n"),
        ("/sys/fs/cgroup/a/b/cpu.max", "150000 100000\n"),
        ("/sys/fs/cgroup/a/cpu.max", "max 100000\n"),
    ]);
    let machine = linux::read(&source);
    assert_eq!(machine.cpu_limit, Some(1.5));
    assert_eq!(machine.memory_limit_bytes, Some(4_096_000));
    assert_eq!(available_memory_bytes(&source), Some(3_000_000));
}

#[test]
fn a_hidden_group_of_version_1_falls_back_to_the_mounted_root() {
    let source = machine_with(&[
        ("/proc/meminfo", MEMINFO),
        ("/proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2048000\n"),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n"),
        ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
    ]);
    let machine = linux::read(&source);
    assert_eq!(machine.cpu_limit, Some(2.0));
    assert_eq!(machine.memory_limit_bytes, Some(2_048_000));
}

#[test]
fn resident_memory_is_read() {
    let status = "Name:\tllmc\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
    let source = machine_with(&[("/proc/self/status", status)]);
    assert_eq!(resident_bytes(&source), Some((1 << 20, 2 << 20)));
    assert_eq!(resident_bytes(&MemStore::new()), None);
}

#[test]
fn no_limit_is_no_limit() {
    let source = machine_with(&[
        ("/proc/meminfo", MEMINFO),
        ("/proc/self/cgroup", "4:memory:/\n3:cpu:/\n"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
        ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
    ]);
    let machine = linux::read(&source);
    assert_eq!((machine.cpu_limit, machine.memory_limit_bytes), (None, None));
}

#[test]
fn the_answers_of_macos_are_read() {
    let machine = parse_mac("17179869184\n8\nApple M2\n23.5.0\n", "14.5\n");
    assert_eq!(machine.memory_bytes, 16 << 30);
    assert_eq!(machine.physical_cores, Some(8));
    assert_eq!((machine.cpu.as_str(), machine.os.as_str()), ("Apple M2", "macOS 14.5"));
    assert_eq!(machine.kernel, "Darwin 23.5.0");
    assert_eq!(parse_mac("", "").memory_bytes, 0);
}

#[test]
fn free_space_is_found_whatever_the_names() {
    let head = "Filesystem 1024-blocks Used Available Capacity Mounted on\n";
    assert_eq!(parse_df(&format!("{head}/dev/vda 1000 600 400 60% /\n")), Some(400 * 1024));
    assert_eq!(parse_df(&format!("{head}a b 1000 600 7 60% /my disk\n")), Some(7 * 1024));
    assert_eq!(parse_df(head), None);
}

#[test]
fn this_machine_answers() {
    let machine = probe(&FsStore);
    assert!(machine.usable_cores >= 1);
    assert!(!machine.os.is_empty() && !machine.architecture.is_empty());
    let folder = tempfile::tempdir().unwrap();
    // A folder that does not exist yet is on the disk of the one above it.
    if let Some(disk) = disk(&folder.path().join("runs").join("x")) {
        assert!(disk.path.ends_with("x"));
    }
    let text = serde_json::to_string(&machine).unwrap();
    assert_eq!(serde_json::from_str::<Machine>(&text).unwrap(), machine);
}

#[test]
fn a_program_is_run_within_its_limit() {
    let run = |script: &str, limit_ms: u64| {
        let args = ["-c".as_ref(), script.as_ref()];
        command::run(Path::new("sh"), &args, Duration::from_millis(limit_ms))
    };
    let output = run("echo out; echo err >&2; exit 3", 60_000).unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    assert!(!output.is_success);
    // More than a pipe holds.
    assert_eq!(run("yes | head -c 300000", 60_000).unwrap().stdout.len(), 300_000);
    let error = run("exec sleep 600", 50).unwrap_err();
    assert!(matches!(error, command::CommandError::TimedOut(_)), "{error}");
    let none = command::run(Path::new("no-such-program-at-all"), &[], TIME_LIMIT);
    assert!(matches!(none, Err(command::CommandError::NotFound)));
    assert!(command::locate(Path::new("sh")).unwrap().is_absolute());
    assert_eq!(command::locate(Path::new("no-such-program-at-all")), None);
}
