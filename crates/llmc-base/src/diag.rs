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
    /// Line of the first byte, from 1, where the text was at hand.
    #[serde(default)]
    pub line: Option<usize>,
    /// Column of the first byte in characters, from 1, where the text was at hand.
    #[serde(default)]
    pub column: Option<usize>,
}

impl Span {
    /// A span of `start..end` in `file`, whose line and column are not known yet.
    pub fn new(file: impl Into<String>, start: usize, end: usize) -> Self {
        Span { file: file.into(), start, end, line: None, column: None }
    }

    /// The text of the span's file where the name is the text: a command-line argument such as
    /// `--set training.lr=3e-4` stands for itself, and offsets count from its first dash.
    pub fn argument(&self) -> Option<&str> {
        Some(self.file.as_str()).filter(|file| file.starts_with("--set "))
    }

    /// Fills in line and column from the text of the file.
    pub fn locate(&mut self, text: &str) {
        let (line, column) = self.line_column(text);
        (self.line, self.column) = (Some(line), Some(column));
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
    /// Path of the spec field that it is about, e.g. `dataset.paths`, where it is about one.
    #[serde(default)]
    pub field: Option<Box<str>>,
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
            field: None,
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

    /// Names the spec field that it is about.
    pub fn field(mut self, path: impl Into<Box<str>>) -> Self {
        self.field = Some(path.into());
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
            write!(f, " (in {}", label.span.file)?;
            if let (Some(line), Some(column)) = (label.span.line, label.span.column) {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ")")?;
        }
        if let Some(help) = &self.help {
            write!(f, "; help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// The candidate nearest to `wanted` by edit distance, if it is near enough to
/// be a likely slip (at most a third of the longer length, at least 1). Upper and
/// lower case are alike.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let n_wanted = wanted.chars().count();
    let mut folded = None;
    candidates
        .into_iter()
        .filter_map(|c| {
            let n = c.chars().count();
            let limit = (n_wanted.max(n) / 3).max(1);
            // Every character too many or too few is one edit; long texts end here.
            if n_wanted.abs_diff(n) > limit {
                return None;
            }
            let wanted = folded.get_or_insert_with(|| wanted.to_lowercase());
            let distance = edit_distance(wanted, &c.to_lowercase());
            (distance <= limit).then_some((distance, c))
        })
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
    fn nearest_is_blind_to_case_and_quick_on_long_texts() {
        assert_eq!(nearest("SwiGLU", ["gelu", "swiglu"]), Some("swiglu"));
        assert_eq!(nearest("KK", ["K", "A"]), Some("K"));
        let long = "x".repeat(4 << 20);
        assert_eq!(nearest(&long, ["hidden_size", "x"]), None);
    }

    #[test]
    fn a_place_is_told_in_one_line_and_in_json() {
        let mut span = Span::new("s.toml", 6, 7);
        span.locate("a = 1\nb = 2\n");
        let d = Diagnostic::error("spec::x", "wrong").at(span, "").field("model.b");
        assert_eq!(d.to_string(), "spec::x: wrong (in s.toml:2:1)");
        let json = serde_json::to_value(&d).unwrap();
        assert_eq!(json["labels"][0]["span"]["line"], 2);
        assert_eq!(json["labels"][0]["span"]["column"], 1);
        assert_eq!(json["field"], "model.b");
        // A `Result` with a diagnostic stays small.
        assert!(size_of::<Diagnostic>() < 128);
        let old = r#"{"file": "f", "start": 0, "end": 1}"#;
        assert_eq!(serde_json::from_str::<Span>(old).unwrap(), Span::new("f", 0, 1));
    }

    #[test]
    fn line_and_column_count_characters() {
        let text = "a = 1\nµ = x\n";
        let start = text.find('x').unwrap();
        assert_eq!(Span::new("f", start, start + 1).line_column(text), (2, 5));
    }
}
