//! Training a tokenizer from texts.
//!
//! Texts are cut at special tokens, as they are when encoded, so a special
//! token never teaches anything. `byte_bpe` starts from the 256 bytes; `bpe` and
//! `char` from the characters of the corpus: all of them if there is room, else
//! the most frequent, and of equal counts those with the smaller code points. For `char` the
//! size is an upper bound: a corpus with fewer characters gives fewer tokens.
//! Ids are: special tokens, alphabet (by code point; bytes by the code point of
//! their printable character), merged tokens in the order learned.
//!
//! Counting runs on threads over pieces of text; counts are added up and words
//! are sorted, so the number of threads does not matter.

use super::byte_level::{bytes_by_char, bytes_of};
use super::config::{PreTokenizer, TokenizerConfig, TokenizerKind};
use super::merge::{Merge, WordTable, learn};
use super::scan::{safe_chunks, words};
use super::special::{Piece, Splitter};
use super::vocab::Vocab;
use super::{Roles, Tokenizer};
use crate::fast_hash::FastMap;
use crate::threads;
use llmc_base::Diagnostic;
use std::collections::BTreeMap;

/// Texts are counted in pieces of about this many bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// Trains the tokenizer of `config` on `texts`, on at most `threads` threads.
///
/// Errors, all that can be found: `tokenizer::special_token`,
/// `tokenizer::unk_missing`, `tokenizer::vocab_size_missing`,
/// `tokenizer::vocab_too_small` (with the least that works),
/// `tokenizer::empty_corpus`, `tokenizer::vocab_too_large` (with the most that
/// the corpus allows; not for `char`, whose size is an upper bound),
/// `tokenizer::corpus_too_large` (2³² symbols in distinct words).
pub fn train<T: AsRef<str> + Sync>(
    config: &TokenizerConfig,
    texts: &[T],
    threads: usize,
) -> Result<Tokenizer, Vec<Diagnostic>> {
    let mut found = check(config);
    let specials: Vec<(String, u32)> =
        config.special_tokens.in_order().into_iter().map(str::to_string).zip(0..).collect();
    if texts.iter().all(|text| text.as_ref().is_empty()) {
        found.push(
            Diagnostic::error(
                "tokenizer::empty_corpus",
                format!("the corpus of tokenizer `{}` holds no text to train on", config.name),
            )
            .help("check the paths and filters of the dataset")
            .field("dataset.paths"),
        );
    }
    if !found.is_empty() {
        return Err(found);
    }

    let splitter = Splitter::new(&specials);
    let pieces: Vec<&str> = texts
        .iter()
        .flat_map(|text| splitter.split(text.as_ref()))
        .filter_map(|piece| match piece {
            Piece::Text(text) => Some(text),
            Piece::Special(_) => None,
        })
        .flat_map(|text| match word_cut(config) {
            PreTokenizer::Gpt2 => safe_chunks(text, CHUNK_BYTES),
            PreTokenizer::None => vec![text],
        })
        .collect();

    let mut vocab = Vocab::default();
    for (text, _) in &specials {
        vocab.push(text.as_bytes());
    }
    let merges = match config.kind {
        TokenizerKind::ByteBpe => train_bytes(config, &pieces, threads, &mut vocab),
        TokenizerKind::Bpe => train_chars(config, &pieces, threads, &mut vocab),
        TokenizerKind::Char => train_alphabet(config, &pieces, threads, &mut vocab),
    }
    .map_err(|diagnostic| vec![diagnostic])?;

    let role = |text: &Option<String>| {
        let text = text.as_ref()?;
        specials.iter().find(|(special, _)| special == text).map(|(_, id)| *id)
    };
    let asked = &config.special_tokens;
    let roles = Roles {
        pad: role(&asked.pad),
        unk: role(&asked.unk),
        bos: role(&asked.bos),
        eos: role(&asked.eos),
    };
    Tokenizer::assemble(config.kind, word_cut(config), vocab, specials, merges, roles)
        .map_err(|diagnostic| vec![diagnostic])
}

