//! Learning byte pair merges: repeatedly join the most frequent pair.
//!
//! The count of a pair is the number of adjacent places where it stands, each
//! weighted by how often its word occurs (u64 throughout). Of equal counts the
//! pair with the smaller left id wins, then the smaller right id. This is the
//! order of Hugging Face's trainer, so both learn the same merges.
//!
//! All distinct words lie in one array of symbols with links, and every pair
//! knows its places; a merge touches only those. Counts in the heap may be out
//! of date: an entry is checked when it comes up, and counts only grow for
//! pairs that the current merge pushes again.
//!
//! Source: Sennrich et al. 2016, arXiv:1508.07909, algorithm 1.

use super::vocab::Vocab;
use crate::fast_hash::FastMap;
use std::collections::BinaryHeap;

/// Distinct words as symbols, each with its number of occurrences.
#[derive(Default)]
pub struct WordTable {
    symbols: Vec<u32>,
    /// One past the last symbol of each word.
    ends: Vec<usize>,
    counts: Vec<u64>,
}

impl WordTable {
    /// Adds a word that occurs `count` times.
    pub fn push(&mut self, symbols: impl IntoIterator<Item = u32>, count: u64) {
        self.symbols.extend(symbols);
        self.ends.push(self.symbols.len());
        self.counts.push(count);
    }

    /// Symbols in all words together.
    pub fn n_symbols(&self) -> usize {
        self.symbols.len()
    }
}

/// `left` and `right` side by side become `new`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// Id on the left.
    pub left: u32,
    /// Id on the right.
    pub right: u32,
    /// Id of the joined token.
    pub new: u32,
}

/// One key for a pair of ids.
#[inline]
pub fn pair_key(left: u32, right: u32) -> u64 {
    (u64::from(left) << 32) | u64::from(right)
}

/// No symbol: a merged-away place, or the end of a word.
const NONE: u32 = u32::MAX;

struct Pair {
    left: u32,
    right: u32,
    count: u64,
    places: Vec<u32>,
    merged: bool,
    /// In `grown`, waiting to be pushed.
    has_grown: bool,
}

/// Ordered by count, then by the smaller pair.
#[derive(PartialEq, Eq)]
struct Candidate {
    count: u64,
    key: u64,
    pair: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.count.cmp(&other.count).then_with(|| other.key.cmp(&self.key))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Learner {
    symbols: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    word_of: Vec<u32>,
    word_counts: Vec<u64>,
    pairs: Vec<Pair>,
    index: FastMap<u64, u32>,
    heap: BinaryHeap<Candidate>,
    /// Pairs whose count the current merge raised.
    grown: Vec<u32>,
}

/// Adds merged tokens to `vocab` until it holds `vocab_size`, or no pair
/// occurs `min_frequency` times. Returns the merges in the order learned.
///
/// A merge whose bytes are already a token yields that token: it adds a merge
/// and no token. `words` holds fewer than 2³² symbols.
pub fn learn(
    words: WordTable,
    vocab: &mut Vocab,
    vocab_size: usize,
    min_frequency: u64,
) -> Vec<Merge> {
    let mut ids: FastMap<Vec<u8>, u32> =
        vocab.iter().enumerate().map(|(id, bytes)| (bytes.to_vec(), id as u32)).collect();
    let mut learner = Learner::new(words);
    let mut merges = Vec::new();
    while vocab.len() < vocab_size {
        let Some(at) = learner.best(min_frequency.max(1)) else { break };
        let (left, right) = (learner.pairs[at].left, learner.pairs[at].right);
        let bytes = [vocab.bytes(left), vocab.bytes(right)].concat();
        let new = *ids.entry(bytes).or_insert_with_key(|bytes| vocab.push(bytes));
        if !std::mem::replace(&mut learner.pairs[at].merged, true) {
            merges.push(Merge { left, right, new });
        }
        learner.merge(at, new);
    }
    merges
}

impl Learner {
    fn new(words: WordTable) -> Self {
        let n = words.symbols.len();
        let mut learner = Learner {
            symbols: words.symbols,
            next: vec![NONE; n],
            previous: vec![NONE; n],
            word_of: vec![0; n],
            word_counts: words.counts,
            pairs: Vec::new(),
            index: FastMap::default(),
            heap: BinaryHeap::new(),
            grown: Vec::new(),
        };
        let mut start = 0;
        for (word, &end) in words.ends.iter().enumerate() {
            for at in start..end {
                learner.word_of[at] = word as u32;
                if at > start {
                    learner.previous[at] = at as u32 - 1;
                    learner.next[at - 1] = at as u32;
                    learner.grow(at as u32 - 1, at as u32);
                }
            }
            start = end;
        }
        learner.push_grown();
        learner
    }

