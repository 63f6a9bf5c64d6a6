//! Accounting of whole functions with everything they call: weights, parameters, FLOPs and bytes.
//!
//! All of it is derived from the IR, with symbolic dims, and a callee is looked at once however
//! often it is called; there is no second formula anywhere. The module must have passed
//! [`crate::verify::verify`].

pub(crate) mod external;
#[cfg(test)]
mod tests;
mod work;

pub use work::{OpWork, TooLarge, Work, work};

use crate::module::{FuncId, Function, Module};
use crate::types::TensorType;
use external::External;
use llmc_base::Expr;

/// A weight that a function needs from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightInfo {
    /// Absolute path, e.g. `layers.3.attention.q.weight`.
    pub path: String,
    /// Type in the symbols of the entry function.
    pub ty: TensorType,
    /// How many nodes use it, each as often as it is reached by calls.
    pub uses: usize,
    /// How many of the uses look rows up in it: [`crate::ops::Embedding`], possibly behind a cast.
    pub lookups: usize,
}

impl WeightInfo {
    /// Whether rows are looked up in it: a token or position embedding.
    pub fn is_embedding(&self) -> bool {
        self.lookups > 0
    }

    /// Whether it is an embedding that is also used as a matrix: the head is tied to it.
    pub fn is_tied(&self) -> bool {
        self.lookups > 0 && self.uses > self.lookups
    }
}

/// All weights that `entry` needs, with all it calls, in the order of first use.
pub fn weights(module: &Module, entry: FuncId) -> Vec<WeightInfo> {
    let externals = external::externals(module, entry).into_iter();
    let weight = |external| {
        let External { path, ty, uses, lookups, .. } = external;
        WeightInfo { path, ty, uses, lookups }
    };
    externals.filter(|e| !e.is_state).map(weight).collect()
}

/// Absolute path and type of all state that `entry` needs, with all it calls, in the order of
/// first use.
pub fn states(module: &Module, entry: FuncId) -> Vec<(String, TensorType)> {
    let externals = external::externals(module, entry).into_iter();
    externals.filter(|e| e.is_state).map(|e| (e.path, e.ty)).collect()
}

/// Numbers of parameters, as polynomials in the dims.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ParameterCount {
    /// Every weight once.
    pub unique: Expr,
    /// As written by formats that keep a head beside the embedding it is tied to: tied
    /// embeddings count twice.
    pub stored: Expr,
    /// Without the tables of token and position embeddings, tied or not; an untied head counts.
    ///
    /// Source: Kaplan et al. 2020, arXiv:2001.08361, section 1.3.
    pub non_embedding: Expr,
    /// Bytes of every weight once, in its dtype.
    pub bytes: Expr,
}

/// How many parameters `entry` has, with all it calls.
pub fn parameter_count(module: &Module, entry: FuncId) -> ParameterCount {
    let mut count = ParameterCount::default();
    for weight in weights(module, entry) {
        let numel = weight.ty.numel();
        if weight.is_tied() {
            count.stored += numel.clone();
        }
        if !weight.is_embedding() {
            count.non_embedding += numel.clone();
        }
        count.bytes += bytes(&weight.ty);
        count.stored += numel.clone();
        count.unique += numel;
    }
    count
}

/// The number of elements in the weights that a function itself declares.
pub fn own_parameters(function: &Function) -> Expr {
    function.weights().map(|(_, value)| function.ty(value).numel()).sum()
}

/// Bytes of a tensor, rows packed; where that is no whole polynomial (an odd number of four-bit
/// elements), each term is rounded up.
pub fn bytes(ty: &TensorType) -> Expr {
    let mut total = Expr::default();
    for (coefficient, powers) in ty.numel().terms() {
        let bits = coefficient * i128::from(ty.dtype.bits());
        let mut term = Expr::constant((bits + 7).div_euclid(8));
        for (symbol, power) in powers {
            for _ in 0..*power {
                term *= Expr::from(symbol.clone());
            }
        }
        total += term;
    }
    total
}
