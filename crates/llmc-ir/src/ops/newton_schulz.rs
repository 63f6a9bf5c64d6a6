//! `newton_schulz`: the orthogonal factor of a matrix, nearly.

use super::check;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, OpDef};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// A few Newton–Schulz steps towards U·Vᵀ of the singular value decomposition x = U·S·Vᵀ.
///
/// x: floats [M, N] → the type of x. From X = x/(‖x‖ + 1e-7), Frobenius norm, each step is
/// A = X·Xᵀ, X' = 3.4445·X + (2.0315·A·A − 4.775·A)·X; where M and N are numbers and M is the larger,
/// the same on the other side: A = Xᵀ·X, X' = 3.4445·X + X·(2.0315·A·A − 4.775·A). The singular values of the result are about 1, between 0.7 and 1.2.
///
/// Errors: `newton_schulz::c1` if x is not floats of two dims, `newton_schulz::c2` if there are not 1
/// to 100 steps.
/// Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", with its
/// coefficients; Higham 2008, "Functions of Matrices", section 8.3.
#[derive(Clone, Debug, PartialEq)]
pub struct NewtonSchulz {
    /// Number of steps.
    pub steps: usize,
}

/// Coefficients of X, A·X and A·A·X.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.775, 2.0315];
/// Added to the norm.
const EPS: f64 = 1e-7;

impl OpDef for NewtonSchulz {
    const NAME: &'static str = "newton_schulz";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("steps", Attr::Int(self.steps as i64))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(NewtonSchulz { steps: attrs.req("steps")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        check::ensure_float("newton_schulz::c1", "x", x)?;
        ensure(x.rank() == 2, "newton_schulz::c1", || format!("x {x}, expected a matrix"))?;
        ensure((1..=100).contains(&self.steps), "newton_schulz::c2", || {
            format!("{} steps are not 1 to 100", self.steps)
        })?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let ty = b.ty(v[0]).clone();
        let is_tall = match (ty.shape[0].as_usize(), ty.shape[1].as_usize()) {
            (Some(m), Some(n)) => m > n,
            _ => false,
        };
        let mut x = b.widen(v[0])?;
        let squares = b.mul(x, x)?;
        let sum = b.sum_chain(squares, &[0, 1])?;
        let norm = b.sqrt(sum)?;
        let norm = b.add_scalar(norm, EPS)?;
        let factor = b.recip(norm)?;
        let factor = b.splat_like(factor, x)?;
        x = b.mul(x, factor)?;
        let [c1, c2, c3] = COEFFICIENTS;
        let none: (&[usize], &[usize]) = (&[], &[]);
        for _ in 0..self.steps {
            let long: &[usize] = if is_tall { &[0] } else { &[1] };
            let a = b.dot(x, x, none, (long, long))?;
            let square = b.dot(a, a, none, (&[1], &[0]))?;
            let (linear, square) = (b.mul_scalar(a, c2)?, b.mul_scalar(square, c3)?);
            let polynomial = b.add(linear, square)?;
            let bent = match is_tall {
                true => b.dot(x, polynomial, none, (&[1], &[0]))?,
                false => b.dot(polynomial, x, none, (&[1], &[0]))?,
            };
            let kept = b.mul_scalar(x, c1)?;
            x = b.add(kept, bent)?;
        }
        Ok(vec![b.cast(x, ty.dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        let (m, n) = (types[0].shape[0].clone(), types[0].shape[1].clone());
        let small = match (m.as_usize(), n.as_usize()) {
            (Some(rows), Some(columns)) if rows > columns => n,
            _ => m,
        };
        // A and its product with X, A·A, and the sums around them.
        let step = types[0].numel() * small.clone() * 4 + small.clone() * small.clone() * small * 2;
        Cost::flops((step + types[0].numel() * 2) * self.steps as i64)
    }

    fn samples() -> Samples {
        let sample = |steps, ty: TensorType, differentiable: &[usize]| {
            Sample::new(NewtonSchulz { steps }, [(ty, Fill::Normal)], differentiable)
        };
        let bad = |steps, ty, code| BadSample::new(NewtonSchulz { steps }, [ty], code);
        Samples {
            good: vec![
                sample(5, f32(&[3, 7]), &[]),
                sample(2, f32(&[6, 4]), &[0]),
                sample(1, f32(&[1, 5]), &[0]),
                sample(3, typed(DType::Bf16, &[4, 4]), &[]),
            ],
            bad: vec![
                bad(5, i32(&[3, 3]), "newton_schulz::c1"),
                bad(5, f32(&[3]), "newton_schulz::c1"),
                bad(0, f32(&[3, 3]), "newton_schulz::c2"),
            ],
        }
    }
}