    /// The most frequent pair, taken off the heap.
    fn best(&mut self, min_frequency: u64) -> Option<usize> {
        while let Some(candidate) = self.heap.pop() {
            let count = self.pairs[candidate.pair as usize].count;
            if count == candidate.count {
                return (count >= min_frequency).then_some(candidate.pair as usize);
            }
            // Too low to be merged now or later, unless it grows and is pushed again.
            if count >= min_frequency {
                self.heap.push(Candidate { count, ..candidate });
            }
        }
        None
    }

    /// Joins every place of the pair, from left to right in each word.
    fn merge(&mut self, at: usize, new: u32) {
        let (left, right) = (self.pairs[at].left, self.pairs[at].right);
        let mut places = std::mem::take(&mut self.pairs[at].places);
        // Ascending already, unless a token came from two different merges.
        if !places.is_sorted() {
            places.sort_unstable();
        }
        for place in places {
            let here = place as usize;
            let partner = self.next[here];
            if self.symbols[here] != left
                || partner == NONE
                || self.symbols[partner as usize] != right
            {
                continue;
            }
            let (before, after) = (self.previous[here], self.next[partner as usize]);
            if before != NONE {
                self.shrink(before, place);
            }
            if after != NONE {
                self.shrink(partner, after);
            }
            self.symbols[here] = new;
            self.symbols[partner as usize] = NONE;
            self.next[here] = after;
            if after != NONE {
                self.previous[after as usize] = place;
                self.grow(place, after);
            }
            if before != NONE {
                self.grow(before, place);
            }
        }
        self.pairs[at].count = 0;
        self.push_grown();
    }

    fn key_at(&self, left: u32, right: u32) -> u64 {
        pair_key(self.symbols[left as usize], self.symbols[right as usize])
    }

    /// The pair at these neighbouring places goes away.
    fn shrink(&mut self, left: u32, right: u32) {
        let key = self.key_at(left, right);
        let pair = self.index[&key];
        self.pairs[pair as usize].count -= self.weight(left);
    }

    /// The pair at these neighbouring places appears.
    fn grow(&mut self, left: u32, right: u32) {
        let key = self.key_at(left, right);
        let weight = self.weight(left);
        let pairs = &mut self.pairs;
        let pair = *self.index.entry(key).or_insert_with(|| {
            pairs.push(Pair {
                left: (key >> 32) as u32,
                right: key as u32,
                count: 0,
                places: Vec::new(),
                merged: false,
                has_grown: false,
            });
            pairs.len() as u32 - 1
        });
        let entry = &mut self.pairs[pair as usize];
        entry.count += weight;
        entry.places.push(left);
        if !std::mem::replace(&mut entry.has_grown, true) {
            self.grown.push(pair);
        }
    }

    fn weight(&self, place: u32) -> u64 {
        self.word_counts[self.word_of[place as usize] as usize]
    }

    fn push_grown(&mut self) {
        for pair in self.grown.drain(..) {
            let entry = &mut self.pairs[pair as usize];
            entry.has_grown = false;
            let key = pair_key(entry.left, entry.right);
            self.heap.push(Candidate { count: entry.count, key, pair });
        }
    }
}
