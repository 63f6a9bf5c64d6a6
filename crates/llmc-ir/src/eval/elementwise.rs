//! `unary`, `binary`, `compare`, `select`, `cast`.
//!
//! f32 functions are those of [`llmc_base::math`], f64 ones those of `libm`; a
//! dtype narrower than f32 is computed in f32 and rounded, which for + − · / and
//! sqrt is the correctly rounded result.

use super::number::{self, Precision, int_to_f64, round_to, truncate, value_of, wrap};
use super::{Data, EvalError, Mode, Tensor};
use crate::ops::{BinaryKind, CompareKind, UnaryKind};
use crate::types::DType;
use llmc_base::math;

type F64Fn = fn(f64) -> f64;
type F32Fn = fn(f32) -> f32;
type F64Pair = fn(f64, f64) -> f64;
type F32Pair = fn(f32, f32) -> f32;

/// One operand.
pub(crate) fn unary(kind: UnaryKind, x: &Tensor, mode: Mode) -> Result<Tensor, EvalError> {
    let data = match &x.data {
        Data::Int(v) => Data::Int(v.iter().map(|x_i| unary_int(kind, x.dtype, *x_i)).collect()),
        Data::Float(v) => {
            let (wide, narrow) = unary_float(kind)?;
            Data::Float(match Precision::of(x.dtype, mode) {
                Precision::F64 => v.iter().map(|x| wide(*x)).collect(),
                Precision::F32 => v.iter().map(|x| f64::from(narrow(*x as f32))).collect(),
                Precision::Narrow(dtype) => {
                    let rounded = |x: &f64| round_to(dtype, f64::from(narrow(*x as f32)));
                    v.iter().map(rounded).collect()
                }
            })
        }
    };
    Ok(Tensor { dtype: x.dtype, shape: x.shape.clone(), data })
}

fn unary_float(kind: UnaryKind) -> Result<(F64Fn, F32Fn), EvalError> {
    Ok(match kind {
        UnaryKind::Neg => (|x| -x, |x| -x),
        UnaryKind::Abs => (f64::abs, f32::abs),
        UnaryKind::Sign => (
            |x| {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    x
                }
            },
            |x| {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    x
                }
            },
        ),
        UnaryKind::Exp => (libm::exp, math::exp),
        UnaryKind::Log => (libm::log, math::log),
        UnaryKind::Sin => (libm::sin, math::sin),
        UnaryKind::Cos => (libm::cos, math::cos),
        UnaryKind::Tanh => (libm::tanh, math::tanh),
        UnaryKind::Erf => (libm::erf, math::erf),
        UnaryKind::Sqrt => (libm::sqrt, math::sqrt),
        UnaryKind::Rsqrt => (|x| 1.0 / libm::sqrt(x), math::rsqrt),
        UnaryKind::Recip => (|x| 1.0 / x, math::recip),
        UnaryKind::Floor => (f64::floor, f32::floor),
        UnaryKind::Ceil => (f64::ceil, f32::ceil),
        UnaryKind::Round => (f64::round_ties_even, f32::round_ties_even),
        UnaryKind::Not => return Err(EvalError::new("`not` of floats")),
    })
}

fn unary_int(kind: UnaryKind, dtype: DType, x: i64) -> i64 {
    let y = match kind {
        UnaryKind::Neg => x.wrapping_neg(),
        UnaryKind::Abs => x.wrapping_abs(),
        UnaryKind::Sign => x.signum(),
        UnaryKind::Not if dtype == DType::Bool => i64::from(x == 0),
        // The type rule leaves nothing else for integers.
        _ => !x,
    };
    wrap(dtype, y)
}

/// Two operands of one type.
pub(crate) fn binary(
    kind: BinaryKind,
    a: &Tensor,
    b: &Tensor,
    mode: Mode,
) -> Result<Tensor, EvalError> {
    let data = match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => {
            Data::Float(binary_float(kind, Precision::of(a.dtype, mode), x, y)?)
        }
        (Data::Int(x), Data::Int(y)) => {
            let pairs = x.iter().zip(y);
            Data::Int(pairs.map(|(x, y)| binary_int(kind, a.dtype, *x, *y)).collect())
        }
        _ => return Err(EvalError::new("operands of different dtypes")),
    };
    Ok(Tensor { dtype: a.dtype, shape: a.shape.clone(), data })
}

fn binary_float(
    kind: BinaryKind,
    precision: Precision,
    a: &[f64],
    b: &[f64],
) -> Result<Vec<f64>, EvalError> {
    let (wide, narrow): (F64Pair, F32Pair) = match kind {
        BinaryKind::Add => (|a, b| a + b, |a, b| a + b),
        BinaryKind::Sub => (|a, b| a - b, |a, b| a - b),
        BinaryKind::Mul => (|a, b| a * b, |a, b| a * b),
        BinaryKind::Div => (|a, b| a / b, |a, b| a / b),
        BinaryKind::Max => (number::max, math::max),
        BinaryKind::Min => (number::min, math::min),
        BinaryKind::Pow => (libm::pow, math::pow),
        BinaryKind::Rem => (|a, b| a % b, |a, b| a % b),
        _ => return Err(EvalError::new("bit operation on floats")),
    };
    let pairs = a.iter().zip(b);
    Ok(match precision {
        Precision::F64 => pairs.map(|(a, b)| wide(*a, *b)).collect(),
        Precision::F32 => pairs.map(|(a, b)| f64::from(narrow(*a as f32, *b as f32))).collect(),
        Precision::Narrow(dtype) => {
            pairs.map(|(a, b)| round_to(dtype, f64::from(narrow(*a as f32, *b as f32)))).collect()
        }
    })
}

