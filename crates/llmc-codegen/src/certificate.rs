//! `certificate.json`: what an export was compared with, and how well it agreed.
//!
//! A certificate lists files by hash and checks. A check is `ok` or `failed` only by a comparison
//! that was made; where the runtime is missing it is `not checked here`. The types make the
//! first impossible without numbers: [`Check`] has no public fields, and reading one from JSON
//! recomputes its status.

#[cfg(test)]
mod tests;

use llmc_base::{Hash, NUMERICS_VERSION};
use serde::{Deserialize, Serialize};

/// Version of the form of the file.
pub const CERTIFICATE_VERSION: u32 = 1;

/// Largest difference from the `real` evaluator, relative to the largest reference value, at
/// which an export in float64 still is the same model.
pub const REAL_TOLERANCE: f64 = 1e-9;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Version of the form.
    pub certificate_version: u32,
    /// Version of the definitions in `docs/numerics.md`.
    pub numerics_version: u32,
    /// What was exported, e.g. `pytorch` or `huggingface`.
    pub format: String,
    /// Content hash of the model that was exported.
    pub source: Hash,
    /// The files of the export by name, with their hashes, sorted.
    pub files: Vec<FileHash>,
    /// What was checked.
    pub checks: Vec<Check>,
}

/// One file of an export.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileHash {
    /// Path inside the folder.
    pub path: String,
    /// Hash of its bytes.
    pub hash: Hash,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Compared, and within the tolerance.
    #[serde(rename = "ok")]
    Ok,
    /// Compared, and beyond it; or the export could not be run.
    #[serde(rename = "failed")]
    Failed,
    /// Not compared.
    #[serde(rename = "not checked here")]
    NotChecked,
}

/// A program that ran the export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Its name, e.g. `transformers`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The numbers of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What ran the export, the nearest first.
    pub runtimes: Vec<Runtime>,
    /// Elements compared.
    pub elements: u64,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Largest absolute difference over the largest absolute reference value.
    pub max_rel: f64,
    /// Bound of `max_rel`.
    pub tolerance: f64,
    /// Hash of the probe: inputs and reference outputs.
    pub probe: Hash,
}

impl Comparison {
    /// Whether the differences are numbers within the tolerance, over at least one element.
    pub fn is_within(&self) -> bool {
        self.elements > 0
            && self.max_abs.is_finite()
            && self.max_rel.is_finite()
            && self.max_rel <= self.tolerance
    }
}

/// One quantity compared with the reference evaluator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawCheck")]
pub struct Check {
    status: Status,
    quantity: String,
    evaluator: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Deserialize)]
struct RawCheck {
    status: Status,
    quantity: String,
    evaluator: String,
    comparison: Option<Comparison>,
    #[serde(default)]
    notes: Vec<String>,
}

impl Check {
    /// A comparison that was made; its numbers decide the status.
    pub fn compared(
        quantity: impl Into<String>,
        evaluator: impl Into<String>,
        comparison: Comparison,
        notes: Vec<String>,
    ) -> Self {
        let status = if comparison.is_within() { Status::Ok } else { Status::Failed };
        let (quantity, evaluator) = (quantity.into(), evaluator.into());
        Check { status, quantity, evaluator, comparison: Some(comparison), notes }
    }

    /// An export that could not be run at all.
    pub fn failed(
        quantity: impl Into<String>,
        evaluator: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Check {
            status: Status::Failed,
            quantity: quantity.into(),
            evaluator: evaluator.into(),
            comparison: None,
            notes: vec![reason.into()],
        }
    }

    /// A comparison that was not made, and why.
    pub fn not_checked(
        quantity: impl Into<String>,
        evaluator: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Check { status: Status::NotChecked, ..Self::failed(quantity, evaluator, reason) }
    }

    /// The outcome.
    pub fn status(&self) -> Status {
        self.status
    }

    /// What was compared, e.g. `logits`.
    pub fn quantity(&self) -> &str {
        &self.quantity
    }

    /// With which evaluator.
    pub fn evaluator(&self) -> &str {
        &self.evaluator
    }

    /// The numbers, if there was a comparison.
    pub fn comparison(&self) -> Option<&Comparison> {
        self.comparison.as_ref()
    }

    /// What a reader has to know: how the runtime was set up, why nothing was compared.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl TryFrom<RawCheck> for Check {
    type Error = String;

    fn try_from(raw: RawCheck) -> Result<Self, String> {
        let RawCheck { status, quantity, evaluator, comparison, notes } = raw;
        let fits = match (&comparison, status) {
            (Some(comparison), Status::Ok) => comparison.is_within(),
            (Some(comparison), Status::Failed) => !comparison.is_within(),
            (None, Status::Failed | Status::NotChecked) => true,
            (Some(_), Status::NotChecked) | (None, Status::Ok) => false,
        };
        match fits {
            true => Ok(Check { status, quantity, evaluator, comparison, notes }),
            false => Err(format!("the numbers of check `{quantity}` do not make its status")),
        }
    }
}

impl Certificate {
    /// A certificate without checks yet.
    pub fn new(format: impl Into<String>, source: Hash, mut files: Vec<FileHash>) -> Self {
        files.sort();
        Certificate {
            certificate_version: CERTIFICATE_VERSION,
            numerics_version: NUMERICS_VERSION,
            format: format.into(),
            source,
            files,
            checks: Vec::new(),
        }
    }

    /// Failed if any check failed, ok if there are checks and all are; else not checked.
    pub fn status(&self) -> Status {
        let has = |status| self.checks.iter().any(|check| check.status == status);
        match (has(Status::Failed), has(Status::NotChecked) || self.checks.is_empty()) {
            (true, _) => Status::Failed,
            (false, true) => Status::NotChecked,
            (false, false) => Status::Ok,
        }
    }

    /// The text of certificate.json.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("a certificate has only string keys");
        text + "\n"
    }

    /// Reads certificate.json. Errors: another form, or a status that its numbers do not make.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}
