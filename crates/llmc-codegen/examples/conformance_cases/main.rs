//! Writes the cases of `make conformance` into a folder: exports of models with random weights,
//! and what the reference evaluator gives for them.
//!
//! `cargo run -p llmc-codegen --example conformance_cases -- FOLDER`
//!
//! Each case is a folder with case.json, probes and one folder per export, each with a
//! certificate.json that says `not checked here`; `tests/conformance/run.py` does the checking.
//! There are models of every family and odd ones that only PyTorch takes ([`models`]), every op on
//! its samples, and random modules ([`functions`]).

mod functions;
mod models;

use llmc_base::Hash;
use llmc_codegen::certificate::{Certificate, Check, FileHash};
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::path::Path;

type Done<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Done {
    let folder = std::env::args().nth(1).ok_or("the folder to write is missing")?;
    let folder = Path::new(&folder);
    for case in models::cases() {
        models::write(&folder.join(case.name), &case)?;
    }
    functions::write_ops(&folder.join("ops"))?;
    functions::write_generated(&folder.join("generated"))
}

/// Uniform values in (-1, 1) that depend on the seed and the place alone.
fn noise(seed: u64, index: u64) -> f64 {
    let word = llmc_base::math::philox_element(seed, 0, 0, index);
    f64::from(word) / f64::from(1u32 << 31) - 1.0
}

fn seed(name: &str) -> u64 {
    let Hash(bytes) = Hash::of_bytes(name.as_bytes());
    bytes.iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// A file of a folder, with its place in the certificate.
fn write_file(folder: &Path, name: &str, bytes: &[u8], files: &mut Vec<FileHash>) -> Done {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(name), bytes)?;
    files.push(FileHash { path: name.to_string(), hash: Hash::of_bytes(bytes) });
    Ok(())
}

fn write_certificate(folder: &Path, format: &str, source: Hash, files: Vec<FileHash>) -> Done {
    let mut certificate = Certificate::new(format, source, files);
    certificate.checks.push(Check::not_checked("outputs", "real", "`run.py` has not run yet"));
    fs::write(folder.join("certificate.json"), certificate.to_json())?;
    Ok(())
}

fn write_case(folder: &Path, exports: Vec<Value>) -> Done {
    let text = serde_json::to_string_pretty(&json!({ "exports": exports }))?;
    fs::write(folder.join("case.json"), text + "\n")?;
    Ok(())
}
