//! Shards: round trip, fixed bytes, hostile bytes.

use super::*;
use proptest::prelude::*;

fn documents(shards: &[ShardFile]) -> Vec<Vec<u32>> {
    let parsed = shards.iter().map(|shard| Shard::parse(&shard.bytes).unwrap()).collect();
    let corpus = Corpus::new(parsed).unwrap();
    (0..corpus.n_documents()).map(|i| corpus.document(i).unwrap().iter().collect()).collect()
}

#[test]
fn the_format_does_not_move() {
    let shards = write(&[vec![1, 2], vec![], vec![515]], 600, 100).unwrap();
    let [shard] = shards.as_slice() else { panic!("one shard") };
    assert_eq!(&shard.bytes[..12], b"LLMCIDS\x01\x02\0\0\0");
    assert_eq!(
        &shard.bytes[64..],
        &[2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 2]
    );
    assert_eq!(shard.entry.name, "shard-00000.ids");
    assert_eq!((shard.entry.documents, shard.entry.ids), (3, 3));
    assert!(Shard::parse(&shard.bytes).unwrap().verify());
}

#[test]
fn ids_outside_the_vocabulary_are_refused_both_ways() {
    assert_eq!(write(&[vec![5]], 5, 10).unwrap_err().code, "shards::id");
    let mut bytes = write(&[vec![4]], 5, 10).unwrap().remove(0).bytes;
    *bytes.last_mut().unwrap() = 9;
    assert_eq!(Shard::parse(&bytes).unwrap_err().code, "shards::format");
}

#[test]
fn ids_fit_a_batch() {
    let mut bytes = write(&[vec![4]], 1 << 31, 10).unwrap().remove(0).bytes;
    assert!(Shard::parse(&bytes).is_ok());
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    let found = Shard::parse(&bytes).unwrap_err();
    assert!(found.message.contains("4294967295 tokens is above"), "{}", found.message);
}

#[test]
fn a_changed_payload_fails_its_hash() {
    let mut bytes = write(&[vec![4, 3]], 5, 10).unwrap().remove(0).bytes;
    let n = bytes.len();
    bytes[n - 2] = 2;
    assert!(!Shard::parse(&bytes).unwrap().verify());
}

#[test]
fn shards_of_two_vocabularies_do_not_mix() {
    let (a, b) = (write(&[vec![1]], 5, 10).unwrap(), write(&[vec![1]], 6, 10).unwrap());
    let shards = vec![Shard::parse(&a[0].bytes).unwrap(), Shard::parse(&b[0].bytes).unwrap()];
    assert_eq!(Corpus::new(shards).unwrap_err().code, "shards::format");
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        docs in prop::collection::vec(prop::collection::vec(0u32..70_000, 0..20), 0..12),
        is_wide in any::<bool>(),
        max_ids in 1u64..60,
    ) {
        let vocab_size = if is_wide { 70_000 } else { 65_536 };
        let docs: Vec<Vec<u32>> =
            docs.into_iter().map(|doc| doc.into_iter().map(|id| id % vocab_size).collect()).collect();
        let shards = write(&docs, vocab_size, max_ids).unwrap();
        prop_assert!(shards.iter().all(|s| s.entry.ids <= max_ids || s.entry.documents == 1));
        prop_assert_eq!(documents(&shards), docs);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        at in 0usize..200, byte in any::<u8>(), cut in 0usize..100, tail in prop::collection::vec(any::<u8>(), 0..40)
    ) {
        let mut bytes = write(&[vec![1, 2, 3], vec![4]], 600, 100).unwrap().remove(0).bytes;
        let n = bytes.len();
        bytes[at % n] = byte;
        bytes.truncate(n - cut % n);
        bytes.extend(tail);
        if let Ok(shard) = Shard::parse(&bytes) {
            let corpus = Corpus::new(vec![shard]).unwrap();
            for ids in (0..=corpus.n_documents()).filter_map(|i| corpus.document(i)) {
                prop_assert_eq!(ids.iter().count(), ids.len());
            }
        }
    }
}
