//! Text files for `llmc-data`, and its configs from those of the spec.

use crate::store::{EntryKind, Source as Files, StoreError};
use llmc_base::{Diagnostic, Span};
use llmc_data::dataset::{DatasetConfig, InvalidUtf8};
use llmc_data::source::{Source, glob_matches, glob_root, is_glob};
use llmc_data::tokenizer::{SpecialTokens, TokenizerConfig, TokenizerKind};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The files of a source, filtered by the spec's `include` globs.
pub struct TextFiles<'a> {
    files: &'a dyn Files,
    include: Vec<String>,
}

impl<'a> TextFiles<'a> {
    /// Files for a dataset.
    pub fn new(files: &'a dyn Files, config: &llmc_spec::DatasetConfig) -> Self {
        TextFiles { files, include: config.include.clone() }
    }

    fn walk(&self, folder: &Path) -> Result<Vec<String>, Diagnostic> {
        let found = self.files.text_files(folder).map_err(|e| unreadable(folder, &e))?;
        let text = |path: PathBuf| {
            let text = path.to_str()?;
            Some(text.strip_prefix("./").unwrap_or(text).to_string())
        };
        Ok(found.into_iter().filter_map(text).collect())
    }
}

fn unreadable(path: &Path, error: &StoreError) -> Diagnostic {
    let message = format!("cannot read `{}`: {}", path.display(), error.source);
    Diagnostic::error("source::unreadable", message)
        .at(Span::new(path.display().to_string(), 0, 0), "")
        .help("check that the path exists and that you may read it")
}

impl Source for TextFiles<'_> {
    fn list(&self, pattern: &str) -> Result<Vec<String>, Diagnostic> {
        let path = Path::new(pattern);
        let kind = |path: &Path| self.files.kind(path).map_err(|e| unreadable(path, &e));
        let mut files = if is_glob(pattern) {
            let root = glob_root(pattern);
            let folder = Path::new(if root.is_empty() { "." } else { root });
            let mut files = match kind(folder)? {
                Some(EntryKind::Folder) => self.walk(folder)?,
                _ => Vec::new(),
            };
            files.retain(|path| glob_matches(pattern, path));
            files
        } else {
            match kind(path)? {
                Some(EntryKind::Folder) => self.walk(path)?,
                Some(EntryKind::File) => vec![pattern.to_string()],
                None => {
                    let missing = ErrorKind::NotFound.into();
                    let operation = crate::store::Operation::Inspect;
                    return Err(unreadable(path, &StoreError::new(operation, path, missing)));
                }
            }
        };
        if !self.include.is_empty() {
            files.retain(|path| self.include.iter().any(|glob| glob_matches(glob, path)));
        }
        files.sort();
        Ok(files)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Diagnostic> {
        let path = Path::new(path);
        self.files.read(path).map_err(|e| unreadable(path, &e))
    }
}

/// The dataset config of `llmc-data`.
pub fn dataset_config(spec: &llmc_spec::DatasetConfig) -> DatasetConfig {
    DatasetConfig {
        name: spec.name.clone(),
        paths: spec.paths.clone(),
        include_extensions: spec.extensions.clone(),
        exclude_extensions: Vec::new(),
        exclude: spec.exclude.clone(),
        domains: spec
            .domains
            .iter()
            .map(|domain| match domain {
                llmc_spec::Domain::Synthetic => "synthetic".to_string(),
            })
            .collect(),
        languages: spec.languages.clone(),
        target_tokens: spec.target_tokens,
        min_length: Some(spec.min_length).filter(|n| *n > 0),
        max_length: spec.max_length,
        invalid_utf8: match spec.invalid_utf8 {
            llmc_spec::InvalidUtf8::Error => InvalidUtf8::Error,
            llmc_spec::InvalidUtf8::Replace => InvalidUtf8::Replace,
            llmc_spec::InvalidUtf8::Skip => InvalidUtf8::Skip,
        },
        deduplicate: spec.deduplicate == llmc_spec::Deduplicate::Exact,
        validation_ppm: (spec.validation_fraction * 1e6).round() as u32,
        seed: spec.seed,
    }
}

/// The tokenizer config of `llmc-data`.
pub fn tokenizer_config(spec: &llmc_spec::TokenizerConfig) -> TokenizerConfig {
    let special = &spec.special_tokens;
    TokenizerConfig {
        name: spec.name.clone(),
        kind: match spec.kind {
            llmc_spec::TokenizerKind::ByteBpe => TokenizerKind::ByteBpe,
            llmc_spec::TokenizerKind::Bpe => TokenizerKind::Bpe,
            llmc_spec::TokenizerKind::Char => TokenizerKind::Char,
        },
        vocab_size: u32::try_from(spec.vocab_size).ok(),
        special_tokens: SpecialTokens {
            pad: special.pad.clone(),
            unk: special.unk.clone(),
            bos: special.bos.clone(),
            eos: special.eos.clone(),
            additional: special.additional.clone(),
        },
        min_frequency: spec.min_frequency.max(1),
        alphabet_limit: None,
    }
}
