//! Products of bytes with NEON: products in 16 bits, then pairwise sums.

use core::arch::aarch64::*;

use super::{Int, Neon};
use crate::isa::ByteKernel;
use crate::simd::bytes::ByteDot;

/// Runs a kernel with NEON.
///
/// # Safety
/// As for [`run`](super::run).
#[target_feature(enable = "neon")]
pub(crate) unsafe fn run_bytes<K: ByteKernel>(kernel: K) -> K::Output {
    kernel.run::<Neon>()
}

/// Four sums plus those of four products each.
#[inline(always)]
fn quarter(sums: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: NEON is part of every arm64 target.
    unsafe {
        // A product is at most 128·127 and fits 16 bits.
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(weights), vget_low_s8(x)));
        let high = vpaddlq_s16(vmull_s8(vget_high_s8(weights), vget_high_s8(x)));
        vaddq_s32(sums, vpaddq_s32(low, high))
    }
}

// SAFETY: every access is of the stated number of elements.
unsafe impl ByteDot for Neon {
    type Bytes = [int8x16_t; 4];
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn load_bytes(from: *const i8) -> [int8x16_t; 4] {
        // SAFETY: the caller's.
        unsafe {
            [vld1q_s8(from), vld1q_s8(from.add(16)), vld1q_s8(from.add(32)), vld1q_s8(from.add(48))]
        }
    }
    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [[int8x16_t; 4]; 2] {
        // SAFETY: the caller's.
        unsafe {
            let (flip, mask) = (vdupq_n_u8(0x88), vdupq_n_u8(0x0f));
            let mut low = [vdupq_n_s8(0); 4];
            let mut high = low;
            let mut i = 0;
            while i < 4 {
                let bytes = veorq_u8(vld1q_u8(from.add(16 * i)), flip);
                low[i] = vreinterpretq_s8_u8(vandq_u8(bytes, mask));
                high[i] = vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes));
                i += 1;
            }
            [low, high]
        }
    }
    #[inline(always)]
    fn dot(sums: Int, weights: [int8x16_t; 4], x: i32) -> Int {
        // SAFETY: NEON is part of every arm64 target.
        let x = unsafe { vreinterpretq_s8_s32(vdupq_n_s32(x)) };
        Int([
            quarter(sums.0[0], weights[0], x),
            quarter(sums.0[1], weights[1], x),
            quarter(sums.0[2], weights[2], x),
            quarter(sums.0[3], weights[3], x),
        ])
    }
}
