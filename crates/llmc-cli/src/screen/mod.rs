//! The whole terminal for one training: `--tui`.
//!
//! A thread of its own draws and reads keys, so that the training never waits for a terminal; what it
//! draws is a copy of [`Dashboard`]. In raw mode Ctrl-C is a key like `q`: both ask for a checkpoint,
//! and the second time they end the process.

mod dashboard;
mod series;
#[cfg(test)]
mod tests;

pub use dashboard::Dashboard;

use crate::output::say;
use crate::progress::{Interrupt, Press};
use llmc::pipeline::Event;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use std::io::{self, Stderr, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at the keyboard, and two pictures.
const INTERVAL: Duration = Duration::from_millis(150);

/// Whether the terminal is in our hands.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back as it was, if it is in our hands.
pub fn close() {
    if IS_OPEN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs nothing.
        let _ = disable_raw_mode();
        let _ = execute!(stderr(), LeaveAlternateScreen, Show);
    }
}

/// Whether a training is on the screen now.
pub fn is_open() -> bool {
    IS_OPEN.load(Ordering::SeqCst)
}

/// A training on the screen, until it is dropped.
pub struct Screen {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    dashboard: Mutex<Dashboard>,
    is_over: AtomicBool,
    began: Instant,
    interrupt: Arc<Interrupt>,
}

impl Shared {
    fn dashboard(&self) -> MutexGuard<'_, Dashboard> {
        // What a thread that panicked left is still good to look at.
        self.dashboard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Screen {
    /// Takes the terminal on standard error.
    ///
    /// Errors: of the terminal.
    pub fn open(interrupt: Arc<Interrupt>) -> io::Result<Screen> {
        enable_raw_mode()?;
        IS_OPEN.store(true, Ordering::SeqCst);
        let opened = execute!(stderr(), EnterAlternateScreen, Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(stderr())));
        let terminal = opened.inspect_err(|_| close())?;
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            close();
            tell(info);
        }));
        let (dashboard, is_over) = (Mutex::new(Dashboard::default()), AtomicBool::new(false));
        let shared = Arc::new(Shared { dashboard, is_over, began: Instant::now(), interrupt });
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("llmc-screen".to_string());
        let thread = thread.spawn(move || show(terminal, &seen)).inspect_err(|_| close())?;
        Ok(Screen { shared, thread: Some(thread) })
    }

    /// Takes note of an event.
    pub fn update(&self, event: &Event) {
        let mut dashboard = self.shared.dashboard();
        dashboard.now_s = self.shared.began.elapsed().as_secs_f64();
        dashboard.apply(event);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It has told of its own panic.
            let _ = thread.join();
        }
        close();
    }
}

/// Draws and reads keys until the training is over. A terminal that fails is given back; the training goes on.
fn show(mut terminal: Terminal<CrosstermBackend<Stderr>>, shared: &Shared) {
    while !shared.is_over.load(Ordering::SeqCst) && is_open() {
        let picture = {
            let mut dashboard = shared.dashboard();
            dashboard.now_s = shared.began.elapsed().as_secs_f64();
            dashboard.memory = resident_bytes();
            dashboard.is_stopping = shared.interrupt.was_asked();
            dashboard.clone()
        };
        let drawn = terminal.draw(|frame| picture.draw(frame)).map(|_| ());
        if drawn.and_then(|()| keys(shared)).is_err() {
            close();
        }
    }
}

/// Waits for a key for a while.
fn keys(shared: &Shared) -> io::Result<()> {
    if !event::poll(INTERVAL)? {
        return Ok(());
    }
    let event::Event::Key(key) = event::read()? else { return Ok(()) };
    if !is_stop(&key) {
        return Ok(());
    }
    match shared.interrupt.press() {
        Press::Asked(text) => shared.dashboard().say(text),
        Press::Leave(text) => {
            close();
            say(&text);
            shared.interrupt.leave()
        }
    }
    Ok(())
}

/// `q`, or Ctrl-C.
fn is_stop(key: &KeyEvent) -> bool {
    let is_ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && match key.code {
            KeyCode::Char('q' | 'Q') => !is_ctrl,
            KeyCode::Char('c' | 'C') => is_ctrl,
            _ => false,
        }
}

/// Bytes of this process in memory, where the system says so.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
