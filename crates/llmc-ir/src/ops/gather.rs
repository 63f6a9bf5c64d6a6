//! `gather` and `scatter_add`: rows by index, and their sums back.

use super::check;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::cost::Cost;
use crate::module::Module;
use crate::op::{Class, OpDef};
use crate::sample::Samples;
use crate::types::{TensorType, TypeError, ensure, operands};

/// Takes the slices of one axis that the indices name.
///
/// x: any, ids: integers → x.shape[..axis] + ids.shape[batch_dims..] + x.shape[axis+1..]. The
/// first `batch_dims` dims of ids are those of x and go along with them. An index outside
/// 0..x.shape[axis] is an error of the evaluation.
///
/// Errors: `gather::c1` if there is no such axis or more batch dims than axes before it,
/// `gather::c2` if batch dims differ, `gather::c3` if the ids are no integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather {
    /// The indexed axis of x.
    pub axis: usize,
    /// How many leading dims x and ids share; at most `axis`.
    pub batch_dims: usize,
}

/// Adds updates into the slices of one axis that the indices name, in row-major order of the
/// indices.
///
/// dst: any, ids: integers, updates: what [`Gather`] gives for (dst, ids) → the type of dst.
///
/// Errors: `scatter_add::c1` to `c3` as for [`Gather`], `scatter_add::c4` if the updates have
/// another type, `scatter_add::c5` for `bool`.
#[derive(Clone, Debug, PartialEq)]
pub struct ScatterAdd {
    /// The indexed axis of dst.
    pub axis: usize,
    /// How many leading dims dst and ids share; at most `axis`.
    pub batch_dims: usize,
}

fn attrs(axis: usize, batch_dims: usize) -> Attrs {
    let mut attrs = vec![("axis", Attr::Int(axis as i64))];
    if batch_dims != 0 {
        attrs.push(("batch_dims", Attr::Int(batch_dims as i64)));
    }
    attrs
}

/// The type of the gathered slices.
fn gathered(
    op: &str,
    axis: usize,
    batch_dims: usize,
    x: &TensorType,
    ids: &TensorType,
) -> Result<TensorType, TypeError> {
    let valid = axis < x.rank() && batch_dims <= axis && batch_dims <= ids.rank();
    ensure(valid, &format!("{op}::c1"), || {
        format!("axis {axis} with {batch_dims} batch dims does not fit {x} and {ids}")
    })?;
    ensure(x.shape[..batch_dims] == ids.shape[..batch_dims], &format!("{op}::c2"), || {
        format!("the first {batch_dims} dims of {x} and {ids} differ")
    })?;
    ensure(ids.dtype.is_int(), &format!("{op}::c3"), || {
        format!("`ids` has type {ids}, expected integers")
    })?;
    let shape = [&x.shape[..axis], &ids.shape[batch_dims..], &x.shape[axis + 1..]].concat();
    Ok(TensorType { dtype: x.dtype, shape })
}

impl OpDef for Gather {
    const NAME: &'static str = "gather";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        attrs(self.axis, self.batch_dims)
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Gather { axis: attrs.req("axis")?, batch_dims: attrs.opt("batch_dims")?.unwrap_or(0) })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, ids] = operands(Self::NAME, types)?;
        Ok(vec![gathered(Self::NAME, self.axis, self.batch_dims, x, ids)?])
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples::default()
    }
}

impl OpDef for ScatterAdd {
    const NAME: &'static str = "scatter_add";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        attrs(self.axis, self.batch_dims)
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(ScatterAdd {
            axis: attrs.req("axis")?,
            batch_dims: attrs.opt("batch_dims")?.unwrap_or(0),
        })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [dst, ids, updates] = operands(Self::NAME, types)?;
        let want = gathered(Self::NAME, self.axis, self.batch_dims, dst, ids)?;
        check::ensure_same("scatter_add::c4", "updates", updates, &want)?;
        ensure(dst.dtype.is_float() || dst.dtype.is_int(), "scatter_add::c5", || {
            format!("cannot add {}", dst.dtype)
        })?;
        Ok(vec![dst.clone()])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[2].numel())
    }

    fn samples() -> Samples {
        Samples::default()
    }
}
