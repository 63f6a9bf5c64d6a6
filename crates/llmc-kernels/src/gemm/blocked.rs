//! The packed and blocked matrix product for more than a few rows.

use core::ops::Range;

use super::pack::{AsIs, Block, InF16, PANEL_SLACK, PairsInBf16, pack_groups, pack_panel};
use super::tile::{Rows, Tile};
use super::{Gemm, Precision};
use crate::disjoint::DisjointMut;
use crate::float_env::FlushedFloats;
use crate::isa::{Kernel, dispatch};
use crate::parallel::{Ctx, part};
use crate::simd::{LANES, Simd};

/// Columns of a packed panel of B, for every instruction set.
const PANEL: usize = 32;
/// Length of a chain between store and reload. A panel of B of this length is
/// 32 KiB and stays in the first-level cache.
const K_BLOCK: usize = 256;
/// Rows of A that are packed at a time: a multiple of the tile heights, and
/// 172 KiB with `K_BLOCK`, which stays in the second-level cache.
const M_BLOCK: usize = 336;
/// Links of the chain that are packed at a time where the rows of A are adjacent.
const K_STEP: usize = 16;
/// The most elements of B that are packed at a time.
const B_BUDGET: usize = 1 << 22;
/// The longest part of the chains whose B is packed at a time.
const B_K_BUDGET: usize = 4096;
/// Multiplications below which one thread is faster than waking others.
const MIN_PARALLEL_WORK: usize = 1 << 18;
/// Elements of A that a thread packs at a time.
const A_PACK_LEN: usize = M_BLOCK * K_BLOCK + PANEL_SLACK;

/// Elements of scratch: packed B, then one packed block of A per thread.
pub(super) fn scratch_len(n: usize, k: usize, threads: usize) -> usize {
    let (k_block, n_block) = b_blocks(n, k);
    k_block * n_block + threads.max(1) * A_PACK_LEN
}

/// How much of B is packed at a time: (of k, of n in whole panels).
fn b_blocks(n: usize, k: usize) -> (usize, usize) {
    let k_block = k.clamp(1, B_K_BUDGET);
    let n_block = (B_BUDGET / k_block / PANEL * PANEL).min(n.next_multiple_of(PANEL));
    (k_block, n_block)
}

/// How a product is cut: links of a chain between store and reload, columns that are packed at a time, and
/// the parts of rows and panels.
pub(super) fn cut(m: usize, n: usize, k: usize, threads: usize) -> (usize, usize, [usize; 2]) {
    let (k_block, n_block) = b_blocks(n, k);
    let n_block = n_block.min(n);
    let panels = n_block.div_ceil(PANEL);
    let (rows, columns) = grid(m.max(1), panels.max(1), workers(m, n, k, threads).max(1));
    (K_BLOCK.min(k_block), n_block, [rows, columns])
}

/// Threads that are worth waking.
fn workers(m: usize, n: usize, k: usize, threads: usize) -> usize {
    let work = m.saturating_mul(n).saturating_mul(k);
    if work < MIN_PARALLEL_WORK { 1 } else { threads }
}

/// Runs a checked problem with m, n ≥ 1 and enough scratch.
pub(super) fn run(
    ctx: &Ctx<'_>,
    problem: &Gemm<'_>,
    c: &mut [f32],
    c_stride: usize,
    scratch: &mut [f32],
) {
    let &Gemm { m, n, precision, .. } = problem;
    let k = precision.chain_len(problem.k);
    let (k_block, n_block) = b_blocks(n, k);
    let (packed, a_scratch) = scratch.split_at_mut(k_block * n_block);
    let c = DisjointMut::new(c);
    let a_scratch = DisjointMut::new(a_scratch);
    let threads = workers(m, n, k, ctx.threads());

    for n_start in (0..n).step_by(n_block) {
        let columns = n_start..(n_start + n_block).min(n);
        let panels = columns.len().div_ceil(PANEL);
        let (row_parts, panel_parts) = grid(m, panels, threads);
        // At least one round, so that k = 0 still writes C.
        let mut k_start = 0;
        loop {
            let chain = k_start..(k_start + k_block).min(k);
            let shared = DisjointMut::new(&mut *packed);
            ctx.run(threads.min(panels), &|index| {
                dispatch(
                    ctx.isa(),
                    PackB {
                        problem,
                        columns: columns.clone(),
                        chain: chain.clone(),
                        panels: part(panels, threads.min(panels), index),
                        packed: &shared,
                    },
                );
            });
            ctx.run(row_parts * panel_parts, &|index| {
                dispatch(
                    ctx.isa(),
                    Multiply {
                        problem,
                        c: &c,
                        c_stride,
                        rows: part(m, row_parts, index / panel_parts),
                        panels: part(panels, panel_parts, index % panel_parts),
                        columns: columns.clone(),
                        chain: chain.clone(),
                        packed: &*packed,
                        a_scratch: &a_scratch,
                        a_offset: index * A_PACK_LEN,
                    },
                );
            });
            k_start = chain.end;
            if k_start == k {
                break;
            }
        }
    }
}

