//! Batch order: a permutation per epoch, uniform, and fixed for good.

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
