//! The packing plan as a file, little endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `LLMCPAK` and the format version, 1 |
//! | 8 | 8 | slots in a row |
//! | 16 | 8 | number of rows |
//! | 24 | 8 | number of segments |
//! | 32 | 8 each | for each row, the number of segments up to its end |
//! | … | 24 each | for each segment: document, start, length, 8 bytes each |

use super::{Plan, Segment};
use llmc_base::Diagnostic;

const MAGIC: &[u8; 8] = b"LLMCPAK\x01";

impl Plan {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + 8 * self.row_ends.len() + 24 * self.segments.len());
        bytes.extend_from_slice(MAGIC);
        let header = [
            u64::from(self.sequence_length),
            self.row_ends.len() as u64,
            self.segments.len() as u64,
        ];
        let segments = self
            .segments
            .iter()
            .flat_map(|segment| [segment.document, segment.start, u64::from(segment.len)]);
        for number in header.into_iter().chain(self.row_ends.iter().copied()).chain(segments) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads a plan: every row has at least one segment and no more pairs than slots.
    /// Whether its segments lie in a corpus shows when [`batch`](super::batch) reads them.
    ///
    /// Errors: `pack::format`, saying what is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Plan, Diagnostic> {
        let wrong = |what: String| Diagnostic::error("pack::format", what);
        let numbers = match bytes.as_chunks::<8>() {
            ([magic, numbers @ ..], []) if magic == MAGIC => numbers,
            _ => return Err(wrong("this is no packing plan of format version 1".into())),
        };
        let number = |i: usize| numbers.get(i).map(|bytes| u64::from_le_bytes(*bytes));
        let (Some(row_len), Some(n_rows), Some(n_segments)) = (number(0), number(1), number(2))
        else {
            return Err(wrong("the header is cut off".into()));
        };
        let sequence_length = u32::try_from(row_len).unwrap_or(0);
        if sequence_length == 0 || n_rows == 0 {
            return Err(wrong(format!("{n_rows} rows of {row_len} slots make no plan")));
        }
        let expect = 3 + u128::from(n_rows) + 3 * u128::from(n_segments);
        if expect != numbers.len() as u128 {
            return Err(wrong(format!(
                "{n_rows} rows and {n_segments} segments take {expect} numbers, there are {}",
                numbers.len()
            )));
        }
        let (row_ends, segments) = numbers[3..].split_at(n_rows as usize);
        let row_ends: Vec<u64> = row_ends.iter().map(|end| u64::from_le_bytes(*end)).collect();
        let segments: Option<Vec<Segment>> = segments
            .as_chunks::<3>()
            .0
            .iter()
            .map(|[document, start, len]| {
                let len = u32::try_from(u64::from_le_bytes(*len)).ok()?;
                Some(Segment {
                    document: u64::from_le_bytes(*document),
                    start: u64::from_le_bytes(*start),
                    len,
                })
            })
            .collect();
        let Some(segments) = segments else {
            return Err(wrong("a segment has more than 4294967295 pairs".into()));
        };
        let mut start = 0;
        for (row, &end) in row_ends.iter().enumerate() {
            if end <= start || end > n_segments {
                return Err(wrong(format!(
                    "row {row} ends at segment {end}, after {start} of {n_segments}"
                )));
            }
            let row_segments = &segments[start as usize..end as usize];
            let n_pairs: u64 = row_segments.iter().map(|segment| u64::from(segment.len)).sum();
            if n_pairs > row_len || row_segments.iter().any(|segment| segment.len == 0) {
                return Err(wrong(format!(
                    "row {row} has {n_pairs} pairs in {row_len} slots, or an empty segment"
                )));
            }
            start = end;
        }
        if start != n_segments {
            return Err(wrong(format!("the rows end at segment {start} of {n_segments}")));
        }
        Ok(Plan { sequence_length, segments, row_ends })
    }
}
