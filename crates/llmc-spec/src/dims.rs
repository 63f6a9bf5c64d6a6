//! The eight dimensions of a decoder, as numbers and as symbols.

use llmc_base::Expr;
use llmc_base::expr::{Env, Symbol};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One of the dimensions; the order is the order of [`Dims`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dim {
    /// Rows of the embedding.
    VocabSize,
    /// Longest sequence, in tokens.
    ContextLength,
    /// Number of blocks.
    NumLayers,
    /// Width of the residual stream.
    HiddenSize,
    /// Query heads.
    NumHeads,
    /// Key/value heads.
    NumKvHeads,
    /// Width of one head.
    HeadDim,
    /// Width of the feed-forward block.
    IntermediateSize,
}

impl Dim {
    /// All dims in order.
    pub const ALL: [Dim; 8] = [
        Dim::VocabSize,
        Dim::ContextLength,
        Dim::NumLayers,
        Dim::HiddenSize,
        Dim::NumHeads,
        Dim::NumKvHeads,
        Dim::HeadDim,
        Dim::IntermediateSize,
    ];

    /// The field name, which is also the symbol of the parameter polynomial.
    pub fn name(self) -> &'static str {
        match self {
            Dim::VocabSize => "vocab_size",
            Dim::ContextLength => "context_length",
            Dim::NumLayers => "num_layers",
            Dim::HiddenSize => "hidden_size",
            Dim::NumHeads => "num_heads",
            Dim::NumKvHeads => "num_kv_heads",
            Dim::HeadDim => "head_dim",
            Dim::IntermediateSize => "intermediate_size",
        }
    }

    /// The dim with this field name.
    pub fn from_name(name: &str) -> Option<Dim> {
        Dim::ALL.into_iter().find(|dim| dim.name() == name)
    }

    /// Position in [`Dim::ALL`].
    pub fn idx(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Solved dimensions of a decoder; all at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dims {
    /// Rows of the embedding.
    pub vocab_size: u64,
    /// Longest sequence, in tokens.
    pub context_length: u64,
    /// Number of blocks.
    pub num_layers: u64,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Query heads.
    pub num_heads: u64,
    /// Key/value heads; divides `num_heads`.
    pub num_kv_heads: u64,
    /// Width of one head; may differ from `hidden_size / num_heads`.
    pub head_dim: u64,
    /// Width of the feed-forward block.
    pub intermediate_size: u64,
}

impl Dims {
    /// The value of one dim.
    pub fn get(&self, dim: Dim) -> u64 {
        self.to_array()[dim.idx()]
    }

    /// The values in the order of [`Dim::ALL`].
    pub fn to_array(&self) -> [u64; 8] {
        [
            self.vocab_size,
            self.context_length,
            self.num_layers,
            self.hidden_size,
            self.num_heads,
            self.num_kv_heads,
            self.head_dim,
            self.intermediate_size,
        ]
    }

    /// From values in the order of [`Dim::ALL`].
    pub fn from_array(values: [u64; 8]) -> Dims {
        let [
            vocab_size,
            context_length,
            num_layers,
            hidden_size,
            num_heads,
            num_kv_heads,
            head_dim,
            intermediate_size,
        ] = values;
        Dims {
            vocab_size,
            context_length,
            num_layers,
            hidden_size,
            num_heads,
            num_kv_heads,
            head_dim,
            intermediate_size,
        }
    }

    /// The assignment of the symbols of [`DimExprs::symbolic`].
    pub fn env(&self) -> Env {
        Dim::ALL
            .into_iter()
            .map(|dim| (Symbol::new(dim.name()), i128::from(self.get(dim))))
            .collect()
    }
}

/// The same dimensions as expressions: numbers, or symbols named like the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DimExprs {
    /// Rows of the embedding.
    pub vocab_size: Expr,
    /// Longest sequence, in tokens.
    pub context_length: Expr,
    /// Number of blocks.
    pub num_layers: Expr,
    /// Width of the residual stream.
    pub hidden_size: Expr,
    /// Query heads.
    pub num_heads: Expr,
    /// Key/value heads.
    pub num_kv_heads: Expr,
    /// Width of one head.
    pub head_dim: Expr,
    /// Width of the feed-forward block.
    pub intermediate_size: Expr,
}

impl DimExprs {
    /// Every dim as the symbol of its field name: the input of the solver's polynomial.
    pub fn symbolic() -> DimExprs {
        Self::from_fn(|dim| Expr::symbol(dim.name()))
    }

    fn from_fn(f: impl Fn(Dim) -> Expr) -> DimExprs {
        DimExprs {
            vocab_size: f(Dim::VocabSize),
            context_length: f(Dim::ContextLength),
            num_layers: f(Dim::NumLayers),
            hidden_size: f(Dim::HiddenSize),
            num_heads: f(Dim::NumHeads),
            num_kv_heads: f(Dim::NumKvHeads),
            head_dim: f(Dim::HeadDim),
            intermediate_size: f(Dim::IntermediateSize),
        }
    }
}

impl From<&Dims> for DimExprs {
    fn from(dims: &Dims) -> DimExprs {
        Self::from_fn(|dim| Expr::from(dims.get(dim)))
    }
}
