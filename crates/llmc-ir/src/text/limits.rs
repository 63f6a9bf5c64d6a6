//! How large things may be, so that no text can exhaust memory or overflow.
//!
//! The numbers are far above every real model and low enough that dims
//! multiplied by the type rules and costs of ops stay within 128 bits.

use crate::types::TensorType;
use llmc_base::Expr;

/// Bytes of a text.
pub const MAX_TEXT_BYTES: usize = 64 << 20;
/// Functions of a module.
pub const MAX_FUNCTIONS: usize = 4096;
/// Nodes of a module, with every `repeat` unrolled.
pub const MAX_NODES: usize = 1 << 20;
/// Operands or results of one node.
pub const MAX_ARITY: usize = 4096;
/// Dims of a tensor.
pub const MAX_RANK: usize = 32;
/// Sum of the absolute coefficients of one dim.
pub const MAX_DIM: u128 = 1 << 53;
/// The same for the number of elements of a tensor.
pub const MAX_NUMEL: u128 = 1 << 62;
/// Terms of one dim, and of the number of elements.
pub const MAX_TERMS: usize = 256;
/// Degree of one dim, and of the number of elements.
pub const MAX_DEGREE: u32 = 32;

/// How large an expression or a product of expressions is, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) magnitude: u128,
    pub(crate) terms: usize,
    pub(crate) degree: u32,
}

impl Size {
    /// The size of one expression.
    pub(crate) fn of(expr: &Expr) -> Size {
        let mut size = Size { magnitude: 0, terms: 0, degree: 0 };
        for (coefficient, powers) in expr.terms() {
            size.magnitude = size.magnitude.saturating_add(coefficient.unsigned_abs());
            size.terms += 1;
            let degree = powers.iter().fold(0u32, |sum, (_, power)| sum.saturating_add(*power));
            size.degree = size.degree.max(degree);
        }
        size
    }

    /// The size of a product, at most.
    pub(crate) fn times(self, other: Size) -> Size {
        Size {
            magnitude: self.magnitude.max(1).saturating_mul(other.magnitude.max(1)),
            terms: self.terms.max(1).saturating_mul(other.terms.max(1)),
            degree: self.degree.saturating_add(other.degree),
        }
    }

    /// Whether magnitude, terms and degree are within the limits.
    pub(crate) fn fits(self, magnitude: u128) -> bool {
        self.magnitude <= magnitude && self.terms <= MAX_TERMS && self.degree <= MAX_DEGREE
    }
}

/// Checks dims that stand together. Errors: a message.
pub(crate) fn check_dims(dims: &[Expr]) -> Result<(), String> {
    if dims.len() > MAX_RANK {
        return Err(format!("{} dims are more than {MAX_RANK}", dims.len()));
    }
    let mut product = Size { magnitude: 1, terms: 1, degree: 0 };
    for dim in dims {
        let size = Size::of(dim);
        if !size.fits(MAX_DIM) {
            return Err("a dim is too large".to_string());
        }
        product = product.times(size);
    }
    match product.fits(MAX_NUMEL) {
        true => Ok(()),
        false => Err("a tensor of these dims has too many elements".to_string()),
    }
}

/// Checks a type. Errors: a message.
pub(crate) fn check_type(ty: &TensorType) -> Result<(), String> {
    check_dims(&ty.shape)
}

/// Whether replacing the symbols of `dims` by expressions as large as those in `types` stays
/// small. Checked before a call's types are inferred.
pub(crate) fn substitution_fits<'a>(
    dims: impl IntoIterator<Item = &'a Expr>,
    types: &[TensorType],
) -> bool {
    let mut largest = Size { magnitude: 1, terms: 1, degree: 1 };
    for dim in types.iter().flat_map(|t| &t.shape) {
        let size = Size::of(dim);
        largest.magnitude = largest.magnitude.max(size.magnitude);
        largest.terms = largest.terms.max(size.terms);
    }
    dims.into_iter().all(|dim| {
        let own = Size::of(dim);
        let powers = (0..own.degree).fold(own, |size, _| size.times(largest));
        powers.magnitude <= 1 << 120 && powers.terms <= 1 << 12
    })
}
