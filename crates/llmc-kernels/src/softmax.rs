//! Softmax of rows, and the cross-entropy of logits with its gradient.

use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len, product, rows_of};
use crate::isa::{Kernel, dispatch};
use crate::parallel::Ctx;
use crate::simd::{LANES, Simd, generic};

/// `m = max(x); e = exp(x − m); y = e·recip(sum(e))` per row: x, y [rows, width].
///
/// Errors: [`Error::Length`] or [`Error::Dimension`] if the shapes do not fit.
pub fn softmax(ctx: &Ctx<'_>, x: &[f32], width: usize, y: &mut [f32]) -> Result<(), Error> {
    let rows = rows_of("x", x, width)?;
    check_len("y", y, x.len())?;
    let y = DisjointMut::new(y);
    ctx.split(rows, width * EXP_COST, &|rows| {
        let range = rows.start * width..rows.end * width;
        dispatch(
            ctx.isa(),
            Softmax {
                x: &x[range.clone()],
                width,
                // SAFETY: the rows of tasks are disjoint.
                y: unsafe { y.range(range) },
            },
        );
    });
    Ok(())
}

/// Work of an exponential relative to a memory-bound operation.
pub(crate) const EXP_COST: usize = 8;

/// Some rows of [`softmax`].
struct Softmax<'a> {
    x: &'a [f32],
    width: usize,
    y: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let rows = self.x.chunks_exact(self.width);
        for (x, y) in rows.zip(self.y.chunks_exact_mut(self.width)) {
            let scale = V::splat(exponentials::<V>(x, y));
            let mut i = 0;
            while i < y.len() {
                V::at(y, i, 0.0).mul(scale).put(y, i);
                i += LANES;
            }
        }
    }
}

/// Writes `exp(x − max x)` to y and returns the reciprocal of its sum.
#[inline(always)]
fn exponentials<V: Simd>(x: &[f32], y: &mut [f32]) -> f32 {
    let max = V::splat(row_max::<V>(x));
    let mut sum = V::splat(0.0);
    let mut i = 0;
    while i < x.len() {
        // exp(−∞) = +0 past the end of the row.
        let e = generic::exp(V::at(x, i, f32::NEG_INFINITY).sub(max));
        e.put(y, i);
        sum = sum.add(e);
        i += LANES;
    }
    generic::recip(sum.sum())
}

/// The largest element. NaN may be passed over: it makes the sum NaN anyway.
#[inline(always)]
pub(crate) fn row_max<V: Simd>(x: &[f32]) -> f32 {
    let mut max = V::splat(f32::NEG_INFINITY);
    let mut i = 0;
    while i < x.len() {
        max = V::at(x, i, f32::NEG_INFINITY).running_max(max);
        i += LANES;
    }
    max.largest()
}

/// `m = max; l = log(sum(exp(x − m))); loss = ((m − x[target]) + l)·weight` per
/// token.
///
/// logits: [tokens, V]; targets, weights, loss: \[tokens\]. The loss of a token whose
/// target is [`IGNORE_INDEX`] is 0, and its logits are not read.
///
/// Errors: [`Error::Length`] if the shapes do not fit, [`Error::Index`] for a
/// target outside of 0..V that is not [`IGNORE_INDEX`].
pub fn cross_entropy(
    ctx: &Ctx<'_>,
    logits: &[f32],
    targets: &[i32],
    weights: &[f32],
    loss: &mut [f32],
) -> Result<(), Error> {
    let vocab = vocab_of(logits, targets)?;
    check_len("weights", weights, targets.len())?;
    check_len("loss", loss, targets.len())?;
    let loss = DisjointMut::new(loss);
    ctx.split(targets.len(), vocab * EXP_COST, &|tokens| {
        dispatch(
            ctx.isa(),
            Loss {
                logits: &logits[tokens.start * vocab..tokens.end * vocab],
                targets: &targets[tokens.clone()],
                weights: &weights[tokens.clone()],
                // SAFETY: the tokens of tasks are disjoint.
                loss: unsafe { loss.range(tokens) },
            },
        );
    });
    Ok(())
}

