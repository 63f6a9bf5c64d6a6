//! The field table: the one list of everything a spec can say.
//!
//! Parsing, nearest names, defaults, the recipe hashes, canonical printing and
//! `docs/spec.md` all read this table; there is no second copy. A field is named
//! by its path (`training.schedule.type`). Order matters in one way: a default
//! rule may look at fields above its own, and at anything that was written.

mod dataset;
mod lora;
mod model;
mod optimizer;
pub(crate) mod rules;
mod tokenizer;
mod training;

#[cfg(test)]
mod tests;

use crate::view::View;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

/// A top-level table of a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// `[model]`
    Model,
    /// `[dataset]`
    Dataset,
    /// `[tokenizer]`
    Tokenizer,
    /// `[optimizer]`
    Optimizer,
    /// `[training]`
    Training,
}

impl Section {
    /// All sections in the order of the pipeline.
    pub const ALL: [Section; 5] = [
        Section::Model,
        Section::Dataset,
        Section::Tokenizer,
        Section::Optimizer,
        Section::Training,
    ];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Section::Model => "model",
            Section::Dataset => "dataset",
            Section::Tokenizer => "tokenizer",
            Section::Optimizer => "optimizer",
            Section::Training => "training",
        }
    }

    /// The section of a path.
    pub fn of(path: &str) -> Option<Section> {
        let head = path.split('.').next()?;
        Section::ALL.into_iter().find(|s| s.name() == head)
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One field of the spec.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Canonical path, e.g. `model.num_layers`.
    pub path: &'static str,
    /// Other accepted paths: Hugging Face's names, the original package's, shorthands.
    pub aliases: &'static [&'static str],
    /// What values it takes.
    pub kind: Kind,
    /// What holds when it is not written.
    pub default: DefaultRule,
    /// Where it has an effect; everywhere if `None`.
    pub applies: Option<Applies>,
    /// How it enters the recipe hash.
    pub hashing: Hashing,
    /// Whether "nothing" is a value of it, written `"none"` (or `null`).
    pub is_optional: bool,
    /// Whether writing anything but the default is not supported yet.
    pub is_later: bool,
    /// What it means, in one or two sentences.
    pub doc: &'static str,
}

/// What values a field takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A dimension: an integer, `{ min, max, multiple_of }`, or `"free"`.
    Dim,
    /// An integer in a closed range.
    Int {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// An integer, or a text with a decimal suffix: `"125M"`, `"1.3B"`.
    Size,
    /// A number in a range.
    Float {
        /// Lower end.
        min: Limit,
        /// Upper end.
        max: Limit,
    },
    /// `true` or `false`.
    Bool,
    /// A text.
    Text,
    /// A list of texts; one text is a list of one.
    Texts,
    /// The same where order and repetition have no meaning.
    TextSet,
    /// A hash of 64 hexadecimal digits.
    Hash,
    /// One of a few words.
    Choice(&'static [Choice]),
    /// A list of words.
    Choices(&'static [Choice]),
    /// A table from names to positive numbers.
    Weights,
    /// Exactly two numbers in [0, 1).
    Pair,
    /// `"none"`, `"block"`, or `{ budget = BYTES }` with bytes as an integer or `"2 GiB"`.
    Checkpointing,
    /// A list of tables with `pattern`, `lr_scale` and `weight_decay`; one table is a list of one.
    Groups,
}

/// One end of a range of numbers.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// No end; the number is still finite.
    Open,
    /// The end belongs to the range.
    Closed(f64),
    /// The end does not belong to the range.
    Beyond(f64),
}

/// A word that a field takes.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The word.
    pub name: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// Whether it works; otherwise it parses and answers "not supported yet".
    pub is_built: bool,
}

/// What holds when a field is not written.
#[derive(Clone, Copy, Debug)]
pub enum DefaultRule {
    /// A constant.
    Is(Lit),
    /// Nothing; the text says what that means. Written as `"none"`.
    Nothing(&'static str),
    /// A rule in words and as a function. `Null` is "nothing"; the function gives
    /// `None` where what it needs is missing from the spec.
    Rule {
        /// The rule in words, for `solution.json` and the documentation.
        text: &'static str,
        /// The rule.
        compute: fn(&View<'_>) -> Option<Value>,
    },
    /// The solver chooses; the text says how.
    Solved(&'static str),
    /// An abbreviation for other fields, of which each may still be written; has no
    /// value of its own.
    Shorthand {
        /// What it stands for, in words.
        text: &'static str,
        /// Paths of the fields.
        covers: &'static [&'static str],
    },
    /// It must be written; the text is the help.
    Required(&'static str),
}

/// A constant of the table.
#[derive(Clone, Copy, Debug)]
pub enum Lit {
    /// An integer.
    Int(u64),
    /// A number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(&'static str),
    /// A list of texts.
    Texts(&'static [&'static str]),
}

impl Lit {
    /// The value as it stands in the resolved tree.
    pub fn value(self) -> Value {
        match self {
            Lit::Int(i) => Value::from(i),
            Lit::Float(f) => Value::from(f),
            Lit::Bool(b) => Value::from(b),
            Lit::Text(t) => Value::from(t),
            Lit::Texts(t) => Value::from(t.to_vec()),
        }
    }
}

/// A condition on another field, above this one or always written.
#[derive(Clone, Copy, Debug)]
pub struct Applies {
    /// Path of the other field.
    pub path: &'static str,
    /// The words it must have one of.
    pub any_of: &'static [&'static str],
}

/// How a field enters the recipe hash of its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashing {
    /// By value, unless the value is what the default gives.
    UnlessDefault,
    /// By value.
    Always,
    /// Not at all: a label or an observation, or something that provably never
    /// changes the numbers.
    Never,
}