/// How many parts rows and panels are cut into: the cut whose largest part is
/// cheapest, counting the rows that every part of the panels packs again.
fn grid(m: usize, panels: usize, threads: usize) -> (usize, usize) {
    let mut best = (usize::MAX, (1, 1));
    for panel_parts in 1..=threads.min(panels) {
        let row_parts = (threads / panel_parts).min(m);
        let rows = m.div_ceil(row_parts);
        // Packing a row costs about a third of a panel's arithmetic on it.
        let cost = rows * (3 * panels.div_ceil(panel_parts) + 1);
        if cost < best.0 {
            best = (cost, (row_parts, panel_parts));
        }
    }
    best.1
}

/// Packs a range of panels of one block of B.
struct PackB<'a> {
    problem: &'a Gemm<'a>,
    columns: Range<usize>,
    chain: Range<usize>,
    panels: Range<usize>,
    packed: &'a DisjointMut<'a, f32>,
}

impl Kernel for PackB<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let b = &self.problem.b;
        let k_len = self.chain.len();
        // Where columns are adjacent, a few k at a time for all panels, so that
        // memory is read in long stretches.
        let step = if b.col_stride == 1 { K_STEP } else { k_len.max(1) };
        // SAFETY: the panels of tasks are disjoint, as are their places.
        let packed = unsafe {
            let place = k_len * PANEL;
            self.packed.range(self.panels.start * place..self.panels.end * place)
        };
        for k in (0..k_len).step_by(step) {
            let k_count = step.min(k_len - k);
            let k_start = self.chain.start + k;
            for (index, panel) in self.panels.clone().enumerate() {
                let column = self.columns.start + panel * PANEL;
                let i_len = (self.columns.end - column).min(PANEL);
                let block = Block {
                    start: b.data.as_ptr().wrapping_add(column * b.col_stride),
                    i_stride: b.col_stride,
                    k_stride: b.row_stride,
                };
                let to = &mut packed[(index * k_len + k) * PANEL..];
                // SAFETY: columns and chain are inside of B, whose reach was
                // checked; the panel is a multiple of 16 wide and fits its place.
                unsafe {
                    pack::<V>(
                        self.problem,
                        block,
                        i_len,
                        k_start..k_start + k_count,
                        PANEL,
                        to.as_mut_ptr(),
                    );
                }
            }
        }
    }
}

/// Packs some places of the chains of a block that begins at k = 0, as the problem's precision wants them.
///
/// # Safety
/// As for [`pack_panel`].
#[inline(always)]
unsafe fn pack<V: Simd>(
    problem: &Gemm<'_>,
    block: Block,
    i_len: usize,
    places: Range<usize>,
    width: usize,
    to: *mut f32,
) {
    let len = places.len();
    let present = places.end.min(problem.k).saturating_sub(places.start);
    // SAFETY: the caller's. Places are k but for odd groups; an odd rest has one place more.
    unsafe {
        let here =
            Block { start: block.start.wrapping_add(places.start * block.k_stride), ..block };
        match (problem.precision, problem.precision.odd_group(problem.k)) {
            (Precision::F32, _) => pack_panel::<V, AsIs>(here, i_len, len, len, width, to),
            (Precision::F16, _) => pack_panel::<V, InF16>(here, i_len, len, len, width, to),
            (_, None) => pack_panel::<V, PairsInBf16>(here, i_len, len, present, width, to),
            (_, Some(group)) => pack_groups(block, i_len, places, group, width, to),
        }
    }
}

/// Computes one rectangle of C for one block of the chains.
struct Multiply<'a> {
    problem: &'a Gemm<'a>,
    c: &'a DisjointMut<'a, f32>,
    c_stride: usize,
    rows: Range<usize>,
    panels: Range<usize>,
    columns: Range<usize>,
    chain: Range<usize>,
    packed: &'a [f32],
    a_scratch: &'a DisjointMut<'a, f32>,
    a_offset: usize,
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        // What is packed and multiplied in bf16 knows no subnormals.
        let _flushed = self.problem.precision.flushes().then(FlushedFloats::enter);
        // SAFETY: each task has a block of its own.
        let a_pack = unsafe { self.a_scratch.range(self.a_offset..self.a_offset + A_PACK_LEN) };
        for m_start in self.rows.clone().step_by(M_BLOCK) {
            let rows = m_start..(m_start + M_BLOCK).min(self.rows.end);
            // The chains of these rows from end to end, while their part of C is
            // in cache. At least one round, so that k = 0 still writes C.
            let mut k_start = self.chain.start;
            loop {
                let k_end = (k_start + K_BLOCK).min(self.chain.end);
                self.block::<V>(rows.clone(), k_start..k_end, a_pack);
                k_start = k_end;
                if k_start == self.chain.end {
                    break;
                }
            }
        }
    }
}

