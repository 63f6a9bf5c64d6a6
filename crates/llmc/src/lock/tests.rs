//! One holder, and none after a crash.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const VARIABLE: &str = "LLMC_TEST_LOCK_FOLDER";

#[test]
fn one_holder_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let lock = lock_run(folder.path()).unwrap();
    let error = lock_run(folder.path()).unwrap_err();
    let expected = format!("is in use by process {}", std::process::id());
    assert!(error.to_string().ends_with(&expected), "{error}");
    assert_eq!(Diagnostic::from(&error).code, "run::in_use");
    assert_eq!(holder_of_run(folder.path()), Some(Some(std::process::id())));
    drop(lock);
    assert_eq!(holder_of_run(folder.path()), None);
    drop(lock_run(folder.path()).unwrap());
}

#[test]
fn shared_locks_exclude_only_an_exclusive_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    let one = Lock::take(&path, Mode::Shared).unwrap();
    let two = Lock::wait(&path, Mode::Shared).unwrap();
    assert!(matches!(Lock::take(&path, Mode::Exclusive), Err(LockError::Held { .. })));
    drop((one, two));
    let alone = Lock::take(&path, Mode::Exclusive).unwrap();
    assert!(matches!(Lock::take(&path, Mode::Shared), Err(LockError::Held { .. })));
    drop(alone);
}

#[test]
fn a_missing_folder_is_a_store_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = lock_run(&folder.path().join("none")).unwrap_err();
    assert_eq!(Diagnostic::from(&error).code, "store::missing");
}

/// The other process of the next test: holds the lock until it is killed. Does
/// nothing when it runs among the other tests.
#[test]
fn hold_in_another_process() {
    let Some(folder) = std::env::var_os(VARIABLE) else { return };
    let _lock = lock_run(Path::new(&folder)).unwrap();
    println!("\nholding");
    // Ends with the parent at the latest, when the pipe closes.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

#[test]
fn a_killed_holder_leaves_the_lock_free() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lock::tests::hold_in_another_process", "--nocapture"])
        .env(VARIABLE, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "holding"));
    let error = lock_run(folder.path()).unwrap_err();
    assert!(error.to_string().contains(&child.id().to_string()), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lock_run(folder.path()).unwrap());
}
