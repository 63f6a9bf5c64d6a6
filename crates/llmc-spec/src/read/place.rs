//! Where a written value stands, and how it was written.

use llmc_base::{Diagnostic, Span};
use std::ops::Range;

/// What comes before an argument in the name of its spans.
pub(super) const SET: &str = "--set ";

/// Where a value stands: in which text, and how far its spans are shifted.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Name and text; `None` for values without text.
    source: Option<(&'a str, &'a str)>,
    offset: usize,
}

impl<'a> Place<'a> {
    /// In a file; nowhere for `None`.
    pub fn file(source: Option<(&'a str, &'a str)>) -> Place<'a> {
        Place { source, offset: 0 }
    }

    /// In a `--set` argument, which is its own name and text, `offset` bytes in.
    pub fn argument(argument: &'a str, offset: usize) -> Place<'a> {
        Place { source: Some((argument, argument)), offset }
    }

    pub fn has_text(&self) -> bool {
        self.source.is_some()
    }

    fn range(&self, range: &Range<usize>) -> Range<usize> {
        range.start + self.offset..range.end + self.offset
    }

    pub fn span(&self, range: &Range<usize>) -> Option<Span> {
        let Range { start, end } = self.range(range);
        self.source.map(|(file, _)| Span::new(file, start, end))
    }

    /// The text there, as it was written.
    pub fn written(&self, range: &Range<usize>) -> Option<&'a str> {
        self.source?.1.get(self.range(range)).filter(|text| !text.is_empty())
    }

    pub fn label(&self, diagnostic: Diagnostic, range: &Range<usize>, text: &str) -> Diagnostic {
        match self.span(range) {
            Some(span) => diagnostic.at(span, text),
            None => diagnostic,
        }
    }
}
