//! What the products of a sum of products are taken of.

use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::types::{DType, TensorType, TypeError, ensure};

/// What the products of a matrix product of f32 operands are taken of (`docs/numerics.md`, "Products in
/// bf16", "Products in f16"). The `algorithm` of StableHLO's `dot_general`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// The operands as they are.
    #[default]
    F32,
    /// The operands rounded to bf16, in pairs, accumulated in f32.
    Bf16,
    /// The operands rounded to f16, accumulated in f32.
    F16,
}

impl Precision {
    /// The dtype of the operands of a product.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
            Precision::F16 => DType::F16,
        }
    }

    /// The attribute, unless it has its default.
    pub(crate) fn attrs(self) -> Attrs {
        match self {
            Precision::F32 => Vec::new(),
            narrow => vec![("precision", Attr::DType(narrow.dtype()))],
        }
    }

    pub(crate) fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        match attrs.opt("precision")? {
            None | Some(DType::F32) => Ok(Precision::F32),
            Some(DType::Bf16) => Ok(Precision::Bf16),
            Some(DType::F16) => Ok(Precision::F16),
            Some(other) => Err(AttrError(format!(
                "attribute `precision` is `{other}`, expected one of f32, bf16, f16"
            ))),
        }
    }

    /// The error that `code` stands for, unless operands of this type can have this precision.
    pub(crate) fn ensure_fits(self, code: &str, operand: &TensorType) -> Result<(), TypeError> {
        ensure(self == Precision::F32 || operand.dtype == DType::F32, code, || {
            format!("`precision = {}` is for f32 operands, not {operand}", self.dtype())
        })
    }
}
