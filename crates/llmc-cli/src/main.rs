//! The `llmc` command.
mod args;
fn main() {}
