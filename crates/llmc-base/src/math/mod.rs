//! The f32 functions that fix the bits of the project.
//!
//! Every function is one text over [`Lanes`], a bundle of f32 lanes, in
//! [`generic`]; the functions of this module are its one-lane instances, and the
//! kernels use the others. So the evaluator, the scalar kernels and every
//! instruction set agree bit for bit. `docs/numerics.md` is the definition of
//! what is summed in which order.
//!
//! | function | largest error measured, in ulp of the result |
//! |---|---|
//! | [`exp`] | 1.02 |
//! | [`log`] | 1.25 |
//! | [`sin`], [`cos`] | 0.95, every finite argument |
//! | [`tanh`] | 1.4 |
//! | [`erf`] | 1.1 |
//! | [`pow`] | 1.0 |
//! | [`sqrt`], [`recip`] | 0.5 (correctly rounded) |
//! | [`rsqrt`] | 1.5 (two roundings) |
//!
//! Nothing is flushed to zero. The sign and payload of a NaN are not part of the
//! definition: NaN is one value.

mod bf16;
mod f16;
pub mod generic;
mod lanes;
mod random;
mod sum;

pub use bf16::{fma_flushed, round_bf16};
pub use f16::round_f16;
pub use lanes::{Lanes, ROUND_TO_INTEGER, fma_f32, power_of_two};
pub use random::{normal_f32, philox_element, philox_key, philox4x32, uniform_f32};
pub use sum::{SUM_LANES, SUM_SQUARES_CHUNK, sum_lanes, sum_squares, sum_tree, sum_tree_f64};

#[cfg(test)]
mod tests;

/// e^x. `exp(−∞) = +0`, overflow gives `+∞`, NaN stays.
pub fn exp(x: f32) -> f32 {
    generic::exp(x)
}

/// The natural logarithm. `log(±0) = −∞`, negative numbers give NaN.
pub fn log(x: f32) -> f32 {
    generic::log(x)
}

/// The sine of x in radians, right for every finite x; NaN for ±∞.
pub fn sin(x: f32) -> f32 {
    generic::sincos(x).0
}

/// The cosine of x in radians, right for every finite x; NaN for ±∞.
pub fn cos(x: f32) -> f32 {
    generic::sincos(x).1
}

/// `(sin x, cos x)`.
pub fn sincos(x: f32) -> (f32, f32) {
    generic::sincos(x)
}

/// The hyperbolic tangent.
pub fn tanh(x: f32) -> f32 {
    generic::tanh(x)
}

/// The error function.
pub fn erf(x: f32) -> f32 {
    generic::erf(x)
}

/// x raised to y, with the special cases of IEEE 754-2019.
pub fn pow(x: f32, y: f32) -> f32 {
    generic::pow(x, y)
}

/// The correctly rounded square root; NaN below −0.
pub fn sqrt(x: f32) -> f32 {
    Lanes::sqrt(x)
}

/// `1 / x`, correctly rounded.
pub fn recip(x: f32) -> f32 {
    1.0 / x
}

/// `1 / sqrt(x)`, two roundings.
pub fn rsqrt(x: f32) -> f32 {
    generic::rsqrt(x)
}

/// `a · b + c` with one rounding.
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    fma_f32(a, b, c)
}

/// IEEE 754-2019 `maximum`: NaN wins, +0 is greater than −0.
pub fn max(a: f32, b: f32) -> f32 {
    Lanes::max(a, b)
}

/// IEEE 754-2019 `minimum`: NaN wins, −0 is less than +0.
pub fn min(a: f32, b: f32) -> f32 {
    Lanes::min(a, b)
}
