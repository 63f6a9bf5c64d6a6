//! What a run's recipe is over, by part.

use llmc_base::{CanonicalHasher, Hash};
use serde::{Deserialize, Serialize};

/// The parts of a run's recipe. Two runs of one recipe do the same, bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeParts {
    /// What the spec asks: the recipe of its training, with optimizer, model, dataset and
    /// tokenizer. It is what `llmc check` prints and what `fingerprint()` of a training is.
    pub training: Hash,
    /// The text that the dataset's paths name: the bytes of every file in order, and the options
    /// that act on them. Where a file lies is not part of it.
    pub text: Hash,
    /// The checkpoint that the run starts from: its weights, step and recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Hash>,
}

impl RecipeParts {
    /// The run's recipe.
    pub fn hash(&self) -> Hash {
        let mut hasher = CanonicalHasher::new("llmc.run.v2");
        hasher.field("training").hash(&self.training).field("text").hash(&self.text);
        if let Some(parent) = &self.parent {
            hasher.field("parent").hash(parent);
        }
        hasher.finish()
    }
}
