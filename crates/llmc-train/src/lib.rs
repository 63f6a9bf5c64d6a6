//! The loop around a step: schedules, initial weights, optimisers as graphs,
//! and the trainer that holds the state.
//!
//! Everything here is a pure function of the spec and the step. Files, clocks
//! and checkpoints belong to the joining crate, which drives [`Trainer::step`].

pub mod init;
pub mod optim;
mod plans;
pub mod schedule;
mod trainer;

pub use plans::{Plans, differentiate};
pub use trainer::{Batch, Modules, NonFinite, StepReport, TrainError, Trainer};

#[cfg(test)]
mod tests;
