//! The exit code of every kind of failure.

use super::super::failure::EXIT_CODES;
use super::*;
use crate::lock::LockError;

#[test]
fn the_first_error_decides_the_exit_code() {
    let input = |code: &str| Failure::from(Diagnostic::error(code, "text")).exit_code();
    let work = |code: &str| Failure::Work(Box::new(Diagnostic::error(code, "text"))).exit_code();
    for (code, expected) in [
        ("env::isa", 2),
        ("ir::unknown_stage", 2),
        ("ir::parse", 3),
        ("new::exists", 2),
        ("resume::steps", 2),
        ("resume::changed", 3),
        ("rerun::changed", 4),
        ("manifest::damaged", 4),
        ("run::no_spec", 4),
        ("run::unknown", 2),
        ("sampling::temperature", 2),
        ("spec::unknown_key", 3),
        ("source::unreadable", 3),
        ("tokenizer::id", 2),
        ("tokenizer::json", 3),
        ("train::threads", 2),
        ("train::vocabulary", 3),
        ("store::missing", 1),
    ] {
        assert_eq!(input(code), expected, "{code}");
    }
    assert_eq!((work("run::damaged"), work("train::non_finite")), (1, 1));
    let held = LockError::Held { path: "runs/a/lock".into(), holder: None };
    let held = Failure::Lock(held);
    assert_eq!((held.exit_code(), held.diagnostics()[0].code.as_str()), (1, "run::in_use"));
    assert!(held.diagnostics()[0].help.is_some());
    assert_eq!(Failure::Interrupted("here".into()).exit_code(), 130);
    assert_eq!(Failure::Internal("text".into()).exit_code(), 1);
    // A warning in front does not count.
    let both = vec![Diagnostic::warning("env::isa", "a"), Diagnostic::error("spec::b", "b")];
    assert_eq!(Failure::Diagnostics(both).exit_code(), 3);
}

#[test]
fn no_entry_hides_a_later_one() {
    for (i, (later, _)) in EXIT_CODES.iter().enumerate() {
        let hidden = EXIT_CODES[..i].iter().find(|(earlier, _)| later.starts_with(earlier));
        assert_eq!(hidden, None, "{later}");
    }
}
