//! The head of a language model with its loss: logits exist for some tokens at a time.
//!
//! The chains are those of the separate kernels: a row of logits is one product, the sums over the
//! vocabulary are of one row, and the gradient of the weight goes on from tile to tile in token order. So the
//! tile leaves no trace in the bits.

use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len, product};
use crate::gemm::{Gemm, MatRef, Precision, gemm, gemm_scratch_len};
use crate::isa::{Kernel, dispatch};
use crate::parallel::Ctx;
use crate::simd::{LANES, Simd, generic};
use crate::softmax::{EXP_COST, check_ids, row_max};

/// Logits that exist at a time: 16 MiB, unless the vocabulary leaves fewer than [`MIN_TILE`] tokens.
const TILE_LOGITS: usize = 1 << 22;
/// Tokens of the smallest tile: fewer would make packing the weight cost more than using it.
const MIN_TILE: usize = 64;
/// Tokens of the largest tile.
const MAX_TILE: usize = 1024;

/// x [tokens, width] times w [vocab, width] is the logits; targets and weights are per token.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Elements of a row of x.
    pub width: usize,
    /// [tokens, width].
    pub x: &'a [f32],
    /// [vocab, width].
    pub w: &'a [f32],
    /// \[tokens\], in 0..vocab.
    pub targets: &'a [i32],
    /// \[tokens\]: factors of the losses.
    pub weights: &'a [f32],
    /// Of all three products; the group is that of the tokens, the length of a sequence.
    pub precision: Precision,
}

impl Head<'_> {
    /// The size of the vocabulary.
    fn vocab(&self) -> Result<usize, Error> {
        if self.width == 0 {
            return Err(Error::Dimension { what: "the rows of `x` have no elements" });
        }
        let vocab = self.w.len() / self.width;
        check_len("w", self.w, product(&[vocab, self.width])?)?;
        check_len("x", self.x, product(&[self.targets.len(), self.width])?)?;
        check_len("weights", self.weights, self.targets.len())?;
        check_ids("targets", self.targets, vocab)?;
        Ok(vocab)
    }
}

/// Gradients of the head.
#[derive(Debug)]
pub struct HeadGrad<'a> {
    /// \[tokens\]: the gradient of each loss, its weight in it.
    pub dloss: &'a [f32],
    /// [tokens, width].
    pub dx: &'a mut [f32],
    /// [vocab, width]: goes on from what it holds.
    pub dw: &'a mut [f32],
}

/// Tokens whose logits exist at a time. A pair of tokens is not torn.
fn tile_of(tokens: usize, vocab: usize, precision: Precision) -> usize {
    let tile = (TILE_LOGITS / vocab.max(1)).clamp(MIN_TILE, MAX_TILE).min(tokens.max(1));
    let step = match precision {
        Precision::F32 | Precision::F16 => 1,
        Precision::Bf16 { group } if group % 2 == 0 => 2,
        Precision::Bf16 { group } => group,
    };
    (tile / step * step).max(step)
}

/// The same precision for a product over `k` that are no tokens.
fn whole(precision: Precision, k: usize) -> Precision {
    match precision {
        Precision::F32 | Precision::F16 => precision,
        Precision::Bf16 { .. } => Precision::Bf16 { group: k.max(1) },
    }
}

/// The precision of a product over some of the tokens.
fn over_tokens(precision: Precision, tokens: usize) -> Precision {
    match precision {
        Precision::Bf16 { group } if group % 2 == 1 => precision,
        _ => whole(precision, tokens),
    }
}

/// Elements of scratch that [`linear_cross_entropy`] and its gradient need.
pub fn head_scratch_len(
    tokens: usize,
    vocab: usize,
    width: usize,
    precision: Precision,
    threads: usize,
) -> usize {
    scratch_of(tile_of(tokens, vocab, precision), vocab, width, precision, threads)
}

