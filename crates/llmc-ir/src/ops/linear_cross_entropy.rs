//! `linear_cross_entropy` and `linear_cross_entropy_grad`: the head of a language model and its loss
//! in one, so that the logits need never be in memory all at once.

use super::check;
use super::cross_entropy::{CrossEntropy, CrossEntropyBackward};
use super::linear::{Linear, LinearWeightGrad};
use super::precision::Precision;
use crate::attr::{AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, OpDef};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// [`CrossEntropy`] of the logits that [`Linear`] makes of x.
///
/// x: f32 or f64 [..., E], w: [V, E], targets: i32 [...], weights: [...], all floats of the dtype of x →
/// loss of the type of the weights.
///
/// Errors: `linear_cross_entropy::c1` if x is not f32 or f64, or w not [V, E] of its dtype,
/// `linear_cross_entropy::c2` if the targets are not i32 [...], `linear_cross_entropy::c3` if the
/// weights are not [...] of the dtype of x, `linear_cross_entropy::c4` if x does not fit the precision.
/// Source: Wijmans et al. 2024, arXiv:2411.09009, section 4.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinearCrossEntropy {
    /// What the products are taken of; other than f32 only for f32 operands.
    pub precision: Precision,
}

/// [`LinearCrossEntropy`] and its gradients for x and w, given the gradient of the loss.
///
/// x, w, targets, weights: as there, dloss: of the type of the weights, which it has in it already,
/// acc: of the type of w → loss [...], dx of the type of x, and acc plus the gradient of w, summed
/// over tokens in their order.
///
/// Errors: `linear_cross_entropy_grad::c1` to `c3` as there, `linear_cross_entropy_grad::c4` if dloss
/// or acc has another type, `linear_cross_entropy_grad::c5` if x does not fit the precision.
/// Source: Wijmans et al. 2024, arXiv:2411.09009, section 4.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinearCrossEntropyGrad {
    /// What the products are taken of; other than f32 only for f32 operands.
    pub precision: Precision,
}

/// Checks x, w, targets and weights.
fn check_head(
    op: &str,
    x: &TensorType,
    w: &TensorType,
    targets: &TensorType,
    weights: &TensorType,
) -> Result<(), TypeError> {
    let valid = matches!(x.dtype, DType::F32 | DType::F64)
        && x.dtype == w.dtype
        && w.rank() == 2
        && x.rank() >= 1
        && x.shape.last() == w.shape.last();
    ensure(valid, &format!("{op}::c1"), || {
        format!("operand `w` has type {w}, expected [V, E] of the dtype of x {x}, f32 or f64")
    })?;
    let tokens = x.shape[..x.rank() - 1].to_vec();
    let want = TensorType { dtype: DType::I32, shape: tokens };
    check::ensure_same(&format!("{op}::c2"), "targets", targets, &want)?;
    let want = want.with_dtype(x.dtype);
    check::ensure_same(&format!("{op}::c3"), "weights", weights, &want)
}

