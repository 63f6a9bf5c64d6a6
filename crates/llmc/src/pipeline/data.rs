//! The data stages: documents, tokenizer, packed rows. Each is taken from the
//! stage cache where its recipe is there, and built otherwise.

use super::failure::Failure;
use super::text::{TextFiles, dataset_config, tokenizer_config};
use crate::cache::{Cached, StageCache};
use crate::store::{FileHash, FolderWriter, Source, StoreError};
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use llmc_data::dataset::{self, Document, Split};
use llmc_data::pack::{self, Batch};
use llmc_data::shards::{self, Corpus, Shard};
use llmc_data::source::Source as _;
use llmc_data::tokenizer::{self, Tokenizer};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Ids of a shard, at most: 32 MiB of 16-bit ids.
const SHARD_IDS: u64 = 1 << 24;

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
}

#[derive(Serialize, Deserialize)]
struct Index {
    recipe: Hash,
    content: Hash,
    inputs: Vec<FileHash>,
    warnings: Vec<Diagnostic>,
    documents: Vec<IndexEntry>,
}

fn damaged(stage: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Internal(format!("the cached {stage} does not parse: {error}"))
}

/// The documents of a dataset spec, from the files of `source`. The second part are warnings.
///
/// Errors: those of `llmc_data::dataset::build`; the store.
pub fn documents(
    spec: &llmc_spec::DatasetConfig,
    source: &dyn Source,
    cache: Option<&StageCache>,
) -> Result<(TextSet, Vec<Diagnostic>), Failure> {
    let files = TextFiles::new(source, spec);
    let config = dataset_config(spec);
    let Some(cache) = cache else {
        let (dataset, warnings) = dataset::build(&config, &files)?;
        return Ok((from_dataset(dataset), warnings));
    };
    let key = dataset_key(spec, &files)?;
    if let Some(cached) = cache.get("dataset", &key)? {
        return read_documents(cache.store(), &cached);
    }
    let (dataset, warnings) = dataset::build(&config, &files)?;
    let set = from_dataset(dataset);
    cache.put("dataset", &key, |folder| write_documents(folder, &set, &warnings))?;
    Ok((set, warnings))
}

/// What the dataset stage depends on: the config, with the name that ledger and warnings speak of,
/// and the path and content of every file.
fn dataset_key(spec: &llmc_spec::DatasetConfig, files: &TextFiles) -> Result<Hash, Failure> {
    let mut hasher = CanonicalHasher::new("llmc.stage.dataset.v2");
    let config = serde_json::to_value(spec).map_err(|e| Failure::Internal(e.to_string()))?;
    hasher.json(&config);
    let mut found = Vec::new();
    for pattern in &spec.paths {
        match files.list(pattern) {
            Ok(paths) => {
                for path in paths {
                    match files.read(&path) {
                        Ok(bytes) => {
                            hasher.str(&path).hash(&Hash::of_bytes(&bytes));
                        }
                        Err(d) => found.push(d),
                    }
                }
            }
            Err(d) => found.push(d),
        }
    }
    if found.is_empty() { Ok(hasher.finish()) } else { Err(found.into()) }
}

fn from_dataset(dataset: dataset::Dataset) -> TextSet {
    let sources = dataset.ledger.sources.iter();
    let inputs = sources
        .filter_map(|s| Some(FileHash { path: s.source.clone(), length: s.bytes, hash: s.hash? }))
        .collect();
    TextSet {
        inputs,
        ledger: dataset.ledger.to_json(),
        documents: dataset.documents,
        recipe: dataset.recipe_hash,
        content: dataset.content_hash,
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
        });
    }
    let ledger = cached.read(source, "ledger.json")?;
    let ledger = String::from_utf8(ledger).map_err(|e| damaged("dataset", e))?;
    let Index { recipe, content, inputs, warnings, .. } = index;
    Ok((TextSet { documents, ledger, inputs, recipe, content }, warnings))
}

/// The tokenizer of a spec, trained on the training split.
///
/// Errors: those of `llmc_data::tokenizer::train`; the store.
pub fn tokenizer(
    spec: &llmc_spec::TokenizerConfig,
    set: &TextSet,
    threads: usize,
    cache: Option<&StageCache>,
) -> Result<Tokenizer, Failure> {
    let config = tokenizer_config(spec);
    let train = || tokenizer::train(&config, &set.texts(Split::Train), threads);
    let Some(cache) = cache else { return Ok(train()?) };
    let key = config.recipe_hash(&set.content);
    if let Some(cached) = cache.get("tokenizer", &key)? {
        let text = |file: &str| -> Result<String, Failure> {
            let bytes = cached.read(cache.store(), file)?;
            String::from_utf8(bytes).map_err(|e| damaged("tokenizer", e))
        };
        return Ok(Tokenizer::from_json(
            &text("tokenizer.json")?,
            Some(&text("tokenizer_config.json")?),
        )?);
    }
    let tokenizer = train()?;
    cache.put("tokenizer", &key, |folder| write_tokenizer(folder, &tokenizer))?;
    Ok(tokenizer)
}

