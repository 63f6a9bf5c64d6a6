//! What a product of f16 operands is taken of: `docs/numerics.md`, "Products in f16".
//!
//! Source: IEEE 754-2019, binary16: 11 bits of significand, exponents −14 to 15, subnormals in steps of 2⁻²⁴. F16C's
//! VCVTPS2PH and VCVTPH2PS give the same bits.

use super::Lanes;

/// The smallest normal f16, 2⁻¹⁴.
const MIN_POSITIVE: f32 = 6.103_515_6e-5;
/// Half way between the largest f16, 65504, and what would follow it: from here on it is ∞.
const OVERFLOW: f32 = 65520.0;

/// The f32 nearest to x that f16 has, ties to even: in steps of 2⁻²⁴ below the normal range, ∞ of its sign from
/// 65520 on. NaN stays NaN.
#[inline(always)]
pub fn round_f16<V: Lanes>(x: V) -> V {
    let (size, sign) = (x.abs(), x.sign_bit());
    // 13 bits of the mantissa go; a carry moves on to the exponent.
    let bits = size.to_bits();
    let odd = V::int_and(V::int_sar::<13>(bits), V::int_splat(1));
    let up = V::int_add(bits, V::int_add(odd, V::int_splat(0xfff)));
    let rounded = V::from_bits(V::int_and(up, V::int_splat(!0x1fff)));
    // An f32 in [1/2, 1) has steps of 2⁻²⁴, so that the addition rounds to them.
    let small = size.add(V::splat(0.5)).sub(V::splat(0.5));
    let result = V::select(V::lt(size, V::splat(MIN_POSITIVE)), small, rounded);
    let fits = V::lt(size, V::splat(OVERFLOW));
    let result = V::select(fits, result, V::splat(f32::INFINITY)).xor_sign(sign);
    V::select(V::eq(x, x), result, V::splat(f32::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of an f16 by its bits.
    fn value(half: u16) -> f64 {
        let (exponent, mantissa) = (i32::from(half >> 10 & 0x1f), f64::from(half & 0x3ff));
        match exponent {
            0 => mantissa * 2f64.powi(-24),
            _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
        }
    }

    #[test]
    fn every_f16_is_itself_and_what_lies_between_goes_to_the_nearer() {
        for half in 0..0x7c00u16 {
            let (low, high) = (value(half), value(half + 1));
            let is_last = half == 0x7bff;
            let high_or_infinity = if is_last { f32::INFINITY } else { high as f32 };
            let middle = ((low + high) / 2.0) as f32;
            let to_even = if half % 2 == 0 { low as f32 } else { high_or_infinity };
            let cases = [
                (low as f32, low as f32),
                (middle, to_even),
                (f32::from_bits(middle.to_bits() - 1), low as f32),
                (f32::from_bits(middle.to_bits() + 1), high_or_infinity),
            ];
            for (x, want) in cases {
                assert_eq!(round_f16(x).to_bits(), want.to_bits(), "{x:e}");
                assert_eq!(round_f16(-x).to_bits(), (-want).to_bits(), "{x:e}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(round_f16(f32::MAX), f32::INFINITY);
        assert_eq!(round_f16(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert_eq!(round_f16(f32::from_bits(1)).to_bits(), 0);
        assert_eq!(round_f16(-f32::MIN_POSITIVE).to_bits(), (-0f32).to_bits());
        assert!(round_f16(f32::NAN).is_nan() && round_f16(-f32::NAN).is_nan());
        assert!(round_f16(f32::from_bits(0x7f80_0001)).is_nan());
    }
}