impl OpDef for LinearCrossEntropy {
    const NAME: &'static str = "linear_cross_entropy";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        self.precision.attrs()
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(LinearCrossEntropy { precision: Precision::from_attrs(attrs)? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, w, targets, weights] = operands(Self::NAME, types)?;
        check_head(Self::NAME, x, w, targets, weights)?;
        self.precision.ensure_fits("linear_cross_entropy::c4", x)?;
        Ok(vec![weights.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let logits = b.op1(Linear { precision: self.precision }, &[v[0], v[1]])?;
        Ok(vec![b.op1(CrossEntropy, &[logits, v[2], v[3]])?])
    }

    fn cost(&self, types: &[TensorType], results: &[TensorType]) -> Cost {
        let logits = results[0].numel() * types[1].shape[0].clone();
        Cost::flops(
            logits.clone() * types[1].shape[1].clone() * 2 + logits * 3 + results[0].numel() * 4,
        )
    }

    fn samples() -> Samples {
        let sample = |dtype, tokens: &[usize], precision| {
            let x = [tokens, &[5]].concat();
            let operands = [
                (typed(dtype, &x), Fill::Normal),
                (typed(dtype, &[7, 5]), Fill::Normal),
                (i32(tokens), Fill::Below(7)),
                (typed(dtype, tokens), Fill::Positive),
            ];
            let checked: &[usize] = if precision == Precision::F32 { &[0, 1] } else { &[] };
            Sample::new(LinearCrossEntropy { precision }, operands, checked)
        };
        let bad = |w: TensorType, targets: &[usize], weights: &[usize], code| {
            let operands = [f32(&[3, 5]), w, i32(targets), f32(weights)];
            BadSample::new(LinearCrossEntropy::default(), operands, code)
        };
        Samples {
            good: vec![
                sample(DType::F32, &[2, 3], Precision::F32),
                sample(DType::F32, &[9], Precision::F32),
                sample(DType::F32, &[3, 5], Precision::Bf16),
                sample(DType::F32, &[3, 5], Precision::F16),
                sample(DType::F64, &[4], Precision::F32),
            ],
            bad: vec![
                BadSample::new(
                    LinearCrossEntropy { precision: Precision::Bf16 },
                    [
                        typed(DType::F64, &[3, 5]),
                        typed(DType::F64, &[7, 5]),
                        i32(&[3]),
                        typed(DType::F64, &[3]),
                    ],
                    "linear_cross_entropy::c4",
                ),
                bad(f32(&[7, 4]), &[3], &[3], "linear_cross_entropy::c1"),
                bad(typed(DType::F16, &[7, 5]), &[3], &[3], "linear_cross_entropy::c1"),
                bad(f32(&[7, 5]), &[4], &[3], "linear_cross_entropy::c2"),
                bad(f32(&[7, 5]), &[3], &[4], "linear_cross_entropy::c3"),
            ],
        }
    }
}

impl OpDef for LinearCrossEntropyGrad {
    const NAME: &'static str = "linear_cross_entropy_grad";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        self.precision.attrs()
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(LinearCrossEntropyGrad { precision: Precision::from_attrs(attrs)? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, w, targets, weights, dloss, acc] = operands(Self::NAME, types)?;
        check_head(Self::NAME, x, w, targets, weights)?;
        check::ensure_same("linear_cross_entropy_grad::c4", "dloss", dloss, weights)?;
        check::ensure_same("linear_cross_entropy_grad::c4", "acc", acc, w)?;
        self.precision.ensure_fits("linear_cross_entropy_grad::c5", x)?;
        Ok(vec![weights.clone(), x.clone(), acc.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let (x, w, targets, weights, dloss, acc) = (v[0], v[1], v[2], v[3], v[4], v[5]);
        let precision = self.precision;
        let logits = b.op1(Linear { precision }, &[x, w])?;
        let loss = b.op1(CrossEntropy, &[logits, targets, weights])?;
        let dlogits = b.op1(CrossEntropyBackward, &[logits, targets, dloss])?;
        let last = b.ty(x).rank() - 1;
        let dx = b.dot_with(dlogits, w, (&[last], &[0]), None, precision)?;
        let dw = b.token_sum(LinearWeightGrad { precision }, &[dlogits, x], Some(acc))?;
        Ok(vec![loss, dx, dw])
    }

    fn cost(&self, types: &[TensorType], results: &[TensorType]) -> Cost {
        let logits = results[0].numel() * types[1].shape[0].clone();
        Cost::flops(
            logits.clone() * types[1].shape[1].clone() * 6 + logits * 9 + results[0].numel() * 4,
        )
    }

    fn samples() -> Samples {
        let sample = |dtype, tokens: &[usize], precision| {
            let x = [tokens, &[5]].concat();
            let operands = [
                (typed(dtype, &x), Fill::Normal),
                (typed(dtype, &[7, 5]), Fill::Normal),
                (i32(tokens), Fill::Below(7)),
                (typed(dtype, tokens), Fill::Positive),
                (typed(dtype, tokens), Fill::Normal),
                (typed(dtype, &[7, 5]), Fill::Normal),
            ];
            Sample::new(LinearCrossEntropyGrad { precision }, operands, &[])
        };
        let bad = |w: TensorType, sizes: [usize; 3], acc: TensorType, code| {
            let [targets, weights, dloss] = sizes;
            let x = f32(&[3, 5]);
            let operands = [x, w, i32(&[targets]), f32(&[weights]), f32(&[dloss]), acc];
            BadSample::new(LinearCrossEntropyGrad::default(), operands, code)
        };
        let w = || f32(&[7, 5]);
        Samples {
            good: vec![
                sample(DType::F32, &[2, 3], Precision::F32),
                sample(DType::F32, &[1], Precision::F32),
                sample(DType::F32, &[3, 5], Precision::Bf16),
                sample(DType::F32, &[3, 5], Precision::F16),
                sample(DType::F64, &[4], Precision::F32),
            ],
            bad: vec![
                BadSample::new(
                    LinearCrossEntropyGrad { precision: Precision::Bf16 },
                    [
                        typed(DType::F64, &[3, 5]),
                        typed(DType::F64, &[7, 5]),
                        i32(&[3]),
                        typed(DType::F64, &[3]),
                        typed(DType::F64, &[3]),
                        typed(DType::F64, &[7, 5]),
                    ],
                    "linear_cross_entropy_grad::c5",
                ),
                bad(f32(&[7, 4]), [3, 3, 3], w(), "linear_cross_entropy_grad::c1"),
                bad(w(), [4, 3, 3], w(), "linear_cross_entropy_grad::c2"),
                bad(w(), [3, 4, 3], w(), "linear_cross_entropy_grad::c3"),
                bad(w(), [3, 3, 4], w(), "linear_cross_entropy_grad::c4"),
                bad(w(), [3, 3, 3], f32(&[5, 7]), "linear_cross_entropy_grad::c4"),
            ],
        }
    }
}
