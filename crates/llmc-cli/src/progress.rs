//! Training as it is watched: a live line or the whole screen on a terminal, plain lines elsewhere, JSON
//! for programs.

use crate::diagnostics;
use crate::format::{duration, grouped, short};
use crate::output::{Output, say};
use crate::screen::{self, Screen};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use llmc::metrics::TrainRecord;
use llmc::pipeline::{Event, Failure, Observer};
use llmc_base::Diagnostic;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Exit code of a run that was interrupted: 128 + SIGINT.
pub const INTERRUPTED: u8 = 130;

/// What Ctrl-C and the run know of each other.
pub struct Interrupt {
    was_asked: AtomicBool,
    is_training: AtomicBool,
    is_leaving: AtomicBool,
    leaves: Leaves,
}

/// What follows from a Ctrl-C, with what to say of it.
pub enum Press {
    /// The run ends after this step.
    Asked(String),
    /// The process ends now.
    Leave(String),
}

impl Interrupt {
    /// Nobody has pressed anything.
    pub fn new(leaves: Leaves) -> Self {
        let [was_asked, is_training, is_leaving] = [(); 3].map(|()| AtomicBool::new(false));
        Interrupt { was_asked, is_training, is_leaving, leaves }
    }

    /// Whether somebody pressed Ctrl-C.
    pub fn was_asked(&self) -> bool {
        self.was_asked.load(Ordering::SeqCst)
    }

    /// Steps begin: there is something to keep from now on.
    pub fn trains(&self) {
        self.is_training.store(true, Ordering::SeqCst);
    }

    /// Somebody pressed Ctrl-C.
    pub fn press(&self) -> Press {
        let (early, late) = match self.leaves {
            Leaves::Checkpoint => (
                "the stages that were done are kept",
                "finishing this step and writing a checkpoint (again to stop at once)",
            ),
            Leaves::Nothing(_) => (
                "nothing was compared; the run is as it was",
                "finishing this step; nothing will be compared, the run stays as it is (again to stop at once)",
            ),
        };
        if !self.is_training.load(Ordering::SeqCst) {
            return Press::Leave(format!("\ninterrupted before the first step; {early}"));
        }
        match self.was_asked.swap(true, Ordering::SeqCst) {
            true => Press::Leave(String::new()),
            false => Press::Asked(format!("\ninterrupted: {late}")),
        }
    }

    /// Returns, unless the process is about to end because of a Ctrl-C: what fails then fails because
    /// its folder is being removed, and is no news.
    pub fn go_on(&self) {
        while self.is_leaving.load(Ordering::SeqCst) {
            std::thread::park();
        }
    }

    /// Ends the process.
    pub fn leave(&self) -> ! {
        self.is_leaving.store(true, Ordering::SeqCst);
        self.leaves.exit()
    }
}

/// What a training leaves when it is interrupted.
pub enum Leaves {
    /// A checkpoint, and the stages in the cache.
    Checkpoint,
    /// Nothing: it works in this folder, which goes.
    Nothing(PathBuf),
}

impl Leaves {
    /// Ends the process. What this one still writes into its folder meanwhile is removed again.
    fn exit(&self) -> ! {
        if let Leaves::Nothing(folder) = self {
            for _ in 0..ATTEMPTS {
                let _ = std::fs::remove_dir_all(folder);
                if !folder.exists() {
                    break;
                }
            }
        }
        std::process::exit(INTERRUPTED.into())
    }
}

/// How often a folder is removed into which something is still written.
const ATTEMPTS: usize = 100;

/// The first Ctrl-C of a training asks for a checkpoint, the second ends the process at once. Before the
/// first step there is nothing to keep: every stage is cached whole or not at all, so it ends at once too.
pub fn catch_interrupt(leaves: Leaves) -> Result<Arc<Interrupt>, Failure> {
    let interrupt = Arc::new(Interrupt::new(leaves));
    let seen = Arc::clone(&interrupt);
    ctrlc::set_handler(move || match seen.press() {
        // The screen says it in its last line.
        Press::Asked(_) if screen::is_open() => {}
        Press::Asked(text) => say(&text),
        Press::Leave(text) => {
            screen::close();
            if !text.is_empty() {
                say(&text);
            }
            seen.leave()
        }
    })
    .map_err(|e| Diagnostic::error("llmc::signal", format!("cannot catch Ctrl-C: {e}")))?;
    Ok(interrupt)
}

