//! `x·Wᵀ` by panels of 8- or 4-bit integers.
//!
//! Per block of 32 and panel: integer sums of 16 outputs, one multiplication of the two
//! scales, one FMA; with a minimum per group one more of each. Several rows of x share what is loaded and unpacked of the weights.

use core::ops::Range;

use super::activations::{Layout, Rows, round_row};
use super::floats::finish;
use super::groups::{BlockScales, GroupScales, Groups, Plain, Supers};
use super::{BLOCK, PANEL, Quants, Scales, check_quants, panels, tasks};
use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len, product};
use crate::isa::{ByteKernel, dispatch_bytes};
use crate::parallel::{Ctx, part};
use crate::simd::bytes::{ByteDot, NIBBLE_OFFSET};

/// Bytes of the 8-bit quants of a panel and block.
const PANEL_BLOCK: usize = PANEL * BLOCK;
/// Rows of x that meet a panel at a time where there are many registers.
const MAX_ROWS: usize = 8;

/// The most rows of x that meet a panel at a time.
#[inline(always)]
fn most_rows<V: ByteDot>() -> usize {
    if V::TILE_VECTORS > 1 { MAX_ROWS } else { 2 }
}

/// Elements of scratch that [`quantized_linear`] needs.
pub fn quantized_scratch_len(rows: usize, k: usize) -> usize {
    Layout { rows, k }.words()
}

/// y = x·Wᵀ + bias with x rounded to 8 bits per block: x [rows, k], y [rows, outputs].
///
/// Per element one chain over the blocks from +0: `acc = fma(f32(Σ q_x·q_w), scale_x·scale_w, acc)`; the bias is
/// added after it with a rounding of its own.
///
/// Errors: [`Error::Dimension`] if k is not a multiple of 32, [`Error::Length`] if an operand has another
/// length, [`Error::Scratch`] below [`quantized_scratch_len`].
#[allow(clippy::too_many_arguments)] // They are the operands.
pub fn quantized_linear(
    ctx: &Ctx<'_>,
    x: &[f32],
    k: usize,
    quants: Quants<'_>,
    scales: Scales<'_>,
    bias: Option<&[f32]>,
    outputs: usize,
    y: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Error> {
    check_quants(quants, scales, outputs, k)?;
    let operands = Operands { x, k, quants, bias, outputs };
    run(ctx, &operands, Plain { scales, blocks: k / BLOCK }, y, scratch)
}

/// y = x·Wᵀ + bias by weights `scale·c − min`, c = q + 8 in 0..=15, with x rounded to 8 bits per block: x [rows, k],
/// q as [`Quants::I4`], y [rows, outputs].
///
/// Per element one chain over the blocks from +0, with x' the rounded block and s its scale:
/// `acc = fma(f32(Σ x'·c), scale·s, acc); acc = fma(f32(−Σ x'), min·s, acc)`; the bias is added after it with a rounding
/// of its own.
///
/// Errors: as [`quantized_linear`], and [`Error::Dimension`] if k is not whole groups.
#[allow(clippy::too_many_arguments)] // They are the operands.
pub fn group_quantized_linear(
    ctx: &Ctx<'_>,
    x: &[f32],
    k: usize,
    quants: &[u8],
    scales: GroupScales<'_>,
    bias: Option<&[f32]>,
    outputs: usize,
    y: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Error> {
    scales.check(quants, outputs, k)?;
    let operands = Operands { x, k, quants: Quants::I4(quants), bias, outputs };
    match scales {
        GroupScales::F16 { group, scale, min } => {
            let groups = Groups { scale, min, per_row: k / group, blocks: group / BLOCK };
            run(ctx, &operands, groups, y, scratch)
        }
        GroupScales::Super { scale, min, d, dmin } => {
            let supers = Supers { scale, min, d, dmin, blocks: k / BLOCK };
            run(ctx, &operands, supers, y, scratch)
        }
    }
}

/// The operands of a product but for its scales.
struct Operands<'a> {
    x: &'a [f32],
    k: usize,
    quants: Quants<'a>,
    bias: Option<&'a [f32]>,
    outputs: usize,
}

/// Checks what is left to check, and runs: quants and scales fit.
fn run<B: BlockScales + Sync>(
    ctx: &Ctx<'_>,
    operands: &Operands<'_>,
    scales: B,
    y: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Error> {
    let &Operands { x, k, quants, bias, outputs } = operands;
    let rows = y.len().checked_div(outputs).unwrap_or(0);
    check_len("y", y, product(&[rows, outputs])?)?;
    check_len("x", x, product(&[rows, k])?)?;
    if let Some(bias) = bias {
        check_len("bias", bias, outputs)?;
    }
    let layout = Layout { rows, k };
    if scratch.len() < layout.words() {
        return Err(Error::Scratch { expected: layout.words(), actual: scratch.len() });
    }
    let rounded = DisjointMut::new(scratch);
    ctx.split(rows, k, &|rows| {
        dispatch_bytes(ctx.isa(), Round { x, layout, quants, rows, rounded: &rounded });
    });
    let tasks = tasks(ctx, rows, outputs, k);
    let y = DisjointMut::new(y);
    ctx.run(tasks, &|index| {
        let span = part(panels(outputs), tasks, index);
        let rounded = rounded.as_ptr();
        let columns = Columns { rounded, layout, quants, scales, bias, outputs, y: &y, span };
        dispatch_bytes(ctx.isa(), columns);
    });
    Ok(())
}

/// Rounds some rows of x.
struct Round<'a> {
    x: &'a [f32],
    layout: Layout,
    quants: Quants<'a>,
    rows: Range<usize>,
    rounded: &'a DisjointMut<'a, f32>,
}

impl ByteKernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: ByteDot>(self) {
        let offset = match self.quants {
            Quants::I8(_) => V::OFFSET,
            Quants::I4(_) => NIBBLE_OFFSET,
        };
        let (k, most) = (self.layout.k, most_rows::<V>());
        for row in self.rows {
            let mut first = row / most * most;
            let mut step = self.layout.group(first, most);
            while first + step <= row {
                first += step;
                step = self.layout.group(first, most);
            }
            // SAFETY: the scratch is long enough, and the rows of tasks are disjoint.
            unsafe {
                let to = self.layout.rows(self.rounded.as_ptr(), first, step);
                round_row::<V>(&self.x[row * k..(row + 1) * k], offset, to, row - first);
            }
        }
    }
}

