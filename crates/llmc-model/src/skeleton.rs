//! The functions of a template with symbolic dims, and how often each is called: the
//! parameter count of every model of an architecture as one polynomial.

use crate::templates::{self, ANY_LAYER, Layers};
use llmc_base::Expr;
use llmc_ir::module::join_path;
use llmc_ir::{Module, Op, TypeError};
use llmc_spec::{Architecture, DimExprs, Dropout};
use std::collections::BTreeMap;

/// A module in which one call stands for many.
#[derive(Clone, Debug, PartialEq)]
pub struct Skeleton {
    /// The functions; every distinct callee is called once.
    pub module: Module,
    /// How often a call with this scope stands in the real module; others stand once.
    pub repeats: BTreeMap<String, Expr>,
}

/// The functions of an architecture with one call per distinct callee.
///
/// Dropout is left out: it has no parameters, and its graph needs dims that are numbers.
///
/// Errors: those of [`crate::build`], except that every dim may be a symbol.
pub fn skeleton(arch: &Architecture, dims: &DimExprs) -> Result<Skeleton, TypeError> {
    let arch = Architecture { dropout: Dropout::default(), ..arch.clone() };
    let module = templates::find(arch.template)(&arch, dims, Layers::Folded)?;
    let repeats = BTreeMap::from([(ANY_LAYER.to_string(), dims.num_layers.clone())]);
    Ok(Skeleton { module, repeats })
}

impl Skeleton {
    /// The number of elements of the weights that a function reaches: each path once, times the
    /// number of calls on the way. An unknown function reaches none.
    pub fn parameters(&self, function: &str) -> Expr {
        let mut found = BTreeMap::new();
        self.collect(function, "", &Expr::constant(1), &mut found);
        found.into_values().sum()
    }

    fn collect(
        &self,
        function: &str,
        scope: &str,
        times: &Expr,
        found: &mut BTreeMap<String, Expr>,
    ) {
        let Some(id) = self.module.find(function) else { return };
        let function = self.module.function(id);
        for (path, value) in function.weights() {
            found.insert(join_path(scope, path), &function.ty(value).numel() * times);
        }
        for node in &function.nodes {
            if let Op::Call(call) = &node.op {
                let repeat = self.repeats.get(&call.scope).map(|n| n * times);
                let scope = join_path(scope, &call.scope);
                self.collect(&call.callee, &scope, &repeat.unwrap_or(times.clone()), found);
            }
        }
    }
}

/// The number of unique parameters of every model of an architecture, a polynomial over the
/// field names of its dims.
///
/// Errors: those of [`skeleton`].
pub fn parameter_polynomial(arch: &Architecture) -> Result<Expr, TypeError> {
    Ok(skeleton(arch, &DimExprs::symbolic())?.parameters("forward"))
}
