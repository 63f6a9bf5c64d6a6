//! How a product is computed, as data: what `gemm` itself asks, and what `llmc explain` shows.

use super::{Precision, blocked, skinny};
use crate::isa::{Isa, Kernel, dispatch};
use crate::simd::{LANES, Simd};

/// The way of one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GemmPath {
    /// Few rows: B is streamed once, nothing is packed.
    Skinny {
        /// Tasks, each with a contiguous span of columns.
        tasks: usize,
    },
    /// Packed panels and register tiles.
    Blocked(Blocking),
}

/// How a packed product is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocking {
    /// Rows and columns of a register tile.
    pub tile: [usize; 2],
    /// Links of the chains between store and reload of a tile.
    pub k_block: usize,
    /// Columns of B that are packed at a time.
    pub n_block: usize,
    /// Parts of the rows and of the columns, one task each.
    pub parts: [usize; 2],
}

/// Whether a product takes the way for few rows.
pub(super) fn is_skinny(m: usize, precision: Precision) -> bool {
    precision == Precision::F32 && m <= skinny::MAX_ROWS
}

/// Rows and columns of a register tile.
struct Tile;

impl Kernel for Tile {
    type Output = [usize; 2];

    #[inline(always)]
    fn run<V: Simd>(self) -> [usize; 2] {
        [V::TILE_ROWS, V::TILE_VECTORS * LANES]
    }
}

/// The way that [`super::gemm`] takes for these sizes on an instruction set that this machine has; on one
/// that it lacks, that of the scalar kernels.
pub fn gemm_path(
    isa: Isa,
    m: usize,
    n: usize,
    k: usize,
    precision: Precision,
    threads: usize,
) -> GemmPath {
    if is_skinny(m, precision) {
        return GemmPath::Skinny { tasks: skinny::tasks(m, n, k, threads) };
    }
    let isa = if isa.is_available() { isa } else { Isa::Scalar };
    let (k_block, n_block, parts) = blocked::cut(m, n, precision.chain_len(k), threads);
    GemmPath::Blocked(Blocking { tile: dispatch(isa, Tile), k_block, n_block, parts })
}
