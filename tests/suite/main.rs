//! Suites across crates.

mod caches;
mod engine;
mod golden;
mod mapped;
mod prefixes;
mod sessions;
