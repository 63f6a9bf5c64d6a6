//! Rows of a table that stands in panels, by id.

use core::ops::Range;

use super::{BLOCK, PANEL, Packed, Quants, Scales, check_quants};
use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len, product};
use crate::isa::{Kernel, dispatch};
use crate::parallel::Ctx;
use crate::simd::{LANES, Simd};
use crate::softmax::check_ids;

/// `y[token, ..] = f32(w[ids[token], ..])`: w in panels of `outputs` rows of width k, ids \[tokens\], y
/// [tokens, k].
///
/// Errors: [`Error::Length`] if an operand has another length, [`Error::Index`] for an id outside of
/// 0..outputs.
pub fn packed_embedding(
    ctx: &Ctx<'_>,
    w: Packed<'_>,
    k: usize,
    outputs: usize,
    ids: &[i32],
    y: &mut [f32],
) -> Result<(), Error> {
    w.check(outputs, k)?;
    rows(ctx, Table::Floats(w), k, outputs, ids, y)
}

/// `y[token, j] = f32(q[ids[token], j])·scale[ids[token], j / 32]`, one rounding.
///
/// Errors: as [`packed_embedding`]; [`Error::Dimension`] if k is not a multiple of 32.
pub fn quantized_embedding(
    ctx: &Ctx<'_>,
    quants: Quants<'_>,
    scales: Scales<'_>,
    k: usize,
    outputs: usize,
    ids: &[i32],
    y: &mut [f32],
) -> Result<(), Error> {
    check_quants(quants, scales, outputs, k)?;
    rows(ctx, Table::Blocks(quants, scales), k, outputs, ids, y)
}

/// What rows are taken of.
#[derive(Clone, Copy)]
enum Table<'a> {
    Floats(Packed<'a>),
    Blocks(Quants<'a>, Scales<'a>),
}

fn rows(
    ctx: &Ctx<'_>,
    table: Table<'_>,
    k: usize,
    outputs: usize,
    ids: &[i32],
    y: &mut [f32],
) -> Result<(), Error> {
    check_len("y", y, product(&[ids.len(), k])?)?;
    check_ids("ids", ids, outputs)?;
    let y = DisjointMut::new(y);
    ctx.split(ids.len(), k, &|tokens: Range<usize>| {
        // SAFETY: the tokens of tasks are disjoint.
        let y = unsafe { y.range(tokens.start * k..tokens.end * k) };
        dispatch(ctx.isa(), Rows { table, k, ids: &ids[tokens], y });
    });
    Ok(())
}

/// The rows of some tokens.
struct Rows<'a> {
    table: Table<'a>,
    k: usize,
    ids: &'a [i32],
    y: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let k = self.k;
        for (&id, y) in self.ids.iter().zip(self.y.chunks_exact_mut(k.max(1))) {
            let (panel, lane) = (id as usize / PANEL, id as usize % PANEL);
            let panel = panel * k * PANEL;
            match self.table {
                Table::Floats(Packed::F32(w)) => {
                    for (j, y) in y.iter_mut().enumerate() {
                        *y = w[panel + j * PANEL + lane];
                    }
                }
                Table::Floats(Packed::Bf16(w)) => {
                    for (j, y) in y.iter_mut().enumerate() {
                        *y = f32::from_bits(u32::from(w[panel + j * PANEL + lane]) << 16);
                    }
                }
                Table::Floats(Packed::F16(w)) => {
                    for (j, y) in y.iter_mut().enumerate() {
                        let row = w[panel + j * PANEL..].as_ptr();
                        // SAFETY: 16 outputs of that k are in the panel.
                        *y = unsafe { V::load_f16(row) }.to_array()[lane];
                    }
                }
                Table::Blocks(quants, scales) => {
                    for (block, y) in y.chunks_exact_mut(BLOCK).enumerate() {
                        let at = (panel / BLOCK / PANEL + block) * LANES;
                        // SAFETY: the scales of 16 outputs of that block are there.
                        let scale = unsafe {
                            match scales {
                                Scales::F32(s) => V::load(s[at..at + LANES].as_ptr()),
                                Scales::F16(s) => V::load_f16(s[at..at + LANES].as_ptr()),
                            }
                        };
                        let scale = scale.to_array()[lane];
                        for (j, y) in y.iter_mut().enumerate() {
                            *y = quant(quants, panel, lane, block * BLOCK + j) as f32 * scale;
                        }
                    }
                }
            }
        }
    }
}

/// The integer of one output and k; `panel` is the first element of its panel.
#[inline(always)]
fn quant(quants: Quants<'_>, panel: usize, lane: usize, k: usize) -> i32 {
    match quants {
        Quants::I8(q) => i32::from(q[panel + (k / 4) * 4 * PANEL + lane * 4 + k % 4]),
        Quants::I4(q) => {
            let byte = q[panel / 2 + (k / 8) * 4 * PANEL + lane * 4 + k % 4] as i8;
            // Shifts copy the sign of the nibble.
            i32::from(if (k / 4).is_multiple_of(2) { (byte << 4) >> 4 } else { byte >> 4 })
        }
    }
}
