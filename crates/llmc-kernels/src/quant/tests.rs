//! Products by narrow weights against plain transcriptions of their definitions.

mod groups;

use std::vec;
use std::vec::Vec;

use super::*;
use crate::testing::{Values, assert_bits, everywhere};
use crate::{Ctx, Serial};
use llmc_base::math::Lanes;

/// (rows, outputs, k) around the boundaries of tiles and panels; k is a multiple of 32.
const SHAPES: [(usize, usize, usize); 7] = if cfg!(miri) {
    [(1, 17, 32), (2, 3, 64), (0, 5, 32), (1, 0, 32), (3, 16, 0), (5, 18, 32), (1, 1, 32)]
} else {
    [(1, 300, 256), (2, 77, 512), (3, 64, 96), (8, 33, 64), (17, 130, 160), (1, 1, 32), (5, 16, 0)]
};

/// The chain of `linear` by one row of weights.
fn chain(x: &[f32], w: impl Iterator<Item = f32>) -> f32 {
    x.iter().zip(w).fold(0.0, |sum, (&x, w)| Lanes::fma(x, w, sum))
}

fn round_bf16(value: f32) -> f32 {
    f32::from_bits(u32::from(bf16_from_f32(value)) << 16)
}

/// An f16 by its definition.
fn from_f16(half: u16) -> f32 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(half >> 10 & 31), f64::from(half & 0x3ff));
    let magnitude = match exponent {
        0 => mantissa * f64::powi(2.0, -24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + mantissa) * f64::powi(2.0, exponent - 25),
    };
    (sign * magnitude) as f32
}

#[test]
fn every_f16_is_read_and_written() {
    struct All<'a>(&'a [u16], &'a mut Vec<f32>);
    impl crate::isa::Kernel for All<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: crate::simd::Simd>(self) {
            for halves in self.0.as_chunks::<16>().0 {
                // SAFETY: there are 16.
                self.1.extend(unsafe { V::load_f16(halves.as_ptr()) }.to_array());
            }
        }
    }
    let all: Vec<u16> = (0..=u16::MAX).step_by(if cfg!(miri) { 97 } else { 1 }).collect();
    let all = &all[..all.len() / 16 * 16];
    for isa in crate::Isa::available() {
        let mut read = Vec::new();
        crate::isa::dispatch(isa, All(all, &mut read));
        for (&half, &read) in all.iter().zip(&read) {
            let expected = from_f16(half);
            let same = read.to_bits() == expected.to_bits() || read.is_nan() && expected.is_nan();
            assert!(same, "{half:#x} on {}: {read:e}, expected {expected:e}", isa.name());
            if !expected.is_nan() {
                assert_eq!(f32_from_f16(half).to_bits(), expected.to_bits());
                assert_eq!(f16_from_f32(expected), half);
            }
        }
    }
    // Between two neighbours: to the nearer one, half-way to the even one.
    for half in (0..0x7bff).step_by(if cfg!(miri) { 971 } else { 1 }) {
        let (low, high) = (f64::from(from_f16(half)), f64::from(from_f16(half + 1)));
        let at = |part: f64| f16_from_f32((low + (high - low) * part) as f32);
        assert_eq!([at(0.25), at(0.75)], [half, half + 1]);
        assert_eq!(at(0.5), half + half % 2);
    }
    assert_eq!([f16_from_f32(65519.9), f16_from_f32(-65520.0)], [0x7bff, 0xfc00]);
    assert_eq!(f16_from_f32(f32::from_bits(3)), 0);
}

#[test]
fn bf16_rounds_to_nearest_even() {
    let cases = [(0x3f80_8000, 0x3f80), (0x3f81_8000, 0x3f82), (0x3f80_8001, 0x3f81)];
    cases.iter().for_each(|&(from, to)| assert_eq!(bf16_from_f32(f32::from_bits(from)), to));
    assert_eq!(bf16_from_f32(f32::MAX), 0x7f80);
    assert!(round_bf16(f32::NAN).is_nan());
}

