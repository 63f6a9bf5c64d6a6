//! `x·Wᵀ` by panels of floats: each widened exactly, one FMA chain over k per element.
//!
//! Nothing is packed at run time. With few rows of x, several panels are read side by side, so
//! that enough chains are on their way to hide the latency of an FMA; with many, two
//! panels meet eight rows at a time and stay in cache until the rows are through.

use core::ops::Range;

use super::{PANEL, Packed, panels, tasks};
use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len, product};
use crate::isa::{Kernel, dispatch};
use crate::parallel::{Ctx, part};
use crate::simd::{LANES, Simd};

/// y = x·Wᵀ + bias: x [rows, k], y [rows, outputs], bias \[outputs\].
///
/// The chain of each element starts from +0 and goes over k in order; the bias is added after it with a
/// rounding of its own.
///
/// Errors: [`Error::Length`] if an operand has another length.
pub fn packed_linear(
    ctx: &Ctx<'_>,
    x: &[f32],
    k: usize,
    w: Packed<'_>,
    bias: Option<&[f32]>,
    outputs: usize,
    y: &mut [f32],
) -> Result<(), Error> {
    let rows = y.len().checked_div(outputs).unwrap_or(0);
    check_len("y", y, product(&[rows, outputs])?)?;
    check_len("x", x, product(&[rows, k])?)?;
    w.check(outputs, k)?;
    if let Some(bias) = bias {
        check_len("bias", bias, outputs)?;
    }
    let tasks = tasks(ctx, rows, outputs, k);
    let y = DisjointMut::new(y);
    ctx.run(tasks, &|index| {
        let span = part(panels(outputs), tasks, index);
        let columns = Columns { x, k, w, bias, outputs, rows, y: &y, span };
        dispatch(ctx.isa(), columns);
    });
    Ok(())
}

/// All rows of the outputs of some panels.
struct Columns<'a> {
    x: &'a [f32],
    k: usize,
    w: Packed<'a>,
    bias: Option<&'a [f32]>,
    outputs: usize,
    rows: usize,
    y: &'a DisjointMut<'a, f32>,
    span: Range<usize>,
}

/// How the 16 floats of one k are loaded.
trait Source: Copy {
    /// # Safety
    /// The panels hold 16 floats from element `at` on.
    unsafe fn load<V: Simd>(self, at: usize) -> V;
}

#[derive(Clone, Copy)]
struct F32(*const f32);
#[derive(Clone, Copy)]
struct Bf16(*const u16);
#[derive(Clone, Copy)]
struct F16(*const u16);

impl Source for F32 {
    #[inline(always)]
    unsafe fn load<V: Simd>(self, at: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load(self.0.add(at)) }
    }
}

impl Source for Bf16 {
    #[inline(always)]
    unsafe fn load<V: Simd>(self, at: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_bf16(self.0.add(at)) }
    }
}

impl Source for F16 {
    #[inline(always)]
    unsafe fn load<V: Simd>(self, at: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_f16(self.0.add(at)) }
    }
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        match self.w {
            Packed::F32(w) => self.all::<V, F32>(F32(w.as_ptr())),
            Packed::Bf16(w) => self.all::<V, Bf16>(Bf16(w.as_ptr())),
            Packed::F16(w) => self.all::<V, F16>(F16(w.as_ptr())),
        }
    }
}

impl Columns<'_> {
    /// Panels outside, rows inside: a panel is read from memory once.
    #[inline(always)]
    fn all<V: Simd, S: Source>(&self, w: S) {
        let is_wide = V::TILE_VECTORS > 1;
        let mut panel = self.span.start;
        while panel < self.span.end {
            let left = self.span.end - panel;
            // One row: as many panels at a time as keep the FMA units busy.
            if self.rows == 1 && is_wide && left >= 8 {
                self.tile::<V, S, 1, 8>(w, panel, 0);
                panel += 8;
            } else if self.rows <= 3 && left >= 4 {
                (0..self.rows).for_each(|row| self.tile::<V, S, 1, 4>(w, panel, row));
                panel += 4;
            } else if is_wide && left >= 2 {
                self.rows::<V, S, 8, 2>(w, panel);
                panel += 2;
            } else {
                self.rows::<V, S, 4, 1>(w, panel);
                panel += 1;
            }
        }
    }

    /// All rows by `P` panels: `R` at a time, then the rest.
    #[inline(always)]
    fn rows<V: Simd, S: Source, const R: usize, const P: usize>(&self, w: S, panel: usize) {
        let mut row = 0;
        while row + R <= self.rows {
            self.tile::<V, S, R, P>(w, panel, row);
            row += R;
        }
        while R > 4 && row + 4 <= self.rows {
            self.tile::<V, S, 4, P>(w, panel, row);
            row += 4;
        }
        while row + 2 <= self.rows {
            self.tile::<V, S, 2, P>(w, panel, row);
            row += 2;
        }
        while row < self.rows {
            self.tile::<V, S, 1, P>(w, panel, row);
            row += 1;
        }
    }

    /// `R` rows by `P` panels, from end to end of the chains.
    #[inline(always)]
    fn tile<V: Simd, S: Source, const R: usize, const P: usize>(
        &self,
        w: S,
        panel: usize,
        row: usize,
    ) {
        let k = self.k;
        let mut sums = [[V::splat(0.0); P]; R];
        let x = self.x[row * k..(row + R) * k].as_ptr();
        for at in 0..k {
            let mut weights = [V::splat(0.0); P];
            for (p, weights) in weights.iter_mut().enumerate() {
                // SAFETY: panels and k are inside of W, whose length was checked.
                *weights = unsafe { w.load::<V>(((panel + p) * k + at) * PANEL) };
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the slice above holds R rows.
                let factor = V::splat(unsafe { *x.add(r * k + at) });
                for (sum, &weights) in sums.iter_mut().zip(&weights) {
                    *sum = factor.fma(weights, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (p, &sum) in sums.iter().enumerate() {
                finish(self.y, self.bias, self.outputs, row + r, panel + p, sum);
            }
        }
    }
}

/// Adds the bias and writes the outputs of one panel of one row, which belong to this task.
#[inline(always)]
pub(super) fn finish<V: Simd>(
    y: &DisjointMut<'_, f32>,
    bias: Option<&[f32]>,
    outputs: usize,
    row: usize,
    panel: usize,
    sum: V,
) {
    let first = panel * LANES;
    let sum = match bias {
        Some(bias) => sum.add(V::at(bias, first, 0.0)),
        None => sum,
    };
    let at = row * outputs + first;
    // SAFETY: the panels of tasks are disjoint.
    let y = unsafe { y.range(at..at + (outputs - first).min(LANES)) };
    sum.put(y, 0);
}
