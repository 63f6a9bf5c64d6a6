//! The register tile: where all the arithmetic of the matrix product happens.

use crate::simd::{LANES, Simd};

/// One tile: `C[r, c] = start + Σ_k a[k·a_step + r·rows_apart] · b[k·b_step + c]`,
/// one FMA chain over k per element, then the optional additions.
///
/// Rows and vectors are arguments of [`Simd::run_tile`]; columns are `vectors`
/// vectors of 16, of which the last may be partly used.
///
/// # Safety
/// For the rows, vectors and `k` it is run with: `a` and `b` are readable as far
/// as the formula reaches, with b in whole vectors; `c` (and `residual`, with
/// `residual_stride`) is valid in `rows` rows of `columns` floats, `bias` in
/// `columns` floats, null pointers standing for absent operands; no other thread
/// touches that part of C.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Element (row 0, k 0) of A.
    pub a: *const f32,
    /// How far apart the rows of A are.
    pub a_rows: Rows,
    /// Distance between consecutive k in A.
    pub a_step: usize,
    /// Element (k 0, column 0) of B; columns are adjacent.
    pub b: *const f32,
    /// Distance between consecutive k in B.
    pub b_step: usize,
    /// Length of the chain.
    pub k: usize,
    /// Element (0, 0) of C; columns are adjacent.
    pub c: *mut f32,
    /// Distance between rows of C.
    pub c_stride: usize,
    /// Columns of C in this tile.
    pub columns: usize,
    /// Whether the chain starts from C instead of +0.
    pub accumulate: bool,
    /// Whether subnormals are flushed. Read where the machine's control word does not do it.
    pub flush: bool,
    /// Added to each row after the chain, or null.
    pub bias: *const f32,
    /// Added to each element after that, or null.
    pub residual: *const f32,
    /// Distance between rows of the residual.
    pub residual_stride: usize,
    /// Memory that is wanted soon: one cache line per k is fetched from here on,
    /// `prefetch_step` floats apart, or null. Any address is allowed.
    pub prefetch: *const f32,
    /// Distance between fetched lines, or 0.
    pub prefetch_step: usize,
    /// Where the tile after this one begins in C, or null: as many rows of it are fetched while this
    /// one computes. Any address is allowed.
    pub next_c: *const f32,
}

/// The distance between rows of A, known to the compiler.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// 1: packed, or columns of a row-major matrix.
    Adjacent,
    /// [`APART`]: rows of a row-major matrix of that width.
    Apart,
}

/// The width of the row-major matrices that can be a left operand as they are:
/// the tiles of attention scores.
pub(crate) const APART: usize = 64;

/// Steps of the chain for each row of the next tile that is fetched.
const FETCH_EVERY: usize = 8;

impl Tile {
    /// No operands, no additions: a base for the fields that matter.
    pub const NEW: Tile = Tile {
        a: core::ptr::null(),
        a_rows: Rows::Adjacent,
        a_step: 0,
        b: core::ptr::null(),
        b_step: 0,
        k: 0,
        c: core::ptr::null_mut(),
        c_stride: 0,
        columns: 0,
        accumulate: false,
        flush: false,
        bias: core::ptr::null(),
        residual: core::ptr::null(),
        residual_stride: 0,
        prefetch: core::ptr::null(),
        prefetch_step: 0,
        next_c: core::ptr::null(),
    };
}

/// The tile with its size known to the compiler: `ROWS × VECTORS` accumulators
/// stay in registers. `APART` is the distance between rows of A; with `FLUSH` the FMAs flush subnormals
/// whatever the control word.
///
/// # Safety
/// As for [`Tile`].
#[inline(always)]
pub(crate) unsafe fn tile_body<
    V: Simd,
    const ROWS: usize,
    const VECTORS: usize,
    const APART: usize,
    const FLUSH: bool,
>(
    tile: &Tile,
) {
    // SAFETY: all accesses are those that the contract of `Tile` lists.
    unsafe {
        let last = tile.columns - (VECTORS - 1) * LANES;
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        if tile.accumulate {
            for (r, row) in sums.iter_mut().enumerate() {
                load_row(tile.c.add(r * tile.c_stride), last, row);
            }
        }
        let (mut a, mut b) = (tile.a, tile.b);
        // An address without a page is slow to ask for, B is at hand.
        let mut soon = if tile.prefetch.is_null() { tile.b } else { tile.prefetch };
        let (mut left, mut next_row) = (tile.k, 0);
        while left > 0 {
            // A row at a time: the fetches of a whole tile at once would fill what the processor can wait for.
            if next_row < ROWS && !tile.next_c.is_null() {
                let row = tile.next_c.wrapping_add(next_row * tile.c_stride);
                for v in 0..VECTORS {
                    V::prefetch_near(row.wrapping_add(v * LANES));
                }
                next_row += 1;
            }
            let steps = left.min(FETCH_EVERY);
            left -= steps;
            for _ in 0..steps {
                V::prefetch(soon);
                let mut columns = [V::splat(0.0); VECTORS];
                for (v, column) in columns.iter_mut().enumerate() {
                    *column = V::load(b.add(v * LANES));
                }
                for (r, row) in sums.iter_mut().enumerate() {
                    let factor = V::splat(*a.add(r * APART));
                    for (sum, &column) in row.iter_mut().zip(&columns) {
                        *sum = match FLUSH {
                            true => factor.fma_flushed(column, *sum),
                            false => factor.fma(column, *sum),
                        };
                    }
                }
                // The last step may leave the operands' allocations.
                a = a.wrapping_add(tile.a_step);
                b = b.wrapping_add(tile.b_step);
                soon = soon.wrapping_add(tile.prefetch_step);
            }
        }
        if !tile.bias.is_null() {
            let mut bias = [V::splat(0.0); VECTORS];
            load_row(tile.bias, last, &mut bias);
            for row in &mut sums {
                for (sum, &bias) in row.iter_mut().zip(&bias) {
                    *sum = sum.add(bias);
                }
            }
        }
        if !tile.residual.is_null() {
            for (r, row) in sums.iter_mut().enumerate() {
                let mut residual = [V::splat(0.0); VECTORS];
                load_row(tile.residual.add(r * tile.residual_stride), last, &mut residual);
                for (sum, &residual) in row.iter_mut().zip(&residual) {
                    *sum = sum.add(residual);
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            let c = tile.c.add(r * tile.c_stride);
            for (v, &sum) in row.iter().enumerate() {
                if v + 1 < VECTORS || last == LANES {
                    sum.store(c.add(v * LANES));
                } else {
                    sum.store_first(c.add(v * LANES), last);
                }
            }
        }
    }
}

/// Loads whole vectors, and `last` lanes of the last one.
///
/// # Safety
/// So many floats are readable.
#[inline(always)]
unsafe fn load_row<V: Simd, const VECTORS: usize>(
    from: *const f32,
    last: usize,
    to: &mut [V; VECTORS],
) {
    for (v, value) in to.iter_mut().enumerate() {
        // SAFETY: the caller's.
        *value = unsafe {
            if v + 1 < VECTORS || last == LANES {
                V::load(from.add(v * LANES))
            } else {
                V::load_first(from.add(v * LANES), last, 0.0)
            }
        };
    }
}
