//! What was asked of a dataset, as plain data: what can be wrong with it, and
//! its recipe hash.

use super::synthetic;
use crate::source::glob_matches;
use llmc_base::diag::nearest;
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use std::collections::BTreeMap;

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
}

/// What the bytes of a file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A text.
    #[default]
    Text,
    /// JSON lines: a record on each.
    Jsonl,
}

/// What was asked of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct DatasetConfig {
    /// For messages; does not enter the hash.
    pub name: String,
    /// Files, folders (with everything below) and globs.
    pub paths: Vec<String>,
    /// If not empty: only files with these extensions, `py` or `.py`.
    pub extensions: Vec<String>,
    /// Files whose path one of these globs matches are left out.
    pub exclude: Vec<String>,
    /// What the files are.
    pub format: Format,
    /// Whether prompts of records count in the loss as completions do.
    pub trains_on_prompt: bool,
    /// Names what makes conversations into text: the template and the special tokens it may write.
    pub template: Option<Hash>,
    /// Generated corpora; only `synthetic` exists.
    pub domains: Vec<String>,
    /// Weight of each language; only `en` exists. It filters no files.
    pub languages: BTreeMap<String, f64>,
    /// Whitespace-separated words to reach, by the files together and by the
    /// generated corpus. The latter needs it; for files, `None` is all of them.
    pub target_tokens: Option<u64>,
    /// Documents with fewer words are left out; generated ones have at least as many,
    /// and one in any case.
    pub min_length: u64,
    /// Longer documents are cut, of records with a prompt left out; generated ones have at most as many words, with `None`
    /// at most [`DEFAULT_MAX_LENGTH`](super::DEFAULT_MAX_LENGTH) (or `min_length`).
    pub max_length: Option<u64>,
    /// What to do with a file that is not UTF-8.
    pub invalid_utf8: InvalidUtf8,
    /// Whether equal documents are left out.
    pub deduplicate: bool,
    /// Share of the validation split, from 0 to below 1, taken exactly. Above 0,
    /// two documents or more always leave one on either side.
    pub validation_fraction: f64,
    /// Seed of the split, of the choice under `target_tokens`, and of the generated corpus.
    pub seed: u64,
}

impl Default for DatasetConfig {
    /// Nothing to read yet; duplicates left out, 1 % for validation, seed 0.
    fn default() -> Self {
        DatasetConfig {
            name: String::new(),
            paths: Vec::new(),
            extensions: Vec::new(),
            exclude: Vec::new(),
            format: Format::Text,
            trains_on_prompt: false,
            template: None,
            domains: Vec::new(),
            languages: BTreeMap::new(),
            target_tokens: None,
            min_length: 0,
            max_length: None,
            invalid_utf8: InvalidUtf8::Error,
            deduplicate: true,
            validation_fraction: 0.01,
            seed: 0,
        }
    }
}

impl DatasetConfig {
    /// Whether `extensions` and `exclude` let a file of this path in.
    pub fn takes(&self, path: &str) -> bool {
        let extension = path.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
        let has_extension = self.extensions.is_empty()
            || extension.is_some_and(|(_, own)| {
                self.extensions.iter().any(|wanted| wanted.trim_start_matches('.') == own)
            });
        has_extension && !self.exclude.iter().any(|glob| glob_matches(glob, path))
    }

    /// What can be found without reading.
    pub(super) fn check(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        if self.paths.is_empty() && self.domains.is_empty() {
            found.push(
            Diagnostic::error(
                "dataset::no_source",
                format!("dataset `{}` has neither `paths` nor `domains`", self.name),
            )
            .help(
                "set `paths = [\"FOLDER\"]`, or `domains = [\"synthetic\"]` for a generated corpus",
            )
            .field("dataset.paths"),
        );
        }
        for (i, domain) in self.domains.iter().enumerate() {
            if domain != synthetic::DOMAIN || i > 0 {
                let mut diagnostic = Diagnostic::error(
                    "dataset::domain_not_supported",
                    format!("the domain `{domain}` is not supported yet; `synthetic` is, once"),
                )
                .field("dataset.domains")
                .help("write `domains = [\"synthetic\"]`");
                if let Some(name) = nearest(domain, [synthetic::DOMAIN]).filter(|_| i == 0) {
                    diagnostic = diagnostic.help(format!("did you mean `{name}`?"));
                }
                found.push(diagnostic);
            }
        }
        for (language, weight) in &self.languages {
            if language != "en" {
                found.push(
                    Diagnostic::error(
                        "dataset::language_not_supported",
                        format!("the language `{language}` is not supported yet"),
                    )
                    .help("use `languages = { en = 1.0 }`")
                    .field("dataset.languages"),
                );
            } else if !(weight.is_finite() && *weight > 0.0) {
                found.push(
                    Diagnostic::error(
                        "dataset::language_not_supported",
                        format!(
                            "the weight of language `en` is {weight}, expected a number above 0"
                        ),
                    )
                    .help("use `languages = { en = 1.0 }`")
                    .field("dataset.languages"),
                );
            }
        }
        if !self.domains.is_empty() && self.target_tokens.unwrap_or(0) == 0 {
            found.push(
                Diagnostic::error(
                    "dataset::target_missing",
                    "the generated corpus needs `target_tokens`, its number of words",
                )
                .help("set `target_tokens`, for example to 100000")
                .field("dataset.target_tokens"),
            );
        }
        if self.max_length.is_some_and(|max| max == 0 || self.min_length > max) {
            found.push(
                Diagnostic::error(
                    "dataset::length_range",
                    format!(
                        "no document can have at least {} and at most {} words",
                        self.min_length,
                        self.max_length.unwrap_or(0)
                    ),
                )
                .help("lower `min_length` or raise `max_length`")
                .field("dataset.max_length"),
            );
        }
        if !(0.0..1.0).contains(&self.validation_fraction) {
            found.push(
                Diagnostic::error(
                    "dataset::validation_range",
                    format!(
                        "`validation_fraction` is {}, expected a number from 0 to below 1",
                        self.validation_fraction
                    ),
                )
                .help("write for example 0.05; 0 holds nothing out")
                .field("dataset.validation_fraction"),
            );
        }
        found
    }

    /// The name of the dataset: a hash of the content of its files, in order, and
    /// of everything in the config that acts on it.
    pub(super) fn recipe_hash<'a>(&self, files: impl Iterator<Item = &'a Hash>) -> Hash {
        let mut hasher = CanonicalHasher::new("llmc.dataset.v1");
        let files: Vec<&Hash> = files.collect();
        hasher.field("files").seq(files.len());
        for file in files {
            hasher.hash(file);
        }
        if !self.domains.is_empty() {
            hasher.field("synthetic").int(synthetic::VERSION.into());
        }
        if self.format == Format::Jsonl {
            hasher.field("jsonl").bool(self.trains_on_prompt);
        }
        if let Some(template) = &self.template {
            hasher.field("template").hash(template);
        }
        for (field, value) in [
            ("target_tokens", self.target_tokens),
            ("min_length", Some(self.min_length).filter(|words| *words > 0)),
            ("max_length", self.max_length),
        ] {
            if let Some(value) = value {
                hasher.field(field).int(value.into());
            }
        }
        hasher.field("invalid_utf8").str(self.invalid_utf8.name());
        hasher.field("deduplicate").bool(self.deduplicate);
        hasher.field("validation_fraction").f64(self.validation_fraction);
        hasher.field("seed").int(self.seed.into());
        hasher.finish()
    }
}
