//! Documents one by one: cut, checked, counted, kept or left out, and at last split.

use super::records::{MaskedText, Record, Render, records};
use super::{
    Dataset, DatasetConfig, Document, Duplicate, Format, InvalidFile, InvalidUtf8, Ledger, Place,
    SourceEntry, Split, Totals,
};
use crate::fast_hash::FastMap;
use crate::random::first_u64;
use llmc_base::{CanonicalHasher, Diagnostic, Hash, Span};
use std::collections::BTreeMap;

/// Formats whose bytes are not the text.
const OTHER_FORMATS: [&str; 9] =
    ["jsonl", "json.gz", "parquet", "arrow", "gz", "zst", "xz", "bz2", "zip"];

/// Documents and their account so far.
#[derive(Default)]
pub struct Builder {
    documents: Vec<Document>,
    sources: Vec<SourceEntry>,
    duplicates: Vec<Duplicate>,
    invalid: Vec<InvalidFile>,
    first_by_hash: FastMap<[u8; 32], usize>,
}

impl Builder {
    /// Adds the documents of one file.
    pub fn add_file(
        &mut self,
        config: &DatasetConfig,
        path: &str,
        bytes: Vec<u8>,
        render: Option<Render<'_>>,
        found: &mut Vec<Diagnostic>,
    ) {
        let is_lines = config.format == Format::Jsonl;
        let mut other = OTHER_FORMATS.iter().filter(|f| path.ends_with(&format!(".{f}")));
        if let Some(format) = other.find(|f| !(is_lines && **f == "jsonl")) {
            found.push(not_supported(path, format));
            return;
        }
        let n_bytes = bytes.len() as u64;
        self.sources.push(SourceEntry {
            source: path.to_string(),
            hash: Some(Hash::of_bytes(&bytes)),
            bytes: n_bytes,
            ..SourceEntry::default()
        });
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let offset = error.utf8_error().valid_up_to();
                let action = config.invalid_utf8;
                if action == InvalidUtf8::Error {
                    found.push(invalid_utf8(path, offset, error.as_bytes()[offset]));
                    return;
                }
                self.invalid.push(InvalidFile {
                    source: path.to_string(),
                    offset: offset as u64,
                    action: action.name().to_string(),
                });
                if action == InvalidUtf8::Skip {
                    return;
                }
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }
        };
        let records = match config.format {
            Format::Text => {
                vec![Record { text: MaskedText { text, cuts: Vec::new() }, is_rendered: false }]
            }
            Format::Jsonl => records(path, &text, config.trains_on_prompt, render, found),
        };
        let mut index = 0;
        for record in records {
            self.add_record(config, path, &mut index, record);
        }
    }

    /// Adds the documents of one record: one, or the pieces of a text that is too long.
    fn add_record(&mut self, config: &DatasetConfig, path: &str, index: &mut u64, record: Record) {
        let is_plain = record.text.cuts.is_empty() && !record.is_rendered;
        let words = record.text.text.split_whitespace().count() as u64;
        match config.max_length {
            Some(max) if is_plain => {
                for (piece, words) in pieces(&record.text.text, max) {
                    let text = MaskedText { text: piece.to_string(), cuts: Vec::new() };
                    let piece = Record { text, is_rendered: false };
                    self.add_document(config, path, *index, piece, words);
                    *index += 1;
                }
            }
            // A piece of it would be an answer without its question.
            Some(max) if words > max => {
                let entry = self.sources.last_mut();
                entry.expect("a source is entered before its documents").too_long += 1;
                *index += 1;
            }
            _ => {
                self.add_document(config, path, *index, record, words);
                *index += 1;
            }
        }
    }

    /// Adds a document of the last source unless it is empty, too short or a duplicate.
    fn add_document(
        &mut self,
        config: &DatasetConfig,
        path: &str,
        index: u64,
        record: Record,
        words: u64,
    ) {
        let entry = self.sources.last_mut().expect("a source is entered before its documents");
        if record.text.parts().all(|(part, counts)| !counts || part.trim().is_empty()) {
            entry.empty += 1;
            return;
        }
        if words < config.min_length {
            entry.too_short += 1;
            return;
        }
        let hash = hash_of(&record);
        if config.deduplicate {
            let first = *self.first_by_hash.entry(hash.0).or_insert(self.documents.len());
            if let Some(kept) = self.documents.get(first) {
                entry.duplicates += 1;
                self.duplicates.push(Duplicate {
                    dropped: Place { source: path.to_string(), index },
                    kept: Place { source: kept.source.clone(), index: kept.index },
                    hash,
                });
                return;
            }
        }
        entry.documents += 1;
        entry.words += words;
        let Record { text: MaskedText { text, cuts }, is_rendered } = record;
        let (source, split) = (path.to_string(), Split::Train);
        let document = Document { source, index, hash, words, split, text, cuts, is_rendered };
        self.documents.push(document);
    }

    /// Keeps documents in the order of a keyed hash until `target` words are there.
    pub fn keep_until(&mut self, target: u64, seed: u64) {
        let mut order: Vec<(u64, usize)> = (0..)
            .zip(&self.documents)
            .map(|(i, document)| (draw("llmc.dataset.sample.v1", seed, &document.hash), i))
            .collect();
        order.sort_unstable();
        let mut words = 0;
        let mut kept = vec![false; self.documents.len()];
        for (_, i) in order {
            if words >= target {
                break;
            }
            kept[i] = true;
            words += self.documents[i].words;
        }
        let entries: BTreeMap<String, usize> =
            self.sources.iter().map(|entry| entry.source.clone()).zip(0..).collect();
        for (document, kept) in self.documents.iter().zip(&kept) {
            if !kept {
                let entry = &mut self.sources[entries[&document.source]];
                entry.documents -= 1;
                entry.words -= document.words;
                entry.over_target += 1;
            }
        }
        let mut kept = kept.into_iter();
        self.documents.retain(|_| kept.next().unwrap_or(false));
    }

    /// Adds the generated corpus as one source, after all files.
    pub fn add_generated(&mut self, domain: &str, texts: Vec<String>) {
        let source = format!("{domain}:en");
        let mut entry = SourceEntry { source: source.clone(), ..SourceEntry::default() };
        for (index, text) in (0..).zip(texts) {
            let words = text.split_whitespace().count() as u64;
            entry.documents += 1;
            entry.words += words;
            entry.bytes += text.len() as u64;
            let hash = Hash::of_bytes(text.as_bytes());
            self.documents.push(Document {
                source: source.clone(),
                index,
                hash,
                words,
                split: Split::Train,
                text,
                cuts: Vec::new(),
                is_rendered: false,
            });
        }
        self.sources.push(entry);
    }

    /// Splits the documents and closes the account; `found` are the warnings so far.
    pub fn finish(
        mut self,
        config: &DatasetConfig,
        mut found: Vec<Diagnostic>,
    ) -> Result<(Dataset, Vec<Diagnostic>), Vec<Diagnostic>> {
        if self.documents.is_empty() {
            let sum = |of: fn(&SourceEntry) -> u64| self.sources.iter().map(of).sum::<u64>();
            found.push(
                Diagnostic::error(
                    "dataset::empty",
                    format!(
                        "dataset `{}` has no documents: of {} files read, {} documents are empty, {} too short, {} too long, {} files not UTF-8",
                        config.name,
                        self.sources.len(),
                        sum(|entry| entry.empty),
                        sum(|entry| entry.too_short),
                        sum(|entry| entry.too_long),
                        self.invalid.len()
                    ),
                )
                .help("check `paths`, the extensions and `min_length`")
                .field("dataset.paths"),
            );
            return Err(found);
        }
        split(&mut self.documents, config.validation_fraction, config.seed);
        let (mut train, mut validation) = (Totals::default(), Totals::default());
        for document in &self.documents {
            let totals = match document.split {
                Split::Train => &mut train,
                Split::Validation => &mut validation,
            };
            totals.documents += 1;
            totals.words += document.words;
            totals.bytes += document.text.len() as u64;
        }
        if config.validation_fraction > 0.0 && validation.documents == 0 {
            found.push(
                Diagnostic::warning(
                    "dataset::no_validation",
                    format!("dataset `{}` has one document, so nothing is held out", config.name),
                )
                .help("set `max_length` to cut it into several documents")
                .field("dataset.validation_fraction"),
            );
        }
        if let Some(target) = config.target_tokens
            && train.words + validation.words < target
        {
            found.push(
                Diagnostic::warning(
                    "dataset::below_target",
                    format!(
                        "dataset `{}` has {} words, `target_tokens` is {target}",
                        config.name,
                        train.words + validation.words
                    ),
                )
                .help("add text to `paths`, or lower `target_tokens`")
                .field("dataset.target_tokens"),
            );
        }
        let recipe_hash =
            config.recipe_hash(self.sources.iter().filter_map(|entry| entry.hash.as_ref()));
        let content_hash = content_hash(&self.documents);
        let ledger = Ledger {
            name: config.name.clone(),
            recipe_hash,
            content_hash,
            train,
            validation,
            sources: self.sources,
            duplicates: self.duplicates,
            invalid_utf8: self.invalid,
        };
        Ok((Dataset { documents: self.documents, ledger, recipe_hash, content_hash }, found))
    }
}

