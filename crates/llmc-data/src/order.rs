//! The order in which rows are trained on: a pure function of (seed, step).
//!
//! Sample `s = step · batch_size + i` is sample `s mod n` of epoch `s / n`, with
//! `n` rows in all. Each epoch has its own permutation of the rows: a Feistel
//! network keyed by (seed, epoch) on the smallest square domain 4ᵏ ≥ n, walked
//! until the value is below n. So any step can be reached at once, nothing is
//! buffered, every row comes once per epoch, and a batch at the end of an epoch
//! goes on with the next one.
//!
//! Validation rows have no order of their own: they are taken as the plan numbers
//! them, so that losses at two steps compare.
//!
//! Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains"
//! (cycle walking and the generalised Feistel cipher); round function:
//! Philox4x32-10.

use crate::random::{halves, key};
use llmc_base::math::philox4x32;

const ROUNDS: u32 = 6;

/// The rows of the batch of `step`, in order. `n_rows` is at least 1.
pub fn batch_rows(seed: u64, n_rows: u64, batch_size: u64, step: u64) -> Vec<u64> {
    let first = u128::from(step) * u128::from(batch_size);
    (0..batch_size).map(|i| row_of_sample(seed, n_rows, first + u128::from(i))).collect()
}

/// The row of one global sample. `n_rows` is at least 1.
pub fn row_of_sample(seed: u64, n_rows: u64, sample: u128) -> u64 {
    let n = n_rows.max(1);
    let epoch = (sample / u128::from(n)) as u64;
    permute(seed, epoch, n, (sample % u128::from(n)) as u64)
}

/// The image of `index` < `n` under the permutation of 0..n for (seed, epoch).
pub fn permute(seed: u64, epoch: u64, n: u64, index: u64) -> u64 {
    let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
    let half = bits.div_ceil(2);
    if half == 0 {
        return 0;
    }
    let key = key("llmc.order.v1", seed);
    let mask = u64::MAX >> (u64::BITS - half);
    let [epoch_low, epoch_high] = halves(epoch);
    let mut value = index;
    loop {
        let (mut left, mut right) = (value >> half, value & mask);
        for round in 0..ROUNDS {
            let counter = [right as u32, round, epoch_low, epoch_high];
            let word = u64::from(philox4x32(counter, key)[0]) & mask;
            (left, right) = (right, left ^ word);
        }
        // Encrypting a value of the domain 0..4ᵏ stays in it; below n it is the image.
        value = (left << half) | right;
        if value < n {
            return value;
        }
    }
}

#[cfg(test)]
mod tests;
