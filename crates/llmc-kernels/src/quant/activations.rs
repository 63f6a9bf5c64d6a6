//! Activations rounded to 8 bits in blocks of 32, as the integer products take them.
//!
//! Of a block: `s = max |x| / 127`; where s is a normal number `q = round(x·(1/s))`, ties to
//! even, which lies in −127..=127; else all q are 0 (so a block that holds ∞ or NaN leaves it to
//! its scale to spoil the result, and one below 127·2⁻¹²⁶ counts as zeros).

use super::BLOCK;
use crate::simd::LANES;
use crate::simd::bytes::ByteDot;
use llmc_base::math::ROUND_TO_INTEGER;

/// Where rounded activations lie in scratch: all quads, all starts, all scales, and within each the rows
/// in groups that meet the weights together, side by side for each quad or block.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Rows of x.
    pub rows: usize,
    /// Their width, a multiple of [`BLOCK`].
    pub k: usize,
}

/// Some rows: four rounded activations to a word, and per block what the sum starts from and the scale.
/// Element i of row r is at `i·step + r`.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// \[k/4, step\].
    pub quads: *const i32,
    /// \[k/32, step\]: minus the sum of the block, times what is added to each weight.
    pub starts: *const i32,
    /// \[k/32, step\].
    pub scales: *const f32,
    /// Rows of the group.
    pub step: usize,
}

impl Layout {
    /// Words of scratch.
    pub fn words(&self) -> usize {
        let blocks = self.rows.saturating_mul(self.k / BLOCK);
        blocks.saturating_mul(BLOCK / 4 + 2)
    }

    /// Rows of the group that begins at row `first`: the largest power of two up to `most` that is left.
    #[inline(always)]
    pub fn group(&self, first: usize, most: usize) -> usize {
        let mut size = most;
        while size > self.rows - first {
            size /= 2;
        }
        size
    }

    /// Where the group lies that begins at row `first`.
    ///
    /// # Safety
    /// `scratch` is valid for [`Layout::words`] words, and a group of `step` rows begins there.
    #[inline(always)]
    pub unsafe fn rows(&self, scratch: *const f32, first: usize, step: usize) -> Rows {
        let blocks = self.k / BLOCK;
        // SAFETY: the caller's.
        unsafe {
            let starts = scratch.add(self.rows * self.k / 4);
            Rows {
                quads: scratch.add(first * self.k / 4).cast(),
                starts: starts.add(first * blocks).cast(),
                scales: starts.add((self.rows + first) * blocks),
                step,
            }
        }
    }
}

/// Rounds row `r` of a group; `offset` is what is added to each weight.
///
/// # Safety
/// `to` points into scratch that is writable, and this row is the caller's alone.
#[inline(always)]
pub(super) unsafe fn round_row<V: ByteDot>(x: &[f32], offset: i32, to: Rows, r: usize) {
    for (block, x) in x.chunks_exact(BLOCK).enumerate() {
        let (a, b) = (V::at(x, 0, 0.0), V::at(x, LANES, 0.0));
        // Of floats without a sign the order is that of their bits, and NaN is above all others: a
        // maximum of integers, which the compiler takes apart as it likes.
        let magnitudes = [a.abs().to_array(), b.abs().to_array()];
        let bits = magnitudes.as_flattened().iter().map(|x| x.to_bits());
        let scale = f32::from_bits(bits.fold(0, u32::max)) / 127.0;
        // False for NaN.
        let is_normal = (f32::MIN_POSITIVE..f32::INFINITY).contains(&scale);
        let mut quants = [0i32; BLOCK];
        if is_normal {
            let factor = V::splat(1.0 / scale);
            let shift = V::splat(ROUND_TO_INTEGER);
            let (low, high) = quants.split_at_mut(LANES);
            for (x, quants) in [(a, low), (b, high)] {
                let rounded = x.mul(factor).add(shift).sub(shift).to_array();
                for (quant, &value) in quants.iter_mut().zip(&rounded) {
                    // SAFETY: an integer in −127..=127, since |x| ≤ 127·scale but for roundings of less
                    // than half.
                    *quant = unsafe { value.to_int_unchecked() };
                }
            }
        }
        let sum: i32 = quants.iter().sum();
        let bytes = quants.map(|q| q as i8 as u8);
        // SAFETY: the block is one of the row's.
        unsafe {
            for (i, quad) in bytes.as_chunks::<4>().0.iter().enumerate() {
                let at = (block * (BLOCK / 4) + i) * to.step + r;
                to.quads.add(at).cast_mut().write(i32::from_le_bytes(*quad));
            }
            let at = block * to.step + r;
            to.starts.add(at).cast_mut().write(-sum * offset);
            to.scales.add(at).cast_mut().write(scale);
        }
    }
}
