//! `binary`: two operands of one type, element by element.

use super::check;
use crate::attr::{AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{self, EvalError, Mode, Tensor};
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::ops::CompareKind;
use crate::sample::{BadSample, Fill, Sample, Samples, typed};
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

/// A function of two operands, element by element; nothing is broadcast.
///
/// a, b: one type → that type. Floats narrower than f32 are computed in f32 and rounded. Maximum and
/// minimum: NaN wins. Integers wrap; x / 0 has all bits set, x rem 0 is x; a shift by the width or
/// more leaves zeros, or copies of the sign for a signed shift right.
///
/// Errors: `binary::c1` if the types differ, `binary::c2` if the function does not take the dtype.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The function.
    pub kind: BinaryKind,
}

impl Binary {
    /// The cotangent of operand `i`; `None` is zero.
    fn gradient(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
        i: usize,
        dy: ValueId,
    ) -> Result<Option<ValueId>, TypeError> {
        let (own, other) = (input.operands[i], input.operands[1 - i]);
        let y = input.results[0];
        let grad = match (self.kind, i) {
            (BinaryKind::Add, _) | (BinaryKind::Sub | BinaryKind::Rem, 0) => dy,
            (BinaryKind::Sub, _) => b.neg(dy)?,
            (BinaryKind::Mul, _) => b.mul(dy, other)?,
            (BinaryKind::Div, 0) => b.div(dy, other)?,
            (BinaryKind::Div, _) => {
                let product = b.mul(dy, y)?;
                let quotient = b.div(product, own)?;
                b.neg(quotient)?
            }
            (BinaryKind::Max | BinaryKind::Min, _) => {
                // The winner takes it; equal operands share.
                let kind = match self.kind {
                    BinaryKind::Max => CompareKind::Gt,
                    _ => CompareKind::Lt,
                };
                let zero = b.constant_like(dy, 0.0)?;
                let half = b.mul_scalar(dy, 0.5)?;
                let equal = b.compare(CompareKind::Eq, own, other)?;
                let shared = b.select(equal, half, zero)?;
                let wins = b.compare(kind, own, other)?;
                b.select(wins, dy, shared)?
            }
            (BinaryKind::Pow, 0) => {
                // b·a^(b−1)
                let exponent = b.add_scalar(other, -1.0)?;
                let power = b.pow(own, exponent)?;
                let slope = b.mul(other, power)?;
                b.mul(dy, slope)?
            }
            (BinaryKind::Pow, _) => {
                // y·log a, where a > 0; elsewhere y has no slope in b.
                let zero = b.constant_like(other, 0.0)?;
                let one = b.constant_like(other, 1.0)?;
                let positive = b.compare(CompareKind::Gt, other, zero)?;
                let base = b.select(positive, other, one)?;
                let log = b.log(base)?;
                let slope = b.mul(y, log)?;
                b.mul(dy, slope)?
            }
            (BinaryKind::Rem, _) => {
                // y = a − b·q with an integer q.
                let multiple = b.sub(other, y)?;
                let q = b.div(multiple, own)?;
                let product = b.mul(dy, q)?;
                b.neg(product)?
            }
            _ => return Ok(None),
        };
        Ok(Some(grad))
    }
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

    fn eval(&self, v: &[&Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::binary(self.kind, v[0], v[1], mode)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None, None];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        if !b.ty(dy).dtype.is_float() {
            return Ok(Some(out));
        }
        for (i, slot) in out.iter_mut().enumerate() {
            if input.needed[i]
                && let Some(grad) = self.gradient(b, input, i, dy)?
            {
                *slot = Some(input.fold(b, i, grad)?);
            }
        }
        Ok(Some(out))
    }

    fn cost(&self, _: &[TensorType], results: &[TensorType]) -> Cost {
        Cost::flops(results[0].numel())
    }

    fn samples() -> Samples {
        let mut good = Vec::new();
        for (kind, _) in BinaryKind::WORDS {
            let op = Binary { kind };
            // A power needs a positive base; a divisor should stay away from 0.
            let (a, b) = match kind {
                BinaryKind::Pow => (Fill::Positive, Fill::Normal),
                BinaryKind::Div | BinaryKind::Rem => (Fill::Normal, Fill::Positive),
                _ => (Fill::Normal, Fill::Normal),
            };
            let dtypes = [DType::F32, DType::F16, DType::F64, DType::I32, DType::U64, DType::Bool];
            for dtype in dtypes.into_iter().filter(|dtype| kind.accepts(*dtype)) {
                let ty = typed(dtype, &[2, 9]);
                let differentiable: &[usize] = if dtype.is_float() { &[0, 1] } else { &[] };
                good.push(Sample::new(op.clone(), [(ty.clone(), a), (ty, b)], differentiable));
            }
        }
        let bad = |kind, a: &[usize], b: &[usize], dtype, code| {
            BadSample::new(Binary { kind }, [typed(dtype, a), typed(dtype, b)], code)
        };
        Samples {
            good,
            bad: vec![
                bad(BinaryKind::Add, &[2, 3], &[3], DType::F32, "binary::c1"),
                bad(BinaryKind::Add, &[2], &[2], DType::Bool, "binary::c2"),
                bad(BinaryKind::Pow, &[2], &[2], DType::I32, "binary::c2"),
                bad(BinaryKind::Xor, &[2], &[2], DType::F32, "binary::c2"),
                bad(BinaryKind::Shl, &[2], &[2], DType::Bool, "binary::c2"),
            ],
        }
    }
}
