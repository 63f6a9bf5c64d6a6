//! Text files for `llmc-data`, and its configs from those of the spec.

use crate::store::{EntryKind, Source as Files, StoreError};
use llmc_base::{Diagnostic, Span};
use llmc_data::dataset::{DatasetConfig, Format, InvalidUtf8};
use llmc_data::source::{Source, glob_matches, glob_root, is_glob};
use llmc_data::tokenizer::{PreTokenizer, SpecialTokens, TokenizerConfig, TokenizerKind};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The files of a source, filtered by the spec's `include` globs.
pub struct TextFiles<'a> {
    files: &'a dyn Files,
    include: Vec<String>,
    config: DatasetConfig,
}

impl<'a> TextFiles<'a> {
    /// Files for a dataset.
    pub fn new(files: &'a dyn Files, config: &llmc_spec::DatasetConfig) -> Self {
        TextFiles { files, include: config.include.clone(), config: dataset_config(config) }
    }

    fn walk(&self, folder: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
        self.files.text_files(folder).map_err(|e| unreadable(folder, &e))
    }

    fn is_included(&self, path: &str) -> bool {
        self.include.is_empty() || self.include.iter().any(|glob| glob_matches(glob, path))
    }

    /// A file whose name is not UTF-8 has no path that a ledger can record. It is an error
    /// unless the filters leave the file out; they see U+FFFD for what is not UTF-8.
    fn refuse_unnameable(&self, pattern: &str, files: &[PathBuf]) -> Result<(), Diagnostic> {
        let is_taken = |path: &str| {
            (!is_glob(pattern) || glob_matches(pattern, path))
                && self.is_included(path)
                && self.config.takes(path)
        };
        let mut taken = files.iter().filter(|path| is_taken(&shown(path)));
        let Some(first) = taken.next() else { return Ok(()) };
        let folder = first.parent().map(shown).unwrap_or_default();
        let message = format!(
            "`{}` has a name that is not UTF-8{}",
            shown(first),
            match taken.count() {
                0 => String::new(),
                more => format!(", and so have {more} other files of `{pattern}`"),
            }
        );
        Err(Diagnostic::error("source::name_not_utf8", message)
            .at(Span::new(folder, 0, 0), "in this folder")
            .help("rename it, or leave it out with `extensions`, `include` or `exclude`"))
    }
}

/// The path as text, U+FFFD for what is not UTF-8.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.strip_prefix("./").unwrap_or(&text).to_string()
}

fn unreadable(path: &Path, error: &StoreError) -> Diagnostic {
    let message = format!("cannot read `{}`: {}", path.display(), error.source);
    Diagnostic::error("source::unreadable", message)
        .at(Span::new(path.display().to_string(), 0, 0), "")
        .help("check that the path exists and that you may read it")
}

impl Source for TextFiles<'_> {
    fn list(&self, pattern: &str) -> Result<Vec<String>, Diagnostic> {
        let pattern = match is_glob(pattern) {
            // Paths come without a `./` in front, so the glob has none either.
            true => pattern.strip_prefix("./").unwrap_or(pattern),
            false => pattern,
        };
        let kind = |path: &Path| self.files.kind(path).map_err(|e| unreadable(path, &e));
        let found = if is_glob(pattern) {
            let root = glob_root(pattern);
            let folder = Path::new(if root.is_empty() { "." } else { root });
            match kind(folder)? {
                Some(EntryKind::Folder) => self.walk(folder)?,
                _ => Vec::new(),
            }
        } else {
            let path = Path::new(pattern);
            match kind(path)? {
                Some(EntryKind::Folder) => self.walk(path)?,
                Some(EntryKind::File) => vec![path.to_path_buf()],
                None => {
                    let missing =
                        std::io::Error::new(ErrorKind::NotFound, "there is no such file or folder");
                    let operation = crate::store::Operation::Inspect;
                    return Err(unreadable(path, &StoreError::new(operation, path, missing)));
                }
            }
        };
        let (named, unnameable): (Vec<PathBuf>, Vec<PathBuf>) =
            found.into_iter().partition(|path| path.to_str().is_some());
        self.refuse_unnameable(pattern, &unnameable)?;
        let mut files: Vec<String> = named.iter().map(|path| shown(path)).collect();
        files.retain(|path| {
            (!is_glob(pattern) || glob_matches(pattern, path)) && self.is_included(path)
        });
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
    // Every field by name, so that a new one cannot be forgotten. The globs of `include`
    // are applied by [`TextFiles`], and the template is read where the documents are.
    let llmc_spec::DatasetConfig {
        name,
        paths,
        extensions,
        include: _,
        exclude,
        format,
        train_on_prompt,
        chat_template: _,
        domains,
        languages,
        target_tokens,
        min_length,
        max_length,
        deduplicate,
        validation_fraction,
        invalid_utf8,
        seed,
    } = spec;
    DatasetConfig {
        name: name.clone(),
        paths: paths.clone(),
        extensions: extensions.clone(),
        exclude: exclude.clone(),
        format: match format {
            llmc_spec::DatasetFormat::Text => Format::Text,
            llmc_spec::DatasetFormat::Jsonl => Format::Jsonl,
        },
        trains_on_prompt: *train_on_prompt,
        template: None,
        domains: domains
            .iter()
            .map(|domain| match domain {
                llmc_spec::Domain::Synthetic => "synthetic".to_string(),
            })
            .collect(),
        languages: languages.clone(),
        target_tokens: *target_tokens,
        min_length: *min_length,
        max_length: *max_length,
        invalid_utf8: match invalid_utf8 {
            llmc_spec::InvalidUtf8::Error => InvalidUtf8::Error,
            llmc_spec::InvalidUtf8::Replace => InvalidUtf8::Replace,
            llmc_spec::InvalidUtf8::Skip => InvalidUtf8::Skip,
        },
        deduplicate: *deduplicate == llmc_spec::Deduplicate::Exact,
        validation_fraction: *validation_fraction,
        seed: *seed,
    }
}

/// The tokenizer config of `llmc-data`.
pub fn tokenizer_config(spec: &llmc_spec::TokenizerConfig) -> TokenizerConfig {
    // As above. The dataset's hash is compared when the spec is resolved.
    let llmc_spec::TokenizerConfig {
        name,
        kind,
        vocab_size,
        min_frequency,
        pre_tokenizer,
        special_tokens: llmc_spec::SpecialTokens { pad, unk, bos, eos, additional },
        dataset_hash: _,
    } = spec;
    TokenizerConfig {
        name: name.clone(),
        kind: match kind {
            llmc_spec::TokenizerKind::ByteBpe => TokenizerKind::ByteBpe,
            llmc_spec::TokenizerKind::Bpe => TokenizerKind::Bpe,
            llmc_spec::TokenizerKind::Char => TokenizerKind::Char,
        },
        vocab_size: u32::try_from(*vocab_size).ok(),
        pre_tokenizer: match pre_tokenizer {
            llmc_spec::PreTokenizer::Gpt2 => PreTokenizer::Gpt2,
            llmc_spec::PreTokenizer::None => PreTokenizer::None,
        },
        special_tokens: SpecialTokens {
            pad: pad.clone(),
            unk: unk.clone(),
            bos: bos.clone(),
            eos: eos.clone(),
            additional: additional.clone(),
        },
        min_frequency: (*min_frequency).max(1),
    }
}

#[cfg(test)]
mod tests;
