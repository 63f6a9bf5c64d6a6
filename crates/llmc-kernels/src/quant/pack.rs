//! Makes panels out of the rows of a matrix: rounds, finds scales, and puts the elements in the order
//! that the kernels read.
//!
//! Outputs past the last row are zeros. A scale is rounded to f16 first and the integers are chosen
//! for the rounded one, so that rounding it costs nothing.

use super::{BLOCK, PANEL, panels};
use crate::error::{Error, check_len, product, rows_of};
use llmc_base::math::{Lanes, ROUND_TO_INTEGER};

/// The bf16 nearest to a value, ties to even; beyond the range ∞, NaN stays NaN.
pub fn bf16_from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    // Just under half of a step, and the other bit where the result would be odd.
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The f16 nearest to a value, ties to even; beyond the range ∞, NaN stays NaN.
pub fn f16_from_f32(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = Lanes::abs(value);
    if magnitude.is_nan() {
        return sign | 0x7e00;
    }
    // 65520 is half-way between the largest f16 and the next power of two, to which ties go.
    if magnitude >= 65520.0 {
        return sign | 0x7c00;
    }
    if magnitude < 6.103_515_6e-5 {
        // A multiple of 2⁻²⁴: adding 1/2 leaves it in the low bits, rounded once.
        return sign | ((magnitude + 0.5).to_bits() - 0.5f32.to_bits()) as u16;
    }
    let bits = magnitude.to_bits() - (112 << 23);
    sign | (bits.wrapping_add(0xfff + (bits >> 13 & 1)) >> 13) as u16
}

