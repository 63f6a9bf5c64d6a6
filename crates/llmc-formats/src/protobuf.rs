//! The protobuf wire format, by hand: writing fields, and reading them back without a schema.
//!
//! A message is a list of fields, each a varint key `number << 3 | wire type` and a value.
//! Wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes. The deprecated
//! groups (3, 4) are refused.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

#[cfg(test)]
mod tests;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end within a field.
    #[error("the message ends within the field at byte {at}")]
    Truncated {
        /// Where the field starts.
        at: usize,
    },
    /// A varint of more than ten bytes or 64 bits.
    #[error("the varint at byte {at} is longer than 64 bits")]
    Varint {
        /// Where it starts.
        at: usize,
    },
    /// A field number of 0, or a wire type that is unknown or a group.
    #[error("byte {at} is no key of a field: number {number}, wire type {wire}")]
    Key {
        /// Where the key starts.
        at: usize,
        /// Field number.
        number: u64,
        /// Wire type.
        wire: u8,
    },
}

/// A message under construction. Fields stand in the order they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty message.
    pub fn new() -> Self {
        Writer::default()
    }

    /// A varint field: unsigned integers, bools, enums; negative int64 as its two's complement.
    pub fn varint(&mut self, number: u32, value: u64) -> &mut Self {
        self.key(number, 0);
        self.raw_varint(value);
        self
    }

    /// A `double` field.
    pub fn double(&mut self, number: u32, value: f64) -> &mut Self {
        self.key(number, 1);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// A `float` field.
    pub fn float(&mut self, number: u32, value: f32) -> &mut Self {
        self.key(number, 5);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// A `string`, `bytes` or embedded message field.
    pub fn bytes(&mut self, number: u32, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.key(number, 2);
        self.raw_varint(value.len() as u64);
        self.bytes.extend(value);
        self
    }

    /// An embedded message.
    pub fn message(&mut self, number: u32, message: &Writer) -> &mut Self {
        self.bytes(number, &message.bytes)
    }

    /// The finished message.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn key(&mut self, number: u32, wire: u8) {
        self.raw_varint(u64::from(number) << 3 | u64::from(wire));
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// A field's value as the wire type gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1; a `double` by its bits.
    Fixed64(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5; a `float` by its bits.
    Fixed32(u32),
}

/// The fields of a message in order: (number, value). Stops after the first error.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { message, at: 0 }
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>), Error> {
        let at = self.at;
        let key = self.varint(at)?;
        let (number, wire) = (key >> 3, (key & 7) as u8);
        let value = match (number, wire) {
            (1.., 0) => Value::Varint(self.varint(at)?),
            (1.., 1) => Value::Fixed64(u64::from_le_bytes(self.array(at)?)),
            (1.., 2) => {
                let len = self.varint(at)?;
                let len = usize::try_from(len).map_err(|_| Error::Truncated { at })?;
                Value::Bytes(self.take(len, at)?)
            }
            (1.., 5) => Value::Fixed32(u32::from_le_bytes(self.array(at)?)),
            _ => return Err(Error::Key { at, number, wire }),
        };
        Ok((number, value))
    }

    fn varint(&mut self, field: usize) -> Result<u64, Error> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array(field)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Varint { at: start })
    }

    fn array<const N: usize>(&mut self, field: usize) -> Result<[u8; N], Error> {
        let bytes = self.take(N, field)?;
        bytes.try_into().map_err(|_| Error::Truncated { at: field })
    }

    fn take(&mut self, len: usize, field: usize) -> Result<&'a [u8], Error> {
        let rest = &self.message[self.at..];
        let (taken, _) = rest.split_at_checked(len).ok_or(Error::Truncated { at: field })?;
        self.at += len;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.message.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.message.len();
        }
        Some(field)
    }
}