impl Multiply<'_> {
    /// At most `M_BLOCK` rows and `K_BLOCK` links of the chains: packs A, then
    /// walks the panels of B and for each the tiles of rows.
    #[inline(always)]
    fn block<V: Simd>(&self, rows: Range<usize>, chain: Range<usize>, a_pack: &mut [f32]) {
        let problem = self.problem;
        let k_len = chain.len();
        // Tiles of almost equal height waste less than full ones and a rest.
        let tiles = rows.len().div_ceil(V::TILE_ROWS);
        self.pack_a::<V>(rows.clone(), tiles, chain.clone(), a_pack);

        let first = chain.start == 0;
        let last = chain.end == problem.precision.chain_len(problem.k);
        let packed_len = self.chain.len();
        for panel in self.panels.clone() {
            let column = self.columns.start + panel * PANEL;
            let panel_columns = (self.columns.end - column).min(PANEL);
            let b = self
                .packed
                .as_ptr()
                .wrapping_add((panel * packed_len + chain.start - self.chain.start) * PANEL);
            let mut done = 0;
            while done < panel_columns {
                let columns = (panel_columns - done).min(V::TILE_VECTORS * LANES);
                let column = column + done;
                for tile in 0..tiles {
                    let tile_rows = part(rows.len(), tiles, tile);
                    let row = rows.start + tile_rows.start;
                    let height = tile_rows.len();
                    let bias = match problem.bias {
                        Some(bias) if last => bias.as_ptr().wrapping_add(column),
                        _ => core::ptr::null(),
                    };
                    let (residual, residual_stride) = match problem.residual {
                        Some((residual, stride)) if last => {
                            (residual.as_ptr().wrapping_add(row * stride + column), stride)
                        }
                        _ => (core::ptr::null(), 0),
                    };
                    let tile = Tile {
                        a: a_pack.as_ptr().wrapping_add(tile_rows.start * k_len),
                        a_rows: Rows::Adjacent,
                        a_step: height,
                        b: b.wrapping_add(done),
                        b_step: PANEL,
                        k: k_len,
                        c: self.c.as_ptr().wrapping_add(row * self.c_stride + column),
                        c_stride: self.c_stride,
                        columns,
                        accumulate: problem.accumulate || !first,
                        flush: problem.precision.flushes(),
                        bias,
                        residual,
                        residual_stride,
                        // The first two tiles fetch the next panel, two lines for
                        // each k; the others have nothing to wait for.
                        prefetch: b.wrapping_add(packed_len * PANEL + tile * k_len * LANES),
                        prefetch_step: if tile < 2 { LANES } else { 0 },
                        next_c: match tile + 1 < tiles {
                            true => self
                                .c
                                .as_ptr()
                                .wrapping_add((row + height) * self.c_stride + column),
                            false => core::ptr::null(),
                        },
                    };
                    // SAFETY: A and B were packed with these strides; rows and
                    // columns are inside of C, whose reach was checked, and
                    // belong to this task; so do bias and residual.
                    unsafe { V::run_tile(&tile, height, columns.div_ceil(LANES)) };
                }
                done += columns;
            }
        }
    }

    /// Packs the rows as `tiles` panels, one behind the other.
    #[inline(always)]
    fn pack_a<V: Simd>(
        &self,
        rows: Range<usize>,
        tiles: usize,
        chain: Range<usize>,
        a_pack: &mut [f32],
    ) {
        let a = &self.problem.a;
        let k_len = chain.len();
        let start = a.data.as_ptr().wrapping_add(rows.start * a.row_stride);
        // Where rows are adjacent, a few k at a time for all tiles, so that each
        // stretch of memory is read once.
        let step = if a.row_stride == 1 { K_STEP } else { k_len.max(1) };
        for k in (0..k_len).step_by(step) {
            let k_count = step.min(k_len - k);
            for tile in 0..tiles {
                let tile_rows = part(rows.len(), tiles, tile);
                let height = tile_rows.len();
                let block = Block {
                    start: start.wrapping_add(tile_rows.start * a.row_stride),
                    i_stride: a.row_stride,
                    k_stride: a.col_stride,
                };
                // SAFETY: rows and chain are inside of A, whose reach was checked.
                // Panel `tile` begins at `tile_rows.start · k_len`. What spills
                // over its end is the beginning of the next panel, written later,
                // or the slack at the end of the block; adjacent rows do not
                // spill.
                unsafe {
                    pack::<V>(
                        self.problem,
                        block,
                        height,
                        chain.start + k..chain.start + k + k_count,
                        height,
                        a_pack.as_mut_ptr().add(tile_rows.start * k_len + k * height),
                    );
                }
            }
        }
    }
}
