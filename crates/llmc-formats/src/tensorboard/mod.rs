//! TensorBoard event files: scalars and texts over steps.
//!
//! A file is a sequence of TFRecords, each one `Event` message; the first says
//! `brain.Event:2`. TensorBoard finds files with `tfevents` in their name.
//!
//! ```text
//! u64 length | u32 masked CRC-32C of the length | bytes | u32 masked CRC-32C of the bytes
//! ```
//!
//! Times are given by the caller, in seconds since 1970: this module has no clock.
//! Only what a training log needs is here: no histograms, images or graphs.
//!
//! Sources: TensorFlow `core/lib/io/record_writer.h`, `core/util/event.proto`,
//! `core/framework/summary.proto`, `tensorboard/plugins/text/metadata.py`.

mod crc32c;
mod event;

#[cfg(test)]
mod tests;

pub use crc32c::crc32c;
pub use event::{Content, Event};

use crate::protobuf;
use std::io;

/// Why bytes are not an event file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file ends within a record: what a crash leaves. The records before are whole.
    #[error("the file ends within the record at byte {at}")]
    Truncated {
        /// Where the record starts.
        at: usize,
    },
    /// A checksum is wrong.
    #[error("the checksum of the record at byte {at} is wrong")]
    Checksum {
        /// Where the record starts.
        at: usize,
    },
    /// A record is not an `Event`.
    #[error("the record is no event: {0}")]
    Message(#[from] protobuf::Error),
    /// A text that is not UTF-8.
    #[error("field `{field}` is not UTF-8")]
    Utf8 {
        /// Which field.
        field: &'static str,
    },
}

/// Writes an event file, one record per call.
#[derive(Debug)]
pub struct EventWriter<W> {
    out: W,
}

impl<W: io::Write> EventWriter<W> {
    /// Starts a file: writes the version record. `wall_time` is in seconds since 1970.
    pub fn new(out: W, wall_time: f64) -> io::Result<Self> {
        let mut writer = EventWriter::append(out);
        let content = Content::FileVersion("brain.Event:2".to_string());
        writer.event(&Event { wall_time, step: 0, content })?;
        Ok(writer)
    }

    /// Goes on with a file that has its version record.
    pub fn append(out: W) -> Self {
        EventWriter { out }
    }

    /// Writes scalars of one step in one record; tags with a common `group/` share a section.
    pub fn scalars(&mut self, step: i64, wall_time: f64, values: &[(&str, f32)]) -> io::Result<()> {
        let values = values.iter().map(|(tag, value)| (tag.to_string(), *value)).collect();
        self.event(&Event { wall_time, step, content: Content::Scalars(values) })
    }

    /// Writes a text (Markdown) of one step.
    pub fn text(&mut self, step: i64, wall_time: f64, tag: &str, text: &str) -> io::Result<()> {
        let content = Content::Text { tag: tag.to_string(), text: text.to_string() };
        self.event(&Event { wall_time, step, content })
    }

    /// Writes any event.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        self.out.write_all(&record(&event.encode()))
    }

    /// Flushes the writer below.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The writer below.
    pub fn into_inner(self) -> W {
        self.out
    }
}

/// All events of a file.
///
/// Errors: a torn or altered record, or one that is no event.
pub fn read_events(file: &[u8]) -> Result<Vec<Event>, Error> {
    records(file).map(|record| record.and_then(Event::decode)).collect()
}

/// One TFRecord around `bytes`.
pub fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(bytes.len() + 16);
    out.extend(length);
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend(bytes);
    out.extend(masked(crc32c(bytes)).to_le_bytes());
    out
}

/// The records of a file, checked. Stops after the first error.
pub fn records(file: &[u8]) -> impl Iterator<Item = Result<&[u8], Error>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= file.len() {
            return None;
        }
        let found = next_record(file, at);
        at = found.as_ref().map_or(file.len(), |bytes| at + bytes.len() + 16);
        Some(found)
    })
}

fn next_record(file: &[u8], at: usize) -> Result<&[u8], Error> {
    let truncated = || Error::Truncated { at };
    let (length, rest) = file[at..].split_first_chunk::<8>().ok_or_else(truncated)?;
    let (length_crc, rest) = rest.split_first_chunk::<4>().ok_or_else(truncated)?;
    if u32::from_le_bytes(*length_crc) != masked(crc32c(length)) {
        return Err(Error::Checksum { at });
    }
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| truncated())?;
    let (bytes, rest) = rest.split_at_checked(length).ok_or_else(truncated)?;
    let (crc, _) = rest.split_first_chunk::<4>().ok_or_else(truncated)?;
    match u32::from_le_bytes(*crc) == masked(crc32c(bytes)) {
        true => Ok(bytes),
        false => Err(Error::Checksum { at }),
    }
}

/// A checksum of data that may itself hold checksums is rotated and shifted.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}
