//! The stages joined: from a spec to a verified run, and from a run to its uses.

pub mod compile;
pub mod compile_report;
pub mod data;
mod documents;
pub mod emit;
pub mod failure;
pub mod finish;
pub mod generate;
pub mod graph_json;
pub mod inspect;
pub mod observer;
pub mod plan;
mod prepare;
pub mod project;
pub mod quickstart;
mod record;
pub mod report;
pub mod rerun;
pub mod runs;
mod session;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
pub mod text;
pub mod train;

pub use failure::Failure;
pub use observer::{Event, Observer, Silent};
pub use project::{Defaults, Project};
pub use train::{TrainOptions, TrainResult, TrainStatus, train};
