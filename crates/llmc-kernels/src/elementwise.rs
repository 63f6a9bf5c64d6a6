//! Kernels that treat every element alone: arithmetic and activations, forward
//! and backward. All are `f32` in, `f32` out, of equal lengths, in any shape.

use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len};
use crate::isa::{Kernel, dispatch};
use crate::parallel::Ctx;
use crate::simd::{LANES, Lanes, Simd, generic};

/// `y = a + b`.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn add(ctx: &Ctx<'_>, a: &[f32], b: &[f32], y: &mut [f32]) -> Result<(), Error> {
    map(ctx, Add, ARITHMETIC, [("a", a), ("b", b)], [("y", y)])
}

/// `y = a − b`.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn sub(ctx: &Ctx<'_>, a: &[f32], b: &[f32], y: &mut [f32]) -> Result<(), Error> {
    map(ctx, Sub, ARITHMETIC, [("a", a), ("b", b)], [("y", y)])
}

/// `y = a·b`.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn mul(ctx: &Ctx<'_>, a: &[f32], b: &[f32], y: &mut [f32]) -> Result<(), Error> {
    map(ctx, Mul, ARITHMETIC, [("a", a), ("b", b)], [("y", y)])
}

/// `s = recip(1 + exp(−x)); y = x·s`. Source: Elfwing et al. 2017, arXiv:1702.03118.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn silu(ctx: &Ctx<'_>, x: &[f32], y: &mut [f32]) -> Result<(), Error> {
    map(ctx, Silu, TRANSCENDENTAL, [("x", x)], [("y", y)])
}

/// `dx = dy·(s·(1 + x·(1 − s)))`, s as in [`silu`].
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn silu_backward(ctx: &Ctx<'_>, x: &[f32], dy: &[f32], dx: &mut [f32]) -> Result<(), Error> {
    map(ctx, SiluBackward, TRANSCENDENTAL, [("x", x), ("dy", dy)], [("dx", dx)])
}

/// `y = silu(g)·u`. Source: Shazeer 2020, arXiv:2002.05202.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn swiglu(ctx: &Ctx<'_>, g: &[f32], u: &[f32], y: &mut [f32]) -> Result<(), Error> {
    map(ctx, Swiglu, TRANSCENDENTAL, [("g", g), ("u", u)], [("y", y)])
}

/// `a = g·s; du = dy·a; dg = (dy·u)·(s·(1 + g·(1 − s)))`, s as in [`silu`].
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn swiglu_backward(
    ctx: &Ctx<'_>,
    g: &[f32],
    u: &[f32],
    dy: &[f32],
    dg: &mut [f32],
    du: &mut [f32],
) -> Result<(), Error> {
    map(
        ctx,
        SwigluBackward,
        TRANSCENDENTAL,
        [("g", g), ("u", u), ("dy", dy)],
        [("dg", dg), ("du", du)],
    )
}

/// `y = max(x, 0)`; +0 for −0, NaN stays.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn relu(ctx: &Ctx<'_>, x: &[f32], y: &mut [f32]) -> Result<(), Error> {
    map(ctx, Relu, ARITHMETIC, [("x", x)], [("y", y)])
}

/// `dx = select(x > 0, dy, 0)`.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn relu_backward(ctx: &Ctx<'_>, x: &[f32], dy: &[f32], dx: &mut [f32]) -> Result<(), Error> {
    map(ctx, ReluBackward, ARITHMETIC, [("x", x), ("dy", dy)], [("dx", dx)])
}

/// `y = (0.5·x)·(1 + erf(x·0.70710678))`. Source: Hendrycks and Gimpel 2016,
/// arXiv:1606.08415.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn gelu(ctx: &Ctx<'_>, x: &[f32], y: &mut [f32]) -> Result<(), Error> {
    map(ctx, Gelu, TRANSCENDENTAL, [("x", x)], [("y", y)])
}

