//! Where results go: standard output for results, standard error for what is said meanwhile.
//!
//! A reader that goes away (`llmc … | head`) is not an error: what follows is dropped.

use crate::diagnostics;
use llmc_base::Diagnostic;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{BufWriter, IsTerminal, Stdout, Write, stdout};

/// Both streams, and how to write on them.
pub struct Output {
    /// One JSON document, or one per line, instead of text.
    pub is_json: bool,
    /// Only results and errors.
    pub is_quiet: bool,
    /// With JSON: one event per line, failures included.
    pub is_stream: bool,
    out: BufWriter<Stdout>,
    is_closed: bool,
}

/// Whether a stream may have colours: a terminal that knows them, unless `NO_COLOR` is set to anything
/// but nothing. Source: <https://no-color.org>.
fn wants_color(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

/// The same for a stream of this process.
fn has_color(is_terminal: bool) -> bool {
    let (no_color, term) = (std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
    wants_color(is_terminal, no_color.as_deref(), term.as_deref())
}

impl Output {
    /// The streams of this process.
    pub fn new(is_json: bool, is_quiet: bool, is_stream: bool) -> Self {
        Output { is_json, is_quiet, is_stream, out: BufWriter::new(stdout()), is_closed: false }
    }

    /// Whether results may have colours.
    pub fn has_color(&self) -> bool {
        has_color(stdout().is_terminal())
    }

    /// Whether what is said meanwhile may have colours.
    pub fn has_color_on_stderr(&self) -> bool {
        has_color(std::io::stderr().is_terminal())
    }

    /// Writes a piece of the result. Returns false once nobody reads.
    pub fn text(&mut self, text: &str) -> bool {
        self.is_closed = self.is_closed || self.out.write_all(text.as_bytes()).is_err();
        !self.is_closed
    }

    /// Writes a line of the result.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.text(line.as_ref());
        self.text("\n");
    }

    /// Hands over what was written so far. Returns false once nobody reads.
    pub fn flush(&mut self) -> bool {
        self.is_closed = self.is_closed || self.out.flush().is_err();
        !self.is_closed
    }

    /// Writes the result as one JSON document.
    pub fn json(&mut self, value: &Value) {
        self.line(format!("{value:#}"));
    }

    /// Writes one JSON document on one line, at once.
    pub fn json_line(&mut self, value: &Value) {
        self.line(value.to_string());
        self.flush();
    }

    /// Bold, where colours are.
    pub fn bold(&self, text: &str) -> String {
        if self.has_color() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Faint, where colours are.
    pub fn dim(&self, text: &str) -> String {
        if self.has_color() { format!("\x1b[2m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Says something that is not a result, after the result so far.
    pub fn note(&mut self, line: &str) {
        if !self.is_json && !self.is_quiet {
            self.flush();
            say(line);
        }
    }

    /// Shows warnings.
    pub fn warnings(&self, found: &[Diagnostic]) {
        if !self.is_quiet {
            found
                .iter()
                .for_each(|d| say(diagnostics::render(d, self.has_color_on_stderr()).trim_end()));
        }
    }

    /// Shows why there is no result. Where there is one event per line it is the last of them.
    pub fn failure(&mut self, found: &[Diagnostic]) {
        if self.is_json && self.is_stream {
            return self.json_line(&json!({ "event": "error", "diagnostics": found }));
        }
        if self.is_json {
            return self.json(&json!({ "diagnostics": found }));
        }
        self.flush();
        for (i, d) in found.iter().enumerate() {
            if i > 0 {
                say("");
            }
            say(diagnostics::render(d, self.has_color_on_stderr()).trim_end());
        }
        if found.len() > 1 {
            say(&format!("\n{} problems", found.len()));
        }
    }
}

/// Writes a line to standard error; a closed one is no reason to stop.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_on_a_terminal_that_wants_them() {
        let check = |is_terminal, no_color: Option<&str>, term: Option<&str>, expected: bool| {
            let found = wants_color(is_terminal, no_color.map(OsStr::new), term.map(OsStr::new));
            assert_eq!(found, expected, "{is_terminal} {no_color:?} {term:?}");
        };
        check(true, None, Some("xterm-256color"), true);
        check(true, None, None, true);
        check(true, Some(""), Some("xterm"), true);
        check(true, Some("1"), Some("xterm"), false);
        check(true, Some("0"), Some("xterm"), false);
        check(true, None, Some("dumb"), false);
        check(false, None, Some("xterm"), false);
    }
}
