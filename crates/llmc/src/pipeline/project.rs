//! From spec text to everything that follows from it before anything runs.

use super::failure::Failure;
use super::groups::{Group, groups};
use crate::store::Source;
use llmc_base::{Diagnostic, Hash};
use llmc_ir::Module;
use llmc_spec::{
    Architecture, DimExprs, Format, Goal, Resolved, ResolvedModel, Spec, parse_with,
    refuse_defaults,
};
use serde_json::{Value, json};
use std::path::Path;

/// A spec with everything that it implies.
#[derive(Clone, Debug)]
pub struct Project {
    /// What was written.
    pub spec: Spec,
    /// Everything filled in.
    pub resolved: Resolved,
    /// The parameter groups of the optimizer.
    pub groups: Vec<Group>,
}

/// What else to demand of a spec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Defaults {
    /// Values that are not written are chosen by rule and recorded.
    #[default]
    Record,
    /// Every value must be written.
    Refuse,
}

/// The parameter count of an architecture over its dims, from the template's functions. A template
/// that cannot be built reports it when it is built; here it counts nothing.
fn parameter_count(architecture: &Architecture) -> llmc_base::Expr {
    llmc_model::parameter_polynomial(architecture).unwrap_or_default()
}

impl Project {
    /// Reads a spec file, applies `--set` overrides, and resolves it for `goal`. The second part are
    /// warnings.
    ///
    /// Errors: every diagnostic of parsing and resolving; an unreadable file.
    pub fn read(
        source: &dyn Source,
        path: &Path,
        overrides: &[String],
        goal: Goal,
        defaults: Defaults,
    ) -> Result<(Project, Vec<Diagnostic>), Failure> {
        let file = path.display().to_string();
        let format = Format::from_path(&file);
        let bytes = source.read(path).map_err(|e| {
            let message = format!("cannot read `{}`: {}", path.display(), e.source);
            Diagnostic::error("spec::unreadable", message)
                .help("name a spec file: .toml, .yaml, .yml or .json; `llmc new NAME` writes one")
        })?;
        let text = llmc_spec::decode(&bytes, &file)?;
        Self::parse(text, format, &file, overrides, goal, defaults)
    }

    /// The same from text.
    pub fn parse(
        text: &str,
        format: Format,
        file: &str,
        overrides: &[String],
        goal: Goal,
        defaults: Defaults,
    ) -> Result<(Project, Vec<Diagnostic>), Failure> {
        Self::from_parsed(parse_with(text, format, file, overrides), goal, defaults)
    }

    /// The same from plain data.
    pub fn from_json(
        value: &Value,
        overrides: &[String],
        goal: Goal,
    ) -> Result<(Project, Vec<Diagnostic>), Failure> {
        Self::from_parsed(llmc_spec::from_json(value, overrides), goal, Defaults::Record)
    }

    fn from_parsed(
        (spec, mut diagnostics): (Option<Spec>, Vec<Diagnostic>),
        goal: Goal,
        defaults: Defaults,
    ) -> Result<(Project, Vec<Diagnostic>), Failure> {
        let Some(spec) = spec else { return Err(diagnostics.into()) };
        match llmc_spec::resolve(&spec, goal, &parameter_count) {
            Ok(resolved) => {
                if defaults == Defaults::Refuse {
                    diagnostics.extend(refuse_defaults(&spec, &resolved.defaults));
                }
                let groups = groups(&spec, &resolved).unwrap_or_else(|found| {
                    diagnostics.extend(found);
                    Vec::new()
                });
                match diagnostics.iter().any(Diagnostic::is_error) {
                    true => Err(diagnostics.into()),
                    false => Ok((Project { spec, resolved, groups }, diagnostics)),
                }
            }
            Err(found) => {
                diagnostics.extend(found);
                Err(diagnostics.into())
            }
        }
    }

    /// The model section, which goals `Model` and `Training` guarantee.
    pub fn model(&self) -> Result<&ResolvedModel, Failure> {
        self.resolved.model.as_ref().ok_or_else(|| {
            Diagnostic::error("spec::missing", "the spec has no `[model]`")
                .help("add a `[model]` section")
                .into()
        })
    }

    /// The IR of the model.
    pub fn build(&self) -> Result<Module, Failure> {
        build_model(self.model()?)
    }

    /// `solution.json`: every dim with why, alternatives, and every value that was not written.
    pub fn solution(&self) -> Value {
        let model = self
            .resolved
            .model
            .as_ref()
            .map(|m| json!({"name": m.name, "dims": m.dims, "solution": m.solution}));
        let mut solution = json!({
            "model": model,
            "defaults": self.resolved.defaults,
            "values": self.resolved.values,
            "overrides": self.spec.overrides(),
        });
        if !self.groups.is_empty() {
            solution["groups"] = json!(self.groups);
        }
        solution
    }
}

/// The IR of a resolved model, verified.
pub fn build_model(model: &ResolvedModel) -> Result<Module, Failure> {
    let module = llmc_model::build(&model.architecture, &DimExprs::from(&model.dims))?;
    verified(module)
}

/// The module, if it passes the verifier.
pub fn verified(module: Module) -> Result<Module, Failure> {
    let found = llmc_ir::verify::verify(&module);
    match found.is_empty() {
        true => Ok(module),
        false => Err(Failure::Internal(
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        )),
    }
}

/// Hash of a file's bytes as the manifest records it.
pub fn text_hash(text: &str) -> Hash {
    Hash::of_bytes(text.as_bytes())
}