#[test]
fn packed_floats_give_the_bits_of_linear() {
    for (rows, outputs, k) in SHAPES {
        let mut values = Values::new((rows * 1000 + outputs) as u64);
        let (x, w) = (values.wild(rows * k), values.wild(outputs * k));
        let bias = values.units(outputs);
        let mut wide = vec![0.0; panels(outputs) * k * PANEL];
        let mut narrow = vec![0; wide.len()];
        if k > 0 {
            pack_f32(&w, k, &mut wide).unwrap();
            pack_bf16(&w, k, &mut narrow).unwrap();
        }
        let half: Vec<u16> = wide.iter().map(|&w| f16_from_f32(w)).collect();
        type Case<'a> = (Packed<'a>, fn(f32) -> f32);
        let cases: [Case; 3] = [
            (Packed::F32(&wide), |w| w),
            (Packed::Bf16(&narrow), round_bf16),
            (Packed::F16(&half), |w| from_f16(f16_from_f32(w))),
        ];
        for (packed, round) in cases {
            let mut expected = Vec::new();
            for row in 0..rows {
                for output in 0..outputs {
                    let x = &x[row * k..(row + 1) * k];
                    let w = w[output * k..(output + 1) * k].iter().map(|&w| round(w));
                    expected.push(chain(x, w) + bias[output]);
                }
            }
            everywhere(|ctx| {
                let mut y = vec![f32::NAN; rows * outputs];
                packed_linear(ctx, &x, k, packed, Some(&bias), outputs, &mut y).unwrap();
                assert_bits("packed_linear", ctx, &y, &expected);
            });
        }
    }
}

/// Quantised weights as rows: integers [outputs, k] and scales [outputs, k/32].
struct Weights {
    quants: Vec<i32>,
    scales: Vec<f32>,
}

fn rounded_block(x: &[f32]) -> (Vec<i32>, f32) {
    let largest = x.iter().fold(0.0, |m, x| <f32 as Lanes>::max(m, x.abs()));
    let scale = largest / 127.0;
    let is_normal = (f32::MIN_POSITIVE..f32::INFINITY).contains(&scale);
    let factor = if is_normal { 1.0 / scale } else { 0.0 };
    (x.iter().map(|x| (x * factor).round_ties_even() as i32).collect(), scale)
}

/// The definition, block by block.
fn quantized(x: &[f32], k: usize, weights: &Weights, output: usize) -> f32 {
    let mut sum = 0.0;
    for (block, x) in x.chunks_exact(BLOCK).enumerate() {
        let (q, scale) = rounded_block(x);
        let w = &weights.quants[output * k + block * BLOCK..][..BLOCK];
        let product: i32 = q.iter().zip(w).map(|(x, w)| x * w).sum();
        let scale = weights.scales[output * (k / BLOCK) + block] * scale;
        sum = Lanes::fma(product as f32, scale, sum);
    }
    sum
}

/// Panels out of rows by the layout's definition, independent of `pack`.
fn panels_of(weights: &Weights, outputs: usize, k: usize) -> (Vec<i8>, Vec<u8>, Vec<f32>) {
    let n = panels(outputs) * k * PANEL;
    let (mut bytes, mut nibbles, mut scales) = (vec![0; n], vec![0u8; n / 2], vec![0.0; n / BLOCK]);
    for output in 0..outputs {
        let (g, r) = (output / PANEL, output % PANEL);
        for at in 0..k {
            let q = weights.quants[output * k + at];
            bytes[((g * (k / 4) + at / 4) * PANEL + r) * 4 + at % 4] = q as i8;
            // Two's complement of four bits; the fifth dim, of two, is within the byte.
            let element = (((g * (k / 8) + at / 8) * PANEL + r) * 4 + at % 4) * 2 + at / 4 % 2;
            nibbles[element / 2] |= (q as u8 & 15) << (element % 2 * 4);
            scales[(g * (k / BLOCK) + at / BLOCK) * PANEL + r] =
                weights.scales[output * (k / BLOCK) + at / BLOCK];
        }
    }
    (bytes, nibbles, scales)
}

