//! Checks and small helpers that the type rules of many ops share.

use crate::attr::{Attr, AttrError, AttrReader};
use crate::builder::FunctionBuilder;
use crate::eval::{EvalError, Tensor};
use crate::module::{Module, ValueId};
use crate::op::OpDef;
use crate::types::{DType, TensorType, TypeError, ensure};
use llmc_base::Expr;

/// Largest number of elements of a tensor whose type is accepted, as a power of two.
///
/// It keeps every product of a few dims within the integers of [`Expr`].
const MAX_NUMEL_BITS: u32 = 56;

/// Largest number of terms that the product of the dims of a type may have.
const MAX_TERMS: usize = 1 << 12;

/// Largest rank that is accepted.
const MAX_RANK: usize = 12;

/// The operands, whose number must lie in `min..=max`; code `<op>::arity` otherwise.
pub(crate) fn between<'a>(
    op: &str,
    types: &'a [TensorType],
    min: usize,
    max: usize,
) -> Result<&'a [TensorType], TypeError> {
    ensure((min..=max).contains(&types.len()), &format!("{op}::arity"), || {
        format!("`{op}` takes {min} to {max} operands, got {}", types.len())
    })?;
    Ok(types)
}

/// `<op>::size` unless the dims are a sane shape: none negative, none absurdly large.
///
/// Symbols count as 1 here; the evaluators and planners check again with their values.
pub(crate) fn check_dims(op: &str, dims: &[Expr]) -> Result<(), TypeError> {
    let code = || format!("{op}::size");
    ensure(dims.len() <= MAX_RANK, &code(), || {
        format!("rank {} is more than {MAX_RANK}", dims.len())
    })?;
    let mut bits = 0u32;
    let mut terms = 1usize;
    for dim in dims {
        if let Some(value) = dim.as_constant() {
            ensure(value >= 0, &code(), || format!("dim `{value}` is negative"))?;
        }
        let largest = dim.terms().map(|(c, _)| c.unsigned_abs()).max().unwrap_or(0);
        bits = bits.saturating_add(128 - largest.leading_zeros().min(127));
        terms = terms.saturating_mul(dim.terms().count().max(1));
    }
    ensure(terms <= MAX_TERMS, &code(), || {
        format!("shape [{}] has too many terms", shape_text(dims))
    })?;
    ensure(bits.saturating_sub(dims.len() as u32) <= MAX_NUMEL_BITS, &code(), || {
        format!("shape [{}] is too large", shape_text(dims))
    })
}

/// [`check_dims`] for each type.
pub(crate) fn check_types(op: &str, types: &[TensorType]) -> Result<(), TypeError> {
    types.iter().try_for_each(|ty| check_dims(op, &ty.shape))
}

/// `2, B, 64`.
pub(crate) fn shape_text(dims: &[Expr]) -> String {
    dims.iter().map(Expr::to_string).collect::<Vec<_>>().join(", ")
}

/// The error that `code` stands for, unless `dtype` is a float type.
pub(crate) fn ensure_float(code: &str, name: &str, ty: &TensorType) -> Result<(), TypeError> {
    ensure(ty.dtype.is_float(), code, || format!("`{name}` has type {ty}, expected floats"))
}

/// The error that `code` stands for, unless the two types are equal.
pub(crate) fn ensure_same(
    code: &str,
    name: &str,
    got: &TensorType,
    want: &TensorType,
) -> Result<(), TypeError> {
    ensure(got == want, code, || format!("`{name}` has type {got}, expected {want}"))
}

/// Whether the axes are below `rank` and strictly increasing.
pub(crate) fn increasing(axes: &[usize], rank: usize) -> bool {
    axes.windows(2).all(|w| w[0] < w[1]) && axes.last().is_none_or(|a| *a < rank)
}

/// Whether the axes are below `rank` and differ.
pub(crate) fn distinct(axes: &[usize], rank: usize) -> bool {
    let mut seen = vec![false; rank];
    axes.iter().all(|a| *a < rank && !std::mem::replace(&mut seen[*a], true))
}

/// `code` unless every value is one of the dtype: integral and in range for integers, 0 or 1
/// for `bool`. Floats round, so all of them fit.
pub(crate) fn ensure_fits(code: &str, dtype: DType, values: &[f64]) -> Result<(), TypeError> {
    for value in values {
        let fits = match dtype.is_float() {
            true => true,
            false => {
                value.fract() == 0.0 && {
                    let (low, high) = int_range(dtype);
                    (low as f64..=high as f64).contains(value)
                }
            }
        };
        ensure(fits, code, || format!("`{value:?}` is no value of dtype {dtype}"))?;
    }
    Ok(())
}

/// Smallest and largest value of an integer dtype or `bool`.
pub(crate) fn int_range(dtype: DType) -> (i128, i128) {
    match dtype {
        DType::Bool => (0, 1),
        _ if dtype.is_signed_int() => {
            (-(1i128 << (dtype.bits() - 1)), (1i128 << (dtype.bits() - 1)) - 1)
        }
        _ => (0, (1i128 << dtype.bits()) - 1),
    }
}

