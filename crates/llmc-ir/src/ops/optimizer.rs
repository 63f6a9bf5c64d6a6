//! `adamw_step` and `sgd_step`: one update of one parameter.
//!
//! Sources: Loshchilov and Hutter 2017, arXiv:1711.05101, algorithm 2; Polyak 1964 for momentum.

use super::check;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, OpDef};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32};
use crate::types::{TensorType, TypeError, operands};

/// One step of Adam with decoupled weight decay.
///
/// p, g, m, v: one float type; lr, bc1, bc2, wd: scalars of its dtype → p', m', v'.
/// m' = m·β1 + g·(1−β1), v' = v·β2 + g²·(1−β2),
/// p' = (p − p·(lr·wd)) − lr·((m'/bc1) / (sqrt(v'/bc2) + eps)), where bc1 = 1−β1ᵗ and bc2 = 1−β2ᵗ
/// are the bias corrections at step t ≥ 1.
///
/// Errors: `adamw_step::c1` if p is not of floats, `adamw_step::c2` if g, m or v differs from p,
/// `adamw_step::c3` if a scalar is none of that dtype.
/// Source: Loshchilov and Hutter 2017, arXiv:1711.05101, algorithm 2.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamwStep {
    /// Decay of the first moment, in 0..1.
    pub beta1: f64,
    /// Decay of the second moment, in 0..1.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

/// One step of gradient descent with momentum and coupled weight decay.
///
/// p, g, m: one float type; lr, wd: scalars of its dtype → p', m'.
/// g' = g + p·wd, m' = m·μ + g', p' = p − lr·m'.
///
/// Errors: `sgd_step::c1` if p is not of floats, `sgd_step::c2` if g or m differs from p,
/// `sgd_step::c3` if a scalar is none of that dtype.
/// Source: Sutskever et al. 2013, ICML, eq. 1 and 2, in the form of PyTorch's `SGD`.
#[derive(Clone, Debug, PartialEq)]
pub struct SgdStep {
    /// μ, the decay of the momentum; 0 is plain descent.
    pub momentum: f64,
}

