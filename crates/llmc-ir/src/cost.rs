//! Cost of nodes, functions and modules: FLOPs, bytes moved, parameters.
//!
//! All of it is computed from the IR; there is no second formula anywhere.

use llmc_base::Expr;

/// What executing once costs. A multiply-add is two FLOPs; comparisons, moves and casts are none.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: Expr,
    /// Bytes read from operands.
    pub bytes_read: Expr,
    /// Bytes written to results.
    pub bytes_written: Expr,
}

impl Cost {
    /// A cost of FLOPs; the bytes are filled in from the operand and result types.
    pub fn flops(flops: impl Into<Expr>) -> Self {
        Cost { flops: flops.into(), ..Cost::default() }
    }
}
