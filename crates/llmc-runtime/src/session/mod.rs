//! A generation session: one text over a KV cache.
//!
//! Logits are a function of the text alone: they have the bits of the whole forward pass over its
//! window, whatever the session was asked before, and however the text came to it.

mod batch;
mod decoder;
mod prefix;
mod state;

pub use batch::{Batch, SequenceId};
pub use state::{SessionState, StateError};

use crate::exec::{Engine, RunError};
use crate::mapped::MappedFile;
pub use decoder::CacheBytes;
use decoder::{CacheKind, Decoder, Logits, Piece};
use llmc_ir::Module;
use llmc_plan::{PlanError, View};
use prefix::PrefixCache;

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The fields are in the messages.
pub enum SessionError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the model has no function `@{0}`")]
    Missing(&'static str),
    #[error("there is no token to go on from")]
    Empty,
    #[error("no tensor `{0}`")]
    UnknownTensor(String),
    #[error("`{0}` lies in a file that is mapped, it cannot be filled")]
    Fixed(String),
    #[error("a block of weights has {expected} bytes, this file has {found}")]
    Block { found: usize, expected: usize },
    #[error("all {0} rows are taken")]
    Full(usize),
    #[error("no such sequence; it has left")]
    UnknownSequence,
    #[error("the last {n} tokens are not in one window of the context")]
    Window { n: usize },
}

/// Most tokens that go through the model at once: more take memory and save no time.
const MAX_PIECE: usize = 256;

/// Tokens that are worth being kept when a session turns to another text: fewer are read again as fast.
const WORTH_KEEPING: usize = 16;

/// First token of the window over a text of this length, in a context of `capacity` tokens: it moves on
/// by half of them whenever it is full.
fn window_start(length: usize, capacity: usize) -> usize {
    let hop = (capacity / 2).max(1);
    length.saturating_sub(capacity).div_ceil(hop) * hop
}

/// With how many of the same tokens two texts begin.
fn in_common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// What the cache of a row holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    /// The text whose window, or the beginning of it, is in the cache.
    text: Vec<u32>,
    /// First token of the window; all after it are in the cache.
    start: usize,
}

impl Held {
    /// Makes ready for the window over `ids`: forgets what is not of it, and at least the last `n_open`
    /// tokens. The result is how many tokens of `ids` are in the cache or before its window.
    fn prepare(&mut self, ids: &[u32], n_open: usize, capacity: usize) -> usize {
        let start = window_start(ids.len(), capacity);
        let common = in_common(ids, &self.text);
        let common = common.min(ids.len() - n_open.min(ids.len()));
        if self.start != start || common <= start {
            *self = Held { text: ids[..start].to_vec(), start };
            return start;
        }
        self.text.truncate(common);
        common
    }

    /// The piece that brings these tokens, which follow the text so far.
    fn piece<'a>(&self, ids: &'a [u32]) -> Piece<'a> {
        Piece { start: self.text.len() - self.start, ids }
    }
}

/// One text in the making: weights, cache, and the tokens that the cache holds.
pub struct Session {
    decoder: Decoder,
    held: Held,
    prefixes: PrefixCache,
    n_shared: usize,
    logits: Vec<f32>,
}

impl Session {
    /// A session over a module with `@prefill` and `@decode`, with room for `capacity` tokens. The
    /// weights are zeros until they are filled.
    pub fn new(module: &Module, capacity: usize, engine: Engine) -> Result<Self, SessionError> {
        let decoder = Decoder::new(module, 1, capacity, engine)?;
        let prefixes = decoder.prefix_cache(0);
        Ok(Session { decoder, held: Held::default(), prefixes, n_shared: 0, logits: Vec::new() })
    }

    /// Keeps up to so many bytes of the cache of earlier texts: one that begins like one of them does not read
    /// that beginning again. What was kept before is forgotten. No bit of any logits depends on it.
    pub fn keep_prefixes(&mut self, bytes: usize) {
        self.prefixes = self.decoder.prefix_cache(bytes);
    }

    /// Tokens that went through the model.
    pub fn computed_tokens(&self) -> usize {
        self.decoder.n_computed()
    }

