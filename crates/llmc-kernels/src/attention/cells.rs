//! Keys and values of a cache, f32 or narrower.

use super::Attention;
use crate::error::{Error, check_len, product};
use crate::gemm::pack::{Block, transposed_block};
use crate::simd::{LANES, Simd};

/// Keys or values [B, capacity, K, D] in the format of a KV cache.
#[derive(Clone, Copy, Debug)]
pub enum Cells<'a> {
    /// f32.
    F32(&'a [f32]),
    /// The bits of bf16.
    Bf16(&'a [u16]),
    /// 8 bits, and a scale for each row of D elements.
    I8 {
        /// [B, capacity, K, D].
        q: &'a [i8],
        /// [B, capacity, K].
        scale: &'a [f32],
    },
}

impl<'a> Cells<'a> {
    /// Keys or values of one batch of `shape`; nothing where there is none.
    pub fn batch(&self, shape: &Attention, batch: usize) -> Cells<'a> {
        fn part<T>(x: &[T], batch: usize, len: usize) -> &[T] {
            x.get(batch * len..(batch + 1) * len).unwrap_or_default()
        }
        let rows = shape.kv_capacity * shape.n_kv_heads;
        let len = rows * shape.head_dim;
        match *self {
            Cells::F32(x) => Cells::F32(part(x, batch, len)),
            Cells::Bf16(x) => Cells::Bf16(part(x, batch, len)),
            Cells::I8 { q, scale } => {
                Cells::I8 { q: part(q, batch, len), scale: part(scale, batch, rows) }
            }
        }
    }

    /// Refuses other lengths than those of `shape`.
    pub(super) fn check(&self, name: &'static str, shape: &Attention) -> Result<(), Error> {
        let expected = shape.kv_elements()?;
        match self {
            Cells::F32(x) => check_len(name, x, expected),
            Cells::Bf16(x) => check_len(name, x, expected),
            Cells::I8 { q, scale } => {
                check_len(name, q, expected)?;
                let rows = product(&[shape.batch, shape.kv_capacity, shape.n_kv_heads])?;
                check_len("scale", scale, rows)
            }
        }
    }
}

/// Where up to sixteen rows of up to sixteen elements are: one head at neighbouring positions.
#[derive(Clone, Copy)]
pub(super) struct Patch {
    /// The first element.
    pub at: usize,
    /// The row of `head_dim` elements that it is in.
    pub row: usize,
    /// Rows from one position to the next.
    pub heads: usize,
    /// Elements of a row.
    pub dim: usize,
}

/// Elements that are read as f32, sixteen at a time.
///
/// # Safety
/// `load` and `turned` read no elements but those that they name; kernels rely on it.
pub(super) unsafe trait Elements: Copy + Sync {
    /// Elements `at..at + count` of row `row`, zeros behind; count ≤ 16.
    ///
    /// # Safety
    /// They are there.
    unsafe fn load<V: Simd>(self, at: usize, row: usize, count: usize) -> V;

    /// Up to 16×16 elements: vector k holds element k of `positions` rows, zeros past `positions` and `count`.
    ///
    /// # Safety
    /// They are there; both counts are at most 16.
    #[inline(always)]
    unsafe fn turned<V: Simd>(self, from: Patch, positions: usize, count: usize) -> [V; LANES] {
        let mut rows = [V::splat(0.0); LANES];
        // Sixteen known steps, so that the rows are registers.
        let mut i = 0;
        while i < LANES {
            if i < positions {
                let (at, row) = (from.at + i * from.heads * from.dim, from.row + i * from.heads);
                // SAFETY: the caller's.
                rows[i] = unsafe { self.load(at, row, count) };
            }
            i += 1;
        }
        V::transpose(&mut rows);
        rows
    }
}

/// f32 as they are.
#[derive(Clone, Copy)]
pub(super) struct Plain<'a>(pub &'a [f32]);

// SAFETY: every access is of the stated elements.
unsafe impl Elements for Plain<'_> {
    #[inline(always)]
    unsafe fn load<V: Simd>(self, at: usize, _: usize, count: usize) -> V {
        let from = self.0.as_ptr().wrapping_add(at);
        // SAFETY: the caller's.
        unsafe { if count == LANES { V::load(from) } else { V::load_first(from, count, 0.0) } }
    }
    #[inline(always)]
    unsafe fn turned<V: Simd>(self, from: Patch, positions: usize, count: usize) -> [V; LANES] {
        let start = self.0.as_ptr().wrapping_add(from.at);
        let block = Block { start, i_stride: from.heads * from.dim, k_stride: 1 };
        // SAFETY: the caller's.
        unsafe { transposed_block::<V>(block, positions, count) }
    }
}

/// Some elements, with zeros behind them.
///
/// # Safety
/// `count` elements are readable at `from`; count ≤ 16.
#[inline(always)]
unsafe fn padded<T: Copy + Default>(from: *const T, count: usize) -> [T; LANES] {
    let mut all = [T::default(); LANES];
    for (i, x) in all.iter_mut().enumerate().take(count) {
        // SAFETY: the caller's.
        *x = unsafe { from.add(i).read() };
    }
    all
}

/// bf16.
#[derive(Clone, Copy)]
pub(super) struct Halves<'a>(pub &'a [u16]);

// SAFETY: every access is of the stated elements.
unsafe impl Elements for Halves<'_> {
    #[inline(always)]
    unsafe fn load<V: Simd>(self, at: usize, _: usize, count: usize) -> V {
        let from = self.0.as_ptr().wrapping_add(at);
        // SAFETY: the caller's.
        unsafe {
            match count == LANES {
                true => V::load_bf16(from),
                false => V::load_bf16(padded(from, count).as_ptr()),
            }
        }
    }
}

/// 8 bits times the scale of their row.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a> {
    /// Elements.
    pub q: &'a [i8],
    /// One for each row.
    pub scale: &'a [f32],
}

// SAFETY: every access is of the stated elements.
unsafe impl Elements for Bytes<'_> {
    #[inline(always)]
    unsafe fn load<V: Simd>(self, at: usize, row: usize, count: usize) -> V {
        let from = self.q.as_ptr().wrapping_add(at);
        // SAFETY: the caller's.
        let (q, scale) = unsafe {
            let q = match count == LANES {
                true => V::load_i8(from),
                false => V::load_i8(padded(from, count).as_ptr()),
            };
            (V::from_int(q), *self.scale.get_unchecked(row))
        };
        q.mul(V::splat(scale))
    }
}
