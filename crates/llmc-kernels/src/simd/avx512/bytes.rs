//! Products of bytes with VNNI: unsigned weights times signed activations.

use core::arch::x86_64::*;

use super::Avx512;
use crate::isa::ByteKernel;
use crate::simd::bytes::ByteDot;

/// Runs a kernel with AVX-512 and VNNI compiled in.
///
/// # Safety
/// The machine has what [`run`](super::run) asks for, and AVX-512 VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi1,bmi2")]
pub(crate) unsafe fn run_bytes<K: ByteKernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

// Only reached from code that `run_bytes` compiled for a machine with the features.
// SAFETY: every access is of the stated number of elements.
unsafe impl ByteDot for Avx512 {
    type Bytes = __m512i;
    const OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn load_bytes(from: *const i8) -> __m512i {
        // Flipping the top bit adds 128 to the signed value.
        // SAFETY: the caller's.
        unsafe { _mm512_xor_si512(_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(-128)) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [__m512i; 2] {
        // SAFETY: the caller's.
        unsafe {
            let bytes = _mm512_loadu_si512(from.cast());
            let bytes = _mm512_xor_si512(bytes, _mm512_set1_epi8(0x88u8 as i8));
            let mask = _mm512_set1_epi8(0x0f);
            [_mm512_and_si512(bytes, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask)]
        }
    }
    #[inline(always)]
    fn dot(sums: __m512i, weights: __m512i, x: i32) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_dpbusd_epi32(sums, weights, _mm512_set1_epi32(x)) }
    }
}
