//! Sixteen lanes as an array: the definition, and the fallback.

use llmc_base::math::Lanes;

use super::{LANES, Simd};
use crate::gemm::tile::{APART, Rows, Tile, tile_body};

/// Sixteen f32 in an array.
#[derive(Clone, Copy)]
pub(crate) struct Scalar([f32; LANES]);

/// One value per lane.
#[inline(always)]
fn each<T>(lane: impl FnMut(usize) -> T) -> [T; LANES] {
    core::array::from_fn(lane)
}

impl Lanes for Scalar {
    type Mask = [bool; LANES];
    type Int = [i32; LANES];

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(each(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(each(|i| self.0[i] - other.0[i]))
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(each(|i| self.0[i] * other.0[i]))
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(each(|i| self.0[i] / other.0[i]))
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        Self(each(|i| self.0[i].fma(factor.0[i], addend.0[i])))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(each(|i| Lanes::sqrt(self.0[i])))
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Self::Mask {
        each(|i| self.0[i] == other.0[i])
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        each(|i| self.0[i] < other.0[i])
    }
    #[inline(always)]
    fn le(self, other: Self) -> Self::Mask {
        each(|i| self.0[i] <= other.0[i])
    }
    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        Self(each(|i| if mask[i] { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    fn mask_and(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        each(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn mask_or(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        each(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn mask_not(a: Self::Mask) -> Self::Mask {
        each(|i| !a[i])
    }
    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        mask.contains(&true)
    }
    #[inline(always)]
    fn to_bits(self) -> Self::Int {
        each(|i| Lanes::to_bits(self.0[i]))
    }
    #[inline(always)]
    fn from_bits(bits: Self::Int) -> Self {
        Self(each(|i| <f32 as Lanes>::from_bits(bits[i])))
    }
    #[inline(always)]
    fn from_int(int: Self::Int) -> Self {
        Self(each(|i| int[i] as f32))
    }
    #[inline(always)]
    fn int_splat(value: i32) -> Self::Int {
        [value; LANES]
    }
    #[inline(always)]
    fn int_add(a: Self::Int, b: Self::Int) -> Self::Int {
        each(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn int_sub(a: Self::Int, b: Self::Int) -> Self::Int {
        each(|i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn int_and(a: Self::Int, b: Self::Int) -> Self::Int {
        each(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn int_or(a: Self::Int, b: Self::Int) -> Self::Int {
        each(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn int_xor(a: Self::Int, b: Self::Int) -> Self::Int {
        each(|i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn int_shl<const N: u32>(a: Self::Int) -> Self::Int {
        each(|i| a[i].wrapping_shl(N))
    }
    #[inline(always)]
    fn int_sar<const N: u32>(a: Self::Int) -> Self::Int {
        each(|i| a[i].wrapping_shr(N))
    }
    #[inline(always)]
    fn int_eq(a: Self::Int, b: Self::Int) -> Self::Mask {
        each(|i| a[i] == b[i])
    }
    #[inline(always)]
    fn map(self, f: fn(f32) -> f32) -> Self {
        Self(each(|i| f(self.0[i])))
    }
}

// SAFETY: every access is of the stated number of elements.
unsafe impl Simd for Scalar {
    const TILE_ROWS: usize = 4;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; arrays of f32 are aligned like f32.
        Self(unsafe { from.cast::<[f32; LANES]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; LANES]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize, fill: f32) -> Self {
        // SAFETY: lanes below `count` are readable.
        Self(each(|i| if i < count { unsafe { *from.add(i) } } else { fill }))
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        for (i, &value) in self.0.iter().enumerate().take(count) {
            // SAFETY: lanes below `count` are writable.
            unsafe { *to.add(i) = value };
        }
    }
    #[inline(always)]
    unsafe fn load_int(from: *const i32) -> Self::Int {
        // SAFETY: the caller's.
        unsafe { from.cast::<[i32; LANES]>().read() }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self::Int {
        // SAFETY: the caller's.
        unsafe { from.cast::<[i8; LANES]>().read() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn load_u16(from: *const u16) -> Self::Int {
        // SAFETY: the caller's.
        unsafe { from.cast::<[u16; LANES]>().read() }.map(i32::from)
    }
    #[inline(always)]
    fn int_lt(a: Self::Int, b: Self::Int) -> Self::Mask {
        each(|i| a[i] < b[i])
    }
    #[inline(always)]
    fn transpose(rows: &mut [Self; LANES]) {
        let source = *rows;
        for (i, row) in rows.iter_mut().enumerate() {
            *row = Self(each(|j| source[j].0[i]));
        }
    }
    #[inline]
    unsafe fn run_tile(tile: &Tile, rows: usize, _vectors: usize) {
        // SAFETY: the caller's.
        unsafe {
            match (tile.flush, rows, tile.a_rows) {
                (true, 1, _) => tile_body::<Self, 1, 1, 1, true>(tile),
                (true, 2, _) => tile_body::<Self, 2, 1, 1, true>(tile),
                (true, 3, _) => tile_body::<Self, 3, 1, 1, true>(tile),
                (true, _, _) => tile_body::<Self, 4, 1, 1, true>(tile),
                (_, 1, Rows::Adjacent) => tile_body::<Self, 1, 1, 1, false>(tile),
                (_, 2, Rows::Adjacent) => tile_body::<Self, 2, 1, 1, false>(tile),
                (_, 3, Rows::Adjacent) => tile_body::<Self, 3, 1, 1, false>(tile),
                (_, _, Rows::Adjacent) => tile_body::<Self, 4, 1, 1, false>(tile),
                (_, 1, Rows::Apart) => tile_body::<Self, 1, 1, APART, false>(tile),
                (_, 2, Rows::Apart) => tile_body::<Self, 2, 1, APART, false>(tile),
                (_, 3, Rows::Apart) => tile_body::<Self, 3, 1, APART, false>(tile),
                (_, _, Rows::Apart) => tile_body::<Self, 4, 1, APART, false>(tile),
            }
        }
    }
}
