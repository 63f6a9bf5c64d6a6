//! The passes on whole models, in one program: gradients, kept bits, golden pages.

// The whole program is a test; helpers panic on purpose.
#![allow(clippy::unwrap_used)]

mod common;
mod golden;
mod gradients;
mod preserve;
