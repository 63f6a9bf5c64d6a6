//! Suites across crates; see `suite/`.