/// Integers wrap; x / 0 has all bits set, x rem 0 is x, and a shift by the width or more leaves
/// zeros (copies of the sign for a signed shift right).
fn binary_int(kind: BinaryKind, dtype: DType, a: i64, b: i64) -> i64 {
    let unsigned = dtype == DType::U64;
    let bits = i64::from(dtype.bits());
    let y = match kind {
        BinaryKind::Add => a.wrapping_add(b),
        BinaryKind::Sub => a.wrapping_sub(b),
        BinaryKind::Mul => a.wrapping_mul(b),
        BinaryKind::Div if b == 0 => -1,
        BinaryKind::Div if unsigned => (a as u64 / b as u64) as i64,
        BinaryKind::Div => a.wrapping_div(b),
        BinaryKind::Rem if b == 0 => a,
        BinaryKind::Rem if unsigned => (a as u64 % b as u64) as i64,
        BinaryKind::Rem => a.wrapping_rem(b),
        BinaryKind::Max if unsigned => (a as u64).max(b as u64) as i64,
        BinaryKind::Max => a.max(b),
        BinaryKind::Min if unsigned => (a as u64).min(b as u64) as i64,
        BinaryKind::Min => a.min(b),
        BinaryKind::And => a & b,
        BinaryKind::Or => a | b,
        BinaryKind::Xor => a ^ b,
        BinaryKind::Shl if !(0..bits).contains(&b) => 0,
        BinaryKind::Shl => a << b,
        BinaryKind::Shr if !(0..bits).contains(&b) => match dtype.is_signed_int() && a < 0 {
            true => -1,
            false => 0,
        },
        BinaryKind::Shr if unsigned => (a as u64 >> b) as i64,
        BinaryKind::Shr => a >> b,
        // The type rule refuses it on integers.
        BinaryKind::Pow => 0,
    };
    wrap(dtype, y)
}

/// Two operands of one type → bool.
pub(crate) fn compare(kind: CompareKind, a: &Tensor, b: &Tensor) -> Result<Tensor, EvalError> {
    fn holds<T: PartialOrd>(kind: CompareKind, a: T, b: T) -> i64 {
        i64::from(match kind {
            CompareKind::Eq => a == b,
            CompareKind::Ne => a != b,
            CompareKind::Lt => a < b,
            CompareKind::Le => a <= b,
            CompareKind::Gt => a > b,
            CompareKind::Ge => a >= b,
        })
    }
    let bits = match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => {
            x.iter().zip(y).map(|(x, y)| holds(kind, *x, *y)).collect()
        }
        (Data::Int(x), Data::Int(y)) => {
            let value = |v: &i64| value_of(a.dtype, *v);
            x.iter().zip(y).map(|(x, y)| holds(kind, value(x), value(y))).collect()
        }
        _ => return Err(EvalError::new("operands of different dtypes")),
    };
    Ok(Tensor { dtype: DType::Bool, shape: a.shape.clone(), data: Data::Int(bits) })
}

/// a where the condition holds, b elsewhere.
pub(crate) fn select(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor, EvalError> {
    fn choose<T: Copy>(condition: &[i64], a: &[T], b: &[T]) -> Vec<T> {
        let pairs = a.iter().zip(b);
        condition.iter().zip(pairs).map(|(c, (a, b))| if *c != 0 { *a } else { *b }).collect()
    }
    let condition = condition.as_ints()?;
    let data = match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => Data::Float(choose(condition, x, y)),
        (Data::Int(x), Data::Int(y)) => Data::Int(choose(condition, x, y)),
        _ => return Err(EvalError::new("operands of different dtypes")),
    };
    Ok(Tensor { dtype: a.dtype, shape: a.shape.clone(), data })
}

/// Another element type. An integer goes to a float narrower than f64 through f64, but to f32
/// in one rounding.
pub(crate) fn cast(dtype: DType, x: &Tensor, mode: Mode) -> Tensor {
    let data = match (&x.data, dtype.is_float()) {
        (Data::Float(v), true) if mode == Mode::Real => Data::Float(v.clone()),
        (Data::Float(v), true) => Data::Float(v.iter().map(|x| round_to(dtype, *x)).collect()),
        (Data::Float(v), false) => Data::Int(v.iter().map(|x| truncate(dtype, *x)).collect()),
        (Data::Int(v), true) => {
            Data::Float(v.iter().map(|i| int_to_float(dtype, x.dtype, *i, mode)).collect())
        }
        (Data::Int(v), false) => Data::Int(v.iter().map(|i| wrap(dtype, *i)).collect()),
    };
    Tensor { dtype, shape: x.shape.clone(), data }
}

fn int_to_float(to: DType, from: DType, x: i64, mode: Mode) -> f64 {
    match (mode, to, from) {
        (Mode::Rounded, DType::F32, DType::U64) => f64::from(x as u64 as f32),
        (Mode::Rounded, DType::F32, _) => f64::from(x as f32),
        (Mode::Rounded, _, _) => round_to(to, int_to_f64(from, x)),
        (Mode::Real, _, _) => int_to_f64(from, x),
    }
}
