//! `cross_entropy` and `cross_entropy_backward`: the loss of each token.
//!
//! loss = (log(sum(exp(x))) − x[target]) · weight, and 0 where the target is [`IGNORE_INDEX`]

use super::softmax::{exponentials, softmax};
use super::{CompareKind, check};
use crate::attr::{AttrError, AttrReader};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// The target that does not count: `ignore_index` of PyTorch's loss, and what its data has there.
pub const IGNORE_INDEX: i32 = -100;

/// Weighted cross entropy of each token, in nats.
///
/// logits: floats [..., V], targets: i32 [...], weights: [...] in the dtype that the logits compute
/// in (f32 for narrower floats) → loss of the type of the weights. A target of −100 is ignored: its
/// loss is 0 whatever its logits are. Any other outside 0..V is an error of the evaluation, whatever
/// its weight.
///
/// Errors: `cross_entropy::c1` if the logits are not floats [..., V], `cross_entropy::c2` if the
/// targets are not i32 [...], `cross_entropy::c3` if the weights are not of that type.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropy;

/// Gradient of [`CrossEntropy`] for the logits: (softmax(x) − onehot(target))·dloss, and 0 where the
/// target is −100.
///
/// logits: floats [..., V], targets: i32 [...], dloss: [...] in the dtype that the logits compute in,
/// the weights already in it → the type of the logits.
///
/// Errors: `cross_entropy_backward::c1` to `c3` as for [`CrossEntropy`], with dloss for the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropyBackward;

/// Checks (logits, targets, values per token) and gives the type of the last.
fn check_tokens(
    op: &str,
    logits: &TensorType,
    targets: &TensorType,
    per_token: &TensorType,
) -> Result<TensorType, TypeError> {
    ensure(logits.rank() >= 1 && logits.dtype.is_float(), &format!("{op}::c1"), || {
        format!("operand `logits` has type {logits}, expected floats [..., V]")
    })?;
    let tokens = logits.shape[..logits.rank() - 1].to_vec();
    let want = TensorType { dtype: DType::I32, shape: tokens };
    check::ensure_same(&format!("{op}::c2"), "targets", targets, &want)?;
    let want = want.with_dtype(check::compute_dtype(logits.dtype));
    check::ensure_same(&format!("{op}::c3"), "weights", per_token, &want)?;
    Ok(want)
}

/// Where a target does not count.
fn is_ignored(b: &mut FunctionBuilder, targets: ValueId) -> Result<ValueId, TypeError> {
    let ignore = b.constant_like(targets, f64::from(IGNORE_INDEX))?;
    b.compare(CompareKind::Eq, targets, ignore)
}

impl OpDef for CrossEntropy {
    const NAME: &'static str = "cross_entropy";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(CrossEntropy)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [logits, targets, weights] = operands(Self::NAME, types)?;
        Ok(vec![check_tokens(Self::NAME, logits, targets, weights)?])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let x = b.widen(v[0])?;
        let axis = b.ty(x).rank() - 1;
        let (_, max, sum) = exponentials(b, x)?;
        let l = b.log(sum)?;
        let ignored = is_ignored(b, v[1])?;
        let zero = b.constant_like(v[1], 0.0)?;
        let ids = b.select(ignored, zero, v[1])?;
        let target = b.gather(x, ids, axis, axis)?;
        let difference = b.sub(max, target)?;
        let loss = b.add(difference, l)?;
        let loss = b.mul(loss, v[2])?;
        let nothing = b.constant_like(loss, 0.0)?;
        Ok(vec![b.select(ignored, nothing, loss)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let (Some(dy), true) = (input.cotangents[0], input.needed[0]) else {
            return Ok(Some(vec![None, None, None]));
        };
        let dloss = b.mul(dy, input.operands[2])?;
        let dx = b.op1(CrossEntropyBackward, &[input.operands[0], input.operands[1], dloss])?;
        Ok(Some(vec![Some(input.fold(b, 0, dx)?), None, None]))
    }

    fn cost(&self, types: &[TensorType], results: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 3 + results[0].numel() * 4)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    CrossEntropy,
                    [
                        (f32(&[2, 3, 7]), Fill::Normal),
                        (i32(&[2, 3]), Fill::Below(7)),
                        (f32(&[2, 3]), Fill::Positive),
                    ],
                    &[0],
                ),
                Sample::new(
                    CrossEntropy,
                    [
                        (f32(&[33]), Fill::Normal),
                        (i32(&[]), Fill::Below(33)),
                        (f32(&[]), Fill::Positive),
                    ],
                    &[0],
                ),
                Sample::new(
                    CrossEntropy,
                    [
                        (typed(DType::Bf16, &[4, 9]), Fill::Normal),
                        (i32(&[4]), Fill::Below(9)),
                        (f32(&[4]), Fill::Positive),
                    ],
                    &[0],
                ),
                Sample::new(
                    CrossEntropy,
                    [
                        (f32(&[2, 6, 7]), Fill::Normal),
                        (i32(&[2, 6]), Fill::Targets(7)),
                        (f32(&[2, 6]), Fill::Positive),
                    ],
                    &[0],
                ),
            ],
            bad: vec![
                BadSample::new(CrossEntropy, [f32(&[]), i32(&[]), f32(&[])], "cross_entropy::c1"),
                BadSample::new(
                    CrossEntropy,
                    [f32(&[2, 7]), i32(&[3]), f32(&[2])],
                    "cross_entropy::c2",
                ),
                BadSample::new(
                    CrossEntropy,
                    [typed(DType::Bf16, &[2, 7]), i32(&[2]), typed(DType::Bf16, &[2])],
                    "cross_entropy::c3",
                ),
            ],
        }
    }
}

