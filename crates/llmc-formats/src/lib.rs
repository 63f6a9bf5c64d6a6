//! Other people's bytes, each format in one module, read and written.
//!
//! - [`safetensors`]: named tensors in one file.
//! - [`tensorboard`]: event files of scalars and texts.
//! - [`protobuf`]: the wire format below event files.
//! - [`names`]: what Hugging Face calls our weights, and how it stores them.
//!
//! Readers take borrowed bytes, believe nothing, and name what is wrong. Writers are
//! deterministic: the same values give the same bytes. This crate knows no graphs, no
//! files and no clock; times come from the caller.

pub mod names;
pub mod protobuf;
pub mod safetensors;
pub mod tensorboard;
