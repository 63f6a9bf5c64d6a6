//! The two reference evaluators in one.
//!
//! `Real`: f64 throughout, float casts are the identity; it defines certificates.
//! `Rounded`: every op and cast rounds as its dtype declares, in the order of
//! `docs/numerics.md`; it defines the engine, bit for bit.

use crate::types::DType;
use std::fmt;

/// Which evaluator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// f64, no rounding to the declared dtypes.
    Real,
    /// Every rounding as declared.
    Rounded,
}

/// Elements of a tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Float dtypes. In `Rounded` mode every element is exactly representable in the tensor's dtype.
    Float(Vec<f64>),
    /// Integer dtypes and `bool` (0 and 1).
    Int(Vec<i64>),
}

/// A tensor of the evaluators.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Declared element type.
    pub dtype: DType,
    /// Dims, outermost first.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Data,
}

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
