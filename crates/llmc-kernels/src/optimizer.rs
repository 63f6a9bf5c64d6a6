//! One step of AdamW, SGD or Lion, in place.

use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len};
use crate::isa::{Kernel, dispatch};
use crate::parallel::Ctx;
use crate::simd::{LANES, Simd};

/// The numbers of one AdamW step; all arithmetic on them is in f32.
///
/// Source: Loshchilov and Hutter 2017, arXiv:1711.05101.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Bias correction of the first moment, `1 − β1^step`.
    pub bias_correction1: f32,
    /// Bias correction of the second moment, `1 − β2^step`.
    pub bias_correction2: f32,
    /// The gradient is multiplied by this first, with a rounding of its own: the
    /// clipping factor, or 1.
    pub grad_scale: f32,
}

/// `g' = g·grad_scale; m' = m·β1 + g'·(1−β1); v' = v·β2 + (g'·g')·(1−β2);
/// p' = (p − p·(lr·wd)) − lr·((m'/bc1) / (sqrt(v'/bc2) + ε))`.
///
/// p, m, v are updated in place; all four have the same length.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn adamw_step(
    ctx: &Ctx<'_>,
    step: &AdamW,
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
) -> Result<(), Error> {
    let len = p.len();
    check_len("g", g, len)?;
    check_len("m", m, len)?;
    check_len("v", v, len)?;
    let (p, m, v) = (DisjointMut::new(p), DisjointMut::new(m), DisjointMut::new(v));
    ctx.split(len.div_ceil(LANES), 4 * LANES, &|vectors| {
        let range = vectors.start * LANES..(vectors.end * LANES).min(len);
        // SAFETY: the ranges of tasks are disjoint, in each of the three.
        let part = unsafe {
            AdamWPart {
                step,
                p: p.range(range.clone()),
                g: &g[range.clone()],
                m: m.range(range.clone()),
                v: v.range(range),
            }
        };
        dispatch(ctx.isa(), part);
    });
    Ok(())
}

/// Some elements of [`adamw_step`].
struct AdamWPart<'a> {
    step: &'a AdamW,
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Kernel for AdamWPart<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let step = self.step;
        let (beta1, rest1) = (V::splat(step.beta1), V::splat(1.0 - step.beta1));
        let (beta2, rest2) = (V::splat(step.beta2), V::splat(1.0 - step.beta2));
        let decay = V::splat(step.lr * step.weight_decay);
        let lr = V::splat(step.lr);
        let eps = V::splat(step.eps);
        let correction1 = V::splat(step.bias_correction1);
        let correction2 = V::splat(step.bias_correction2);
        let grad_scale = V::splat(step.grad_scale);
        let mut i = 0;
        while i < self.p.len() {
            let p = V::at(self.p, i, 0.0);
            let g = V::at(self.g, i, 0.0).mul(grad_scale);
            let m = V::at(self.m, i, 0.0).mul(beta1).add(g.mul(rest1));
            let v = V::at(self.v, i, 0.0).mul(beta2).add(g.mul(g).mul(rest2));
            let root = v.div(correction2).sqrt().add(eps);
            let update = lr.mul(m.div(correction1).div(root));
            m.put(self.m, i);
            v.put(self.v, i);
            p.sub(p.mul(decay)).sub(update).put(self.p, i);
            i += LANES;
        }
    }
}

/// The numbers of one SGD step; all arithmetic on them is in f32.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Learning rate of this step.
    pub lr: f32,
    /// Momentum μ.
    pub momentum: f32,
    /// Weight decay, added to the gradient.
    pub weight_decay: f32,
    /// As in [`AdamW`].
    pub grad_scale: f32,
}

