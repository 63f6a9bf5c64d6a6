//! `group_quantized_linear`: 4-bit weights `scale·c − min`, with a scale and a minimum per group of neighbours, or per
//! block of a super-block as the k-quants of ggml have them.

use super::check;
use super::packed_linear::{PANEL, check_bias, rows_of_panels};
use super::quantized_linear::{BLOCK, integers, panel_width, rounded};
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, OpDef};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure};
use llmc_base::Expr;

/// Neighbours of a super-block.
const SUPER_BLOCK: usize = 256;

/// The affine map of the last axis by 4-bit weights `scale·c − min`, with x rounded to 8 bits per block of 32.
///
/// x: f32 [..., I], q: i4 [O/16 rounded up, I/8, 16, 4, 2], the two's complement of c − 8 for c in 0..=15, in the places
/// of `quantized_linear`. Then, each in panels of 16 rows, either
///
/// - scale and min: f16 [O/16 rounded up, I/G, 16] for groups of G neighbours, a multiple of 32; or
/// - scale and min: u8 [O/16 rounded up, I/32, 16], d and dmin: f16 [O/16 rounded up, I/256, 16]: the scale of a block is
///   d·scale and its minimum dmin·min, both exact in f32 for the 6-bit numbers of `Q4_K`.
///
/// Last b: f32 `[O]` (optional) → f32 [..., O]. Rows from O on are not used.
///
/// x' and s are those of `quantized_linear`. One FMA chain over the blocks from +0:
/// acc = fma(sum of x'·c, scale·s, acc), acc = fma(−sum of x', min·s, acc); and b is added.
///
/// Errors: `group_quantized_linear::c1` if q is not the panels of O rows as wide as x, `group_quantized_linear::c2` if
/// scale, min, d or dmin does not fit q, `group_quantized_linear::c3` if b is not f32 `[O]`, `group_quantized_linear::c4`
/// if a dtype is another, `group_quantized_linear::c5` if O is 0, `group_quantized_linear::c6` if I is not whole
/// groups. Source: `Q4_K`, <https://github.com/ggml-org/ggml>.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupQuantizedLinear {
    /// O, the rows of the matrix.
    pub outputs: usize,
}

const NAME: &str = "group_quantized_linear";

fn code(n: usize) -> String {
    format!("{NAME}::c{n}")
}

/// Refuses factors that are not [panels, I/`step`, 16] of a dtype.
fn check_factors(
    name: &str,
    ty: &TensorType,
    dtype: DType,
    q: &TensorType,
    per_row: usize,
) -> Result<(), TypeError> {
    ensure(ty.dtype == dtype, &code(4), || {
        format!("operand `{name}` has type {ty}, expected {dtype}")
    })?;
    let expected = [q.shape[0].clone(), per_row.into(), PANEL.into()];
    ensure(ty.shape == expected, &code(2), || {
        format!("operand `{name}` has type {ty}, expected [{}]", check::shape_text(&expected))
    })
}

/// Factors [rows, per row] in f32 out of panels, each standing for so many blocks: [rows, I/32].
fn spread(
    b: &mut FunctionBuilder,
    panels: ValueId,
    rows: usize,
    n_blocks: &Expr,
) -> Result<ValueId, TypeError> {
    let per_row = b.ty(panels).shape[1].clone();
    let wide = b.cast(panels, DType::F32)?;
    let factors = rows_of_panels(b, wide, &[0, 2, 1], rows, std::slice::from_ref(&per_row))?;
    if per_row == *n_blocks {
        return Ok(factors);
    }
    let blocks = n_blocks.as_usize().zip(per_row.as_usize());
    let (blocks, groups) = blocks.ok_or_else(|| TypeError::new(code(6), "a width is no number"))?;
    let dims = [rows.into(), per_row, (blocks / groups.max(1)).into()];
    let repeated = b.broadcast(factors, &dims, &[0, 1])?;
    b.reshape(repeated, [rows.into(), n_blocks.clone()])
}

