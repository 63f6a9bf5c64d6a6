//! Programs as text or files for others.
//!
//! - [`pytorch`]: readable PyTorch from the IR.
//! - [`huggingface`]: a folder that `transformers` loads, for models whose structure it knows.
//! - [`weights`]: the weights file with our names.
//! - [`probe`]: what exports are checked on, and the program that checks them.
//! - [`certificate`]: what was compared with what, and how well it agreed.
//!
//! Everything here is a pure function from modules and tensors to text and bytes.

pub mod certificate;
pub mod huggingface;
pub mod probe;
mod python;
pub mod pytorch;
pub mod weights;
