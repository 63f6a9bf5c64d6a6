//! Sixteen lanes as two 256-bit registers.
//!
//! Source of the instructions: Intel 64 and IA-32 Architectures Software
//! Developer's Manual, volume 2.

pub(crate) mod bytes;

use core::arch::x86_64::*;

use llmc_base::math::Lanes;

use super::{LANES, Simd};
use crate::gemm::tile::{APART, Rows, Tile, tile_body};
use crate::isa::Kernel;

/// Sixteen f32 in two registers.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256, __m256);

/// All-ones or all-zeros lanes.
#[derive(Clone, Copy)]
pub(crate) struct Mask(__m256, __m256);

/// Sixteen i32 in two registers.
#[derive(Clone, Copy)]
pub(crate) struct Int(__m256i, __m256i);

/// Runs a kernel with AVX2 compiled in.
///
/// # Safety
/// The machine has AVX2, FMA, F16C, BMI1 and BMI2.
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
pub(crate) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

/// One register tile with the instruction set compiled in.
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
unsafe fn tile<const ROWS: usize>(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe {
        match tile.a_rows {
            Rows::Adjacent => tile_body::<Avx2, ROWS, 1, 1, false>(tile),
            Rows::Apart => tile_body::<Avx2, ROWS, 1, APART, false>(tile),
        }
    }
}

/// All ones in the lanes below `count` of eight.
#[inline(always)]
unsafe fn first(count: usize) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    }
}

// Every method is only reached from code that `run` or `tile` compiled for a
// machine with the features, which is what the intrinsics ask for.
impl Lanes for Avx2 {
    type Mask = Mask;
    type Int = Int;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        let half = unsafe { _mm256_set1_ps(value) };
        Self(half, half)
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_fmadd_ps(self.0, factor.0, addend.0),
                _mm256_fmadd_ps(self.1, factor.1, addend.1),
            )
        }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_sqrt_ps(self.0), _mm256_sqrt_ps(self.1)) }
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask(
                _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0),
                _mm256_cmp_ps::<_CMP_EQ_OQ>(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask(
                _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0),
                _mm256_cmp_ps::<_CMP_LT_OQ>(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn le(self, other: Self) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask(
                _mm256_cmp_ps::<_CMP_LE_OQ>(self.0, other.0),
                _mm256_cmp_ps::<_CMP_LE_OQ>(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    fn select(mask: Mask, yes: Self, no: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self(_mm256_blendv_ps(no.0, yes.0, mask.0), _mm256_blendv_ps(no.1, yes.1, mask.1))
        }
    }
    #[inline(always)]
    fn mask_and(a: Mask, b: Mask) -> Mask {
        // SAFETY: see above.
        unsafe { Mask(_mm256_and_ps(a.0, b.0), _mm256_and_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn mask_or(a: Mask, b: Mask) -> Mask {
        // SAFETY: see above.
        unsafe { Mask(_mm256_or_ps(a.0, b.0), _mm256_or_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn mask_not(a: Mask) -> Mask {
        // SAFETY: see above.
        unsafe {
            let ones = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
            Mask(_mm256_xor_ps(a.0, ones), _mm256_xor_ps(a.1, ones))
        }
    }
    #[inline(always)]
    fn any(mask: Mask) -> bool {
        // SAFETY: see above.
        unsafe { _mm256_movemask_ps(_mm256_or_ps(mask.0, mask.1)) != 0 }
    }
    #[inline(always)]
    fn to_bits(self) -> Int {
        // SAFETY: see above.
        unsafe { Int(_mm256_castps_si256(self.0), _mm256_castps_si256(self.1)) }
    }
    #[inline(always)]
    fn from_bits(bits: Int) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_castsi256_ps(bits.0), _mm256_castsi256_ps(bits.1)) }
    }
    #[inline(always)]
    fn from_int(int: Int) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_cvtepi32_ps(int.0), _mm256_cvtepi32_ps(int.1)) }
    }
    #[inline(always)]
    fn int_splat(value: i32) -> Int {
        // SAFETY: see above.
        let half = unsafe { _mm256_set1_epi32(value) };
        Int(half, half)
    }
    #[inline(always)]
    fn int_add(a: Int, b: Int) -> Int {
        // SAFETY: see above.
        unsafe { Int(_mm256_add_epi32(a.0, b.0), _mm256_add_epi32(a.1, b.1)) }
    }
    #[inline(always)]
    fn int_sub(a: Int, b: Int) -> Int {
        // SAFETY: see above.
        unsafe { Int(_mm256_sub_epi32(a.0, b.0), _mm256_sub_epi32(a.1, b.1)) }
    }
    #[inline(always)]
    fn int_and(a: Int, b: Int) -> Int {
        // SAFETY: see above.
        unsafe { Int(_mm256_and_si256(a.0, b.0), _mm256_and_si256(a.1, b.1)) }
    }
    #[inline(always)]
    fn int_or(a: Int, b: Int) -> Int {
        // SAFETY: see above.
        unsafe { Int(_mm256_or_si256(a.0, b.0), _mm256_or_si256(a.1, b.1)) }
    }
    #[inline(always)]
    fn int_xor(a: Int, b: Int) -> Int {
        // SAFETY: see above.
        unsafe { Int(_mm256_xor_si256(a.0, b.0), _mm256_xor_si256(a.1, b.1)) }
    }
    #[inline(always)]
    fn int_shl<const N: u32>(a: Int) -> Int {
        // SAFETY: see above.
        unsafe {
            let count = _mm_cvtsi32_si128(N as i32);
            Int(_mm256_sll_epi32(a.0, count), _mm256_sll_epi32(a.1, count))
        }
    }
    #[inline(always)]
    fn int_sar<const N: u32>(a: Int) -> Int {
        // SAFETY: see above.
        unsafe {
            let count = _mm_cvtsi32_si128(N as i32);
            Int(_mm256_sra_epi32(a.0, count), _mm256_sra_epi32(a.1, count))
        }
    }
    #[inline(always)]
    fn int_eq(a: Int, b: Int) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask(
                _mm256_castsi256_ps(_mm256_cmpeq_epi32(a.0, b.0)),
                _mm256_castsi256_ps(_mm256_cmpeq_epi32(a.1, b.1)),
            )
        }
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
        unsafe {
            let limit = _mm256_set1_ps(limit);
            Self(_mm256_min_ps(limit, self.0), _mm256_min_ps(limit, self.1))
        }
    }
}

