//! The bytes of a file, read or mapped.

use llmc_runtime::MappedFile;
use std::fmt;
use std::ops::Deref;

/// The content of a file.
pub enum Bytes {
    /// In memory of our own.
    Owned(Vec<u8>),
    /// In the system's page cache, which processes share; see [`MappedFile`] for what may happen to it.
    Mapped(MappedFile),
}

impl Bytes {
    /// In memory of our own, which nobody else can change.
    pub fn into_owned(self) -> Bytes {
        match self {
            Bytes::Mapped(file) => Bytes::Owned(file.bytes().to_vec()),
            owned => owned,
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(file) => file.bytes(),
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::Owned(bytes)
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}
