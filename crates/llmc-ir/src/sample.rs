//! Inputs for the suites that run over all ops.

use crate::ops::Op;
use crate::types::TensorType;

/// How an operand of a sample is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Seeded normal values (floats) or small integers.
    Normal,
    /// Floats in `(0.5, 1.5)`.
    Positive,
    /// Integers in `0..n`.
    Below(i64),
    /// Each row of the last axis counts 0, 1, 2, …
    Positions,
    /// Each row of the last axis: two segments, 0 then 1.
    Segments,
    /// Every element this value.
    Constant(f64),
}

/// A good input: concrete types, and which operands have a gradient to check.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The op.
    pub op: Op,
    /// Operand types (concrete) and fills.
    pub operands: Vec<(TensorType, Fill)>,
    /// Operands whose gradient is compared with finite differences.
    pub differentiable: Vec<usize>,
}

/// A bad input with the code that refuses it.
#[derive(Clone, Debug)]
pub struct BadSample {
    /// The op.
    pub op: Op,
    /// Operand types.
    pub operands: Vec<TensorType>,
    /// Code of the [`crate::TypeError`].
    pub code: &'static str,
}

/// What [`crate::OpDef::samples`] gives.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Accepted.
    pub good: Vec<Sample>,
    /// Refused.
    pub bad: Vec<BadSample>,
}