/// The gradient of [`cross_entropy`]: `dx = (softmax(x) − onehot(target))·dloss`.
///
/// logits, dlogits: [tokens, V]; targets, dloss: \[tokens\], where dloss has the
/// weight in it. The gradient of a token whose target is [`IGNORE_INDEX`] is 0.
///
/// Errors: as [`cross_entropy`].
pub fn cross_entropy_backward(
    ctx: &Ctx<'_>,
    logits: &[f32],
    targets: &[i32],
    dloss: &[f32],
    dlogits: &mut [f32],
) -> Result<(), Error> {
    let vocab = vocab_of(logits, targets)?;
    check_len("dloss", dloss, targets.len())?;
    check_len("dlogits", dlogits, logits.len())?;
    let dlogits = DisjointMut::new(dlogits);
    ctx.split(targets.len(), vocab * EXP_COST, &|tokens| {
        let range = tokens.start * vocab..tokens.end * vocab;
        dispatch(
            ctx.isa(),
            LossBackward {
                logits: &logits[range.clone()],
                targets: &targets[tokens.clone()],
                dloss: &dloss[tokens],
                // SAFETY: the tokens of tasks are disjoint.
                dlogits: unsafe { dlogits.range(range) },
            },
        );
    });
    Ok(())
}

/// The width of the logits, after checking targets against it.
fn vocab_of(logits: &[f32], targets: &[i32]) -> Result<usize, Error> {
    if targets.is_empty() {
        check_len("logits", logits, 0)?;
        return Ok(1);
    }
    let vocab = logits.len() / targets.len();
    check_len("logits", logits, product(&[vocab, targets.len()])?)?;
    check_targets(targets, vocab)?;
    Ok(vocab)
}

/// The target that does not count, as `ignore_index` of PyTorch's loss.
pub const IGNORE_INDEX: i32 = -100;

/// Refuses targets outside of `0..vocab` that are not [`IGNORE_INDEX`].
pub(crate) fn check_targets(targets: &[i32], vocab: usize) -> Result<(), Error> {
    let is_bad =
        |&id: &i32| id != IGNORE_INDEX && usize::try_from(id).map_or(true, |id| id >= vocab);
    match targets.iter().copied().find(is_bad) {
        None => Ok(()),
        Some(value) => Err(Error::Index { operand: "targets", value, bound: vocab }),
    }
}

/// Refuses ids outside of `0..bound`.
pub(crate) fn check_ids(operand: &'static str, ids: &[i32], bound: usize) -> Result<(), Error> {
    match ids.iter().find(|&&id| usize::try_from(id).map_or(true, |id| id >= bound)) {
        None => Ok(()),
        Some(&value) => Err(Error::Index { operand, value, bound }),
    }
}

/// Some tokens of [`cross_entropy`].
struct Loss<'a> {
    logits: &'a [f32],
    targets: &'a [i32],
    weights: &'a [f32],
    loss: &'a mut [f32],
}

impl Kernel for Loss<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let vocab = self.logits.len() / self.targets.len().max(1);
        let tokens = self.targets.iter().zip(self.weights).zip(self.loss);
        for (x, ((&target, &weight), loss)) in self.logits.chunks_exact(vocab).zip(tokens) {
            if target == IGNORE_INDEX {
                *loss = 0.0;
                continue;
            }
            let max = row_max::<V>(x);
            let mut sum = V::splat(0.0);
            let mut i = 0;
            while i < x.len() {
                let shifted = V::at(x, i, f32::NEG_INFINITY).sub(V::splat(max));
                sum = sum.add(generic::exp(shifted));
                i += LANES;
            }
            let log_sum = generic::log(sum.sum());
            *loss = ((max - x[target as usize]) + log_sum) * weight;
        }
    }
}

/// Some tokens of [`cross_entropy_backward`].
struct LossBackward<'a> {
    logits: &'a [f32],
    targets: &'a [i32],
    dloss: &'a [f32],
    dlogits: &'a mut [f32],
}

impl Kernel for LossBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let vocab = self.logits.len() / self.targets.len().max(1);
        let rows = self.logits.chunks_exact(vocab).zip(self.dlogits.chunks_exact_mut(vocab));
        for ((x, dx), (&target, &dloss)) in rows.zip(self.targets.iter().zip(self.dloss)) {
            if target == IGNORE_INDEX {
                dx.fill(0.0);
                continue;
            }
            let scale = exponentials::<V>(x, dx);
            let target = target as usize;
            let at_target = (dx[target] * scale - 1.0) * dloss;
            let (scale, factor) = (V::splat(scale), V::splat(dloss));
            let mut i = 0;
            while i < dx.len() {
                V::at(dx, i, 0.0).mul(scale).mul(factor).put(dx, i);
                i += LANES;
            }
            dx[target] = at_target;
        }
    }
}
