//! Text to ids.
//!
//! A word becomes the ids of its characters or bytes, then the pair with the
//! lowest merge rank is joined, the leftmost first, until none is left. Short
//! words are scanned for the lowest rank again and again; long ones use links
//! and a heap. Words seen before come from a cache.

use super::merge::pair_key;
use super::scan::{safe_chunks, words};
use super::special::Piece;
use super::{Alphabet, PreTokenizer, Tokenizer, TokenizerKind};
use crate::fast_hash::FastMap;
use crate::threads;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Words of at most this many symbols are merged by scanning.
const SCAN_SYMBOLS: usize = 48;
/// Words of at most this many bytes are cached, and at most this many of them.
const CACHED_WORD_BYTES: usize = 64;
const CACHED_WORDS: usize = 1 << 18;
/// Texts longer than this are encoded in pieces, on several threads.
const CHUNK_BYTES: usize = 1 << 20;

/// No rank, or no neighbour.
const NONE: u32 = u32::MAX;

impl Tokenizer {
    /// The ids of `text`. Special tokens that the text spells get their ids;
    /// nothing is added before or after.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        Encoder::new(self).encode_into(text, &mut ids);
        ids
    }

    /// The ids of each text, in order, on at most `threads` threads.
    pub fn encode_batch<T: AsRef<str> + Sync>(&self, texts: &[T], threads: usize) -> Vec<Vec<u32>> {
        // Long texts are cut where no word and no special token is, so that a
        // single large file keeps all threads busy.
        let mut units: Vec<(usize, Piece<'_>)> = Vec::new();
        for (i, text) in texts.iter().map(AsRef::as_ref).enumerate() {
            if text.len() <= CHUNK_BYTES || self.pre_tokenizer == PreTokenizer::None {
                units.push((i, Piece::Text(text)));
                continue;
            }
            for piece in self.splitter.split(text) {
                match piece {
                    Piece::Special(_) => units.push((i, piece)),
                    Piece::Text(text) => units.extend(
                        safe_chunks(text, CHUNK_BYTES).into_iter().map(|c| (i, Piece::Text(c))),
                    ),
                }
            }
        }
        let encoded = threads::map_with(
            &units,
            threads,
            || Encoder::new(self),
            |encoder, (_, piece)| {
                let mut ids = Vec::new();
                match piece {
                    Piece::Special(id) => ids.push(*id),
                    Piece::Text(text) => encoder.encode_into(text, &mut ids),
                }
                ids
            },
        );
        let mut all: Vec<Vec<u32>> = texts.iter().map(|_| Vec::new()).collect();
        for ((i, _), ids) in units.iter().zip(encoded) {
            if all[*i].is_empty() {
                all[*i] = ids;
            } else {
                all[*i].extend_from_slice(&ids);
            }
        }
        all
    }
}

/// Encodes many texts with one cache of words.
pub struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    /// Where the ids of a word lie in `cached`: start and length.
    cache: FastMap<Box<[u8]>, (u32, u32)>,
    cached: Vec<u32>,
    symbols: Vec<u32>,
    ranks: Vec<u32>,
}

impl<'t> Encoder<'t> {
    /// An encoder with an empty cache.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Encoder {
            tokenizer,
            cache: FastMap::default(),
            cached: Vec::new(),
            symbols: Vec::new(),
            ranks: Vec::new(),
        }
    }

    /// Appends the ids of `text`.
    pub fn encode_into(&mut self, text: &str, ids: &mut Vec<u32>) {
        let tokenizer = self.tokenizer;
        for piece in tokenizer.splitter.split(text) {
            match piece {
                Piece::Special(id) => ids.push(id),
                Piece::Text(text) if tokenizer.kind == TokenizerKind::Char => {
                    tokenizer.alphabet.symbols(text, ids);
                }
                Piece::Text(text) => match tokenizer.pre_tokenizer {
                    PreTokenizer::Gpt2 => {
                        words(text).for_each(|word| self.encode_word(word, ids));
                    }
                    PreTokenizer::None => self.encode_word(text, ids),
                },
            }
        }
    }

    fn encode_word(&mut self, word: &str, ids: &mut Vec<u32>) {
        if let Some(&(start, len)) = self.cache.get(word.as_bytes()) {
            ids.extend_from_slice(&self.cached[start as usize..][..len as usize]);
            return;
        }
        self.symbols.clear();
        self.tokenizer.alphabet.symbols(word, &mut self.symbols);
        if self.symbols.len() <= SCAN_SYMBOLS {
            merge_by_scan(self.tokenizer, &mut self.symbols, &mut self.ranks);
        } else {
            merge_by_heap(self.tokenizer, &mut self.symbols);
        }
        ids.extend_from_slice(&self.symbols);
        if word.len() <= CACHED_WORD_BYTES && self.cache.len() < CACHED_WORDS {
            let place = (self.cached.len() as u32, self.symbols.len() as u32);
            self.cached.extend_from_slice(&self.symbols);
            self.cache.insert(word.as_bytes().into(), place);
        }
    }
}

