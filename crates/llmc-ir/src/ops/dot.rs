//! `dot`: the general product over contracted and batch axes.

use super::check;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::cost::Cost;
use crate::module::Module;
use crate::op::{Class, OpDef};
use crate::sample::Samples;
use crate::types::{DType, TensorType, TypeError, ensure};
use llmc_base::Expr;

/// Sum of products over contracted axes, one FMA chain in row-major order of the pairs as
/// they are listed.
///
/// a, b: one dtype; init (optional): the result type → dtype `acc`, dims
/// [batch…, free axes of a…, free axes of b…]. The chain starts from init, or +0.
///
/// Errors: `dot::c1` if axes are not distinct axes of their operand or the lists do not pair up,
/// `dot::c2` if paired dims differ, `dot::c3` if the dtypes differ or `acc` does not fit,
/// `dot::c4` if init has another type.
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
        attrs
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Dot {
            lhs_batch: check::axes_or_none(attrs, "lhs_batch")?,
            rhs_batch: check::axes_or_none(attrs, "rhs_batch")?,
            lhs_contract: check::axes(attrs, "lhs_contract")?,
            rhs_contract: check::axes(attrs, "rhs_contract")?,
            acc: attrs.req("acc")?,
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
        let axes_a = self.lhs_batch.iter().copied().chain(self.lhs_free(a.rank()));
        let mut shape: Vec<Expr> = axes_a.map(|axis| a.shape[axis].clone()).collect();
        shape.extend(self.rhs_free(b.rank()).into_iter().map(|axis| b.shape[axis].clone()));
        let result = TensorType { dtype: self.acc, shape };
        if let Some(init) = types.get(2) {
            check::ensure_same("dot::c4", "init", init, &result)?;
        }
        Ok(vec![result])
    }

    fn cost(&self, types: &[TensorType], results: &[TensorType]) -> Cost {
        let depth = Expr::product(self.lhs_contract.iter().map(|axis| &types[0].shape[*axis]));
        Cost::flops(results[0].numel() * depth * 2)
    }

    fn samples() -> Samples {
        Samples::default()
    }
}
