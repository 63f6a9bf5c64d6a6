//! Packing documents into rows of one length, with no attention between them.
//!
//! A document of `n` ids has `n − 1` pairs (id, next id). A row has `T` slots,
//! each for one pair, so a row needs no slot for a last id and no document
//! boundary is ever a target. A document with more than `T` pairs is cut into
//! runs of `T`; each run is a segment of its own, whose positions start at 0.
//! Every pair of the corpus lies in exactly one slot.
//!
//! What is left of each document is packed by best fit, the longest first: into
//! the row with the least room that suffices, of several the first. Slots that
//! stay empty have weight 0.
//!
//! | | shape | in a segment | in an empty slot |
//! |---|---|---|---|
//! | `tokens` | i32 [rows, T] | the id | `pad` |
//! | `targets` | i32 [rows, T] | the next id, [`IGNORE_INDEX`] if it does not count | [`IGNORE_INDEX`] |
//! | `segment_ids` | i32 [rows, T] | 0, 1, … in the row | −1 |
//! | `positions` | i32 [rows, T] | from 0 in the segment | 0 |
//! | `weights` | f32 [rows, T] | 1, 0 if the next id does not count | 0 |
//!
//! With [`Masks`] some ids are only read. A segment in which no target counts is in no row, so
//! every row has one that does.
//!
//! Source: Ding et al. 2024, "Fewer truncations improve language modeling",
//! arXiv:2404.10830 (best-fit-decreasing packing).

mod file;
mod masks;

#[cfg(test)]
mod tests;

pub use masks::Masks;

use crate::shards::Corpus;
use llmc_base::{Diagnostic, Hash};
use std::collections::BTreeSet;

/// The target that does not count, as `ignore_index` of PyTorch's loss.
pub const IGNORE_INDEX: i32 = -100;

/// A run of pairs of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of the document in the corpus.
    pub document: u64,
    /// Index of the first pair in the document.
    pub start: u64,
    /// Number of pairs, at least 1.
    pub len: u32,
}

/// Which segments lie in which row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    sequence_length: u32,
    segments: Vec<Segment>,
    /// For each row, the number of segments up to its end.
    row_ends: Vec<u64>,
}

/// Packs documents of these lengths, in ids, into rows of `sequence_length`
/// slots. Documents of fewer than two ids have no pair and lie in no row.
///
/// Errors: `pack::sequence_length` if it is 0, `pack::empty` if there is no pair.
pub fn plan(lengths: &[u64], sequence_length: u32) -> Result<Plan, Diagnostic> {
    plan_if(lengths, sequence_length, &|_| true)
}

/// The same for documents of which some ids are only read: what has no target that counts lies in
/// no row.
///
/// Errors: as [`plan`].
pub fn plan_masked(
    lengths: &[u64],
    masks: &Masks,
    sequence_length: u32,
) -> Result<Plan, Diagnostic> {
    plan_if(lengths, sequence_length, &|segment| masks.n_counted(segment) > 0)
}

fn plan_if(
    lengths: &[u64],
    sequence_length: u32,
    is_taken: &dyn Fn(&Segment) -> bool,
) -> Result<Plan, Diagnostic> {
    if sequence_length == 0 {
        return Err(Diagnostic::error("pack::sequence_length", "the sequence length is 0"));
    }
    let row_len = u64::from(sequence_length);
    let mut rows: Vec<Vec<Segment>> = Vec::new();
    let mut rests: Vec<Segment> = Vec::new();
    for (document, &n_ids) in (0..).zip(lengths) {
        let n_pairs = n_ids.saturating_sub(1);
        let n_full = n_pairs / row_len;
        let full = (0..n_full)
            .map(|i| Segment { document, start: i * row_len, len: sequence_length })
            .filter(is_taken);
        rows.extend(full.map(|segment| vec![segment]));
        let len = (n_pairs % row_len) as u32;
        let rest = Segment { document, start: n_full * row_len, len };
        if len > 0 && is_taken(&rest) {
            rests.push(rest);
        }
    }
    rests.sort_by_key(|segment| (std::cmp::Reverse(segment.len), segment.document));
    // Rows with room, by (room, row).
    let mut open: BTreeSet<(u32, usize)> = BTreeSet::new();
    for segment in rests {
        let fit = open.range((segment.len, 0)..).next().copied();
        let (room, row) = fit.unwrap_or_else(|| {
            rows.push(Vec::new());
            (sequence_length, rows.len() - 1)
        });
        open.remove(&(room, row));
        rows[row].push(segment);
        if room > segment.len {
            open.insert((room - segment.len, row));
        }
    }
    if rows.is_empty() {
        return Err(Diagnostic::error(
            "pack::empty",
            format!(
                "none of the {} documents has two tokens and one that counts, so there is nothing to predict",
                lengths.len()
            ),
        )
        .help("check the dataset and its split"));
    }
    let mut n_segments = 0;
    let row_ends = rows
        .iter()
        .map(|row| {
            n_segments += row.len() as u64;
            n_segments
        })
        .collect();
    Ok(Plan { sequence_length, segments: rows.concat(), row_ends })
}