#[test]
fn quantised_weights_give_the_bits_of_the_definition() {
    for (rows, outputs, k) in SHAPES {
        let mut values = Values::new((rows * 1000 + outputs) as u64);
        let mut x = values.wild(rows * k);
        // Blocks of zeros, too small to scale, and of large values.
        for (i, block) in x.chunks_exact_mut(BLOCK).enumerate() {
            match i % 5 {
                0 => block.fill(0.0),
                1 => block.iter_mut().for_each(|x| *x *= 1e-40),
                2 => block.iter_mut().for_each(|x| *x = x.clamp(-1.0, 1.0)),
                _ => {}
            }
        }
        let bias = values.units(outputs);
        for bits in [8, 4] {
            let low = -(1i32 << (bits - 1));
            let weights = Weights {
                quants: (0..outputs * k)
                    .map(|_| low + (values.word() % (1 << bits)) as i32)
                    .collect(),
                scales: values.units(outputs * k / BLOCK),
            };
            let half = Weights {
                quants: weights.quants.clone(),
                scales: weights.scales.iter().map(|&s| from_f16(f16_from_f32(s))).collect(),
            };
            let (bytes, nibbles, scales) = panels_of(&weights, outputs, k);
            let halves: Vec<u16> = scales.iter().map(|&s| f16_from_f32(s)).collect();
            let quants = if bits == 8 { Quants::I8(&bytes) } else { Quants::I4(&nibbles) };
            for (weights, scales) in
                [(&weights, Scales::F32(&scales)), (&half, Scales::F16(&halves))]
            {
                let mut expected = Vec::new();
                for row in 0..rows {
                    for (output, bias) in bias.iter().enumerate() {
                        let sum = quantized(&x[row * k..(row + 1) * k], k, weights, output);
                        expected.push(sum + bias);
                    }
                }
                everywhere(|ctx| {
                    let mut y = vec![f32::NAN; rows * outputs];
                    let mut scratch = vec![f32::NAN; quantized_scratch_len(rows, k)];
                    quantized_linear(
                        ctx,
                        &x,
                        k,
                        quants,
                        scales,
                        Some(&bias),
                        outputs,
                        &mut y,
                        &mut scratch,
                    )
                    .unwrap();
                    assert_bits("quantized_linear", ctx, &y, &expected);
                });
                if k == 0 || outputs == 0 {
                    continue;
                }
                let ids = values.ids(9, outputs);
                let row = |id: i32| {
                    (0..k).map(move |at| {
                        let output = id as usize;
                        let scale = weights.scales[output * (k / BLOCK) + at / BLOCK];
                        weights.quants[output * k + at] as f32 * scale
                    })
                };
                let expected: Vec<f32> = ids.iter().flat_map(|&id| row(id)).collect();
                everywhere(|ctx| {
                    let mut y = vec![f32::NAN; 9 * k];
                    quantized_embedding(ctx, quants, scales, k, outputs, &ids, &mut y).unwrap();
                    assert_bits("quantized_embedding", ctx, &y, &expected);
                });
            }
        }
    }
}

#[test]
fn a_value_that_is_not_finite_spoils_its_row_alone() {
    let (quants, scales) = (vec![1i8; 64 * PANEL], vec![1.0; 2 * PANEL]);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = vec![1.0; 3 * 64];
        x[64 + 40] = bad;
        everywhere(|ctx| {
            let mut y = vec![0.0; 3];
            let mut scratch = vec![0.0; quantized_scratch_len(3, 64)];
            let (q, s) = (Quants::I8(&quants), Scales::F32(&scales));
            quantized_linear(ctx, &x, 64, q, s, None, 1, &mut y, &mut scratch).unwrap();
            assert!(y[1].is_nan() && y[0].is_finite() && y[0] == y[2], "{bad}: {y:?}");
        });
    }
}