impl Field {
    /// The section it belongs to.
    pub fn section(&self) -> Section {
        Section::of(self.path).expect("every path of the table starts with a section")
    }

    /// The last part of the path.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The path without its section.
    pub fn local_path(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, rest)| rest)
    }

    /// Whether it stands for other fields.
    pub fn is_shorthand(&self) -> bool {
        matches!(self.default, DefaultRule::Shorthand { .. })
    }

    const fn new(path: &'static str, kind: Kind, default: DefaultRule, doc: &'static str) -> Field {
        Field {
            path,
            aliases: &[],
            kind,
            default,
            applies: None,
            hashing: Hashing::UnlessDefault,
            is_optional: matches!(default, DefaultRule::Nothing(_)),
            is_later: false,
            doc,
        }
    }

    const fn aliases(mut self, aliases: &'static [&'static str]) -> Field {
        self.aliases = aliases;
        self
    }

    const fn when(mut self, path: &'static str, any_of: &'static [&'static str]) -> Field {
        self.applies = Some(Applies { path, any_of });
        self
    }

    const fn hashed(mut self, hashing: Hashing) -> Field {
        self.hashing = hashing;
        self
    }

    const fn or_nothing(mut self) -> Field {
        self.is_optional = true;
        self
    }

    const fn later(mut self) -> Field {
        self.is_later = true;
        self
    }
}

const fn built(name: &'static str) -> Choice {
    Choice { name, aliases: &[], is_built: true }
}

const fn also(name: &'static str, aliases: &'static [&'static str]) -> Choice {
    Choice { name, aliases, is_built: true }
}

const fn later(name: &'static str) -> Choice {
    Choice { name, aliases: &[], is_built: false }
}

/// All fields, section by section, in the order of the documentation.
pub fn fields() -> impl Iterator<Item = &'static Field> {
    let training = training::FIELDS.iter().chain(lora::FIELDS);
    [model::FIELDS, dataset::FIELDS, tokenizer::FIELDS, optimizer::FIELDS]
        .into_iter()
        .flatten()
        .chain(training)
}

/// A path prefix that stands for another: `training.optimizer.lr` is `optimizer.lr`.
const PREFIXES: &[(&str, &str)] = &[("training.optimizer", "optimizer")];

static BY_PATH: LazyLock<BTreeMap<String, &'static Field>> = LazyLock::new(|| {
    let mut map = BTreeMap::new();
    for field in fields() {
        for path in [field.path].iter().chain(field.aliases) {
            map.insert(path.to_string(), field);
            for (alias, prefix) in PREFIXES {
                if let Some(rest) = path.strip_prefix(prefix)
                    && rest.starts_with('.')
                {
                    map.insert(format!("{alias}{rest}"), field);
                }
            }
        }
    }
    map
});

static TABLES: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
    let cuts = |path: &'static String| path.match_indices('.').map(|(at, _)| &path[..at]);
    BY_PATH.keys().flat_map(cuts).collect()
});

/// The field with this path or alias.
pub fn find(path: &str) -> Option<&'static Field> {
    BY_PATH.get(path).copied()
}

/// Whether `path` is a table that holds fields.
pub(crate) fn is_table(path: &str) -> bool {
    TABLES.contains(path)
}

/// Names that may follow `table`, for nearest names; all full paths for an empty `table`.
pub(crate) fn names_in(table: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = BY_PATH
        .keys()
        .filter_map(|path| path.strip_prefix(table)?.strip_prefix('.')?.split('.').next())
        .collect();
    names.dedup();
    names
}

/// Every accepted path, for nearest names of `--set`.
pub(crate) fn all_paths() -> impl Iterator<Item = &'static str> {
    BY_PATH.keys().map(String::as_str)
}

/// Every accepted path with its field.
pub(crate) fn accepted() -> impl Iterator<Item = (&'static str, &'static Field)> {
    BY_PATH.iter().map(|(path, field)| (path.as_str(), *field))
}
