//! The picture on a terminal of memory, and the keys.

use super::*;
use crate::progress::Leaves;
use llmc::metrics::{SampleRecord, TrainRecord, ValidationRecord};
use llmc_base::Diagnostic;
use ratatui::backend::TestBackend;
use std::path::Path;

fn step(step: u64, loss: f64) -> TrainRecord {
    TrainRecord {
        step,
        tokens: step * 512,
        loss,
        lr: 3e-4,
        grad_norm: 0.75,
        tokens_per_s: 12_345.0,
        elapsed_s: step as f64,
        is_skipped: step == 20,
        is_overflow: false,
        loss_scale: None,
    }
}

/// A training after 30 of 120 steps, one a second.
fn dashboard() -> Dashboard {
    let mut d = Dashboard::default();
    d.apply(&Event::Stage { name: "dataset", detail: "7 documents".to_string() });
    d.now_s = 2.0;
    let run = Path::new("runs/0123456789abcdef");
    d.apply(&Event::Start { run, step: 0, max_steps: 120, tokens_per_step: 512 });
    for at in 1..=30 {
        d.now_s = 2.0 + at as f64;
        d.apply(&Event::Step(&step(at, 8.0 / (1.0 + at as f64 / 10.0))));
        if at % 10 == 0 {
            let record = ValidationRecord {
                step: at,
                loss: 4.5 - at as f64 / 20.0,
                bits_per_byte: 1.25,
                ema_loss: Some(2.875),
            };
            d.apply(&Event::Validation(&record));
        }
    }
    d.apply(&Event::Checkpoint { step: 30, path: Path::new("x") });
    d.memory = Some(48 << 20);
    d
}

fn picture(d: &Dashboard, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| d.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_string()).collect::<String>();
    (0..height).map(row).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_picture_has_curve_numbers_predicted_end_and_messages() {
    let shown = picture(&dashboard(), 100, 30);
    for part in [
        "llmc runs/0123456789abcdef",
        "step 30/120, ends in 1m30s",
        "loss, nats per token",
        "loss          2.0000",
        "held out      3.0000 at step 30",
        "bits per byte 1.2500",
        "of average    2.8750",
        "learning rate 3.00e-4",
        "gradient norm 0.750",
        "tokens        15,360",
        "tokens/s      12.3k",
        "skipped       1",
        "memory        48.0 MiB",
        "elapsed       32s",
        "predicted end in 1m30s",
        "step 30: held out loss 3.0000",
        "step 30: checkpoint",
        "q or Ctrl-C: write a checkpoint and stop",
    ] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
    // The curve falls from the left: its first columns have dots at the top, none at the bottom.
    let is_dotted = |line: &str| line.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c));
    assert!(shown.lines().filter(|line| is_dotted(line)).count() > 5, "{shown}");
    // Throughput: equal bars of full height.
    assert!(shown.contains(&"█".repeat(30)), "{shown}");
}

#[test]
fn before_the_first_step_and_while_it_stops_it_says_so() {
    let mut d = Dashboard::default();
    d.apply(&Event::Stage { name: "tokenizer", detail: "char of 30 tokens".to_string() });
    d.apply(&Event::Warning(&Diagnostic::warning("data::x", "a thing\nworth a look")));
    let shown = picture(&d, 80, 24);
    assert!(
        shown.contains("reading the data") && shown.contains("tokenizer: char of 30"),
        "{shown}"
    );
    assert!(shown.contains("a thing worth a look"), "{shown}");
    let mut d = dashboard();
    d.is_stopping = true;
    let record = SampleRecord { step: 30, prompt: "def ".into(), text: "f():\n  x".into() };
    d.apply(&Event::Sample(&record));
    let shown = picture(&d, 80, 24);
    assert!(shown.contains("finishing this step and writing a checkpoint"), "{shown}");
    assert!(shown.contains("step 30: def f():⏎  x"), "{shown}");
}

#[test]
fn no_terminal_is_too_small_and_no_number_too_bad() {
    let mut d = dashboard();
    let mut bad = step(31, f64::NAN);
    (bad.tokens_per_s, bad.grad_norm) = (f64::INFINITY, f64::NAN);
    d.apply(&Event::Step(&bad));
    for width in [0, 1, 2, 5, 20, 33, 60, 200] {
        for height in [0, 1, 2, 3, 4, 7, 10, 15, 60] {
            picture(&d, width, height);
        }
    }
    (0..200).for_each(|i| d.say(format!("message {i}")));
    let shown = picture(&d, 80, 30);
    assert!(shown.contains("message 199") && !shown.contains("message 150"), "{shown}");
}

#[test]
fn q_and_ctrl_c_stop_and_nothing_else_does() {
    let key = |code, modifiers| is_stop(&KeyEvent::new(code, modifiers));
    assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
    assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
    assert!(!key(KeyCode::Enter, KeyModifiers::NONE) && !key(KeyCode::Esc, KeyModifiers::NONE));
    // Before the first step it ends at once; then it asks, and the second time it ends.
    let interrupt = Interrupt::new(Leaves::Checkpoint);
    assert!(matches!(interrupt.press(), Press::Leave(_)) && !interrupt.was_asked());
    interrupt.trains();
    assert!(matches!(interrupt.press(), Press::Asked(_)) && interrupt.was_asked());
    assert!(matches!(interrupt.press(), Press::Leave(_)));
}

#[test]
fn the_system_says_how_much_memory_is_used() {
    if cfg!(target_os = "linux") {
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
