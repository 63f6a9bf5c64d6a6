//! `gather` and `scatter_add`: rows by index, and their sums back.

use super::check;
use super::check::result_shape;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{self, EvalError, Mode, Tensor};
use crate::module::Module;
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// Takes the slices of one axis that the indices name.
///
/// x: any, ids: integers → x.shape[..axis] + ids.shape[batch_dims..] + x.shape[axis+1..]. The
/// first `batch_dims` dims of ids are those of x and go along with them. An index outside
/// `0..x.shape[axis]` is an error of the evaluation.
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

    fn eval(&self, v: &[&Tensor], _: Mode) -> Result<Vec<Tensor>, EvalError> {
        let shape = result_shape(self, v)?;
        Ok(vec![eval::gather(self, v[0], v[1], shape)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let (Some(dy), true) = (input.cotangents[0], input.needed[0]) else {
            return Ok(Some(vec![None, None]));
        };
        // Straight into the accumulator, if it has the dtype of the updates.
        let ty = b.ty(input.operands[0]).clone();
        let into = input.accumulators[0].filter(|acc| b.ty(*acc) == &ty);
        let start = match into {
            Some(acc) => acc,
            None => b.constant(&ty, 0.0)?,
        };
        let dx = b.scatter_add(start, input.operands[1], dy, self.axis, self.batch_dims)?;
        let dx = if into.is_some() { dx } else { input.fold(b, 0, dx)? };
        Ok(Some(vec![Some(dx), None]))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Gather { axis: 0, batch_dims: 0 },
                    [(f32(&[5, 3]), Fill::Normal), (i32(&[2, 4]), Fill::Below(5))],
                    &[0],
                ),
                Sample::new(
                    Gather { axis: 1, batch_dims: 0 },
                    [(f32(&[2, 5, 3]), Fill::Normal), (i32(&[4]), Fill::Below(5))],
                    &[0],
                ),
                Sample::new(
                    Gather { axis: 1, batch_dims: 1 },
                    [(f32(&[3, 7]), Fill::Normal), (i32(&[3]), Fill::Below(7))],
                    &[0],
                ),
                Sample::new(
                    Gather { axis: 2, batch_dims: 1 },
                    [
                        (f32(&[2, 3, 5, 2]), Fill::Normal),
                        (typed(DType::I64, &[2, 4]), Fill::Below(5)),
                    ],
                    &[0],
                ),
                Sample::new(
                    Gather { axis: 0, batch_dims: 0 },
                    [(i32(&[5]), Fill::Normal), (typed(DType::U8, &[]), Fill::Below(5))],
                    &[],
                ),
            ],
            bad: vec![
                BadSample::new(
                    Gather { axis: 2, batch_dims: 0 },
                    [f32(&[5, 3]), i32(&[2])],
                    "gather::c1",
                ),
                BadSample::new(
                    Gather { axis: 0, batch_dims: 1 },
                    [f32(&[5, 3]), i32(&[5])],
                    "gather::c1",
                ),
                BadSample::new(
                    Gather { axis: 1, batch_dims: 1 },
                    [f32(&[5, 3]), i32(&[4])],
                    "gather::c2",
                ),
                BadSample::new(
                    Gather { axis: 0, batch_dims: 0 },
                    [f32(&[5, 3]), f32(&[2])],
                    "gather::c3",
                ),
            ],
        }
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

    fn eval(&self, v: &[&Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::scatter_add(self, v[0], v[1], v[2], mode)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None, None, None];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        if input.needed[0] {
            out[0] = Some(input.fold(b, 0, dy)?);
        }
        if input.needed[2] {
            let updates = b.gather(dy, input.operands[1], self.axis, self.batch_dims)?;
            out[2] = Some(input.fold(b, 2, updates)?);
        }
        Ok(Some(out))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(types[2].numel())
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    ScatterAdd { axis: 0, batch_dims: 0 },
                    [
                        (f32(&[5, 3]), Fill::Normal),
                        (i32(&[2, 4]), Fill::Below(5)),
                        (f32(&[2, 4, 3]), Fill::Normal),
                    ],
                    &[0, 2],
                ),
                Sample::new(
                    ScatterAdd { axis: 1, batch_dims: 1 },
                    [
                        (f32(&[3, 7]), Fill::Normal),
                        (i32(&[3]), Fill::Below(7)),
                        (f32(&[3]), Fill::Normal),
                    ],
                    &[0, 2],
                ),
                Sample::new(
                    ScatterAdd { axis: 2, batch_dims: 1 },
                    [
                        (f32(&[2, 3, 5, 2]), Fill::Normal),
                        (i32(&[2, 4]), Fill::Below(5)),
                        (f32(&[2, 3, 4, 2]), Fill::Normal),
                    ],
                    &[0, 2],
                ),
                Sample::new(
                    ScatterAdd { axis: 0, batch_dims: 0 },
                    [
                        (typed(DType::Bf16, &[5]), Fill::Normal),
                        (i32(&[9]), Fill::Below(5)),
                        (typed(DType::Bf16, &[9]), Fill::Normal),
                    ],
                    &[0, 2],
                ),
                Sample::new(
                    ScatterAdd { axis: 0, batch_dims: 0 },
                    [
                        (i32(&[5]), Fill::Normal),
                        (i32(&[9]), Fill::Below(5)),
                        (i32(&[9]), Fill::Normal),
                    ],
                    &[],
                ),
            ],
            bad: vec![
                BadSample::new(
                    ScatterAdd { axis: 2, batch_dims: 0 },
                    [f32(&[5, 3]), i32(&[2]), f32(&[2])],
                    "scatter_add::c1",
                ),
                BadSample::new(
                    ScatterAdd { axis: 1, batch_dims: 1 },
                    [f32(&[5, 3]), i32(&[4]), f32(&[4])],
                    "scatter_add::c2",
                ),
                BadSample::new(
                    ScatterAdd { axis: 0, batch_dims: 0 },
                    [f32(&[5, 3]), f32(&[2]), f32(&[2, 3])],
                    "scatter_add::c3",
                ),
                BadSample::new(
                    ScatterAdd { axis: 0, batch_dims: 0 },
                    [f32(&[5, 3]), i32(&[2]), f32(&[3, 2])],
                    "scatter_add::c4",
                ),
                BadSample::new(
                    ScatterAdd { axis: 0, batch_dims: 0 },
                    [typed(DType::Bool, &[5]), i32(&[2]), typed(DType::Bool, &[2])],
                    "scatter_add::c5",
                ),
            ],
        }
    }
}
