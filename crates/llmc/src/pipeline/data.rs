//! The data stages after the documents: tokenizer, packed rows. Each is taken from the
//! stage cache where its recipe is there, and built otherwise.

pub use super::documents::{TextSet, documents};

use super::failure::Failure;
use super::text::tokenizer_config;
use crate::cache::{Cached, StageCache};
use crate::store::{FolderWriter, Source, StoreError, read_marker};
use llmc_base::{CanonicalHasher, Diagnostic, Hash};
use llmc_data::dataset::{Document, Split};
use llmc_data::order::row_of_sample;
use llmc_data::pack::{self, Batch, Masks};
use llmc_data::shards::{self, Corpus, Shard};
use llmc_data::tokenizer::{self, Tokenizer};
use llmc_spec::TrainingConfig;
use llmc_train::ramp;
use serde_json::json;

/// What is only read, beside the shards.
const MASKS: &str = "targets.mask";

/// Ids of a shard, at most: 32 MiB of 16-bit ids.
const SHARD_IDS: u64 = 1 << 24;

pub(super) fn damaged(stage: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Internal(format!("the cached {stage} does not parse: {error}"))
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
    /// What of the documents is only read; `None` where all is learned.
    pub masks: Option<Masks>,
    /// Per document of the shards: its index in the [`TextSet`].
    pub documents: Vec<usize>,
}

impl PackedSplit {
    /// The shards as one corpus.
    pub fn corpus(&self) -> Result<Corpus<'_>, Failure> {
        let shards: Result<Vec<Shard>, Diagnostic> =
            self.shards.iter().map(|(_, bytes)| Shard::parse(bytes)).collect();
        Ok(Corpus::new(shards?)?.with_masks(self.masks.as_ref())?)
    }

    /// Targets that count.
    pub fn n_targets(&self) -> u64 {
        self.plan.n_targets(self.masks.as_ref())
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
/// A conversation has the special tokens that its template writes, and no others. Parts that are read
/// and parts that are learned are encoded apart, as a chat does with a prompt and its reply.
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
    let key = CanonicalHasher::new("llmc.stage.shards.v2")
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
    let parts: Vec<&str> = set.split(split).flat_map(|(_, d)| between_cuts(d)).collect();
    let mut parts = tokenizer.encode_batch(&parts, threads).into_iter();
    let (mut encoded, mut cuts) = (Vec::new(), Vec::new());
    for (_, document) in set.split(split) {
        let is_bare = !document.is_rendered;
        let mut ids = Vec::from_iter(roles.bos.or(roles.eos).filter(|_| is_bare));
        let mut ends = Vec::new();
        for part in parts.by_ref().take(document.cuts.len() + 1) {
            ids.extend(part);
            ends.push(ids.len() as u64);
        }
        // The last part goes on to the end.
        ends.pop();
        ids.extend(roles.eos.filter(|_| is_bare));
        encoded.push(ids);
        cuts.push(ends);
    }
    let shards = shards::write(&encoded, tokenizer.vocab_size(), SHARD_IDS)?;
    let lengths: Vec<u64> = encoded.iter().map(|ids| ids.len() as u64).collect();
    let masks = set.is_masked().then(|| Masks::new(&cuts));
    let plan = match &masks {
        Some(masks) => pack::plan_masked(&lengths, masks, length)?,
        None => pack::plan(&lengths, length)?,
    };
    let shards = shards.into_iter().map(|s| (s.entry.name, s.bytes)).collect();
    Ok(PackedSplit { shards, plan, masks, documents })
}

/// The parts of a document between its cuts, also empty ones.
fn between_cuts(document: &Document) -> impl Iterator<Item = &str> {
    let ends = document.cuts.iter().copied().chain([document.text.len()]);
    let mut start = 0;
    ends.map(move |end| {
        let part = document.text.get(start..end).unwrap_or_default();
        start = end;
        part
    })
}

fn finish_rows(train: PackedSplit, validation: Option<PackedSplit>, tokenizer: &Tokenizer) -> Rows {
    let mut hasher = CanonicalHasher::new("llmc.rows.v1");
    let mut account = Vec::new();
    for (name, split) in [("train", Some(&train)), ("validation", validation.as_ref())] {
        let Some(split) = split else { continue };
        hasher.field(name).hash(&split.plan.content_hash());
        if let Some(masks) = &split.masks {
            hasher.field("masks").hash(&masks.content_hash());
        }
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
            "targets": split.n_targets(),
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
        if let Some(masks) = &split.masks {
            folder.bytes(&format!("{name}/{MASKS}"), &masks.to_bytes())?;
        }
    }
    folder.bytes("ledger.json", rows.ledger.as_bytes())?;
    folder.bytes("content.txt", rows.content.to_string().as_bytes())?;
    Ok(())
}

/// One split of what [`write_rows`] wrote; `None` if it is not there.
fn read_split(
    source: &dyn Source,
    cached: &Cached,
    name: &str,
    documents: Vec<usize>,
) -> Result<Option<PackedSplit>, Failure> {
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
    let plan = pack::Plan::from_bytes(&cached.read(source, &format!("{name}/packing.plan"))?)?;
    let masks = match cached.complete.file(&format!("{name}/{MASKS}")) {
        Some(_) => Some(Masks::from_bytes(&cached.read(source, &format!("{name}/{MASKS}"))?)?),
        None => None,
    };
    Ok(Some(PackedSplit { shards, plan, masks, documents }))
}

/// The held-out rows in the data folder of a run, without their documents; `None` if nothing is held out.
pub fn read_held_out(
    source: &dyn Source,
    folder: &std::path::Path,
) -> Result<Option<PackedSplit>, Failure> {
    let complete = read_marker(source, folder)?;
    let cached = Cached { path: folder.to_path_buf(), complete };
    read_split(source, &cached, "validation", Vec::new())
}

fn read_rows(source: &dyn Source, cached: &Cached, set: &TextSet) -> Result<Rows, Failure> {
    let read_split = |name: &str, split: Split| {
        let documents = set.split(split).map(|(i, _)| i).collect();
        read_split(source, cached, name, documents)
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

/// Rows of the batch of a step, and the index of its first sample.
pub fn step_rows(training: &TrainingConfig, n_rows: u64, step: u64) -> (Vec<u64>, u64) {
    let first = ramp::first_sample(training, step);
    let samples = (0..ramp::batch_size(training, step)).map(|i| first + u128::from(i));
    let rows = samples.map(|s| row_of_sample(training.seed, n_rows, s)).collect();
    // Random bits take the low 32 of it.
    (rows, first as u64)
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
