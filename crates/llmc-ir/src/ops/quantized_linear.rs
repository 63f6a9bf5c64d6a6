//! `quantized_linear` and `quantized_embedding`: weights of 8 or 4 bits in blocks of 32, in panels of 16 rows.
//!
//! A block is 32 neighbours of a row with one scale, as in the formats Q8_0 and Q4_0 of ggml.

use super::check;
use super::packed_linear::{PANEL, check_bias, panels, rows_of_panels};
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, OpDef};
use crate::ops::{CompareKind, Unary, UnaryKind};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};
use llmc_base::Expr;

/// Neighbours that share a scale.
pub(super) const BLOCK: usize = 32;

/// The affine map of the last axis by a quantised weight, with x rounded to 8 bits per block.
///
/// x: f32 [..., I], q: i8 [O/16 rounded up, I/4, 16, 4] or i4 [O/16 rounded up, I/8, 16, 4, 2], scale: f32 or f16
/// [O/16 rounded up, I/32, 16], b: f32 `[O]` (optional) → f32 [..., O]. Element (g, j, r, i) of an i8
/// q is row 16g + r, column 4j + i of the matrix [O, I], element (g, j, r, i, h) of an i4 q column 8j + 4h + i;
/// element (g, k, r) of scale is that of block k of the row. Rows from O on are not used.
///
/// Of a block of x: s = max |x| / 127 and, where s ≥ 2⁻¹²⁶, x' = round(x · (1/s)), else x' = 0. Then
/// one FMA chain over the blocks from +0: acc = fma(sum of x'·q, scale·s, acc), and b is added.
///
/// Errors: `quantized_linear::c1` if q is not the panels of O rows as wide as x, `quantized_linear::c2` if scale
/// does not fit q, `quantized_linear::c3` if b is not f32 `[O]`, `quantized_linear::c4` if a dtype is
/// another, `quantized_linear::c5` if O is 0, `quantized_linear::c6` if I is not a multiple of 32.
/// Source: the blocks of `Q8_0` and `Q4_0`, <https://github.com/ggml-org/ggml>.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLinear {
    /// O, the rows of the matrix.
    pub outputs: usize,
}

/// The rows of a quantised table that the ids name.
///
/// q: i8 [V/16 rounded up, E/4, 16, 4] or i4 [V/16 rounded up, E/8, 16, 4, 2], scale: f32 or f16 [V/16 rounded up,
/// E/32, 16], ids: integers [...] → f32 [..., E]: each element times the scale of its block, one rounding. The
/// places are those of `quantized_linear`; an id outside 0..V is an error of the evaluation.
///
/// Errors: `quantized_embedding::c1` if q is not the panels of V rows, `quantized_embedding::c2` if scale
/// does not fit q, `quantized_embedding::c3` if the ids are no integers, `quantized_embedding::c4` if a dtype is
/// another, `quantized_embedding::c5` if V is 0, `quantized_embedding::c6` if E is not a multiple of 32.
/// Source: as [`QuantizedLinear`].
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedEmbedding {
    /// V, the rows of the table.
    pub rows: usize,
}

/// The width of the matrix that the panels q of 8- or 4-bit integers hold; checks q with the codes `<op>::c1`,
/// `c4`, `c5` and `c6`.
pub(super) fn panel_width(op: &str, q: &TensorType, rows: usize) -> Result<Expr, TypeError> {
    let code = |n: usize| format!("{op}::c{n}");
    ensure(rows > 0, &code(5), || "there is no row".to_string())?;
    let (tail, step): (&[usize], i64) = match q.dtype {
        DType::I8 => (&[PANEL, 4], 4),
        DType::I4 => (&[PANEL, 4, 2], 8),
        _ => {
            let message = format!("operand `q` has type {q}, expected i8 or i4");
            return Err(TypeError::new(code(4), message));
        }
    };
    let tail: Vec<Expr> = tail.iter().map(|dim| Expr::from(*dim)).collect();
    let fits = q.rank() == tail.len() + 2 && q.shape[0] == panels(rows) && q.shape[2..] == tail;
    ensure(fits, &code(1), || {
        format!(
            "operand `q` has type {q}, expected [{}, I/{step}, {}]",
            panels(rows),
            check::shape_text(&tail)
        )
    })?;
    let width = q.shape[1].clone() * step;
    let is_whole = width.as_usize().is_some_and(|width| width.is_multiple_of(BLOCK));
    ensure(is_whole, &code(6), || format!("a row of q {q} is not whole blocks of {BLOCK}"))?;
    Ok(width)
}