/// Names a record: its text, and what of it is learned where that is not all.
fn hash_of(record: &Record) -> Hash {
    let MaskedText { text, cuts } = &record.text;
    if cuts.is_empty() && !record.is_rendered {
        return Hash::of_bytes(text.as_bytes());
    }
    let mut hasher = CanonicalHasher::new("llmc.document.masked.v1");
    hasher.bool(record.is_rendered).str(text).seq(cuts.len());
    for cut in cuts {
        hasher.int(*cut as i128);
    }
    hasher.finish()
}

fn not_supported(path: &str, format: &str) -> Diagnostic {
    let help = match format {
        "jsonl" => "set `format = \"jsonl\"` in [dataset] to read a record from each line",
        _ => "give plain text or JSON lines, or leave these out with `extensions` or `exclude`",
    };
    let message = format!("`{path}`: files of format `{format}` are not supported here");
    Diagnostic::error("dataset::format_not_supported", message).help(help).field("dataset.paths")
}

fn invalid_utf8(path: &str, offset: usize, byte: u8) -> Diagnostic {
    Diagnostic::error(
        "dataset::invalid_utf8",
        format!("file `{path}` is not UTF-8: byte 0x{byte:02x} at offset {offset}, record 0"),
    )
    .at(Span::new(path, offset, offset + 1), "not UTF-8 from here")
    .help("convert the file, or set `invalid_utf8` to `skip` or `replace`")
    .field("dataset.invalid_utf8")
}

