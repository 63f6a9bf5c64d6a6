//! Token ids on disk: written as bytes, read from borrowed bytes.
//!
//! A shard holds whole documents. Little endian throughout:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `LLMCIDS` and the format version, 1 |
//! | 8 | 4 | bytes per id: 2 if `vocab_size` ≤ 65536, else 4 |
//! | 12 | 4 | `vocab_size`; every id is below it |
//! | 16 | 8 | number of documents |
//! | 24 | 8 | number of ids |
//! | 32 | 32 | BLAKE3 of all that follows |
//! | 64 | 8 each | for each document, the number of ids up to its end |
//! | … | 2 or 4 each | the ids |
//!
//! The same documents give the same bytes. [`Shard::parse`] trusts nothing but
//! leaves the hash to [`Shard::verify`], so that a mapped file is read once at
//! most.

use crate::pack::Masks;
use llmc_base::{Diagnostic, Hash};

const MAGIC: &[u8; 8] = b"LLMCIDS\x01";
const HEADER: usize = 64;
/// Batches hold ids as i32.
const MAX_VOCAB_SIZE: u32 = 1 << 31;

/// A shard to write.
#[derive(Clone, Debug)]
pub struct ShardFile {
    /// Its line in the ledger.
    pub entry: ShardEntry,
    /// The whole file.
    pub bytes: Vec<u8>,
}

/// What a ledger says of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardEntry {
    /// File name: `shard-00000.ids` and up.
    pub name: String,
    /// Documents in it.
    pub documents: u64,
    /// Ids in it.
    pub ids: u64,
}

/// Bytes of each id for a vocabulary.
fn id_width(vocab_size: u32) -> usize {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}

/// The shards of `documents`, in order. A shard ends before the document that
/// would bring it above `max_ids`; a longer document has a shard of its own.
///
/// Errors: `shards::id` if an id is not below `vocab_size`.
pub fn write(
    documents: &[Vec<u32>],
    vocab_size: u32,
    max_ids: u64,
) -> Result<Vec<ShardFile>, Diagnostic> {
    for (i, ids) in documents.iter().enumerate() {
        if let Some(id) = ids.iter().find(|&&id| id >= vocab_size) {
            return Err(Diagnostic::error(
                "shards::id",
                format!("document {i} has the id {id}, the vocabulary has {vocab_size} tokens"),
            ));
        }
    }
    let mut shards = Vec::new();
    let mut start = 0;
    while start < documents.len() {
        let mut n_ids = documents[start].len() as u64;
        let mut end = start + 1;
        while end < documents.len() && n_ids + documents[end].len() as u64 <= max_ids {
            n_ids += documents[end].len() as u64;
            end += 1;
        }
        shards.push(write_one(&documents[start..end], vocab_size, n_ids, shards.len()));
        start = end;
    }
    Ok(shards)
}

fn write_one(documents: &[Vec<u32>], vocab_size: u32, n_ids: u64, index: usize) -> ShardFile {
    let width = id_width(vocab_size);
    let mut bytes = Vec::with_capacity(HEADER + 8 * documents.len() + width * n_ids as usize);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(width as u32).to_le_bytes());
    bytes.extend_from_slice(&vocab_size.to_le_bytes());
    bytes.extend_from_slice(&(documents.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&n_ids.to_le_bytes());
    bytes.resize(HEADER, 0);
    let mut end = 0;
    for ids in documents {
        end += ids.len() as u64;
        bytes.extend_from_slice(&end.to_le_bytes());
    }
    for id in documents.iter().flatten() {
        bytes.extend_from_slice(&id.to_le_bytes()[..width]);
    }
    let payload = Hash::of_bytes(&bytes[HEADER..]);
    bytes[32..HEADER].copy_from_slice(&payload.0);
    let entry = ShardEntry {
        name: format!("shard-{index:05}.ids"),
        documents: documents.len() as u64,
        ids: n_ids,
    };
    ShardFile { entry, bytes }
}

/// A shard over borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Shard<'a> {
    vocab_size: u32,
    ends: &'a [[u8; 8]],
    ids: Ids<'a>,
    payload: &'a [u8],
    payload_hash: Hash,
}

