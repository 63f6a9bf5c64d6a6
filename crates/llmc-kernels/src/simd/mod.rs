//! Sixteen lanes on every machine.
//!
//! [`Simd`] is [`Lanes`] with memory: one 512-bit register, two of 256 bits,
//! four of 128 bits, or an array. Sixteen is also the number of virtual lanes of
//! a row sum, so a running sum in one `Simd` is the definition itself.
//!
//! The vector types are ordinary values with `#[inline(always)]` methods around
//! intrinsics; they are fast only inside a [`dispatch`](crate::isa::dispatch)ed
//! kernel, where the methods are inlined into a function that has the feature.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod bytes;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;
#[cfg(test)]
mod tests;

use llmc_base::math::power_of_two;
pub(crate) use llmc_base::math::{Lanes, generic, sum_tree};

use crate::gemm::tile::Tile;

/// Lanes of every [`Simd`].
pub(crate) const LANES: usize = 16;

/// The tree of a lane sum, for sixteen sums at once: lane i of vector j is virtual
/// lane j of sum i.
#[inline(always)]
pub(crate) fn tree<V: Simd>(mut lanes: [V; LANES]) -> V {
    let mut width = LANES / 2;
    while width > 0 {
        let mut j = 0;
        while j < width {
            lanes[j] = lanes[j].add(lanes[j + width]);
            j += 1;
        }
        width /= 2;
    }
    lanes[0]
}

/// The sums of the lanes of sixteen vectors: lane i is that of vector i.
#[inline(always)]
pub(crate) fn sums<V: Simd>(vectors: &[V; LANES]) -> V {
    let mut lanes = *vectors;
    V::transpose(&mut lanes);
    tree(lanes)
}

/// Sixteen f32 lanes that can be loaded and stored.
///
/// # Safety
/// `load` and friends read and write exactly what they say; kernels rely on it.
pub(crate) unsafe trait Simd: Lanes {
    /// Rows of the largest register tile of the matrix product.
    const TILE_ROWS: usize;
    /// Columns of the largest register tile, in vectors.
    const TILE_VECTORS: usize;

    /// Lanes `0..16` from memory.
    ///
    /// # Safety
    /// 16 floats are readable at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// Lanes `0..16` to memory.
    ///
    /// # Safety
    /// 16 floats are writable at `to`.
    unsafe fn store(self, to: *mut f32);
    /// Lanes `0..count` from memory, `fill` in the others; count ≤ 16.
    ///
    /// # Safety
    /// `count` floats are readable at `from`.
    unsafe fn load_first(from: *const f32, count: usize, fill: f32) -> Self;
    /// Lanes `0..count` to memory; count ≤ 16.
    ///
    /// # Safety
    /// `count` floats are writable at `to`.
    unsafe fn store_first(self, to: *mut f32, count: usize);
    /// [`fma_flushed`](llmc_base::math::fma_flushed) in every lane, whatever the control word.
    #[inline(always)]
    fn fma_flushed(self, factor: Self, addend: Self) -> Self {
        let (factor, mut sums) = (factor.to_array(), addend.to_array());
        for ((sum, a), b) in sums.iter_mut().zip(self.to_array()).zip(factor) {
            *sum = llmc_base::math::fma_flushed(a, b, *sum);
        }
        Self::from_array(&sums)
    }
    /// [`round_f16`](llmc_base::math::round_f16) of every lane.
    #[inline(always)]
    fn round_f16(self) -> Self {
        llmc_base::math::round_f16(self)
    }
    /// Sixteen integers from memory.
    ///
    /// # Safety
    /// 16 integers are readable at `from`.
    unsafe fn load_int(from: *const i32) -> Self::Int;
    /// Sixteen integers from memory that are 16 bits wide there, without sign.
    ///
    /// # Safety
    /// 16 such integers are readable at `from`.
    unsafe fn load_u16(from: *const u16) -> Self::Int;
    /// Sixteen integers from memory that are 8 bits wide there.
    ///
    /// # Safety
    /// 16 such integers are readable at `from`.
    unsafe fn load_i8(from: *const i8) -> Self::Int;
    /// `a < b` of integers.
    fn int_lt(a: Self::Int, b: Self::Int) -> Self::Mask;
    /// Turns sixteen rows into sixteen columns.
    fn transpose(rows: &mut [Self; LANES]);

