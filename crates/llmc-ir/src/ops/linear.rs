//! `linear`, `linear_weight_grad`, `bias_grad`: the affine map and its parameter gradients.
//!
//! y = x · wᵀ + b, with w stored [out, in].

use super::check;
use crate::attr::{AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::ops::{Order, Precision, Reduce, ReduceKind};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure};

/// The affine map of the last axis: `dot` over it, then the bias.
///
/// x: [..., I], w: [O, I], b: `[O]` (optional) → [..., O]. Accumulated in f32 (f64 for f64).
///
/// Errors: `linear::c1` if w is not [O, I], `linear::c2` if b is not `[O]`, `linear::c3` if the
/// dtypes are not one float type, `linear::c4` if they do not fit the precision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Linear {
    /// What the products are taken of, here and in the gradients; other than f32 only for f32 operands.
    pub precision: Precision,
}

/// Gradient of [`Linear`] for its weight: the sum over tokens of dy ⊗ x, in token order.
///
/// dy: [..., O], x: [..., I], acc: [O, I] (optional) → [O, I], of the dtype of acc, or of dy.
///
/// Errors: `linear_weight_grad::c1` if dy and x differ before their last dims or in dtype,
/// `linear_weight_grad::c2` if acc is not [O, I] of the dtype of dy or the one it computes in,
/// `linear_weight_grad::c3` if the dtypes do not fit the precision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinearWeightGrad {
    /// What the products are taken of; other than f32 only for f32 operands.
    pub precision: Precision,
}

/// Sum over all axes but the last, in token order: the gradient of a bias or a norm weight.
///
/// dy: [..., O], acc: `[O]` (optional) → `[O]`, of the dtype of acc, or of dy.
///
/// Errors: `bias_grad::c1` if dy has no axis or no floats, `bias_grad::c2` if acc is not `[O]` of
/// the dtype of dy or the one it computes in.
#[derive(Clone, Debug, PartialEq)]
pub struct BiasGrad;

/// The type of an accumulated gradient: that of the accumulator, which must have the dtype of
/// the values or the one they are computed in.
pub(crate) fn accumulated(
    code: &str,
    plain: TensorType,
    acc: Option<&TensorType>,
) -> Result<TensorType, TypeError> {
    let Some(acc) = acc else { return Ok(plain) };
    let dtypes = [plain.dtype, check::compute_dtype(plain.dtype)];
    ensure(acc.shape == plain.shape && dtypes.contains(&acc.dtype), code, || {
        format!("`acc` has type {acc}, expected {plain}")
    })?;
    Ok(acc.clone())
}

/// 0, 1, …, n − 1.
fn axes(n: usize) -> Vec<usize> {
    (0..n).collect()
}