impl<'a> Shard<'a> {
    /// Reads a shard and checks everything that reading from it relies on: the
    /// lengths, the ends of the documents, and that ids are below `vocab_size`.
    ///
    /// Errors: `shards::format`, saying what is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Diagnostic> {
        let wrong = |what: String| Diagnostic::error("shards::format", what);
        let Some((header, payload)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(wrong(format!(
                "a shard has a header of 64 bytes, this has {}",
                bytes.len()
            )));
        };
        if &header[..8] != MAGIC {
            return Err(wrong("this is no shard of format version 1".into()));
        }
        let (width, vocab_size) = (u32_at(header, 8), u32_at(header, 12));
        if vocab_size > MAX_VOCAB_SIZE {
            return Err(wrong(format!(
                "a vocabulary of {vocab_size} tokens is above {MAX_VOCAB_SIZE}"
            )));
        }
        if width as usize != id_width(vocab_size) {
            return Err(wrong(format!("{width} bytes per id do not go with {vocab_size} tokens")));
        }
        let (n_documents, n_ids) = (u64_at(header, 16), u64_at(header, 24));
        let expect = u128::from(n_documents) * 8 + u128::from(n_ids) * u128::from(width);
        if expect != payload.len() as u128 {
            return Err(wrong(format!(
                "{n_documents} documents and {n_ids} ids take {expect} bytes, there are {}",
                payload.len()
            )));
        }
        let (ends, ids) = payload.split_at(8 * n_documents as usize);
        let (ends, _) = ends.as_chunks::<8>();
        let mut before = 0;
        for (i, end) in ends.iter().enumerate() {
            let end = u64::from_le_bytes(*end);
            if end < before || end > n_ids {
                return Err(wrong(format!(
                    "document {i} ends at {end}, after {before} of {n_ids}"
                )));
            }
            before = end;
        }
        if before != n_ids {
            return Err(wrong(format!("the documents end at {before}, there are {n_ids} ids")));
        }
        let ids = if width == 2 {
            Ids::Narrow(ids.as_chunks::<2>().0)
        } else {
            Ids::Wide(ids.as_chunks::<4>().0)
        };
        if let Some(largest) = ids.iter().max().filter(|&id| id >= vocab_size) {
            return Err(wrong(format!("the id {largest} is not below {vocab_size}")));
        }
        let payload_hash = Hash(*header.last_chunk::<32>().expect("the header has 64 bytes"));
        Ok(Shard { vocab_size, ends, ids, payload, payload_hash })
    }

    /// Whether the content has the hash that the header states.
    pub fn verify(&self) -> bool {
        Hash::of_bytes(self.payload) == self.payload_hash
    }

    /// Ids are below this.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// Number of documents.
    pub fn n_documents(&self) -> usize {
        self.ends.len()
    }

    /// The ids of one document, or `None` if there is no such document.
    pub fn document(&self, index: usize) -> Option<Ids<'a>> {
        let end = u64::from_le_bytes(*self.ends.get(index)?) as usize;
        let start = match index.checked_sub(1) {
            Some(previous) => u64::from_le_bytes(self.ends[previous]) as usize,
            None => 0,
        };
        Some(self.ids.slice(start, end))
    }
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("a field lies in the header"))
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("a field lies in the header"))
}

/// A run of ids inside a shard.
#[derive(Clone, Copy, Debug)]
pub enum Ids<'a> {
    /// Two bytes each.
    Narrow(&'a [[u8; 2]]),
    /// Four bytes each.
    Wide(&'a [[u8; 4]]),
}

impl<'a> Ids<'a> {
    /// Number of ids.
    pub fn len(&self) -> usize {
        match self {
            Ids::Narrow(ids) => ids.len(),
            Ids::Wide(ids) => ids.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids from `start` to `end`, which lie in the run.
    pub fn slice(&self, start: usize, end: usize) -> Ids<'a> {
        match self {
            Ids::Narrow(ids) => Ids::Narrow(&ids[start..end]),
            Ids::Wide(ids) => Ids::Wide(&ids[start..end]),
        }
    }

    /// The ids in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (narrow, wide): (&[[u8; 2]], &[[u8; 4]]) = match *self {
            Ids::Narrow(ids) => (ids, &[]),
            Ids::Wide(ids) => (&[], ids),
        };
        narrow
            .iter()
            .map(|id| u32::from(u16::from_le_bytes(*id)))
            .chain(wide.iter().map(|id| u32::from_le_bytes(*id)))
    }
}

/// The documents of several shards, numbered through.
#[derive(Clone, Debug)]
pub struct Corpus<'a> {
    shards: Vec<Shard<'a>>,
    /// For each shard, the number of documents up to its end.
    ends: Vec<usize>,
    masks: Option<&'a Masks>,
}

impl<'a> Corpus<'a> {
    /// The shards in order.
    ///
    /// Errors: `shards::format` if their vocabularies differ in size.
    pub fn new(shards: Vec<Shard<'a>>) -> Result<Self, Diagnostic> {
        if let Some(other) = shards.iter().find(|shard| shard.vocab_size != shards[0].vocab_size) {
            return Err(Diagnostic::error(
                "shards::format",
                format!(
                    "the shards are of vocabularies with {} and {} tokens",
                    shards[0].vocab_size, other.vocab_size
                ),
            ));
        }
        let mut n_documents = 0;
        let ends = shards
            .iter()
            .map(|shard| {
                n_documents += shard.n_documents();
                n_documents
            })
            .collect();
        Ok(Corpus { shards, ends, masks: None })
    }

    /// The same documents, of which some ids are only read.
    ///
    /// Errors: `shards::format` if the masks are of another number of documents.
    pub fn with_masks(self, masks: Option<&'a Masks>) -> Result<Self, Diagnostic> {
        match masks.map(Masks::n_documents) {
            Some(n) if n != self.n_documents() => Err(Diagnostic::error(
                "shards::format",
                format!("the masks are of {n} documents, the shards of {}", self.n_documents()),
            )),
            _ => Ok(Corpus { masks, ..self }),
        }
    }

    /// What is only read; `None` where every id is learned.
    pub fn masks(&self) -> Option<&'a Masks> {
        self.masks
    }

    /// Number of documents.
    pub fn n_documents(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The ids of one document, or `None` if there is no such document.
    pub fn document(&self, index: usize) -> Option<Ids<'a>> {
        let shard = self.ends.partition_point(|&end| end <= index);
        let first = shard.checked_sub(1).map_or(0, |previous| self.ends[previous]);
        self.shards.get(shard)?.document(index - first)
    }

    /// The number of ids of each document, in order.
    pub fn lengths(&self) -> Vec<u64> {
        self.shards
            .iter()
            .flat_map(|shard| (0..shard.n_documents()).filter_map(|i| shard.document(i)))
            .map(|ids| ids.len() as u64)
            .collect()
    }
}

#[cfg(test)]
mod tests;
