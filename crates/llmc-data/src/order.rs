//! The order in which rows are trained on: a pure function of (seed, step).
//!
//! Sample `s = step · batch_size + i` is sample `s mod n` of epoch `s / n`, with
//! `n` rows in all. Each epoch has its own permutation of the rows: a Feistel
//! network keyed by (seed, epoch) on the smallest square domain 4ᵏ ≥ n, walked
//! until the value is below n. So any step can be reached at once, nothing is
//! buffered, every row comes once per epoch, and a batch at the end of an epoch
//! goes on with the next one.
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epoch(seed: u64, epoch: u64, n: u64) -> Vec<u64> {
        (0..n).map(|i| permute(seed, epoch, n, i)).collect()
    }

    /// The order is part of the definition of a run.
    #[test]
    fn the_order_does_not_move() {
        assert_eq!(epoch(0, 0, 10), [9, 2, 1, 8, 4, 0, 5, 3, 6, 7]);
        assert_eq!(permute(1, 2, u64::MAX, 3), 15_422_657_189_489_367_738);
    }

    #[test]
    fn epochs_and_seeds_differ() {
        assert_ne!(epoch(0, 0, 100), epoch(0, 1, 100));
        assert_ne!(epoch(0, 0, 100), epoch(1, 0, 100));
    }

    /// Where index 0 goes, over 4 096 epochs of 8 rows: 512 times to each row,
    /// give or take five standard deviations.
    #[test]
    fn places_are_uniform() {
        let mut counts = [0u32; 8];
        (0..4096).for_each(|e| counts[permute(7, e, 8, 0) as usize] += 1);
        assert!(counts.iter().all(|count| (406..618).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn every_row_once_per_epoch(seed in any::<u64>(), epoch_idx in any::<u64>(), n in 1u64..600) {
            let mut rows = epoch(seed, epoch_idx, n);
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..n).collect::<Vec<_>>());
        }

        #[test]
        fn batches_are_the_samples_in_a_row(seed in any::<u64>(), n in 1u64..50, size in 1u64..20) {
            let batches: Vec<u64> = (0..30).flat_map(|step| batch_rows(seed, n, size, step)).collect();
            let samples: Vec<u64> =
                (0..30 * u128::from(size)).map(|s| row_of_sample(seed, n, s)).collect();
            prop_assert_eq!(&batches, &samples);
            prop_assert_eq!(&batches[..(n as usize).min(batches.len())], &epoch(seed, 0, n)[..(n as usize).min(batches.len())]);
        }
    }
}
