//! The doctor on a made-up bench of tools, and its words.

use super::*;
use crate::store::FsStore;
use std::path::Path;
use std::process::Command;

/// A Python made of `sh`, which answers by what its script says. Another
/// process writes the file, because a file that any fork of this one still has
/// open for writing cannot be run.
fn fake_python(folder: &Path, body: &str) -> PathBuf {
    let path = folder.join("python3");
    let status = Command::new("sh")
        .args(["-c", "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\" && chmod +x \"$0\""])
        .args([path.as_os_str(), body.as_ref()])
        .status();
    assert!(status.unwrap().success());
    path
}

fn report(python: PathBuf) -> DoctorReport {
    let time_limit = Duration::from_secs(30);
    doctor(&FsStore, &DoctorOptions { python, time_limit, ..DoctorOptions::default() })
}

#[test]
fn tools_that_work_fail_and_lack_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let python = fake_python(
        folder.path(),
        "case \"$2\" in\n\
         *sysconfig*) echo '{\"version\":\"3.12.1\",\"executable\":\"/p\",\"stdlib\":\"/lib\"}';;\n\
         *numpy*) echo 2.1.0;;\n\
         *torch*) echo \"ImportError: libc10.so\" >&2; exit 1;;\n\
         *) echo \"ModuleNotFoundError: No module named 'transformers'\" >&2; exit 1;;\n\
         esac",
    );
    let report = report(python);
    let status = |name| report.tool(name).unwrap().status;
    assert_eq!(status("python"), ToolStatus::Works);
    assert_eq!(report.tool("python").unwrap().version.as_deref(), Some("3.12.1"));
    assert_eq!(report.tool("python").unwrap().paths, ["/p", "/lib"]);
    assert_eq!(report.tool("numpy").unwrap().version.as_deref(), Some("2.1.0"));
    assert_eq!(status("torch"), ToolStatus::Fails);
    assert_eq!(report.tool("torch").unwrap().detail.as_deref(), Some("ImportError: libc10.so"));
    assert_eq!(status("transformers"), ToolStatus::Missing);
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<DoctorReport>(&text).unwrap(), report);
}

#[test]
fn a_missing_python_is_missing_with_all_its_packages() {
    let report = report("no-such-python".into());
    for name in ["python", "numpy", "torch", "transformers", "tokenizers"] {
        assert_eq!(report.tool(name).unwrap().status, ToolStatus::Missing);
    }
    let names: Vec<&str> = report.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names[..2], ["python", "numpy"]);
    assert_eq!(names[5..], ["g++", "clang++", "rustc", "cargo"]);
}

#[test]
fn a_tool_that_hangs_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let python = fake_python(folder.path(), "exec sleep 600");
    let time_limit = Duration::from_millis(100);
    let options = DoctorOptions { python, time_limit, ..DoctorOptions::default() };
    let report = doctor(&FsStore, &options);
    assert_eq!(report.tool("torch").unwrap().status, ToolStatus::TimedOut);
}

#[test]
fn sections_say_what_is_missing_and_what_for() {
    let tool = |name: &str, status, version: Option<&str>, detail: Option<&str>| Tool {
        name: name.into(),
        purpose: "something".into(),
        status,
        version: version.map(String::from),
        paths: Vec::new(),
        detail: detail.map(String::from),
    };
    let report = DoctorReport {
        version: "0.1.0".into(),
        numerics_version: 1,
        machine: Machine {
            os: "Some Linux".into(),
            architecture: "x86_64".into(),
            usable_cores: 2,
            cpu_limit: Some(2.0),
            memory_bytes: 64 << 30,
            memory_limit_bytes: Some(1 << 30),
            ..Machine::default()
        },
        memory_available_bytes: Some(512 << 20),
        disk: Some(Disk { path: "runs".into(), free_bytes: 1 << 30 }),
        tools: vec![
            tool("python", ToolStatus::Works, Some("3.12"), None),
            tool("torch", ToolStatus::TimedOut, None, Some("no answer within 60 s")),
            tool("g++", ToolStatus::Missing, None, None),
        ],
    };
    let text: Vec<String> = report
        .sections()
        .iter()
        .flat_map(|section| &section.rows)
        .map(|r| {
            format!("{:?} {}: {} | {}", r.mark, r.label, r.value, r.note.as_deref().unwrap_or(""))
        })
        .collect();
    assert_eq!(
        text,
        [
            "Good version: 0.1.0 (numerics version 1) | ",
            "Good system: Some Linux, x86_64 | ",
            "Note cores: 2 usable | this container is limited to 2 cores",
            "Note instruction sets:  | neither AVX2 nor NEON: the scalar kernels are used, with the same results",
            "Bad memory: 1.0 GiB, 512 MiB available now | this container is limited; the machine has 64.0 GiB",
            "Bad disk: 1.0 GiB free | at `runs`; a run may fill it",
            "Good python: 3.12 | ",
            "Bad torch: no answer within 60 s | needed for: something",
            "Missing g++: not installed | needed for: something",
        ]
    );
}

#[test]
fn bytes_read_well() {
    let shown = [0, 1023, 1024, 1536, 200 << 20, 23 << 30, u64::MAX].map(show_bytes);
    assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "200 MiB", "23.0 GiB", "16384 PiB"]);
}
