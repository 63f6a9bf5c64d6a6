//! Several texts at once: sequences that join and leave between tokens, over one set of weights.
//!
//! A step reads the weights once for all sequences. What a sequence gets are the bits that it gets
//! alone, whatever the others are. A sequence that begins like one that is there, or like one that has
//! left, takes its beginning from its cache.
//!
//! The rows in use are the first ones: the last takes the place of one that leaves.

use super::decoder::{Decoder, Logits, Piece};
use super::prefix::PrefixCache;
use super::{Held, MAX_PIECE, SessionError, in_common, window_start};
use crate::exec::Engine;
use crate::mapped::MappedFile;
use llmc_ir::Module;
use llmc_plan::View;

/// A sequence of a batch; no two of a batch are ever the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(u64);

/// A row in use.
struct Row {
    id: SequenceId,
    /// The text so far.
    text: Vec<u32>,
    held: Held,
}

/// Several texts in the making.
pub struct Batch {
    decoder: Decoder,
    rows: Vec<Row>,
    prefixes: PrefixCache,
    n_joined: u64,
    n_shared: usize,
}

impl Batch {
    /// Room for `n_rows` sequences of `capacity` tokens. The weights are zeros until they are filled.
    pub fn new(
        module: &Module,
        n_rows: usize,
        capacity: usize,
        engine: Engine,
    ) -> Result<Self, SessionError> {
        let decoder = Decoder::new(module, n_rows, capacity, engine)?;
        let prefixes = decoder.prefix_cache(0);
        Ok(Batch { decoder, rows: Vec::new(), prefixes, n_joined: 0, n_shared: 0 })
    }

    /// Paths of the weights, in path order.
    pub fn weights(&self) -> Vec<String> {
        self.decoder.weights()
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

    /// Takes the weights from a file that holds [`Batch::weight_block`] of the same module, so that processes share
    /// them. They cannot be filled any more, and what is cached is forgotten.
    ///
    /// Errors: [`SessionError::Block`] for a file of another length; then nothing changes.
    pub fn map_weights(&mut self, file: MappedFile) -> Result<(), SessionError> {
        self.decoder.map_weights(file)?;
        self.rows.iter_mut().for_each(|row| row.held = Held::default());
        Ok(())
    }

    /// Elements of a weight, to be filled.
    pub fn weight_mut(&mut self, path: &str) -> Result<&mut [f32], SessionError> {
        self.decoder.weight_mut(path)
    }

    /// Sequences that are here.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no sequence is here.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether no other sequence can join.
    pub fn is_full(&self) -> bool {
        self.rows.len() == self.decoder.n_rows()
    }

    /// Keeps up to so many bytes of the cache of sequences that have left, for others that begin like them. What
    /// was kept before is forgotten. No bit of any logits depends on it.
    pub fn keep_prefixes(&mut self, bytes: usize) {
        self.prefixes = self.decoder.prefix_cache(bytes);
    }

    /// Tokens that went through the model, of all sequences.
    pub fn computed_tokens(&self) -> usize {
        self.decoder.n_computed()
    }

    /// Tokens that sequences took from the caches of others.
    pub fn shared_tokens(&self) -> usize {
        self.n_shared
    }

    /// A sequence joins with its first tokens.
    ///
    /// Errors: [`SessionError::Empty`] without a token, [`SessionError::Full`].
    pub fn join(&mut self, ids: &[u32]) -> Result<SequenceId, SessionError> {
        if ids.is_empty() {
            return Err(SessionError::Empty);
        }
        if self.is_full() {
            return Err(SessionError::Full(self.decoder.n_rows()));
        }
        let id = SequenceId(self.n_joined);
        self.n_joined += 1;
        self.rows.push(Row { id, text: ids.to_vec(), held: Held::default() });
        Ok(id)
    }

    fn find(&self, id: SequenceId) -> Result<usize, SessionError> {
        let row = self.rows.iter().position(|row| row.id == id);
        row.ok_or(SessionError::UnknownSequence)
    }

    /// Adds a token to a sequence.
    ///
    /// Errors: [`SessionError::UnknownSequence`].
    pub fn push(&mut self, id: SequenceId, token: u32) -> Result<(), SessionError> {
        let row = self.find(id)?;
        self.rows[row].text.push(token);
        Ok(())
    }

    /// A sequence leaves.
    ///
    /// Errors: [`SessionError::UnknownSequence`].
    pub fn leave(&mut self, id: SequenceId) -> Result<(), SessionError> {
        let row = self.find(id)?;
        self.remember(row);
        let last = self.rows.len() - 1;
        if row != last {
            let held = &self.rows[last].held;
            self.decoder.copy_slots(last, row, held.text.len() - held.start);
        }
        self.rows.swap_remove(row);
        Ok(())
    }

    /// For each sequence, in the order of their ids, the logits \[V\] of the token after its text.
    ///
    /// Errors: what the engine reports; then every sequence begins its cache anew.
    pub fn next_logits(&mut self) -> Result<Vec<(SequenceId, Vec<f32>)>, SessionError> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let result = self.step();
        if result.is_err() {
            self.rows.iter_mut().for_each(|row| row.held = Held::default());
        }
        result
    }