/// How to tell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Live,
    Screen,
    Lines,
    Json,
    Quiet,
}

/// Tells of the events of a run.
pub struct Progress<'a> {
    out: &'a mut Output,
    how: How,
    interrupt: Arc<Interrupt>,
    log_interval: u64,
    bar: Option<ProgressBar>,
    max_steps: u64,
    /// When steps began, and how many were done before.
    began: Option<(Instant, u64)>,
    /// The newest checkpoint.
    checkpoint: Option<PathBuf>,
    /// The whole terminal, if it is in our hands.
    screen: Option<Screen>,
    /// Warnings that are told when the terminal is given back.
    untold: Vec<String>,
}

impl<'a> Progress<'a> {
    /// Watches with one line per `log_interval` steps where there is no terminal.
    pub fn new(out: &'a mut Output, interrupt: Arc<Interrupt>, log_interval: u64) -> Self {
        let how = match (out.is_json, out.is_quiet, std::io::stderr().is_terminal()) {
            (true, ..) => How::Json,
            (_, true, _) => How::Quiet,
            (_, _, true) => How::Live,
            _ => How::Lines,
        };
        let log_interval = log_interval.max(1);
        let mut progress = Progress {
            out,
            how,
            interrupt,
            log_interval,
            bar: None,
            max_steps: 0,
            began: None,
            checkpoint: None,
            screen: None,
            untold: Vec::new(),
        };
        progress.spin("reading the data");
        progress
    }

    /// Takes the whole terminal, where that is asked for and there is one.
    pub fn on_screen(mut self, is_asked: bool) -> Self {
        if !is_asked || matches!(self.how, How::Json | How::Quiet) {
            return self;
        }
        let has_terminal = self.how == How::Live && std::io::stdin().is_terminal();
        self.clear();
        let opened = match has_terminal {
            true => Screen::open(Arc::clone(&self.interrupt)),
            false => Err(std::io::Error::other("standard input or error is none")),
        };
        match opened {
            Ok(screen) => {
                self.how = How::Screen;
                self.screen = Some(screen);
            }
            Err(e) => say(&format!("  no terminal for `--tui` ({e}); plain lines")),
        }
        self
    }

    /// Gives the terminal back, and tells what was not told on it.
    fn leave_screen(&mut self) {
        if self.screen.take().is_some() {
            self.untold.drain(..).for_each(|text| say(text.trim_end()));
        }
    }

    fn style(template: &str) -> ProgressStyle {
        ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─")
    }

    fn spin(&mut self, what: &str) {
        if self.how != How::Live {
            return;
        }
        // The old line goes first, or the two would draw over each other.
        self.clear();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(Self::style("  {spinner} {msg} {elapsed}"));
        bar.set_message(what.to_string());
        bar.enable_steady_tick(Duration::from_millis(120));
        self.bar = Some(bar);
    }

    fn clear(&mut self) {
        if let Some(old) = self.bar.take() {
            old.finish_and_clear();
        }
    }

    /// A line above the live one.
    fn tell(&self, line: &str) {
        match (&self.bar, self.how) {
            (_, How::Json | How::Quiet) => {}
            (Some(bar), _) => bar.suspend(|| say(line)),
            (None, _) => say(line),
        }
    }

    /// Takes the live line away; the newest checkpoint.
    pub fn done(mut self) -> Option<PathBuf> {
        self.clear();
        self.leave_screen();
        self.checkpoint.take()
    }

    fn step(&mut self, record: &TrainRecord) {
        let Some((began, before)) = self.began else { return };
        let done = record.step.saturating_sub(before).max(1);
        let left = self.max_steps.saturating_sub(record.step);
        let eta = began.elapsed().as_secs_f64() / done as f64 * left as f64;
        let speed = short(record.tokens_per_s);
        if let Some(why) = record.why_skipped() {
            self.tell(&format!(
                "  step {}: skipped {why} (loss {:.4}, gradient norm {:.3})",
                record.step, record.loss, record.grad_norm
            ));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(record.step);
            bar.set_message(format!(
                "loss {:.4}  {speed} tokens/s  ETA {}",
                record.loss,
                duration(eta)
            ));
        } else if record.step.is_multiple_of(self.log_interval) || left == 0 || record.step == 1 {
            self.tell(&format!(
                "  step {:>width$}/{}  loss {:.4}  lr {:.2e}  {speed} tokens/s  ETA {}",
                record.step,
                self.max_steps,
                record.loss,
                record.lr,
                duration(eta),
                width = self.max_steps.to_string().len(),
            ));
        }
    }

