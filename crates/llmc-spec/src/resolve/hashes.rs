//! Hashes that are written in a spec, against those of the sections beside them.

use super::Work;
use crate::check::at_fields;
use crate::field::Section;
use crate::recipe::{self, RecipeHashes};
use llmc_base::Diagnostic;

impl Work<'_> {
    /// Hashes that were written must be those of the sections beside them.
    pub(super) fn check_hashes(&mut self, hashes: &RecipeHashes) {
        let pairs = [
            ("training.model_hash", hashes.model, Section::Model),
            ("training.dataset_hash", hashes.dataset, Section::Dataset),
            ("training.tokenizer_hash", hashes.tokenizer, Section::Tokenizer),
            ("tokenizer.dataset_hash", hashes.dataset, Section::Dataset),
        ];
        // A tokenizer that was compiled by itself is named over the dataset hash that it holds; where
        // that is another dataset's, this is said about `tokenizer.dataset_hash` alone.
        let mut alone = self.sections.clone();
        alone.remove(&Section::Dataset);
        let alone = recipe::hashes(&self.values, &alone).tokenizer;
        for (path, hash, section) in pairs {
            let Some(setting) = self.spec.get(path) else { continue };
            let (Some(written), Some(hash)) = (setting.value.as_str(), hash) else { continue };
            let is_alone = section == Section::Tokenizer
                && alone.map(|h| h.to_string()).as_deref() == Some(written);
            if written == hash.to_string() || is_alone {
                continue;
            }
            let (message, help) = match setting.span {
                Some(_) => (
                    format!("`{path}` is {written}, but [{section}] is {hash}"),
                    format!("leave out `{path}` or [{section}], or make them agree"),
                ),
                // Sections without text are objects of a program.
                None => (
                    format!(
                        "`{path}` is {written}, but the {section} passed has fingerprint {hash}"
                    ),
                    format!(
                        "pass the {section} with the fingerprint in `{path}`, or compile again with `{}_hash` of this one",
                        section
                    ),
                ),
            };
            let d = Diagnostic::error("spec::hash_mismatch", message).help(help);
            self.diagnostics.push(at_fields(d, self.spec, &[path]));
        }
    }
}