/// The value of an f16, exactly.
pub fn f32_from_f16(half: u16) -> f32 {
    let bits = u32::from(half & 0x7fff) << 13;
    // 2¹¹², the distance between the exponents; ∞ and NaN have the largest exponent in both.
    let magnitude = match half & 0x7c00 {
        0x7c00 => f32::from_bits(bits | 0x7f80_0000),
        _ => f32::from_bits(bits) * f32::from_bits((127 + 112) << 23),
    };
    if half & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// Panels [panels, k, 16] of rows [outputs, k].
///
/// Errors: [`Error::Length`] if `to` has another length than the panels.
pub fn pack_f32(rows: &[f32], k: usize, to: &mut [f32]) -> Result<(), Error> {
    pack(rows, k, to, |value| value)
}

/// As [`pack_f32`], each element rounded by [`bf16_from_f32`].
///
/// Errors: as [`pack_f32`].
pub fn pack_bf16(rows: &[f32], k: usize, to: &mut [u16]) -> Result<(), Error> {
    pack(rows, k, to, bf16_from_f32)
}

fn pack<T: Copy + Default>(
    rows: &[f32],
    k: usize,
    to: &mut [T],
    round: impl Fn(f32) -> T,
) -> Result<(), Error> {
    let outputs = rows_of("rows", rows, k)?;
    check_len("to", to, product(&[panels(outputs), k, PANEL])?)?;
    to.fill(T::default());
    for (output, row) in rows.chunks_exact(k).enumerate() {
        let panel = &mut to[output / PANEL * k * PANEL..];
        for (at, &value) in row.iter().enumerate() {
            panel[at * PANEL + output % PANEL] = round(value);
        }
    }
    Ok(())
}

/// 8-bit panels of rows [outputs, k] and their scales as f16 bits: of a block, scale = max |w| / 127 and
/// q = w / scale to nearest even, within −127..=127.
///
/// Errors: [`Error::Dimension`] if k is not a multiple of 32 or a weight is not finite, [`Error::Length`] if
/// an output has another length.
pub fn quantize_i8(
    rows: &[f32],
    k: usize,
    quants: &mut [i8],
    scales: &mut [u16],
) -> Result<(), Error> {
    let outputs = check(rows, k, quants.len(), 1, scales)?;
    quants.fill(0);
    scales.fill(0);
    for output in 0..outputs {
        let (panel, lane) = (output / PANEL, output % PANEL);
        for block in 0..k / BLOCK {
            let from = output * k + block * BLOCK;
            let w = &rows[from..from + BLOCK];
            let half = f16_from_f32((largest(w).1 / 127.0).min(MAX_SCALE));
            scales[(panel * (k / BLOCK) + block) * PANEL + lane] = half;
            let factor = inverse(f32_from_f16(half));
            for (j, &w) in w.iter().enumerate() {
                let at = block * BLOCK + j;
                let place = panel * k * PANEL + at / 4 * 4 * PANEL + lane * 4 + at % 4;
                quants[place] = nearest(w * factor, -127.0, 127.0) as i8;
            }
        }
    }
    Ok(())
}

/// Divisors of the weight of largest magnitude that are tried as scales of 4-bit blocks: it becomes
/// −8 or so, or 7 or so.
const DIVISORS: [f32; 14] =
    [-8.0, -7.75, -7.5, -7.25, -7.0, -8.25, -8.5, -8.75, -9.0, 7.0, 7.25, 7.5, 7.75, 8.0];

/// 4-bit panels of rows [outputs, k] and their scales as f16 bits: of a block, the scale among a few that
/// leaves the smallest sum of squared errors, the first of equals, and q = w / scale to nearest
/// even, within −8..=7.
///
/// Errors: as [`quantize_i8`].
pub fn quantize_i4(
    rows: &[f32],
    k: usize,
    quants: &mut [u8],
    scales: &mut [u16],
) -> Result<(), Error> {
    let outputs = check(rows, k, quants.len(), 2, scales)?;
    quants.fill(0);
    scales.fill(0);
    for output in 0..outputs {
        let (panel, lane) = (output / PANEL, output % PANEL);
        for block in 0..k / BLOCK {
            let from = output * k + block * BLOCK;
            let w = &rows[from..from + BLOCK];
            let (signed, _) = largest(w);
            let mut best = (f32::INFINITY, 0, [0i8; BLOCK]);
            for divisor in DIVISORS {
                let half = f16_from_f32((signed / divisor).clamp(-MAX_SCALE, MAX_SCALE));
                let scale = f32_from_f16(half);
                let factor = inverse(scale);
                let mut q = [0i8; BLOCK];
                let mut error = 0.0;
                for (q, &w) in q.iter_mut().zip(w) {
                    let rounded = nearest(w * factor, -8.0, 7.0);
                    let off = w - rounded * scale;
                    error += off * off;
                    *q = rounded as i8;
                }
                if error < best.0 {
                    best = (error, half, q);
                }
            }
            let (_, half, q) = best;
            scales[(panel * (k / BLOCK) + block) * PANEL + lane] = half;
            for (j, &q) in q.iter().enumerate() {
                let at = block * BLOCK + j;
                let place = panel * k * PANEL / 2 + at / 8 * 4 * PANEL + lane * 4 + at % 4;
                quants[place] |= (q as u8 & 0x0f) << (at / 4 % 2 * 4);
            }
        }
    }
    Ok(())
}

/// The largest finite f16.
const MAX_SCALE: f32 = 65504.0;

/// Rows, or what does not fit; `per_unit` quants share a unit.
fn check(
    rows: &[f32],
    k: usize,
    units: usize,
    per_unit: usize,
    scales: &[u16],
) -> Result<usize, Error> {
    let outputs = rows_of("rows", rows, k)?;
    if !k.is_multiple_of(BLOCK) {
        return Err(Error::Dimension { what: "the width is not a multiple of 32" });
    }
    if rows.iter().any(|w| !w.is_finite()) {
        return Err(Error::Dimension { what: "a weight is not finite" });
    }
    let elements = product(&[panels(outputs), k, PANEL])?;
    check_len("scale", scales, elements / BLOCK)?;
    match units == elements / per_unit {
        true => Ok(outputs),
        false => Err(Error::Length { operand: "q", expected: elements / per_unit, actual: units }),
    }
}

/// The weight of largest magnitude, the first of equals, and its magnitude.
fn largest(w: &[f32]) -> (f32, f32) {
    w.iter().fold((0.0, 0.0), |best, &w| {
        let magnitude = Lanes::abs(w);
        if magnitude > best.1 { (w, magnitude) } else { best }
    })
}

/// 1/scale, or 0 for 0.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The nearest integer, ties to even, within limits of small magnitude.
fn nearest(value: f32, low: f32, high: f32) -> f32 {
    value.clamp(low - 1.0, high + 1.0).add(ROUND_TO_INTEGER).sub(ROUND_TO_INTEGER).clamp(low, high)
}
