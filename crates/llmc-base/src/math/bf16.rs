//! What a product of bf16 pairs is made of: `docs/numerics.md`, "Products in bf16".
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VDPBF16PS: two FMAs,
//! the odd elements first, subnormals flushed. AVX-512's instruction, FMAs with the control bits FTZ and DAZ, and the
//! functions here give the same bits.

use super::Lanes;
use super::lanes::fma_to_odd;

/// The f32 nearest to x that bf16 has, ties to even. A subnormal x gives a zero of its sign, NaN
/// stays NaN.
#[inline(always)]
pub fn round_bf16<V: Lanes>(x: V) -> V {
    let bits = x.to_bits();
    let sign = V::int_and(bits, V::int_splat(i32::MIN));
    let odd = V::int_and(V::int_sar::<16>(bits), V::int_splat(1));
    let up = V::int_add(bits, V::int_add(odd, V::int_splat(0x7fff)));
    let rounded = V::from_bits(V::int_and(up, V::int_splat(!0xffff)));
    let exponent = V::int_and(bits, V::int_splat(0x7f80_0000));
    let is_small = V::int_eq(exponent, V::int_splat(0));
    let result = V::select(is_small, V::from_bits(sign), rounded);
    V::select(V::eq(x, x), result, V::splat(f32::NAN))
}

/// `a · b + c` with one rounding, where a subnormal operand counts as a zero of its sign and a result
/// that is below the normal range after rounding to 24 bits becomes one.
pub fn fma_flushed(a: f32, b: f32, c: f32) -> f32 {
    let zeroed = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
    let sum = fma_to_odd(zeroed(a), zeroed(b), zeroed(c));
    // Half a unit in the 24th place below the smallest normal number: from here on rounding reaches it.
    let least = f64::from(f32::MIN_POSITIVE) * (1.0 - f64::from(f32::EPSILON) / 4.0);
    match sum.abs() < least {
        true => 0f32.copysign(sum as f32),
        false => sum as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(state: &mut u64) -> u32 {
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 32) as u32
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        let hex = |bits: u32| round_bf16(f32::from_bits(bits)).to_bits();
        assert_eq!(hex(0x3f80_8000), 0x3f80_0000);
        assert_eq!(hex(0x3f81_8000), 0x3f82_0000);
        assert_eq!(hex(0x3f80_8001), 0x3f81_0000);
        assert_eq!(hex(0xbf80_7fff), 0xbf80_0000);
        assert_eq!(hex(0x7f7f_ffff), 0x7f80_0000);
        assert_eq!(hex(0xff80_0000), 0xff80_0000);
        // Subnormals, of which the largest would otherwise round up to the smallest normal number.
        assert_eq!((hex(0x007f_ffff), hex(0x8000_0001)), (0, 0x8000_0000));
        assert!(round_bf16(f32::from_bits(0x7f80_0001)).is_nan());
        assert!(round_bf16(f32::from_bits(0xffff_ffff)).is_nan());
    }

    #[test]
    fn normal_results_are_those_of_fma() {
        let mut state = 1;
        for _ in 0..200_000 {
            let [a, b, c] = [0; 3].map(|_| f32::from_bits(step(&mut state)));
            let plain = super::super::fma(a, b, c);
            let has_small = [a, b, c, plain].iter().any(|x| x.abs() <= f32::MIN_POSITIVE);
            if !has_small {
                let flushed = fma_flushed(a, b, c);
                assert!(flushed.to_bits() == plain.to_bits() || flushed.is_nan() && plain.is_nan());
            }
        }
    }

    #[test]
    fn what_rounds_up_to_the_normal_range_in_24_bits_stays() {
        let least = f32::MIN_POSITIVE;
        let next = f32::from_bits(least.to_bits() + 1);
        // next − 2^−150: half way between the two, to the even one below it.
        assert_eq!(fma_flushed(-(2f32.powi(-100)), 2f32.powi(-50), next), least);
        // least − 2^−151 rounds to least in 24 bits, least − 1.5·2^−151 does not.
        assert_eq!(fma_flushed(-(2f32.powi(-100)), 2f32.powi(-51), least), least);
        assert_eq!(fma_flushed(-1.5 * 2f32.powi(-100), 2f32.powi(-51), least), 0.0);
        let minus = fma_flushed(1.5 * 2f32.powi(-100), 2f32.powi(-51), -least);
        assert_eq!(minus.to_bits(), (-0f32).to_bits());
        assert_eq!(fma_flushed(f32::from_bits(1), 1.0, f32::from_bits(1)), 0.0);
    }
}
