//! `[dataset]`: where text comes from and what is kept of it.

use super::DefaultRule::{Is, Nothing, Rule};
use super::{Choice, Field, Hashing, Kind, Limit, Lit, also, built, later, rules};

const DOMAINS: &[Choice] = &[built("synthetic")];
const DEDUPLICATE: &[Choice] = &[built("exact"), built("none"), later("near")];
const INVALID_UTF8: &[Choice] =
    &[also("error", &["strict"]), built("replace"), also("skip", &["ignore"])];
const FORMATS: &[Choice] = &[also("text", &["txt"]), also("jsonl", &["json_lines", "ndjson"])];
const MAX: u64 = 1 << 53;

/// In documentation order.
pub(super) const FIELDS: &[Field] = &[
    Field::new("dataset.name", Kind::Text, Is(Lit::Text("dataset")), "A label; not part of the recipe.")
        .hashed(Hashing::Never),
    Field::new(
        "dataset.paths",
        Kind::Texts,
        Is(Lit::Texts(&[])),
        "Files, folders (walked in path order) and globs of text. A path is part of the recipe as it is written; the text behind it is part of the content hash.",
    )
    .aliases(&["dataset.path", "dataset.files"])
    .hashed(Hashing::Always),
    Field::new(
        "dataset.extensions",
        Kind::TextSet,
        Is(Lit::Texts(&[])),
        "File extensions that are taken, without the dot; an empty list takes all.",
    ),
    Field::new(
        "dataset.include",
        Kind::TextSet,
        Is(Lit::Texts(&[])),
        "Globs of which a path must match one; an empty list matches all.",
    ),
    Field::new("dataset.exclude", Kind::TextSet, Is(Lit::Texts(&[])), "Globs of paths that are left out."),
    Field::new(
        "dataset.format",
        Kind::Choice(FORMATS),
        Is(Lit::Text("text")),
        "What the files are: `text`, or `jsonl` with a record on each line. All of a record `{\"text\"}` is learned; of `{\"prompt\", \"completion\"}` the completion; of `{\"messages\": [{\"role\", \"content\"}, …]}` what the assistant says. What is not learned is read and has no part in the loss.",
    ),
    Field::new(
        "dataset.train_on_prompt",
        Kind::Bool,
        Is(Lit::Bool(false)),
        "Whether prompts, and messages that are not the assistant's, are learned as well.",
    )
    .aliases(&["dataset.train_on_inputs"])
    .when("dataset.format", &["jsonl"]),
    Field::new(
        "dataset.chat_template",
        Kind::Text,
        Nothing("none: records with `messages` are an error"),
        "What makes messages into text: a file of Jinja, a tokenizer_config.json that holds one, or `chatml`. It writes all special tokens; those of more than one character belong into `tokenizer.special_tokens.additional`. Its text is part of the content hash.",
    )
    .when("dataset.format", &["jsonl"]),
    Field::new(
        "dataset.domains",
        Kind::Choices(DOMAINS),
        Is(Lit::Texts(&[])),
        "Generated corpora: `synthetic`.",
    )
    .hashed(Hashing::Always),
    Field::new(
        "dataset.languages",
        Kind::Weights,
        Rule { text: "`{ en = 1.0 }` for a generated corpus", compute: rules::languages },
        "Share of each language in a generated corpus, relative to the others.",
    ),
    Field::new(
        "dataset.target_tokens",
        Kind::Size,
        Rule {
            text: "1,000,000 for a generated corpus, otherwise \"none\": everything",
            compute: rules::target_tokens,
        },
        "Documents are taken until this many tokens; before a tokenizer is bound, whitespace-separated words.",
    )
    .or_nothing(),
    Field::new(
        "dataset.min_length",
        Kind::Int { min: 0, max: MAX },
        Rule {
            text: "16 (at most `max_length`) for a generated corpus without `paths`, otherwise 0",
            compute: rules::min_length,
        },
        "Documents with fewer words are left out; generated ones have at least as many.",
    ),
    Field::new(
        "dataset.max_length",
        Kind::Int { min: 1, max: MAX },
        Rule {
            text: "128 (at least `min_length`) for a generated corpus without `paths`, otherwise \"none\": documents are kept whole, and generated ones have at most 128 words",
            compute: rules::max_length,
        },
        "Documents with more words are cut, records with a prompt left out; generated ones have at most as many.",
    )
    .or_nothing(),
    Field::new(
        "dataset.deduplicate",
        Kind::Choice(DEDUPLICATE),
        Is(Lit::Text("exact")),
        "`exact` keeps the first of byte-equal documents.",
    ),
    Field::new(
        "dataset.validation_fraction",
        Kind::Float { min: Limit::Closed(0.0), max: Limit::Beyond(1.0) },
        Is(Lit::Float(0.05)),
        "Share of documents held out, chosen by document hash; taken exactly, and above 0 at least one document of two.",
    ),
    Field::new(
        "dataset.invalid_utf8",
        Kind::Choice(INVALID_UTF8),
        Is(Lit::Text("error")),
        "What happens to bytes that are not UTF-8: `error`, `replace` by U+FFFD, or `skip` the document.",
    )
    .aliases(&["dataset.encoding_errors"]),
    Field::new(
        "dataset.seed",
        Kind::Int { min: 0, max: MAX },
        Is(Lit::Int(0)),
        "Seed of generated text, of the choice under `target_tokens`, and of the split.",
    ),
];
