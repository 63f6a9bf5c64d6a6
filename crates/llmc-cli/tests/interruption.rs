//! A run that was interrupted or killed ends in the bits of one that was not.
//!
//! `LLMC_KILLS=50` kills fifty times; `make kill` sets it, `make exactness` sets 200.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use common::Place;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command};
use std::time::Duration;

const LONG: [&str; 6] = ["train", "tiny.toml", "--set", "training.max_steps=60", "--threads", "1"];

/// The weights of the run that nothing disturbs.
fn undisturbed() -> String {
    let place = Place::new();
    let said = place.llmc(&[&LONG[..], &["--json"]].concat()).code(0);
    said.event("result")["weights"].as_str().unwrap().to_string()
}

/// What Ctrl-C sends.
fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
}

/// Reads what a training says until it has done step 4.
fn wait_for_step_4(child: &mut Child) -> BufReader<ChildStderr> {
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(" 4/60") {
        line.clear();
        assert!(errors.read_line(&mut line).unwrap() > 0, "it ended before step 4");
    }
    errors
}

#[test]
fn ctrl_c_while_it_reads_the_data_ends_it_at_once() {
    let place = Place::new();
    let pipe = place.path().join("pipe.txt");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let spec = common::TINY.replace(r#"domains = ["synthetic"]"#, r#"paths = ["pipe.txt"]"#);
    let spec = spec.replace("languages = { en = 1.0 }\ntarget_tokens = 2000\n", "");
    place.write("piped.toml", &spec);
    let child = place.command(&["train", "piped.toml"]).spawn().unwrap();
    // Opening waits for the reader, so this is in the middle of the data stage.
    let _writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted before the first step"), "{said}");
    assert!(!place.path().join("runs").exists());
}

#[test]
fn a_second_ctrl_c_ends_it_at_once_and_loses_nothing() {
    let place = Place::new();
    let mut child = place.command(&LONG).spawn().unwrap();
    let mut errors = wait_for_step_4(&mut child);
    interrupt(&child);
    interrupt(&child);
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    let said = place.llmc(&[&LONG[..], &["--json"]].concat()).code(0);
    assert_eq!(said.event("result")["weights"], undisturbed());
}

#[test]
fn ctrl_c_in_a_repetition_says_what_is_true_and_leaves_nothing() {
    let place = Place::new();
    let said = place.llmc(&[&LONG[..], &["--json"]].concat()).code(0);
    let run = said.event("result")["run"].as_str().unwrap().to_string();
    let scratch = tempfile::tempdir().unwrap();
    for times in [1, 2] {
        let mut command = place.command(&["rerun", &run, "--threads", "1"]);
        let mut child = command.env("TMPDIR", scratch.path()).spawn().unwrap();
        let mut errors = wait_for_step_4(&mut child);
        for _ in 0..times {
            interrupt(&child);
        }
        let mut rest = String::new();
        errors.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
        assert!(!rest.contains("writing a checkpoint"), "{rest}");
        assert!(rest.contains("nothing will be compared"), "{rest}");
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "{times}");
    }
}

#[test]
fn a_run_in_use_is_told_before_the_work_with_what_to_do() {
    let place = Place::new();
    let mut child = place.command(&LONG).spawn().unwrap();
    let _errors = wait_for_step_4(&mut child);
    // Held while it is stopped.
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    let said = place.llmc(&LONG).code(1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.err.contains("run::in_use") && said.err.contains("resumed"), "{}", said.err);
    assert!(!said.err.contains("tokenizer "), "{}", said.err);
}

#[test]
fn ctrl_c_writes_a_checkpoint_and_resume_completes() {
    let place = Place::new();
    let mut child = place.command(&LONG).spawn().unwrap();
    let mut errors = wait_for_step_4(&mut child);
    interrupt(&child);
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{out}\n{rest}");
    let resume = out.lines().find_map(|l| l.strip_prefix("go on with: llmc ")).unwrap();
    let args: Vec<&str> = resume.split(' ').chain(["--json"]).collect();
    let result = place.llmc(&args).code(0).event("result");
    assert_eq!(result["status"], "complete");
    assert_eq!(result["weights"], undisturbed());
}

#[test]
fn killed_at_random_instants_it_ends_in_the_same_bits() {
    let kills = std::env::var("LLMC_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let expected = undisturbed();
    let place = Place::new();
    let finish = || {
        let said = place.llmc(&[&LONG[..], &["--json"]].concat()).code(0);
        assert_eq!(said.event("result")["weights"], expected);
        let run = said.event("result")["run"].as_str().unwrap().to_string();
        place.llmc(&["verify", &run]).code(0);
    };
    // Instants from a fixed generator; how far a run comes by then is up to the machine.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut child = place.command(&LONG).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5 + random % 250));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            // It was quicker: the next one starts anew.
            finish();
            std::fs::remove_dir_all(place.path().join("runs")).unwrap();
        }
    }
    finish();
}
