//! The functions over any [`Lanes`].
//!
//! Each takes the argument apart exactly, evaluates a short polynomial by FMA,
//! and puts the result together, with selects instead of branches. The
//! polynomials are minimax fits of our own (Remez exchange in 40 digits,
//! coefficients rounded to f32 one after another, low order first, refitting the
//! rest). The measured errors stand in [the module page](super).

mod pow;
mod trig;

use super::lanes::{Lanes, ROUND_TO_INTEGER};

pub use pow::pow;
pub use trig::{cos, sin, sincos};

/// `c[0] + c[1]·x + c[2]·x² + …` by Horner's rule, one FMA per step.
#[inline(always)]
fn polynomial<V: Lanes, const N: usize>(x: V, coefficients: [f32; N]) -> V {
    let mut value = V::splat(coefficients[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        value = value.fma(x, V::splat(coefficients[i]));
    }
    value
}

/// e^x.
///
/// `n = round(x·log₂e)`, `r = x − n·ln2` in two constants, `e^r` by a
/// polynomial, then the scale by 2ⁿ. `exp(−∞) = +0`, overflow gives `+∞`, NaN
/// stays.
#[inline(always)]
pub fn exp<V: Lanes>(x: V) -> V {
    // Below this, less than half of the smallest denormal; NaN is not below.
    let in_range = V::mask_not(V::lt(x, V::splat(-103.972_08)));
    // e^89 overflows by itself.
    let x = x.at_most(89.0);
    let shifted = x.fma(V::splat(core::f32::consts::LOG2_E), V::splat(ROUND_TO_INTEGER));
    let n = shifted.sub(V::splat(ROUND_TO_INTEGER));
    let r = n.fma(V::splat(-LN2_HIGH), x);
    let r = n.fma(V::splat(-LN2_LOW), r);
    let tail =
        polynomial(r, [0.499_999_94, 0.166_665_17, 0.041_668_106, 0.008_369_141, 0.001_383_674]);
    let value = r.mul(r).fma(tail, r).add(V::splat(1.0));
    value.scale_by_power_of_two(n, in_range)
}

/// The natural logarithm.
///
/// `x = 2^e · m` with m in [√½, √2), `log m` by a polynomial in `f = m − 1`,
/// plus `e·ln2` in two constants. `log(±0) = −∞`, negative numbers give NaN.
#[inline(always)]
pub fn log<V: Lanes>(x: V) -> V {
    const SQRT_HALF_BITS: i32 = 0x3f35_04f3;
    let is_denormal = V::lt(x, V::splat(f32::MIN_POSITIVE));
    let scaled = V::select(is_denormal, x.mul(V::splat(8_388_608.0)), x);
    let exponent_bias = V::select(is_denormal, V::splat(-23.0), V::splat(0.0));
    let offset = V::int_sub(scaled.to_bits(), V::int_splat(SQRT_HALF_BITS));
    let e = V::from_int(V::int_sar::<23>(offset)).add(exponent_bias);
    let m = V::from_bits(V::int_add(
        V::int_and(offset, V::int_splat(0x007f_ffff)),
        V::int_splat(SQRT_HALF_BITS),
    ));
    let f = m.sub(V::splat(1.0));
    let f2 = f.mul(f);
    let tail = polynomial(
        f,
        [
            0.333_333_16,
            -0.250_008,
            0.200_023_14,
            -0.166_249_02,
            0.141_806_07,
            -0.131_046_03,
            0.128_966_42,
            -0.080_287_3,
        ],
    );
    let low = f2.mul(f).mul(tail);
    let low = e.fma(V::splat(LN2_LOW), low);
    let low = f2.fma(V::splat(-0.5), low);
    let value = e.fma(V::splat(LN2_HIGH), f.add(low));
    let zero = V::splat(0.0);
    let value = V::select(V::eq(x, zero), V::splat(f32::NEG_INFINITY), value);
    let value = V::select(V::lt(x, zero), V::splat(f32::NAN), value);
    // +∞ and NaN answer themselves.
    V::select(V::lt(x, V::splat(f32::INFINITY)), value, x)
}

/// The hyperbolic tangent.
///
/// Below 0.625 an odd polynomial, above `1 − 2 / (e^(2x) + 1)`.
#[inline(always)]
pub fn tanh<V: Lanes>(x: V) -> V {
    let magnitude = x.abs();
    let x2 = x.mul(x);
    let tail = polynomial(
        x2,
        [-0.333_332_84, 0.133_314_83, -0.053_742_774, 0.020_648_062, -0.005_714_063_5],
    );
    let small = x2.mul(magnitude).fma(tail, magnitude);
    let one = V::splat(1.0);
    let growth = exp(magnitude.add(magnitude));
    let large = one.sub(V::splat(2.0).div(growth.add(one)));
    let value = V::select(V::lt(V::splat(0.625), magnitude), large, small);
    value.xor_sign(x.sign_bit())
}

/// The error function `2/√π · ∫₀ˣ e^(−t²) dt`.
///
/// Up to 1 an odd polynomial, above `1 − e^q(x)` where `q` approximates
/// `log(1 − erf)`.
#[inline(always)]
pub fn erf<V: Lanes>(x: V) -> V {
    let magnitude = x.abs();
    let one = V::splat(1.0);
    let tail = polynomial(
        x.mul(x),
        [
            0.128_379_17,
            -0.376_126_3,
            0.112_836_18,
            -0.026_855_126,
            0.005_190_733_4,
            -8.030_750_3e-4,
            7.920_303e-5,
        ],
    );
    let small = magnitude.fma(tail, magnitude);
    // erf(4) rounds to 1.
    let four = V::splat(4.0);
    let t = V::select(V::lt(four, magnitude), four, magnitude);
    let exponent = t.mul(polynomial(
        t,
        [
            -1.128_596_5,
            -0.635_423_8,
            -0.105_643_295,
            0.023_065_204,
            -0.003_166_082,
            1.331_093_2e-4,
            2.952_159_6e-5,
            -3.644_834_8e-6,
        ],
    ));
    let large = one.sub(exp(exponent));
    let value = V::select(V::lt(one, magnitude), large, small);
    value.xor_sign(x.sign_bit())
}

/// `1 / x`, correctly rounded.
#[inline(always)]
pub fn recip<V: Lanes>(x: V) -> V {
    V::splat(1.0).div(x)
}

/// `1 / sqrt(x)`: the correctly rounded root, then the correctly rounded
/// division.
#[inline(always)]
pub fn rsqrt<V: Lanes>(x: V) -> V {
    V::splat(1.0).div(x.sqrt())
}

/// ln 2 rounded to f32, and what is left.
const LN2_HIGH: f32 = core::f32::consts::LN_2;
const LN2_LOW: f32 = -1.904_654_2e-9;