#[test]
fn embeddings_of_floats_widen() {
    let (outputs, k) = (37, 5);
    let mut values = Values::new(5);
    let w = values.wild(outputs * k);
    let ids = values.ids(11, outputs);
    let mut wide = vec![0.0; panels(outputs) * k * PANEL];
    let mut narrow = vec![0; wide.len()];
    pack_f32(&w, k, &mut wide).unwrap();
    pack_bf16(&w, k, &mut narrow).unwrap();
    let half: Vec<u16> = wide.iter().map(|&w| f16_from_f32(w)).collect();
    type Case<'a> = (Packed<'a>, fn(f32) -> f32);
    let cases: [Case; 3] = [
        (Packed::F32(&wide), |w| w),
        (Packed::Bf16(&narrow), round_bf16),
        (Packed::F16(&half), |w| from_f16(f16_from_f32(w))),
    ];
    for (packed, round) in cases {
        let expected: Vec<f32> = ids
            .iter()
            .flat_map(|&id| w[id as usize * k..(id as usize + 1) * k].iter().map(|&w| round(w)))
            .collect();
        everywhere(|ctx| {
            let mut y = vec![0.0; ids.len() * k];
            packed_embedding(ctx, packed, k, outputs, &ids, &mut y).unwrap();
            assert_bits("packed_embedding", ctx, &y, &expected);
        });
    }
}

/// Rows of weights, packed and read back by an embedding of every row; the relative error.
fn error_of(bits: u32, w: &[f32], outputs: usize, k: usize) -> f64 {
    let n = panels(outputs) * k * PANEL;
    let (mut bytes, mut nibbles, mut scales) = (vec![0; n], vec![0; n / 2], vec![0; n / BLOCK]);
    let quants = match bits {
        8 => {
            quantize_i8(w, k, &mut bytes, &mut scales).unwrap();
            Quants::I8(&bytes)
        }
        _ => {
            quantize_i4(w, k, &mut nibbles, &mut scales).unwrap();
            Quants::I4(&nibbles)
        }
    };
    let ids: Vec<i32> = (0..outputs as i32).collect();
    let mut y = vec![0.0; outputs * k];
    let ctx = Ctx::detect(&Serial);
    quantized_embedding(&ctx, quants, Scales::F16(&scales), k, outputs, &ids, &mut y).unwrap();
    let square = |x: f32| f64::from(x) * f64::from(x);
    let off: f64 = w.iter().zip(&y).map(|(w, y)| square(w - y)).sum();
    (off / w.iter().map(|w| square(*w)).sum::<f64>()).sqrt()
}