impl OpDef for Linear {
    const NAME: &'static str = "linear";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        self.precision.attrs()
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Linear { precision: Precision::from_attrs(attrs)? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let types = check::between(Self::NAME, types, 2, 3)?;
        let (x, w) = (&types[0], &types[1]);
        ensure(w.rank() == 2 && x.shape.last() == w.shape.last(), "linear::c1", || {
            format!("operand `w` has type {w}, expected [O, I] with I the last dim of x: {x}")
        })?;
        ensure(x.dtype.is_float() && x.dtype == w.dtype, "linear::c3", || {
            format!("dtypes of x {x} and w {w} must be one float type")
        })?;
        self.precision.ensure_fits("linear::c4", x)?;
        let mut result = x.clone();
        result.shape[x.rank() - 1] = w.shape[0].clone();
        if let Some(b) = types.get(2) {
            ensure(b.shape == w.shape[..1], "linear::c2", || {
                format!("operand `b` has type {b}, w has {w}")
            })?;
            ensure(b.dtype == x.dtype, "linear::c3", || {
                format!("dtypes of x {x} and b {b} differ")
            })?;
        }
        Ok(vec![result])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let last = b.ty(v[0]).rank() - 1;
        let dtype = b.ty(v[0]).dtype;
        let mut y = b.dot_with(v[0], v[1], (&[last], &[1]), None, self.precision)?;
        if let Some(bias) = v.get(2) {
            let bias = b.widen(*bias)?;
            let bias = b.broadcast_like(bias, y)?;
            y = b.add(y, bias)?;
        }
        Ok(vec![b.cast(y, dtype)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None; input.operands.len()];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        let (x, w) = (input.operands[0], input.operands[1]);
        if input.needed[0] {
            // dx = dy · w: a linear map by the transposed weight.
            let last = b.ty(x).rank() - 1;
            let dtype = b.ty(x).dtype;
            let dx = b.dot_with(dy, w, (&[last], &[0]), None, self.precision)?;
            let dx = b.cast(dx, dtype)?;
            out[0] = Some(input.fold(b, 0, dx)?);
        }
        if input.needed[1] {
            out[1] = {
                let op = LinearWeightGrad { precision: self.precision };
                Some(b.token_sum(op, &[dy, x], input.accumulators[1])?)
            };
        }
        if input.needed.get(2) == Some(&true) {
            out[2] = Some(b.token_sum(BiasGrad, &[dy], input.accumulators[2])?);
        }
        Ok(Some(out))
    }

    fn cost(&self, types: &[TensorType], results: &[TensorType]) -> Cost {
        let products = results[0].numel() * types[1].shape[1].clone() * 2;
        match types.len() {
            3 => Cost::flops(products + results[0].numel()),
            _ => Cost::flops(products),
        }
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Linear::default(),
                    [(f32(&[2, 3, 5]), Fill::Normal), (f32(&[7, 5]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    Linear::default(),
                    [
                        (f32(&[3, 33]), Fill::Normal),
                        (f32(&[17, 33]), Fill::Normal),
                        (f32(&[17]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(
                    Linear::default(),
                    [
                        (f32(&[5]), Fill::Normal),
                        (f32(&[2, 5]), Fill::Normal),
                        (f32(&[2]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(
                    Linear::default(),
                    [
                        (typed(DType::Bf16, &[3, 9]), Fill::Normal),
                        (typed(DType::Bf16, &[4, 9]), Fill::Normal),
                        (typed(DType::Bf16, &[4]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(
                    Linear { precision: Precision::Bf16 },
                    [
                        (f32(&[3, 33]), Fill::Normal),
                        (f32(&[17, 33]), Fill::Normal),
                        (f32(&[17]), Fill::Normal),
                    ],
                    &[],
                ),
                Sample::new(
                    Linear { precision: Precision::F16 },
                    [
                        (f32(&[3, 33]), Fill::Normal),
                        (f32(&[17, 33]), Fill::Normal),
                        (f32(&[17]), Fill::Normal),
                    ],
                    &[],
                ),
                Sample::new(
                    Linear::default(),
                    [
                        (typed(DType::F64, &[3, 9]), Fill::Normal),
                        (typed(DType::F64, &[4, 9]), Fill::Normal),
                    ],
                    &[0, 1],
                ),
            ],
            bad: vec![
                BadSample::new(
                    Linear { precision: Precision::Bf16 },
                    [typed(DType::F64, &[2, 5]), typed(DType::F64, &[7, 5])],
                    "linear::c4",
                ),
                BadSample::new(Linear::default(), [f32(&[2, 5]), f32(&[7, 4])], "linear::c1"),
                BadSample::new(Linear::default(), [f32(&[2, 5]), f32(&[5])], "linear::c1"),
                BadSample::new(
                    Linear::default(),
                    [f32(&[2, 5]), f32(&[7, 5]), f32(&[5])],
                    "linear::c2",
                ),
                BadSample::new(
                    Linear::default(),
                    [f32(&[2, 5]), typed(DType::F16, &[7, 5])],
                    "linear::c3",
                ),
                BadSample::new(Linear::default(), [i32(&[2, 5]), i32(&[7, 5])], "linear::c3"),
                BadSample::new(Linear::default(), [f32(&[5])], "linear::arity"),
            ],
        }
    }
}

impl OpDef for LinearWeightGrad {
    const NAME: &'static str = "linear_weight_grad";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        self.precision.attrs()
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(LinearWeightGrad { precision: Precision::from_attrs(attrs)? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let types = check::between(Self::NAME, types, 2, 3)?;
        let (dy, x) = (&types[0], &types[1]);
        let valid = dy.rank() >= 1
            && dy.rank() == x.rank()
            && dy.shape[..dy.rank() - 1] == x.shape[..x.rank() - 1]
            && dy.dtype == x.dtype
            && dy.dtype.is_float();
        ensure(valid, "linear_weight_grad::c1", || {
            format!("dy {dy} and x {x} must agree in floats and in all dims but the last")
        })?;
        self.precision.ensure_fits("linear_weight_grad::c3", dy)?;
        let last = dy.rank() - 1;
        let shape = vec![dy.shape[last].clone(), x.shape[last].clone()];
        let plain = TensorType { dtype: dy.dtype, shape };
        Ok(vec![accumulated("linear_weight_grad::c2", plain, types.get(2))?])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let tokens = axes(b.ty(v[0]).rank() - 1);
        let dtype = b.ty(*v.get(2).unwrap_or(&v[0])).dtype;
        let init = v.get(2).map(|acc| b.widen(*acc)).transpose()?;
        let grad = b.dot_with(v[0], v[1], (&tokens, &tokens), init, self.precision)?;
        Ok(vec![b.cast(grad, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        let outputs = types[0].shape[types[0].rank() - 1].clone();
        Cost::flops(types[1].numel() * outputs * 2)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    LinearWeightGrad::default(),
                    [(f32(&[2, 3, 7]), Fill::Normal), (f32(&[2, 3, 5]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    LinearWeightGrad::default(),
                    [
                        (f32(&[9, 17]), Fill::Normal),
                        (f32(&[9, 33]), Fill::Normal),
                        (f32(&[17, 33]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(
                    LinearWeightGrad { precision: Precision::Bf16 },
                    [
                        (f32(&[3, 5, 17]), Fill::Normal),
                        (f32(&[3, 5, 9]), Fill::Normal),
                        (f32(&[17, 9]), Fill::Normal),
                    ],
                    &[],
                ),
                Sample::new(
                    LinearWeightGrad { precision: Precision::F16 },
                    [
                        (f32(&[3, 5, 17]), Fill::Normal),
                        (f32(&[3, 5, 9]), Fill::Normal),
                        (f32(&[17, 9]), Fill::Normal),
                    ],
                    &[],
                ),
                Sample::new(
                    LinearWeightGrad { precision: Precision::Bf16 },
                    [(f32(&[2, 6, 7]), Fill::Normal), (f32(&[2, 6, 5]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    LinearWeightGrad::default(),
                    [(f32(&[3]), Fill::Normal), (f32(&[5]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    LinearWeightGrad::default(),
                    [
                        (typed(DType::Bf16, &[9, 3]), Fill::Normal),
                        (typed(DType::Bf16, &[9, 4]), Fill::Normal),
                        (f32(&[3, 4]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(
                    LinearWeightGrad::default(),
                    [
                        (typed(DType::Bf16, &[9, 3]), Fill::Normal),
                        (typed(DType::Bf16, &[9, 4]), Fill::Normal),
                        (typed(DType::Bf16, &[3, 4]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
            ],
            bad: vec![
                BadSample::new(
                    LinearWeightGrad { precision: Precision::Bf16 },
                    [typed(DType::Bf16, &[2, 3]), typed(DType::Bf16, &[2, 5])],
                    "linear_weight_grad::c3",
                ),
                BadSample::new(
                    LinearWeightGrad::default(),
                    [f32(&[2, 3]), f32(&[3, 3])],
                    "linear_weight_grad::c1",
                ),
                BadSample::new(
                    LinearWeightGrad::default(),
                    [f32(&[]), f32(&[])],
                    "linear_weight_grad::c1",
                ),
                BadSample::new(
                    LinearWeightGrad::default(),
                    [f32(&[2, 3]), f32(&[2, 5]), f32(&[5, 3])],
                    "linear_weight_grad::c2",
                ),
                BadSample::new(
                    LinearWeightGrad::default(),
                    [f32(&[2, 3]), f32(&[2, 5]), typed(DType::F64, &[3, 5])],
                    "linear_weight_grad::c2",
                ),
            ],
        }
    }
}

impl OpDef for BiasGrad {
    const NAME: &'static str = "bias_grad";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(BiasGrad)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let types = check::between(Self::NAME, types, 1, 2)?;
        let dy = &types[0];
        ensure(dy.rank() >= 1 && dy.dtype.is_float(), "bias_grad::c1", || {
            format!("dy has type {dy}, expected floats [..., O]")
        })?;
        let plain = TensorType { dtype: dy.dtype, shape: dy.shape[dy.rank() - 1..].to_vec() };
        Ok(vec![accumulated("bias_grad::c2", plain, types.get(1))?])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let ty = b.ty(v[0]).clone();
        let dtype = v.get(1).map_or(ty.dtype, |acc| b.ty(*acc).dtype);
        let init = v.get(1).map(|acc| b.widen(*acc)).transpose()?;
        let op = Reduce {
            kind: ReduceKind::Sum,
            axes: axes(ty.rank() - 1),
            order: Order::Chain,
            acc: check::compute_dtype(ty.dtype),
        };
        let sum = b.token_sum(op, &[v[0]], init)?;
        Ok(vec![b.cast(sum, dtype)?])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[0].numel())
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(BiasGrad, [(f32(&[2, 3, 7]), Fill::Normal)], &[0]),
                Sample::new(
                    BiasGrad,
                    [(f32(&[19, 5]), Fill::Normal), (f32(&[5]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(BiasGrad, [(f32(&[5]), Fill::Normal)], &[0]),
                Sample::new(
                    BiasGrad,
                    [(typed(DType::F16, &[19, 5]), Fill::Normal), (f32(&[5]), Fill::Normal)],
                    &[0, 1],
                ),
            ],
            bad: vec![
                BadSample::new(BiasGrad, [f32(&[])], "bias_grad::c1"),
                BadSample::new(BiasGrad, [i32(&[3])], "bias_grad::c1"),
                BadSample::new(BiasGrad, [f32(&[2, 3]), f32(&[2])], "bias_grad::c2"),
            ],
        }
    }
}
