//! Scaled dot-product attention with grouped heads, causal, windowed and segment
//! masks, forward and backward.
//!
//! The scores of a tile of query rows at a time live in the caller's scratch,
//! *transposed*: one row per key. So a register holds one key's scores for
//! 16 queries, the softmax needs no horizontal operation, its sixteen virtual
//! lanes are sixteen registers, and the tile is ready as left operand of `p·v`.
//! Keys that no row of a tile sees are skipped: they are exact zeros.
//!
//! Nothing of size T×S exists. Unlike Dao et al. 2022 (arXiv:2205.14135) the softmax
//! is not computed online, because the definition fixes the order of its sum.

mod backward;
mod cached;
mod cells;
mod decode;
mod forward;
mod score;
mod softmax;
#[cfg(test)]
mod tests;

pub use backward::{attention_backward, attention_backward_scratch_len};
pub use cached::{cached_attention, cached_attention_scratch_len};
pub use cells::Cells;
pub use forward::{attention, attention_scratch_len, is_decoding_attention};

use crate::dropout::Dropout;
use crate::error::{Error, check_len, product};

/// Sizes and masks of an attention.
///
/// q, o: [B, T, H, D]; k, v: [B, capacity, K, D], of which the first S rows of each
/// batch are used; query head h reads key-value head h / (H / K).
///
/// Key j is visible to query i if both have the same segment, and
/// `j ≤ i + (S − T)` if causal, and `i + (S − T) − j < window` if there is a window.
/// A row with nothing visible gives zeros.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// B.
    pub batch: usize,
    /// H.
    pub n_heads: usize,
    /// K, a divisor of H.
    pub n_kv_heads: usize,
    /// T.
    pub q_len: usize,
    /// S.
    pub kv_len: usize,
    /// Rows of k and v per batch in memory, at least S.
    pub kv_capacity: usize,
    /// D.
    pub head_dim: usize,
    /// What the dot products are multiplied by, with a rounding of its own.
    pub scale: f32,
    /// Whether a query only sees keys up to its own position.
    pub causal: bool,
    /// How many keys back a query sees, itself included.
    pub window: Option<usize>,
}

/// The document of each position: attention does not cross from one to another.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    /// [B, T].
    pub q: &'a [i32],
    /// [B, S].
    pub kv: &'a [i32],
}

impl<'a> Segments<'a> {
    /// The segments of the queries and of the keys of one batch.
    fn of_batch(&self, shape: &Attention, batch: usize) -> (&'a [i32], &'a [i32]) {
        (
            &self.q[batch * shape.q_len..(batch + 1) * shape.q_len],
            &self.kv[batch * shape.kv_len..(batch + 1) * shape.kv_len],
        )
    }
}

impl Attention {
    /// Elements of q and o.
    fn q_elements(&self) -> Result<usize, Error> {
        product(&[self.batch, self.q_len, self.n_heads, self.head_dim])
    }

    /// Elements of k and v.
    fn kv_elements(&self) -> Result<usize, Error> {
        product(&[self.batch, self.kv_capacity, self.n_kv_heads, self.head_dim])
    }

    /// Refuses sizes without meaning, and segments of other sizes.
    fn check(&self, segments: Option<Segments<'_>>) -> Result<(), Error> {
        let refuse = |what| Err(Error::Dimension { what });
        if self.n_kv_heads == 0 || self.head_dim == 0 {
            return refuse("attention needs heads of at least one element");
        }
        if self.n_heads == 0 || !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return refuse("the number of kv heads does not divide the number of heads");
        }
        if self.kv_capacity < self.kv_len {
            return refuse("the capacity of k and v is less than their length");
        }
        // Positions are compared as i32.
        const LONGEST: usize = 1 << 29;
        if self.q_len > LONGEST || self.kv_len > LONGEST {
            return refuse("a sequence of attention is longer than 2^29");
        }
        if let Some(segments) = segments {
            check_len("segments.q", segments.q, product(&[self.batch, self.q_len])?)?;
            check_len("segments.kv", segments.kv, product(&[self.batch, self.kv_len])?)?;
        }
        Ok(())
    }

    /// Refuses a dropout that does not fit.
    fn check_dropout(&self, dropout: Option<Dropout<'_>>) -> Result<(), Error> {
        let Some(dropout) = dropout else { return Ok(()) };
        dropout.check()?;
        match dropout.samples.len() == self.batch {
            true => Ok(()),
            false => Err(Error::Dimension { what: "the dropout has not one sample per row" }),
        }
    }

    /// Query heads that share a key-value head.
    fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Distance between consecutive positions of q and o.
    fn q_stride(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Distance between consecutive positions of k and v.
    fn kv_stride(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Where position 0 of a query head begins.
    fn q_start(&self, batch: usize, head: usize) -> usize {
        (batch * self.q_len * self.n_heads + head) * self.head_dim
    }

    /// Where position 0 of a key-value head begins.
    fn kv_start(&self, batch: usize, kv_head: usize) -> usize {
        (batch * self.kv_capacity * self.n_kv_heads + kv_head) * self.head_dim
    }
}
