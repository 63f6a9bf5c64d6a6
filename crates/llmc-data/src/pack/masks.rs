//! Which ids of a document are learned and which are only read, and their file:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `LLMCMSK` and the format version, 1, little endian as all that follows |
//! | 8 | 8 | number of documents |
//! | 16 | 8 | number of cuts |
//! | 24 | 8 each | for each document, the number of cuts up to its end |
//! | … | 8 each | the cuts |
//!
//! The cuts of a document are indices of ids, in order. Ids before the first are only read, those
//! from there to the second are learned, and so on in turn; a document without cuts is learned.

use super::Segment;
use llmc_base::{Diagnostic, Hash};
use std::ops::Range;

const MAGIC: &[u8; 8] = b"LLMCMSK\x01";

/// What of each document of a corpus is learned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// For each document, the number of cuts up to its end.
    ends: Vec<u64>,
    cuts: Vec<u64>,
}

impl Masks {
    /// Masks of documents by their cuts, each in order.
    pub fn new(documents: &[Vec<u64>]) -> Self {
        let mut end = 0;
        let ends = documents.iter().map(|cuts| {
            end += cuts.len() as u64;
            end
        });
        Masks { ends: ends.collect(), cuts: documents.concat() }
    }

    /// Number of documents.
    pub fn n_documents(&self) -> usize {
        self.ends.len()
    }

    /// The cuts of a document; none if there is no such document.
    fn cuts(&self, document: u64) -> &[u64] {
        let Ok(document) = usize::try_from(document) else { return &[] };
        let Some(end) = self.ends.get(document) else { return &[] };
        let start = document.checked_sub(1).map_or(0, |previous| self.ends[previous]);
        &self.cuts[start as usize..*end as usize]
    }

    /// Slots of a segment, from 0, whose targets are only read: runs in order.
    pub fn only_read(&self, segment: &Segment) -> impl Iterator<Item = Range<u64>> + use<> {
        let cuts = self.cuts(segment.document);
        // The target of slot s is the id `start + s + 1`.
        let (first, len) = (segment.start.saturating_add(1), u64::from(segment.len));
        let mut runs = Vec::new();
        let mut from = 0;
        for (i, until) in cuts.iter().copied().chain([u64::MAX]).enumerate() {
            let (start, end) = (from.max(first), until.min(first.saturating_add(len)));
            if i % 2 == 0 && !cuts.is_empty() && start < end {
                runs.push(start - first..end - first);
            }
            from = until;
        }
        runs.into_iter()
    }

    /// Targets of a segment that count.
    pub fn n_counted(&self, segment: &Segment) -> u64 {
        let read: u64 = self.only_read(segment).map(|run| run.end - run.start).sum();
        u64::from(segment.len) - read
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let header = [self.ends.len() as u64, self.cuts.len() as u64];
        for number in header.iter().chain(&self.ends).chain(&self.cuts) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The hash of those bytes.
    pub fn content_hash(&self) -> Hash {
        Hash::of_bytes(&self.to_bytes())
    }

    /// Reads masks; every document's cuts are in order.
    ///
    /// Errors: `pack::format`, saying what is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Diagnostic> {
        let wrong = |what: String| Diagnostic::error("pack::format", what);
        let numbers = match bytes.as_chunks::<8>() {
            ([magic, numbers @ ..], []) if magic == MAGIC => numbers,
            _ => return Err(wrong("these are no masks of format version 1".into())),
        };
        let numbers: Vec<u64> = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        let [n_documents, n_cuts, rest @ ..] = numbers.as_slice() else {
            return Err(wrong("the header of the masks is cut off".into()));
        };
        if u128::from(*n_documents) + u128::from(*n_cuts) != rest.len() as u128 {
            return Err(wrong(format!(
                "{n_documents} documents with {n_cuts} cuts do not take {} numbers",
                rest.len()
            )));
        }
        let (ends, cuts) = rest.split_at(*n_documents as usize);
        let mut start = 0;
        for (document, &end) in ends.iter().enumerate() {
            if end < start || end > *n_cuts {
                return Err(wrong(format!(
                    "the cuts of document {document} end at {end}, after {start} of {n_cuts}"
                )));
            }
            if !cuts[start as usize..end as usize].is_sorted() {
                return Err(wrong(format!("the cuts of document {document} are not in order")));
            }
            start = end;
        }
        if start != *n_cuts {
            return Err(wrong(format!("the cuts end at {start} of {n_cuts}")));
        }
        Ok(Masks { ends: ends.to_vec(), cuts: cuts.to_vec() })
    }
}
