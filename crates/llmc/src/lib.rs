//! llmc joins the stages of the compiler, does their IO and records where
//! everything came from: the public Rust face of the project.
//!
//! It must not know how a command line is parsed, nor anything of Python.

pub mod cache;
pub mod calibration;
pub mod checkpoint;
pub mod doctor;
pub mod events;
pub mod lock;
pub mod logs;
pub mod machine;
pub mod manifest;
pub mod metrics;
pub mod pipeline;
pub mod report;
pub mod shell;
pub mod store;