fn scratch_of(
    tile: usize,
    vocab: usize,
    width: usize,
    precision: Precision,
    threads: usize,
) -> usize {
    let products = [
        (tile, vocab, width, whole(precision, width)),
        (tile, width, vocab, whole(precision, vocab)),
        (vocab, width, tile, over_tokens(precision, tile)),
    ];
    let products = products.into_iter().map(|(m, n, k, p)| gemm_scratch_len(m, n, k, p, threads));
    tile.saturating_mul(vocab).saturating_add(products.max().unwrap_or(0))
}

/// The weighted cross-entropy of each token, in nats, from x and the weight of the head; with
/// `grad` also its gradients.
///
/// loss: \[tokens\]. The bits are those of [`gemm`], [`cross_entropy`](crate::cross_entropy),
/// [`cross_entropy_backward`](crate::cross_entropy_backward) and two more products, one after another.
///
/// Errors: [`Error::Length`] or [`Error::Dimension`] if shapes do not fit, [`Error::Index`] for a
/// target outside of 0..vocab, [`Error::Scratch`] below [`head_scratch_len`].
pub fn linear_cross_entropy(
    ctx: &Ctx<'_>,
    head: &Head<'_>,
    loss: &mut [f32],
    grad: Option<HeadGrad<'_>>,
    scratch: &mut [f32],
) -> Result<(), Error> {
    let vocab = head.vocab()?;
    let tile = tile_of(head.targets.len(), vocab, head.precision);
    in_tiles(ctx, head, tile, loss, grad, scratch)
}

fn in_tiles(
    ctx: &Ctx<'_>,
    head: &Head<'_>,
    tile: usize,
    loss: &mut [f32],
    mut grad: Option<HeadGrad<'_>>,
    scratch: &mut [f32],
) -> Result<(), Error> {
    let vocab = head.vocab()?;
    let (tokens, width) = (head.targets.len(), head.width);
    check_len("loss", loss, tokens)?;
    if let Some(grad) = &grad {
        check_len("dloss", grad.dloss, tokens)?;
        check_len("dx", grad.dx, head.x.len())?;
        check_len("dw", grad.dw, head.w.len())?;
    }
    let expected = scratch_of(tile, vocab, width, head.precision, ctx.threads());
    if scratch.len() < expected {
        return Err(Error::Scratch { expected, actual: scratch.len() });
    }
    let (logits, scratch) = scratch.split_at_mut(tile * vocab);
    let w = MatRef::row_major(head.w, width);
    for start in (0..tokens).step_by(tile) {
        let rows = start..(start + tile).min(tokens);
        let logits = &mut logits[..rows.len() * vocab];
        let x = MatRef::row_major(&head.x[rows.start * width..rows.end * width], width);
        let plain = Gemm {
            m: rows.len(),
            n: vocab,
            k: width,
            a: x,
            b: w.transposed(),
            accumulate: false,
            bias: None,
            residual: None,
            precision: whole(head.precision, width),
        };
        gemm(ctx, &plain, logits, vocab, scratch)?;
        let dloss = grad.as_ref().map(|grad| &grad.dloss[rows.clone()]);
        let (shared, shared_loss) =
            (DisjointMut::new(&mut *logits), DisjointMut::new(&mut loss[rows.clone()]));
        ctx.split(rows.len(), vocab * EXP_COST, &|part| {
            dispatch(
                ctx.isa(),
                Rows {
                    vocab,
                    targets: &head.targets[rows.clone()][part.clone()],
                    weights: &head.weights[rows.clone()][part.clone()],
                    dloss: dloss.map(|dloss| &dloss[part.clone()]),
                    // SAFETY: the tokens of tasks are disjoint.
                    logits: unsafe { shared.range(part.start * vocab..part.end * vocab) },
                    // SAFETY: as above.
                    loss: unsafe { shared_loss.range(part) },
                },
            );
        });
        let Some(grad) = &mut grad else { continue };
        let dlogits = MatRef::row_major(logits, vocab);
        let dx = &mut grad.dx[rows.start * width..rows.end * width];
        let precision = whole(head.precision, vocab);
        let inputs = Gemm { n: width, k: vocab, a: dlogits, b: w, precision, ..plain };
        gemm(ctx, &inputs, dx, width, scratch)?;
        let weight = Gemm {
            m: vocab,
            n: width,
            k: rows.len(),
            a: dlogits.transposed(),
            b: x,
            accumulate: true,
            precision: over_tokens(head.precision, rows.len()),
            ..plain
        };
        gemm(ctx, &weight, grad.dw, width, scratch)?;
    }
    Ok(())
}