impl Plan {
    /// Slots in a row.
    pub fn sequence_length(&self) -> u32 {
        self.sequence_length
    }

    /// Number of rows, at least 1.
    pub fn n_rows(&self) -> u64 {
        self.row_ends.len() as u64
    }

    /// The segments of one row, in order.
    ///
    /// Panics if there is no such row.
    pub fn row(&self, row: u64) -> &[Segment] {
        let row = row as usize;
        let start = row.checked_sub(1).map_or(0, |previous| self.row_ends[previous]);
        &self.segments[start as usize..self.row_ends[row] as usize]
    }

    /// Slots that hold a pair, in all rows.
    pub fn n_pairs(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.len)).sum()
    }

    /// Slots of weight 1 in all rows.
    pub fn n_targets(&self, masks: Option<&Masks>) -> u64 {
        match masks {
            None => self.n_pairs(),
            Some(masks) => self.segments.iter().map(|segment| masks.n_counted(segment)).sum(),
        }
    }

    /// Share of slots that hold a pair.
    pub fn fill(&self) -> f64 {
        self.n_pairs() as f64 / (self.n_rows() as f64 * f64::from(self.sequence_length))
    }

    /// The hash of the plan's bytes.
    pub fn content_hash(&self) -> Hash {
        Hash::of_bytes(&self.to_bytes())
    }
}

/// Some rows, filled: the inputs of a training or validation step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Number of rows.
    pub n_rows: usize,
    /// Slots in a row, `T`.
    pub sequence_length: usize,
    /// Input ids, [rows, T].
    pub tokens: Vec<i32>,
    /// The id that follows each, or [`IGNORE_INDEX`], [rows, T].
    pub targets: Vec<i32>,
    /// Segment in the row, −1 for an empty slot, [rows, T].
    pub segment_ids: Vec<i32>,
    /// Position in the segment, [rows, T].
    pub positions: Vec<i32>,
    /// 1 where the target counts, 0 elsewhere, [rows, T].
    pub weights: Vec<f32>,
    /// Sum of the weights.
    pub n_targets: u64,
}

impl Batch {
    /// `n_rows` rows of `sequence_length` empty slots.
    pub fn empty(n_rows: usize, sequence_length: usize, pad: u32) -> Self {
        let n = n_rows * sequence_length;
        Batch {
            n_rows,
            sequence_length,
            tokens: vec![pad as i32; n],
            targets: vec![IGNORE_INDEX; n],
            segment_ids: vec![-1; n],
            positions: vec![0; n],
            weights: vec![0.0; n],
            n_targets: 0,
        }
    }
}

/// Fills these rows of the plan with the ids of the corpus; `pad` stands in
/// empty slots (0 does where there is no pad token: its weight is 0).
///
/// Errors: `pack::mismatch` if there is no such row, or it names ids that the
/// corpus does not have.
pub fn batch(
    plan: &Plan,
    corpus: &Corpus<'_>,
    rows: &[u64],
    pad: u32,
) -> Result<Batch, Diagnostic> {
    let row_len = plan.sequence_length as usize;
    let mut batch = Batch::empty(rows.len(), row_len, pad);
    for (i, &row) in rows.iter().enumerate() {
        let mismatch = || {
            Diagnostic::error(
                "pack::mismatch",
                format!("row {row} of the packing plan is not in the corpus"),
            )
            .help("build the plan again from these shards")
        };
        if row >= plan.n_rows() {
            return Err(mismatch());
        }
        let mut at = i * row_len;
        for (segment_id, segment) in (0..).zip(plan.row(row)) {
            let ids = usize::try_from(segment.document)
                .ok()
                .and_then(|document| corpus.document(document))
                .ok_or_else(mismatch)?;
            let end = segment.start.saturating_add(u64::from(segment.len) + 1);
            if end > ids.len() as u64 {
                return Err(mismatch());
            }
            let run = ids.slice(segment.start as usize, end as usize);
            let next = at + segment.len as usize;
            for (slot, id) in batch.tokens[at..next].iter_mut().zip(run.iter()) {
                *slot = id as i32;
            }
            for (slot, id) in batch.targets[at..next].iter_mut().zip(run.iter().skip(1)) {
                *slot = id as i32;
            }
            for (slot, position) in batch.positions[at..next].iter_mut().zip(0..) {
                *slot = position;
            }
            batch.segment_ids[at..next].fill(segment_id);
            batch.weights[at..next].fill(1.0);
            batch.n_targets += u64::from(segment.len);
            for read in corpus.masks().into_iter().flat_map(|masks| masks.only_read(segment)) {
                let slots = at + read.start as usize..at + read.end as usize;
                batch.n_targets -= slots.len() as u64;
                batch.targets[slots.clone()].fill(IGNORE_INDEX);
                batch.weights[slots].fill(0.0);
            }
            at = next;
        }
    }
    Ok(batch)
}
