//! The first data stage: the documents of a dataset, from files or from the stage cache.

use super::conversations::{Conversations, conversations};
use super::data::damaged;
use super::failure::Failure;
use super::text::{TextFiles, dataset_config};
use crate::cache::{Cached, StageCache};
use crate::store::{FileHash, FolderWriter, Source};
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use llmc_data::dataset::{self, DatasetConfig, Document, Message, Render, Split};
use llmc_data::source::Source as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Documents in two splits, with their account.
#[derive(Clone, Debug)]
pub struct TextSet {
    /// All documents, by (source, index).
    pub documents: Vec<Document>,
    /// What came in and what was left out, as JSON.
    pub ledger: String,
    /// The files that it was read from, in order, with their hashes.
    pub inputs: Vec<FileHash>,
    /// Names the set.
    pub recipe: Hash,
    /// Proves the set.
    pub content: Hash,
    /// The template that made conversations into text.
    pub chat_template: Option<String>,
}

impl TextSet {
    /// The documents of one split, with their index in the set.
    pub fn split(&self, split: Split) -> impl Iterator<Item = (usize, &Document)> {
        self.documents.iter().enumerate().filter(move |(_, d)| d.split == split)
    }

    /// The texts of one split, in order.
    pub fn texts(&self, split: Split) -> Vec<&str> {
        self.split(split).map(|(_, d)| d.text.as_str()).collect()
    }

    /// Whether parts of the documents are only read.
    pub fn is_masked(&self) -> bool {
        self.documents.iter().any(|d| !d.cuts.is_empty())
    }

    /// Bytes of one split that are learned: what its loss is over.
    pub fn learned_bytes(&self, split: Split) -> u64 {
        self.split(split).map(|(_, d)| d.learned_bytes()).sum()
    }

    /// Bytes of the texts of one split.
    pub fn bytes(&self, split: Split) -> u64 {
        self.split(split).map(|(_, d)| d.text.len() as u64).sum()
    }
}

/// One document in the cached index.
#[derive(Serialize, Deserialize)]
struct IndexEntry {
    source: String,
    index: u64,
    hash: Hash,
    words: u64,
    is_validation: bool,
    bytes: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cuts: Vec<usize>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_rendered: bool,
}

#[derive(Serialize, Deserialize)]
struct Index {
    recipe: Hash,
    content: Hash,
    inputs: Vec<FileHash>,
    warnings: Vec<Diagnostic>,
    documents: Vec<IndexEntry>,
}

/// The documents of a dataset spec, from the files of `source`; conversations may have the special tokens of
/// `tokenizer`. The second part are warnings.
///
/// Errors: those of `llmc_data::dataset::build_with`; `chat::template`; the store.
pub fn documents(
    spec: &llmc_spec::DatasetConfig,
    tokenizer: Option<&llmc_spec::TokenizerConfig>,
    source: &dyn Source,
    cache: Option<&StageCache>,
) -> Result<(TextSet, Vec<Diagnostic>), Failure> {
    let files = TextFiles::new(source, spec);
    let talk = conversations(spec, tokenizer, source)?;
    let talk = talk.as_ref();
    let config = DatasetConfig { template: talk.map(|t| t.hash), ..dataset_config(spec) };
    let build = || -> Result<(TextSet, Vec<Diagnostic>), Failure> {
        let render = |messages: &[Message]| match talk {
            Some(talk) => talk.render(messages),
            None => Err(Diagnostic::error("dataset::no_chat_template", "there is no template")),
        };
        let render: Option<Render> = talk.is_some().then_some(&render);
        let (dataset, warnings) = dataset::build_with(&config, &files, render)?;
        Ok((from_dataset(dataset, talk), warnings))
    };
    let Some(cache) = cache else { return build() };
    let (key, hashed) = dataset_key(spec, talk, &files)?;
    if let Some(cached) = cache.get("dataset", &key)? {
        let (set, warnings) = read_documents(cache.store(), &cached)?;
        let chat_template = talk.map(|talk| talk.text.clone());
        return Ok((TextSet { chat_template, ..set }, warnings));
    }
    let (set, warnings) = build()?;
    // A file that changed between the two readings makes another entry than the key says.
    if set.inputs.iter().any(|file| hashed.get(&file.path) != Some(&file.hash)) {
        return Ok((set, warnings));
    }
    cache.put("dataset", &key, |folder| write_documents(folder, &set, &warnings))?;
    Ok((set, warnings))
}

