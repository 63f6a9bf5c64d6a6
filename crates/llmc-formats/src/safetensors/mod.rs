//! The safetensors container: a JSON header with dtypes, shapes and byte offsets, then
//! the tensors' bytes, little endian, row-major, without gaps.
//!
//! ```text
//! u64 length of the header | header, JSON padded with spaces to a multiple of 8 | data
//! ```
//!
//! The writer is canonical: tensors stand in the order of the reference implementation
//! (wider dtypes first, then by name), the header lists them in that order and the
//! metadata by key, so equal content gives equal bytes. The reader takes borrowed bytes
//! and accepts exactly the files in which every data byte belongs to one tensor.
//!
//! Source: <https://huggingface.co/docs/safetensors>, section "Format".

mod read;
mod write;

#[cfg(test)]
mod tests;

pub use read::{Header, SafeTensors, TensorInfo, TensorView};
pub use write::{Data, TensorSource, to_bytes, write_to};

use std::collections::BTreeMap;

/// Free key and value texts of a file.
pub type Metadata = BTreeMap<String, String>;

/// Largest header that is read or written, in bytes, as in the reference implementation.
pub const MAX_HEADER_BYTES: usize = 100_000_000;

/// An element type of the container, in the order of the reference implementation (which
/// decides the order of tensors in a file).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // The names say it all.
pub enum DType {
    Bool,
    U8,
    I8,
    I16,
    U16,
    F16,
    Bf16,
    I32,
    U32,
    F32,
    F64,
    I64,
    U64,
}

impl DType {
    /// Every dtype with its name in headers.
    pub const ALL: [(DType, &'static str); 13] = [
        (DType::Bool, "BOOL"),
        (DType::U8, "U8"),
        (DType::I8, "I8"),
        (DType::I16, "I16"),
        (DType::U16, "U16"),
        (DType::F16, "F16"),
        (DType::Bf16, "BF16"),
        (DType::I32, "I32"),
        (DType::U32, "U32"),
        (DType::F32, "F32"),
        (DType::F64, "F64"),
        (DType::I64, "I64"),
        (DType::U64, "U64"),
    ];

    /// Its name in headers.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(dtype, _)| *dtype == self).map_or("?", |(_, name)| name)
    }

    /// The dtype with this name in headers.
    pub fn parse(name: &str) -> Option<DType> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(dtype, _)| *dtype)
    }

    /// Width of an element in bytes.
    pub fn bytes(self) -> usize {
        match self {
            DType::Bool | DType::U8 | DType::I8 => 1,
            DType::U16 | DType::I16 | DType::F16 | DType::Bf16 => 2,
            DType::U32 | DType::I32 | DType::F32 => 4,
            DType::U64 | DType::I64 | DType::F64 => 8,
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes are not a safetensors file, or tensors do not make one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer bytes than the length field and the header need.
    #[error("the file has {actual} bytes, its header needs {expected}")]
    Truncated {
        /// Bytes that the length field asks for.
        expected: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// The header is longer than [`MAX_HEADER_BYTES`].
    #[error("the header has {bytes} bytes, more than the limit of {MAX_HEADER_BYTES}")]
    HeaderTooLarge {
        /// Its length.
        bytes: u64,
    },
    /// The header is not JSON of the right form.
    #[error("the header is malformed: {reason}")]
    Header {
        /// What is wrong, with the place.
        reason: String,
    },
    /// Two tensors of one name.
    #[error("tensor `{name}` is there twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A name that the format keeps for itself.
    #[error("a tensor may not be named `{name}`")]
    ReservedName {
        /// The name.
        name: String,
    },
    /// An element type that this module does not know.
    #[error("tensor `{name}` has unknown dtype `{dtype}`")]
    UnknownDType {
        /// The tensor.
        name: String,
        /// The dtype as written.
        dtype: String,
    },
    /// Offsets that are not a range within the data.
    #[error("tensor `{name}` lies at {begin}..{end}, the data has {data_len} bytes")]
    OutOfBounds {
        /// The tensor.
        name: String,
        /// First byte.
        begin: u64,
        /// One past the last byte.
        end: u64,
        /// Bytes of data.
        data_len: u64,
    },
    /// Dtype and shape do not give the number of bytes.
    #[error("tensor `{name}` {dtype}{shape:?} has {actual} bytes, its shape needs {expected}")]
    SizeMismatch {
        /// The tensor.
        name: String,
        /// Its dtype.
        dtype: DType,
        /// Its shape.
        shape: Vec<usize>,
        /// Bytes by dtype and shape.
        expected: u64,
        /// Bytes given.
        actual: u64,
    },
    /// Dtype and shape give more bytes than a u64 counts.
    #[error("tensor `{name}` {dtype}{shape:?} is too large to count")]
    TooLarge {
        /// The tensor.
        name: String,
        /// Its dtype.
        dtype: DType,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Two tensors share bytes.
    #[error("tensor `{second}` begins at {begin}, before `{first}` ends at {end}")]
    Overlap {
        /// The one that comes first.
        first: String,
        /// Where it ends.
        end: u64,
        /// The one that comes next.
        second: String,
        /// Where it begins.
        begin: u64,
    },
    /// Bytes that belong to no tensor.
    #[error("bytes {begin}..{end} of the data belong to no tensor")]
    Hole {
        /// First byte.
        begin: u64,
        /// One past the last byte.
        end: u64,
    },
    /// No tensor of this name.
    #[error("there is no tensor `{name}`")]
    Missing {
        /// The name.
        name: String,
    },
    /// The tensor cannot be read as asked.
    #[error("tensor `{name}` has dtype {dtype}, which cannot be read as {wanted}")]
    WrongDType {
        /// The tensor.
        name: String,
        /// Its dtype.
        dtype: DType,
        /// What was asked for.
        wanted: &'static str,
    },
}

/// Bytes that a tensor of this dtype and shape takes; `None` beyond u64.
fn byte_len(dtype: DType, shape: &[usize]) -> Option<u64> {
    // A dim of 0 makes the tensor empty whatever the others are, so it is looked for first.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(dtype.bytes() as u64, |n, dim| n.checked_mul(*dim as u64))
}
