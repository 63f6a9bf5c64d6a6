//! The generated corpus: English-like sentences from a small grammar.
//!
//! ```text
//! S     → CLAUSE "." | CLAUSE "," CONJ CLAUSE "." | ADVERBIAL "," CLAUSE "." | "Why" … "?"
//! CLAUSE→ NP VERB NP [PP] | NP "is" ADJ | NP VERB-INTRANSITIVE [PP] [ADV]
//! NP    → DET [ADJ] NOUN [PP]
//! PP    → PREP DET NOUN
//! ```
//!
//! Words of a class are drawn with a falling distribution, so that there are
//! frequent and rare ones, as in real text. Document `d` is a function of (seed,
//! d) alone; its length is drawn first, then sentences fill it, and the last one
//! is cut to fit. There are no two equal documents.
//!
//! It is made for tests and first runs: a model learns its grammar in seconds,
//! and it says nothing about real text.

use super::DatasetConfig;
use crate::random::{Draws, key};
use llmc_base::Diagnostic;
use std::collections::BTreeSet;

/// The name of the domain.
pub const DOMAIN: &str = "synthetic";
/// Raised when the same config gives other text.
pub const VERSION: u32 = 1;
/// Most words of a document where `max_length` is not set.
pub const DEFAULT_MAX_LENGTH: u64 = 128;

/// Draws for one document before giving up on one that is new.
const ATTEMPTS: u64 = 64;

/// Documents of `target` words together, or up to `min_length` − 1 more where
/// the rest is too short for a document.
///
/// Errors: `dataset::synthetic_exhausted` if the lengths leave too few distinct
/// documents, `dataset::length_range` if they are 2³² words or more.
pub fn generate(config: &DatasetConfig, target: u64) -> Result<Vec<String>, Diagnostic> {
    let min = config.min_length.max(1);
    let max = config.max_length.unwrap_or(DEFAULT_MAX_LENGTH.max(min));
    if max > u64::from(u32::MAX) {
        return Err(Diagnostic::error(
            "dataset::length_range",
            format!("`max_length` is {max}, the generated corpus takes less than 4294967296"),
        ));
    }
    let key = key("llmc.dataset.synthetic.v1", config.seed);
    let mut texts: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut left = target;
    while left > 0 {
        let index = texts.len() as u64;
        let text = (0..ATTEMPTS)
            .map(|attempt| {
                let mut draws = Draws::new(key, index * ATTEMPTS + attempt);
                let length = length(&mut draws, left, min, max);
                document(&mut draws, length as usize)
            })
            .find(|text| !seen.contains(text));
        let Some(text) = text else {
            return Err(Diagnostic::error(
                "dataset::synthetic_exhausted",
                format!(
                    "the generated corpus ran out of new documents of {min} to {max} words after {index}"
                ),
            )
            .help("raise `max_length`, or lower `target_tokens`"));
        };
        left = left.saturating_sub(text.split_whitespace().count() as u64);
        seen.insert(text.clone());
        texts.push(text);
    }
    Ok(texts)
}

/// A length from `min` to `max` that leaves nothing or room for another document.
fn length(draws: &mut Draws, left: u64, min: u64, max: u64) -> u64 {
    let length = min + draws.below(max - min + 1);
    if left <= min {
        min
    } else if left <= length {
        left
    } else if left - length >= min {
        length
    } else if left <= max {
        left
    } else {
        (left - min).clamp(min, max)
    }
}

const DETERMINERS: &[&str] = &["the", "a", "every", "this", "that", "some", "no", "our"];
const ADJECTIVES: &[&str] = &[
    "small", "old", "green", "quiet", "bright", "heavy", "new", "early", "cold", "gentle",
    "curious", "narrow", "wooden", "distant", "patient", "hollow", "silver", "careful",
];
const NOUNS: &[&str] = &[
    "river", "house", "child", "garden", "teacher", "boat", "letter", "window", "mountain",
    "baker", "lamp", "forest", "bridge", "farmer", "story", "clock", "road", "sailor", "song",
    "market", "stone", "painter", "village", "engine", "harbour", "orchard", "mirror", "ladder",
    "lantern", "compass", "weaver", "meadow", "cellar", "kettle", "feather", "archive",
];
const VERBS: &[&str] = &[
    "finds",
    "sees",
    "carries",
    "builds",
    "follows",
    "remembers",
    "paints",
    "opens",
    "crosses",
    "mends",
    "keeps",
    "leaves",
    "watches",
    "hears",
    "draws",
    "measures",
    "hides",
    "repairs",
];
const INTRANSITIVE: &[&str] = &[
    "sleeps", "waits", "sings", "falls", "returns", "shines", "grows", "listens", "wanders",
    "rests",
];
const ADVERBS: &[&str] =
    &["slowly", "often", "again", "quietly", "alone", "today", "twice", "together", "gladly"];
