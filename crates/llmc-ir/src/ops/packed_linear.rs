//! `packed_linear` and `packed_embedding`: weights in panels of 16 rows, narrow or not, in the order in
//! which decoding reads them.

use super::check;
use super::embedding::Embedding;
use super::linear::Linear;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, OpDef};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};
use llmc_base::Expr;

/// Rows of a panel.
pub(super) const PANEL: usize = 16;

/// [`Linear`] by a weight in panels, whose elements are widened to f32 exactly.
///
/// x: f32 [..., I], w: floats of at most 32 bits [O/16 rounded up, I, 16], b: f32 `[O]` (optional) → f32
/// [..., O]. Element (g, i, r) of w is row 16g + r, column i of the matrix [O, I]; rows from O on are
/// not used. The bits are those of `linear(x, cast(matrix, f32), b)`.
///
/// Errors: `packed_linear::c1` if w is not the panels of O rows as wide as x, `packed_linear::c2` if b is not
/// `[O]`, `packed_linear::c3` if x or b is not f32 or w is not of such floats, `packed_linear::c4` if O is 0.
/// Source: the packed panels of Goto and van de Geijn 2008, "Anatomy of high-performance matrix
/// multiplication".
#[derive(Clone, Debug, PartialEq)]
pub struct PackedLinear {
    /// O, the rows of the matrix.
    pub outputs: usize,
}

/// [`Embedding`] of a table in panels, whose elements are widened to f32 exactly.
///
/// w: floats of at most 32 bits [V/16 rounded up, E, 16], ids: integers [...] → f32 [..., E]. Element (g, e,
/// r) of w is row 16g + r, column e of the table [V, E]; an id outside 0..V is an error of the evaluation.
///
/// Errors: `packed_embedding::c1` if w is not the panels of V rows, `packed_embedding::c2` if the ids are no
/// integers, `packed_embedding::c3` if w is not of such floats, `packed_embedding::c4` if V is 0.
/// Source: as [`PackedLinear`].
#[derive(Clone, Debug, PartialEq)]
pub struct PackedEmbedding {
    /// V, the rows of the table.
    pub rows: usize,
}

/// Whether an element widens to f32 exactly.
fn widens(dtype: DType) -> bool {
    dtype.is_float() && dtype.bits() <= 32
}

/// Panels of `rows` rows.
pub(super) fn panels(rows: usize) -> Expr {
    rows.div_ceil(PANEL).into()
}

/// The first `rows` of the rows that panels [G, ..., 16, ...] hold, with the 16 at `axis`, moved behind G.
pub(super) fn rows_of_panels(
    b: &mut FunctionBuilder,
    panels: ValueId,
    perm: &[usize],
    rows: usize,
    row: &[Expr],
) -> Result<ValueId, TypeError> {
    let all = b.ty(panels).shape[0].clone() * PANEL as i64;
    let turned = b.transpose(panels, perm)?;
    let mut dims = vec![all.clone()];
    dims.extend_from_slice(row);
    let matrix = b.reshape(turned, dims)?;
    match all.as_usize() == Some(rows) {
        true => Ok(matrix),
        false => b.slice(matrix, 0, 0, rows),
    }
}

/// The matrix [rows, I] in f32.
fn matrix(b: &mut FunctionBuilder, w: ValueId, rows: usize) -> Result<ValueId, TypeError> {
    let width = b.ty(w).shape[1].clone();
    let w = b.cast(w, DType::F32)?;
    rows_of_panels(b, w, &[0, 2, 1], rows, &[width])
}

/// Checks a bias of a linear map in f32.
pub(super) fn check_bias(
    [shape, dtype]: [&str; 2],
    bias: Option<&TensorType>,
    outputs: usize,
) -> Result<(), TypeError> {
    let Some(bias) = bias else { return Ok(()) };
    ensure(bias.shape == [outputs.into()], shape, || {
        format!("operand `b` has type {bias}, expected [{outputs}]")
    })?;
    ensure(bias.dtype == DType::F32, dtype, || format!("operand `b` has type {bias}, expected f32"))
}