/// All rows of the outputs of some panels.
struct Columns<'a, B> {
    rounded: *const f32,
    layout: Layout,
    quants: Quants<'a>,
    scales: B,
    bias: Option<&'a [f32]>,
    outputs: usize,
    y: &'a DisjointMut<'a, f32>,
    span: Range<usize>,
}

/// How integers of a panel are loaded.
trait Source: Copy {
    /// Adds the products of a panel and block, which begin at element `at` of all quants, to the sums of each row.
    ///
    /// # Safety
    /// A block of a panel begins there, and rows hold that block.
    unsafe fn add<V: ByteDot, const R: usize>(
        self,
        at: usize,
        block: usize,
        rows: Rows,
        sums: &mut [V::Int; R],
    );
}

#[derive(Clone, Copy)]
struct I8(*const i8);
#[derive(Clone, Copy)]
struct I4(*const u8);

/// Adds 64 products to the sums of each row.
///
/// # Safety
/// Rows hold that quad.
#[inline(always)]
unsafe fn add_quad<V: ByteDot, const R: usize>(
    weights: V::Bytes,
    quad: usize,
    rows: Rows,
    sums: &mut [V::Int; R],
) {
    for (r, sum) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's.
        *sum = V::dot(*sum, weights, unsafe { *rows.quads.add(quad * R + r) });
    }
}

