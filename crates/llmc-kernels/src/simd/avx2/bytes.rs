//! Products of bytes with AVX2: `vpmaddubsw` multiplies unsigned by signed bytes and
//! adds pairs in 16 bits, so signs move from the weights to the activations. A pair
//! is at most 2·128·127 = 32512 and never saturates.

use core::arch::x86_64::*;

use super::{Avx2, Int};
use crate::isa::ByteKernel;
use crate::simd::bytes::ByteDot;

/// Runs a kernel with AVX2 compiled in.
///
/// # Safety
/// As for [`run`](super::run).
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
pub(crate) unsafe fn run_bytes<K: ByteKernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

/// Eight sums plus those of four products each.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn half(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights));
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

// Only reached from code that `run_bytes` compiled for a machine with the features.
// SAFETY: every access is of the stated number of elements.
unsafe impl ByteDot for Avx2 {
    type Bytes = Int;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn load_bytes(from: *const i8) -> Int {
        // SAFETY: the caller's.
        unsafe { Int(_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [Int; 2] {
        // SAFETY: the caller's.
        unsafe {
            let flip = _mm256_set1_epi8(0x88u8 as i8);
            let a = _mm256_xor_si256(_mm256_loadu_si256(from.cast()), flip);
            let b = _mm256_xor_si256(_mm256_loadu_si256(from.add(32).cast()), flip);
            let mask = _mm256_set1_epi8(0x0f);
            let low = Int(_mm256_and_si256(a, mask), _mm256_and_si256(b, mask));
            let (a, b) = (_mm256_srli_epi16::<4>(a), _mm256_srli_epi16::<4>(b));
            [low, Int(_mm256_and_si256(a, mask), _mm256_and_si256(b, mask))]
        }
    }
    #[inline(always)]
    fn dot(sums: Int, weights: Int, x: i32) -> Int {
        // SAFETY: see above.
        unsafe {
            let x = _mm256_set1_epi32(x);
            Int(half(sums.0, weights.0, x), half(sums.1, weights.1, x))
        }
    }
}
