//! What every llmc crate shares, and nothing more: integer expressions over
//! symbols, diagnostics with spans, decisions, canonical bytes and hashes, and the
//! f32 math that fixes the bits of the whole project.
//!
//! Without the `std` feature only [`math`] exists, so that the kernels can use
//! the very same functions as the evaluators.

#![cfg_attr(not(feature = "std"), no_std)]

pub mod math;

#[cfg(feature = "std")]
mod decision;
#[cfg(feature = "std")]
pub mod diag;
#[cfg(feature = "std")]
pub mod expr;
#[cfg(feature = "std")]
pub mod hash;

#[cfg(feature = "std")]
pub use decision::Decision;
#[cfg(feature = "std")]
pub use diag::{Diagnostic, Label, Severity, Span};
#[cfg(feature = "std")]
pub use expr::{Expr, Symbol};
#[cfg(feature = "std")]
pub use hash::{CanonicalHasher, Hash};

/// Version of the definitions in `docs/numerics.md`. It enters every recipe
/// hash, so that a change of the numbers is a change of the name.
pub const NUMERICS_VERSION: u32 = 1;
