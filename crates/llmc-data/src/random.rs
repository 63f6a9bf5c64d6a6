//! Draws by counter: a value depends on what it is for, never on the order of calls.

use llmc_base::math::philox4x32;
use llmc_base::{CanonicalHasher, Hash};

/// The Philox key of one purpose: the first 8 bytes, little endian, of the
/// canonical hash of (`purpose`, seed).
pub fn key(purpose: &str, seed: u64) -> [u32; 2] {
    halves(first_u64(&CanonicalHasher::new(purpose).int(seed.into()).finish()))
}

/// The first 8 bytes of a hash, little endian.
pub fn first_u64(hash: &Hash) -> u64 {
    let first = hash.0.first_chunk::<8>().expect("a hash has 32 bytes");
    u64::from_le_bytes(*first)
}

/// The low and the high half of a number.
pub fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// A row of draws: word `i` is word `i mod 4` of Philox at counter (low and high half of
/// `i / 4`, low and high half of `stream`).
pub struct Draws {
    key: [u32; 2],
    stream: [u32; 2],
    used: u64,
}

impl Draws {
    /// The draws of one stream under a key.
    pub fn new(key: [u32; 2], stream: u64) -> Self {
        Draws { key, stream: halves(stream), used: 0 }
    }

    fn word(&mut self) -> u32 {
        let [low, high] = halves(self.used / 4);
        let words = philox4x32([low, high, self.stream[0], self.stream[1]], self.key);
        self.used += 1;
        words[((self.used - 1) % 4) as usize]
    }

    /// A number below `n`; `n` is at least 1 and below 2³². The deviation from
    /// uniform is below n/2³².
    pub fn below(&mut self, n: u64) -> u64 {
        (u64::from(self.word()) * n) >> 32
    }
}
