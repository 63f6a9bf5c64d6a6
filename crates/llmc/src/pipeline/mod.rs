//! The stages joined: from a spec to a verified run, and from a run to its uses.

mod adapters;
pub mod chat;
pub mod compile;
pub mod compile_report;
mod conversations;
pub mod data;
mod documents;
pub mod emit;
mod evaluation;
pub mod explain;
pub mod failure;
pub mod finetune;
pub mod finish;
mod fold;
pub mod generate;
pub mod graph_json;
pub mod groups;
pub mod held_out;
pub mod inspect;
pub mod observer;
mod peft;
pub mod plan;
mod prepare;
pub mod project;
pub mod quantize;
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
mod weights;
pub mod why;
mod writer;

pub use failure::Failure;
pub use observer::{Event, Observer, Silent};
pub use project::{Defaults, Project};
pub use train::{TrainOptions, TrainResult, TrainStatus, train};
