//! Packing: every pair once, rows as documented, hostile plans refused.

use super::*;
use crate::shards::{Shard, write};
use proptest::prelude::*;

/// Documents with ids that tell the document and the place apart.
fn documents(lengths: &[u64]) -> Vec<Vec<u32>> {
    (0..).zip(lengths).map(|(d, &n)| (0..n as u32).map(|i| d * 1000 + i).collect()).collect()
}

/// Calls `check` with the plan and the corpus of documents of these lengths.
fn with_corpus(lengths: &[u64], sequence_length: u32, check: impl FnOnce(&Plan, &Corpus<'_>)) {
    let shards = write(&documents(lengths), 100_000, 50).unwrap();
    let shards = shards.iter().map(|shard| Shard::parse(&shard.bytes).unwrap()).collect();
    let corpus = Corpus::new(shards).unwrap();
    check(&plan(lengths, sequence_length).unwrap(), &corpus);
}

#[test]
fn a_row_holds_segments_with_their_own_positions() {
    with_corpus(&[3, 1, 4], 6, |plan, corpus| {
        assert_eq!(plan.n_rows(), 1);
        let batch = batch(plan, corpus, &[0], 7).unwrap();
        assert_eq!(batch.tokens, [2000, 2001, 2002, 0, 1, 7]);
        assert_eq!(batch.targets, [2001, 2002, 2003, 1, 2, IGNORE_INDEX]);
        assert_eq!(batch.segment_ids, [0, 0, 0, 1, 1, -1]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1, 0]);
        assert_eq!(batch.weights, [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        assert_eq!(batch.n_targets, 5);
    });
}

#[test]
fn long_documents_are_cut_without_losing_a_target() {
    with_corpus(&[10], 4, |plan, corpus| {
        let batch = batch(plan, corpus, &[0, 1, 2], 0).unwrap();
        assert_eq!(batch.tokens, [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0]);
        assert_eq!(batch.targets[..9], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(batch.targets[9..], [IGNORE_INDEX; 3]);
        assert_eq!(batch.positions[4..8], [0, 1, 2, 3]);
    });
}

#[test]
fn best_fit_takes_the_tightest_row() {
    // Pairs 7, 5, 4, 3, 1 into rows of 8: 7+1, 5+3, 4.
    let plan = plan(&[4, 6, 5, 8, 2], 8).unwrap();
    let rows: Vec<Vec<u32>> =
        (0..plan.n_rows()).map(|row| plan.row(row).iter().map(|s| s.len).collect()).collect();
    assert_eq!(rows, [vec![7, 1], vec![5, 3], vec![4]]);
    assert_eq!(plan.fill(), 20.0 / 24.0);
}

/// The plan is part of the definition of a run.
#[test]
fn the_plan_does_not_move() {
    let lengths: Vec<u64> = (0..200).map(|i| i * 37 % 101).collect();
    assert_eq!(plan(&lengths, 64).unwrap().content_hash().short(), "7cacdfea43aa");
}

/// Calls `check` with the masked plan and corpus of documents of these lengths and cuts.
fn with_masks(
    documents: &[(u64, &[u64])],
    sequence_length: u32,
    check: impl FnOnce(&Plan, &Corpus<'_>, &Masks),
) {
    let lengths: Vec<u64> = documents.iter().map(|(length, _)| *length).collect();
    let cuts: Vec<Vec<u64>> = documents.iter().map(|(_, cuts)| cuts.to_vec()).collect();
    let masks = Masks::new(&cuts);
    with_corpus(&lengths, sequence_length, |_, corpus| {
        let corpus = corpus.clone().with_masks(Some(&masks)).unwrap();
        check(&plan_masked(&lengths, &masks, sequence_length).unwrap(), &corpus, &masks);
    });
}

#[test]
fn ids_that_are_only_read_are_no_targets() {
    // Ids 3 and 4 of the first are learned, all of the second, 1 and from 4 on of the third.
    with_masks(&[(6, &[3, 5]), (3, &[]), (6, &[1, 2, 4])], 12, |plan, corpus, masks| {
        let batch = batch(plan, corpus, &[0], 0).unwrap();
        let no = IGNORE_INDEX;
        assert_eq!(batch.tokens, [0, 1, 2, 3, 4, 2000, 2001, 2002, 2003, 2004, 1000, 1001]);
        assert_eq!(batch.targets, [no, no, 3, 4, no, 2001, no, no, 2004, 2005, 1001, 1002]);
        let counts = [0., 0., 1., 1., 0., 1., 0., 0., 1., 1., 1., 1.];
        assert_eq!(batch.weights, counts);
        assert_eq!((batch.n_targets, plan.n_targets(Some(masks)), plan.n_pairs()), (7, 7, 12));
    });
}

#[test]
fn every_row_has_a_target_that_counts() {
    // Rows of 2: of the first document only the last run has one, the second has none.
    with_masks(&[(7, &[5]), (5, &[4, 4])], 2, |plan, corpus, masks| {
        assert_eq!((plan.n_rows(), plan.n_targets(Some(masks))), (1, 2));
        let batch = batch(plan, corpus, &[0], 0).unwrap();
        assert_eq!((batch.tokens, batch.targets), (vec![4, 5], vec![5, 6]));
    });
    let none = plan_masked(&[5], &Masks::new(&[vec![5]]), 8).unwrap_err();
    assert_eq!(none.code, "pack::empty");
}

#[test]
fn masks_are_read_as_they_were_written() {
    let masks = Masks::new(&[vec![1, 4], vec![], vec![0]]);
    assert_eq!(Masks::from_bytes(&masks.to_bytes()).unwrap(), masks);
    for damaged in [&masks.to_bytes()[..20], &[masks.to_bytes(), vec![0; 8]].concat()] {
        assert_eq!(Masks::from_bytes(damaged).unwrap_err().code, "pack::format");
    }
    let unordered = Masks::new(&[vec![4, 1]]).to_bytes();
    assert!(Masks::from_bytes(&unordered).unwrap_err().message.contains("not in order"));
    with_corpus(&[3, 3], 4, |_, corpus| {
        let other = corpus.clone().with_masks(Some(&masks)).unwrap_err();
        assert_eq!(other.code, "shards::format");
    });
}

#[test]
fn nothing_to_predict_is_an_error() {
    assert_eq!(plan(&[0, 1, 1], 8).unwrap_err().code, "pack::empty");
    assert_eq!(plan(&[5], 0).unwrap_err().code, "pack::sequence_length");
}

#[test]
fn a_plan_of_another_corpus_is_refused() {
    with_corpus(&[5, 6], 4, |own, corpus| {
        let other = plan(&[5, 60], 4).unwrap();
        let rows: Vec<u64> = (0..other.n_rows()).collect();
        assert_eq!(batch(&other, corpus, &rows, 0).unwrap_err().code, "pack::mismatch");
        assert_eq!(batch(own, corpus, &[99], 0).unwrap_err().code, "pack::mismatch");
    });
}

proptest! {
    #[test]
    fn every_pair_lies_in_one_slot(
        lengths in prop::collection::vec(0u64..40, 1..30), sequence_length in 1u32..20
    ) {
        let lengths = [lengths, vec![2]].concat();
        with_corpus(&lengths, sequence_length, |plan, corpus| {
            let rows: Vec<u64> = (0..plan.n_rows()).collect();
            let batch = batch(plan, corpus, &rows, 0).unwrap();
            let mut found: Vec<(i32, i32)> = batch
                .tokens
                .iter()
                .zip(&batch.targets)
                .zip(&batch.weights)
                .filter(|(_, weight)| **weight == 1.0)
                .map(|((token, target), _)| (*token, *target))
                .collect();
            found.sort_unstable();
            let expect: Vec<(i32, i32)> = documents(&lengths)
                .iter()
                .flat_map(|ids| ids.windows(2).map(|pair| (pair[0] as i32, pair[1] as i32)))
                .collect();
            assert_eq!(found, expect);
            assert_eq!(batch.n_targets, expect.len() as u64);
            assert_eq!(plan.n_targets(None), expect.len() as u64);
            assert_eq!(Plan::from_bytes(&plan.to_bytes()).unwrap(), *plan);
        });
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        at in 0usize..400, byte in any::<u8>(), cut in 0usize..100, tail in prop::collection::vec(any::<u8>(), 0..40)
    ) {
        let mut bytes = plan(&[9, 5, 3], 4).unwrap().to_bytes();
        let n = bytes.len();
        bytes[at % n] = byte;
        bytes.truncate(n - cut % n);
        bytes.extend(tail);
        let Ok(plan) = Plan::from_bytes(&bytes) else { return Ok(()) };
        with_corpus(&[9, 5, 3], 4, |_, corpus| {
            for row in 0..plan.n_rows() {
                let _ = batch(&plan, corpus, &[row], 0);
            }
        });
    }
}