    /// Asks for the cache line at an address, which need not be valid, to be
    /// brought to the second-level cache.
    #[inline(always)]
    fn prefetch(_address: *const f32) {}
    /// Fetches a cache line into the first level; any address is allowed.
    #[inline(always)]
    fn prefetch_near(_address: *const f32) {}

    /// Runs one register tile of the matrix product, compiled for this
    /// instruction set; see [`Tile`].
    ///
    /// # Safety
    /// As for [`Tile`]; `rows` is in `1..=TILE_ROWS`, `vectors` in
    /// `1..=TILE_VECTORS`, and the machine has the instruction set.
    unsafe fn run_tile(tile: &Tile, rows: usize, vectors: usize);

    /// Sixteen bf16 from memory: the upper halves of the f32 with their values.
    ///
    /// # Safety
    /// 16 of them are readable at `from`.
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller's.
        Self::from_bits(Self::int_shl::<16>(unsafe { Self::load_u16(from) }))
    }
    /// Sixteen f16 from memory, exactly as f32.
    ///
    /// # Safety
    /// 16 of them are readable at `from`.
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: the caller's.
        let half = unsafe { Self::load_u16(from) };
        // Exponent and mantissa in the places of an f32, whose exponent then is 112 too small:
        // exact for denormals too. Infinity and NaN come out as 2¹⁶ and more and get their own.
        let bits = Self::int_shl::<13>(Self::int_and(half, Self::int_splat(0x7fff)));
        let value = Self::from_bits(bits).mul(power_of_two(Self::int_splat(112)));
        let special = Self::from_bits(Self::int_or(bits, Self::int_splat(0x7f80_0000)));
        let value = Self::select(Self::lt(value, Self::splat(65536.0)), value, special);
        let sign = Self::int_and(Self::int_shl::<16>(half), Self::int_splat(i32::MIN));
        value.xor_sign(sign)
    }

    /// The sixteen elements.
    #[inline(always)]
    fn from_array(values: &[f32; LANES]) -> Self {
        // SAFETY: the array holds 16 floats.
        unsafe { Self::load(values.as_ptr()) }
    }
    /// The sixteen lanes.
    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut values = [0.0; LANES];
        self.write(&mut values);
        values
    }
    /// Writes the sixteen lanes.
    #[inline(always)]
    fn write(self, to: &mut [f32; LANES]) {
        // SAFETY: the array holds 16 floats.
        unsafe { self.store(to.as_mut_ptr()) }
    }
    /// Elements `i..i + 16` of a row, `fill` past its end.
    #[inline(always)]
    fn at(row: &[f32], i: usize, fill: f32) -> Self {
        let left = row.len().saturating_sub(i);
        let from = row.as_ptr().wrapping_add(i);
        // SAFETY: no more than what is left of the row is read.
        unsafe { if left >= LANES { Self::load(from) } else { Self::load_first(from, left, fill) } }
    }
    /// Writes elements `i..i + 16` of a row, up to its end.
    #[inline(always)]
    fn put(self, row: &mut [f32], i: usize) {
        let left = row.len().saturating_sub(i);
        let to = row.as_mut_ptr().wrapping_add(i);
        // SAFETY: no more than what is left of the row is written.
        unsafe {
            if left >= LANES {
                self.store(to);
            } else {
                self.store_first(to, left);
            }
        }
    }
    /// Sixteen integers.
    #[inline(always)]
    fn int_from_array(values: &[i32; LANES]) -> Self::Int {
        // SAFETY: the array holds 16 integers.
        unsafe { Self::load_int(values.as_ptr()) }
    }
    /// The sum of the lanes by the fixed tree.
    #[inline(always)]
    fn sum(self) -> f32 {
        sum_tree(self.to_array())
    }
    /// The largest lane. The sign of a zero and NaN are not specified.
    #[inline(always)]
    fn largest(self) -> f32 {
        let values = self.to_array();
        let mut largest = values[0];
        for &value in &values[1..] {
            largest = if value > largest { value } else { largest };
        }
        largest
    }
    /// The larger of two lanes; the second if one is NaN. For running maxima
    /// whose zeros and NaN do not show in the result.
    #[inline(always)]
    fn running_max(self, other: Self) -> Self {
        Self::select(Self::lt(other, self), self, other)
    }
}
