//! Exports below a run: each against what was recorded in its own folder.
//!
//! The marker `COMPLETE` has the hash of every file as it was written, and
//! `certificate.json` those of the files that it speaks of. The certificate is
//! written again when a check is made, so its own bytes are held against
//! nothing; what it says of other files is.

use super::verify::{Check, ProblemKind};
use crate::store::{COMPLETE, EntryKind, is_temporary, join, read_marker};
use llmc_base::{Diagnostic, Hash};
use llmc_codegen::certificate::Certificate;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Folder of the exports below the run folder.
pub(super) const FOLDER: &str = "exports";

/// Name of the certificate in an export.
const CERTIFICATE: &str = "certificate.json";

/// Checks every export; takes the files that belong to one out of `unknown`, and adds those without
/// a fault to `verified`.
pub(super) fn check(
    check: &mut Check,
    unknown: &mut BTreeSet<String>,
    verified: &mut Vec<String>,
) -> Result<(), Diagnostic> {
    let parent = check.run.join(FOLDER);
    let failed = |e| Diagnostic::from(&e);
    if !check.source.exists(&parent).map_err(failed)? {
        return Ok(());
    }
    for entry in check.source.list(&parent).map_err(failed)? {
        if entry.kind != EntryKind::Folder || is_temporary(&entry.name) {
            continue;
        }
        let name = format!("{FOLDER}/{}", entry.name);
        let n_before = check.problems.len();
        one(check, &name, &parent.join(&entry.name), unknown);
        if check.problems.len() == n_before {
            verified.push(name);
        }
    }
    Ok(())
}

fn one(check: &mut Check, name: &str, place: &Path, unknown: &mut BTreeSet<String>) {
    let mut expected: BTreeMap<String, Vec<Hash>> = BTreeMap::new();
    match read_marker(check.source, place) {
        Ok(marker) => {
            for file in marker.files.iter().filter(|file| file.path != CERTIFICATE) {
                expected.entry(file.path.clone()).or_default().push(file.hash);
            }
        }
        Err(fault) => {
            let kind = ProblemKind::Unreadable { reason: format!("is not whole: {fault}") };
            check.problem_of(name, format!("{name}/{COMPLETE}"), kind);
        }
    }
    let path = format!("{name}/{CERTIFICATE}");
    let certificate = check.source.read(&place.join(CERTIFICATE)).map_err(|e| e.to_string());
    let certificate = certificate
        .and_then(|bytes| serde_json::from_slice::<Certificate>(&bytes).map_err(|e| e.to_string()));
    match certificate {
        Ok(certificate) => {
            for file in certificate.files {
                expected.entry(file.path).or_default().push(file.hash);
            }
        }
        Err(why) => {
            let kind = ProblemKind::Unreadable { reason: format!("is no certificate: {why}") };
            check.problem_of(name, path.clone(), kind);
        }
    }
    unknown.remove(&path);
    unknown.remove(&format!("{name}/{COMPLETE}"));
    for (file, mut hashes) in expected {
        let path = format!("{name}/{file}");
        unknown.remove(&path);
        hashes.dedup();
        for hash in hashes {
            check.file_of(name, &join(place, &file), path.clone(), hash);
        }
    }
}