impl Alphabet {
    /// Appends the ids of the single bytes or characters.
    pub(super) fn symbols(&self, text: &str, ids: &mut Vec<u32>) {
        match self {
            Alphabet::Bytes(table) => ids.extend(text.bytes().map(|b| table[usize::from(b)])),
            Alphabet::Chars { ids: known, unk } => {
                ids.extend(text.chars().map(|c| known.get(&c).copied().unwrap_or(*unk)));
            }
        }
    }
}

impl Tokenizer {
    #[inline]
    fn rank(&self, left: u32, right: u32) -> u32 {
        self.ranks.get(&pair_key(left, right)).copied().unwrap_or(NONE)
    }
}

/// Merges a short word; `ranks` is scratch, the rank of each neighbouring pair.
pub(super) fn merge_by_scan(tokenizer: &Tokenizer, symbols: &mut Vec<u32>, ranks: &mut Vec<u32>) {
    ranks.clear();
    ranks.extend(symbols.windows(2).map(|pair| tokenizer.rank(pair[0], pair[1])));
    while let Some((at, &rank)) = ranks.iter().enumerate().min_by_key(|(_, rank)| **rank) {
        if rank == NONE {
            break;
        }
        symbols[at] = tokenizer.merges[rank as usize].new;
        symbols.remove(at + 1);
        ranks.remove(at);
        if at < ranks.len() {
            ranks[at] = tokenizer.rank(symbols[at], symbols[at + 1]);
        }
        if at > 0 {
            ranks[at - 1] = tokenizer.rank(symbols[at - 1], symbols[at]);
        }
    }
}

/// Merges a word of any length in O(n log n).
pub(super) fn merge_by_heap(tokenizer: &Tokenizer, symbols: &mut Vec<u32>) {
    let n = symbols.len();
    let mut next: Vec<u32> = (1..=n as u32).collect();
    let mut previous: Vec<u32> = (0..n as u32).map(|i| i.wrapping_sub(1)).collect();
    // Lowest rank first, then leftmost.
    let mut heap = BinaryHeap::new();
    for (at, pair) in symbols.windows(2).enumerate() {
        let rank = tokenizer.rank(pair[0], pair[1]);
        if rank != NONE {
            heap.push(Reverse((rank, at as u32)));
        }
    }
    while let Some(Reverse((rank, at))) = heap.pop() {
        let here = at as usize;
        let partner = next[here] as usize;
        let merge = tokenizer.merges[rank as usize];
        // An entry is out of date if another merge took one of its sides.
        if partner >= n || symbols[here] != merge.left || symbols[partner] != merge.right {
            continue;
        }
        symbols[here] = merge.new;
        symbols[partner] = NONE;
        let after = next[partner] as usize;
        next[here] = after as u32;
        if after < n {
            previous[after] = at;
            let rank = tokenizer.rank(merge.new, symbols[after]);
            if rank != NONE {
                heap.push(Reverse((rank, at)));
            }
        }
        let before = previous[here];
        if before != NONE {
            let rank = tokenizer.rank(symbols[before as usize], merge.new);
            if rank != NONE {
                heap.push(Reverse((rank, before)));
            }
        }
    }
    symbols.retain(|&symbol| symbol != NONE);
}
