//! The text form of modules: printer and parser.
//!
//! `parse(print(m)) == m` for every module that the verifier accepts, with names, ids, origins,
//! symbol facts and roles. Runs of calls (the layers of a model) are folded into `repeat`, so
//! that a model of 126 layers fits on a page. The grammar is documented in `docs/ir.md`.
//!
//! The parser reports everything it can find: it recovers at each statement, infers every result
//! type anew and compares it with the written one. It never panics and holds to the limits in
//! [`limits`], whatever the text.

mod cursor;
pub(crate) mod fold;
mod lexer;
pub mod limits;
mod lower;
pub(crate) mod names;
mod parse_parts;
mod parser;
mod print;
mod resolve;
mod source_map;
pub(crate) mod sugar;
pub(crate) mod syntax;

#[cfg(test)]
mod tests;

pub use print::{PrintOptions, print, print_function, print_with};
pub use source_map::SourceMap;

use crate::module::Module;
use llmc_base::{Diagnostic, Span};
use std::ops::Range;

/// Parses a module from a text without a file name.
///
/// Errors: every diagnostic that was found, with codes as listed in `docs/ir.md`.
pub fn parse(text: &str) -> Result<Module, Vec<Diagnostic>> {
    parse_file("", text).map(|(module, _)| module)
}

/// Parses a module from the text of a named file, with the places of all its parts.
///
/// Errors: as [`parse`].
pub fn parse_file(file: &str, text: &str) -> Result<(Module, SourceMap), Vec<Diagnostic>> {
    let mut report = Report { file: file.to_string(), diagnostics: Vec::new(), is_full: false };
    if text.len() > limits::MAX_TEXT_BYTES {
        let message =
            format!("the text has {} bytes, more than {}", text.len(), limits::MAX_TEXT_BYTES);
        report.error("ir::limit", 0..0, message);
        return Err(report.diagnostics);
    }
    let tokens = lexer::tokens(text, &mut report);
    let Some(tree) = parser::module(tokens, &mut report) else { return Err(report.diagnostics) };
    let (module, source_map) = lower::lower(&tree, &mut report);
    match report.diagnostics.is_empty() {
        true => Ok((module, source_map)),
        false => Err(report.diagnostics),
    }
}

/// Parses and verifies the text of a named file; the verifier's findings have their places.
///
/// Errors: those of [`parse`]; if there are none, those of [`crate::verify::verify`].
pub fn parse_and_verify(file: &str, text: &str) -> Result<Module, Vec<Diagnostic>> {
    let (module, source_map) = parse_file(file, text)?;
    let diagnostics: Vec<Diagnostic> = crate::verify::findings(&module)
        .into_iter()
        .map(|finding| source_map.locate(finding))
        .collect();
    if diagnostics.is_empty() { Ok(module) } else { Err(diagnostics) }
}

/// Diagnostics of one text.
#[derive(Default)]
struct Report {
    file: String,
    diagnostics: Vec<Diagnostic>,
    is_full: bool,
}

impl Report {
    /// More than this is of no use to anyone.
    const MAX: usize = 200;

    fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    fn span(&self, place: Range<usize>) -> Span {
        Span::new(self.file.clone(), place.start, place.end)
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < Self::MAX {
            self.diagnostics.push(diagnostic);
        } else if !self.is_full {
            self.is_full = true;
            self.diagnostics.push(Diagnostic::error(
                "ir::limit",
                format!("more than {} errors; the rest is not listed", Self::MAX),
            ));
        }
    }

    fn error(&mut self, code: &str, place: Range<usize>, message: String) {
        self.error_help(code, place, message, None);
    }

    fn error_help(
        &mut self,
        code: &str,
        place: Range<usize>,
        message: String,
        help: Option<String>,
    ) {
        let mut diagnostic = Diagnostic::error(code, message).at(self.span(place), "");
        diagnostic.help = help;
        self.push(diagnostic);
    }
}
