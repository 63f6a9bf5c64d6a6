//! `embedding` and `embedding_grad`: rows of a table by token id.

use super::check;
use super::linear::accumulated;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};
use llmc_base::Expr;

/// The rows of a table that the ids name.
///
/// w: [V, E], ids: integers [...] → [..., E]. An id outside 0..V is an error of the evaluation.
///
/// Errors: `embedding::c1` if w is not [V, E] of floats, `embedding::c2` if the ids are no integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding;

/// Gradient of [`Embedding`]: rows of dy added at their ids, in token order.
///
/// ids: integers [...], dy: [..., E], acc: [V, E] (optional) → [V, E], of the dtype of acc, or of dy.
///
/// Errors: `embedding_grad::c1` if dy is not [..., E] of floats, `embedding_grad::c2` if the ids
/// are no integers, `embedding_grad::c3` if acc is not [V, E] of the dtype of dy or the one it
/// computes in.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingGrad {
    /// V, the rows of the table.
    pub rows: Expr,
}

impl OpDef for Embedding {
    const NAME: &'static str = "embedding";
    const CLASS: Class = Class::Composite;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Embedding)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [w, ids] = operands(Self::NAME, types)?;
        ensure(w.rank() == 2 && w.dtype.is_float(), "embedding::c1", || {
            format!("operand `w` has type {w}, expected floats [V, E]")
        })?;
        ensure(ids.dtype.is_int(), "embedding::c2", || {
            format!("`ids` has type {ids}, expected integers")
        })?;
        let shape = [&ids.shape[..], &w.shape[1..]].concat();
        Ok(vec![TensorType { dtype: w.dtype, shape }])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        Ok(vec![b.gather(v[0], v[1], 0, 0)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let (Some(dy), true) = (input.cotangents[0], input.needed[0]) else {
            return Ok(Some(vec![None, None]));
        };
        let op = EmbeddingGrad { rows: b.ty(input.operands[0]).shape[0].clone() };
        let dw = b.token_sum(op, &[input.operands[1], dy], input.accumulators[0])?;
        Ok(Some(vec![Some(dw), None]))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Embedding,
                    [(f32(&[7, 5]), Fill::Normal), (i32(&[2, 9]), Fill::Below(7))],
                    &[0],
                ),
                Sample::new(
                    Embedding,
                    [
                        (typed(DType::Bf16, &[7, 3]), Fill::Normal),
                        (typed(DType::I64, &[4]), Fill::Below(7)),
                    ],
                    &[0],
                ),
                Sample::new(
                    Embedding,
                    [(f32(&[7, 5]), Fill::Normal), (i32(&[]), Fill::Below(7))],
                    &[0],
                ),
            ],
            bad: vec![
                BadSample::new(Embedding, [f32(&[7]), i32(&[2])], "embedding::c1"),
                BadSample::new(Embedding, [i32(&[7, 2]), i32(&[2])], "embedding::c1"),
                BadSample::new(Embedding, [f32(&[7, 2]), f32(&[2])], "embedding::c2"),
            ],
        }
    }
}

impl OpDef for EmbeddingGrad {
    const NAME: &'static str = "embedding_grad";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("rows", Attr::Dims(vec![self.rows.clone()]))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(EmbeddingGrad { rows: check::one_dim(attrs, "rows")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let types = check::between(Self::NAME, types, 2, 3)?;
        let (ids, dy) = (&types[0], &types[1]);
        let valid = dy.rank() == ids.rank() + 1
            && dy.shape[..ids.rank()] == ids.shape
            && dy.dtype.is_float();
        ensure(valid, "embedding_grad::c1", || {
            format!("dy has type {dy}, expected floats [..., E] over the dims of ids: {ids}")
        })?;
        ensure(ids.dtype.is_int(), "embedding_grad::c2", || {
            format!("`ids` has type {ids}, expected integers")
        })?;
        let shape = vec![self.rows.clone(), dy.shape[ids.rank()].clone()];
        let plain = TensorType { dtype: dy.dtype, shape };
        Ok(vec![accumulated("embedding_grad::c3", plain, types.get(2))?])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let updates = b.widen(v[1])?;
        let width = b.ty(v[1]).shape.last().cloned().unwrap_or_default();
        let result = b.ty(*v.get(2).unwrap_or(&v[1])).dtype;
        let table = TensorType::new(b.ty(updates).dtype, [self.rows.clone(), width]);
        let start = match v.get(2) {
            Some(acc) => b.widen(*acc)?,
            None => b.constant(&table, 0.0)?,
        };
        let sum = b.scatter_add(start, v[0], updates, 0, 0)?;
        Ok(vec![b.cast(sum, result)?])
    }

    fn map_dims(&self, f: &dyn Fn(&Expr) -> Expr) -> Self {
        EmbeddingGrad { rows: f(&self.rows) }
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[1].numel())
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    EmbeddingGrad { rows: 7.into() },
                    [(i32(&[2, 9]), Fill::Below(7)), (f32(&[2, 9, 5]), Fill::Normal)],
                    &[1],
                ),
                Sample::new(
                    EmbeddingGrad { rows: 7.into() },
                    [
                        (i32(&[9]), Fill::Below(7)),
                        (f32(&[9, 5]), Fill::Normal),
                        (f32(&[7, 5]), Fill::Normal),
                    ],
                    &[1, 2],
                ),
                Sample::new(
                    EmbeddingGrad { rows: 7.into() },
                    [
                        (i32(&[9]), Fill::Below(7)),
                        (typed(DType::Bf16, &[9, 5]), Fill::Normal),
                        (f32(&[7, 5]), Fill::Normal),
                    ],
                    &[1, 2],
                ),
                Sample::new(
                    EmbeddingGrad { rows: 7.into() },
                    [(i32(&[9]), Fill::Below(7)), (typed(DType::Bf16, &[9, 5]), Fill::Normal)],
                    &[1],
                ),
            ],
            bad: vec![
                BadSample::new(
                    EmbeddingGrad { rows: 7.into() },
                    [i32(&[2]), f32(&[3, 5])],
                    "embedding_grad::c1",
                ),
                BadSample::new(
                    EmbeddingGrad { rows: 7.into() },
                    [f32(&[2]), f32(&[2, 5])],
                    "embedding_grad::c2",
                ),
                BadSample::new(
                    EmbeddingGrad { rows: 7.into() },
                    [i32(&[2]), f32(&[2, 5]), f32(&[6, 5])],
                    "embedding_grad::c3",
                ),
            ],
        }
    }
}
