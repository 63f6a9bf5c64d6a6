//! The tokens by id, as the bytes they decode to.

/// Tokens in id order, in one allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocab {
    bytes: Vec<u8>,
    /// One past the last byte of each token.
    ends: Vec<usize>,
}

impl Vocab {
    /// Adds a token and returns its id.
    pub fn push(&mut self, token: &[u8]) -> u32 {
        self.bytes.extend_from_slice(token);
        self.ends.push(self.bytes.len());
        self.ends.len() as u32 - 1
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of a token of this vocabulary.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.get(id).expect("the id is one of this vocabulary")
    }

    /// The bytes of a token, if there is one of that id.
    pub fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        Some(&self.bytes[start..end])
    }

    /// All tokens in id order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len() as u32).map(|id| self.bytes(id))
    }
}
