//! `dot`: the general product over contracted and batch axes.

use super::check;
use super::check::result_shape;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{self, EvalError, Mode, Tensor};
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::ops::{Precision, compute_dtype};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, typed};
use crate::types::{DType, TensorType, TypeError, ensure};
use llmc_base::Expr;

/// Sum of products over contracted axes, one FMA chain in row-major order of the pairs as
/// they are listed; with `precision = bf16` or `f16` of rounded operands, for bf16 in pairs along the
/// last of them (`docs/numerics.md`).
///
/// a, b: one dtype; init (optional): the result type → dtype `acc`, dims
/// [batch…, free axes of a…, free axes of b…]. The chain starts from init, or +0.
///
/// Errors: `dot::c1` if axes are not distinct axes of their operand or the lists do not pair up,
/// `dot::c2` if paired dims differ, `dot::c3` if the dtypes differ or `acc` does not fit,
/// `dot::c4` if init has another type, `dot::c5` if operands or `acc` do not fit the precision.
/// Source: `dot_general` of StableHLO.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    /// Batch axes of a, paired with `rhs_batch`.
    pub lhs_batch: Vec<usize>,
    /// Batch axes of b.
    pub rhs_batch: Vec<usize>,
    /// Contracted axes of a, paired with `rhs_contract`.
    pub lhs_contract: Vec<usize>,
    /// Contracted axes of b.
    pub rhs_contract: Vec<usize>,
    /// Dtype of the accumulator and of the result.
    pub acc: DType,
    /// What the products are taken of; other than f32 only where `acc` is f32.
    pub precision: Precision,
}

impl Dot {
    /// The axes of a that are neither batch nor contracted, in order.
    pub fn lhs_free(&self, rank: usize) -> Vec<usize> {
        free(rank, &self.lhs_batch, &self.lhs_contract)
    }

    /// The axes of b that are neither batch nor contracted, in order.
    pub fn rhs_free(&self, rank: usize) -> Vec<usize> {
        free(rank, &self.rhs_batch, &self.rhs_contract)
    }
}

fn free(rank: usize, batch: &[usize], contract: &[usize]) -> Vec<usize> {
    (0..rank).filter(|a| !batch.contains(a) && !contract.contains(a)).collect()
}

impl Dot {
    /// The cotangent of a (0) or b (1): the product of dy with the other over its free axes.
    fn operand_gradient(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
        i: usize,
        dy: ValueId,
    ) -> Result<ValueId, TypeError> {
        let (own, other) = (input.operands[i], input.operands[1 - i]);
        let (own_rank, other_rank) = (b.ty(own).rank(), b.ty(other).rank());
        let (lhs, rhs) = match i {
            0 => (own_rank, other_rank),
            _ => (other_rank, own_rank),
        };
        let batch = self.lhs_batch.len();
        let split = batch + self.lhs_free(lhs).len();
        let end = split + self.rhs_free(rhs).len();
        // Axes of dy that the other operand made, and its own lists.
        let (made, other_batch, other_free, other_contract) = match i {
            0 => (split..end, &self.rhs_batch, self.rhs_free(rhs), &self.rhs_contract),
            _ => (batch..split, &self.lhs_batch, self.lhs_free(lhs), &self.lhs_contract),
        };
        let (own_batch, own_free, own_contract) = match i {
            0 => (&self.lhs_batch, self.lhs_free(lhs), &self.lhs_contract),
            _ => (&self.rhs_batch, self.rhs_free(rhs), &self.rhs_contract),
        };
        let dtype = b.ty(own).dtype;
        let op = Dot {
            lhs_batch: (0..batch).collect(),
            rhs_batch: other_batch.clone(),
            lhs_contract: made.collect(),
            rhs_contract: other_free,
            acc: compute_dtype(dtype),
            precision: self.precision,
        };
        // Axis p of the product is axis order[p] of the operand.
        let mut order = [&own_batch[..], &own_free].concat();
        let mut contracted: Vec<(usize, usize)> =
            other_contract.iter().copied().zip(own_contract.iter().copied()).collect();
        contracted.sort_unstable();
        order.extend(contracted.into_iter().map(|(_, own)| own));
        let mut back = vec![0; own_rank];
        order.iter().enumerate().for_each(|(p, axis)| back[*axis] = p);

        let dy = b.cast(dy, dtype)?;
        let into = input.accumulators[i].filter(|acc| b.ty(*acc).dtype == op.acc);
        let init = into.map(|acc| b.transpose(acc, &order)).transpose()?;
        let grad = b.token_sum(op, &[dy, other], init)?;
        let grad = b.transpose(grad, &back)?;
        if into.is_some() {
            return Ok(grad);
        }
        let grad = b.cast(grad, dtype)?;
        input.fold(b, i, grad)
    }
}

