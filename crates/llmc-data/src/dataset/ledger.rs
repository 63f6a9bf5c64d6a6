//! The ledger: what came in, what was left out and why, in JSON.

use llmc_base::Hash;
use serde::Serialize;

/// One place of a document: its file and its index within it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Path of the file, or `synthetic:en`.
    pub source: String,
    /// Index of the document in it.
    pub index: u64,
}

/// What one file gave. Documents are kept, duplicate, empty, too short, too long or over the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceEntry {
    /// Path of the file, or `synthetic:en`.
    pub source: String,
    /// Hash of its bytes; none for the generated corpus.
    pub hash: Option<Hash>,
    /// Its length in bytes, before anything was changed.
    pub bytes: u64,
    /// Documents in the dataset.
    pub documents: u64,
    /// Whitespace-separated words in them.
    pub words: u64,
    /// Documents left out because an equal one comes first.
    pub duplicates: u64,
    /// Documents left out because they hold nothing.
    pub empty: u64,
    /// Documents left out because they have fewer words than `min_length`.
    pub too_short: u64,
    /// Records with a prompt left out because they have more words than `max_length`.
    #[serde(skip_serializing_if = "is_zero")]
    pub too_long: u64,
    /// Documents left out because `target_tokens` was reached without them.
    pub over_target: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A document that was left out because an equal one comes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// What was left out.
    pub dropped: Place,
    /// What stayed.
    pub kept: Place,
    /// The hash of both.
    pub hash: Hash,
}

/// A file that is not UTF-8 from `offset` on, under the policies that go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvalidFile {
    /// Path of the file.
    pub source: String,
    /// First byte that is no UTF-8.
    pub offset: u64,
    /// `skip` or `replace`.
    pub action: String,
}

/// Totals of one split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Documents.
    pub documents: u64,
    /// Whitespace-separated words.
    pub words: u64,
    /// UTF-8 bytes.
    pub bytes: u64,
}

/// The whole account; it enters no hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Name of the dataset.
    pub name: String,
    /// What was asked and read.
    pub recipe_hash: Hash,
    /// What came of it.
    pub content_hash: Hash,
    /// The train split.
    pub train: Totals,
    /// The validation split.
    pub validation: Totals,
    /// Per file, in order.
    pub sources: Vec<SourceEntry>,
    /// Every exact duplicate.
    pub duplicates: Vec<Duplicate>,
    /// Every file with invalid UTF-8.
    pub invalid_utf8: Vec<InvalidFile>,
}

impl Ledger {
    /// The account as JSON, two spaces of indent, one newline at the end.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a ledger has only text keys");
        text.push('\n');
        text
    }
}
