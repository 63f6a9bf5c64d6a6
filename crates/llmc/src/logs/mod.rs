//! `logs.txt`: what the run said, one line each, appended.
//!
//! An observation: it enters no hash, and nothing is ever read back from it
//! but lines for people.

use crate::store::{Source, Store, StoreError};
use std::path::Path;

#[cfg(test)]
mod tests;

/// Name of the log file in a run directory.
pub const FILE: &str = "logs.txt";

/// Appends a line; line breaks inside it become spaces.
pub fn append(store: &dyn Store, run: &Path, line: &str) -> Result<(), StoreError> {
    let mut line = line.trim_end().replace(['\n', '\r'], " ");
    line.push('\n');
    store.append(&run.join(FILE), line.as_bytes())
}

/// All lines; none if there is no log yet. Bytes that are not UTF-8 (a crash
/// can leave such) are replaced.
pub fn read(source: &dyn Source, run: &Path) -> Result<Vec<String>, StoreError> {
    let path = run.join(FILE);
    if !source.exists(&path)? {
        return Ok(Vec::new());
    }
    let bytes = source.read(&path)?;
    Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_string).collect())
}
