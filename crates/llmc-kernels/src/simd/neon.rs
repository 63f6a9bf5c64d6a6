//! Sixteen lanes as four 128-bit registers.
//!
//! Source of the instructions: Arm Architecture Reference Manual for A-profile,
//! C7 (Advanced SIMD).

pub(crate) mod bytes;

use core::arch::aarch64::*;

use llmc_base::math::Lanes;

use super::{LANES, Simd};
use crate::gemm::tile::{APART, Rows, Tile, tile_body};
use crate::isa::Kernel;

/// Sixteen f32 in four registers.
#[derive(Clone, Copy)]
pub(crate) struct Neon([float32x4_t; 4]);

/// All-ones or all-zeros lanes.
#[derive(Clone, Copy)]
pub(crate) struct Mask([uint32x4_t; 4]);

/// Sixteen i32 in four registers.
#[derive(Clone, Copy)]
pub(crate) struct Int([int32x4_t; 4]);

/// Runs a kernel with NEON, which every arm64 machine has.
///
/// # Safety
/// None beyond running on arm64; unsafe like its siblings.
#[target_feature(enable = "neon")]
pub(crate) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Neon>()
}

/// One register tile.
#[target_feature(enable = "neon")]
unsafe fn tile<const ROWS: usize>(tile: &Tile) {
    // SAFETY: the caller's.
    unsafe {
        match (tile.flush, tile.a_rows) {
            // FPCR.FZ flushes before rounding, which the definition does not.
            (true, _) => tile_body::<Neon, ROWS, 1, 1, true>(tile),
            (_, Rows::Adjacent) => tile_body::<Neon, ROWS, 1, 1, false>(tile),
            (_, Rows::Apart) => tile_body::<Neon, ROWS, 1, APART, false>(tile),
        }
    }
}

