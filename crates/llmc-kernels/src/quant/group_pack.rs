//! Chooses codes, scales and minima of 4-bit groups.
//!
//! Of a group several scales are tried, from the range divided by a few numbers around 15; for the codes that each
//! gives, the scale and minimum with the smallest squared error follow by least squares; what leaves
//! the smallest sum of squared errors after rounding is taken, the first of equals. All sums go in order, so
//! the result is the same on every machine. Outputs past the last row are zeros.

use super::groups::{MAX_SIX_BITS, SUPER_BLOCK, check_group};
use super::{BLOCK, PANEL, Quants, f16_from_f32, f32_from_f16, panels};
use crate::error::{Error, check_len, product, rows_of};
use llmc_base::math::{Lanes, ROUND_TO_INTEGER};

/// What the range of a group is divided by: all of it in 15 steps, or a little more or less.
const STEPS: [f32; 11] = [15.0, 14.0, 14.25, 14.5, 14.75, 15.25, 15.5, 15.75, 16.0, 16.5, 17.0];
/// Times that scale and minimum follow the codes, and codes follow them.
const ROUNDS: usize = 3;
/// The largest finite f16.
const MAX_HALF: f32 = 65504.0;

/// Codes of rows [outputs, k] in 4-bit panels, with f16 scales and minima [panels, k/group, 16].
///
/// Errors: [`Error::Dimension`] if rows are not whole groups of whole blocks of 32 or a weight is not finite,
/// [`Error::Length`] if an output has another length.
pub fn quantize_groups(
    rows: &[f32],
    k: usize,
    group: usize,
    quants: &mut [u8],
    scales: &mut [u16],
    mins: &mut [u16],
) -> Result<(), Error> {
    let outputs = check(rows, k, group, quants)?;
    let expected = product(&[panels(outputs), k / group, PANEL])?;
    check_len("scale", scales, expected)?;
    check_len("min", mins, expected)?;
    quants.fill(0);
    scales.fill(0);
    mins.fill(0);
    for output in 0..outputs {
        for at in 0..k / group {
            let from = output * k + at * group;
            let w = &rows[from..from + group];
            let (scale, min) = fitted(w, Range::Any, &|v| f32_from_f16(half(v)));
            let place = (output / PANEL * (k / group) + at) * PANEL + output % PANEL;
            (scales[place], mins[place]) = (half(scale), half(min));
            for (j, &w) in w.iter().enumerate() {
                let code = code(w, scale, min, inverse(scale));
                Quants::put_code(quants, k, output, at * group + j, code as u8);
            }
        }
    }
    Ok(())
}

/// Codes of rows [outputs, k] in 4-bit panels, with 6-bit scales and minima [panels, k/32, 16] and f16
/// factors [panels, k/256, 16], as `Q4_K` has them.
///
/// Errors: as [`quantize_groups`]; rows are whole super-blocks of 256.
#[allow(clippy::too_many_arguments)] // They are the results.
pub fn quantize_q4_k(
    rows: &[f32],
    k: usize,
    quants: &mut [u8],
    scales: &mut [u8],
    mins: &mut [u8],
    d: &mut [u16],
    dmin: &mut [u16],
) -> Result<(), Error> {
    const BLOCKS: usize = SUPER_BLOCK / BLOCK;
    let outputs = check(rows, k, SUPER_BLOCK, quants)?;
    let expected = product(&[panels(outputs), k / BLOCK, PANEL])?;
    check_len("scale", scales, expected)?;
    check_len("min", mins, expected)?;
    check_len("d", d, expected / BLOCKS)?;
    check_len("dmin", dmin, expected / BLOCKS)?;
    quants.fill(0);
    scales.fill(0);
    mins.fill(0);
    d.fill(0);
    dmin.fill(0);
    for output in 0..outputs {
        let place =
            |per_row: usize, at: usize| (output / PANEL * per_row + at) * PANEL + output % PANEL;
        for over in 0..k / SUPER_BLOCK {
            let from = output * k + over * SUPER_BLOCK;
            let w = &rows[from..from + SUPER_BLOCK];
            let (blocks, _) = w.as_chunks::<BLOCK>();
            let mut wanted = [(0.0, 0.0); BLOCKS];
            for (wanted, w) in wanted.iter_mut().zip(blocks) {
                *wanted = fitted(w, Range::WithZero, &|v| v);
            }
            let most = |of: &dyn Fn(&(f32, f32)) -> f32| {
                wanted.iter().map(of).fold(0.0, <f32 as Lanes>::max) / f32::from(MAX_SIX_BITS)
            };
            let halves = [half(most(&|w| w.0)), half(most(&|w| w.1))];
            let at = place(k / SUPER_BLOCK, over);
            (d[at], dmin[at]) = (halves[0], halves[1]);
            let factors = halves.map(f32_from_f16);
            for (block, w) in blocks.iter().enumerate() {
                let (sc, m) = six_bits(w, factors, wanted[block]);
                let block = over * BLOCKS + block;
                let at = place(k / BLOCK, block);
                (scales[at], mins[at]) = (sc, m);
                let (scale, min) = (factors[0] * f32::from(sc), factors[1] * f32::from(m));
                for (j, &w) in w.iter().enumerate() {
                    let code = code(w, scale, min, inverse(scale));
                    Quants::put_code(quants, k, output, block * BLOCK + j, code as u8);
                }
            }
        }
    }
    Ok(())
}