impl OpDef for GroupQuantizedLinear {
    const NAME: &'static str = NAME;
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        vec![("outputs", Attr::Int(self.outputs as i64))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(GroupQuantizedLinear { outputs: attrs.req("outputs")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let types = check::between(NAME, types, 4, 7)?;
        let (x, q, scale, min) = (&types[0], &types[1], &types[2], &types[3]);
        ensure(x.dtype == DType::F32, &code(4), || {
            format!("operand `x` has type {x}, expected f32")
        })?;
        ensure(q.dtype == DType::I4, &code(4), || {
            format!("operand `q` has type {q}, expected i4")
        })?;
        let width = panel_width(NAME, q, self.outputs)?;
        ensure(x.shape.last() == Some(&width), &code(1), || {
            format!("rows of q {q} are not as wide as x {x}")
        })?;
        let n = width.as_usize().unwrap_or(0);
        let bias = if scale.dtype == DType::U8 {
            let types = check::between(NAME, types, 6, 7)?;
            ensure(n.is_multiple_of(SUPER_BLOCK), &code(6), || {
                format!("a row of q {q} is not whole super-blocks of {SUPER_BLOCK}")
            })?;
            check_factors("scale", scale, DType::U8, q, n / BLOCK)?;
            check_factors("min", min, DType::U8, q, n / BLOCK)?;
            check_factors("d", &types[4], DType::F16, q, n / SUPER_BLOCK)?;
            check_factors("dmin", &types[5], DType::F16, q, n / SUPER_BLOCK)?;
            types.get(6)
        } else {
            let types = check::between(NAME, types, 4, 5)?;
            let groups = scale.shape.get(1).and_then(Expr::as_usize).unwrap_or(0);
            // No groups can only be those of no columns.
            let is_whole = n.is_multiple_of(groups.max(1) * BLOCK) && (groups > 0 || n == 0);
            ensure(is_whole, &code(6), || {
                format!("a row of q {q} is not {groups} groups of whole blocks of {BLOCK}")
            })?;
            check_factors("scale", scale, DType::F16, q, groups)?;
            check_factors("min", min, DType::F16, q, groups)?;
            types.get(4)
        };
        check_bias(["group_quantized_linear::c3"; 2], bias, self.outputs)?;
        let mut result = x.clone();
        result.shape[x.rank() - 1] = self.outputs.into();
        Ok(vec![result])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let n_blocks = match b.ty(v[0]).shape.last().and_then(Expr::as_usize) {
            Some(width) => Expr::from(width / BLOCK),
            None => return Err(TypeError::new(code(6), "the width of x is no number")),
        };
        // Scales and minima [O, I/32], and the bias.
        let is_super = b.ty(v[2]).dtype == DType::U8;
        let [mut scale, mut min] = [v[2], v[3]];
        scale = spread(b, scale, self.outputs, &n_blocks)?;
        min = spread(b, min, self.outputs, &n_blocks)?;
        let bias = if is_super {
            let d = spread(b, v[4], self.outputs, &n_blocks)?;
            let dmin = spread(b, v[5], self.outputs, &n_blocks)?;
            (scale, min) = (b.mul(d, scale)?, b.mul(dmin, min)?);
            v.get(6)
        } else {
            v.get(4)
        };
        let codes = integers(b, v[1], self.outputs, &n_blocks)?;
        let codes = b.cast(codes, DType::I32)?;
        let eight = b.constant_like(codes, 8.0)?;
        let codes = b.add(codes, eight)?;

        // [I/32, ..., O]: the products and minus the sums of x, exact.
        let lead = b.ty(v[0]).rank() - 1;
        let [x, x_scale] = rounded(b, v[0], &n_blocks)?;
        let sums = b.dot(x, codes, (&[lead], &[1]), (&[lead + 1], &[2]))?;
        let sums = b.cast(sums, DType::F32)?;
        let dims = b.ty(sums).shape.clone();
        let to_front: Vec<usize> = std::iter::once(lead).chain(0..lead).collect();
        let axes: Vec<usize> = (0..=lead).collect();
        let x_sum = b.sum_last(x)?;
        let zero = b.constant_like(x_sum, 0.0)?;
        let minus_x = b.sub(zero, x_sum)?;
        let minus_x = b.cast(minus_x, DType::F32)?;
        let minus_x = b.transpose(minus_x, &to_front)?;
        let minus_x = b.broadcast(minus_x, &dims, &axes)?;
        let x_scale = b.transpose(x_scale, &to_front)?;
        let x_scale = b.broadcast(x_scale, &dims, &axes)?;
        let factor = |b: &mut FunctionBuilder, of: ValueId| {
            let of = b.transpose(of, &[1, 0])?;
            let of = b.broadcast(of, &dims, &[0, lead + 1])?;
            b.mul(of, x_scale)
        };
        let (scale, min) = (factor(b, scale)?, factor(b, min)?);

        // The chain over blocks, and in each over product and minimum.
        let mut paired = dims.clone();
        paired.insert(1, 1.into());
        let pair = |b: &mut FunctionBuilder, one: ValueId, other: ValueId| {
            let one = b.reshape(one, paired.clone())?;
            let other = b.reshape(other, paired.clone())?;
            b.concat(&[one, other], 1)
        };
        let (terms, factors) = (pair(b, sums, minus_x)?, pair(b, scale, min)?);
        let others: Vec<usize> = (2..=lead + 2).collect();
        let mut y = b.dot(terms, factors, (&others, &others), (&[0, 1], &[0, 1]))?;
        if let Some(bias) = bias {
            let bias = b.broadcast_like(*bias, y)?;
            y = b.add(y, bias)?;
        }
        Ok(vec![y])
    }

    fn cost(&self, types: &[TensorType], results: &[TensorType]) -> Cost {
        let products = types[0].numel() * self.outputs as i64 * 2;
        match types.len() {
            5 | 7 => Cost::flops(products + results[0].numel()),
            _ => Cost::flops(products),
        }
    }

    fn samples() -> Samples {
        let q = |panels: usize, width: usize| typed(DType::I4, &[panels, width / 8, 16, 4, 2]);
        let f16s = |shape: &[usize]| typed(DType::F16, shape);
        let u8s = |shape: &[usize]| typed(DType::U8, shape);
        let sample = |outputs, types: Vec<TensorType>| {
            let fill = |ty: &TensorType| match ty.dtype {
                DType::U8 => Fill::Below(64),
                _ => Fill::Normal,
            };
            let operands: Vec<_> = types.into_iter().map(|ty| (ty.clone(), fill(&ty))).collect();
            Sample::new(GroupQuantizedLinear { outputs }, operands, &[])
        };
        let bad = |outputs, types: Vec<TensorType>, code| {
            BadSample::new(GroupQuantizedLinear { outputs }, types, code)
        };
        let group = [f32(&[2, 64]), q(2, 64), f16s(&[2, 1, 16]), f16s(&[2, 1, 16]), f32(&[17])];
        let supers = [
            f32(&[3, 256]),
            q(1, 256),
            u8s(&[1, 8, 16]),
            u8s(&[1, 8, 16]),
            f16s(&[1, 1, 16]),
            f16s(&[1, 1, 16]),
            f32(&[5]),
        ];
        let with = |at: usize, ty: TensorType, code| {
            let mut types = group.to_vec();
            types[at] = ty;
            bad(17, types, code)
        };
        let with_super = |at: usize, ty: TensorType, code| {
            let mut types = supers.to_vec();
            types[at] = ty;
            bad(5, types, code)
        };
        Samples {
            good: vec![
                sample(17, group.to_vec()),
                sample(3, vec![f32(&[96]), q(1, 96), f16s(&[1, 3, 16]), f16s(&[1, 3, 16])]),
                sample(
                    16,
                    vec![f32(&[2, 2, 256]), q(1, 256), f16s(&[1, 2, 16]), f16s(&[1, 2, 16])],
                ),
                sample(5, supers.to_vec()),
                sample(
                    18,
                    vec![
                        f32(&[9, 512]),
                        q(2, 512),
                        u8s(&[2, 16, 16]),
                        u8s(&[2, 16, 16]),
                        f16s(&[2, 2, 16]),
                        f16s(&[2, 2, 16]),
                    ],
                ),
            ],
            bad: vec![
                bad(33, group.to_vec(), "group_quantized_linear::c1"),
                with(0, f32(&[2, 32]), "group_quantized_linear::c1"),
                with(3, f16s(&[2, 2, 16]), "group_quantized_linear::c2"),
                with(4, f32(&[16]), "group_quantized_linear::c3"),
                with(0, f16s(&[2, 64]), "group_quantized_linear::c4"),
                with(1, typed(DType::I8, &[2, 16, 16, 4]), "group_quantized_linear::c4"),
                with(2, f32(&[2, 1, 16]), "group_quantized_linear::c4"),
                with(3, i32(&[2, 1, 16]), "group_quantized_linear::c4"),
                bad(0, group.to_vec(), "group_quantized_linear::c5"),
                with(2, f16s(&[2, 4, 16]), "group_quantized_linear::c6"),
                with_super(4, f16s(&[1, 2, 16]), "group_quantized_linear::c2"),
                with_super(5, f32(&[1, 1, 16]), "group_quantized_linear::c4"),
                bad(5, supers[..5].to_vec(), "group_quantized_linear::arity"),
                bad(17, group[..3].to_vec(), "group_quantized_linear::arity"),
            ],
        }
    }
}
