//! The loop around a step: schedules, initial weights, optimisers as graphs,
//! and the trainer that holds the state.
//!
//! Everything here is a pure function of the spec and the step. Files, clocks
//! and checkpoints belong to the joining crate, which drives [`Trainer::step`].

pub mod init;
mod lora;
mod loss_scale;
pub mod optim;
mod plans;
pub mod ramp;
pub mod schedule;
mod spikes;
mod trainer;
mod z_loss;

pub use lora::{frozen_paths, with_lora};
pub use loss_scale::Scaler;
pub use plans::{PlanNotes, Plans, differentiate, differentiate_explained};
pub use spikes::Spikes;
pub use trainer::{Batch, Inspection, Modules, NonFinite, StepReport, TrainError, Trainer};
pub use z_loss::with_z_loss;

#[cfg(test)]
mod tests;