/// Some rows of logits: their losses, and with `dloss` their gradients in place.
struct Rows<'a> {
    vocab: usize,
    targets: &'a [i32],
    weights: &'a [f32],
    dloss: Option<&'a [f32]>,
    logits: &'a mut [f32],
    loss: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let rows = self.logits.chunks_exact_mut(self.vocab);
        for (index, (x, loss)) in rows.zip(self.loss).enumerate() {
            let target = self.targets[index] as usize;
            let max = row_max::<V>(x);
            let at_target = x[target];
            let keeps = self.dloss.is_some();
            let mut sum = V::splat(0.0);
            let mut i = 0;
            while i < x.len() {
                // exp(−∞) = +0 past the end of the row.
                let e = generic::exp(V::at(x, i, f32::NEG_INFINITY).sub(V::splat(max)));
                if keeps {
                    e.put(x, i);
                }
                sum = sum.add(e);
                i += LANES;
            }
            let sum = sum.sum();
            *loss = ((max - at_target) + generic::log(sum)) * self.weights[index];
            let Some(dloss) = self.dloss else { continue };
            let (scale, dloss) = (generic::recip(sum), dloss[index]);
            let at_target = (x[target] * scale - 1.0) * dloss;
            let (scale, factor) = (V::splat(scale), V::splat(dloss));
            let mut i = 0;
            while i < x.len() {
                V::at(x, i, 0.0).mul(scale).mul(factor).put(x, i);
                i += LANES;
            }
            x[target] = at_target;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Values, assert_bits, everywhere};
    use std::vec;
    use std::vec::Vec;

    /// What the separate kernels give: losses, dx, dw.
    fn separate(ctx: &Ctx<'_>, head: &Head<'_>, dloss: &[f32], acc: &[f32]) -> [Vec<f32>; 3] {
        let (tokens, width) = (head.targets.len(), head.width);
        let vocab = head.w.len() / width;
        let mut logits = vec![0.0; tokens * vocab];
        let run = |m, n, k, precision, a, b, c: &mut [f32]| {
            let (bias, residual, accumulate) = (None, None, n == width && m == vocab);
            let problem = Gemm { m, n, k, a, b, accumulate, bias, residual, precision };
            let mut scratch = vec![0.0; gemm_scratch_len(m, n, k, precision, ctx.threads())];
            gemm(ctx, &problem, c, n, &mut scratch).unwrap();
        };
        let (x, w) = (MatRef::row_major(head.x, width), MatRef::row_major(head.w, width));
        let of_width = whole(head.precision, width);
        run(tokens, vocab, width, of_width, x, w.transposed(), &mut logits);
        let mut losses = vec![0.0; tokens];
        crate::cross_entropy(ctx, &logits, head.targets, head.weights, &mut losses).unwrap();
        let mut dlogits = vec![0.0; tokens * vocab];
        crate::cross_entropy_backward(ctx, &logits, head.targets, dloss, &mut dlogits).unwrap();
        let d = MatRef::row_major(&dlogits, vocab);
        let mut dx = vec![0.0; tokens * width];
        run(tokens, width, vocab, whole(head.precision, vocab), d, w, &mut dx);
        let mut dw = acc.to_vec();
        run(vocab, width, tokens, head.precision, d.transposed(), x, &mut dw);
        [losses, dx, dw]
    }

    #[test]
    fn tiles_leave_no_trace() {
        let mut values = Values::new(7);
        let bf16 = |group| Precision::Bf16 { group };
        for (tokens, vocab, width, tile, precision) in [
            (37, 61, 8, 16, Precision::F32),
            (37, 61, 8, 36, Precision::F32),
            (5, 33, 3, 1, Precision::F32),
            (36, 61, 8, 16, bf16(12)),
            (35, 61, 8, 15, bf16(5)),
            (35, 61, 9, 35, bf16(35)),
            (37, 61, 8, 16, Precision::F16),
            (5, 33, 3, 1, Precision::F16),
        ] {
            let (x, w) = (values.units(tokens * width), values.units(vocab * width));
            let targets: Vec<i32> = (0..tokens).map(|i| ((i * 7919) % vocab) as i32).collect();
            let (weights, dloss) = (values.units(tokens), values.units(tokens));
            let acc = values.units(vocab * width);
            let (targets, weights) = (&targets[..], &weights[..]);
            let head = Head { width, x: &x, w: &w, targets, weights, precision };
            everywhere(|ctx| {
                let [losses, dx, dw] = separate(ctx, &head, &dloss, &acc);
                let needed = scratch_of(tile, vocab, width, precision, ctx.threads());
                let mut scratch = vec![f32::NAN; needed];
                let mut run = |loss: &mut [f32], grad: Option<HeadGrad<'_>>, from| {
                    in_tiles(ctx, &head, tile, loss, grad, &mut scratch[from..])
                };
                let mut got = (vec![0.0; tokens], vec![0.0; tokens * width], acc.clone());
                run(&mut got.0, None, 0).unwrap();
                assert_bits("loss alone", ctx, &got.0, &losses);
                got.0.fill(0.0);
                let grad = HeadGrad { dloss: &dloss, dx: &mut got.1, dw: &mut got.2 };
                run(&mut got.0, Some(grad), 0).unwrap();
                assert_bits("loss", ctx, &got.0, &losses);
                assert_bits("dx", ctx, &got.1, &dx);
                assert_bits("dw", ctx, &got.2, &dw);
                assert!(matches!(run(&mut got.0, None, 1), Err(Error::Scratch { .. })));
            });
        }
    }

    #[test]
    fn a_tile_is_bounded_by_the_vocabulary() {
        let tiles = [(2048, 8192), (2048, 50_000), (2048, 1 << 20), (2048, 10), (5, 10), (0, 10)];
        let of = |precision| tiles.map(|(tokens, vocab)| tile_of(tokens, vocab, precision));
        assert_eq!(of(Precision::F16), of(Precision::F32));
        assert_eq!(of(Precision::F32), [512, 83, MIN_TILE, MAX_TILE, 5, 1]);
        assert_eq!(of(Precision::Bf16 { group: 256 }), [512, 82, MIN_TILE, MAX_TILE, 4, 2]);
        assert_eq!(of(Precision::Bf16 { group: 5 }), [510, 80, 60, 1020, 5, 5]);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let ctx = Ctx::detect(&crate::Serial);
        let (x, w, weights) = ([0.0; 6], [0.0; 10], [1.0; 3]);
        let (targets, precision) = (&[0, 4, 1], Precision::F32);
        let head = Head { width: 2, x: &x, w: &w, targets, weights: &weights, precision };
        let mut scratch = vec![0.0; head_scratch_len(3, 5, 2, Precision::F32, 1)];
        let mut run = |head: &Head<'_>, loss: &mut [f32]| {
            linear_cross_entropy(&ctx, head, loss, None, &mut scratch)
        };
        let mut loss = [0.0; 3];
        assert_eq!(run(&head, &mut loss), Ok(()));
        assert!(matches!(run(&head, &mut loss[..2]), Err(Error::Length { .. })));
        let outside = Head { targets: &[0, 5, 1], ..head };
        assert!(matches!(run(&outside, &mut loss), Err(Error::Index { value: 5, .. })));
        let wide = Head { width: 4, ..head };
        assert!(matches!(run(&wide, &mut loss), Err(Error::Length { .. })));
        let none = Head { width: 0, ..head };
        assert!(matches!(run(&none, &mut loss), Err(Error::Dimension { .. })));
    }
}
