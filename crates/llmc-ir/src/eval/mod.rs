//! The two reference evaluators in one.
//!
//! `Real`: f64 throughout, float casts are the identity; it defines certificates.
//! `Rounded`: every op and cast rounds as its dtype declares, in the order of
//! `docs/numerics.md`; it defines the engine, bit for bit.
//!
//! [`run`] evaluates a function of a module, [`op`] one op. Composites are
//! evaluated by their decomposition. Neither panics, whatever the module: what
//! makes no sense is an [`EvalError`], and [`EvalLimits`] bounds memory and time.

mod dot;
mod elementwise;
mod layout;
mod number;
mod random;
mod reduce;
mod run;
mod tensor;

pub(crate) use dot::dot;
pub(crate) use elementwise::{binary, cast, compare, select, unary};
pub(crate) use layout::{
    broadcast, concat, constant, gather, iota, literal, pad, reshape, scatter_add, slice,
    transpose, update_slice,
};
pub(crate) use random::random_bits;
pub(crate) use reduce::reduce;

pub use number::round_to;
pub use run::{EvalLimits, EvalOptions, Evaluation, op, run};
pub use tensor::{Data, Tensor};

use crate::types::TypeError;

#[cfg(test)]
mod tests;

/// Which evaluator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// f64, no rounding to the declared dtypes.
    Real,
    /// Every rounding as declared.
    Rounded,
}

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// Lower case, with the values.
    pub message: String,
}

impl EvalError {
    /// An error with its message.
    pub fn new(message: impl Into<String>) -> Self {
        EvalError { message: message.into() }
    }
}

impl From<TypeError> for EvalError {
    fn from(error: TypeError) -> Self {
        EvalError::new(error.to_string())
    }
}