/// The width of the matrix that q holds; checks q and scale with the codes `<op>::c1`, `c2`, `c4`, `c5` and `c6`.
fn width(op: &str, q: &TensorType, scale: &TensorType, rows: usize) -> Result<Expr, TypeError> {
    let code = |n: usize| format!("{op}::c{n}");
    ensure(matches!(scale.dtype, DType::F32 | DType::F16), &code(4), || {
        format!("operand `scale` has type {scale}, expected f32 or f16")
    })?;
    let width = panel_width(op, q, rows)?;
    let fits = scale.rank() == 3
        && scale.shape[0] == q.shape[0]
        && scale.shape[1].clone() * BLOCK as i64 == width
        && scale.shape[2] == PANEL.into();
    ensure(fits, &code(2), || format!("operand `scale` has type {scale}, q has {q}"))?;
    Ok(width)
}

/// Integers [rows, I/32, 32] out of panels.
pub(super) fn integers(
    b: &mut FunctionBuilder,
    q: ValueId,
    rows: usize,
    n_blocks: &Expr,
) -> Result<ValueId, TypeError> {
    let perm: &[usize] = match b.ty(q).dtype {
        DType::I8 => &[0, 2, 1, 3],
        // The halves of a byte are four columns apart.
        _ => &[0, 2, 1, 4, 3],
    };
    rows_of_panels(b, q, perm, rows, &[n_blocks.clone(), BLOCK.into()])
}

/// x [..., I] rounded to 8 bits per block: integers i32 [..., I/32, 32] and scales [..., I/32].
pub(super) fn rounded(
    b: &mut FunctionBuilder,
    x: ValueId,
    n_blocks: &Expr,
) -> Result<[ValueId; 2], TypeError> {
    let mut dims = b.ty(x).shape.clone();
    let lead = dims.len() - 1;
    dims[lead] = n_blocks.clone();
    dims.push(BLOCK.into());
    let x = b.reshape(x, dims)?;
    let magnitude = b.abs(x)?;
    let largest = b.max_last(magnitude)?;
    let divisor = b.constant_like(largest, 127.0)?;
    let scale = b.div(largest, divisor)?;
    let smallest = b.constant_like(scale, f64::from(f32::MIN_POSITIVE))?;
    let is_normal = b.compare(CompareKind::Ge, scale, smallest)?;
    let (factor, zero) = (b.recip(scale)?, b.constant_like(scale, 0.0)?);
    let factor = b.select(is_normal, factor, zero)?;
    let factor = b.broadcast_last(factor, x)?;
    let x = b.mul(x, factor)?;
    let x = b.op1(Unary { kind: UnaryKind::Round }, &[x])?;
    Ok([b.cast(x, DType::I32)?, scale])
}

/// Integers [rows, I/32, 32] and scales [rows, I/32] in f32 out of panels.
fn blocks(
    b: &mut FunctionBuilder,
    q: ValueId,
    scale: ValueId,
    rows: usize,
) -> Result<[ValueId; 2], TypeError> {
    let n_blocks = b.ty(scale).shape[1].clone();
    let q = integers(b, q, rows, &n_blocks)?;
    let scale = b.cast(scale, DType::F32)?;
    Ok([q, rows_of_panels(b, scale, &[0, 2, 1], rows, &[n_blocks])?])
}

