//! Recipe hashes: what names an artifact.
//!
//! A hash is over resolved values in the canonical form of `llmc-base`, with
//! `spec_version` and `numerics_version`. Values that equal what the default gives where
//! nothing is written are left out, so that a field added later with a default changes no old hash; dims, paths
//! and vocabulary sizes are always in. Labels (`name`), observations (logging, samples,
//! kept checkpoints) and what never changes the numbers (threads, micro-batch) are never in.
//!
//! The tokenizer's hash contains the dataset's; the run's contains the model's, the
//! dataset's and the tokenizer's.

#[cfg(test)]
mod tests;

use crate::SPEC_VERSION;
use crate::field::{self, Hashing, Section};
use crate::spec::Spec;
use crate::view::View;
use llmc_base::{CanonicalHasher, Hash, NUMERICS_VERSION};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The hashes of a resolved spec; `None` where there is no such section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecipeHashes {
    /// Architecture and dims.
    pub model: Option<Hash>,
    /// Dataset.
    pub dataset: Option<Hash>,
    /// Tokenizer and the dataset it is trained on.
    pub tokenizer: Option<Hash>,
    /// The run: optimizer, training, and the three above.
    pub training: Option<Hash>,
}

/// The hashes of the sections that are there.
///
/// Defaults are taken from the resolved values alone, as if nothing had been written:
/// whether a value came from a shorthand, its own line or a rule never shows.
pub(crate) fn hashes(
    values: &BTreeMap<&'static str, Value>,
    sections: &BTreeSet<Section>,
) -> RecipeHashes {
    let nothing_written = Spec::default();
    let view = &View::new(&nothing_written, values);
    let begin = |section: Section| sections.contains(&section).then(|| hasher(section));
    let written = |path: &str| -> Option<Hash> { values.get(path)?.as_str()?.parse().ok() };
    let own = |section: Section| {
        let mut hasher = begin(section)?;
        add_fields(&mut hasher, view, values, section);
        Some(hasher)
    };
    let model = own(Section::Model).map(|h| h.finish());
    let dataset = own(Section::Dataset).map(|h| h.finish());
    let tokenizer = own(Section::Tokenizer).map(|mut hasher| {
        add_hash(&mut hasher, "dataset", dataset.or(written("tokenizer.dataset_hash")));
        hasher.finish()
    });
    let training = own(Section::Training).map(|mut hasher| {
        add_fields(&mut hasher, view, values, Section::Optimizer);
        add_hash(&mut hasher, "model", model.or(written("training.model_hash")));
        add_hash(&mut hasher, "dataset", dataset.or(written("training.dataset_hash")));
        add_hash(&mut hasher, "tokenizer", tokenizer.or(written("training.tokenizer_hash")));
        hasher.finish()
    });
    RecipeHashes { model, dataset, tokenizer, training }
}

fn hasher(section: Section) -> CanonicalHasher {
    let mut hasher = CanonicalHasher::new(&format!("llmc.recipe.{section}"));
    hasher.field("spec_version").int(i128::from(SPEC_VERSION));
    hasher.field("numerics_version").int(i128::from(NUMERICS_VERSION));
    hasher
}

/// The fields of a section in path order, so that the order of the table has no meaning.
fn add_fields(
    hasher: &mut CanonicalHasher,
    view: &View<'_>,
    values: &BTreeMap<&'static str, Value>,
    section: Section,
) {
    for (path, value) in values {
        let Some(field) = field::find(path).filter(|f| f.section() == section) else { continue };
        let is_hashed = match field.hashing {
            Hashing::Always => true,
            Hashing::Never => false,
            Hashing::UnlessDefault => view.default(field).as_ref() != Some(value),
        };
        if is_hashed {
            hasher.field(path).json(value);
        }
    }
}

fn add_hash(hasher: &mut CanonicalHasher, name: &str, hash: Option<Hash>) {
    if let Some(hash) = hash {
        hasher.field(name).hash(&hash);
    }
}
