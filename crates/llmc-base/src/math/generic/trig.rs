//! `sin` and `cos` over any [`Lanes`], right for every finite f32.
//!
//! Up to 2²⁰ (positions times frequencies stay below) the argument is reduced
//! by FMA with π/2 in three f32 parts and kept as a sum of two f32: the first
//! step is exact, the others leave an error far below one ulp. Beyond, each lane takes
//! the slow road: the exact product of the mantissa with a window of the bits of
//! 2/π (Payne and Hanek 1983, "Radian reduction for trigonometric functions").

use super::super::lanes::{Lanes, ROUND_TO_INTEGER};
use super::polynomial;

/// The largest magnitude that the three-part reduction takes.
const LARGEST_BY_FMA: f32 = 1_048_576.0;

/// `(sin x, cos x)`, x in radians. ±∞ and NaN give NaN.
#[inline(always)]
pub fn sincos<V: Lanes>(x: V) -> (V, V) {
    let magnitude = x.abs();
    let is_large = V::lt(V::splat(LARGEST_BY_FMA), magnitude);
    let shifted = magnitude.fma(V::splat(core::f32::consts::FRAC_2_PI), V::splat(ROUND_TO_INTEGER));
    let n = shifted.sub(V::splat(ROUND_TO_INTEGER));
    let high = n.fma(V::splat(-PI_2_HIGH), magnitude);
    // high − n·PI_2_MIDDLE as a sum of two: an exact product, an exact sum.
    let product = n.mul(V::splat(-PI_2_MIDDLE));
    let product_low = n.fma(V::splat(-PI_2_MIDDLE), product.neg());
    let r = high.add(product);
    let seen = r.sub(high);
    let sum_low = high.sub(r.sub(seen)).add(product.sub(seen));
    let r_low = n.fma(V::splat(-PI_2_LOW), sum_low.add(product_low));
    let (sin, cos) = sincos_reduced(r, r_low, shifted.to_bits(), x.sign_bit());
    if V::any(is_large) {
        let large_sin = x.map(sin_large);
        let large_cos = x.map(cos_large);
        return (V::select(is_large, large_sin, sin), V::select(is_large, large_cos, cos));
    }
    // ∞ is large, so what is left to propagate is NaN, and arithmetic does.
    (sin, cos)
}

/// `sin x`.
#[inline(always)]
pub fn sin<V: Lanes>(x: V) -> V {
    sincos(x).0
}

/// `cos x`.
#[inline(always)]
pub fn cos<V: Lanes>(x: V) -> V {
    sincos(x).1
}

/// Sine and cosine of `r + r_low + quadrant·π/2` for |r| a little over π/4 at
/// most and |r_low| below an ulp of it; `sign` is the sign bit of the original
/// argument.
#[inline(always)]
fn sincos_reduced<V: Lanes>(r: V, r_low: V, quadrant: V::Int, sign: V::Int) -> (V, V) {
    let r2 = r.mul(r);
    let sin_tail = polynomial(r2, [-0.166_666_51, 0.008_331_918, -1.948_275_9e-4]);
    let sin = r.add(r2.mul(r).fma(sin_tail, r_low));
    let cos_tail = polynomial(r2, [0.041_666_64, -0.001_388_710_2, 2.440_689_8e-5]);
    // 1 − r²/2 with its rounding error carried to the small terms.
    // cos(r + r_low) = cos r − r·r_low.
    let half_r2 = r2.mul(V::splat(0.5));
    let near = V::splat(1.0).sub(half_r2);
    let error = V::splat(1.0).sub(near).sub(half_r2);
    let error = r.neg().fma(r_low, error);
    let cos = near.add(r2.mul(r2).fma(cos_tail, error));
    let one = V::int_splat(1);
    let two = V::int_splat(2);
    let is_odd = V::int_eq(V::int_and(quadrant, one), one);
    let sin_sign = V::int_shl::<30>(V::int_and(quadrant, two));
    let cos_sign = V::int_shl::<30>(V::int_and(V::int_add(quadrant, one), two));
    (
        V::select(is_odd, cos, sin).xor_sign(V::int_xor(sin_sign, sign)),
        V::select(is_odd, sin, cos).xor_sign(cos_sign),
    )
}

/// `sin` of one large argument.
#[cold]
fn sin_large(x: f32) -> f32 {
    let (r, r_low, quadrant) = reduce_large(x);
    sincos_reduced(r, r_low, quadrant, x.sign_bit()).0
}

/// `cos` of one large argument.
#[cold]
fn cos_large(x: f32) -> f32 {
    let (r, r_low, quadrant) = reduce_large(x);
    sincos_reduced(r, r_low, quadrant, x.sign_bit()).1
}

/// `|x| = quadrant·π/2 + r + r_low`, modulo whole turns, with |r| ≤ π/4, for
/// |x| ≥ 2²⁰. NaN for other arguments.
fn reduce_large(x: f32) -> (f32, f32, i32) {
    if !(LARGEST_BY_FMA..=f32::MAX).contains(&f32::abs(x)) {
        return (f32::NAN, f32::NAN, 0);
    }
    // |x| = mantissa · 2^shift.
    let bits = f32::to_bits(x) & 0x7fff_ffff;
    let mantissa = u128::from(bits & 0x007f_ffff | 0x0080_0000);
    let shift = (bits >> 23) as i32 - 150;
    // The bits of 2/π of weight 2^(2 − shift) and more only add whole turns; the
    // 96 bits after them leave an error below 2⁻⁷⁰ of a quadrant.
    let skipped = (shift - 2).max(0);
    let word = skipped as usize / 32;
    let mut window = 0u128;
    for i in 0..4 {
        window = window << 32 | u128::from(TWO_OVER_PI[(word + i) % TWO_OVER_PI.len()]);
    }
    let window = window << (skipped % 32) >> 32;
    // In units of 2^(shift − skipped − 96) quadrants, and then of 2⁻¹²⁶.
    let quadrants = (mantissa * window) << (30 + shift - skipped);
    // The fraction of a quadrant as a signed number in units of 2⁻¹²⁸.
    let fraction = (quadrants << 2) as i128;
    let quadrant = (quadrants >> 126) as i32 + i32::from(fraction < 0);
    let r = (fraction >> 64) as f64 * (core::f64::consts::FRAC_PI_2 / 18_446_744_073_709_551_616.0);
    let high = r as f32;
    (high, (r - f64::from(high)) as f32, quadrant)
}

/// π/2 in three f32 parts.
const PI_2_HIGH: f32 = core::f32::consts::FRAC_PI_2;
const PI_2_MIDDLE: f32 = -4.371_139e-8;
const PI_2_LOW: f32 = -1.715_124_5e-15;

/// The first 256 fraction bits of 2/π.
const TWO_OVER_PI: [u32; 8] = [
    0xa2f9_836e,
    0x4e44_1529,
    0xfc27_57d1,
    0xf534_ddc0,
    0xdb62_9599,
    0x3c43_9041,
    0xfe51_63ab,
    0xdebb_c561,
];
