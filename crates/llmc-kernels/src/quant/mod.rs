//! Linear maps by weights that are stored narrow, for inference.
//!
//! Weights stand in *panels* of 16 outputs, in the order in which they are read: for
//! each k the 16 outputs side by side. So a product takes one load for 16 outputs and no
//! shuffle, whether there is one row of activations or many, a thread streams one
//! contiguous span, and a file can hold what the kernel reads.
//!
//! - [`packed_linear`]: panels of f32, bf16 or f16, widened exactly; the FMA chain over k of
//!   `linear`, so the bits are those of `linear` by the widened weights.
//! - [`quantized_linear`]: panels of 8- or 4-bit integers with one scale per output and
//!   block of 32 k; activations are rounded to 8 bits per block of 32 too. Sums within a
//!   block are integers, exact; blocks are added in one FMA chain.
//! - [`group_quantized_linear`]: 4-bit weights `scale·c − min`, with a scale and a minimum per group, or per block of a
//!   super-block as k-quants have them.
//!
//! `docs/numerics.md` has the roundings, `pack` makes the panels.

mod activations;
mod blocks;
mod embed;
mod floats;
mod group_pack;
mod groups;
mod pack;
mod rows;
#[cfg(test)]
mod tests;

pub use blocks::{group_quantized_linear, quantized_linear, quantized_scratch_len};
pub use embed::{packed_embedding, quantized_embedding};
pub use floats::packed_linear;
pub use group_pack::{quantize_groups, quantize_q4_k};
pub use groups::{GroupScales, SUPER_BLOCK, group_weights};
pub use pack::{
    bf16_from_f32, f16_from_f32, f32_from_f16, pack_bf16, pack_f32, quantize_i4, quantize_i8,
};
pub use rows::{quantize_rows, to_bf16};

use crate::error::{Error, check_len, product};
use crate::simd::LANES;

/// Activations and weights that share a scale.
pub const BLOCK: usize = 32;
/// Outputs of a panel.
pub const PANEL: usize = LANES;
/// Multiplications below which one thread is faster than waking others.
const MIN_PARALLEL_WORK: usize = 1 << 16;

/// The panels of `outputs` rows.
pub fn panels(outputs: usize) -> usize {
    outputs.div_ceil(PANEL)
}

/// Panels of floats [panels, K, 16].
#[derive(Clone, Copy, Debug)]
pub enum Packed<'a> {
    /// f32.
    F32(&'a [f32]),
    /// The bits of bf16.
    Bf16(&'a [u16]),
    /// The bits of f16.
    F16(&'a [u16]),
}

/// Panels of integers.
#[derive(Clone, Copy, Debug)]
pub enum Quants<'a> {
    /// [panels, K/4, 16, 4]: element (g, q, r, i) is output 16g + r, k = 4q + i.
    I8(&'a [i8]),
    /// [panels, K/8, 16, 4, 2], two to a byte, the first in its low half, two's complement:
    /// element (g, o, r, i, h) is output 16g + r, k = 8o + 4h + i.
    I4(&'a [u8]),
}

/// Scales [panels, K/32, 16].
#[derive(Clone, Copy, Debug)]
pub enum Scales<'a> {
    /// f32.
    F32(&'a [f32]),
    /// The bits of f16.
    F16(&'a [u16]),
}

impl Packed<'_> {
    fn check(&self, outputs: usize, k: usize) -> Result<(), Error> {
        let expected = product(&[panels(outputs), k, PANEL])?;
        match self {
            Packed::F32(w) => check_len("w", w, expected),
            Packed::Bf16(w) | Packed::F16(w) => check_len("w", w, expected),
        }
    }
}

/// Refuses quants and scales of other lengths, and rows that are not whole blocks.
fn check_quants(
    quants: Quants<'_>,
    scales: Scales<'_>,
    outputs: usize,
    k: usize,
) -> Result<(), Error> {
    if !k.is_multiple_of(BLOCK) {
        return Err(Error::Dimension { what: "the width is not a multiple of 32" });
    }
    let expected = product(&[panels(outputs), k, PANEL])?;
    match quants {
        Quants::I8(q) => check_len("q", q, expected)?,
        Quants::I4(q) => check_len("q", q, expected / 2)?,
    }
    match scales {
        Scales::F32(s) => check_len("scale", s, expected / BLOCK),
        Scales::F16(s) => check_len("scale", s, expected / BLOCK),
    }
}

/// How many tasks share the panels of a product.
fn tasks(ctx: &crate::Ctx<'_>, rows: usize, outputs: usize, k: usize) -> usize {
    let work = rows.saturating_mul(outputs).saturating_mul(k);
    if work < MIN_PARALLEL_WORK { 1 } else { ctx.threads().min(panels(outputs)) }
}
