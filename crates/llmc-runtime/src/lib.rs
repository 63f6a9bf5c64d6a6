//! Plans as actions: memory, the thread pool, and the executor.
//!
//! This crate knows plans and kernels; it knows no specs, templates or autodiff.

mod calibrate;
mod exec;
mod mapped;
mod memory;
mod narrow;
mod native;
mod pack;
mod path;
mod pool;
mod sample;
mod session;
mod stop;
mod words;

#[cfg(test)]
mod tests;

pub use calibrate::{CalibrateError, calibrate};
pub use exec::{Engine, RunError, scratch_words};
pub use llmc_kernels::Isa;
pub use mapped::MappedFile;
pub use memory::Memory;
pub use pack::{PackedWeight, Packing, pack_weight};
pub use path::kernel_path;
pub use pool::Pool;
pub use sample::{Context, Sampling, logprobs, sample};
pub use session::{Batch, CacheBytes, SequenceId, Session, SessionError, SessionState, StateError};
pub use stop::StopStrings;
