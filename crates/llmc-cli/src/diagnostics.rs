//! Diagnostics as people read them: code, message, the place with a caret, and what to try.

use llmc_base::{Diagnostic, Label, Severity, Span};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use std::fmt;

/// Columns of a rendering; help beyond it is wrapped.
const WIDTH: usize = 100;

/// A diagnostic with the text that it points into.
#[derive(Debug)]
struct Report<'a> {
    diagnostic: &'a Diagnostic,
    source: Option<NamedSource<String>>,
    labels: Vec<&'a Label>,
    help: Option<String>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.diagnostic.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Note => miette::Severity::Advice,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|s| s as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source.as_ref()?;
        Some(Box::new(self.labels.iter().enumerate().map(|(i, label)| {
            let span = label.span.start..label.span.end.max(label.span.start);
            let text = Some(label.text.clone()).filter(|t| !t.is_empty());
            match i {
                0 => LabeledSpan::new_primary_with_span(text, span),
                _ => LabeledSpan::new_with_span(text, span),
            }
        })))
    }
}

/// The text that a place points into: a command-line argument is its own, a file is read again.
/// Bytes that are not UTF-8 are shown as `?`, one each, so that offsets stay.
fn source_of(span: &Span) -> Option<String> {
    if let Some(argument) = span.argument() {
        return Some(argument.to_string());
    }
    let bytes = std::fs::read(&span.file).ok()?;
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|_| text.push('?'));
    }
    Some(text)
}

/// The text for people. The source is read again from the file that the first label names; a
/// place without a readable file is told in words, and so is a field without any place.
pub fn render(diagnostic: &Diagnostic, has_color: bool) -> String {
    let first = diagnostic.labels.first().map(|l| l.span.file.as_str());
    let text = diagnostic.labels.first().and_then(|l| source_of(&l.span));
    let is_shown = |label: &&Label| {
        text.as_ref()
            .is_some_and(|t| Some(label.span.file.as_str()) == first && label.span.end <= t.len())
    };
    let name = |file: &str| match Span::new(file, 0, 0).argument() {
        Some(_) => "command line".to_string(),
        None => file.to_string(),
    };
    let labels: Vec<&Label> = diagnostic.labels.iter().filter(is_shown).collect();
    let mut help: Vec<String> = diagnostic.help.iter().cloned().collect();
    for label in diagnostic.labels.iter().filter(|l| !is_shown(l)) {
        let file = Some(label.span.file.as_str()).filter(|f| !f.is_empty());
        let place = match (label.span.line, label.span.column) {
            (Some(line), Some(column)) if label.span.argument().is_none() => {
                format!(", line {line}, column {column}")
            }
            _ => String::new(),
        };
        help.push(match (file, label.text.as_str()) {
            (Some(file), "") => format!("in `{file}`{place}"),
            (Some(file), text) => format!("in `{file}`{place}: {text}"),
            (None, text) => text.to_string(),
        });
    }
    if diagnostic.labels.is_empty()
        && let Some(field) = &diagnostic.field
    {
        help.push(format!("the field of the spec is `{field}`"));
    }
    help.retain(|h| !h.is_empty());
    let source = match (labels.is_empty(), first, text) {
        (false, Some(file), Some(mut text)) => {
            // A caret behind the last character needs a line end to stand on.
            if !text.ends_with('\n') {
                text.push('\n');
            }
            Some(NamedSource::new(name(file), text))
        }
        _ => None,
    };
    let help = Some(help.join("\n")).filter(|h| !h.is_empty());
    let report = Report { diagnostic, source, labels, help };
    let theme =
        if has_color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(WIDTH)
        .with_links(false)
        .with_context_lines(1);
    let mut out = String::new();
    match handler.render_report(&mut out, &report) {
        Ok(()) => out,
        Err(_) => diagnostic.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_argument_is_shown_with_a_caret() {
        let d = Diagnostic::error("spec::unknown_key", "there is no field `training.lrr`")
            .at(Span::new("--set training.lrr=1", 6, 18), "unknown")
            .help("did you mean `training.lr`?");
        let want = "\
   ╭─[command line:1:7]
 1 │ --set training.lrr=1
   ·       ──────┬─────
   ·             ╰── unknown
   ╰────
  help: did you mean `training.lr`?
";
        let shown = render(&d, false);
        assert!(shown.ends_with(want), "{shown}");
    }

    #[test]
    fn the_end_of_an_argument_can_be_marked() {
        let d = Diagnostic::error("spec::syntax", "no value")
            .at(Span::new("--set training.lr=", 18, 18), "a value is missing");
        let shown = render(&d, false);
        assert!(shown.contains(" 1 │ --set training.lr=\n"), "{shown}");
        assert!(shown.contains("╰── a value is missing"), "{shown}");
    }

    #[test]
    fn a_second_place_elsewhere_is_told_in_words() {
        let mut there = Span::new("no-such-file.toml", 0, 1);
        there.locate("x");
        let d = Diagnostic::error("spec::conflict", "both")
            .at(Span::new("--set a=1", 6, 7), "here")
            .at(there, "there");
        let shown = render(&d, false);
        assert!(shown.contains("in `no-such-file.toml`, line 1, column 1: there"), "{shown}");
    }

    #[test]
    fn a_field_without_a_place_is_named() {
        let d = Diagnostic::error("dataset::no_files", "no file").field("dataset.paths");
        assert!(render(&d, false).contains("the field of the spec is `dataset.paths`"));
    }
}
