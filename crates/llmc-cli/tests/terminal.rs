//! `llmc chat` on a terminal: a pseudoterminal with a person's keys.
#![cfg(unix)]
// The whole program is a test; helpers panic on purpose.
#![allow(clippy::unwrap_used)]

mod common;

use common::Place;
use nix::libc;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longest wait for something to appear.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program and what it has shown.
struct Terminal {
    child: Child,
    keys: File,
    shown: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn open(mut command: Command) -> Terminal {
        let pty = nix::pty::openpty(None, None).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(slave()).stdout(slave()).stderr(slave());
        // SAFETY: both calls are safe between fork and exec. They make the pseudoterminal the one that
        // controls the child, so that a Ctrl-C is a signal.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match libc::ioctl(0, libc::TIOCSCTTY as _, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().unwrap();
        drop((command, pty.slave));
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().unwrap();
        let (send, shown) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut buffer) {
                if send.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { child, keys, shown, seen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until at least so many bytes are shown.
    #[track_caller]
    fn more(&mut self, n_bytes: usize) {
        while self.seen.len() < n_bytes {
            match self.shown.recv_timeout(PATIENCE) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("no more is shown than:\n{}", self.seen),
            }
        }
    }

    /// Waits until this is shown; forgets all up to it.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("`{text}` is not shown, but:\n{}", self.seen),
            }
        }
    }
}

#[test]
fn ctrl_c_stops_a_reply_and_the_chat_goes_on() {
    let place = Place::new();
    place.llmc(&["train", "tiny.toml", "--quiet"]).code(0);
    // The model never ends a reply by itself.
    let mut command = place.command(&["chat", "-n", "1000000", "--logit-bias", "0=-100"]);
    command.env("TERM", "xterm").env("NO_COLOR", "1").env("LLMC_STATE", place.path().join("state"));
    let mut terminal = Terminal::open(command);
    terminal.until("no chat template");
    terminal.until("> ");
    terminal.press("Hello\r");
    // The line itself, then some of the reply.
    terminal.until("Hello");
    terminal.more(200);
    terminal.press("\x03");
    let reply = terminal.until("(stopped)");
    assert!(reply.len() > 20 && !reply.contains("\x1b[2m"), "{reply:?}");
    terminal.until("> ");

    terminal.press("/set tokens 2\r");
    terminal.until("> ");
    // Two lines, one message; a name is completed.
    terminal.press("one\\\rtwo\r");
    terminal.until("as long as `tokens` allows");
    terminal.until("> ");
    terminal.press("/st\t\r");
    let stats = terminal.until("the model sees up to");
    assert!(stats.contains("messages") && stats.contains(" 4\r\n"), "{stats:?}");
    terminal.until("> ");
    terminal.press("half a line\x03");
    terminal.until("/quit or Ctrl-D leaves");
    terminal.until("> ");
    terminal.press("\x04");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));

    let history = std::fs::read_to_string(place.path().join("state/chat_history")).unwrap();
    assert!(history.contains("Hello") && !history.contains("half a line"), "{history}");
}
