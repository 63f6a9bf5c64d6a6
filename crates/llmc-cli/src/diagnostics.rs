//! Diagnostics as people read them: code, message, the place with a caret, and what to try.

use llmc_base::{Diagnostic, Label, Severity};
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

/// The text for people. The source is read again from the file that the first label names; a
/// place without a readable file is told in words.
pub fn render(diagnostic: &Diagnostic, has_color: bool) -> String {
    let first = diagnostic.labels.first().map(|l| l.span.file.as_str());
    let text = first.and_then(|file| std::fs::read_to_string(file).ok());
    let is_shown = |label: &&Label| {
        text.as_ref()
            .is_some_and(|t| Some(label.span.file.as_str()) == first && label.span.end <= t.len())
    };
    let labels: Vec<&Label> = diagnostic.labels.iter().filter(is_shown).collect();
    let mut help: Vec<String> = diagnostic.help.iter().cloned().collect();
    for label in diagnostic.labels.iter().filter(|l| !is_shown(l)) {
        let file = Some(label.span.file.as_str()).filter(|f| !f.is_empty());
        help.push(match (file, label.text.as_str()) {
            (Some(file), "") => format!("in `{file}`"),
            (Some(file), text) => format!("in `{file}`: {text}"),
            (None, text) => text.to_string(),
        });
    }
    help.retain(|h| !h.is_empty());
    let source = match (labels.is_empty(), first, text) {
        (false, Some(file), Some(text)) => Some(NamedSource::new(file, text)),
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
