//! What was asked of a tokenizer, as plain data, and its recipe hash.

use llmc_base::{CanonicalHasher, Hash};

/// The construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerKind {
    /// Byte pair encoding over bytes. Encodes every text.
    ByteBpe,
    /// Byte pair encoding over characters. Characters outside the alphabet become
    /// the unknown token.
    Bpe,
    /// One token per character; others become the unknown token.
    Char,
}

impl TokenizerKind {
    /// The name in specs: `byte_bpe`, `bpe`, `char`.
    pub fn name(self) -> &'static str {
        match self {
            TokenizerKind::ByteBpe => "byte_bpe",
            TokenizerKind::Bpe => "bpe",
            TokenizerKind::Char => "char",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [TokenizerKind::ByteBpe, TokenizerKind::Bpe, TokenizerKind::Char]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// How text between special tokens is cut into words; no merge crosses a cut.
/// `char` has no merges, so it makes no difference there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreTokenizer {
    /// By the GPT-2 pattern, white space in front of the word that follows it.
    Gpt2,
    /// Not at all: a document, or its part between special tokens, is one word.
    None,
}

impl PreTokenizer {
    /// The name in specs: `gpt2`, `none`.
    pub fn name(self) -> &'static str {
        match self {
            PreTokenizer::Gpt2 => "gpt2",
            PreTokenizer::None => "none",
        }
    }
}

/// Tokens that no text spells by accident. One text may serve several roles
/// (GPT-2 uses `<|endoftext|>` for three); it is then one token.
///
/// Ids are given in the order pad, unk, bos, eos, additional, from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Fills rows.
    pub pad: Option<String>,
    /// Stands for characters outside the alphabet; `bpe` and `char` need it.
    pub unk: Option<String>,
    /// Begins a document.
    pub bos: Option<String>,
    /// Ends a document.
    pub eos: Option<String>,
    /// Further tokens without a role here.
    pub additional: Vec<String>,
}

impl SpecialTokens {
    /// The texts in id order, each once.
    pub fn in_order(&self) -> Vec<&str> {
        let roles = [&self.pad, &self.unk, &self.bos, &self.eos];
        let mut texts: Vec<&str> = Vec::new();
        for text in roles.into_iter().flatten().chain(&self.additional) {
            if !texts.contains(&text.as_str()) {
                texts.push(text);
            }
        }
        texts
    }
}

/// What was asked of a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerConfig {
    /// For messages; does not enter the hash.
    pub name: String,
    /// The construction.
    pub kind: TokenizerKind,
    /// Tokens in all, specials counted; for `char` at most so many. `None` is for
    /// `char` only: every character of the corpus.
    pub vocab_size: Option<u32>,
    /// How text is cut before merges.
    pub pre_tokenizer: PreTokenizer,
    /// Special tokens.
    pub special_tokens: SpecialTokens,
    /// A pair of tokens is merged only if it occurs this often; at least 1.
    pub min_frequency: u64,
}

impl TokenizerConfig {
    /// A config with the GPT-2 pattern, no special tokens, and minimum frequency 1.
    pub fn new(kind: TokenizerKind, vocab_size: Option<u32>) -> Self {
        TokenizerConfig {
            name: String::new(),
            kind,
            vocab_size,
            pre_tokenizer: PreTokenizer::Gpt2,
            special_tokens: SpecialTokens::default(),
            min_frequency: 1,
        }
    }

    /// The name of the tokenizer that this config makes of a corpus: a hash of
    /// everything that enters its training. `corpus` is the dataset's recipe hash.
    pub fn recipe_hash(&self, corpus: &Hash) -> Hash {
        let mut hasher = CanonicalHasher::new("llmc.tokenizer.v1");
        hasher.field("kind").str(self.kind.name());
        if let Some(vocab_size) = self.vocab_size {
            hasher.field("vocab_size").int(vocab_size.into());
        }
        let specials = &self.special_tokens;
        for (role, text) in [
            ("pad", &specials.pad),
            ("unk", &specials.unk),
            ("bos", &specials.bos),
            ("eos", &specials.eos),
        ] {
            if let Some(text) = text {
                hasher.field(role).str(text);
            }
        }
        if !specials.additional.is_empty() {
            hasher.field("additional").seq(specials.additional.len());
            for text in &specials.additional {
                hasher.str(text);
            }
        }
        if self.min_frequency > 1 {
            hasher.field("min_frequency").int(self.min_frequency.into());
        }
        if self.kind != TokenizerKind::Char && self.pre_tokenizer != PreTokenizer::Gpt2 {
            hasher.field("pre_tokenizer").str(self.pre_tokenizer.name());
        }
        hasher.field("corpus").hash(corpus);
        hasher.finish()
    }
}
