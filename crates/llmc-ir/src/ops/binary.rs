//! `binary`: two operands of one type, element by element.

use super::check;
use crate::attr::{AttrError, AttrReader, Attrs};
use crate::cost::Cost;
use crate::module::Module;
use crate::op::{Class, OpDef};
use crate::sample::Samples;
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// Which function of two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it all.
pub enum BinaryKind {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    Pow,
    Rem,
    And,
    Or,
    Xor,
    Shl,
    Shr,
}

impl BinaryKind {
    /// Every kind with its word in the text form.
    pub const WORDS: [(BinaryKind, &'static str); 13] = [
        (BinaryKind::Add, "add"),
        (BinaryKind::Sub, "sub"),
        (BinaryKind::Mul, "mul"),
        (BinaryKind::Div, "div"),
        (BinaryKind::Max, "max"),
        (BinaryKind::Min, "min"),
        (BinaryKind::Pow, "pow"),
        (BinaryKind::Rem, "rem"),
        (BinaryKind::And, "and"),
        (BinaryKind::Or, "or"),
        (BinaryKind::Xor, "xor"),
        (BinaryKind::Shl, "shl"),
        (BinaryKind::Shr, "shr"),
    ];

    /// Whether the function takes elements of this type.
    pub fn accepts(self, dtype: DType) -> bool {
        match self {
            BinaryKind::Pow => dtype.is_float(),
            BinaryKind::And | BinaryKind::Or | BinaryKind::Xor => !dtype.is_float(),
            BinaryKind::Shl | BinaryKind::Shr => dtype.is_int(),
            _ => dtype != DType::Bool,
        }
    }
}

/// An element-wise function of two operands of one type and shape; no implicit broadcast.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The function.
    pub kind: BinaryKind,
}

impl OpDef for Binary {
    const NAME: &'static str = "binary";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![("kind", check::word(&BinaryKind::WORDS, &self.kind))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Binary { kind: check::required_kind(&BinaryKind::WORDS, attrs, "kind")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [a, b] = operands(Self::NAME, types)?;
        ensure(a == b, "binary::c1", || format!("operands {a} and {b} must have one type"))?;
        ensure(self.kind.accepts(a.dtype), "binary::c2", || {
            format!("{:?} does not take {a}", self.kind)
        })?;
        Ok(vec![a.clone()])
    }

    fn cost(&self, _: &[TensorType], results: &[TensorType]) -> Cost {
        Cost::flops(results[0].numel())
    }

    fn samples() -> Samples {
        Samples::default()
    }
}
