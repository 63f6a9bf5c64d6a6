//! Templates: a resolved [`Architecture`] and its dims become a module.
//!
//! [`build`] makes the concrete module of a model. [`skeleton()`] makes the same functions with
//! one call per distinct callee and says how often each call stands, so that
//! [`parameter_polynomial`] is a count over the IR and no second formula. This crate knows
//! no passes and no kernels.

mod attention;
pub mod blocks;
pub mod skeleton;
pub mod templates;

pub use skeleton::{Skeleton, parameter_polynomial, skeleton};

use llmc_ir::{Module, TypeError};
use llmc_spec::{Architecture, DimExprs};

/// The module of a model: `@forward`, `@loss` and what the template adds.
///
/// Errors: `model::num_layers` if the number of layers is not a number, `model::c1` and up for
/// choices that exclude each other, and the type rules of the ops.
pub fn build(arch: &Architecture, dims: &DimExprs) -> Result<Module, TypeError> {
    let n_layers = dims.num_layers.as_usize().ok_or_else(|| {
        TypeError::new("model::num_layers", format!("`{}` is not a number", dims.num_layers))
    })?;
    templates::find(arch.template)(arch, dims, templates::Layers::Count(n_layers))
}

#[cfg(test)]
mod tests;