impl OpDef for AdamwStep {
    const NAME: &'static str = "adamw_step";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![
            ("beta1", Attr::Float(self.beta1)),
            ("beta2", Attr::Float(self.beta2)),
            ("eps", Attr::Float(self.eps)),
        ]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(AdamwStep {
            beta1: attrs.req("beta1")?,
            beta2: attrs.req("beta2")?,
            eps: attrs.req("eps")?,
        })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let types: &[TensorType; 8] = operands(Self::NAME, types)?;
        check::check_step(Self::NAME, &types[..4], &types[4..])?;
        Ok(vec![types[0].clone(), types[0].clone(), types[0].clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let wide = v.iter().map(|x| b.widen(*x)).collect::<Result<Vec<_>, _>>()?;
        let [p, g, m, s, lr, bc1, bc2, wd] = wide[..] else {
            return Err(TypeError::new("adamw_step::arity", "not 8 operands"));
        };
        let m = check::mix(b, m, g, self.beta1)?;
        let square = b.mul(g, g)?;
        let s = check::mix(b, s, square, self.beta2)?;
        let shrink = b.mul(lr, wd)?;
        let shrink = b.splat_like(shrink, p)?;
        let decay = b.mul(p, shrink)?;
        let kept = b.sub(p, decay)?;
        let bc1 = b.splat_like(bc1, p)?;
        let bc2 = b.splat_like(bc2, p)?;
        let numerator = b.div(m, bc1)?;
        let second = b.div(s, bc2)?;
        let root = b.sqrt(second)?;
        let denominator = b.add_scalar(root, self.eps)?;
        let direction = b.div(numerator, denominator)?;
        let lr = b.splat_like(lr, p)?;
        let step = b.mul(lr, direction)?;
        let p = b.sub(kept, step)?;
        Ok(vec![b.cast(p, dtype)?, b.cast(m, dtype)?, b.cast(s, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 15)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    AdamwStep { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
                    [
                        (f32(&[3, 7]), Fill::Normal),
                        (f32(&[3, 7]), Fill::Normal),
                        (f32(&[3, 7]), Fill::Normal),
                        (f32(&[3, 7]), Fill::Positive),
                        (f32(&[]), Fill::Constant(0.001)),
                        (f32(&[]), Fill::Constant(0.1)),
                        (f32(&[]), Fill::Constant(0.2)),
                        (f32(&[]), Fill::Constant(0.01)),
                    ],
                    &[0, 1, 2, 3],
                ),
                Sample::new(
                    AdamwStep { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
                    [
                        (f32(&[33]), Fill::Normal),
                        (f32(&[33]), Fill::Normal),
                        (f32(&[33]), Fill::Constant(0.0)),
                        (f32(&[33]), Fill::Constant(0.0)),
                        (f32(&[]), Fill::Positive),
                        (f32(&[]), Fill::Positive),
                        (f32(&[]), Fill::Positive),
                        (f32(&[]), Fill::Positive),
                    ],
                    &[],
                ),
            ],
            bad: vec![
                BadSample::new(
                    AdamwStep { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
                    [
                        i32(&[3]),
                        i32(&[3]),
                        i32(&[3]),
                        i32(&[3]),
                        i32(&[]),
                        i32(&[]),
                        i32(&[]),
                        i32(&[]),
                    ],
                    "adamw_step::c1",
                ),
                BadSample::new(
                    AdamwStep { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
                    [
                        f32(&[3]),
                        f32(&[3]),
                        f32(&[3]),
                        f32(&[4]),
                        f32(&[]),
                        f32(&[]),
                        f32(&[]),
                        f32(&[]),
                    ],
                    "adamw_step::c2",
                ),
                BadSample::new(
                    AdamwStep { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
                    [
                        f32(&[3]),
                        f32(&[3]),
                        f32(&[3]),
                        f32(&[3]),
                        f32(&[]),
                        f32(&[]),
                        f32(&[]),
                        f32(&[1]),
                    ],
                    "adamw_step::c3",
                ),
                BadSample::new(
                    AdamwStep { beta1: 0.9, beta2: 0.999, eps: 1e-8 },
                    [f32(&[3])],
                    "adamw_step::arity",
                ),
            ],
        }
    }
}

impl OpDef for SgdStep {
    const NAME: &'static str = "sgd_step";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("momentum", Attr::Float(self.momentum))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(SgdStep { momentum: attrs.req("momentum")? })
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
            return Err(TypeError::new("sgd_step::arity", "not 5 operands"));
        };
        let wd = b.splat_like(wd, p)?;
        let decay = b.mul(p, wd)?;
        let g = b.add(g, decay)?;
        let kept = b.mul_scalar(m, self.momentum)?;
        let m = b.add(kept, g)?;
        let lr = b.splat_like(lr, p)?;
        let step = b.mul(lr, m)?;
        let p = b.sub(p, step)?;
        Ok(vec![b.cast(p, dtype)?, b.cast(m, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 6)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![Sample::new(
                SgdStep { momentum: 0.9 },
                [
                    (f32(&[3, 7]), Fill::Normal),
                    (f32(&[3, 7]), Fill::Normal),
                    (f32(&[3, 7]), Fill::Normal),
                    (f32(&[]), Fill::Positive),
                    (f32(&[]), Fill::Positive),
                ],
                &[0, 1, 2, 3, 4],
            )],
            bad: vec![
                BadSample::new(
                    SgdStep { momentum: 0.9 },
                    [i32(&[3]), i32(&[3]), i32(&[3]), i32(&[]), i32(&[])],
                    "sgd_step::c1",
                ),
                BadSample::new(
                    SgdStep { momentum: 0.9 },
                    [f32(&[3]), f32(&[4]), f32(&[3]), f32(&[]), f32(&[])],
                    "sgd_step::c2",
                ),
                BadSample::new(
                    SgdStep { momentum: 0.9 },
                    [f32(&[3]), f32(&[3]), f32(&[3]), f32(&[]), i32(&[])],
                    "sgd_step::c3",
                ),
            ],
        }
    }
}