    /// Keeps what a row has in its cache, if that is the beginning of its text.
    fn remember(&mut self, row: usize) {
        let (held, decoder) = (&self.rows[row].held, &self.decoder);
        if held.start == 0 {
            self.prefixes.insert(&held.text, |range| decoder.slots(row, range));
        }
    }

    /// Gives a row without a cache the longest beginning that another has, or had; of equals the first.
    fn share(&mut self, to: usize) {
        let ids = &self.rows[to].text;
        if window_start(ids.len(), self.decoder.capacity()) > 0 {
            return;
        }
        // The last token is read again for its logits.
        let ids = &ids[..ids.len() - 1];
        let mut found = (0, 0);
        for (row, other) in self.rows.iter().enumerate().filter(|(_, row)| row.held.start == 0) {
            let common = in_common(ids, &other.held.text);
            if common > found.1 {
                found = (row, common);
            }
        }
        let (from, n) = found;
        let n_left = self.prefixes.longest(ids);
        if n_left > n {
            let decoder = &mut self.decoder;
            self.prefixes.read(ids, 0..n_left, |at, slots| decoder.set_slots(to, at, slots));
        } else if n > 0 {
            self.decoder.copy_slots(from, to, n);
        }
        let n = n.max(n_left);
        if n > 0 {
            let text = ids[..n].to_vec();
            self.rows[to].held = Held { text, start: 0 };
            self.n_shared += n;
        }
    }

    fn step(&mut self) -> Result<Vec<(SequenceId, Vec<f32>)>, SessionError> {
        let capacity = self.decoder.capacity();
        for at in 0..self.rows.len() {
            if self.rows[at].held.text.is_empty() {
                self.share(at);
            }
            if window_start(self.rows[at].text.len(), capacity) > 0 {
                // Before the window moves away from the beginning.
                self.remember(at);
            }
            let row = &mut self.rows[at];
            let mut known = row.held.prepare(&row.text, 1, capacity);
            // All but the last token, which goes with those of the others.
            let open = row.text.len() - 1;
            while known < open {
                let end = open.min(known + MAX_PIECE);
                let piece = &row.text[known..end];
                self.decoder.extend(Logits::Last, at, &[row.held.piece(piece)])?;
                row.held.text.extend_from_slice(piece);
                known = end;
            }
        }
        let pieces: Vec<Piece> =
            self.rows.iter().map(|row| row.held.piece(&row.text[row.text.len() - 1..])).collect();
        let logits = self.decoder.extend(Logits::All, 0, &pieces)?;
        let vocab = logits.len() / self.rows.len();
        let mut out: Vec<(SequenceId, Vec<f32>)> = self
            .rows
            .iter()
            .zip(logits.chunks_exact(vocab.max(1)))
            .map(|(row, logits)| (row.id, logits.to_vec()))
            .collect();
        out.sort_by_key(|(id, _)| *id);
        for row in &mut self.rows {
            row.held.text.extend(row.text.last());
        }
        Ok(out)
    }
}
