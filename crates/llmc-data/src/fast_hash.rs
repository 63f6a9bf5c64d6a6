//! A quick hasher for the maps of this crate: multiply and fold, 8 bytes at a time.
//!
//! It is fixed (no random keys) and not safe against chosen keys. No map is
//! iterated into an output without sorting, so hashes never reach an artifact.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map with the quick hasher.
pub type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

const KEY: u64 = 0x9E37_79B9_7F4A_7C15;
const TAIL: u64 = 0xC2B2_AE3D_27D4_EB4F;

/// State of one hash.
#[derive(Default)]
pub struct FastHasher(u64);

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

impl Hasher for FastHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, tail) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.0 = fold(self.0 ^ u64::from_le_bytes(*chunk), KEY);
        }
        let mut last = 0u64;
        for &byte in tail {
            last = (last << 8) | u64::from(byte);
        }
        self.0 = fold(self.0 ^ last ^ TAIL, KEY);
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = fold(self.0 ^ value ^ TAIL, KEY);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.0 = self.0.rotate_left(23) ^ (value as u64).wrapping_mul(KEY);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
