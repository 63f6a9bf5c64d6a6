//! `rope`: rotary position embedding, half-split.
//!
//! With f[i] = theta^(−2i/D) (scaled), a = position · f[i], and x = [x1, x2] split in halves:
//! y1 = x1·cos a − x2·sin a, y2 = x2·cos a + x1·sin a.
//!
//! Source: Su et al. 2021, arXiv:2104.09864, section 3.4.2; Llama 3 scaling: Grattafiori et al.
//! 2024, arXiv:2407.21783, and the published `rope_scaling` of Llama 3.1.

use super::check;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// How the frequencies are stretched for contexts longer than the trained one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by a factor. Source: Chen et al. 2023, arXiv:2306.15595.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, smooth in between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original_context_length / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_context_length / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length before stretching, in tokens.
        original_context_length: f64,
    },
}

/// Rotary position embedding of the heads of x, half-split.
///
/// x: [B, T, H, D], positions: i32 [B, T] → [B, T, H, D]; D is even and a number. Computed in f32
/// if the dtype is narrower; frequencies are computed in f64 and rounded once.
///
/// Errors: `rope::c1` if x is not [B, T, H, D] of floats, `rope::c2` if D is odd, `rope::c3` if
/// the positions are not i32 [B, T], `rope::c4` if theta or a scaling factor is not above 0.
/// Source: Su et al. 2021, arXiv:2104.09864, section 3.4.2.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies, e.g. 10000.
    pub theta: f64,
    /// Stretching of the frequencies.
    pub scaling: RopeScaling,
    /// Rotates back: the gradient.
    pub inverse: bool,
}

/// The frequencies `f[i]`, i in 0..head_dim/2, in radians per position.
pub fn rope_frequencies(theta: f64, scaling: &RopeScaling, head_dim: usize) -> Vec<f64> {
    let plain = |i: usize| libm::pow(theta, -2.0 * i as f64 / head_dim as f64);
    (0..head_dim / 2).map(|i| scale_frequency(plain(i), scaling)).collect()
}

fn scale_frequency(f: f64, scaling: &RopeScaling) -> f64 {
    match *scaling {
        RopeScaling::None => f,
        RopeScaling::Linear { factor } => f / factor,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context_length,
        } => {
            let wavelength = std::f64::consts::TAU / f;
            if wavelength < original_context_length / high_freq_factor {
                f
            } else if wavelength > original_context_length / low_freq_factor {
                f / factor
            } else {
                let smooth = (original_context_length / wavelength - low_freq_factor)
                    / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * (f / factor) + smooth * f
            }
        }
    }
}

impl RopeScaling {
    fn attrs(&self) -> Attrs {
        match *self {
            RopeScaling::None => vec![],
            RopeScaling::Linear { factor } => {
                vec![("scaling", Attr::Word("linear".to_string())), ("factor", Attr::Float(factor))]
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context_length,
            } => vec![
                ("scaling", Attr::Word("llama3".to_string())),
                ("factor", Attr::Float(factor)),
                ("low_freq_factor", Attr::Float(low_freq_factor)),
                ("high_freq_factor", Attr::Float(high_freq_factor)),
                ("original_context_length", Attr::Float(original_context_length)),
            ],
        }
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        match attrs.opt::<String>("scaling")?.as_deref() {
            None => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: attrs.req("factor")? }),
            Some("llama3") => Ok(RopeScaling::Llama3 {
                factor: attrs.req("factor")?,
                low_freq_factor: attrs.req("low_freq_factor")?,
                high_freq_factor: attrs.req("high_freq_factor")?,
                original_context_length: attrs.req("original_context_length")?,
            }),
            Some(other) => Err(AttrError(format!(
                "attribute `scaling` is `{other}`, expected one of linear, llama3"
            ))),
        }
    }

    /// The factors, which must all be above 0.
    fn factors(&self) -> Vec<f64> {
        let floats = |(_, attr)| match attr {
            Attr::Float(f) => Some(f),
            _ => None,
        };
        self.attrs().into_iter().filter_map(floats).collect()
    }
}

