//! `unary`: one operand, element by element.

use super::check;
use crate::attr::{AttrError, AttrReader, Attrs};
use crate::cost::Cost;
use crate::module::Module;
use crate::op::{Class, OpDef};
use crate::sample::Samples;
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// Which function of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it all.
pub enum UnaryKind {
    Neg,
    Abs,
    /// −1, 0 or 1; a zero keeps its sign, NaN stays.
    Sign,
    Exp,
    /// The natural logarithm.
    Log,
    Sin,
    Cos,
    Tanh,
    Erf,
    Sqrt,
    /// 1/sqrt(x), in two roundings.
    Rsqrt,
    /// 1/x.
    Recip,
    Floor,
    Ceil,
    /// To the nearest integer, ties to even.
    Round,
    /// Logical on `bool`, bitwise on integers.
    Not,
}

impl UnaryKind {
    /// Every kind with its word in the text form.
    pub const WORDS: [(UnaryKind, &'static str); 16] = [
        (UnaryKind::Neg, "neg"),
        (UnaryKind::Abs, "abs"),
        (UnaryKind::Sign, "sign"),
        (UnaryKind::Exp, "exp"),
        (UnaryKind::Log, "log"),
        (UnaryKind::Sin, "sin"),
        (UnaryKind::Cos, "cos"),
        (UnaryKind::Tanh, "tanh"),
        (UnaryKind::Erf, "erf"),
        (UnaryKind::Sqrt, "sqrt"),
        (UnaryKind::Rsqrt, "rsqrt"),
        (UnaryKind::Recip, "recip"),
        (UnaryKind::Floor, "floor"),
        (UnaryKind::Ceil, "ceil"),
        (UnaryKind::Round, "round"),
        (UnaryKind::Not, "not"),
    ];

    /// Whether the function takes elements of this type.
    pub fn accepts(self, dtype: DType) -> bool {
        match self {
            UnaryKind::Neg | UnaryKind::Abs | UnaryKind::Sign => {
                dtype.is_float() || dtype.is_signed_int()
            }
            UnaryKind::Not => !dtype.is_float(),
            _ => dtype.is_float(),
        }
    }
}

/// A function of one operand, element by element.
///
/// x: any shape → the type of x. Floats narrower than f32 are computed in f32 and rounded.
///
/// Errors: `unary::c1` if the function does not take the dtype.
#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    /// The function.
    pub kind: UnaryKind,
}

impl OpDef for Unary {
    const NAME: &'static str = "unary";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![("kind", check::word(&UnaryKind::WORDS, &self.kind))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Unary { kind: check::required_kind(&UnaryKind::WORDS, attrs, "kind")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        ensure(self.kind.accepts(x.dtype), "unary::c1", || {
            format!("{:?} does not take {x}", self.kind)
        })?;
        Ok(vec![x.clone()])
    }

    fn cost(&self, _: &[TensorType], results: &[TensorType]) -> Cost {
        Cost::flops(results[0].numel())
    }

    fn samples() -> Samples {
        Samples::default()
    }
}