/// The dtype that an op over `dtype` computes in: f32 for floats narrower than that.
pub fn compute_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ if dtype.is_float() => DType::F32,
        _ => dtype,
    }
}

/// `code` unless `acc` can accumulate values of `dtype`: f32 or f64 for floats, an integer
/// type for integers, never narrower than the values.
pub(crate) fn ensure_accumulates(code: &str, acc: DType, dtype: DType) -> Result<(), TypeError> {
    let fits = match dtype.is_float() {
        true => matches!(acc, DType::F32 | DType::F64) && acc.bits() >= dtype.bits(),
        false => dtype.is_int() && acc.is_int() && acc.bits() >= dtype.bits(),
    };
    ensure(fits, code, || format!("`acc = {acc}` cannot accumulate {dtype}"))
}

/// The word of a kind.
pub(crate) fn word<K: PartialEq>(words: &[(K, &'static str)], kind: &K) -> Attr {
    Attr::Word(words.iter().find(|(k, _)| k == kind).map_or("?", |(_, w)| w).to_string())
}

/// The kind of a word attribute.
pub(crate) fn kind<K: Copy>(
    words: &[(K, &'static str)],
    attrs: &mut AttrReader,
    name: &str,
) -> Result<Option<K>, AttrError> {
    let Some(word) = attrs.opt::<String>(name)? else { return Ok(None) };
    match words.iter().find(|(_, w)| *w == word) {
        Some((kind, _)) => Ok(Some(*kind)),
        None => {
            let known: Vec<_> = words.iter().map(|(_, w)| *w).collect();
            Err(AttrError(format!(
                "attribute `{name}` is `{word}`, expected one of {}",
                known.join(", ")
            )))
        }
    }
}

/// [`kind`], required.
pub(crate) fn required_kind<K: Copy>(
    words: &[(K, &'static str)],
    attrs: &mut AttrReader,
    name: &str,
) -> Result<K, AttrError> {
    kind(words, attrs, name)?.ok_or_else(|| AttrError(format!("attribute `{name}` is missing")))
}

/// Axes as an attribute.
pub(crate) fn axes_attr(axes: &[usize]) -> Attr {
    Attr::Ints(axes.iter().map(|a| *a as i64).collect())
}

/// Axes from an attribute.
pub(crate) fn axes(attrs: &mut AttrReader, name: &str) -> Result<Vec<usize>, AttrError> {
    to_axes(name, attrs.req(name)?)
}

/// Axes from an attribute that is left out when empty.
pub(crate) fn axes_or_none(attrs: &mut AttrReader, name: &str) -> Result<Vec<usize>, AttrError> {
    to_axes(name, attrs.opt(name)?.unwrap_or_default())
}

fn to_axes(name: &str, values: Vec<i64>) -> Result<Vec<usize>, AttrError> {
    let convert = |v: &i64| {
        usize::try_from(*v)
            .map_err(|_| AttrError(format!("attribute `{name}` has `{v}`, expected at least 0")))
    };
    values.iter().map(convert).collect()
}

/// An attribute of exactly one dim, e.g. `rows = <V>`.
pub(crate) fn one_dim(attrs: &mut AttrReader, name: &str) -> Result<Expr, AttrError> {
    match <[Expr; 1]>::try_from(attrs.req::<Vec<Expr>>(name)?) {
        Ok([dim]) => Ok(dim),
        Err(dims) => {
            Err(AttrError(format!("attribute `{name}` has {} dims, expected 1", dims.len())))
        }
    }
}

/// The shape of the one result of an op on these tensors.
pub(crate) fn result_shape(op: &impl OpDef, tensors: &[&Tensor]) -> Result<Vec<usize>, EvalError> {
    let types: Vec<TensorType> = tensors.iter().map(|t| t.ty()).collect();
    let results = op.infer(&Module::default(), &types)?;
    let shape = results.first().and_then(TensorType::concrete);
    shape.ok_or_else(|| EvalError::new("the result has no known shape"))
}

/// Checks the parameter, the tensors like it, and the scalars.
pub(super) fn check_step(
    op: &str,
    like: &[TensorType],
    scalars: &[TensorType],
) -> Result<(), TypeError> {
    ensure_float(&format!("{op}::c1"), "p", &like[0])?;
    for (ty, name) in like.iter().zip(["p", "g", "m", "v"]) {
        ensure_same(&format!("{op}::c2"), name, ty, &like[0])?;
    }
    let scalar = TensorType::scalar(like[0].dtype);
    scalars.iter().try_for_each(|ty| ensure_same(&format!("{op}::c3"), "scalar", ty, &scalar))
}

/// m·beta + x·(1 − beta), with the difference in the dtype of x.
pub(super) fn mix(
    b: &mut FunctionBuilder,
    m: ValueId,
    x: ValueId,
    beta: f64,
) -> Result<ValueId, TypeError> {
    let decayed = b.mul_scalar(m, beta)?;
    let beta = b.scalar(b.ty(x).dtype, beta)?;
    let rest = b.scalar_sub(1.0, beta)?;
    let rest = b.splat_like(rest, x)?;
    let fresh = b.mul(x, rest)?;
    b.add(decayed, fresh)
}
