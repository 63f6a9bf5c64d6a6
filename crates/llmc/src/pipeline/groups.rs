//! Parameter groups of the optimizer: which parameters each pattern names.

use super::project::build_model;
use llmc_base::Diagnostic;
use llmc_ir::account;
use llmc_spec::{OptimizerConfig, Resolved, Spec};
use llmc_train::optim::{Parameter, group_of, is_named};
use serde::Serialize;

/// A group with the parameters that have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// The pattern.
    pub pattern: String,
    /// Factor on the learning rate.
    pub lr_scale: f64,
    /// Weight decay of its own; `None` is the optimizer's.
    pub weight_decay: Option<f64>,
    /// Paths of its parameters, in order.
    pub parameters: Vec<String>,
}

/// The groups of a spec; none where it has no model.
///
/// Errors: `optimizer::group` for a pattern that names nothing, or nothing that an earlier group has
/// left; those of the model.
pub fn groups(spec: &Spec, resolved: &Resolved) -> Result<Vec<Group>, Vec<Diagnostic>> {
    let (Some(config), Some(model)) = (&resolved.optimizer, &resolved.model) else {
        return Ok(Vec::new());
    };
    if config.groups.is_empty() {
        return Ok(Vec::new());
    }
    let module = build_model(model).map_err(|e| e.diagnostics())?;
    let Some(entry) = module.find("forward") else { return Ok(Vec::new()) };
    let mut parameters: Vec<Parameter> = account::weights(&module, entry)
        .into_iter()
        .map(|weight| Parameter {
            path: weight.path,
            ty: weight.ty,
            grads: Vec::new(),
            width_multiplier: 1.0,
        })
        .collect();
    parameters.sort_by(|a, b| a.path.cmp(&b.path));
    let mut found = wrong(config, &parameters);
    if !found.is_empty() {
        spec.locate(&mut found);
        return Err(found);
    }
    let of = |at: usize| {
        let has = |p: &&Parameter| group_of(config, p).is_some_and(|(found, _)| found == at);
        parameters.iter().filter(has).map(|p| p.path.clone()).collect()
    };
    let group = |(at, group): (usize, &llmc_spec::ParameterGroup)| Group {
        pattern: group.pattern.clone(),
        lr_scale: group.lr_scale,
        weight_decay: group.weight_decay,
        parameters: of(at),
    };
    Ok(config.groups.iter().enumerate().map(group).collect())
}

fn wrong(config: &OptimizerConfig, parameters: &[Parameter]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (at, group) in config.groups.iter().enumerate() {
        let named: Vec<&Parameter> = parameters
            .iter()
            .filter(|p| is_named(p, std::slice::from_ref(&group.pattern)))
            .collect();
        let has = |p: &&&Parameter| group_of(config, p).is_some_and(|(first, _)| first == at);
        let (message, help) = match (named.first(), named.iter().find(has)) {
            (_, Some(_)) => continue,
            (None, _) => {
                let last = parameters.last().map_or("", |p| p.path.as_str());
                (
                    format!(
                        "the pattern \"{}\" of `optimizer.groups` names no parameter",
                        group.pattern
                    ),
                    format!(
                        "parameters are called like `{last}`; `*` stands for any text, `1-D` for norms and biases"
                    ),
                )
            }
            (Some(first), None) => {
                let earlier = group_of(config, first).map_or("", |(_, g)| g.pattern.as_str());
                (
                    format!(
                        "every parameter that the pattern \"{}\" names is in an earlier group, e.g. `{}` in \"{earlier}\"",
                        group.pattern, first.path
                    ),
                    "put the narrower pattern first".to_string(),
                )
            }
        };
        found.push(
            Diagnostic::error("optimizer::group", message).help(help).field("optimizer.groups"),
        );
    }
    found
}