impl Source for I8 {
    #[inline(always)]
    unsafe fn add<V: ByteDot, const R: usize>(
        self,
        at: usize,
        block: usize,
        rows: Rows,
        sums: &mut [V::Int; R],
    ) {
        let mut quad = 0;
        while quad < BLOCK / 4 {
            // SAFETY: the caller's.
            unsafe {
                let weights = V::load_bytes(self.0.add(at + quad * 4 * PANEL));
                add_quad::<V, R>(weights, block * (BLOCK / 4) + quad, rows, sums);
            }
            quad += 1;
        }
    }
}

impl Source for I4 {
    #[inline(always)]
    unsafe fn add<V: ByteDot, const R: usize>(
        self,
        at: usize,
        block: usize,
        rows: Rows,
        sums: &mut [V::Int; R],
    ) {
        let mut quad = 0;
        while quad < BLOCK / 4 {
            // SAFETY: the caller's.
            unsafe {
                let [low, high] = V::load_nibbles(self.0.add(at / 2 + quad * 2 * PANEL));
                add_quad::<V, R>(low, block * (BLOCK / 4) + quad, rows, sums);
                add_quad::<V, R>(high, block * (BLOCK / 4) + quad + 1, rows, sums);
            }
            quad += 2;
        }
    }
}

impl<B: BlockScales> ByteKernel for Columns<'_, B> {
    type Output = ();

    #[inline(always)]
    fn run<V: ByteDot>(self) {
        match self.quants {
            Quants::I8(q) => self.all::<V, I8>(I8(q.as_ptr())),
            Quants::I4(q) => self.all::<V, I4>(I4(q.as_ptr())),
        }
    }
}

impl<B: BlockScales> Columns<'_, B> {
    /// Panels outside, rows inside: a panel is read from memory once.
    #[inline(always)]
    fn all<V: ByteDot, S: Source>(&self, quants: S) {
        let most = most_rows::<V>();
        for panel in self.span.clone() {
            let mut first = 0;
            while first < self.layout.rows {
                let group = self.layout.group(first, most);
                match group {
                    MAX_ROWS => self.tile::<V, S, MAX_ROWS>(quants, panel, first),
                    4 => self.tile::<V, S, 4>(quants, panel, first),
                    2 => self.tile::<V, S, 2>(quants, panel, first),
                    _ => self.tile::<V, S, 1>(quants, panel, first),
                }
                first += group;
            }
        }
    }

    /// The `R` rows of a group by one panel, from end to end of the chains.
    #[inline(always)]
    fn tile<V: ByteDot, S: Source, const R: usize>(&self, quants: S, panel: usize, first: usize) {
        // SAFETY: the scratch is long enough and holds this group.
        let rows = unsafe { self.layout.rows(self.rounded, first, R) };
        let blocks = self.layout.k / BLOCK;
        let mut sums = [V::splat(0.0); R];
        for block in 0..blocks {
            let at = panel * blocks + block;
            let mut products = [V::int_splat(0); R];
            for (r, products) in products.iter_mut().enumerate() {
                if !B::HAS_MIN {
                    // SAFETY: the rows have that block.
                    *products = V::int_splat(unsafe { *rows.starts.add(block * R + r) });
                }
            }
            // SAFETY: panels and blocks are inside of the quants and scales, whose lengths were
            // checked.
            let [scales, mins] = unsafe {
                quants.add::<V, R>(at * PANEL_BLOCK, block, rows, &mut products);
                self.scales.load::<V>(panel, block)
            };
            for (r, (sum, &products)) in sums.iter_mut().zip(&products).enumerate() {
                // SAFETY: the rows have that block.
                let x_scale = V::splat(unsafe { *rows.scales.add(block * R + r) });
                *sum = V::from_int(products).fma(scales.mul(x_scale), *sum);
                if B::HAS_MIN {
                    // A start is −8·Σ x', so an eighth of it is −Σ x', exactly.
                    // SAFETY: as above.
                    let minus_x = unsafe { *rows.starts.add(block * R + r) } as f32 * 0.125;
                    *sum = V::splat(minus_x).fma(mins.mul(x_scale), *sum);
                }
            }
        }
        for (r, &sum) in sums.iter().enumerate() {
            finish(self.y, self.bias, self.outputs, first + r, panel, sum);
        }
    }
}
