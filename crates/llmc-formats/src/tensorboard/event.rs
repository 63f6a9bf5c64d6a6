//! The `Event` message, as far as training logs need it.
//!
//! ```text
//! Event   { 1 wall_time: double, 2 step: int64, 3 file_version: string, 5 summary: Summary }
//! Summary { 1 value: repeated Value }
//! Value   { 1 tag: string, 2 simple_value: float, 8 tensor: TensorProto, 9 metadata: SummaryMetadata }
//! ```

use super::Error;
use crate::protobuf::{self, Value, Writer};

/// TensorFlow's number for strings.
const DT_STRING: u64 = 7;

/// One record of an event file.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Seconds since 1970.
    pub wall_time: f64,
    /// Training step.
    pub step: i64,
    /// What is recorded.
    pub content: Content,
}

/// What an event records.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// The first record of a file.
    FileVersion(String),
    /// Tags and values.
    Scalars(Vec<(String, f32)>),
    /// A text for the text dashboard.
    Text {
        /// Its tag.
        tag: String,
        /// Markdown.
        text: String,
    },
    /// Something that this module does not read.
    Other,
}

impl Event {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut event = Writer::new();
        event.double(1, self.wall_time);
        if self.step != 0 {
            event.varint(2, self.step as u64);
        }
        match &self.content {
            Content::FileVersion(version) => {
                event.bytes(3, version);
            }
            Content::Scalars(values) => {
                let mut summary = Writer::new();
                for (tag, value) in values {
                    let mut entry = Writer::new();
                    entry.bytes(1, tag).float(2, *value);
                    summary.message(1, &entry);
                }
                event.message(5, &summary);
            }
            Content::Text { tag, text } => {
                let mut summary = Writer::new();
                summary.message(1, &text_value(tag, text));
                event.message(5, &summary);
            }
            Content::Other => {}
        }
        event.finish()
    }

    /// The event in a record. Errors: bytes that are no message, texts that are not UTF-8.
    pub fn decode(record: &[u8]) -> Result<Event, Error> {
        let mut event = Event { wall_time: 0.0, step: 0, content: Content::Other };
        for field in protobuf::fields(record) {
            match field? {
                (1, Value::Fixed64(bits)) => event.wall_time = f64::from_bits(bits),
                (2, Value::Varint(step)) => event.step = step as i64,
                (3, Value::Bytes(version)) => {
                    event.content = Content::FileVersion(utf8(version, "file_version")?);
                }
                (5, Value::Bytes(summary)) => event.content = decode_summary(summary)?,
                _ => {}
            }
        }
        Ok(event)
    }
}

/// A string tensor of rank 0 with the metadata by which the text plugin finds it.
fn text_value(tag: &str, text: &str) -> Writer {
    let (mut plugin, mut metadata) = (Writer::new(), Writer::new());
    plugin.bytes(1, "text");
    metadata.message(1, &plugin);
    let mut tensor = Writer::new();
    tensor.varint(1, DT_STRING).message(2, &Writer::new()).bytes(8, text);
    let mut value = Writer::new();
    value.bytes(1, tag).message(8, &tensor).message(9, &metadata);
    value
}

fn decode_summary(summary: &[u8]) -> Result<Content, Error> {
    let mut scalars = Vec::new();
    for field in protobuf::fields(summary) {
        let (1, Value::Bytes(value)) = field? else { continue };
        let (mut tag, mut scalar, mut text) = (String::new(), None, None);
        for field in protobuf::fields(value) {
            match field? {
                (1, Value::Bytes(name)) => tag = utf8(name, "tag")?,
                (2, Value::Fixed32(bits)) => scalar = Some(f32::from_bits(bits)),
                (8, Value::Bytes(tensor)) => text = decode_string(tensor)?,
                _ => {}
            }
        }
        match (scalar, text) {
            (Some(value), _) => scalars.push((tag, value)),
            (None, Some(text)) => return Ok(Content::Text { tag, text }),
            (None, None) => {}
        }
    }
    Ok(if scalars.is_empty() { Content::Other } else { Content::Scalars(scalars) })
}

/// The first string of a string tensor.
fn decode_string(tensor: &[u8]) -> Result<Option<String>, Error> {
    for field in protobuf::fields(tensor) {
        if let (8, Value::Bytes(text)) = field? {
            return utf8(text, "string_val").map(Some);
        }
    }
    Ok(None)
}

fn utf8(bytes: &[u8], field: &'static str) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::Utf8 { field })
}