/// Where words end. `char` counts characters, for which the GPT-2 cuts do as well as any.
fn word_cut(config: &TokenizerConfig) -> PreTokenizer {
    match config.kind {
        TokenizerKind::Char => PreTokenizer::Gpt2,
        TokenizerKind::ByteBpe | TokenizerKind::Bpe => config.pre_tokenizer,
    }
}

/// What can be found without the corpus.
fn check(config: &TokenizerConfig) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let kind = config.kind.name();
    let specials = config.special_tokens.in_order();
    for text in &specials {
        // A byte-level token of the same spelling would decode to other bytes.
        let is_other = config.kind == TokenizerKind::ByteBpe
            && bytes_of(text).is_some_and(|bytes| bytes != text.as_bytes() || bytes.len() == 1);
        if text.is_empty() || is_other {
            found.push(
                Diagnostic::error(
                    "tokenizer::special_token",
                    format!(
                        "the special token `{text}` is empty or spells a token of the alphabet"
                    ),
                )
                .help("use a text such as `<eos>`")
                .field("tokenizer.special_tokens"),
            );
        }
    }
    if config.kind != TokenizerKind::ByteBpe && config.special_tokens.unk.is_none() {
        found.push(
            Diagnostic::error(
                "tokenizer::unk_missing",
                format!("`{kind}` needs an unknown token for characters outside its alphabet"),
            )
            .help("set the special token `unk`, for example to `<unk>`")
            .field("tokenizer.special_tokens.unk"),
        );
    }
    let (alphabet, what) = match config.kind {
        TokenizerKind::ByteBpe => (256, "256 bytes"),
        TokenizerKind::Bpe | TokenizerKind::Char => (1, "1 character"),
    };
    match config.vocab_size {
        None if config.kind != TokenizerKind::Char => found.push(
            Diagnostic::error(
                "tokenizer::vocab_size_missing",
                format!("`{kind}` needs a `vocab_size`"),
            )
            .help("set `vocab_size`, for example to 8192")
            .field("tokenizer.vocab_size"),
        ),
        Some(size) if (size as usize) < alphabet + specials.len() => {
            let least = alphabet + specials.len();
            found.push(
                Diagnostic::error(
                    "tokenizer::vocab_too_small",
                    format!(
                        "`vocab_size` is {size}, `{kind}` needs at least {least}: {what} and {} special tokens",
                        specials.len()
                    ),
                )
                .help(format!("set `vocab_size` to at least {least}"))
                .field("tokenizer.vocab_size"),
            );
        }
        _ => {}
    }
    found
}

fn train_bytes(
    config: &TokenizerConfig,
    pieces: &[&str],
    threads: usize,
    vocab: &mut Vocab,
) -> Result<Vec<Merge>, Diagnostic> {
    let mut ids = [0u32; 256];
    for byte in bytes_by_char() {
        ids[usize::from(byte)] = vocab.push(&[byte]);
    }
    let mut table = WordTable::default();
    for (word, count) in count_words(config.pre_tokenizer, pieces, threads) {
        table.push(word.bytes().map(|byte| ids[usize::from(byte)]), count);
    }
    learn_to_size(config, table, vocab)
}

fn train_chars(
    config: &TokenizerConfig,
    pieces: &[&str],
    threads: usize,
    vocab: &mut Vocab,
) -> Result<Vec<Merge>, Diagnostic> {
    let counted = count_words(config.pre_tokenizer, pieces, threads);
    let mut chars: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in &counted {
        for c in word.chars() {
            *chars.entry(c).or_default() += count;
        }
    }
    let room = room_for_alphabet(config, vocab);
    let ids: FastMap<char, u32> = most_frequent(chars, room)
        .into_iter()
        .map(|c| (c, vocab.push(c.encode_utf8(&mut [0; 4]).as_bytes())))
        .collect();
    let mut table = WordTable::default();
    for (word, count) in counted {
        // A character outside the alphabet parts its neighbours.
        for part in word.split(|c| !ids.contains_key(&c)).filter(|part| !part.is_empty()) {
            table.push(part.chars().map(|c| ids[&c]), count);
        }
    }
    learn_to_size(config, table, vocab)
}