/// What the dataset stage depends on: the config, with the name that ledger and warnings speak of,
/// and the path and content of every file. The second part are the files' hashes.
fn dataset_key(
    spec: &llmc_spec::DatasetConfig,
    talk: Option<&Conversations>,
    files: &TextFiles,
) -> Result<(Hash, BTreeMap<String, Hash>), Failure> {
    let mut hashed = BTreeMap::new();
    let mut hasher = CanonicalHasher::new("llmc.stage.dataset.v3");
    let config = serde_json::to_value(spec).map_err(|e| Failure::Internal(e.to_string()))?;
    hasher.json(&config);
    if let Some(talk) = talk {
        hasher.hash(&talk.hash);
        let file = talk.file.iter().map(|file| (file.path.clone(), file.hash));
        hashed.extend(file);
    }
    let mut found = Vec::new();
    for pattern in &spec.paths {
        match files.list(pattern) {
            Ok(paths) => {
                for path in paths {
                    match files.read(&path) {
                        Ok(bytes) => {
                            let hash = Hash::of_bytes(&bytes);
                            hasher.str(&path).hash(&hash);
                            hashed.insert(path, hash);
                        }
                        Err(d) => found.push(d.field("dataset.paths")),
                    }
                }
            }
            Err(d) => found.push(d.field("dataset.paths")),
        }
    }
    if found.is_empty() { Ok((hasher.finish(), hashed)) } else { Err(found.into()) }
}

fn from_dataset(dataset: dataset::Dataset, talk: Option<&Conversations>) -> TextSet {
    let sources = dataset.ledger.sources.iter();
    let inputs = sources
        .filter_map(|s| Some(FileHash { path: s.source.clone(), length: s.bytes, hash: s.hash? }))
        .chain(talk.and_then(|talk| talk.file.clone()))
        .collect();
    TextSet {
        inputs,
        ledger: dataset.ledger.to_json(),
        documents: dataset.documents,
        recipe: dataset.recipe_hash,
        content: dataset.content_hash,
        chat_template: talk.map(|talk| talk.text.clone()),
    }
}

fn write_documents(
    folder: &mut FolderWriter,
    set: &TextSet,
    warnings: &[Diagnostic],
) -> Result<(), Failure> {
    let index = Index {
        recipe: set.recipe,
        content: set.content,
        inputs: set.inputs.clone(),
        warnings: warnings.to_vec(),
        documents: set
            .documents
            .iter()
            .map(|d| IndexEntry {
                source: d.source.clone(),
                index: d.index,
                hash: d.hash,
                words: d.words,
                is_validation: d.split == Split::Validation,
                bytes: d.text.len(),
                cuts: d.cuts.clone(),
                is_rendered: d.is_rendered,
            })
            .collect(),
    };
    let index = serde_json::to_vec(&index).map_err(|e| Failure::Internal(e.to_string()))?;
    folder.bytes("index.json", &index)?;
    folder.bytes("ledger.json", set.ledger.as_bytes())?;
    folder.file("texts.bin", |out| {
        set.documents.iter().try_for_each(|d| out.write_all(d.text.as_bytes()))
    })?;
    Ok(())
}

fn read_documents(
    source: &dyn Source,
    cached: &Cached,
) -> Result<(TextSet, Vec<Diagnostic>), Failure> {
    let index: Index = serde_json::from_slice(&cached.read(source, "index.json")?)
        .map_err(|e| damaged("dataset", e))?;
    let texts =
        String::from_utf8(cached.read(source, "texts.bin")?).map_err(|e| damaged("dataset", e))?;
    let mut at = 0;
    let mut documents = Vec::with_capacity(index.documents.len());
    for entry in &index.documents {
        let text =
            texts.get(at..at + entry.bytes).ok_or_else(|| damaged("dataset", "too short"))?;
        at += entry.bytes;
        documents.push(Document {
            source: entry.source.clone(),
            index: entry.index,
            hash: entry.hash,
            words: entry.words,
            split: if entry.is_validation { Split::Validation } else { Split::Train },
            text: text.to_string(),
            cuts: entry.cuts.clone(),
            is_rendered: entry.is_rendered,
        });
    }
    let ledger = cached.read(source, "ledger.json")?;
    let ledger = String::from_utf8(ledger).map_err(|e| damaged("dataset", e))?;
    let Index { recipe, content, inputs, warnings, .. } = index;
    let set = TextSet { documents, ledger, inputs, recipe, content, chat_template: None };
    Ok((set, warnings))
}
