//! Datasets: from files, or a generated corpus, to documents in two splits.
//!
//! A file is one document; with `max_length`, each run of that many
//! whitespace-separated words of it is one. The steps:
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

mod ledger;
mod synthetic;

#[cfg(test)]
mod tests;

pub use ledger::{Duplicate, InvalidFile, Ledger, Place, SourceEntry, Totals};
pub use synthetic::{DEFAULT_MAX_LENGTH, DEFAULT_MIN_LENGTH};

use crate::fast_hash::FastMap;
use crate::random::first_u64;
use crate::source::{Source, glob_matches};
use llmc_base::diag::nearest;
use llmc_base::{CanonicalHasher, Diagnostic, Hash, Span};
use std::collections::{BTreeMap, BTreeSet};

/// What to do with a file that is not UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InvalidUtf8 {
    /// Stop with the file and the byte.
    #[default]
    Error,
    /// Leave the file out; the ledger says so.
    Skip,
    /// Put U+FFFD for every maximal bad stretch; the ledger says so.
    Replace,
}

impl InvalidUtf8 {
    /// The name in specs: `error`, `skip`, `replace`.
    pub fn name(self) -> &'static str {
        match self {
            InvalidUtf8::Error => "error",
            InvalidUtf8::Skip => "skip",
            InvalidUtf8::Replace => "replace",
        }
    }

    /// The policy of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [InvalidUtf8::Error, InvalidUtf8::Skip, InvalidUtf8::Replace]
            .into_iter()
            .find(|policy| policy.name() == name)
    }
}

/// What was asked of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct DatasetConfig {
    /// For messages; does not enter the hash.
    pub name: String,
    /// Files, folders (with everything below) and globs.
    pub paths: Vec<String>,
    /// If not empty: only files with these extensions, `py` or `.py`.
    pub include_extensions: Vec<String>,
    /// Files with these extensions are left out.
    pub exclude_extensions: Vec<String>,
    /// Files whose path one of these globs matches are left out.
    pub exclude: Vec<String>,
    /// Generated corpora; only `synthetic` exists.
    pub domains: Vec<String>,
    /// Weight of each language; only `en` exists. It filters no files.
    pub languages: BTreeMap<String, f64>,
    /// Whitespace-separated words to reach. The generated corpus needs it; for
    /// files, `None` is all of them.
    pub target_tokens: Option<u64>,
    /// Documents with fewer words are left out; generated ones have at least as many.
    pub min_length: Option<u64>,
    /// Longer documents are cut; generated ones have at most as many words.
    pub max_length: Option<u64>,
    /// What to do with a file that is not UTF-8.
    pub invalid_utf8: InvalidUtf8,
    /// Whether equal documents are left out.
    pub deduplicate: bool,
    /// Share of the validation split in millionths; below 1 000 000. Above 0,
    /// two documents or more always leave one on either side.
    pub validation_ppm: u32,
    /// Seed of the split, of the choice under `target_tokens`, and of the generated corpus.
    pub seed: u64,
}