impl OpDef for QuantizedLinear {
    const NAME: &'static str = "quantized_linear";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("outputs", Attr::Int(self.outputs as i64))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(QuantizedLinear { outputs: attrs.req("outputs")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let types = check::between(Self::NAME, types, 3, 4)?;
        let (x, q, scale) = (&types[0], &types[1], &types[2]);
        ensure(x.dtype == DType::F32, "quantized_linear::c4", || {
            format!("operand `x` has type {x}, expected f32")
        })?;
        let width = width(Self::NAME, q, scale, self.outputs)?;
        ensure(x.shape.last() == Some(&width), "quantized_linear::c1", || {
            format!("rows of q {q} are not as wide as x {x}")
        })?;
        check_bias(["quantized_linear::c3"; 2], types.get(3), self.outputs)?;
        let mut result = x.clone();
        result.shape[x.rank() - 1] = self.outputs.into();
        Ok(vec![result])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let [q, w_scale] = blocks(b, v[1], v[2], self.outputs)?;
        let n_blocks = b.ty(w_scale).shape[1].clone();
        let lead = b.ty(v[0]).rank() - 1;
        let [x, x_scale] = rounded(b, v[0], &n_blocks)?;
        let q = b.cast(q, DType::I32)?;

        // [I/32, ..., O]: the products, exact, and their scales.
        let sums = b.dot(x, q, (&[lead], &[1]), (&[lead + 1], &[2]))?;
        let sums = b.cast(sums, DType::F32)?;
        let dims = b.ty(sums).shape.clone();
        let to_front: Vec<usize> = std::iter::once(lead).chain(0..lead).collect();
        let axes: Vec<usize> = (0..=lead).collect();
        let x_scale = b.transpose(x_scale, &to_front)?;
        let x_scale = b.broadcast(x_scale, &dims, &axes)?;
        let w_scale = b.transpose(w_scale, &[1, 0])?;
        let w_scale = b.broadcast(w_scale, &dims, &[0, lead + 1])?;
        let scale = b.mul(w_scale, x_scale)?;

        // The chain over blocks.
        let others: Vec<usize> = (1..=lead + 1).collect();
        let mut y = b.dot(sums, scale, (&others, &others), (&[0], &[0]))?;
        if let Some(bias) = v.get(3) {
            let bias = b.broadcast_like(*bias, y)?;
            y = b.add(y, bias)?;
        }
        Ok(vec![y])
    }

    fn cost(&self, types: &[TensorType], results: &[TensorType]) -> Cost {
        let products = types[0].numel() * self.outputs as i64 * 2;
        match types.len() {
            4 => Cost::flops(products + results[0].numel()),
            _ => Cost::flops(products),
        }
    }

    fn samples() -> Samples {
        let i8s = |shape: &[usize]| typed(DType::I8, shape);
        let i4s = |shape: &[usize]| typed(DType::I4, shape);
        let f16s = |shape: &[usize]| typed(DType::F16, shape);
        let sample = |outputs, types: Vec<TensorType>| {
            let operands: Vec<_> = types.into_iter().map(|ty| (ty, Fill::Normal)).collect();
            Sample::new(QuantizedLinear { outputs }, operands, &[])
        };
        let bad = |outputs, types: Vec<TensorType>, code| {
            BadSample::new(QuantizedLinear { outputs }, types, code)
        };
        let (x, q, scale) = (f32(&[2, 64]), i8s(&[2, 16, 16, 4]), f16s(&[2, 2, 16]));
        let with = |outputs, code: &'static str, at: usize, ty: TensorType| {
            let mut types = vec![x.clone(), q.clone(), scale.clone(), f32(&[17])];
            types[at] = ty;
            bad(outputs, types, code)
        };
        Samples {
            good: vec![
                sample(17, vec![f32(&[2, 3, 64]), q.clone(), scale.clone()]),
                sample(32, vec![f32(&[32]), i4s(&[2, 4, 16, 4, 2]), f32(&[2, 1, 16]), f32(&[32])]),
                sample(3, vec![f32(&[5, 96]), i4s(&[1, 12, 16, 4, 2]), f16s(&[1, 3, 16])]),
                sample(5, vec![f32(&[9, 32]), i8s(&[1, 8, 16, 4]), f32(&[1, 1, 16]), f32(&[5])]),
            ],
            bad: vec![
                with(33, "quantized_linear::c1", 0, x.clone()),
                with(17, "quantized_linear::c1", 0, f32(&[2, 32])),
                with(17, "quantized_linear::c1", 1, i4s(&[2, 16, 16, 4])),
                with(17, "quantized_linear::c2", 2, f16s(&[2, 3, 16])),
                with(17, "quantized_linear::c3", 3, f32(&[32])),
                with(17, "quantized_linear::c3", 3, f16s(&[17])),
                with(17, "quantized_linear::c4", 0, f16s(&[2, 64])),
                with(17, "quantized_linear::c4", 1, i32(&[2, 16, 16, 4])),
                with(17, "quantized_linear::c4", 2, typed(DType::Bf16, &[2, 2, 16])),
                bad(0, vec![x.clone(), q.clone(), scale.clone()], "quantized_linear::c5"),
                bad(
                    17,
                    vec![f32(&[2, 60]), i8s(&[2, 15, 16, 4]), f16s(&[2, 2, 16])],
                    "quantized_linear::c6",
                ),
                bad(17, vec![x.clone(), q.clone()], "quantized_linear::arity"),
            ],
        }
    }
}