/// Cuts a text after every `max` words and the white space behind them. The
/// pieces together are the text; each comes with its number of words.
pub fn pieces(text: &str, max: u64) -> Vec<(&str, u64)> {
    let mut pieces = Vec::new();
    let (mut start, mut words, mut in_word) = (0, 0, false);
    for (at, c) in text.char_indices() {
        let is_word = !c.is_whitespace();
        if is_word && !in_word {
            if words == max {
                pieces.push((&text[start..at], words));
                (start, words) = (at, 0);
            }
            words += 1;
        }
        in_word = is_word;
    }
    pieces.push((&text[start..], words));
    pieces
}

/// A number for a content hash, keyed by purpose and seed.
fn draw(purpose: &str, seed: u64, hash: &Hash) -> u64 {
    first_u64(&CanonicalHasher::new(purpose).int(seed.into()).hash(hash).finish())
}

/// Gives every document its side. Where all would fall on one side, the one with
/// the lowest (or highest) draw moves to the other.
///
/// A draw is a number below 2⁶⁴, held out below `fraction` · 2⁶⁴. The product is exact,
/// so a share is never rounded, however small it is.
fn split(documents: &mut [Document], fraction: f64, seed: u64) {
    if fraction <= 0.0 || documents.len() < 2 {
        return;
    }
    let draws: Vec<u64> = documents
        .iter()
        .map(|document| draw("llmc.dataset.split.v1", seed, &document.hash))
        .collect();
    let threshold = (fraction * 2f64.powi(64)).ceil() as u128;
    let mut n_validation = 0;
    for (document, draw) in documents.iter_mut().zip(&draws) {
        if u128::from(*draw) < threshold {
            document.split = Split::Validation;
            n_validation += 1;
        }
    }
    let by_draw = || (0..draws.len()).map(|i| (draws[i], i));
    if n_validation == 0
        && let Some((_, lowest)) = by_draw().min()
    {
        documents[lowest].split = Split::Validation;
    } else if n_validation == documents.len()
        && let Some((_, highest)) = by_draw().max()
    {
        documents[highest].split = Split::Train;
    }
}

fn content_hash(documents: &[Document]) -> Hash {
    let mut hasher = CanonicalHasher::new("llmc.dataset.content.v1");
    hasher.seq(documents.len());
    for document in documents {
        hasher.bool(document.split == Split::Validation).hash(&document.hash);
    }
    hasher.finish()
}
