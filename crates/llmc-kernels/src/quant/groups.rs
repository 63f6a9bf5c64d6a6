//! Scales and minima of 4-bit weights `scale·c − min`, c in 0..=15.
//!
//! - groups of 32, 64, 128 … neighbours with an f16 scale and an f16 minimum: our own group-wise int4;
//! - super-blocks of 256 with f16 factors d and dmin, in which each block of 32 has a 6-bit scale and a 6-bit
//!   minimum: `scale = d·sc, min = dmin·m`, exact in f32. These are the k-quants `Q4_K` of ggml
//!   (<https://github.com/ggml-org/ggml>); a 6-bit number takes a byte here, 4.625 bits per weight.

use super::{BLOCK, PANEL, Quants, Scales, panels};
use crate::error::{Error, check_len, product};
use crate::simd::{LANES, Simd};

/// Neighbours of a super-block.
pub const SUPER_BLOCK: usize = 256;
/// The largest 6-bit number.
pub(super) const MAX_SIX_BITS: u8 = 63;

/// Scales and minima of groups.
#[derive(Clone, Copy, Debug)]
pub enum GroupScales<'a> {
    /// The bits of f16, [panels, K/group, 16] each.
    F16 {
        /// Neighbours of a group, a multiple of 32.
        group: usize,
        /// Scales.
        scale: &'a [u16],
        /// Minima.
        min: &'a [u16],
    },
    /// Of super-blocks.
    Super {
        /// sc of each block, [panels, K/32, 16].
        scale: &'a [u8],
        /// m of each block, [panels, K/32, 16].
        min: &'a [u8],
        /// The bits of the f16 d, [panels, K/256, 16].
        d: &'a [u16],
        /// The bits of the f16 dmin, [panels, K/256, 16].
        dmin: &'a [u16],
    },
}

impl GroupScales<'_> {
    /// Refuses quants and scales of other lengths, and rows that are not whole groups.
    pub(super) fn check(&self, quants: &[u8], outputs: usize, k: usize) -> Result<(), Error> {
        let elements = product(&[panels(outputs), k, PANEL])?;
        check_len("q", quants, elements / 2)?;
        match *self {
            GroupScales::F16 { group, scale, min } => {
                check_group(k, group)?;
                check_len("scale", scale, elements / group)?;
                check_len("min", min, elements / group)
            }
            GroupScales::Super { scale, min, d, dmin } => {
                check_group(k, SUPER_BLOCK)?;
                check_len("scale", scale, elements / BLOCK)?;
                check_len("min", min, elements / BLOCK)?;
                check_len("d", d, elements / SUPER_BLOCK)?;
                check_len("dmin", dmin, elements / SUPER_BLOCK)
            }
        }
    }
}

/// Refuses a group that is not whole blocks, and rows that are not whole groups.
pub(super) fn check_group(k: usize, group: usize) -> Result<(), Error> {
    if group == 0 || !group.is_multiple_of(BLOCK) || !k.is_multiple_of(group) {
        return Err(Error::Dimension {
            what: "the width is not whole groups of whole blocks of 32",
        });
    }
    Ok(())
}

/// The scale and the minimum of a block, for 16 outputs.
pub(super) trait BlockScales: Copy {
    /// Whether there is a minimum: weights are then `scale·(q + 8) − min`, else `scale·q`.
    const HAS_MIN: bool;

    /// Scales and minima of a panel and block.
    ///
    /// # Safety
    /// Both are inside of the lengths that were checked.
    unsafe fn load<V: Simd>(self, panel: usize, block: usize) -> [V; 2];
}

/// One scale per block, no minimum.
#[derive(Clone, Copy)]
pub(super) struct Plain<'a> {
    pub scales: Scales<'a>,
    /// Blocks of a row.
    pub blocks: usize,
}

impl BlockScales for Plain<'_> {
    const HAS_MIN: bool = false;

    #[inline(always)]
    unsafe fn load<V: Simd>(self, panel: usize, block: usize) -> [V; 2] {
        let at = (panel * self.blocks + block) * LANES;
        // SAFETY: the caller's.
        let scale = unsafe {
            match self.scales {
                Scales::F32(s) => V::load(s.as_ptr().add(at)),
                Scales::F16(s) => V::load_f16(s.as_ptr().add(at)),
            }
        };
        [scale, V::splat(0.0)]
    }
}

