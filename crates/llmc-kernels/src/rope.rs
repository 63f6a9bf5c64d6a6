//! Rotary position embedding, half-split: element i of a head turns with element
//! i + D/2.
//!
//! Source: Su et al. 2021, arXiv:2104.09864.

use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len, product};
use crate::isa::{Kernel, dispatch};
use crate::parallel::Ctx;
use crate::simd::{LANES, Simd, generic};

/// Rotates: `a = f32(pos)·f[i]; (s, c) = (sin a, cos a); y1 = x1·c − x2·s;
/// y2 = x2·c + x1·s`.
///
/// x, y: [tokens, H, D]; inv_freq: [D/2], the f of `docs/numerics.md`; positions:
/// \[tokens\].
///
/// Errors: [`Error::Length`] if the shapes do not fit, [`Error::Dimension`] for
/// zero heads or frequencies.
pub fn rope(
    ctx: &Ctx<'_>,
    x: &[f32],
    n_heads: usize,
    inv_freq: &[f32],
    positions: &[i32],
    y: &mut [f32],
) -> Result<(), Error> {
    rotate(ctx, 0, ("x", x), n_heads, inv_freq, positions, ("y", y))
}

/// The gradient of [`rope`], which is the rotation back: `dx1 = dy1·c + dy2·s;
/// dx2 = dy2·c − dy1·s`. Shapes as there.
///
/// Errors: as [`rope`].
pub fn rope_backward(
    ctx: &Ctx<'_>,
    dy: &[f32],
    n_heads: usize,
    inv_freq: &[f32],
    positions: &[i32],
    dx: &mut [f32],
) -> Result<(), Error> {
    // Negating the sine is exact, so one text serves both directions.
    rotate(ctx, i32::MIN, ("dy", dy), n_heads, inv_freq, positions, ("dx", dx))
}

fn rotate(
    ctx: &Ctx<'_>,
    sine_sign: i32,
    (x_name, x): (&'static str, &[f32]),
    n_heads: usize,
    inv_freq: &[f32],
    positions: &[i32],
    (y_name, y): (&'static str, &mut [f32]),
) -> Result<(), Error> {
    let head_dim = 2 * inv_freq.len();
    if n_heads == 0 || head_dim == 0 {
        return Err(Error::Dimension { what: "rope needs at least one head and one frequency" });
    }
    let token_len = product(&[n_heads, head_dim])?;
    check_len(x_name, x, product(&[positions.len(), token_len])?)?;
    check_len(y_name, y, x.len())?;
    let y = DisjointMut::new(y);
    ctx.split(positions.len(), token_len, &|tokens| {
        let range = tokens.start * token_len..tokens.end * token_len;
        dispatch(
            ctx.isa(),
            Rotate {
                sine_sign,
                x: &x[range.clone()],
                token_len,
                inv_freq,
                positions: &positions[tokens],
                // SAFETY: the tokens of tasks are disjoint.
                y: unsafe { y.range(range) },
            },
        );
    });
    Ok(())
}

/// Some tokens.
struct Rotate<'a> {
    sine_sign: i32,
    x: &'a [f32],
    token_len: usize,
    inv_freq: &'a [f32],
    positions: &'a [i32],
    y: &'a mut [f32],
}

impl Kernel for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let half = self.inv_freq.len();
        let tokens =
            self.x.chunks_exact(self.token_len).zip(self.y.chunks_exact_mut(self.token_len));
        for ((x, y), &position) in tokens.zip(self.positions) {
            let position = V::splat(position as f32);
            let mut i = 0;
            while i < half {
                let angle = position.mul(V::at(self.inv_freq, i, 0.0));
                let (sin, cos) = generic::sincos(angle);
                let sin = sin.xor_sign(V::int_splat(self.sine_sign));
                let heads = x.chunks_exact(2 * half).zip(y.chunks_exact_mut(2 * half));
                for (x, y) in heads {
                    let (x1, x2) = x.split_at(half);
                    let (y1, y2) = y.split_at_mut(half);
                    let (x1, x2) = (V::at(x1, i, 0.0), V::at(x2, i, 0.0));
                    x1.mul(cos).sub(x2.mul(sin)).put(y1, i);
                    x2.mul(cos).add(x1.mul(sin)).put(y2, i);
                }
                i += LANES;
            }
        }
    }
}
