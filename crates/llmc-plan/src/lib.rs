//! Graph to execution plan.
//!
//! A [`Plan`] is a flat list of kernel launches over one address space of
//! 4-byte words, with every offset known before the run. Layouts are made once
//! per function and instantiated for each call. Weights and state live at fixed
//! places of the [`AddressSpace`]; everything else lives in the frame behind
//! them, at offsets packed by liveness.
//!
//! This crate knows the IR; it knows neither specs nor source languages.

mod fuse;
mod kernel;
mod layout;
mod notes;
mod plan;
pub mod predict;
mod print;
mod space;
mod why;

#[cfg(test)]
mod tests;

pub use kernel::{Gemm, GemmInit, Kernel, Strides, select};
pub use notes::{BufferNote, FunctionNotes};
pub use plan::{
    Launch, LaunchWork, Plan, PlanError, PlanRequest, plan, plan_all, plan_all_explained,
};
pub use space::{AddressSpace, Region, View, WORD_BYTES, tensor_words, words_for};
pub use why::Why;