/// The files of a tokenizer.
pub fn write_tokenizer(folder: &mut FolderWriter, tokenizer: &Tokenizer) -> Result<(), StoreError> {
    folder.bytes("tokenizer.json", tokenizer.to_json().as_bytes())?;
    folder.bytes("tokenizer_config.json", tokenizer.to_config_json().as_bytes())?;
    Ok(())
}

/// The shards and the packing plan of one split.
#[derive(Clone, Debug)]
pub struct PackedSplit {
    /// Shard files in order: name and bytes.
    pub shards: Vec<(String, Vec<u8>)>,
    /// Which document goes where.
    pub plan: pack::Plan,
    /// Per document of the shards: its index in the [`TextSet`].
    pub documents: Vec<usize>,
}

impl PackedSplit {
    /// The shards as one corpus.
    pub fn corpus(&self) -> Result<Corpus<'_>, Failure> {
        let shards: Result<Vec<Shard>, Diagnostic> =
            self.shards.iter().map(|(_, bytes)| Shard::parse(bytes)).collect();
        Ok(Corpus::new(shards?)?)
    }

    /// The documents in these rows, by index in the text set, in order, each once.
    pub fn documents_of(&self, rows: &[u64]) -> Vec<usize> {
        let mut found = Vec::new();
        for row in rows.iter().filter(|row| **row < self.plan.n_rows()) {
            for segment in self.plan.row(*row) {
                if let Some(document) = self.documents.get(segment.document as usize)
                    && !found.contains(document)
                {
                    found.push(*document);
                }
            }
        }
        found
    }
}

/// Everything a training run reads.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Trained on.
    pub train: PackedSplit,
    /// Held out; `None` if nothing is.
    pub validation: Option<PackedSplit>,
    /// Account of documents, ids and rows, as JSON.
    pub ledger: String,
    /// Hash over the shards and plans.
    pub content: Hash,
}

/// Encodes and packs both splits.
///
/// A document is `[bos] text [eos]` with the special tokens that the tokenizer has; where it has
/// eos but no bos, eos stands in front too, so that the first token of a text is predicted as well.
///
/// Errors: `pack::empty` and others of `llmc_data`; the store.
pub fn rows(
    set: &TextSet,
    tokenizer: &Tokenizer,
    sequence_length: u64,
    threads: usize,
    cache: Option<&StageCache>,
) -> Result<Rows, Failure> {
    let length = u32::try_from(sequence_length)
        .map_err(|_| Failure::Internal(format!("sequence length {sequence_length}")))?;
    let key = CanonicalHasher::new("llmc.stage.shards.v1")
        .hash(&set.content)
        .hash(&tokenizer.content_hash())
        .int(i128::from(length))
        .finish();
    if let Some(cache) = cache
        && let Some(cached) = cache.get("shards", &key)?
    {
        return read_rows(cache.store(), &cached, set);
    }
    let train = pack_split(set, Split::Train, tokenizer, length, threads)?;
    let has_validation = set.split(Split::Validation).next().is_some();
    let validation = match has_validation {
        true => Some(pack_split(set, Split::Validation, tokenizer, length, threads)?),
        false => None,
    };
    let rows = finish_rows(train, validation, tokenizer);
    if let Some(cache) = cache {
        cache.put("shards", &key, |folder| write_rows(folder, &rows))?;
    }
    Ok(rows)
}

fn pack_split(
    set: &TextSet,
    split: Split,
    tokenizer: &Tokenizer,
    length: u32,
    threads: usize,
) -> Result<PackedSplit, Failure> {
    let documents: Vec<usize> = set.split(split).map(|(i, _)| i).collect();
    let roles = tokenizer.roles();
    let mut encoded = tokenizer.encode_batch(&set.texts(split), threads);
    for ids in &mut encoded {
        if let Some(first) = roles.bos.or(roles.eos) {
            ids.insert(0, first);
        }
        ids.extend(roles.eos);
    }
    let shards = shards::write(&encoded, tokenizer.vocab_size(), SHARD_IDS)?;
    let lengths: Vec<u64> = encoded.iter().map(|ids| ids.len() as u64).collect();
    let plan = pack::plan(&lengths, length)?;
    let shards = shards.into_iter().map(|s| (s.entry.name, s.bytes)).collect();
    Ok(PackedSplit { shards, plan, documents })
}

