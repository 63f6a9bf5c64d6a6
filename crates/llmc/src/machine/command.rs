//! Another program's output, within a time limit.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(5);

/// What a program that ended by itself left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// Whether the exit status was 0.
    pub(crate) is_success: bool,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// No such program.
    #[error("not found")]
    NotFound,
    /// It ran too long and was killed.
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// It could not be started or watched.
    #[error(transparent)]
    Io(io::Error),
}

/// Runs a program without input and waits for it, at most `limit`.
pub(crate) fn run(
    program: &Path,
    args: &[&OsStr],
    limit: Duration,
) -> Result<Output, CommandError> {
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => CommandError::NotFound,
            _ => CommandError::Io(e),
        })?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = loop {
        if let Some(status) = child.try_wait().map_err(CommandError::Io)? {
            break status;
        }
        if start.elapsed() >= limit {
            // It may have ended in between; either way it is gone then.
            let _ = child.kill();
            let _ = child.wait();
            return Err(CommandError::TimedOut(limit));
        }
        thread::sleep(POLL);
    };
    // A grandchild may keep the pipe open after the program has ended.
    let rest = |pipe: mpsc::Receiver<Vec<u8>>| {
        pipe.recv_timeout(limit.saturating_sub(start.elapsed()).max(POLL))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|_| CommandError::TimedOut(limit))
    };
    Ok(Output { is_success: status.success(), stdout: rest(stdout)?, stderr: rest(stderr)? })
}

/// Reads a pipe to its end on a thread of its own, so that a program that
/// writes much never stands still.
fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth having.
            let _ = pipe.read_to_end(&mut bytes);
        }
        // Nobody listens any more after a time-out.
        let _ = sender.send(bytes);
    });
    receiver
}

/// The program's file: the path itself if it has a folder, else the first on
/// the search path.
pub(crate) fn locate(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_path_buf());
    }
    let search = std::env::var_os("PATH")?;
    std::env::split_paths(&search).map(|folder| folder.join(program)).find(|file| file.is_file())
}
