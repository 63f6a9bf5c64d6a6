//! `pow` over any [`Lanes`].
//!
//! `x^y = 2^(y·log₂x)`. The logarithm must be good to about 2⁻³³ of itself, since
//! y·log₂x reaches 150 and its absolute error is the relative error of the
//! result; so it is carried as an unevaluated sum of two f32 by error-free
//! transformations (Dekker 1971, "A floating-point technique for extending the
//! available precision"; products by FMA).

use super::super::lanes::{Lanes, ROUND_TO_INTEGER};
use super::polynomial;

/// x raised to y, with the special cases of IEEE 754-2019 section 9.2.1:
/// `pow(x, ±0) = 1` and `pow(1, y) = 1` even for NaN, a negative x needs an
/// integral y, `pow(−1, ±∞) = 1`.
#[inline(always)]
pub fn pow<V: Lanes>(x: V, y: V) -> V {
    let zero = V::splat(0.0);
    let one = V::splat(1.0);
    let infinity = V::splat(f32::INFINITY);
    let base = x.abs();
    let y_magnitude = y.abs();

    // Zero and infinite operands, with |x| for x.
    let y_positive = V::lt(zero, y);
    let grows = V::select(y_positive, infinity, zero);
    let shrinks = V::select(y_positive, zero, infinity);
    let at_infinite_y = V::select(V::lt(one, base), grows, shrinks);
    let at_infinite_y = V::select(V::eq(base, one), one, at_infinite_y);
    let value = pow_positive(base, y);
    let value = V::select(V::eq(base, zero), shrinks, value);
    let value = V::select(V::eq(base, infinity), grows, value);
    let value = V::select(V::eq(y_magnitude, infinity), at_infinite_y, value);

    // The sign of a negative x survives an odd y.
    let y_integral = is_integral(y_magnitude);
    let y_odd = V::mask_and(y_integral, V::mask_not(is_integral(y_magnitude.mul(V::splat(0.5)))));
    let sign_kept = V::select(y_odd, V::splat(-0.0), zero).to_bits();
    let value = value.xor_sign(V::int_and(x.sign_bit(), sign_kept));
    let finite_negative = V::mask_and(V::lt(x, zero), V::lt(base, infinity));
    let undefined = V::mask_and(finite_negative, V::mask_not(y_integral));
    let value = V::select(undefined, V::splat(f32::NAN), value);

    // NaN operands, and what beats them.
    let ordered = V::mask_and(V::eq(x, x), V::eq(y, y));
    let value = V::select(ordered, value, V::splat(f32::NAN));
    V::select(V::mask_or(V::eq(y, zero), V::eq(x, one)), one, value)
}

/// Whether a value ≥ 0 is an integer.
#[inline(always)]
fn is_integral<V: Lanes>(value: V) -> V::Mask {
    // Adding 2²³ rounds what is below 2²³ to an integer; what is not below is one.
    let unit = V::splat(8_388_608.0);
    V::mask_or(V::le(unit, value), V::eq(value.add(unit).sub(unit), value))
}

/// `base^y` for a positive finite base and a finite y.
#[inline(always)]
fn pow_positive<V: Lanes>(base: V, y: V) -> V {
    let (high, low) = log2_two_parts(base);
    // Past ±200 the result is 0 or ∞ whatever the rest; a harmless exponent
    // there keeps the low part from being ∞ − ∞.
    let exponent = y.mul(high);
    let too_low = V::lt(exponent, V::splat(-151.0));
    let too_high = V::le(V::splat(128.0), exponent);
    let out = V::mask_or(too_low, too_high);
    let error = y.fma(high, exponent.neg());
    let rest = y.fma(low, error);
    let exponent = V::select(out, V::splat(0.0), exponent);
    let rest = V::select(out, V::splat(0.0), rest);
    let n = exponent.add(V::splat(ROUND_TO_INTEGER)).sub(V::splat(ROUND_TO_INTEGER));
    let f = exponent.sub(n).add(rest);
    let tail = polynomial(
        f,
        [
            core::f32::consts::LN_2,
            0.240_226_5,
            0.055_504_05,
            0.009_618_099,
            0.001_333_816_3,
            1.542_560_5e-4,
            1.467_870_8e-5,
        ],
    );
    let value = f.fma(tail, V::splat(1.0)).scale_by_power_of_two(n, V::mask_not(too_low));
    V::select(too_high, V::splat(f32::INFINITY), value)
}

/// log₂ of a positive finite number as `high + low`, |low| ≤ ulp(high).
///
/// `x = 2^e · m`, m in [√½, √2), `s = (m − 1) / (m + 1)`, and
/// `log₂m = s·(c₁ + s²·(c₃ + s²·P(s²)))`.
#[inline(always)]
fn log2_two_parts<V: Lanes>(x: V) -> (V, V) {
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

    // s in two parts; m − 1 is exact.
    let one = V::splat(1.0);
    let numerator = m.sub(one);
    let denominator = m.add(one);
    let denominator_low = m.sub(denominator.sub(one));
    let s = numerator.div(denominator);
    let remainder = s.neg().fma(denominator, numerator);
    let remainder = s.neg().fma(denominator_low, remainder);
    let s_low = remainder.div(denominator);

    // s² in two parts.
    let z = s.mul(s);
    let z_low = s.fma(s, z.neg());
    let z_low = s.add(s).fma(s_low, z_low);

    // c₃ + s²·P in two parts: the second summand is below a fiftieth.
    let tail = polynomial(z, [0.577_078, 0.412_205_93, 0.320_011_8, 0.281_711_97]);
    let (t, t_low) = fast_two_sum(V::splat(0.961_796_7), z.mul(tail));
    let t_low = t_low.add(V::splat(-7.028_462e-9));

    // · s², + c₁, · s, + e.
    let (u, u_low) = two_product(z, z_low, t, t_low);
    let (w, w_low) = fast_two_sum(V::splat(2.885_39), u);
    let w_low = w_low.add(u_low.add(V::splat(3.851_926e-8)));
    let (v, v_low) = two_product(s, s_low, w, w_low);
    // |e| ≥ 1 > |v|, or e = 0 and the sum is exact.
    let (high, error) = fast_two_sum(e, v);
    fast_two_sum(high, error.add(v_low))
}

/// `a + b` as (rounded, error), for |a| ≥ |b| or a = 0.
#[inline(always)]
fn fast_two_sum<V: Lanes>(a: V, b: V) -> (V, V) {
    let sum = a.add(b);
    (sum, b.sub(sum.sub(a)))
}

/// `(a + a_low)·(b + b_low)` as (rounded, error).
#[inline(always)]
fn two_product<V: Lanes>(a: V, a_low: V, b: V, b_low: V) -> (V, V) {
    let product = a.mul(b);
    let error = a.fma(b, product.neg());
    (product, a.fma(b_low, a_low.fma(b, error)))
}