fn finish_rows(train: PackedSplit, validation: Option<PackedSplit>, tokenizer: &Tokenizer) -> Rows {
    let mut hasher = CanonicalHasher::new("llmc.rows.v1");
    let mut account = Vec::new();
    for (name, split) in [("train", Some(&train)), ("validation", validation.as_ref())] {
        let Some(split) = split else { continue };
        hasher.field(name).hash(&split.plan.content_hash());
        let mut files = Vec::new();
        for (file, bytes) in &split.shards {
            let hash = Hash::of_bytes(bytes);
            hasher.str(file).hash(&hash);
            files.push(json!({"file": file, "bytes": bytes.len(), "hash": hash}));
        }
        account.push(json!({
            "split": name,
            "documents": split.documents.len(),
            "rows": split.plan.n_rows(),
            "sequence_length": split.plan.sequence_length(),
            "targets": split.plan.n_targets(),
            "fill": split.plan.fill(),
            "plan": split.plan.content_hash(),
            "shards": files,
        }));
    }
    let ledger = json!({"vocab_size": tokenizer.vocab_size(), "splits": account});
    let ledger = format!("{ledger:#}\n");
    Rows { train, validation, ledger, content: hasher.finish() }
}

/// Writes shards, packing plans and ledger below the folder.
pub fn write_rows(folder: &mut FolderWriter, rows: &Rows) -> Result<(), StoreError> {
    for (name, split) in [("train", Some(&rows.train)), ("validation", rows.validation.as_ref())] {
        let Some(split) = split else { continue };
        for (file, bytes) in &split.shards {
            folder.bytes(&format!("{name}/{file}"), bytes)?;
        }
        folder.bytes(&format!("{name}/packing.plan"), &split.plan.to_bytes())?;
    }
    folder.bytes("ledger.json", rows.ledger.as_bytes())?;
    folder.bytes("content.txt", rows.content.to_string().as_bytes())?;
    Ok(())
}

fn read_rows(source: &dyn Source, cached: &Cached, set: &TextSet) -> Result<Rows, Failure> {
    let read_split = |name: &str, split: Split| -> Result<Option<PackedSplit>, Failure> {
        let prefix = format!("{name}/");
        let files: Vec<String> = cached
            .complete
            .files
            .iter()
            .filter_map(|f| f.path.strip_prefix(&prefix))
            .filter(|f| f.ends_with(".ids"))
            .map(str::to_string)
            .collect();
        if files.is_empty() {
            return Ok(None);
        }
        let mut shards = Vec::new();
        for file in files {
            let bytes = cached.read(source, &format!("{name}/{file}"))?;
            shards.push((file, bytes));
        }
        let plan = cached.read(source, &format!("{name}/packing.plan"))?;
        let documents = set.split(split).map(|(i, _)| i).collect();
        Ok(Some(PackedSplit { shards, plan: pack::Plan::from_bytes(&plan)?, documents }))
    };
    let text = |file: &str| -> Result<String, Failure> {
        String::from_utf8(cached.read(source, file)?).map_err(|e| damaged("shards", e))
    };
    let train = read_split("train", Split::Train)?;
    Ok(Rows {
        train: train.ok_or_else(|| damaged("shards", "no training split"))?,
        validation: read_split("validation", Split::Validation)?,
        ledger: text("ledger.json")?,
        content: text("content.txt")?.parse().map_err(|e| damaged("shards", e))?,
    })
}

/// A batch of the trainer from one of `llmc-data`.
pub fn to_train_batch(batch: Batch, first_sample: u64) -> llmc_train::Batch {
    llmc_train::Batch {
        first_sample,
        rows: batch.n_rows,
        tokens: batch.tokens,
        positions: batch.positions,
        segments: batch.segment_ids,
        targets: batch.targets,
        weights: batch.weights,
    }
}

/// Reads a tokenizer from a folder that holds `tokenizer.json`.
pub fn read_tokenizer(source: &dyn Source, folder: &std::path::Path) -> Result<Tokenizer, Failure> {
    let json = source.read_text(&folder.join("tokenizer.json"))?;
    let config = folder.join("tokenizer_config.json");
    let config = match source.exists(&config)? {
        true => Some(source.read_text(&config)?),
        false => None,
    };
    Ok(Tokenizer::from_json(&json, config.as_deref())?)
}