/// The 6-bit scale and minimum around the wanted ones with the smallest error.
fn six_bits(w: &[f32], factors: [f32; 2], wanted: (f32, f32)) -> (u8, u8) {
    let near = |wanted: f32, factor: f32| {
        let middle = nearest(wanted * inverse(factor), 0.0, f32::from(MAX_SIX_BITS)) as u8;
        middle.saturating_sub(1)..=(middle + 1).min(MAX_SIX_BITS)
    };
    let mut best = (f64::INFINITY, (0, 0));
    for sc in near(wanted.0, factors[0]) {
        for m in near(wanted.1, factors[1]) {
            let off = error(w, factors[0] * f32::from(sc), factors[1] * f32::from(m));
            if off < best.0 {
                best = (off, (sc, m));
            }
        }
    }
    best.1
}

/// Which weights the codes of a group reach from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Range {
    /// From the smallest weight, whatever its sign.
    Any,
    /// From 0 or below: a minimum that is subtracted is not negative.
    WithZero,
}

/// Scale and minimum of a group, rounded by `round`.
fn fitted(w: &[f32], range: Range, round: &dyn Fn(f32) -> f32) -> (f32, f32) {
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for &w in w {
        low = <f32 as Lanes>::min(low, w);
        high = <f32 as Lanes>::max(high, w);
    }
    if range == Range::WithZero {
        low = <f32 as Lanes>::min(low, 0.0);
    }
    let mut best = (f64::INFINITY, (0.0, 0.0));
    for steps in STEPS {
        let (mut scale, mut min) = ((high - low) / steps, -low);
        for _ in 0..ROUNDS {
            let rounded = (round(scale), round(min));
            let off = error(w, rounded.0, rounded.1);
            if off < best.0 {
                best = (off, rounded);
            }
            (scale, min) = refitted(w, scale, min);
            if range == Range::WithZero && min < 0.0 {
                min = 0.0;
            }
        }
    }
    best.1
}

/// The scale and minimum with the smallest squared error for the codes that these give.
fn refitted(w: &[f32], scale: f32, min: f32) -> (f32, f32) {
    let (n, factor) = (w.len() as f64, inverse(scale));
    let (mut c1, mut c2, mut w1, mut cw) = (0.0, 0.0, 0.0, 0.0);
    for &w in w {
        let (c, w) = (f64::from(code(w, scale, min, factor)), f64::from(w));
        c1 += c;
        c2 += c * c;
        w1 += w;
        cw += c * w;
    }
    let determinant = n * c2 - c1 * c1;
    if determinant <= 0.0 {
        return (scale, min);
    }
    let scale = (n * cw - c1 * w1) / determinant;
    (scale as f32, ((scale * c1 - w1) / n) as f32)
}

/// The sum of squared errors of a group.
fn error(w: &[f32], scale: f32, min: f32) -> f64 {
    let factor = inverse(scale);
    w.iter().fold(0.0, |sum, &w| {
        let off = f64::from(w - (scale * code(w, scale, min, factor) - min));
        sum + off * off
    })
}

/// The code of a weight: of nothing but a minimum, 0.
fn code(w: f32, scale: f32, min: f32, factor: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { nearest((w + min) * factor, 0.0, 15.0) }
}

fn half(value: f32) -> u16 {
    f16_from_f32(value.clamp(-MAX_HALF, MAX_HALF))
}

/// 1/scale, or 0 for 0.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The nearest integer, ties to even, within limits of small magnitude.
fn nearest(value: f32, low: f32, high: f32) -> f32 {
    value.clamp(low - 1.0, high + 1.0).add(ROUND_TO_INTEGER).sub(ROUND_TO_INTEGER).clamp(low, high)
}

/// Rows, or what does not fit.
fn check(rows: &[f32], k: usize, group: usize, quants: &[u8]) -> Result<usize, Error> {
    let outputs = rows_of("rows", rows, k)?;
    check_group(k, group)?;
    if rows.iter().any(|w| !w.is_finite()) {
        return Err(Error::Dimension { what: "a weight is not finite" });
    }
    check_len("q", quants, product(&[panels(outputs), k, PANEL])? / 2)?;
    Ok(outputs)
}