fn train_alphabet(
    config: &TokenizerConfig,
    pieces: &[&str],
    threads: usize,
    vocab: &mut Vocab,
) -> Result<Vec<Merge>, Diagnostic> {
    let states = threads::fold(pieces, threads, FastMap::<char, u64>::default, |counts, piece| {
        for c in piece.chars() {
            *counts.entry(c).or_default() += 1;
        }
    });
    let mut chars: BTreeMap<char, u64> = BTreeMap::new();
    for (c, count) in states.into_iter().flatten() {
        *chars.entry(c).or_default() += count;
    }
    let room = config.vocab_size.map_or(usize::MAX, |_| room_for_alphabet(config, vocab));
    for c in most_frequent(chars, room) {
        vocab.push(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(Vec::new())
}

fn room_for_alphabet(config: &TokenizerConfig, vocab: &Vocab) -> usize {
    config.vocab_size.map_or(usize::MAX, |size| size as usize - vocab.len())
}

/// The `n` most frequent characters, in the order of their code points.
fn most_frequent(chars: BTreeMap<char, u64>, n: usize) -> Vec<char> {
    let mut chars: Vec<(char, u64)> = chars.into_iter().collect();
    chars.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    chars.truncate(n);
    let mut kept: Vec<char> = chars.into_iter().map(|(c, _)| c).collect();
    kept.sort_unstable();
    kept
}

fn learn_to_size(
    config: &TokenizerConfig,
    table: WordTable,
    vocab: &mut Vocab,
) -> Result<Vec<Merge>, Diagnostic> {
    let wanted = config.vocab_size.map_or(usize::MAX, |size| size as usize);
    if table.n_symbols() >= u32::MAX as usize {
        return Err(Diagnostic::error(
            "tokenizer::corpus_too_large",
            format!(
                "the distinct words of the corpus hold {} symbols, the trainer takes fewer than 4294967295",
                table.n_symbols()
            ),
        )
        .help("train the tokenizer on a part of the corpus")
        .field("dataset.target_tokens"));
    }
    let merges = learn(table, vocab, wanted, config.min_frequency);
    if vocab.len() < wanted { Err(too_large(config, vocab.len())) } else { Ok(merges) }
}

fn too_large(config: &TokenizerConfig, reachable: usize) -> Diagnostic {
    let wanted = config.vocab_size.unwrap_or_default();
    let frequency = match config.min_frequency {
        0 | 1 => String::new(),
        n => format!(", or lower `min_frequency` from {n}"),
    };
    Diagnostic::error(
        "tokenizer::vocab_too_large",
        format!(
            "`tokenizer.vocab_size` is {wanted}, but the corpus allows {reachable} tokens at most"
        ),
    )
    .field("tokenizer.vocab_size")
    .help(format!(
        "write `vocab_size = {reachable}` in [tokenizer] (`--set tokenizer.vocab_size={reachable}`), or fewer, or train on more text{frequency}; `model.vocab_size` may stay as it is"
    ))
}

/// The distinct words of all pieces with their counts, sorted.
fn count_words<'a>(
    pre_tokenizer: PreTokenizer,
    pieces: &[&'a str],
    threads: usize,
) -> Vec<(&'a str, u64)> {
    let mut states =
        threads::fold(pieces, threads, FastMap::<&'a str, u64>::default, |counts, piece| {
            match pre_tokenizer {
                PreTokenizer::Gpt2 => {
                    words(piece).for_each(|word| *counts.entry(word).or_default() += 1);
                }
                PreTokenizer::None => *counts.entry(piece).or_default() += 1,
            }
        })
        .into_iter();
    let mut total = states.next().unwrap_or_default();
    for (word, count) in states.flatten() {
        *total.entry(word).or_default() += count;
    }
    let mut counted: Vec<_> = total.into_iter().collect();
    counted.sort_unstable();
    counted
}
