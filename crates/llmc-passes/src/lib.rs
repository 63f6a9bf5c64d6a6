//! Graph to graph: each pass is a pure function from a module to a module.
//!
//! Every pass keeps the bits of an evaluation in `Rounded` mode and the value
//! in `Real` mode; [`autodiff()`] adds functions and leaves the others alone, and [`pack_weights()`]
//! rounds weights, [`narrow_cache()`] keys and values because they are asked to.
//! In debug builds every pass runs the verifier over what it made.
//! This crate knows no specs and no source languages.

pub mod adapters;
pub mod autodiff;
pub mod cse;
pub mod dce;
pub mod fuse;
pub mod inline;
pub mod legalise;
pub mod narrow_cache;
pub mod pack_weights;
pub mod precision;
mod rebuild;
pub mod simplify;

pub use autodiff::{GradAccumulator, autodiff, autodiff_explained, grad_accumulators};
pub use cse::cse;
pub use dce::dce;
pub use fuse::{fuse, fuse_explained};
pub use inline::inline;
pub use legalise::legalise;
pub use narrow_cache::{CacheFormat, narrow_cache, round_keys_and_values};
pub use pack_weights::{WeightFormat, pack_panels, pack_weights, pack_weights_explained};
pub use precision::with_precision;
pub use simplify::simplify;

use llmc_base::Diagnostic;
use llmc_ir::{Function, Module, TypeError};

/// A pass with its name, as `llmc ir --after NAME` knows it.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Name, e.g. `autodiff`.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Runs the pass.
    pub run: fn(&Module) -> Result<Module, Diagnostic>,
}

/// All passes, in the order in which a pipeline runs them.
pub const PASSES: &[Pass] = &[
    Pass {
        name: "autodiff",
        summary: "adds `@grad`: the loss and its gradient, from `@loss`",
        run: |module| autodiff(module, &autodiff::Options::default()),
    },
    Pass { name: "fuse", summary: "makes one node of what is faster or smaller in one", run: fuse },
    Pass { name: "inline", summary: "replaces every call by the callee's nodes", run: inline },
    Pass {
        name: "simplify",
        summary: "folds constants, drops what changes no bit, merges views",
        run: simplify,
    },
    Pass { name: "cse", summary: "computes equal nodes once", run: cse },
    Pass { name: "dce", summary: "drops nodes that nothing uses", run: dce },
    Pass {
        name: "legalise",
        summary: "replaces every composite by its decomposition into primitives",
        run: |module| legalise(module, &|_| false),
    },
];

/// The pass with this name.
pub fn find(name: &str) -> Option<&'static Pass> {
    PASSES.iter().find(|pass| pass.name == name)
}

/// A type error inside a pass, as a diagnostic that names the pass and the function.
fn type_error(pass: &str, function: &str, error: &TypeError) -> Diagnostic {
    Diagnostic::error(
        format!("{pass}::type"),
        format!("in `@{function}`: {} ({})", error.message, error.code),
    )
}

/// Applies a rewrite of one function to all functions, in order.
fn each_function(
    module: &Module,
    rewrite: impl Fn(&Module, &Function) -> Result<Function, Diagnostic>,
) -> Result<Module, Diagnostic> {
    let mut out = Module { functions: Vec::new(), ..module.clone() };
    for function in &module.functions {
        let function = rewrite(&out, function)?;
        out.add(function);
    }
    Ok(checked(out))
}

/// The module that a pass made. In debug builds a bug of the pass shows here, not in the next one.
fn checked(module: Module) -> Module {
    if cfg!(debug_assertions) {
        let found = llmc_ir::verify::verify(&module);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "a pass made a wrong module:\n{}", found.join("\n"));
    }
    module
}

#[cfg(test)]
mod tests;