/// As [`GroupScales::F16`].
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    pub scale: &'a [u16],
    pub min: &'a [u16],
    /// Groups of a row.
    pub per_row: usize,
    /// Blocks of a group.
    pub blocks: usize,
}

impl BlockScales for Groups<'_> {
    const HAS_MIN: bool = true;

    #[inline(always)]
    unsafe fn load<V: Simd>(self, panel: usize, block: usize) -> [V; 2] {
        let at = (panel * self.per_row + block / self.blocks) * LANES;
        // SAFETY: the caller's.
        unsafe {
            [V::load_f16(self.scale.as_ptr().add(at)), V::load_f16(self.min.as_ptr().add(at))]
        }
    }
}

/// As [`GroupScales::Super`].
#[derive(Clone, Copy)]
pub(super) struct Supers<'a> {
    pub scale: &'a [u8],
    pub min: &'a [u8],
    pub d: &'a [u16],
    pub dmin: &'a [u16],
    /// Blocks of a row.
    pub blocks: usize,
}

impl BlockScales for Supers<'_> {
    const HAS_MIN: bool = true;

    #[inline(always)]
    unsafe fn load<V: Simd>(self, panel: usize, block: usize) -> [V; 2] {
        const BLOCKS: usize = SUPER_BLOCK / BLOCK;
        let at = (panel * self.blocks + block) * LANES;
        let over = (panel * (self.blocks / BLOCKS) + block / BLOCKS) * LANES;
        // SAFETY: the caller's.
        unsafe {
            let small = |from: &[u8]| {
                let bytes = from.as_ptr().add(at).cast::<[u8; LANES]>().read();
                V::load(bytes.map(f32::from).as_ptr())
            };
            let (scale, min) = (small(self.scale), small(self.min));
            let d = V::load_f16(self.d.as_ptr().add(over));
            let dmin = V::load_f16(self.dmin.as_ptr().add(over));
            [d.mul(scale), dmin.mul(min)]
        }
    }
}

/// The weights that 4-bit panels stand for, as rows [outputs, k]: what a product multiplies by, each rounded
/// twice, for tests and reports.
///
/// Errors: as [`super::group_quantized_linear`] for the weights; [`Error::Length`] if `to` has another length.
pub fn group_weights(
    quants: &[u8],
    scales: GroupScales<'_>,
    outputs: usize,
    k: usize,
    to: &mut [f32],
) -> Result<(), Error> {
    scales.check(quants, outputs, k)?;
    check_len("to", to, product(&[outputs, k])?)?;
    for output in 0..outputs {
        let (panel, lane) = (output / PANEL, output % PANEL);
        for at in 0..k {
            let byte = quants[panel * k * PANEL / 2 + at / 8 * 4 * PANEL + lane * 4 + at % 4];
            let code = (byte >> (at / 4 % 2 * 4) & 15) ^ 8;
            let [scale, min] = scales.of(panel, lane, at, k);
            to[output * k + at] = scale * f32::from(code) - min;
        }
    }
    Ok(())
}

impl GroupScales<'_> {
    /// Scale and minimum of one weight.
    fn of(&self, panel: usize, lane: usize, at: usize, k: usize) -> [f32; 2] {
        let place = |group: usize| (panel * (k / group) + at / group) * PANEL + lane;
        let half = super::f32_from_f16;
        match *self {
            GroupScales::F16 { group, scale, min } => {
                [half(scale[place(group)]), half(min[place(group)])]
            }
            GroupScales::Super { scale, min, d, dmin } => {
                let (block, over) = (place(BLOCK), place(SUPER_BLOCK));
                [half(d[over]) * f32::from(scale[block]), half(dmin[over]) * f32::from(min[block])]
            }
        }
    }
}

impl Quants<'_> {
    /// Puts a code of 0..=15 into zeroed 4-bit panels, as the two's complement of c − 8.
    #[inline]
    pub(super) fn put_code(quants: &mut [u8], k: usize, output: usize, at: usize, code: u8) {
        let place =
            output / PANEL * k * PANEL / 2 + at / 8 * 4 * PANEL + output % PANEL * 4 + at % 4;
        quants[place] |= ((code ^ 8) & 15) << (at / 4 % 2 * 4);
    }
}
