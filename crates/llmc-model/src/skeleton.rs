//! The functions of a template with symbolic dims, and how often each is called: the
//! parameter count of every model of an architecture as one polynomial.

use crate::templates::{self, ANY_LAYER, Layers};
use llmc_base::Expr;
use llmc_ir::{Module, TypeError, account};
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
/// Dropout and μP are left out: they have no parameters, and their graphs need dims that are numbers.
///
/// Errors: those of [`crate::build`], except that every dim may be a symbol.
pub fn skeleton(arch: &Architecture, dims: &DimExprs) -> Result<Skeleton, TypeError> {
    let arch = Architecture { dropout: Dropout::default(), mup: None, ..arch.clone() };
    let module = templates::find(arch.template)(&arch, dims, Layers::Folded)?;
    let repeats = BTreeMap::from([(ANY_LAYER.to_string(), dims.num_layers.clone())]);
    Ok(Skeleton { module, repeats })
}

impl Skeleton {
    /// The number of elements of the weights that a function reaches, each weight once: those of
    /// the module, times the repeats of the calls on the way. An unknown function reaches none.
    pub fn parameters(&self, function: &str) -> Expr {
        let Some(id) = self.module.find(function) else { return Expr::default() };
        let weights = account::weights(&self.module, id).into_iter();
        weights.map(|weight| &weight.ty.numel() * &self.times(&weight.path)).sum()
    }

    /// How often a weight of this path stands in the real module.
    fn times(&self, path: &str) -> Expr {
        let holds =
            |scope: &str| path.strip_prefix(scope).is_some_and(|rest| rest.starts_with('.'));
        Expr::product(self.repeats.iter().filter(|(scope, _)| holds(scope)).map(|(_, n)| n))
    }
}

/// The number of unique parameters of every model of an architecture, a polynomial over the
/// field names of its dims.
///
/// Errors: those of [`skeleton`].
pub fn parameter_polynomial(arch: &Architecture) -> Result<Expr, TypeError> {
    Ok(skeleton(arch, &DimExprs::symbolic())?.parameters("forward"))
}
