//! What was asked and what follows from it.
//!
//! A spec file (TOML, YAML or JSON) becomes typed, resolved settings:
//! [`Architecture`], [`Dims`] and the configurations of data, tokenizer,
//! optimizer and training. The crate knows no tensors, ops or files.

pub mod architecture;
mod check;
pub mod config;
pub mod dims;
pub mod field;
mod print;
mod read;
mod recipe;
mod reference;
mod resolve;
mod schema;
pub mod solver;
mod spec;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod told;
mod tree;
mod view;

pub use architecture::{
    Activation, Architecture, AttentionKind, Biases, Dropout, Init, Mup, Norm, Position,
    RopeScaling, Template,
};
pub use config::{
    BatchRamp, DatasetConfig, Deduplicate, Domain, EarlyStopping, GradientCheckpointing,
    InvalidUtf8, LossScale, OptimizerConfig, OptimizerKind, ParameterGroup, PreTokenizer,
    Precision, Schedule, ScheduleKind, SkipSpikes, SpecialTokens, TokenizerConfig, TokenizerKind,
    TrainingConfig,
};
pub use dims::{Dim, DimExprs, Dims};
pub use field::{Field, Section, fields};
pub use print::{to_explicit_toml, to_toml};
pub use read::{decode, from_json, parse, parse_with};
pub use recipe::RecipeHashes;
pub use reference::reference;
pub use resolve::{
    Defaulted, Goal, Resolved, ResolvedModel, architecture, refuse_defaults, resolve,
};
pub use schema::json_schema;
pub use solver::{Conflict, Problem, Solution, solve};
pub use spec::{Setting, Spec};
pub use tree::Format;
pub use view::View;

/// Version of the meaning of a spec: field names, defaults, default rules. It
/// enters every recipe hash; golden hashes in the tests guard it.
pub const SPEC_VERSION: u32 = 1;