/// `cdf = 0.5·(1 + erf(x·0.70710678)); pdf = 0.3989423·exp(−0.5·(x·x));
/// dx = dy·(cdf + x·pdf)`.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn gelu_backward(ctx: &Ctx<'_>, x: &[f32], dy: &[f32], dx: &mut [f32]) -> Result<(), Error> {
    map(ctx, GeluBackward, TRANSCENDENTAL, [("x", x), ("dy", dy)], [("dx", dx)])
}

/// `t = tanh(0.7978846·(x + 0.044715·((x·x)·x))); y = (0.5·x)·(1 + t)`.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn gelu_tanh(ctx: &Ctx<'_>, x: &[f32], y: &mut [f32]) -> Result<(), Error> {
    map(ctx, GeluTanh, TRANSCENDENTAL, [("x", x)], [("y", y)])
}

/// `i = 0.7978846·(1 + 0.134145·(x·x));
/// dx = dy·(0.5·(1 + t) + ((0.5·x)·(1 − t·t))·i)`, t as in [`gelu_tanh`].
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn gelu_tanh_backward(
    ctx: &Ctx<'_>,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) -> Result<(), Error> {
    map(ctx, GeluTanhBackward, TRANSCENDENTAL, [("x", x), ("dy", dy)], [("dx", dx)])
}

/// `y = x·factor`.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn scale(ctx: &Ctx<'_>, x: &[f32], factor: f32, y: &mut [f32]) -> Result<(), Error> {
    map(ctx, Scale(factor), ARITHMETIC, [("x", x)], [("y", y)])
}

/// `acc = acc + x`, in place.
///
/// Errors: [`Error::Length`] if the lengths differ.
pub fn add_assign(ctx: &Ctx<'_>, acc: &mut [f32], x: &[f32]) -> Result<(), Error> {
    check_len("x", x, acc.len())?;
    let len = acc.len();
    let acc = DisjointMut::new(acc);
    ctx.split(len.div_ceil(LANES), LANES, &|vectors| {
        let range = vectors.start * LANES..(vectors.end * LANES).min(len);
        dispatch(
            ctx.isa(),
            AddAssign {
                x: x.get(range.clone()).unwrap_or(&[]),
                // SAFETY: the ranges of tasks are disjoint.
                acc: unsafe { acc.range(range) },
            },
        );
    });
    Ok(())
}

/// Every element of `y` becomes `value`.
pub fn fill(ctx: &Ctx<'_>, value: f32, y: &mut [f32]) {
    let len = y.len();
    let y = DisjointMut::new(y);
    ctx.split(len, 1, &|range| {
        // SAFETY: the ranges of tasks are disjoint.
        unsafe { y.range(range) }.fill(value);
    });
}

/// A function of `I` operands with `O` results, applied lane by lane.
trait Map<const I: usize, const O: usize>: Copy + Sync {
    /// Must be `#[inline(always)]`.
    fn apply<V: Simd>(self, operands: [V; I]) -> [V; O];
}

/// Work of one element relative to a memory-bound one, so that functions with an
/// exponential are spread over threads earlier.
const ARITHMETIC: usize = 1;
const TRANSCENDENTAL: usize = 8;

/// One task's part of [`map`].
struct Part<'a, F, const I: usize, const O: usize> {
    function: F,
    inputs: [&'a [f32]; I],
    outputs: [&'a mut [f32]; O],
}

impl<F: Map<I, O>, const I: usize, const O: usize> Kernel for Part<'_, F, I, O> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(mut self) {
        let len = self.outputs.first().map_or(0, |output| output.len());
        let mut i = 0;
        while i < len {
            let mut operands = [V::splat(0.0); I];
            for (operand, input) in operands.iter_mut().zip(&self.inputs) {
                *operand = V::at(input, i, 0.0);
            }
            let results = self.function.apply(operands);
            for (result, output) in results.iter().zip(&mut self.outputs) {
                result.put(output, i);
            }
            i += LANES;
        }
    }
}

