//! Sixteen lanes as one 512-bit register.
//!
//! Source of the instructions: Intel 64 and IA-32 Architectures Software
//! Developer's Manual, volume 2.

pub(crate) mod bytes;

use core::arch::x86_64::*;

use llmc_base::math::Lanes;

use super::{LANES, Simd};
use crate::gemm::tile::{APART, Rows, Tile, tile_body};
use crate::isa::Kernel;

/// Sixteen f32 in a register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

/// Runs a kernel with AVX-512 compiled in.
///
/// # Safety
/// The machine has AVX-512 F, BW, DQ and VL, AVX2, FMA, BMI1 and BMI2.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
pub(crate) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

/// One register tile with the instruction set compiled in.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
unsafe fn tile<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe {
        match tile.a_rows {
            Rows::Adjacent => tile_body::<Avx512, ROWS, VECTORS, 1, false>(tile),
            Rows::Apart => tile_body::<Avx512, ROWS, VECTORS, APART, false>(tile),
        }
    }
}

/// The lanes below `count`.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    ((1u32 << count.min(LANES)) - 1) as __mmask16
}

// Every method is only reached from code that `run` or `tile` compiled for a
// machine with the features, which is what the intrinsics ask for.
impl Lanes for Avx512 {
    type Mask = __mmask16;
    type Int = __m512i;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn eq(self, other: Self) -> __mmask16 {
        // SAFETY: see above.
        unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn lt(self, other: Self) -> __mmask16 {
        // SAFETY: see above.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn le(self, other: Self) -> __mmask16 {
        // SAFETY: see above.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn select(mask: __mmask16, yes: Self, no: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_mask_blend_ps(mask, no.0, yes.0) })
    }
    #[inline(always)]
    fn mask_and(a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }
    #[inline(always)]
    fn mask_or(a: __mmask16, b: __mmask16) -> __mmask16 {
        a | b
    }
    #[inline(always)]
    fn mask_not(a: __mmask16) -> __mmask16 {
        !a
    }
    #[inline(always)]
    fn any(mask: __mmask16) -> bool {
        mask != 0
    }
    #[inline(always)]
    fn to_bits(self) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_castps_si512(self.0) }
    }
    #[inline(always)]
    fn from_bits(bits: __m512i) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_castsi512_ps(bits) })
    }
    #[inline(always)]
    fn from_int(int: __m512i) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_cvtepi32_ps(int) })
    }
    #[inline(always)]
    fn int_splat(value: i32) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_set1_epi32(value) }
    }
    #[inline(always)]
    fn int_add(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    fn int_sub(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn int_and(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    fn int_or(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn int_xor(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_xor_si512(a, b) }
    }
    #[inline(always)]
    fn int_shl<const N: u32>(a: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_slli_epi32::<N>(a) }
    }
    #[inline(always)]
    fn int_sar<const N: u32>(a: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_srai_epi32::<N>(a) }
    }
    #[inline(always)]
    fn int_eq(a: __m512i, b: __m512i) -> __mmask16 {
        // SAFETY: see above.
        unsafe { _mm512_cmpeq_epi32_mask(a, b) }
    }
    #[inline(always)]
    fn map(self, f: fn(f32) -> f32) -> Self {
        let mut lanes = self.to_array();
        for lane in &mut lanes {
            *lane = f(*lane);
        }
        Self::from_array(&lanes)
    }
    #[inline(always)]
    fn at_most(self, limit: f32) -> Self {
        // The instruction answers its second operand for NaN.
        // SAFETY: see above.
        Self(unsafe { _mm512_min_ps(_mm512_set1_ps(limit), self.0) })
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, n: Self, keep: __mmask16) -> Self {
        // One rounding, as the definition; lanes that are masked off cannot
        // underflow, which would be slow.
        // SAFETY: see above.
        Self(unsafe { _mm512_maskz_scalef_ps(keep, self.0, n.0) })
    }
}