impl OpDef for PackedLinear {
    const NAME: &'static str = "packed_linear";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("outputs", Attr::Int(self.outputs as i64))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(PackedLinear { outputs: attrs.req("outputs")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let types = check::between(Self::NAME, types, 2, 3)?;
        let (x, w) = (&types[0], &types[1]);
        ensure(self.outputs > 0, "packed_linear::c4", || "there is no output".to_string())?;
        ensure(x.dtype == DType::F32 && widens(w.dtype), "packed_linear::c3", || {
            format!("x {x} must be of f32 and w {w} of floats that are no wider")
        })?;
        let fits = x.rank() > 0
            && w.rank() == 3
            && w.shape[0] == panels(self.outputs)
            && x.shape.last() == Some(&w.shape[1])
            && w.shape[2] == PANEL.into();
        ensure(fits, "packed_linear::c1", || {
            let panels = panels(self.outputs);
            format!(
                "operand `w` has type {w}, expected [{panels}, I, 16] with I the last dim of x {x}"
            )
        })?;
        check_bias(["packed_linear::c2", "packed_linear::c3"], types.get(2), self.outputs)?;
        let mut result = x.clone();
        result.shape[x.rank() - 1] = self.outputs.into();
        Ok(vec![result])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let mut operands = v.to_vec();
        operands[1] = matrix(b, v[1], self.outputs)?;
        b.op(Linear::default(), &operands)
    }

    fn cost(&self, types: &[TensorType], results: &[TensorType]) -> Cost {
        let products = types[0].numel() * self.outputs as i64 * 2;
        match types.len() {
            3 => Cost::flops(products + results[0].numel()),
            _ => Cost::flops(products),
        }
    }

    fn samples() -> Samples {
        let normal = |dtype, shape: &[usize]| (typed(dtype, shape), Fill::Normal);
        let sample = |outputs, operands: Vec<(TensorType, Fill)>, differentiable: &[usize]| {
            Sample::new(PackedLinear { outputs }, operands, differentiable)
        };
        let bad = |outputs, types: Vec<TensorType>, code| {
            BadSample::new(PackedLinear { outputs }, types, code)
        };
        let w = || typed(DType::Bf16, &[2, 5, 16]);
        Samples {
            good: vec![
                sample(
                    17,
                    vec![normal(DType::F32, &[2, 3, 5]), normal(DType::Bf16, &[2, 5, 16])],
                    &[0],
                ),
                sample(
                    32,
                    vec![
                        normal(DType::F32, &[33]),
                        normal(DType::F32, &[2, 33, 16]),
                        normal(DType::F32, &[32]),
                    ],
                    &[0, 1, 2],
                ),
                sample(1, vec![normal(DType::F32, &[9, 3]), normal(DType::F16, &[1, 3, 16])], &[0]),
            ],
            bad: vec![
                bad(33, vec![f32(&[2, 5]), w()], "packed_linear::c1"),
                bad(17, vec![f32(&[2, 4]), w()], "packed_linear::c1"),
                bad(17, vec![f32(&[2, 5]), typed(DType::Bf16, &[17, 5])], "packed_linear::c1"),
                bad(17, vec![f32(&[2, 5]), w(), f32(&[32])], "packed_linear::c2"),
                bad(17, vec![typed(DType::Bf16, &[2, 5]), w()], "packed_linear::c3"),
                bad(17, vec![f32(&[2, 5]), typed(DType::I8, &[2, 5, 16])], "packed_linear::c3"),
                bad(17, vec![f32(&[2, 5]), w(), typed(DType::Bf16, &[17])], "packed_linear::c3"),
                bad(0, vec![f32(&[2, 5]), typed(DType::Bf16, &[0, 5, 16])], "packed_linear::c4"),
                bad(17, vec![f32(&[5])], "packed_linear::arity"),
            ],
        }
    }
}

impl OpDef for PackedEmbedding {
    const NAME: &'static str = "packed_embedding";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("rows", Attr::Int(self.rows as i64))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(PackedEmbedding { rows: attrs.req("rows")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [w, ids] = operands(Self::NAME, types)?;
        ensure(self.rows > 0, "packed_embedding::c4", || "there is no row".to_string())?;
        ensure(widens(w.dtype), "packed_embedding::c3", || {
            format!("operand `w` has type {w}, expected floats of at most 32 bits")
        })?;
        let fits = w.rank() == 3 && w.shape[0] == panels(self.rows) && w.shape[2] == PANEL.into();
        ensure(fits, "packed_embedding::c1", || {
            format!("operand `w` has type {w}, expected [{}, E, 16]", panels(self.rows))
        })?;
        ensure(ids.dtype.is_int(), "packed_embedding::c2", || {
            format!("`ids` has type {ids}, expected integers")
        })?;
        let shape = [&ids.shape[..], &w.shape[1..2]].concat();
        Ok(vec![TensorType { dtype: DType::F32, shape }])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let table = matrix(b, v[0], self.rows)?;
        b.op(Embedding, &[table, v[1]])
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        let bad = |rows, w: TensorType, ids: TensorType, code| {
            BadSample::new(PackedEmbedding { rows }, [w, ids], code)
        };
        let w = || typed(DType::Bf16, &[2, 5, 16]);
        Samples {
            good: vec![
                Sample::new(
                    PackedEmbedding { rows: 18 },
                    [(w(), Fill::Normal), (i32(&[2, 9]), Fill::Below(18))],
                    &[],
                ),
                Sample::new(
                    PackedEmbedding { rows: 7 },
                    [(f32(&[1, 3, 16]), Fill::Normal), (typed(DType::I64, &[4]), Fill::Below(7))],
                    &[0],
                ),
            ],
            bad: vec![
                bad(33, w(), i32(&[2]), "packed_embedding::c1"),
                bad(17, w(), f32(&[2]), "packed_embedding::c2"),
                bad(17, typed(DType::I8, &[2, 5, 16]), i32(&[2]), "packed_embedding::c3"),
                bad(0, typed(DType::Bf16, &[0, 5, 16]), i32(&[2]), "packed_embedding::c4"),
            ],
        }
    }
}