/// `g' = (g·grad_scale) + p·wd; m' = m·μ + g'; p' = p − lr·m'`, in place.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn sgd_step(
    ctx: &Ctx<'_>,
    step: &Sgd,
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
) -> Result<(), Error> {
    let len = p.len();
    check_len("g", g, len)?;
    check_len("m", m, len)?;
    let (p, m) = (DisjointMut::new(p), DisjointMut::new(m));
    ctx.split(len.div_ceil(LANES), 3 * LANES, &|vectors| {
        let range = vectors.start * LANES..(vectors.end * LANES).min(len);
        // SAFETY: the ranges of tasks are disjoint, in both.
        let part = unsafe {
            SgdPart { step, p: p.range(range.clone()), g: &g[range.clone()], m: m.range(range) }
        };
        dispatch(ctx.isa(), part);
    });
    Ok(())
}

/// Some elements of [`sgd_step`].
struct SgdPart<'a> {
    step: &'a Sgd,
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
}

impl Kernel for SgdPart<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let lr = V::splat(self.step.lr);
        let momentum = V::splat(self.step.momentum);
        let decay = V::splat(self.step.weight_decay);
        let grad_scale = V::splat(self.step.grad_scale);
        let mut i = 0;
        while i < self.p.len() {
            let p = V::at(self.p, i, 0.0);
            let g = V::at(self.g, i, 0.0).mul(grad_scale).add(p.mul(decay));
            let m = V::at(self.m, i, 0.0).mul(momentum).add(g);
            m.put(self.m, i);
            p.sub(lr.mul(m)).put(self.p, i);
            i += LANES;
        }
    }
}

/// The numbers of one Lion step; all arithmetic on them is in f32.
///
/// Source: Chen et al. 2023, arXiv:2302.06675, algorithm 2.
#[derive(Clone, Copy, Debug)]
pub struct Lion {
    /// Learning rate of this step.
    pub lr: f32,
    /// Weight of the momentum in the direction.
    pub beta1: f32,
    /// Decay of the momentum.
    pub beta2: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// As in [`AdamW`].
    pub grad_scale: f32,
}

/// `g' = g·grad_scale; c = m·β1 + g'·(1−β1); p' = (p − p·(lr·wd)) − lr·sign(c);
/// m' = m·β2 + g'·(1−β2)`, in place; the sign of what is neither above nor below 0 is 0.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn lion_step(
    ctx: &Ctx<'_>,
    step: &Lion,
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
) -> Result<(), Error> {
    let len = p.len();
    check_len("g", g, len)?;
    check_len("m", m, len)?;
    let (p, m) = (DisjointMut::new(p), DisjointMut::new(m));
    ctx.split(len.div_ceil(LANES), 3 * LANES, &|vectors| {
        let range = vectors.start * LANES..(vectors.end * LANES).min(len);
        // SAFETY: the ranges of tasks are disjoint, in both.
        let part = unsafe {
            LionPart { step, p: p.range(range.clone()), g: &g[range.clone()], m: m.range(range) }
        };
        dispatch(ctx.isa(), part);
    });
    Ok(())
}

/// Some elements of [`lion_step`].
struct LionPart<'a> {
    step: &'a Lion,
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
}

impl Kernel for LionPart<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let step = self.step;
        let (beta1, rest1) = (V::splat(step.beta1), V::splat(1.0 - step.beta1));
        let (beta2, rest2) = (V::splat(step.beta2), V::splat(1.0 - step.beta2));
        let decay = V::splat(step.lr * step.weight_decay);
        let lr = V::splat(step.lr);
        let grad_scale = V::splat(step.grad_scale);
        let (zero, one, minus) = (V::splat(0.0), V::splat(1.0), V::splat(-1.0));
        let mut i = 0;
        while i < self.p.len() {
            let p = V::at(self.p, i, 0.0);
            let g = V::at(self.g, i, 0.0).mul(grad_scale);
            let m = V::at(self.m, i, 0.0);
            let c = m.mul(beta1).add(g.mul(rest1));
            let sign = V::select(c.lt(zero), minus, zero);
            let sign = V::select(zero.lt(c), one, sign);
            m.mul(beta2).add(g.mul(rest2)).put(self.m, i);
            p.sub(p.mul(decay)).sub(lr.mul(sign)).put(self.p, i);
            i += LANES;
        }
    }
}
