//! Suites across crates.

mod caches;
mod engine;
mod golden;
mod prefixes;
mod sessions;