// NEON is part of every arm64 target, which is what the intrinsics ask for.
impl Lanes for Neon {
    type Mask = Mask;
    type Int = Int;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        Self([unsafe { vdupq_n_f32(value) }; 4])
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self([
                vaddq_f32(self.0[0], other.0[0]),
                vaddq_f32(self.0[1], other.0[1]),
                vaddq_f32(self.0[2], other.0[2]),
                vaddq_f32(self.0[3], other.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self([
                vsubq_f32(self.0[0], other.0[0]),
                vsubq_f32(self.0[1], other.0[1]),
                vsubq_f32(self.0[2], other.0[2]),
                vsubq_f32(self.0[3], other.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self([
                vmulq_f32(self.0[0], other.0[0]),
                vmulq_f32(self.0[1], other.0[1]),
                vmulq_f32(self.0[2], other.0[2]),
                vmulq_f32(self.0[3], other.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self([
                vdivq_f32(self.0[0], other.0[0]),
                vdivq_f32(self.0[1], other.0[1]),
                vdivq_f32(self.0[2], other.0[2]),
                vdivq_f32(self.0[3], other.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self([
                vfmaq_f32(addend.0[0], self.0[0], factor.0[0]),
                vfmaq_f32(addend.0[1], self.0[1], factor.0[1]),
                vfmaq_f32(addend.0[2], self.0[2], factor.0[2]),
                vfmaq_f32(addend.0[3], self.0[3], factor.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self([
                vsqrtq_f32(self.0[0]),
                vsqrtq_f32(self.0[1]),
                vsqrtq_f32(self.0[2]),
                vsqrtq_f32(self.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask([
                vceqq_f32(self.0[0], other.0[0]),
                vceqq_f32(self.0[1], other.0[1]),
                vceqq_f32(self.0[2], other.0[2]),
                vceqq_f32(self.0[3], other.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask([
                vcltq_f32(self.0[0], other.0[0]),
                vcltq_f32(self.0[1], other.0[1]),
                vcltq_f32(self.0[2], other.0[2]),
                vcltq_f32(self.0[3], other.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn le(self, other: Self) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask([
                vcleq_f32(self.0[0], other.0[0]),
                vcleq_f32(self.0[1], other.0[1]),
                vcleq_f32(self.0[2], other.0[2]),
                vcleq_f32(self.0[3], other.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn select(mask: Mask, yes: Self, no: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self([
                vbslq_f32(mask.0[0], yes.0[0], no.0[0]),
                vbslq_f32(mask.0[1], yes.0[1], no.0[1]),
                vbslq_f32(mask.0[2], yes.0[2], no.0[2]),
                vbslq_f32(mask.0[3], yes.0[3], no.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn mask_and(a: Mask, b: Mask) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask([
                vandq_u32(a.0[0], b.0[0]),
                vandq_u32(a.0[1], b.0[1]),
                vandq_u32(a.0[2], b.0[2]),
                vandq_u32(a.0[3], b.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn mask_or(a: Mask, b: Mask) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask([
                vorrq_u32(a.0[0], b.0[0]),
                vorrq_u32(a.0[1], b.0[1]),
                vorrq_u32(a.0[2], b.0[2]),
                vorrq_u32(a.0[3], b.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn mask_not(a: Mask) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask([vmvnq_u32(a.0[0]), vmvnq_u32(a.0[1]), vmvnq_u32(a.0[2]), vmvnq_u32(a.0[3])])
        }
    }
    #[inline(always)]
    fn any(mask: Mask) -> bool {
        // SAFETY: see above.
        unsafe {
            let low = vorrq_u32(mask.0[0], mask.0[1]);
            let high = vorrq_u32(mask.0[2], mask.0[3]);
            vmaxvq_u32(vorrq_u32(low, high)) != 0
        }
    }
    #[inline(always)]
    fn to_bits(self) -> Int {
        // SAFETY: see above.
        unsafe {
            Int([
                vreinterpretq_s32_f32(self.0[0]),
                vreinterpretq_s32_f32(self.0[1]),
                vreinterpretq_s32_f32(self.0[2]),
                vreinterpretq_s32_f32(self.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn from_bits(bits: Int) -> Self {
        // SAFETY: see above.
        unsafe {
            Self([
                vreinterpretq_f32_s32(bits.0[0]),
                vreinterpretq_f32_s32(bits.0[1]),
                vreinterpretq_f32_s32(bits.0[2]),
                vreinterpretq_f32_s32(bits.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn from_int(int: Int) -> Self {
        // SAFETY: see above.
        unsafe {
            Self([
                vcvtq_f32_s32(int.0[0]),
                vcvtq_f32_s32(int.0[1]),
                vcvtq_f32_s32(int.0[2]),
                vcvtq_f32_s32(int.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn int_splat(value: i32) -> Int {
        // SAFETY: see above.
        Int([unsafe { vdupq_n_s32(value) }; 4])
    }
    #[inline(always)]
    fn int_add(a: Int, b: Int) -> Int {
        // SAFETY: see above.
        unsafe {
            Int([
                vaddq_s32(a.0[0], b.0[0]),
                vaddq_s32(a.0[1], b.0[1]),
                vaddq_s32(a.0[2], b.0[2]),
                vaddq_s32(a.0[3], b.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn int_sub(a: Int, b: Int) -> Int {
        // SAFETY: see above.
        unsafe {
            Int([
                vsubq_s32(a.0[0], b.0[0]),
                vsubq_s32(a.0[1], b.0[1]),
                vsubq_s32(a.0[2], b.0[2]),
                vsubq_s32(a.0[3], b.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn int_and(a: Int, b: Int) -> Int {
        // SAFETY: see above.
        unsafe {
            Int([
                vandq_s32(a.0[0], b.0[0]),
                vandq_s32(a.0[1], b.0[1]),
                vandq_s32(a.0[2], b.0[2]),
                vandq_s32(a.0[3], b.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn int_or(a: Int, b: Int) -> Int {
        // SAFETY: see above.
        unsafe {
            Int([
                vorrq_s32(a.0[0], b.0[0]),
                vorrq_s32(a.0[1], b.0[1]),
                vorrq_s32(a.0[2], b.0[2]),
                vorrq_s32(a.0[3], b.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn int_xor(a: Int, b: Int) -> Int {
        // SAFETY: see above.
        unsafe {
            Int([
                veorq_s32(a.0[0], b.0[0]),
                veorq_s32(a.0[1], b.0[1]),
                veorq_s32(a.0[2], b.0[2]),
                veorq_s32(a.0[3], b.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn int_shl<const N: u32>(a: Int) -> Int {
        // SAFETY: see above.
        unsafe {
            let count = vdupq_n_s32(N as i32);
            Int([
                vshlq_s32(a.0[0], count),
                vshlq_s32(a.0[1], count),
                vshlq_s32(a.0[2], count),
                vshlq_s32(a.0[3], count),
            ])
        }
    }
    #[inline(always)]
    fn int_sar<const N: u32>(a: Int) -> Int {
        // A shift left by a negative count is an arithmetic shift right.
        // SAFETY: see above.
        unsafe {
            let count = vdupq_n_s32(-(N as i32));
            Int([
                vshlq_s32(a.0[0], count),
                vshlq_s32(a.0[1], count),
                vshlq_s32(a.0[2], count),
                vshlq_s32(a.0[3], count),
            ])
        }
    }
    #[inline(always)]
    fn int_eq(a: Int, b: Int) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask([
                vceqq_s32(a.0[0], b.0[0]),
                vceqq_s32(a.0[1], b.0[1]),
                vceqq_s32(a.0[2], b.0[2]),
                vceqq_s32(a.0[3], b.0[3]),
            ])
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
}

// SAFETY: every access is of the stated number of elements.
unsafe impl Simd for Neon {
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        unsafe {
            Self([
                vld1q_f32(from),
                vld1q_f32(from.add(4)),
                vld1q_f32(from.add(8)),
                vld1q_f32(from.add(12)),
            ])
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe {
            vst1q_f32(to, self.0[0]);
            vst1q_f32(to.add(4), self.0[1]);
            vst1q_f32(to.add(8), self.0[2]);
            vst1q_f32(to.add(12), self.0[3]);
        }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize, fill: f32) -> Self {
        let mut lanes = [fill; LANES];
        // SAFETY: `count` floats are readable, and count ≤ 16.
        unsafe { core::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count.min(LANES)) };
        Self::from_array(&lanes)
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        let lanes = self.to_array();
        // SAFETY: `count` floats are writable, and count ≤ 16.
        unsafe { core::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count.min(LANES)) };
    }
    #[inline(always)]
    unsafe fn load_int(from: *const i32) -> Int {
        // SAFETY: the caller's.
        unsafe {
            Int([
                vld1q_s32(from),
                vld1q_s32(from.add(4)),
                vld1q_s32(from.add(8)),
                vld1q_s32(from.add(12)),
            ])
        }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Int {
        // SAFETY: the caller's.
        unsafe {
            let bytes = vld1q_s8(from);
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes)));
            let halves = |x| [vmovl_s16(vget_low_s16(x)), vmovl_s16(vget_high_s16(x))];
            let ([a, b], [c, d]) = (halves(low), halves(high));
            Int([a, b, c, d])
        }
    }
    #[inline(always)]
    unsafe fn load_u16(from: *const u16) -> Int {
        // SAFETY: the caller's.
        unsafe {
            let widened = |from| vreinterpretq_s32_u32(vmovl_u16(vld1_u16(from)));
            Int([widened(from), widened(from.add(4)), widened(from.add(8)), widened(from.add(12))])
        }
    }
    #[inline(always)]
    fn int_lt(a: Int, b: Int) -> Mask {
        // SAFETY: see above.
        unsafe {
            Mask([
                vcltq_s32(a.0[0], b.0[0]),
                vcltq_s32(a.0[1], b.0[1]),
                vcltq_s32(a.0[2], b.0[2]),
                vcltq_s32(a.0[3], b.0[3]),
            ])
        }
    }
    #[inline(always)]
    fn transpose(rows: &mut [Self; LANES]) {
        let source = *rows;
        for block in 0..4 {
            for i in 0..4 {
                let quad = [
                    source[4 * i].0[block],
                    source[4 * i + 1].0[block],
                    source[4 * i + 2].0[block],
                    source[4 * i + 3].0[block],
                ];
                // SAFETY: see above.
                let columns = unsafe { transpose4(quad) };
                for (c, &column) in columns.iter().enumerate() {
                    rows[4 * block + c].0[i] = column;
                }
            }
        }
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

/// 4×4.
#[inline(always)]
unsafe fn transpose4(rows: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: the caller's.
    unsafe {
        let even_low = vtrn1q_f32(rows[0], rows[1]);
        let odd_low = vtrn2q_f32(rows[0], rows[1]);
        let even_high = vtrn1q_f32(rows[2], rows[3]);
        let odd_high = vtrn2q_f32(rows[2], rows[3]);
        let join = |low: float32x4_t, high: float32x4_t| {
            let (low, high) = (vreinterpretq_f64_f32(low), vreinterpretq_f64_f32(high));
            (
                vreinterpretq_f32_f64(vtrn1q_f64(low, high)),
                vreinterpretq_f32_f64(vtrn2q_f64(low, high)),
            )
        };
        let (column0, column2) = join(even_low, even_high);
        let (column1, column3) = join(odd_low, odd_high);
        [column0, column1, column2, column3]
    }
}