impl Default for DatasetConfig {
    /// Nothing to read yet; duplicates left out, 1 % for validation, seed 0.
    fn default() -> Self {
        DatasetConfig {
            name: String::new(),
            paths: Vec::new(),
            include_extensions: Vec::new(),
            exclude_extensions: Vec::new(),
            exclude: Vec::new(),
            domains: Vec::new(),
            languages: BTreeMap::new(),
            target_tokens: None,
            min_length: None,
            max_length: None,
            invalid_utf8: InvalidUtf8::Error,
            deduplicate: true,
            validation_ppm: 10_000,
            seed: 0,
        }
    }
}

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
    /// Hash of its UTF-8 bytes.
    pub hash: Hash,
    /// Whitespace-separated words.
    pub words: u64,
    /// Its side of the split.
    pub split: Split,
    /// Its text; never empty.
    pub text: String,
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
/// `dataset::no_files`, `dataset::format_not_supported`,
/// `dataset::invalid_utf8` (file and byte), `dataset::empty`,
/// `dataset::domain_not_supported`, `dataset::language_not_supported`,
/// `dataset::target_missing`, `dataset::length_range`,
/// `dataset::validation_range`, `dataset::synthetic_exhausted`.
pub fn build(
    config: &DatasetConfig,
    source: &dyn Source,
) -> Result<(Dataset, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut found = check(config);
    let mut builder = Builder::default();
    for path in files(config, source, &mut found) {
        match source.read(&path) {
            Ok(bytes) => builder.add_file(config, &path, bytes, &mut found),
            Err(diagnostic) => found.push(diagnostic),
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
        match synthetic::generate(config, target_of(config)) {
            Ok(texts) => builder.add_generated(domain, texts),
            Err(diagnostic) => found.push(diagnostic),
        }
    }
    if found.iter().any(Diagnostic::is_error) {
        return Err(found);
    }
    builder.finish(config, found)
}

fn target_of(config: &DatasetConfig) -> u64 {
    config.target_tokens.unwrap_or_default()
}

/// What can be found without reading.
fn check(config: &DatasetConfig) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if config.paths.is_empty() && config.domains.is_empty() {
        found.push(
            Diagnostic::error(
                "dataset::no_source",
                format!("dataset `{}` has neither `paths` nor `domains`", config.name),
            )
            .help(
                "set `paths = [\"FOLDER\"]`, or `domains = [\"synthetic\"]` for a generated corpus",
            ),
        );
    }
    for (i, domain) in config.domains.iter().enumerate() {
        if domain != synthetic::DOMAIN || i > 0 {
            let mut diagnostic = Diagnostic::error(
                "dataset::domain_not_supported",
                format!("the domain `{domain}` is not supported yet; `synthetic` is, once"),
            );
            if let Some(name) = nearest(domain, [synthetic::DOMAIN]).filter(|_| i == 0) {
                diagnostic = diagnostic.help(format!("did you mean `{name}`?"));
            }
            found.push(diagnostic);
        }
    }
    for (language, weight) in &config.languages {
        if language != "en" {
            found.push(
                Diagnostic::error(
                    "dataset::language_not_supported",
                    format!("the language `{language}` is not supported yet"),
                )
                .help("use `languages = { en = 1.0 }`"),
            );
        } else if !(weight.is_finite() && *weight > 0.0) {
            found.push(Diagnostic::error(
                "dataset::language_not_supported",
                format!("the weight of language `en` is {weight}, expected a number above 0"),
            ));
        }
    }
    if !config.domains.is_empty() && config.target_tokens.unwrap_or(0) == 0 {
        found.push(
            Diagnostic::error(
                "dataset::target_missing",
                "the generated corpus needs `target_tokens`, its number of words",
            )
            .help("set `target_tokens`, for example to 100000"),
        );
    }
    if config.max_length == Some(0)
        || matches!((config.min_length, config.max_length), (Some(min), Some(max)) if min > max)
    {
        found.push(Diagnostic::error(
            "dataset::length_range",
            format!(
                "no document can have at least {} and at most {} words",
                config.min_length.unwrap_or(0),
                config.max_length.unwrap_or(0)
            ),
        ));
    }
    if config.validation_ppm >= 1_000_000 {
        found.push(Diagnostic::error(
            "dataset::validation_range",
            format!(
                "the validation share is {} millionths, expected less than 1000000",
                config.validation_ppm
            ),
        ));
    }
    found
}

/// The paths of all files to read, sorted, each once.
fn files(
    config: &DatasetConfig,
    source: &dyn Source,
    found: &mut Vec<Diagnostic>,
) -> BTreeSet<String> {
    let has = |extensions: &[String], path: &str| {
        let extension = path.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
        extension.is_some_and(|(_, own)| {
            extensions.iter().any(|wanted| wanted.trim_start_matches('.') == own)
        })
    };
    let mut paths = BTreeSet::new();
    for pattern in &config.paths {
        let listed = match source.list(pattern) {
            Ok(listed) => listed,
            Err(diagnostic) => {
                found.push(diagnostic);
                continue;
            }
        };
        let n_listed = listed.len();
        let before = paths.len();
        paths.extend(listed.into_iter().filter(|path| {
            (config.include_extensions.is_empty() || has(&config.include_extensions, path))
                && !has(&config.exclude_extensions, path)
                && !config.exclude.iter().any(|glob| glob_matches(glob, path))
        }));
        if n_listed == 0 {
            found.push(
                Diagnostic::error("dataset::no_files", format!("`{pattern}` names no file"))
                    .help("check the path; a relative one starts at the current folder"),
            );
        } else if paths.len() == before {
            found.push(
                Diagnostic::warning(
                    "dataset::all_excluded",
                    format!("none of the {n_listed} files of `{pattern}` is added by it: they are filtered out or named before"),
                )
                .help("check `include_extensions`, `exclude_extensions` and `exclude`"),
            );
        }
    }
    paths
}

/// Formats whose bytes are not the text.
const OTHER_FORMATS: [&str; 9] =
    ["jsonl", "json.gz", "parquet", "arrow", "gz", "zst", "xz", "bz2", "zip"];

#[derive(Default)]
struct Builder {
    documents: Vec<Document>,
    sources: Vec<SourceEntry>,
    duplicates: Vec<Duplicate>,
    invalid: Vec<InvalidFile>,
    first_by_hash: FastMap<[u8; 32], usize>,
}

