//! Sections compiled one by one and joined into a run: how a program, unlike a
//! spec file, puts a model, a dataset, a tokenizer and a training together.

#[cfg(test)]
mod tests;

use super::failure::Failure;
use super::project::Project;
use llmc_base::{Diagnostic, Hash};
use llmc_spec::{Goal, Section};
use serde_json::{Map, Value, json};

/// One section of a spec, checked by itself.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What it is; `Training` holds the optimizer too.
    pub section: Section,
    /// What it resolves to alone.
    pub project: Project,
    /// The sections as they were given.
    pub sections: Map<String, Value>,
    /// What is worth a look.
    pub warnings: Vec<Diagnostic>,
}

impl Compiled {
    /// Checks the fields of a section. Those of an optimizer stand beside a training.
    ///
    /// Errors: every diagnostic of reading and resolving.
    pub fn new(section: Section, fields: Value, optimizer: Option<Value>) -> Result<Self, Failure> {
        let mut sections = Map::new();
        sections.insert(section.name().to_string(), fields);
        if let Some(optimizer) = optimizer {
            sections.insert(Section::Optimizer.name().to_string(), optimizer);
        }
        let goal = if section == Section::Model { Goal::Model } else { Goal::Written };
        let written = Value::Object(sections.clone());
        let (project, warnings) = Project::from_json(&written, &[], goal)?;
        Ok(Compiled { section, project, sections, warnings })
    }

    /// The recipe hash of the section.
    pub fn fingerprint(&self) -> Result<Hash, Failure> {
        let hashes = &self.project.resolved.hashes;
        let hash = match self.section {
            Section::Model => hashes.model,
            Section::Dataset => hashes.dataset,
            Section::Tokenizer => hashes.tokenizer,
            Section::Optimizer | Section::Training => hashes.training,
        };
        hash.ok_or_else(|| Failure::Internal(format!("no hash of [{}]", self.section)))
    }

    /// Its label; empty if it has none.
    pub fn name(&self) -> &str {
        let path = format!("{}.name", self.section);
        self.project.resolved.values.get(path.as_str()).and_then(Value::as_str).unwrap_or_default()
    }

    /// Every value by path, written or not.
    pub fn values(&self) -> Value {
        json!(self.project.resolved.values)
    }
}

/// The spec of a run over these sections.
///
/// Errors: `spec::hash_mismatch` where a hash that was written is not that of the section passed,
/// and whatever does not fit together.
pub fn join(
    training: &Compiled,
    model: &Compiled,
    dataset: &Compiled,
    tokenizer: &Compiled,
) -> Result<(Project, Vec<Diagnostic>), Failure> {
    let mut sections = Map::new();
    for part in [model, dataset, tokenizer, training] {
        sections.extend(part.sections.clone());
    }
    // Beside other sections these two would be taken from them; the model is what it was alone.
    let dims = &model.project.model()?.dims;
    if let Some(Value::Object(fields)) = sections.get_mut(Section::Model.name()) {
        let fixed = [("vocab_size", dims.vocab_size), ("context_length", dims.context_length)];
        for (name, value) in fixed {
            if model.project.spec.get(&format!("model.{name}")).is_none() {
                fields.insert(name.to_string(), Value::from(value));
            }
        }
    }
    Project::from_json(&Value::Object(sections), &[], Goal::Training)
}
