//! Suites across crates.

mod engine;