impl Builder {
    fn add_file(
        &mut self,
        config: &DatasetConfig,
        path: &str,
        bytes: Vec<u8>,
        found: &mut Vec<Diagnostic>,
    ) {
        if let Some(format) = OTHER_FORMATS.iter().find(|f| path.ends_with(&format!(".{f}"))) {
            found.push(
                Diagnostic::error(
                    "dataset::format_not_supported",
                    format!("`{path}`: files of format `{format}` are not supported yet"),
                )
                .help("give plain text files, or leave these out with `exclude_extensions`"),
            );
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
        match config.max_length {
            None => {
                let words = text.split_whitespace().count() as u64;
                self.add_document(config, path, 0, text, words);
            }
            Some(max) => {
                for (index, (piece, words)) in (0..).zip(pieces(&text, max)) {
                    self.add_document(config, path, index, piece.to_string(), words);
                }
            }
        }
    }

    /// Adds a document of the last source unless it is empty, too short or a duplicate.
    fn add_document(
        &mut self,
        config: &DatasetConfig,
        path: &str,
        index: u64,
        text: String,
        words: u64,
    ) {
        let entry = self.sources.last_mut().expect("a source is entered before its documents");
        if words == 0 {
            entry.empty += 1;
            return;
        }
        if words < config.min_length.unwrap_or(0) {
            entry.too_short += 1;
            return;
        }
        let hash = Hash::of_bytes(text.as_bytes());
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
        let source = path.to_string();
        self.documents.push(Document { source, index, hash, words, split: Split::Train, text });
    }

    /// Keeps documents in the order of a keyed hash until `target` words are there.
    fn keep_until(&mut self, target: u64, seed: u64) {
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

    fn add_generated(&mut self, domain: &str, texts: Vec<String>) {
        let source = format!("{domain}:en");
        let mut entry = SourceEntry { source: source.clone(), ..SourceEntry::default() };
        for (index, text) in (0..).zip(texts) {
            let words = text.split_whitespace().count() as u64;
            entry.documents += 1;
            entry.words += words;
            entry.bytes += text.len() as u64;
            let hash = Hash::of_bytes(text.as_bytes());
            let source = source.clone();
            self.documents.push(Document { source, index, hash, words, split: Split::Train, text });
        }
        self.sources.push(entry);
    }

    fn finish(
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
                        "dataset `{}` has no documents: of {} files read, {} documents are empty, {} too short, {} files not UTF-8",
                        config.name,
                        self.sources.len(),
                        sum(|entry| entry.empty),
                        sum(|entry| entry.too_short),
                        self.invalid.len()
                    ),
                )
                .help("check `paths`, the extensions and `min_length`"),
            );
            return Err(found);
        }
        split(&mut self.documents, config.validation_ppm, config.seed);
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
        if config.validation_ppm > 0 && validation.documents == 0 {
            found.push(
                Diagnostic::warning(
                    "dataset::no_validation",
                    format!("dataset `{}` has one document, so nothing is held out", config.name),
                )
                .help("set `max_length` to cut it into several documents"),
            );
        }
        if let Some(target) = config.target_tokens
            && train.words + validation.words < target
        {
            found.push(Diagnostic::warning(
                "dataset::below_target",
                format!(
                    "dataset `{}` has {} words, `target_tokens` is {target}",
                    config.name,
                    train.words + validation.words
                ),
            ));
        }
        let recipe_hash = recipe_hash(config, &self.sources);
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

fn invalid_utf8(path: &str, offset: usize, byte: u8) -> Diagnostic {
    Diagnostic::error(
        "dataset::invalid_utf8",
        format!("file `{path}` is not UTF-8: byte 0x{byte:02x} at offset {offset}, record 0"),
    )
    .at(Span::new(path, offset, offset + 1), "not UTF-8 from here")
    .help("convert the file, or set `invalid_utf8` to `skip` or `replace`")
}

/// Cuts a text after every `max` words and the white space behind them. The
/// pieces together are the text; each comes with its number of words.
fn pieces(text: &str, max: u64) -> Vec<(&str, u64)> {
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
fn split(documents: &mut [Document], validation_ppm: u32, seed: u64) {
    if validation_ppm == 0 || documents.len() < 2 {
        return;
    }
    let draws: Vec<u64> = documents
        .iter()
        .map(|document| draw("llmc.dataset.split.v1", seed, &document.hash))
        .collect();
    let mut n_validation = 0;
    for (document, draw) in documents.iter_mut().zip(&draws) {
        if (u128::from(*draw) * 1_000_000) >> 64 < u128::from(validation_ppm) {
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

fn recipe_hash(config: &DatasetConfig, sources: &[SourceEntry]) -> Hash {
    let mut hasher = CanonicalHasher::new("llmc.dataset.v1");
    let files: Vec<&Hash> = sources.iter().filter_map(|entry| entry.hash.as_ref()).collect();
    hasher.field("files").seq(files.len());
    for file in files {
        hasher.hash(file);
    }
    if !config.domains.is_empty() {
        hasher.field("synthetic").int(synthetic::VERSION.into());
    }
    for (field, value) in [
        ("target_tokens", config.target_tokens),
        ("min_length", config.min_length),
        ("max_length", config.max_length),
    ] {
        if let Some(value) = value {
            hasher.field(field).int(value.into());
        }
    }
    hasher.field("invalid_utf8").str(config.invalid_utf8.name());
    hasher.field("deduplicate").bool(config.deduplicate);
    hasher.field("validation_ppm").int(config.validation_ppm.into());
    hasher.field("seed").int(config.seed.into());
    hasher.finish()
}

fn content_hash(documents: &[Document]) -> Hash {
    let mut hasher = CanonicalHasher::new("llmc.dataset.content.v1");
    hasher.seq(documents.len());
    for document in documents {
        hasher.bool(document.split == Split::Validation).hash(&document.hash);
    }
    hasher.finish()
}
