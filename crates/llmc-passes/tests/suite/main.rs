//! The passes on whole models, in one program: gradients and kept bits.

// The whole program is a test; helpers panic on purpose.
#![allow(clippy::unwrap_used)]

mod common;
mod gradients;
mod preserve;