impl OpDef for Rope {
    const NAME: &'static str = "rope";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        let mut attrs = vec![("theta", Attr::Float(self.theta))];
        attrs.extend(self.scaling.attrs());
        if self.inverse {
            attrs.push(("inverse", Attr::Bool(true)));
        }
        attrs
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Rope {
            theta: attrs.req("theta")?,
            scaling: RopeScaling::from_attrs(attrs)?,
            inverse: attrs.opt("inverse")?.unwrap_or(false),
        })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, positions] = operands(Self::NAME, types)?;
        ensure(x.rank() == 4 && x.dtype.is_float(), "rope::c1", || {
            format!("operand `x` has type {x}, expected floats [B, T, H, D]")
        })?;
        ensure(x.shape[3].as_constant().is_none_or(|d| d % 2 == 0), "rope::c2", || {
            format!("head width `{}` is odd", x.shape[3])
        })?;
        let want = TensorType::new(DType::I32, x.shape[..2].iter().cloned());
        check::ensure_same("rope::c3", "positions", positions, &want)?;
        let factors = self.scaling.factors();
        let positive = self.theta > 0.0 && factors.iter().all(|f| *f > 0.0);
        ensure(positive, "rope::c4", || {
            format!("theta {:?} and factors {factors:?} must be above 0", self.theta)
        })?;
        Ok(vec![x.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let x = b.widen(v[0])?;
        let ty = b.ty(x).clone();
        let head_dim = ty.shape[3].as_usize().ok_or_else(|| {
            TypeError::new("rope::c2", format!("head width `{}` is not a number yet", ty.shape[3]))
        })?;
        let half = head_dim / 2;
        let frequencies = rope_frequencies(self.theta, &self.scaling, head_dim);
        let frequencies = b.literal(ty.dtype, &[half], frequencies)?;
        // Angles [B, T, D/2], the same for every head.
        let position = b.cast(v[1], ty.dtype)?;
        let mut angles = ty.shape[..2].to_vec();
        angles.push(half.into());
        let position = b.broadcast(position, &angles, &[0, 1])?;
        let frequencies = b.broadcast(frequencies, &angles, &[2])?;
        let angle = b.mul(position, frequencies)?;
        let (sin, cos) = (b.sin(angle)?, b.cos(angle)?);
        let halves = [ty.shape[0].clone(), ty.shape[1].clone(), ty.shape[2].clone(), half.into()];
        let sin = b.broadcast(sin, &halves, &[0, 1, 3])?;
        let cos = b.broadcast(cos, &halves, &[0, 1, 3])?;
        let x1 = b.slice(x, 3, 0, half)?;
        let x2 = b.slice(x, 3, half, head_dim)?;
        let products = [b.mul(x1, cos)?, b.mul(x2, sin)?, b.mul(x2, cos)?, b.mul(x1, sin)?];
        let (y1, y2) = match self.inverse {
            false => (b.sub(products[0], products[1])?, b.add(products[2], products[3])?),
            true => (b.add(products[0], products[1])?, b.sub(products[2], products[3])?),
        };
        let y = b.concat(&[y1, y2], 3)?;
        Ok(vec![b.cast(y, dtype)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let (Some(dy), true) = (input.cotangents[0], input.needed[0]) else {
            return Ok(Some(vec![None, None]));
        };
        let back = Rope { inverse: !self.inverse, ..self.clone() };
        let dx = b.op1(back, &[dy, input.operands[1]])?;
        Ok(Some(vec![Some(input.fold(b, 0, dx)?), None]))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        // Per element two products and a sum; angles, sines and cosines are shared by heads.
        Cost::flops(types[0].numel() * 3)
    }

    fn samples() -> Samples {
        let llama3 = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context_length: 64.0,
        };
        Samples {
            good: vec![
                Sample::new(
                    Rope { theta: 10000.0, scaling: RopeScaling::None, inverse: false },
                    [(f32(&[2, 5, 3, 8]), Fill::Normal), (i32(&[2, 5]), Fill::Positions)],
                    &[0],
                ),
                Sample::new(
                    Rope { theta: 10000.0, scaling: RopeScaling::None, inverse: true },
                    [(f32(&[1, 9, 1, 6]), Fill::Normal), (i32(&[1, 9]), Fill::Positions)],
                    &[0],
                ),
                Sample::new(
                    Rope {
                        theta: 10000.0,
                        scaling: RopeScaling::Linear { factor: 4.0 },
                        inverse: false,
                    },
                    [(f32(&[1, 5, 2, 2]), Fill::Normal), (i32(&[1, 5]), Fill::Below(3000))],
                    &[0],
                ),
                Sample::new(
                    Rope { theta: 500000.0, scaling: llama3, inverse: false },
                    [(f32(&[1, 5, 2, 16]), Fill::Normal), (i32(&[1, 5]), Fill::Below(300))],
                    &[0],
                ),
                Sample::new(
                    Rope { theta: 10000.0, scaling: RopeScaling::None, inverse: false },
                    [
                        (typed(DType::Bf16, &[1, 5, 2, 4]), Fill::Normal),
                        (i32(&[1, 5]), Fill::Positions),
                    ],
                    &[0],
                ),
                Sample::new(
                    Rope { theta: 10000.0, scaling: RopeScaling::None, inverse: false },
                    [
                        (typed(DType::F64, &[1, 5, 2, 4]), Fill::Normal),
                        (i32(&[1, 5]), Fill::Positions),
                    ],
                    &[0],
                ),
            ],
            bad: vec![
                BadSample::new(
                    Rope { theta: 10000.0, scaling: RopeScaling::None, inverse: false },
                    [f32(&[2, 5, 8]), i32(&[2, 5])],
                    "rope::c1",
                ),
                BadSample::new(
                    Rope { theta: 10000.0, scaling: RopeScaling::None, inverse: false },
                    [f32(&[2, 5, 3, 7]), i32(&[2, 5])],
                    "rope::c2",
                ),
                BadSample::new(
                    Rope { theta: 10000.0, scaling: RopeScaling::None, inverse: false },
                    [f32(&[2, 5, 3, 8]), i32(&[5])],
                    "rope::c3",
                ),
                BadSample::new(
                    Rope { theta: 0.0, scaling: RopeScaling::None, inverse: false },
                    [f32(&[2, 5, 3, 8]), i32(&[2, 5])],
                    "rope::c4",
                ),
                BadSample::new(
                    Rope {
                        theta: 10000.0,
                        scaling: RopeScaling::Linear { factor: -1.0 },
                        inverse: false,
                    },
                    [f32(&[2, 5, 3, 8]), i32(&[2, 5])],
                    "rope::c4",
                ),
            ],
        }
    }
}