    fn people(&mut self, event: &Event) {
        match event {
            Event::Stage { name, detail } => {
                self.tell(&format!("  {name:<10} {detail}"));
                self.spin(match *name {
                    "dataset" => "tokenizer",
                    "tokenizer" => "rows",
                    _ => "model",
                });
            }
            Event::Start { run, step, max_steps, tokens_per_step } => {
                self.max_steps = *max_steps;
                self.began = Some((Instant::now(), *step));
                self.tell(&format!("  {:<10} {}", "run", run.display()));
                let from = match step {
                    0 => String::new(),
                    step => format!(", going on from step {step}"),
                };
                let tokens = grouped(*tokens_per_step);
                self.tell(&format!("  {:<10} {max_steps} of {tokens} tokens{from}", "steps"));
                self.clear();
                if self.how == How::Live {
                    let bar = ProgressBar::with_draw_target(
                        Some(*max_steps),
                        ProgressDrawTarget::stderr(),
                    );
                    bar.set_style(Self::style("  step {pos}/{len} {bar:24} {msg}"));
                    bar.set_position(*step);
                    self.bar = Some(bar);
                }
            }
            Event::Step(record) => self.step(record),
            Event::Validation(record) => {
                let average = record.ema_loss.map(|loss| format!(", {loss:.4} of the average"));
                self.tell(&format!(
                    "  step {}: held out loss {:.4}, {:.4} bits per byte{}",
                    record.step,
                    record.loss,
                    record.bits_per_byte,
                    average.unwrap_or_default()
                ));
            }
            Event::Sample(_) => {}
            Event::Checkpoint { step, path } => {
                if self.how == How::Lines && *step < self.max_steps {
                    self.tell(&format!("  step {step}: checkpoint {}", path.display()));
                } else if let Some(bar) = &self.bar {
                    bar.set_message("hashes, baselines, report");
                }
            }
            Event::Warning(d) => {
                let text = diagnostics::render(d, self.out.has_color_on_stderr());
                self.tell(text.trim_end());
            }
        }
    }
}

/// An event as one JSON object.
fn json_of(event: &Event) -> Value {
    let tagged = |kind: &str, record: Value| {
        let mut object = json!({ "event": kind });
        if let (Some(object), Value::Object(record)) = (object.as_object_mut(), record) {
            object.extend(record);
        }
        object
    };
    let value = |v: serde_json::Result<Value>| v.unwrap_or(Value::Null);
    match event {
        Event::Stage { name, detail } => json!({"event": "stage", "name": name, "detail": detail}),
        Event::Start { run, step, max_steps, tokens_per_step } => json!({
            "event": "start", "run": run, "step": step, "max_steps": max_steps,
            "tokens_per_step": tokens_per_step,
        }),
        Event::Step(record) => tagged("step", value(serde_json::to_value(record))),
        Event::Validation(record) => tagged("validation", value(serde_json::to_value(record))),
        Event::Sample(record) => tagged("sample", value(serde_json::to_value(record))),
        Event::Checkpoint { step, path } => {
            json!({"event": "checkpoint", "step": step, "path": path})
        }
        Event::Warning(d) => json!({"event": "warning", "diagnostic": d}),
    }
}

impl Observer for Progress<'_> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Start { .. } => self.interrupt.trains(),
            Event::Checkpoint { path, .. } => self.checkpoint = Some(path.to_path_buf()),
            _ => {}
        }
        match self.how {
            How::Json => self.out.json_line(&json_of(event)),
            How::Quiet => {}
            How::Live | How::Lines => self.people(event),
            How::Screen => {
                if let Event::Warning(d) = event {
                    self.untold.push(diagnostics::render(d, self.out.has_color_on_stderr()));
                }
                if let Some(screen) = &self.screen {
                    screen.update(event);
                }
            }
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.was_asked()
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.clear();
        self.leave_screen();
    }
}
