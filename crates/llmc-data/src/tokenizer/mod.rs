//! Tokenizers: text to ids and back, and how to train them.
//!
//! ```
//! use llmc_data::tokenizer::{self, TokenizerConfig, TokenizerKind};
//! # fn main() -> Result<(), Vec<llmc_base::Diagnostic>> {
//! let config = TokenizerConfig::new(TokenizerKind::ByteBpe, Some(260));
//! let tokenizer = tokenizer::train(&config, &["low lower lowest"], 1)?;
//! let ids = tokenizer.encode("slowest");
//! assert_eq!(tokenizer.decode(&ids), "slowest");
//! # Ok(())
//! # }
//! ```
//!
//! What is written to `tokenizer.json` encodes and decodes alike in Hugging Face
//! `tokenizers`; `tests/conformance/tokenizers_parity.py` checks that. Unigram,
//! WordPiece, normalisers and byte fallback are not here.

mod byte_level;
mod config;
mod decode;
mod encode;
mod json;
mod merge;
mod scan;
mod special;
mod train;
mod unicode;
mod vocab;

#[cfg(test)]
mod tests;

pub use config::{PreTokenizer, SpecialTokens, TokenizerConfig, TokenizerKind};
pub use decode::StreamDecoder;
pub use encode::Encoder;
pub use scan::words as gpt2_words;
pub use train::train;

use crate::fast_hash::FastMap;
use llmc_base::{Diagnostic, Hash};
use merge::{Merge, pair_key};
use special::Splitter;
use vocab::Vocab;

/// The ids of special tokens by role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Fills rows.
    pub pad: Option<u32>,
    /// Stands for characters outside the alphabet.
    pub unk: Option<u32>,
    /// Begins a document.
    pub bos: Option<u32>,
    /// Ends a document.
    pub eos: Option<u32>,
}

/// A trained tokenizer.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    kind: TokenizerKind,
    pre_tokenizer: PreTokenizer,
    vocab: Vocab,
    specials: Vec<(String, u32)>,
    roles: Roles,
    merges: Vec<Merge>,
    splitter: Splitter,
    /// Rank of each pair that merges: its index in `merges`.
    ranks: FastMap<u64, u32>,
    alphabet: Alphabet,
}

/// From the characters or bytes of a word to its first ids.
#[derive(Clone, Debug)]
enum Alphabet {
    Bytes(Box<[u32; 256]>),
    /// Characters by code point; the unknown id for all others.
    Chars {
        ids: FastMap<char, u32>,
        unk: u32,
    },
}

impl Tokenizer {
    /// Puts the parts together and checks that they fit: the alphabet is
    /// complete, no token occurs twice, every merge joins tokens into their
    /// concatenation.
    fn assemble(
        kind: TokenizerKind,
        pre_tokenizer: PreTokenizer,
        vocab: Vocab,
        specials: Vec<(String, u32)>,
        merges: Vec<Merge>,
        roles: Roles,
    ) -> Result<Self, Diagnostic> {
        let invalid = |what: String| Diagnostic::error("tokenizer::invalid", what);
        let is_special = |id: u32| specials.iter().any(|(_, special)| *special == id);
        let alphabet = match kind {
            TokenizerKind::ByteBpe => {
                let mut ids: Box<[Option<u32>; 256]> = Box::new([None; 256]);
                for (id, token) in (0..).zip(vocab.iter()) {
                    if let [byte] = token
                        && !is_special(id)
                    {
                        ids[usize::from(*byte)] = Some(id);
                    }
                }
                if let Some(missing) = ids.iter().position(Option::is_none) {
                    return Err(invalid(format!("no token stands for byte {missing}")));
                }
                Alphabet::Bytes(Box::new(ids.map(Option::unwrap_or_default)))
            }
            TokenizerKind::Bpe | TokenizerKind::Char => {
                let mut ids = FastMap::default();
                for (id, token) in (0..).zip(vocab.iter()) {
                    let text = std::str::from_utf8(token)
                        .map_err(|_| invalid(format!("token {id} is not UTF-8")))?;
                    let mut chars = text.chars();
                    if let (Some(c), None) = (chars.next(), chars.next())
                        && !is_special(id)
                    {
                        ids.insert(c, id);
                    }
                }
                let unk = roles
                    .unk
                    .ok_or_else(|| invalid(format!("`{}` has no unknown token", kind.name())))?;
                Alphabet::Chars { ids, unk }
            }
        };
        let mut ranks = FastMap::default();
        for (rank, merge) in (0..).zip(&merges) {
            let (left, right, new) =
                (vocab.get(merge.left), vocab.get(merge.right), vocab.get(merge.new));
            let joins = matches!((left, right, new), (Some(l), Some(r), Some(n))
                if n.len() == l.len() + r.len() && n.starts_with(l) && n.ends_with(r));
            if !joins {
                return Err(invalid(format!("merge {rank} does not join two tokens into a third")));
            }
            if ranks.insert(pair_key(merge.left, merge.right), rank).is_some() {
                return Err(invalid(format!("merge {rank} repeats an earlier one")));
            }
        }
        let splitter = Splitter::new(&specials);
        Ok(Tokenizer {
            kind,
            pre_tokenizer,
            vocab,
            specials,
            roles,
            merges,
            splitter,
            ranks,
            alphabet,
        })
    }

    /// The construction.
    pub fn kind(&self) -> TokenizerKind {
        self.kind
    }

    /// Number of tokens, specials counted; ids are below it.
    pub fn vocab_size(&self) -> u32 {
        self.vocab.len() as u32
    }

    /// The ids of special tokens by role.
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// All special tokens with their ids, in id order.
    pub fn special_tokens(&self) -> &[(String, u32)] {
        &self.specials
    }

    /// The bytes that a token decodes to, or `None` if there is no such id.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.vocab.get(id)
    }

    /// The hash of the canonical `tokenizer.json`.
    pub fn content_hash(&self) -> Hash {
        Hash::of_bytes(self.to_json().as_bytes())
    }

    /// Whether the id is one of a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.specials.iter().any(|(_, special)| *special == id)
    }
}