    /// Tokens whose cache was taken from an earlier text but the last.
    pub fn shared_tokens(&self) -> usize {
        self.n_shared
    }

    /// Most tokens that the model sees at once.
    pub fn capacity(&self) -> usize {
        self.decoder.capacity()
    }

    /// Paths of the weights, in path order.
    pub fn weights(&self) -> Vec<String> {
        self.decoder.weights()
    }

    /// Bytes of a weight of any dtype, up to the end of its last word.
    pub fn weight_bytes(&self, path: &str) -> Result<&[u8], SessionError> {
        self.decoder.weight_bytes(path)
    }

    /// Where a weight is, with its dtype and shape.
    pub fn weight_view(&self, path: &str) -> Option<&View> {
        self.decoder.weight_view(path)
    }

    /// Bytes of a weight of any dtype, up to the end of its last word, to be filled.
    pub fn weight_bytes_mut(&mut self, path: &str) -> Result<&mut [u8], SessionError> {
        self.decoder.weight_bytes_mut(path)
    }

    /// The weights as they lie in memory, one block of bytes that a file can hold. It depends on paths, types and
    /// values alone.
    pub fn weight_block(&self) -> &[u8] {
        self.decoder.weight_block()
    }

    /// Takes the weights from a file that holds [`Session::weight_block`] of the same module, so that processes share
    /// them. They cannot be filled any more, and what is cached is forgotten.
    ///
    /// Errors: [`SessionError::Block`] for a file of another length; then nothing changes.
    pub fn map_weights(&mut self, file: MappedFile) -> Result<(), SessionError> {
        self.decoder.map_weights(file)?;
        self.held = Held::default();
        Ok(())
    }

    /// Elements of a weight, to be filled.
    pub fn weight_mut(&mut self, path: &str) -> Result<&mut [f32], SessionError> {
        self.decoder.weight_mut(path)
    }

    /// The text that the cache stands for.
    pub fn text(&self) -> &[u32] {
        &self.held.text
    }

    /// How many tokens more a text of `length` tokens can have before the window over it moves.
    pub fn room(&self, length: usize) -> usize {
        window_start(length, self.capacity()) + self.capacity() - length
    }

    /// Logits \[V\] of the token that follows `ids`.
    ///
    /// Goes on from what the text has in common with that of the last call: the next token of a
    /// generation, the next turn of a chat, another try. Of a text longer than the capacity the model
    /// sees a window with positions from 0, which moves on by half a capacity whenever it is full.
    ///
    /// Errors: [`SessionError::Empty`] if there is no token.
    pub fn next_logits(&mut self, ids: &[u32]) -> Result<&[f32], SessionError> {
        self.last_logits(ids, 1)
    }

    /// Logits \[n, V\] of the tokens that follow `ids` without its last n − 1 tokens, without its last
    /// n − 2, and so on up to `ids`: in one pass what n calls of [`Session::next_logits`] give.
    ///
    /// Errors: [`SessionError::Empty`] if `ids` has not n tokens; [`SessionError::Window`] if the window
    /// moves between them, see [`Session::room`].
    pub fn last_logits(&mut self, ids: &[u32], n: usize) -> Result<&[f32], SessionError> {
        if n == 0 || ids.len() < n {
            return Err(SessionError::Empty);
        }
        let capacity = self.capacity();
        if window_start(ids.len(), capacity) != window_start(ids.len() - n + 1, capacity) {
            return Err(SessionError::Window { n });
        }
        let mut at = self.prepare(ids, n);
        let open = ids.len() - n;
        while at < open {
            let end = open.min(at + MAX_PIECE);
            // The last of them needs no pass of its own where one token's logits are wanted.
            let end = if n == 1 && end == open && open - at < MAX_PIECE { ids.len() } else { end };
            let piece = &ids[at..end];
            let logits = self.decoder.extend(Logits::Last, 0, &[self.held.piece(piece)]);
            let logits = logits.inspect_err(|_| self.held = Held::default())?;
            self.held.text.extend_from_slice(piece);
            if end == ids.len() {
                self.logits.clear();
                self.logits.extend_from_slice(logits);
                return Ok(&self.logits);
            }
            at = end;
        }
        let piece = &ids[at..];
        let logits = self.decoder.extend(Logits::All, 0, &[self.held.piece(piece)]);
        let logits = logits.inspect_err(|_| self.held = Held::default())?;
        self.held.text.extend_from_slice(piece);
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        Ok(&self.logits)
    }

