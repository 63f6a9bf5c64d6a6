//! `[tokenizer]`: how text becomes ids.

use super::DefaultRule::{Is, Nothing, Rule};
use super::{Choice, Field, Hashing, Kind, Lit, built, later, rules};

const TYPE: &[Choice] = &[
    built("byte_bpe"),
    built("bpe"),
    built("char"),
    later("unigram"),
    later("sentencepiece"),
    later("wordpiece"),
];
const PRE_TOKENIZER: &[Choice] = &[built("gpt2"), built("none"), later("whitespace")];
const MAX: u64 = 1 << 53;
const BPE: &[&str] = &["byte_bpe", "bpe"];

/// In documentation order.
pub(super) const FIELDS: &[Field] = &[
    Field::new(
        "tokenizer.name",
        Kind::Text,
        Is(Lit::Text("tokenizer")),
        "A label; not part of the recipe.",
    )
    .hashed(Hashing::Never),
    Field::new(
        "tokenizer.type",
        Kind::Choice(TYPE),
        Is(Lit::Text("byte_bpe")),
        "`byte_bpe` merges bytes and encodes every text; `bpe` merges the characters of the corpus; `char` has one id per character.",
    )
    .aliases(&["model.tokenizer"]),
    Field::new(
        "tokenizer.vocab_size",
        Kind::Int { min: 1, max: 1 << 31 },
        Rule { text: "`model.vocab_size`", compute: rules::tokenizer_vocab_size },
        "Size of the vocabulary, special tokens included; at most `model.vocab_size`. For `char` an upper bound: the corpus may have fewer characters, and embedding rows beyond them stay unused. For the others, a corpus that does not yield so many tokens is an error (`tokenizer::vocab_too_large`), which names the most that it allows.",
    )
    .hashed(Hashing::Always),
    Field::new(
        "tokenizer.min_frequency",
        Kind::Int { min: 1, max: MAX },
        Is(Lit::Int(2)),
        "Pairs seen fewer times are not merged.",
    )
    .when("tokenizer.type", BPE),
    Field::new(
        "tokenizer.pre_tokenizer",
        Kind::Choice(PRE_TOKENIZER),
        Is(Lit::Text("gpt2")),
        "How text is cut before merges; no merge crosses a cut. `gpt2` is the pattern of GPT-2: letters, digits, others, each with the space in front; `none` cuts at special tokens only.",
    )
    .when("tokenizer.type", BPE),
    Field::new(
        "tokenizer.special_tokens.unk",
        Kind::Text,
        Rule {
            text: "`<unk>` for `bpe` and `char`, if no special token is written, otherwise \"none\"",
            compute: rules::unk,
        },
        "Stands for characters that are not in the vocabulary.",
    )
    .aliases(&["tokenizer.unk_token", "tokenizer.special_tokens.unk_token"])
    .or_nothing(),
    Field::new(
        "tokenizer.special_tokens.pad",
        Kind::Text,
        Nothing("none: rows are packed, not padded"),
        "Padding.",
    )
    .aliases(&["tokenizer.pad_token", "tokenizer.special_tokens.pad_token"]),
    Field::new(
        "tokenizer.special_tokens.bos",
        Kind::Text,
        Nothing("none: the `eos` token, if there is one, also stands in front of a document"),
        "Starts a document, in training and in `tokenizer.json`.",
    )
    .aliases(&["tokenizer.bos_token", "tokenizer.special_tokens.bos_token"]),
    Field::new(
        "tokenizer.special_tokens.eos",
        Kind::Text,
        Rule {
            text: "`<|endoftext|>` for `byte_bpe`, `<eos>` for `bpe` and `char`, if no special token is written, otherwise \"none\"",
            compute: rules::eos,
        },
        "Ends a document.",
    )
    .aliases(&["tokenizer.eos_token", "tokenizer.special_tokens.eos_token"])
    .or_nothing(),
    Field::new(
        "tokenizer.special_tokens.additional",
        Kind::Texts,
        Is(Lit::Texts(&[])),
        "Others, in id order after the named ones.",
    )
    .aliases(&["tokenizer.additional_special_tokens"]),
    Field::new(
        "tokenizer.dataset_hash",
        Kind::Hash,
        Nothing("none: the `[dataset]` of this spec"),
        "Recipe hash of the dataset it is trained on; must be that of `[dataset]` where both are written.",
    )
    .hashed(Hashing::Never),
];