/// Applies the function to all elements of slices of equal length.
fn map<F: Map<I, O>, const I: usize, const O: usize>(
    ctx: &Ctx<'_>,
    function: F,
    cost: usize,
    inputs: [(&'static str, &[f32]); I],
    outputs: [(&'static str, &mut [f32]); O],
) -> Result<(), Error> {
    let len = outputs.first().map_or(0, |(_, output)| output.len());
    for &(name, input) in &inputs {
        check_len(name, input, len)?;
    }
    for (name, output) in &outputs {
        check_len(name, output, len)?;
    }
    let outputs = outputs.map(|(_, output)| DisjointMut::new(output));
    // Ranges in whole vectors, so that no two tasks share a cache line's worth.
    ctx.split(len.div_ceil(LANES), cost * LANES, &|vectors| {
        let range = vectors.start * LANES..(vectors.end * LANES).min(len);
        dispatch(
            ctx.isa(),
            Part {
                function,
                inputs: inputs.map(|(_, input)| input.get(range.clone()).unwrap_or(&[])),
                // SAFETY: the ranges of tasks are disjoint.
                outputs: outputs.each_ref().map(|output| unsafe { output.range(range.clone()) }),
            },
        );
    });
    Ok(())
}

#[derive(Clone, Copy)]
struct Add;

impl Map<2, 1> for Add {
    #[inline(always)]
    fn apply<V: Simd>(self, [a, b]: [V; 2]) -> [V; 1] {
        [a.add(b)]
    }
}

#[derive(Clone, Copy)]
struct Sub;

impl Map<2, 1> for Sub {
    #[inline(always)]
    fn apply<V: Simd>(self, [a, b]: [V; 2]) -> [V; 1] {
        [a.sub(b)]
    }
}

#[derive(Clone, Copy)]
struct Mul;

impl Map<2, 1> for Mul {
    #[inline(always)]
    fn apply<V: Simd>(self, [a, b]: [V; 2]) -> [V; 1] {
        [a.mul(b)]
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Map<1, 1> for Silu {
    #[inline(always)]
    fn apply<V: Simd>(self, [x]: [V; 1]) -> [V; 1] {
        [x.mul(sigmoid(x))]
    }
}

#[derive(Clone, Copy)]
struct SiluBackward;

impl Map<2, 1> for SiluBackward {
    #[inline(always)]
    fn apply<V: Simd>(self, [x, dy]: [V; 2]) -> [V; 1] {
        [dy.mul(silu_slope(x, sigmoid(x)))]
    }
}

#[derive(Clone, Copy)]
struct Swiglu;

impl Map<2, 1> for Swiglu {
    #[inline(always)]
    fn apply<V: Simd>(self, [g, u]: [V; 2]) -> [V; 1] {
        [g.mul(sigmoid(g)).mul(u)]
    }
}

#[derive(Clone, Copy)]
struct SwigluBackward;

impl Map<3, 2> for SwigluBackward {
    #[inline(always)]
    fn apply<V: Simd>(self, [g, u, dy]: [V; 3]) -> [V; 2] {
        let s = sigmoid(g);
        [dy.mul(u).mul(silu_slope(g, s)), dy.mul(g.mul(s))]
    }
}

#[derive(Clone, Copy)]
struct Relu;

impl Map<1, 1> for Relu {
    #[inline(always)]
    fn apply<V: Simd>(self, [x]: [V; 1]) -> [V; 1] {
        [Lanes::max(x, V::splat(0.0))]
    }
}

#[derive(Clone, Copy)]
struct ReluBackward;

impl Map<2, 1> for ReluBackward {
    #[inline(always)]
    fn apply<V: Simd>(self, [x, dy]: [V; 2]) -> [V; 1] {
        let zero = V::splat(0.0);
        [V::select(V::lt(zero, x), dy, zero)]
    }
}

#[derive(Clone, Copy)]
struct Gelu;

impl Map<1, 1> for Gelu {
    #[inline(always)]
    fn apply<V: Simd>(self, [x]: [V; 1]) -> [V; 1] {
        let erf = generic::erf(x.mul(V::splat(SQRT_HALF)));
        [x.mul(V::splat(0.5)).mul(V::splat(1.0).add(erf))]
    }
}

#[derive(Clone, Copy)]
struct GeluBackward;

impl Map<2, 1> for GeluBackward {
    #[inline(always)]
    fn apply<V: Simd>(self, [x, dy]: [V; 2]) -> [V; 1] {
        let erf = generic::erf(x.mul(V::splat(SQRT_HALF)));
        let cdf = V::splat(0.5).mul(V::splat(1.0).add(erf));
        let density = generic::exp(V::splat(-0.5).mul(x.mul(x)));
        let pdf = V::splat(INV_SQRT_TAU).mul(density);
        [dy.mul(cdf.add(x.mul(pdf)))]
    }
}

#[derive(Clone, Copy)]
struct GeluTanh;

impl Map<1, 1> for GeluTanh {
    #[inline(always)]
    fn apply<V: Simd>(self, [x]: [V; 1]) -> [V; 1] {
        [V::splat(0.5).mul(x).mul(V::splat(1.0).add(gelu_tanh_t(x)))]
    }
}

#[derive(Clone, Copy)]
struct GeluTanhBackward;

impl Map<2, 1> for GeluTanhBackward {
    #[inline(always)]
    fn apply<V: Simd>(self, [x, dy]: [V; 2]) -> [V; 1] {
        let one = V::splat(1.0);
        let half = V::splat(0.5);
        let t = gelu_tanh_t(x);
        let inner = one.add(V::splat(0.134_145).mul(x.mul(x)));
        let inner = V::splat(SQRT_TWO_OVER_PI).mul(inner);
        let slope = half.mul(x).mul(one.sub(t.mul(t))).mul(inner);
        [dy.mul(half.mul(one.add(t)).add(slope))]
    }
}

#[derive(Clone, Copy)]
struct Scale(f32);

impl Map<1, 1> for Scale {
    #[inline(always)]
    fn apply<V: Simd>(self, [x]: [V; 1]) -> [V; 1] {
        [x.mul(V::splat(self.0))]
    }
}

/// One task's part of [`add_assign`].
struct AddAssign<'a> {
    x: &'a [f32],
    acc: &'a mut [f32],
}

impl Kernel for AddAssign<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let mut i = 0;
        while i < self.acc.len() {
            V::at(self.acc, i, 0.0).add(V::at(self.x, i, 0.0)).put(self.acc, i);
            i += LANES;
        }
    }
}

/// `recip(1 + exp(−x))`.
#[inline(always)]
fn sigmoid<V: Simd>(x: V) -> V {
    generic::recip(V::splat(1.0).add(generic::exp(x.neg())))
}

/// `s·(1 + x·(1 − s))`, the derivative of `x·s`.
#[inline(always)]
fn silu_slope<V: Simd>(x: V, s: V) -> V {
    let one = V::splat(1.0);
    s.mul(one.add(x.mul(one.sub(s))))
}

/// `tanh(0.7978846·(x + 0.044715·((x·x)·x)))`.
#[inline(always)]
fn gelu_tanh_t<V: Simd>(x: V) -> V {
    let cubic = V::splat(0.044_715).mul(x.mul(x).mul(x));
    generic::tanh(V::splat(SQRT_TWO_OVER_PI).mul(x.add(cubic)))
}

/// √½, √(2/π) and 1/√(2π), as `docs/numerics.md` writes them.
const SQRT_HALF: f32 = core::f32::consts::FRAC_1_SQRT_2;
const SQRT_TWO_OVER_PI: f32 = 0.797_884_6;
const INV_SQRT_TAU: f32 = 0.398_942_3;
