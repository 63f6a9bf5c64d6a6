//! Rounding of floats and wrapping of integers to a dtype.

use super::Mode;
use crate::types::DType;

/// In which arithmetic an op over floats is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// f64 operations.
    F64,
    /// f32 operations.
    F32,
    /// f32 operations, each result rounded to a narrower dtype.
    Narrow(DType),
}

impl Precision {
    /// The arithmetic of a dtype in a mode.
    pub(super) fn of(dtype: DType, mode: Mode) -> Self {
        match (mode, dtype) {
            (Mode::Real, _) | (_, DType::F64) => Precision::F64,
            (_, DType::F32) => Precision::F32,
            (_, narrow) => Precision::Narrow(narrow),
        }
    }
}

/// The nearest value of a float dtype, ties to even; the value itself for other dtypes.
///
/// Beyond the range: NaN for f8e4m3, which has no infinity, and infinity for the others.
pub fn round_to(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::F32 => f64::from(x as f32),
        DType::Bf16 => round_small(x, &BF16),
        DType::F16 => round_small(x, &F16),
        DType::F8E4M3 => round_small(x, &F8E4M3),
        DType::F8E5M2 => round_small(x, &F8E5M2),
        _ => x,
    }
}

/// A small binary float format.
struct Format {
    /// Bits of the significand, the leading one included.
    precision: i32,
    /// Exponent of the smallest normal number.
    min_exponent: i32,
    /// The largest finite value.
    max: f64,
    /// What lies beyond.
    overflow: f64,
}

const BF16: Format = Format {
    precision: 8,
    min_exponent: -126,
    max: 3.389_531_389_251_535_5e38,
    overflow: f64::INFINITY,
};
const F16: Format =
    Format { precision: 11, min_exponent: -14, max: 65504.0, overflow: f64::INFINITY };
const F8E4M3: Format = Format { precision: 4, min_exponent: -6, max: 448.0, overflow: f64::NAN };
const F8E5M2: Format =
    Format { precision: 3, min_exponent: -14, max: 57344.0, overflow: f64::INFINITY };

fn round_small(x: f64, format: &Format) -> f64 {
    if x == 0.0 || x.is_nan() {
        return x;
    }
    if x.is_infinite() {
        return format.overflow.copysign(x);
    }
    // The spacing of the format at x is a power of two, so that dividing and multiplying by it
    // are exact. The exponent of an f64 denormal reads as -1023, far below every format.
    let exponent = ((x.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let spacing = libm::ldexp(1.0, exponent.max(format.min_exponent) - (format.precision - 1));
    let rounded = (x / spacing).round_ties_even() * spacing;
    match rounded.abs() <= format.max {
        true => rounded,
        false => format.overflow.copysign(x),
    }
}

/// The low bits of an integer as a value of the dtype; `bool` is whether it is not 0.
///
/// A `u64` is held as the `i64` of the same bits.
pub(super) fn wrap(dtype: DType, x: i64) -> i64 {
    match dtype {
        DType::Bool => i64::from(x != 0),
        DType::I64 | DType::U64 => x,
        _ => {
            let spare = 64 - dtype.bits();
            match dtype.is_signed_int() {
                true => (x << spare) >> spare,
                false => ((x as u64) << spare >> spare) as i64,
            }
        }
    }
}

/// The mathematical value of a held integer.
pub(super) fn value_of(dtype: DType, x: i64) -> i128 {
    match dtype {
        DType::U64 => i128::from(x as u64),
        _ => i128::from(x),
    }
}

/// The float nearest to a held integer.
pub(super) fn int_to_f64(dtype: DType, x: i64) -> f64 {
    match dtype {
        DType::U64 => x as u64 as f64,
        _ => x as f64,
    }
}

/// A float truncated to an integer dtype: out of range clamped, NaN to 0.
pub(super) fn truncate(dtype: DType, x: f64) -> i64 {
    if dtype == DType::Bool {
        return i64::from(x != 0.0);
    }
    if dtype == DType::U64 {
        return x as u64 as i64;
    }
    let (low, high) = crate::ops::check::int_range(dtype);
    (x as i64).clamp(low as i64, high as i64)
}

/// IEEE 754-2019 `maximum`: NaN wins, +0 is greater than −0.
pub(super) fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a > b || (a == b && a.is_sign_positive()) {
        a
    } else {
        b
    }
}

/// IEEE 754-2019 `minimum`: NaN wins, −0 is less than +0.
pub(super) fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a < b || (a == b && a.is_sign_negative()) {
        a
    } else {
        b
    }
}
