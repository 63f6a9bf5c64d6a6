//! Datasets: from files, or a generated corpus, to documents in two splits.
//!
//! A file is one document, or with JSON lines each record of it is one; with `max_length`, each run
//! of that many whitespace-separated words of it is one. The steps:
//!
//! 1. read the files in the order of their paths; check UTF-8;
//! 2. cut into documents; leave out the empty, the too short, and of equal
//!    documents all but the one with the smallest (source, index);
//! 3. if there is a `target_tokens`, keep documents in the order of a keyed hash
//!    of their content until that many words are there;
//! 4. draw each document's split from a keyed hash of its content.
//!
//! Steps 3 and 4 look at the content only, so a new file moves no other document
//! to the other split. Lengths count whitespace-separated words, because there
//! is no tokenizer yet. Near duplicates, languages and quality are not judged
//! here.

mod builder;
mod config;
mod ledger;
mod records;
mod synthetic;

#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod tests;

pub use config::{DatasetConfig, Format, InvalidUtf8};
pub use ledger::{Duplicate, InvalidFile, Ledger, Place, SourceEntry, Totals};
pub use records::{ASSISTANT, MaskedText, Message, Render};
pub use synthetic::DEFAULT_MAX_LENGTH;

use crate::source::{Source, has_open_set, is_glob};
use builder::Builder;
use llmc_base::{Diagnostic, Hash};
use std::collections::BTreeSet;

/// Which side of the split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// Trained on.
    Train,
    /// Held out.
    Validation,
}

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Path of its file, or `synthetic:en`.
    pub source: String,
    /// Its index in the file.
    pub index: u64,
    /// Hash of its UTF-8 bytes, and of its cuts if it has any.
    pub hash: Hash,
    /// Whitespace-separated words.
    pub words: u64,
    /// Its side of the split.
    pub split: Split,
    /// Its text; never empty.
    pub text: String,
    /// Bytes at which the parts end that are read and learned in turn, the first one read; none if
    /// all of it is learned.
    pub cuts: Vec<usize>,
    /// Whether a chat template wrote it, with all special tokens that belong there.
    pub is_rendered: bool,
}

impl Document {
    /// The parts in order, and whether each counts in the loss. Empty ones are left out.
    pub fn parts(&self) -> impl Iterator<Item = (&str, bool)> {
        records::parts(&self.text, &self.cuts)
    }

    /// Bytes of the parts that count in the loss.
    pub fn learned_bytes(&self) -> u64 {
        self.parts().filter(|(_, counts)| *counts).map(|(part, _)| part.len() as u64).sum()
    }
}

/// Documents in the order of (source, index), and the account of them.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// All documents.
    pub documents: Vec<Document>,
    /// What came in and what was left out.
    pub ledger: Ledger,
    /// The name: hash of the content of the files in order and of everything in
    /// the config that acts on it. Paths do not enter, so a folder may move.
    pub recipe_hash: Hash,
    /// The proof: hash of every document's hash and split, in order.
    pub content_hash: Hash,
}

impl Dataset {
    /// The documents of one split, in order.
    pub fn split(&self, split: Split) -> impl Iterator<Item = &Document> {
        self.documents.iter().filter(move |document| document.split == split)
    }

    /// The texts of one split, in order.
    pub fn texts(&self, split: Split) -> Vec<&str> {
        self.split(split).map(|document| document.text.as_str()).collect()
    }
}

/// Builds the dataset of `config` from the files of `source`. The second part
/// are warnings.
///
/// Errors, all that can be found: what `source` reports, `dataset::no_source`,
/// `dataset::no_files`, `dataset::bad_glob`, `dataset::format_not_supported`,
/// `dataset::invalid_utf8` (file and byte), `dataset::empty`,
/// `dataset::domain_not_supported`, `dataset::language_not_supported`,
/// `dataset::target_missing`, `dataset::length_range`,
/// `dataset::validation_range`, `dataset::synthetic_exhausted`.
pub fn build(
    config: &DatasetConfig,
    source: &dyn Source,
) -> Result<(Dataset, Vec<Diagnostic>), Vec<Diagnostic>> {
    build_with(config, source, None)
}

/// The same with what makes conversations into text.
///
/// Errors: those of [`build`], `dataset::record` and `dataset::no_chat_template` with file and line,
/// and those of `render`.
pub fn build_with(
    config: &DatasetConfig,
    source: &dyn Source,
    render: Option<Render<'_>>,
) -> Result<(Dataset, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut found = config.check();
    let mut builder = Builder::default();
    for path in files(config, source, &mut found) {
        match source.read(&path) {
            Ok(bytes) => builder.add_file(config, &path, bytes, render, &mut found),
            Err(diagnostic) => found.push(diagnostic.field("dataset.paths")),
        }
    }
    if found.iter().any(Diagnostic::is_error) {
        return Err(found);
    }
    if let Some(target) = config.target_tokens
        && !config.paths.is_empty()
    {
        builder.keep_until(target, config.seed);
    }
    for domain in &config.domains {
        match synthetic::generate(config, config.target_tokens.unwrap_or_default()) {
            Ok(texts) => builder.add_generated(domain, texts),
            Err(diagnostic) => found.push(diagnostic),
        }
    }
    if found.iter().any(Diagnostic::is_error) {
        return Err(found);
    }
    builder.finish(config, found)
}

/// The paths of all files to read, sorted, each once.
fn files(
    config: &DatasetConfig,
    source: &dyn Source,
    found: &mut Vec<Diagnostic>,
) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for pattern in &config.paths {
        let listed = match source.list(pattern) {
            Ok(listed) => listed,
            Err(diagnostic) => {
                found.push(diagnostic.field("dataset.paths"));
                continue;
            }
        };
        let n_listed = listed.len();
        let before = paths.len();
        paths.extend(listed.into_iter().filter(|path| config.takes(path)));
        if n_listed == 0 {
            found.push(nothing_found(pattern).field("dataset.paths"));
        } else if paths.len() == before {
            found.push(
                Diagnostic::warning(
                    "dataset::all_excluded",
                    format!("none of the {n_listed} files of `{pattern}` is added by it: they are filtered out or named before"),
                )
                .help("check `extensions` and `exclude`")
                .field("dataset.paths"),
            );
        }
    }
    paths
}

/// The complaint about a pattern that names no file.
fn nothing_found(pattern: &str) -> Diagnostic {
    if has_open_set(pattern) {
        let message = format!("`{pattern}` is a bad glob: a `[` in it has no `]`");
        return Diagnostic::error("dataset::bad_glob", message)
            .help("close the set, as in `[a-z]*.txt`; a bracket itself is `[[]`");
    }
    let message = format!("`{pattern}` names no file");
    let help = match is_glob(pattern) {
        true => "check the folder in front of the glob; `*` stays in one folder, `**` goes below",
        false => "check the path; a relative one starts at the current folder",
    };
    Diagnostic::error("dataset::no_files", message).help(help)
}
