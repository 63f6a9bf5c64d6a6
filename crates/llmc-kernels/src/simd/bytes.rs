//! Products of bytes, four to a lane: what quantised weights are multiplied with.
//!
//! Sixty-four weights stand in one [`Bytes`]: lane i holds the four that meet the
//! same four activations in output i. Integer sums are exact, so instruction sets may
//! differ in how they come about. Some multiply unsigned by signed bytes only; they
//! hold weights moved up by [`ByteDot::OFFSET`], and the caller starts its sums from
//! what that adds.
//!
//! [`Bytes`]: ByteDot::Bytes

use super::{LANES, Simd};

/// What [`ByteDot::load_nibbles`] adds to a four-bit weight: it makes it 0..16.
pub(crate) const NIBBLE_OFFSET: i32 = 8;

/// Sixteen sums of four products of bytes.
///
/// # Safety
/// Loads read exactly what they say; kernels rely on it.
pub(crate) unsafe trait ByteDot: Simd {
    /// Sixty-four weights, four to a lane.
    type Bytes: Copy;
    /// What [`ByteDot::load_bytes`] adds to each weight.
    const OFFSET: i32;

    /// 64 signed weights, each plus `OFFSET`.
    ///
    /// # Safety
    /// 64 bytes are readable at `from`.
    unsafe fn load_bytes(from: *const i8) -> Self::Bytes;
    /// 128 four-bit two's complement weights, those in the low halves of the 64 bytes first,
    /// each plus [`NIBBLE_OFFSET`].
    ///
    /// # Safety
    /// 64 bytes are readable at `from`.
    unsafe fn load_nibbles(from: *const u8) -> [Self::Bytes; 2];
    /// Lane i of `sums` plus its four weights times the four signed bytes of `x`, lowest first, none
    /// of which is −128.
    fn dot(sums: Self::Int, weights: Self::Bytes, x: i32) -> Self::Int;
}

// SAFETY: every access is of the stated number of elements.
unsafe impl ByteDot for super::scalar::Scalar {
    type Bytes = [[i16; 4]; LANES];
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn load_bytes(from: *const i8) -> Self::Bytes {
        // SAFETY: the caller's.
        let bytes = unsafe { from.cast::<[[i8; 4]; LANES]>().read() };
        bytes.map(|quad| quad.map(i16::from))
    }
    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [Self::Bytes; 2] {
        // SAFETY: the caller's.
        let bytes = unsafe { from.cast::<[[u8; 4]; LANES]>().read() };
        // Flipping the top bit of a nibble adds 8 to its signed value.
        let low = bytes.map(|quad| quad.map(|byte| i16::from((byte ^ 0x08) & 0x0f)));
        let high = bytes.map(|quad| quad.map(|byte| i16::from((byte ^ 0x80) >> 4)));
        [low, high]
    }
    #[inline(always)]
    fn dot(sums: Self::Int, weights: Self::Bytes, x: i32) -> Self::Int {
        let x = x.to_le_bytes().map(|byte| i32::from(byte as i8));
        core::array::from_fn(|i| {
            let quad = weights[i].map(i32::from);
            sums[i] + quad[0] * x[0] + quad[1] * x[1] + quad[2] * x[2] + quad[3] * x[3]
        })
    }
}
