//! Suites over the public face of the crate.

mod docs;
mod random;
mod text_files;