const PREPOSITIONS: &[&str] =
    &["near", "behind", "under", "with", "beyond", "beside", "across", "without"];
const CONJUNCTIONS: &[&str] = &["and", "but", "so", "while", "because", "until"];
const OPENINGS: &[&str] =
    &["in winter", "at night", "after the rain", "long ago", "on market days", "before dawn"];

/// A sentence under construction: words without punctuation marks of their own.
#[derive(Default)]
struct Sentence(Vec<String>);

impl Sentence {
    fn word(&mut self, word: &str) {
        self.0.push(word.to_string());
    }

    /// A word of the class; the product of two uniform draws favours the first ones.
    fn pick(&mut self, draws: &mut Draws, class: &[&str]) {
        let within = draws.below(class.len() as u64) + 1;
        self.word(class[draws.below(within) as usize]);
    }

    /// Puts a mark behind the last word.
    fn mark(&mut self, mark: char) {
        if let Some(last) = self.0.last_mut() {
            last.push(mark);
        }
    }

    fn noun_phrase(&mut self, draws: &mut Draws) {
        self.pick(draws, DETERMINERS);
        if draws.below(3) == 0 {
            self.pick(draws, ADJECTIVES);
        }
        self.pick(draws, NOUNS);
        if draws.below(8) == 0 {
            self.prepositional_phrase(draws);
        }
    }

    fn prepositional_phrase(&mut self, draws: &mut Draws) {
        self.pick(draws, PREPOSITIONS);
        self.pick(draws, DETERMINERS);
        self.pick(draws, NOUNS);
    }

    fn clause(&mut self, draws: &mut Draws) {
        self.noun_phrase(draws);
        match draws.below(8) {
            0 | 1 => {
                self.word("is");
                self.pick(draws, ADJECTIVES);
            }
            2 | 3 => {
                self.pick(draws, INTRANSITIVE);
                if draws.below(2) == 0 {
                    self.prepositional_phrase(draws);
                }
                if draws.below(3) == 0 {
                    self.pick(draws, ADVERBS);
                }
            }
            _ => {
                self.pick(draws, VERBS);
                self.noun_phrase(draws);
                if draws.below(4) == 0 {
                    self.prepositional_phrase(draws);
                }
            }
        }
    }
}

fn sentence(draws: &mut Draws) -> Vec<String> {
    let mut sentence = Sentence::default();
    let mut end = '.';
    match draws.below(8) {
        0 => {
            sentence.clause(draws);
            sentence.mark(',');
            sentence.pick(draws, CONJUNCTIONS);
            sentence.clause(draws);
        }
        1 => {
            let opening = OPENINGS[draws.below(OPENINGS.len() as u64) as usize];
            opening.split(' ').for_each(|word| sentence.word(word));
            sentence.mark(',');
            sentence.clause(draws);
        }
        2 => {
            sentence.word("who");
            sentence.pick(draws, VERBS);
            sentence.noun_phrase(draws);
            end = '?';
        }
        _ => sentence.clause(draws),
    }
    sentence.mark(end);
    sentence.0
}

/// A document of exactly `n_words` words, `n_words` at least 1.
fn document(draws: &mut Draws, n_words: usize) -> String {
    let mut words: Vec<String> = Vec::with_capacity(n_words);
    while words.len() < n_words {
        let mut next = sentence(draws);
        next.truncate(n_words - words.len());
        if let Some(first) = next.first_mut() {
            first[..1].make_ascii_uppercase();
        }
        if let Some(last) = next.last_mut()
            && !last.ends_with(['.', '?'])
        {
            *last = format!("{}.", last.trim_end_matches(','));
        }
        words.append(&mut next);
    }
    words.join(" ")
}
