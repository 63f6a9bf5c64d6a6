//! The tree against the list of all texts that were put into it.

use super::PrefixCache;

/// Two caches, of 3 bytes and of 1 byte for each token.
const BYTES: [usize; 2] = [3, 1];

/// What the caches hold for tokens `from..to` of a text: a function of the tokens before, as of a real one.
fn slots(ids: &[u32], from: usize, to: usize) -> Vec<Vec<u8>> {
    let hash = |end: usize| ids[..end].iter().fold(7u32, |h, id| h.wrapping_mul(31) ^ id);
    BYTES
        .iter()
        .map(|bytes| {
            (from..to).flat_map(|i| hash(i + 1).to_le_bytes()[..*bytes].to_vec()).collect()
        })
        .collect()
}

fn insert(cache: &mut PrefixCache, ids: &[u32]) {
    cache.insert(ids, |range| slots(ids, range.start, range.end));
}

/// The slots of some tokens, read piece by piece.
fn read(cache: &mut PrefixCache, ids: &[u32], from: usize, to: usize) -> Vec<Vec<u8>> {
    let (mut at, mut out) = (from, vec![vec![], vec![]]);
    cache.read(ids, from..to, |start, pieces| {
        assert_eq!(start, at, "pieces follow each other");
        at += pieces[1].len();
        out.iter_mut().zip(pieces).for_each(|(out, piece)| out.extend_from_slice(piece));
    });
    out
}

#[test]
fn texts_share_what_they_have_in_common() {
    let mut cache = PrefixCache::new(BYTES.to_vec(), 1000);
    assert_eq!(cache.longest(&[1, 2]), 0);
    insert(&mut cache, &[1, 2, 3, 4, 5]);
    assert_eq!(cache.n_bytes(), 5 * 4);
    insert(&mut cache, &[1, 2, 3, 9, 9]);
    assert_eq!(cache.n_bytes(), 7 * 4);
    // Nothing new, and a text that ends within another.
    insert(&mut cache, &[1, 2, 3, 9]);
    insert(&mut cache, &[1, 2]);
    insert(&mut cache, &[]);
    assert_eq!(cache.n_bytes(), 7 * 4);
    insert(&mut cache, &[1, 2, 3, 4, 5, 6]);
    insert(&mut cache, &[8]);
    assert_eq!(cache.n_bytes(), 9 * 4);
    for (ids, n) in [
        (&[1, 2, 3, 4, 5, 6, 7][..], 6),
        (&[1, 2, 3, 9, 9, 1], 5),
        (&[1, 2, 7], 2),
        (&[8, 1], 1),
        (&[2], 0),
        (&[], 0),
    ] {
        assert_eq!(cache.longest(ids), n, "{ids:?}");
        for from in 0..=n {
            assert_eq!(read(&mut cache, ids, from, n), slots(ids, from, n), "{ids:?} {from}");
        }
    }
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let mut cache = PrefixCache::new(BYTES.to_vec(), 8 * 4 + 3);
    insert(&mut cache, &[1, 2, 3]);
    insert(&mut cache, &[1, 2, 4, 5]);
    insert(&mut cache, &[6, 7]);
    // Used again: now `1 2 4 5` is the oldest, but for what it has in common with this.
    read(&mut cache, &[1, 2, 3], 0, 3);
    insert(&mut cache, &[9, 9]);
    assert_eq!(cache.n_bytes(), 7 * 4);
    let longest = |cache: &PrefixCache| {
        [&[1, 2, 3][..], &[1, 2, 4, 5], &[6, 7], &[9, 9]].map(|ids| cache.longest(ids))
    };
    assert_eq!(longest(&cache), [3, 2, 2, 2]);
    insert(&mut cache, &[5, 5, 5]);
    assert_eq!(longest(&cache), [3, 2, 0, 2]);
    // Of what does not fit the beginning is kept, and places are used again.
    let long: Vec<u32> = (20..40).collect();
    insert(&mut cache, &long);
    assert_eq!((cache.longest(&long), cache.n_bytes()), (8, 8 * 4));
    assert!(cache.nodes.len() <= 7, "{}", cache.nodes.len());
    // Without room, and for a model whose tokens take none.
    for (bytes, budget) in [(BYTES.to_vec(), 0), (BYTES.to_vec(), 3), (vec![], 1000)] {
        let mut none = PrefixCache::new(bytes, budget);
        insert(&mut none, &[1]);
        assert_eq!(none.longest(&[1]), 0);
    }
}

#[test]
fn any_texts_are_found_again_or_gone() {
    let mut state = 1u64;
    let mut next = |bound: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut cache = PrefixCache::new(BYTES.to_vec(), 120);
    let mut n_found = 0;
    for _ in 0..3000 {
        let ids: Vec<u32> = (0..next(9)).map(|_| next(3) as u32).collect();
        let n = cache.longest(&ids);
        n_found += n;
        let from = next(n as u64 + 1) as usize;
        assert_eq!(read(&mut cache, &ids, from, n), slots(&ids, from, n));
        insert(&mut cache, &ids);
        assert!(cache.n_bytes() <= 120);
        let held: usize =
            cache.nodes.iter().map(|node| node.slots.iter().map(Vec::len).sum::<usize>()).sum();
        assert_eq!(held, cache.n_bytes());
    }
    assert!(n_found > 3000, "{n_found}");
}