impl OpDef for Dot {
    const NAME: &'static str = "dot";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        let mut attrs = Vec::new();
        if !(self.lhs_batch.is_empty() && self.rhs_batch.is_empty()) {
            attrs.push(("lhs_batch", check::axes_attr(&self.lhs_batch)));
            attrs.push(("rhs_batch", check::axes_attr(&self.rhs_batch)));
        }
        attrs.push(("lhs_contract", check::axes_attr(&self.lhs_contract)));
        attrs.push(("rhs_contract", check::axes_attr(&self.rhs_contract)));
        attrs.push(("acc", Attr::DType(self.acc)));
        attrs.extend(self.precision.attrs());
        attrs
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Dot {
            lhs_batch: check::axes_or_none(attrs, "lhs_batch")?,
            rhs_batch: check::axes_or_none(attrs, "rhs_batch")?,
            lhs_contract: check::axes(attrs, "lhs_contract")?,
            rhs_contract: check::axes(attrs, "rhs_contract")?,
            acc: attrs.req("acc")?,
            precision: Precision::from_attrs(attrs)?,
        })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let types = check::between(Self::NAME, types, 2, 3)?;
        let (a, b) = (&types[0], &types[1]);
        let lhs = [&self.lhs_batch[..], &self.lhs_contract[..]].concat();
        let rhs = [&self.rhs_batch[..], &self.rhs_contract[..]].concat();
        let pairs = self.lhs_batch.len() == self.rhs_batch.len() && lhs.len() == rhs.len();
        let valid = pairs && check::distinct(&lhs, a.rank()) && check::distinct(&rhs, b.rank());
        ensure(valid, "dot::c1", || {
            format!("axes {lhs:?} of {a} and {rhs:?} of {b} are not distinct pairs of axes")
        })?;
        for (l, r) in lhs.iter().zip(&rhs) {
            ensure(a.shape[*l] == b.shape[*r], "dot::c2", || {
                format!("axis {l} of {a} and axis {r} of {b} differ")
            })?;
        }
        ensure(a.dtype == b.dtype, "dot::c3", || format!("dtypes of {a} and {b} differ"))?;
        check::ensure_accumulates("dot::c3", self.acc, a.dtype)?;
        self.precision.ensure_fits("dot::c5", a)?;
        ensure(self.precision == Precision::F32 || self.acc == DType::F32, "dot::c5", || {
            format!(
                "`precision = {}` accumulates in f32, not in {}",
                self.precision.dtype(),
                self.acc
            )
        })?;
        let axes_a = self.lhs_batch.iter().copied().chain(self.lhs_free(a.rank()));
        let mut shape: Vec<Expr> = axes_a.map(|axis| a.shape[axis].clone()).collect();
        shape.extend(self.rhs_free(b.rank()).into_iter().map(|axis| b.shape[axis].clone()));
        let result = TensorType { dtype: self.acc, shape };
        if let Some(init) = types.get(2) {
            check::ensure_same("dot::c4", "init", init, &result)?;
        }
        Ok(vec![result])
    }

    fn eval(&self, v: &[&Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
        let shape = result_shape(self, v)?;
        Ok(vec![eval::dot(self, v[0], v[1], v.get(2).copied(), shape, mode)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None; input.operands.len()];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        if !self.acc.is_float() {
            return Ok(Some(out));
        }
        for (i, slot) in out.iter_mut().enumerate().take(2) {
            if input.needed[i] {
                *slot = Some(self.operand_gradient(b, input, i, dy)?);
            }
        }
        if input.needed.get(2) == Some(&true) {
            out[2] = Some(input.fold(b, 2, dy)?);
        }
        Ok(Some(out))
    }

    fn cost(&self, types: &[TensorType], results: &[TensorType]) -> Cost {
        let depth = Expr::product(self.lhs_contract.iter().map(|axis| &types[0].shape[*axis]));
        Cost::flops(results[0].numel() * depth * 2)
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![1],
                        rhs_contract: vec![1],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [(f32(&[5, 7]), Fill::Normal), (f32(&[3, 7]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![1],
                        rhs_contract: vec![0],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [(f32(&[5, 33]), Fill::Normal), (f32(&[33, 17]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![0, 1],
                        rhs_contract: vec![0, 1],
                        acc: DType::F32,
                        precision: Precision::Bf16,
                    },
                    [
                        (f32(&[2, 5, 3]), Fill::Normal),
                        (f32(&[2, 5, 4]), Fill::Normal),
                        (f32(&[3, 4]), Fill::Normal),
                    ],
                    &[],
                ),
                Sample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![0, 1],
                        rhs_contract: vec![0, 1],
                        acc: DType::F32,
                        precision: Precision::F16,
                    },
                    [
                        (f32(&[2, 5, 3]), Fill::Normal),
                        (f32(&[2, 5, 4]), Fill::Normal),
                        (f32(&[3, 4]), Fill::Normal),
                    ],
                    &[],
                ),
                Sample::new(
                    Dot {
                        lhs_batch: vec![0],
                        rhs_batch: vec![1],
                        lhs_contract: vec![2],
                        rhs_contract: vec![0],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [
                        (f32(&[2, 3, 5]), Fill::Normal),
                        (f32(&[5, 2, 4]), Fill::Normal),
                        (f32(&[2, 3, 4]), Fill::Normal),
                    ],
                    &[0, 1, 2],
                ),
                Sample::new(
                    Dot {
                        lhs_batch: vec![0, 2],
                        rhs_batch: vec![0, 2],
                        lhs_contract: vec![3, 1],
                        rhs_contract: vec![1, 3],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [(f32(&[2, 3, 4, 5]), Fill::Normal), (f32(&[2, 5, 4, 3]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![],
                        rhs_contract: vec![],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [(f32(&[3]), Fill::Normal), (f32(&[4]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![0],
                        rhs_contract: vec![0],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [(f32(&[0, 3]), Fill::Normal), (f32(&[0, 2]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![1],
                        rhs_contract: vec![1],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [
                        (typed(DType::Bf16, &[3, 9]), Fill::Normal),
                        (typed(DType::Bf16, &[2, 9]), Fill::Normal),
                    ],
                    &[0, 1],
                ),
                Sample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![1],
                        rhs_contract: vec![1],
                        acc: DType::F64,
                        precision: Precision::F32,
                    },
                    [
                        (typed(DType::F64, &[3, 9]), Fill::Normal),
                        (typed(DType::F64, &[2, 9]), Fill::Normal),
                    ],
                    &[0, 1],
                ),
                Sample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![1],
                        rhs_contract: vec![1],
                        acc: DType::I32,
                        precision: Precision::F32,
                    },
                    [
                        (typed(DType::I8, &[3, 9]), Fill::Normal),
                        (typed(DType::I8, &[2, 9]), Fill::Normal),
                    ],
                    &[],
                ),
            ],
            bad: vec![
                BadSample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![1],
                        rhs_contract: vec![1],
                        acc: DType::F32,
                        precision: Precision::Bf16,
                    },
                    [typed(DType::Bf16, &[5, 7]), typed(DType::Bf16, &[3, 7])],
                    "dot::c5",
                ),
                BadSample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![1],
                        rhs_contract: vec![1],
                        acc: DType::F64,
                        precision: Precision::Bf16,
                    },
                    [f32(&[5, 7]), f32(&[3, 7])],
                    "dot::c5",
                ),
                BadSample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![2],
                        rhs_contract: vec![1],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [f32(&[5, 7]), f32(&[3, 7])],
                    "dot::c1",
                ),
                BadSample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![1, 1],
                        rhs_contract: vec![0, 1],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [f32(&[5, 7]), f32(&[3, 7])],
                    "dot::c1",
                ),
                BadSample::new(
                    Dot {
                        lhs_batch: vec![0],
                        rhs_batch: vec![],
                        lhs_contract: vec![1],
                        rhs_contract: vec![1],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [f32(&[5, 7]), f32(&[3, 7])],
                    "dot::c1",
                ),
                BadSample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![1],
                        rhs_contract: vec![1],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [f32(&[5, 7]), f32(&[3, 8])],
                    "dot::c2",
                ),
                BadSample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![1],
                        rhs_contract: vec![1],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [f32(&[5, 7]), typed(DType::F64, &[3, 7])],
                    "dot::c3",
                ),
                BadSample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![1],
                        rhs_contract: vec![1],
                        acc: DType::F16,
                        precision: Precision::F32,
                    },
                    [typed(DType::F16, &[5, 7]), typed(DType::F16, &[3, 7])],
                    "dot::c3",
                ),
                BadSample::new(
                    Dot {
                        lhs_batch: vec![],
                        rhs_batch: vec![],
                        lhs_contract: vec![1],
                        rhs_contract: vec![1],
                        acc: DType::F32,
                        precision: Precision::F32,
                    },
                    [f32(&[5, 7]), f32(&[3, 7]), f32(&[5, 4])],
                    "dot::c4",
                ),
            ],
        }
    }
}