impl OpDef for CrossEntropyBackward {
    const NAME: &'static str = "cross_entropy_backward";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(CrossEntropyBackward)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [logits, targets, dloss] = operands(Self::NAME, types)?;
        check_tokens(Self::NAME, logits, targets, dloss)?;
        Ok(vec![logits.clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let dtype = b.ty(v[0]).dtype;
        let x = b.widen(v[0])?;
        let ty = b.ty(x).clone();
        let p = softmax(b, x)?;
        let ids = b.iota(DType::I32, &ty.shape, ty.rank() - 1)?;
        let target = b.broadcast_last(v[1], x)?;
        let hit = b.compare(CompareKind::Eq, ids, target)?;
        let onehot = b.cast(hit, ty.dtype)?;
        let difference = b.sub(p, onehot)?;
        let dloss = b.broadcast_last(v[2], x)?;
        let dx = b.mul(difference, dloss)?;
        let ignored = is_ignored(b, target)?;
        let nothing = b.constant_like(dx, 0.0)?;
        let dx = b.select(ignored, nothing, dx)?;
        Ok(vec![b.cast(dx, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel() * 6)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    CrossEntropyBackward,
                    [
                        (f32(&[2, 3, 7]), Fill::Normal),
                        (i32(&[2, 3]), Fill::Below(7)),
                        (f32(&[2, 3]), Fill::Normal),
                    ],
                    &[0, 2],
                ),
                Sample::new(
                    CrossEntropyBackward,
                    [
                        (typed(DType::Bf16, &[4, 9]), Fill::Normal),
                        (i32(&[4]), Fill::Below(9)),
                        (f32(&[4]), Fill::Normal),
                    ],
                    &[0, 2],
                ),
                Sample::new(
                    CrossEntropyBackward,
                    [
                        (f32(&[2, 6, 7]), Fill::Normal),
                        (i32(&[2, 6]), Fill::Targets(7)),
                        (f32(&[2, 6]), Fill::Normal),
                    ],
                    &[0, 2],
                ),
            ],
            bad: vec![
                BadSample::new(
                    CrossEntropyBackward,
                    [i32(&[2, 7]), i32(&[2]), f32(&[2])],
                    "cross_entropy_backward::c1",
                ),
                BadSample::new(
                    CrossEntropyBackward,
                    [f32(&[2, 7]), i32(&[3]), f32(&[2])],
                    "cross_entropy_backward::c2",
                ),
                BadSample::new(
                    CrossEntropyBackward,
                    [f32(&[2, 7]), i32(&[2]), f32(&[3])],
                    "cross_entropy_backward::c3",
                ),
            ],
        }
    }
}
