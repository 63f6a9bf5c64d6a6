//! Rows of f32 rounded to what a narrow KV cache holds.

use core::ops::Range;

use super::bf16_from_f32;
use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len, rows_of};
use crate::isa::{Kernel, dispatch};
use crate::parallel::Ctx;
use crate::simd::{LANES, Lanes, Simd};
use llmc_base::math::ROUND_TO_INTEGER;

/// Each element as the bits of the bf16 nearest to it, ties to even; NaN stays NaN.
///
/// Errors: [`Error::Length`] if y has another length.
pub fn to_bf16(ctx: &Ctx<'_>, x: &[f32], y: &mut [u16]) -> Result<(), Error> {
    check_len("y", y, x.len())?;
    let y = DisjointMut::new(y);
    ctx.split(x.len(), 1, &|range: Range<usize>| {
        // SAFETY: the ranges of tasks are disjoint.
        let y = unsafe { y.range(range.clone()) };
        for (y, x) in y.iter_mut().zip(&x[range]) {
            *y = bf16_from_f32(*x);
        }
    });
    Ok(())
}

/// Rows of `width` elements in 8 bits: `s = max |x| / 127` of a row and `q = round(x·(1/s))`, ties to even, or 0
/// where s is below 2⁻¹²⁶, ∞ or NaN.
///
/// x and q: [rows, width], scale: \[rows\].
///
/// Errors: [`Error::Length`], [`Error::Dimension`] for rows without elements.
pub fn quantize_rows(
    ctx: &Ctx<'_>,
    x: &[f32],
    width: usize,
    q: &mut [i8],
    scale: &mut [f32],
) -> Result<(), Error> {
    let rows = rows_of("x", x, width)?;
    check_len("q", q, x.len())?;
    check_len("scale", scale, rows)?;
    let (q, scale) = (DisjointMut::new(q), DisjointMut::new(scale));
    ctx.split(rows, width, &|rows: Range<usize>| {
        let elements = rows.start * width..rows.end * width;
        // SAFETY: the rows of tasks are disjoint.
        let (q, scale) = unsafe { (q.range(elements.clone()), scale.range(rows)) };
        dispatch(ctx.isa(), Quantize { x: &x[elements], width, q, scale });
    });
    Ok(())
}

/// Some rows.
struct Quantize<'a> {
    x: &'a [f32],
    width: usize,
    q: &'a mut [i8],
    scale: &'a mut [f32],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let rows = self.x.chunks_exact(self.width).zip(self.q.chunks_exact_mut(self.width));
        for ((x, q), scale) in rows.zip(self.scale) {
            let mut largest = V::splat(0.0);
            let mut i = 0;
            while i < x.len() {
                largest = V::max(largest, V::at(x, i, 0.0).abs());
                i += LANES;
            }
            let largest = largest.to_array();
            let largest = largest.iter().fold(0.0, |m, &v| <f32 as Lanes>::max(m, v));
            *scale = largest / 127.0;
            // False for NaN.
            if !(f32::MIN_POSITIVE..f32::INFINITY).contains(scale) {
                q.fill(0);
                continue;
            }
            let factor = V::splat(1.0 / *scale);
            let shift = V::splat(ROUND_TO_INTEGER);
            let mut i = 0;
            while i < x.len() {
                let rounded = V::at(x, i, 0.0).mul(factor).add(shift).sub(shift).to_array();
                for (q, &value) in q[i..].iter_mut().zip(&rounded) {
                    *q = value as i8;
                }
                i += LANES;
            }
        }
    }
}