// SAFETY: every access is of the stated number of elements.
unsafe impl Simd for Avx512 {
    const TILE_ROWS: usize = 14;
    const TILE_VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize, fill: f32) -> Self {
        // SAFETY: lanes that the mask leaves out are not read.
        Self(unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first(count), from) })
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: lanes that the mask leaves out are not written.
        unsafe { _mm512_mask_storeu_ps(to, first(count), self.0) }
    }
    #[inline(always)]
    fn round_f16(self) -> Self {
        // SAFETY: see above.
        Self(unsafe {
            let half = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0);
            _mm512_cvtph_ps(half)
        })
    }
    #[inline(always)]
    unsafe fn load_int(from: *const i32) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_u16(from: *const u16) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
    }
    #[inline(always)]
    fn int_lt(a: __m512i, b: __m512i) -> __mmask16 {
        // SAFETY: see above.
        unsafe { _mm512_cmplt_epi32_mask(a, b) }
    }
    #[inline(always)]
    fn transpose(rows: &mut [Self; LANES]) {
        // SAFETY: see above.
        unsafe { transpose(rows) }
    }
    #[inline(always)]
    fn running_max(self, other: Self) -> Self {
        // The instruction answers its second operand for NaN and equal zeros.
        // SAFETY: see above.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn prefetch(address: *const f32) {
        // SAFETY: a hint, for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
    #[inline(always)]
    fn prefetch_near(address: *const f32) {
        // SAFETY: a hint, for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[inline(always)]
    unsafe fn run_tile(tile: &Tile, rows: usize, vectors: usize) {
        // SAFETY: the caller's.
        unsafe { TILES[(rows - 1).min(13)][(vectors - 1).min(1)](tile) }
    }
}

/// The tile for each number of rows and vectors.
const TILES: [[unsafe fn(&Tile); 2]; 14] = [
    [tile::<1, 1>, tile::<1, 2>],
    [tile::<2, 1>, tile::<2, 2>],
    [tile::<3, 1>, tile::<3, 2>],
    [tile::<4, 1>, tile::<4, 2>],
    [tile::<5, 1>, tile::<5, 2>],
    [tile::<6, 1>, tile::<6, 2>],
    [tile::<7, 1>, tile::<7, 2>],
    [tile::<8, 1>, tile::<8, 2>],
    [tile::<9, 1>, tile::<9, 2>],
    [tile::<10, 1>, tile::<10, 2>],
    [tile::<11, 1>, tile::<11, 2>],
    [tile::<12, 1>, tile::<12, 2>],
    [tile::<13, 1>, tile::<13, 2>],
    [tile::<14, 1>, tile::<14, 2>],
];

/// 16×16 in four stages: pairs, quadruples, then 128-bit blocks twice.
#[inline(always)]
unsafe fn transpose(rows: &mut [Avx512; LANES]) {
    // SAFETY: the caller's.
    unsafe {
        let mut pairs = [_mm512_setzero_ps(); LANES];
        for i in 0..8 {
            let (a, b) = (rows[2 * i].0, rows[2 * i + 1].0);
            pairs[2 * i] = _mm512_unpacklo_ps(a, b);
            pairs[2 * i + 1] = _mm512_unpackhi_ps(a, b);
        }
        // quads[4g + c]: columns c, c + 4, c + 8, c + 12 of rows 4g … 4g + 3.
        let mut quads = [_mm512_setzero_ps(); LANES];
        for g in 0..4 {
            for half in 0..2 {
                let a = _mm512_castps_pd(pairs[4 * g + half]);
                let b = _mm512_castps_pd(pairs[4 * g + 2 + half]);
                quads[4 * g + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                quads[4 * g + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            }
        }
        for c in 0..4 {
            let (q0, q1, q2, q3) = (quads[c], quads[4 + c], quads[8 + c], quads[12 + c]);
            // Blocks (0, 2) and (1, 3) of two row groups.
            let even_low = _mm512_shuffle_f32x4::<0b10_00_10_00>(q0, q1);
            let odd_low = _mm512_shuffle_f32x4::<0b11_01_11_01>(q0, q1);
            let even_high = _mm512_shuffle_f32x4::<0b10_00_10_00>(q2, q3);
            let odd_high = _mm512_shuffle_f32x4::<0b11_01_11_01>(q2, q3);
            rows[c].0 = _mm512_shuffle_f32x4::<0b10_00_10_00>(even_low, even_high);
            rows[8 + c].0 = _mm512_shuffle_f32x4::<0b11_01_11_01>(even_low, even_high);
            rows[4 + c].0 = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd_low, odd_high);
            rows[12 + c].0 = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd_low, odd_high);
        }
    }
}
