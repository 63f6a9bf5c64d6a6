//! Text files for `llmc-data`, and its configs from those of the spec.

use llmc_base::{Diagnostic, Span};
use llmc_data::dataset::{DatasetConfig, InvalidUtf8};
use llmc_data::source::{Source, glob_matches, glob_root, is_glob};
use llmc_data::tokenizer::{SpecialTokens, TokenizerConfig, TokenizerKind};
use std::fs;
use std::path::Path;

/// The file system, filtered by the spec's `include` globs.
pub struct TextFiles {
    include: Vec<String>,
}

impl TextFiles {
    /// Files for a dataset.
    pub fn new(config: &llmc_spec::DatasetConfig) -> Self {
        TextFiles { include: config.include.clone() }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error("source::unreadable", format!("cannot read `{}`: {error}", path.display()))
        .at(Span::new(path.display().to_string(), 0, 0), "")
        .help("check that the path exists and that you may read it")
}

/// Every file below a folder; hidden entries and links to folders are passed over.
fn walk(folder: &Path, files: &mut Vec<String>) -> Result<(), Diagnostic> {
    let entries = fs::read_dir(folder).map_err(|e| unreadable(folder, &e))?;
    for entry in entries {
        let entry = entry.map_err(|e| unreadable(folder, &e))?;
        let path = entry.path();
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        let kind = entry.file_type().map_err(|e| unreadable(&path, &e))?;
        if is_hidden {
            continue;
        }
        if kind.is_dir() {
            walk(&path, files)?;
        } else if let Some(text) = path.to_str()
            && fs::metadata(&path).is_ok_and(|m| m.is_file())
        {
            files.push(text.strip_prefix("./").unwrap_or(text).to_string());
        }
    }
    Ok(())
}

impl Source for TextFiles {
    fn list(&self, pattern: &str) -> Result<Vec<String>, Diagnostic> {
        let mut files = Vec::new();
        if is_glob(pattern) {
            let root = glob_root(pattern);
            let folder = Path::new(if root.is_empty() { "." } else { root });
            if folder.is_dir() {
                walk(folder, &mut files)?;
            }
            files.retain(|path| glob_matches(pattern, path));
        } else {
            let path = Path::new(pattern);
            let metadata = fs::metadata(path).map_err(|e| unreadable(path, &e))?;
            match metadata.is_dir() {
                true => walk(path, &mut files)?,
                false => files.push(pattern.to_string()),
            }
        }
        if !self.include.is_empty() {
            files.retain(|path| self.include.iter().any(|glob| glob_matches(glob, path)));
        }
        files.sort();
        Ok(files)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Diagnostic> {
        fs::read(path).map_err(|e| unreadable(Path::new(path), &e))
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
