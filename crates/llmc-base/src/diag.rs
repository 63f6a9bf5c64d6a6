//! The one diagnostic type for everything that points into a user's file.
//!
//! Stages return `(T, Vec<Diagnostic>)` or `Result<T, Vec<Diagnostic>>`, and
//! report everything they can find. Only `llmc-cli` renders.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A byte range in a named file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Span {
    /// Name of the file as the user gave it; empty when the text has no file.
    pub file: String,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// A span of `start..end` in `file`.
    pub fn new(file: impl Into<String>, start: usize, end: usize) -> Self {
        Span { file: file.into(), start, end }
    }

    /// Line and column, both from 1, of the first byte; columns count characters.
    pub fn line_column(&self, text: &str) -> (usize, usize) {
        let mut start = self.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        (line, column)
    }
}

/// A span with a short text under its caret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there, in a few words; may be empty.
    pub text: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look; nothing stops.
    Note,
    /// Probably not meant; nothing stops.
    Warning,
    /// The stage has no result.
    Error,
}

/// One finding: a stable code, a message with the values, where, and what to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Stable code, `area::name`, e.g. `spec::unknown_key`.
    pub code: String,
    /// Severity.
    pub severity: Severity,
    /// Lower case, no full stop, names and values in back-ticks.
    pub message: String,
    /// The first label is the primary place.
    pub labels: Vec<Label>,
    /// What to try next.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without a place yet.
    pub fn error(code: impl Into<String>, message: impl Into<String>) -> Self {
        Diagnostic {
            code: code.into(),
            severity: Severity::Error,
            message: message.into(),
            labels: Vec::new(),
            help: None,
        }
    }

    /// A warning without a place yet.
    pub fn warning(code: impl Into<String>, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// A note without a place yet.
    pub fn note(code: impl Into<String>, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Note, ..Self::error(code, message) }
    }

    /// Adds a labelled place.
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Sets what to try.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Whether the stage that reported this has no result.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// One line, for logs and for `Error` sources: `code: message (help: …)`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        if let Some(label) = self.labels.first()
            && !label.span.file.is_empty()
        {
            write!(f, " (in {})", label.span.file)?;
        }
        if let Some(help) = &self.help {
            write!(f, "; help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// The candidate nearest to `wanted` by edit distance, if it is near enough to
/// be a likely slip (at most a third of the longer length, at least 1).
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (edit_distance(wanted, c), c))
        .filter(|(d, c)| *d <= (wanted.len().max(c.len()) / 3).max(1))
        .min_by(|a, b| a.cmp(b))
        .map(|(_, c)| c)
}

/// Damerau–Levenshtein distance (optimal string alignment) in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut d = vec![0usize; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            d[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let substitution = d[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best =
                    substitution.min(d[(i - 1) * width + j] + 1).min(d[i * width + j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(d[(i - 2) * width + j - 2] + 1);
                }
                best
            };
        }
    }
    d[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips_and_refuses_strangers() {
        let keys = ["hidden_size", "num_layers", "vocab_size"];
        assert_eq!(nearest("hiden_size", keys), Some("hidden_size"));
        assert_eq!(nearest("num_layer", keys), Some("num_layers"));
        assert_eq!(nearest("vocba_size", keys), Some("vocab_size"));
        assert_eq!(nearest("colour", keys), None);
    }

    #[test]
    fn line_and_column_count_characters() {
        let text = "a = 1\nµ = x\n";
        let start = text.find('x').unwrap();
        assert_eq!(Span::new("f", start, start + 1).line_column(text), (2, 5));
    }
}
