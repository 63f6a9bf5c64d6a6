//! What the products of a sum of products are taken of.

use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::types::{DType, TensorType, TypeError, ensure};

/// What the products of a matrix product of f32 operands are taken of (`docs/numerics.md`, "Products in
/// bf16"). The `algorithm` of StableHLO's `dot_general`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// The operands as they are.
    #[default]
    F32,
    /// The operands rounded to bf16, in pairs, accumulated in f32.
    Bf16,
}

impl Precision {
    /// The attribute, unless it has its default.
    pub(crate) fn attrs(self) -> Attrs {
        match self {
            Precision::F32 => Vec::new(),
            Precision::Bf16 => vec![("precision", Attr::DType(DType::Bf16))],
        }
    }

    pub(crate) fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        match attrs.opt("precision")? {
            None | Some(DType::F32) => Ok(Precision::F32),
            Some(DType::Bf16) => Ok(Precision::Bf16),
            Some(other) => Err(AttrError(format!(
                "attribute `precision` is `{other}`, expected one of f32, bf16"
            ))),
        }
    }

    /// The error that `code` stands for, unless operands of this type can have this precision.
    pub(crate) fn ensure_fits(self, code: &str, operand: &TensorType) -> Result<(), TypeError> {
        ensure(self == Precision::F32 || operand.dtype == DType::F32, code, || {
            format!("`precision = bf16` is for f32 operands, not {operand}")
        })
    }
}