    /// Makes ready for a text as [`Held::prepare`], with what earlier texts have in common with it.
    fn prepare(&mut self, ids: &[u32], n_open: usize) -> usize {
        let capacity = self.capacity();
        let open = &ids[..ids.len() - n_open];
        let n_kept = match self.held.start == window_start(ids.len(), capacity) {
            true => in_common(open, &self.held.text),
            false => 0,
        };
        self.remember(n_kept);
        let mut at = self.held.prepare(ids, n_open, capacity);
        if self.held.start == 0 {
            let found = self.prefixes.longest(open);
            if found > at {
                let decoder = &mut self.decoder;
                self.prefixes.read(ids, at..found, |at, slots| decoder.set_slots(0, at, slots));
                self.n_shared += found - at;
                self.held.text = ids[..found].to_vec();
                at = found;
            }
        }
        at
    }

    /// Keeps the text for later, of which only the first `n_kept` tokens are to stay in the cache.
    fn remember(&mut self, n_kept: usize) {
        let Session { decoder, held, prefixes, .. } = self;
        if held.start == 0 && held.text.len() >= n_kept + WORTH_KEEPING {
            prefixes.insert(&held.text, |range| decoder.slots(0, range));
        }
    }

    /// What the session holds now: the text and its cache. To go on from it later, here or in another
    /// session of the same weights, or to try several continuations.
    pub fn state(&self) -> SessionState {
        let n_slots = self.held.text.len() - self.held.start;
        SessionState {
            text: self.held.text.clone(),
            start: self.held.start,
            capacity: self.capacity(),
            slots: self
                .decoder
                .caches()
                .map(|cache| cache.dtype)
                .zip(self.decoder.slots(0, 0..n_slots))
                .collect(),
        }
    }

    /// Goes on from a state.
    ///
    /// Errors: [`StateError::Cache`] if its cache has another format, [`StateError::Shape`] if it is of a
    /// model with another cache or context.
    pub fn set_state(&mut self, state: &SessionState) -> Result<(), StateError> {
        self.fits(state)?;
        self.remember(0);
        let slots: Vec<&[u8]> = state.slots.iter().map(|(_, bytes)| &bytes[..]).collect();
        self.decoder.set_slots(0, 0, &slots);
        self.held = Held { text: state.text.clone(), start: state.start };
        Ok(())
    }

    /// Whether a state can be gone on from here.
    ///
    /// Errors: as [`Session::set_state`].
    pub fn fits(&self, state: &SessionState) -> Result<(), StateError> {
        let n_slots = state.text.len().checked_sub(state.start).ok_or(StateError::Shape)?;
        let caches: Vec<CacheKind> = self.decoder.caches().collect();
        let here = caches.iter().map(|cache| cache.dtype);
        for (expected, (found, _)) in here.zip(&state.slots) {
            if expected != *found {
                return Err(StateError::Cache { expected, found: *found });
            }
        }
        let bytes = caches.iter().map(|cache| cache.slot_bytes.checked_mul(n_slots));
        let is_same = state.capacity == self.capacity()
            && n_slots <= state.capacity
            && bytes.eq(state.slots.iter().map(|(_, bytes)| Some(bytes.len())));
        if is_same { Ok(()) } else { Err(StateError::Shape) }
    }

    /// Bytes of the KV cache: all of it, what the tokens that it holds take, and what is kept of earlier texts.
    pub fn cache_bytes(&self) -> CacheBytes {
        let here = self.decoder.cache_bytes(self.held.text.len() - self.held.start);
        CacheBytes { kept: self.prefixes.n_bytes() as u64, ..here }
    }
}
