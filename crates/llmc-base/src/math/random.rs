//! Counter-based randomness: a value is a function of key and counter, never of
//! the order of calls.
//!
//! Philox4x32-10 from Salmon, Moraes, Dror and Shaw 2011, "Parallel random
//! numbers: as easy as 1, 2, 3". The layout of keys and counters stands in
//! `docs/numerics.md`.

use super::{log, sincos, sqrt};

/// The Philox4x32 bijection with ten rounds: four random words for a counter
/// and a key.
#[inline]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let p0 = u64::from(PHILOX_M0) * u64::from(c0);
        let p1 = u64::from(PHILOX_M1) * u64::from(c2);
        (c0, c1, c2, c3) =
            ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(PHILOX_W0);
        k1 = k1.wrapping_add(PHILOX_W1);
    }
    [c0, c1, c2, c3]
}

/// The multipliers and the key increments of Philox4x32.
const PHILOX_M0: u32 = 0xd251_1f53;
const PHILOX_M1: u32 = 0xcd9e_8d57;
const PHILOX_W0: u32 = 0x9e37_79b9;
const PHILOX_W1: u32 = 0xbb67_ae85;

/// The two halves of a 64-bit key.
#[inline]
pub fn philox_key(key: u64) -> [u32; 2] {
    [key as u32, (key >> 32) as u32]
}

/// The random word of one element: key = (low, high half of `key`), counter =
/// (low and high half of `element / 4`, `sample`, `step`), word `element mod 4`.
#[inline]
pub fn philox_element(key: u64, step: u32, sample: u32, element: u64) -> u32 {
    let group = element / 4;
    let counter = [group as u32, (group >> 32) as u32, sample, step];
    philox4x32(counter, philox_key(key))[(element % 4) as usize]
}

/// A uniform f32 in [0, 1) from the upper 24 bits of a word.
#[inline]
pub fn uniform_f32(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Two independent standard normals from two words (Box and Muller 1958).
///
/// `u = (top 24 bits of first + 1)·2⁻²⁴` in (0, 1], `v = uniform_f32(second)`,
/// `r = sqrt(−2·log u)`, `a = v·6.2831855`; the pair is `(r·cos a, r·sin a)`.
#[inline]
pub fn normal_f32(first: u32, second: u32) -> (f32, f32) {
    let u = ((first >> 8) + 1) as f32 * (1.0 / 16_777_216.0);
    let r = sqrt(-2.0 * log(u));
    let (sin, cos) = sincos(uniform_f32(second) * core::f32::consts::TAU);
    (r * cos, r * sin)
}
