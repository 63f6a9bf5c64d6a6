//! The state of a session as bytes: text and KV cache, to the bit.
//!
//! All numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `llmcsess` |
//! | 4 | version, 2 |
//! | 32 | content hash of the model |
//! | 8 × 4 | tokens of the text, first token of the window, tokens of the context, caches |
//! | 4 each | ids of the text |
//! | per cache | 1: element type, 0 f32, 1 bf16, 2 int8; 8: bytes; the bytes as in memory |
//! | 32 | BLAKE3 of all before |

use llmc_base::Hash;
use llmc_ir::DType;

const MAGIC: &[u8; 8] = b"llmcsess";
const VERSION: u32 = 2;
/// Bytes of a hash.
const HASH: usize = 32;

/// Text and KV cache of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionState {
    pub(super) text: Vec<u32>,
    pub(super) start: usize,
    pub(super) capacity: usize,
    /// Per cache in path order, the type of its elements and the slots of the window.
    pub(super) slots: Vec<(DType, Vec<u8>)>,
}

/// The element types of caches, by the numbers that stand for them.
const DTYPES: [DType; 3] = [DType::F32, DType::Bf16, DType::I8];

/// Why bytes are no state to go on from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are in the messages.
pub enum StateError {
    #[error("it is no saved session")]
    NotASession,
    #[error("it has version {0}, this llmc reads version {VERSION}")]
    Version(u32),
    #[error("it is torn or damaged: its checksum does not fit")]
    Torn,
    #[error("it was saved with the model {found}, this one is {expected}")]
    Model { expected: Hash, found: Hash },
    #[error("its KV cache holds {found}, the one here {expected}")]
    Cache { expected: DType, found: DType },
    #[error("it is of a model with another cache or context")]
    Shape,
}

impl SessionState {
    /// The text.
    pub fn text(&self) -> &[u32] {
        &self.text
    }

    /// Bytes of the cache.
    pub fn cache_bytes(&self) -> usize {
        self.slots.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// The state as bytes, for the model with this content hash.
    pub fn to_bytes(&self, model: &Hash) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.cache_bytes() + self.text.len() * 4 + 256);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&model.0);
        for number in [self.text.len(), self.start, self.capacity, self.slots.len()] {
            out.extend_from_slice(&(number as u64).to_le_bytes());
        }
        self.text.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
        for (dtype, bytes) in &self.slots {
            let number = DTYPES.iter().position(|known| known == dtype).unwrap_or(DTYPES.len());
            out.push(number as u8);
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        let sum = Hash::of_bytes(&out);
        out.extend_from_slice(&sum.0);
        out
    }

    /// Reads what [`SessionState::to_bytes`] wrote, for the model with this content hash.
    ///
    /// Errors: each way in which bytes are no such state.
    pub fn from_bytes(bytes: &[u8], model: &Hash) -> Result<Self, StateError> {
        if !bytes.starts_with(MAGIC) {
            return Err(StateError::NotASession);
        }
        let split = bytes.len().checked_sub(HASH).ok_or(StateError::Torn)?;
        let (body, sum) = bytes.split_at(split);
        let mut rest = Reader(body.get(MAGIC.len()..).ok_or(StateError::Torn)?);
        let version = u32::from_le_bytes(rest.array()?);
        if version != VERSION {
            return Err(StateError::Version(version));
        }
        if Hash::of_bytes(body).0 != sum {
            return Err(StateError::Torn);
        }
        let found = Hash(rest.array()?);
        if &found != model {
            return Err(StateError::Model { expected: *model, found });
        }
        let [n_text, start, capacity, n_caches] =
            [rest.count()?, rest.count()?, rest.count()?, rest.count()?];
        let text = rest.words(n_text)?.collect();
        let mut slots = Vec::new();
        for _ in 0..n_caches {
            let [number] = rest.array()?;
            let dtype = DTYPES.get(usize::from(number)).ok_or(StateError::Shape)?;
            let n = rest.count()?;
            slots.push((*dtype, rest.take(n)?.to_vec()));
        }
        match rest.0.is_empty() {
            true => Ok(SessionState { text, start, capacity, slots }),
            false => Err(StateError::Torn),
        }
    }
}

/// Bytes that are still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], StateError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(StateError::Torn)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        self.take(N)?.try_into().map_err(|_| StateError::Torn)
    }

    fn count(&mut self) -> Result<usize, StateError> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| StateError::Torn)
    }

    fn words(&mut self, n: usize) -> Result<impl Iterator<Item = u32> + use<'a>, StateError> {
        let bytes = self.take(n.checked_mul(4).ok_or(StateError::Torn)?)?;
        // Pieces of four bytes, by `chunks_exact`.
        Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
    }
}
