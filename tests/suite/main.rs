//! Suites across crates.

mod engine;
mod golden;
mod sessions;
