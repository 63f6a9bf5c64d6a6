//! What was asked and what follows from it.
//!
//! A spec file (TOML, YAML or JSON) becomes typed, resolved settings:
//! [`Architecture`], [`Dims`] and the configurations of data, tokenizer,
//! optimizer and training. The crate knows no tensors, ops or files.

pub mod architecture;
pub mod config;
pub mod dims;

pub use architecture::{
    Activation, Architecture, AttentionKind, Biases, Dropout, Init, Norm, Position, RopeScaling,
    Template,
};
pub use config::{
    DatasetConfig, Deduplicate, Domain, InvalidUtf8, OptimizerConfig, OptimizerKind, PreTokenizer,
    Precision, Schedule, ScheduleKind, SpecialTokens, TokenizerConfig, TokenizerKind,
    TrainingConfig,
};
pub use dims::{Dim, DimExprs, Dims};

/// Version of the meaning of a spec: field names, defaults, default rules. It
/// enters every recipe hash; golden hashes in the tests guard it.
pub const SPEC_VERSION: u32 = 1;
