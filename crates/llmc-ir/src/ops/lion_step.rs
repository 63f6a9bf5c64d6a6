//! `lion_step`: one update of one parameter by the sign of its momentum.

use super::{CompareKind, check};
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, OpDef};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32};
use crate::types::{TensorType, TypeError, operands};

/// One step of Lion with decoupled weight decay.
///
/// p, g, m: one float type; lr, wd: scalars of its dtype → p', m'.
/// c = m·β1 + g·(1−β1), p' = (p − p·(lr·wd)) − lr·sign(c), m' = m·β2 + g·(1−β2), where the sign of
/// what is neither above nor below 0 is 0.
///
/// Errors: `lion_step::c1` if p is not of floats, `lion_step::c2` if g or m differs from p,
/// `lion_step::c3` if a scalar is none of that dtype.
/// Source: Chen et al. 2023, arXiv:2302.06675, algorithm 2.
#[derive(Clone, Debug, PartialEq)]
pub struct LionStep {
    /// Weight of the momentum in the direction, in 0..1.
    pub beta1: f64,
    /// Decay of the momentum, in 0..1.
    pub beta2: f64,
}

impl OpDef for LionStep {
    const NAME: &'static str = "lion_step";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("beta1", Attr::Float(self.beta1)), ("beta2", Attr::Float(self.beta2))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(LionStep { beta1: attrs.req("beta1")?, beta2: attrs.req("beta2")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let types: &[TensorType; 5] = operands(Self::NAME, types)?;
        check::check_step(Self::NAME, &types[..3], &types[3..])?;
        Ok(vec![types[0].clone(), types[0].clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let wide = v.iter().map(|x| b.widen(*x)).collect::<Result<Vec<_>, _>>()?;
        let [p, g, m, lr, wd] = wide[..] else {
            return Err(TypeError::new("lion_step::arity", "not 5 operands"));
        };
        let c = check::mix(b, m, g, self.beta1)?;
        let [zero, one, minus] =
            [b.constant_like(c, 0.0)?, b.constant_like(c, 1.0)?, b.constant_like(c, -1.0)?];
        let above = b.compare(CompareKind::Lt, zero, c)?;
        let below = b.compare(CompareKind::Lt, c, zero)?;
        let sign = b.select(below, minus, zero)?;
        let sign = b.select(above, one, sign)?;
        let shrink = b.mul(lr, wd)?;
        let shrink = b.splat_like(shrink, p)?;
        let decay = b.mul(p, shrink)?;
        let kept = b.sub(p, decay)?;
        let lr = b.splat_like(lr, p)?;
        let step = b.mul(lr, sign)?;
        let p = b.sub(kept, step)?;
        let m = check::mix(b, m, g, self.beta2)?;
        Ok(vec![b.cast(p, dtype)?, b.cast(m, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 10)
    }

    fn samples() -> Samples {
        let op = || LionStep { beta1: 0.9, beta2: 0.99 };
        Samples {
            good: vec![Sample::new(
                op(),
                [
                    (f32(&[3, 7]), Fill::Normal),
                    (f32(&[3, 7]), Fill::Normal),
                    (f32(&[3, 7]), Fill::Normal),
                    (f32(&[]), Fill::Constant(0.01)),
                    (f32(&[]), Fill::Positive),
                ],
                &[0, 1, 2, 3, 4],
            )],
            bad: vec![
                BadSample::new(
                    op(),
                    [i32(&[3]), i32(&[3]), i32(&[3]), i32(&[]), i32(&[])],
                    "lion_step::c1",
                ),
                BadSample::new(
                    op(),
                    [f32(&[3]), f32(&[4]), f32(&[3]), f32(&[]), f32(&[])],
                    "lion_step::c2",
                ),
                BadSample::new(
                    op(),
                    [f32(&[3]), f32(&[3]), f32(&[3]), f32(&[]), i32(&[])],
                    "lion_step::c3",
                ),
            ],
        }
    }
}