impl OpDef for QuantizedEmbedding {
    const NAME: &'static str = "quantized_embedding";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("rows", Attr::Int(self.rows as i64))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(QuantizedEmbedding { rows: attrs.req("rows")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [q, scale, ids] = operands(Self::NAME, types)?;
        let width = width(Self::NAME, q, scale, self.rows)?;
        ensure(ids.dtype.is_int(), "quantized_embedding::c3", || {
            format!("`ids` has type {ids}, expected integers")
        })?;
        let shape = [&ids.shape[..], &[width]].concat();
        Ok(vec![TensorType { dtype: DType::F32, shape }])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let [q, scale] = blocks(b, v[0], v[1], self.rows)?;
        let q = b.gather(q, v[2], 0, 0)?;
        let q = b.cast(q, DType::F32)?;
        let scale = b.gather(scale, v[2], 0, 0)?;
        let scale = b.broadcast_last(scale, q)?;
        let y = b.mul(q, scale)?;
        let mut dims = b.ty(y).shape.clone();
        let n_blocks = dims.len() - 2;
        dims[n_blocks] = dims[n_blocks].clone() * BLOCK as i64;
        dims.truncate(n_blocks + 1);
        Ok(vec![b.reshape(y, dims)?])
    }

    fn cost(&self, _: &[TensorType], results: &[TensorType]) -> Cost {
        Cost::flops(results[0].numel())
    }

    fn samples() -> Samples {
        let q = typed(DType::I8, &[2, 8, 16, 4]);
        let q4 = typed(DType::I4, &[1, 8, 16, 4, 2]);
        let scale = f32(&[2, 1, 16]);
        let ids = |shape: &[usize], below| (i32(shape), Fill::Below(below));
        let good = |rows, q: &TensorType, scale: &TensorType, ids| {
            let operands = [(q.clone(), Fill::Normal), (scale.clone(), Fill::Normal), ids];
            Sample::new(QuantizedEmbedding { rows }, operands, &[])
        };
        let bad = |rows, q: &TensorType, scale: &TensorType, ids: &TensorType, code| {
            let types = [q.clone(), scale.clone(), ids.clone()];
            BadSample::new(QuantizedEmbedding { rows }, types, code)
        };
        let id = i32(&[2]);
        let narrow = typed(DType::I8, &[2, 7, 16, 4]);
        Samples {
            good: vec![
                good(18, &q, &scale, ids(&[2, 9], 18)),
                good(7, &q4, &typed(DType::F16, &[1, 2, 16]), ids(&[], 7)),
            ],
            bad: vec![
                bad(33, &q, &scale, &id, "quantized_embedding::c1"),
                bad(18, &q, &f32(&[2, 2, 16]), &id, "quantized_embedding::c2"),
                bad(18, &q, &scale, &f32(&[2]), "quantized_embedding::c3"),
                bad(18, &i32(&[2, 8, 16, 4]), &scale, &id, "quantized_embedding::c4"),
                bad(0, &q, &scale, &id, "quantized_embedding::c5"),
                bad(18, &narrow, &scale, &id, "quantized_embedding::c6"),
            ],
        }
    }
}
