//! Bytes to token ids and batches.
//!
//! The stages, each a pure function of its inputs:
//!
//! ```text
//! files ──dataset::build──▶ documents ──tokenizer::train──▶ tokenizer
//!                               │                              │
//!                               └──────────encode──────────────┘
//!                                            │ ids
//!                     shards::write ◀────────┤
//!                                            ▼
//!                       pack::plan ──▶ rows ──order::batch_rows──▶ batches
//! ```
//!
//! This crate knows nothing of graphs, specs or kernels. Files enter through
//! [`Source`]; results leave as bytes that the caller writes. The number of
//! threads never changes a bit of any result.

pub mod baseline;
pub mod dataset;
pub mod order;
pub mod pack;
pub mod shards;
pub mod source;
pub mod tokenizer;

mod fast_hash;
mod random;
mod threads;

pub use source::{MemorySource, Source};