// SAFETY: every access is of the stated number of elements.
unsafe impl Simd for Avx2 {
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize, fill: f32) -> Self {
        // SAFETY: lanes that the masks leave out are not read; the second
        // pointer may be past the end then, so it is made without `add`.
        unsafe {
            let (low, high) = (first(count), first(count.saturating_sub(8)));
            let fill = _mm256_set1_ps(fill);
            let upper = from.wrapping_add(8);
            Self(
                _mm256_blendv_ps(fill, _mm256_maskload_ps(from, low), _mm256_castsi256_ps(low)),
                _mm256_blendv_ps(fill, _mm256_maskload_ps(upper, high), _mm256_castsi256_ps(high)),
            )
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: lanes that the masks leave out are not written.
        unsafe {
            _mm256_maskstore_ps(to, first(count), self.0);
            _mm256_maskstore_ps(to.wrapping_add(8), first(count.saturating_sub(8)), self.1);
        }
    }
    #[inline(always)]
    unsafe fn load_int(from: *const i32) -> Int {
        // SAFETY: the caller's.
        unsafe { Int(_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(8).cast())) }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Int {
        // SAFETY: the caller's.
        unsafe {
            Int(
                _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())),
                _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(8).cast())),
            )
        }
    }
    #[inline(always)]
    fn round_f16(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_cvtph_ps(_mm256_cvtps_ph::<NEAREST>(self.0)),
                _mm256_cvtph_ps(_mm256_cvtps_ph::<NEAREST>(self.1)),
            )
        }
    }
    #[inline(always)]
    unsafe fn load_u16(from: *const u16) -> Int {
        // SAFETY: the caller's.
        unsafe {
            Int(
                _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())),
                _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast())),
            )
        }
    }
    #[inline(always)]
    fn int_lt(a: Int, b: Int) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask(
                _mm256_castsi256_ps(_mm256_cmpgt_epi32(b.0, a.0)),
                _mm256_castsi256_ps(_mm256_cmpgt_epi32(b.1, a.1)),
            )
        }
    }
    #[inline(always)]
    fn transpose(rows: &mut [Self; LANES]) {
        // SAFETY: see above.
        unsafe {
            // The four 8×8 blocks; the off-diagonal ones change places.
            let mut block = [[_mm256_setzero_ps(); 8]; 4];
            for i in 0..8 {
                block[0][i] = rows[i].0;
                block[1][i] = rows[8 + i].0;
                block[2][i] = rows[i].1;
                block[3][i] = rows[8 + i].1;
            }
            for block in &mut block {
                transpose8(block);
            }
            for i in 0..8 {
                rows[i] = Self(block[0][i], block[1][i]);
                rows[8 + i] = Self(block[2][i], block[3][i]);
            }
        }
    }
    #[inline(always)]
    fn running_max(self, other: Self) -> Self {
        // The instruction answers its second operand for NaN and equal zeros.
        // SAFETY: see above.
        unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn run_tile(tile: &Tile, rows: usize, _vectors: usize) {
        // SAFETY: the caller's.
        unsafe { TILES[(rows - 1).min(5)](tile) }
    }
}

/// The tile for each number of rows.
const TILES: [unsafe fn(&Tile); 6] =
    [tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>];

/// 8×8 in three stages: pairs, quadruples, halves.
#[inline(always)]
unsafe fn transpose8(rows: &mut [__m256; 8]) {
    // SAFETY: the caller's.
    unsafe {
        let mut pairs = *rows;
        for i in 0..4 {
            pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
        let mut quads = pairs;
        for g in 0..2 {
            for half in 0..2 {
                let (a, b) = (pairs[4 * g + half], pairs[4 * g + 2 + half]);
                quads[4 * g + 2 * half] = _mm256_shuffle_ps::<0b01_00_01_00>(a, b);
                quads[4 * g + 2 * half + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(a, b);
            }
        }
        for c in 0..4 {
            rows[c] = _mm256_permute2f128_ps::<0x20>(quads[c], quads[4 + c]);
            rows[4 + c] = _mm256_permute2f128_ps::<0x31>(quads[c], quads[4 + c]);
        }
    }
}
