//! `unary`: one operand, element by element.

use super::check;
use crate::attr::{AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{self, EvalError, Mode, Tensor};
use crate::module::Module;
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, typed};
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

    fn eval(&self, v: &[&Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::unary(self.kind, v[0], mode)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let (Some(dy), true) = (input.cotangents[0], input.needed[0]) else {
            return Ok(Some(vec![None]));
        };
        let (x, y) = (input.operands[0], input.results[0]);
        let dx = match self.kind {
            UnaryKind::Neg => b.neg(dy)?,
            UnaryKind::Abs => {
                let sign = b.sign(x)?;
                b.mul(dy, sign)?
            }
            UnaryKind::Exp => b.mul(dy, y)?,
            UnaryKind::Log => b.div(dy, x)?,
            UnaryKind::Sin => {
                let slope = b.cos(x)?;
                b.mul(dy, slope)?
            }
            UnaryKind::Cos => {
                let sin = b.sin(x)?;
                let slope = b.neg(sin)?;
                b.mul(dy, slope)?
            }
            UnaryKind::Tanh => {
                let square = b.mul(y, y)?;
                let slope = b.scalar_sub(1.0, square)?;
                b.mul(dy, slope)?
            }
            UnaryKind::Erf => {
                // 2/√π·exp(−x²)
                let square = b.mul(x, x)?;
                let exponent = b.neg(square)?;
                let e = b.exp(exponent)?;
                let slope = b.mul_scalar(e, std::f64::consts::FRAC_2_SQRT_PI)?;
                b.mul(dy, slope)?
            }
            UnaryKind::Sqrt => {
                let half = b.mul_scalar(dy, 0.5)?;
                b.div(half, y)?
            }
            UnaryKind::Rsqrt => {
                let square = b.mul(y, y)?;
                let cube = b.mul(square, y)?;
                let slope = b.mul_scalar(cube, -0.5)?;
                b.mul(dy, slope)?
            }
            UnaryKind::Recip => {
                let square = b.mul(y, y)?;
                let slope = b.neg(square)?;
                b.mul(dy, slope)?
            }
            // Constant wherever they have a slope.
            UnaryKind::Sign
            | UnaryKind::Floor
            | UnaryKind::Ceil
            | UnaryKind::Round
            | UnaryKind::Not => return Ok(Some(vec![None])),
        };
        Ok(Some(vec![Some(input.fold(b, 0, dx)?)]))
    }

    fn cost(&self, _: &[TensorType], results: &[TensorType]) -> Cost {
        Cost::flops(results[0].numel())
    }

    fn samples() -> Samples {
        let mut good = Vec::new();
        for (kind, _) in UnaryKind::WORDS {
            let op = Unary { kind };
            // Away from poles, and from where a root has no real value.
            let fill = match kind {
                UnaryKind::Log | UnaryKind::Sqrt | UnaryKind::Rsqrt | UnaryKind::Recip => {
                    Fill::Positive
                }
                _ => Fill::Normal,
            };
            for dtype in [DType::F32, DType::Bf16, DType::F64, DType::I32, DType::Bool] {
                if kind.accepts(dtype) {
                    // On the coarse grid of bf16 a sample may sit on a jump.
                    let smooth = matches!(dtype, DType::F32 | DType::F64);
                    let differentiable: &[usize] = if smooth { &[0] } else { &[] };
                    good.push(Sample::new(
                        op.clone(),
                        [(typed(dtype, &[3, 7]), fill)],
                        differentiable,
                    ));
                }
            }
        }
        let bad = |kind, dtype| BadSample::new(Unary { kind }, [typed(dtype, &[2])], "unary::c1");
        Samples {
            good,
            bad: vec![
                bad(UnaryKind::Exp, DType::I32),
                bad(UnaryKind::Not, DType::F32),
                bad(UnaryKind::Neg, DType::U8),
                bad(UnaryKind::Abs, DType::Bool),
            ],
        }
    }
}