#[test]
fn weights_survive_rounding_within_the_step_of_their_format() {
    let (outputs, k) = if cfg!(miri) { (3, 32) } else { (50, 256) };
    let w = Values::new(7).units(outputs * k);
    // Uniform weights: the step is 1/127 of the largest, the error 1/√12 of a step.
    let eight = error_of(8, &w, outputs, k);
    assert!((0.002..0.006).contains(&eight), "{eight}");
    let four = error_of(4, &w, outputs, k);
    assert!((0.03..0.08).contains(&four), "{four}");
    // Exactly representable weights stay.
    let exact: Vec<f32> = (0..outputs * k).map(|i| (i % 16) as f32 * 0.5 - 4.0).collect();
    assert_eq!(error_of(4, &exact, outputs, k), 0.0);
    let exact: Vec<f32> = (0..outputs * k).map(|i| (i % 32 * 8) as f32 - 121.0).collect();
    assert_eq!(
        error_of(8, &exact.iter().map(|w| w.min(127.0)).collect::<Vec<_>>(), outputs, k),
        0.0
    );
    // Weights that no f16 scale reaches become zeros, not garbage.
    assert_eq!(error_of(8, &vec![1e-30; outputs * k], outputs, k), 1.0);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let ctx = Ctx::detect(&Serial);
    let (q, s) = (vec![0i8; 32 * PANEL], vec![0.0; PANEL]);
    let (quants, scales) = (Quants::I8(&q), Scales::F32(&s));
    let mut y = [0.0; 4];
    let refused = |k: usize, quants, x: &[f32], y: &mut [f32], scratch: &mut [f32]| {
        quantized_linear(&ctx, x, k, quants, scales, None, 4, y, scratch).unwrap_err()
    };
    let mut scratch = vec![0.0; 100];
    let mut check = |k, quants, x: &[f32], expected| {
        assert_eq!(refused(k, quants, x, &mut y, &mut scratch), expected);
    };
    let what = "the width is not a multiple of 32";
    check(31, quants, &[0.0; 31], Error::Dimension { what });
    check(32, quants, &[0.0; 31], Error::Length { operand: "x", expected: 32, actual: 31 });
    let short = Quants::I4(&[0; 7]);
    check(32, short, &[0.0; 32], Error::Length { operand: "q", expected: 256, actual: 7 });
    let error = refused(32, quants, &[0.0; 32], &mut y, &mut []);
    assert_eq!(error, Error::Scratch { expected: 10, actual: 0 });
    let mut to = (vec![0; 32 * PANEL], vec![0; PANEL]);
    let what = "a weight is not finite";
    let error = quantize_i8(&[f32::NAN; 32], 32, &mut to.0, &mut to.1).unwrap_err();
    assert_eq!(error, Error::Dimension { what });
    let w = Packed::Bf16(&[0; 16]);
    let error = packed_embedding(&ctx, w, 1, 3, &[3], &mut [0.0]).unwrap_err();
    assert_eq!(error, Error::Index { operand: "ids", value: 3, bound: 3 });
}

#[test]
fn rows_of_a_cache_are_rounded_as_defined() {
    let mut values = Values::new(9);
    for width in crate::testing::WIDTHS {
        let rows = if width > 100 { 80 } else { 7 };
        let mut x = values.wild(rows * width);
        for (row, x) in x.chunks_exact_mut(width).enumerate().take(6) {
            match row {
                0 => x.fill(-0.0),
                1 => x[width / 2] = f32::NEG_INFINITY,
                2 => x[width - 1] = f32::NAN,
                3 => x.iter_mut().for_each(|x| *x = x.signum() * 1e-37),
                4 => x.iter_mut().enumerate().for_each(|(i, x)| *x = i as f32 - 0.5),
                _ => x[0] = f32::MAX,
            }
        }
        let scales: Vec<f32> = x
            .chunks_exact(width)
            .map(|x| x.iter().fold(0.0, |m, x| Lanes::max(m, x.abs())) / 127.0)
            .collect();
        let q: Vec<i8> = x
            .iter()
            .enumerate()
            .map(|(i, x)| match scales[i / width] {
                s if s >= f32::MIN_POSITIVE => (x * (1.0 / s)).round_ties_even() as i8,
                _ => 0,
            })
            .collect();
        let halves: Vec<u16> = x.iter().map(|x| bf16_from_f32(*x)).collect();
        everywhere(|ctx| {
            let (mut got, mut scale) = (vec![99; x.len()], vec![-1.0; rows]);
            quantize_rows(ctx, &x, width, &mut got, &mut scale).unwrap();
            assert_bits("scale", ctx, &scale, &scales);
            assert_eq!(got, q, "{width}");
            let mut got = vec![1; x.len()];
            to_bf16(ctx, &x, &mut got).unwrap();
            assert_eq!(got, halves, "{width}");
        });
    }
    let ctx = Ctx::detect(&Serial);
    let error = quantize_rows(&ctx, &[0.0; 3], 2, &mut [0; 3], &mut [0.0]).unwrap_err();
    assert_eq!(error, Error::Length { operand: "x", expected: 2, actual: 3 });
    let error = to_bf16(&ctx, &[0.0], &mut []).unwrap_err();
    assert_eq!(error, Error::Length { operand: "y", expected: 1, actual: 0 });
}
