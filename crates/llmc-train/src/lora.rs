//! Adapters of a training: which weights move, and what the others start as.
//!
//! The first matrix of an adapter is drawn as in PEFT, with deviation 1/√(3·in) (that of its uniform
//! distribution), the second is 0; so the first step sees the weights that the run starts from.
//!
//! Source: Hu et al. 2021, arXiv:2106.09685, section 4.1.

use crate::init::fill_normal;
use crate::optim::Parameter;
use llmc_base::Diagnostic;
use llmc_ir::{Module, account};
use llmc_passes::adapters::{Adapters, DOWN, is_adapter, with_adapters};
use llmc_spec::{Lora, TrainingConfig};
use std::collections::BTreeSet;

/// The adapters that a spec asks for.
fn adapters(lora: &Lora) -> Adapters {
    Adapters { rank: lora.rank, scale: lora.scale(), targets: lora.target_modules.to_vec() }
}

/// The module as it is trained: with adapters where `training.lora` asks for them.
///
/// Errors: `lora::target` if a target names nothing.
pub fn with_lora(model: &Module, training: &TrainingConfig) -> Result<Module, Diagnostic> {
    match training.adapters() {
        Some(lora) => with_adapters(model, &adapters(&lora)),
        None => Ok(model.clone()),
    }
}

/// Which weights have a gradient, by path; all of them without adapters.
pub(crate) fn trained(training: &TrainingConfig) -> Option<&'static dyn Fn(&str) -> bool> {
    training.adapters().map(|_| &is_adapter as &dyn Fn(&str) -> bool)
}

/// Paths of the weights of a model that are no parameters of its training, in order.
pub fn frozen_paths(model: &Module, parameters: &[Parameter]) -> Vec<String> {
    frozen(model, parameters).into_iter().map(|p| p.path).collect()
}

/// The weights of a model that are no parameters of its training, in path order.
pub(crate) fn frozen(model: &Module, parameters: &[Parameter]) -> Vec<Parameter> {
    let Some(entry) = model.find("forward") else { return Vec::new() };
    let trained: BTreeSet<&str> = parameters.iter().map(|p| p.path.as_str()).collect();
    let weights = account::weights(model, entry).into_iter();
    let weights = weights.filter(|w| !trained.contains(w.path.as_str()));
    let mut frozen: Vec<Parameter> = weights
        .map(|w| Parameter { path: w.path, ty: w.ty, grads: Vec::new(), width_multiplier: 1.0 })
        .collect();
    frozen.sort_by(|a, b| a.path.cmp(&b.path));
    frozen
}

/// Fills a matrix of an adapter; false for any other parameter.
pub(crate) fn fill(parameter: &Parameter, seed: u64, out: &mut [f32]) -> bool {
    if !is_adapter(&parameter.path) {
        return false;
    }
    let width = parameter.ty.shape.last().and_then(|d| d.as_usize()).unwrap_or(1);
    match parameter.path.ends_with(DOWN) {
        true => fill_normal(&parameter.path, 1.0 / libm::sqrt(3.0 * width as f64), seed, out),
        false => out.fill(0.0),
    }
    true
}
