//! `random_bits`: counter-based random words.

use super::check;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{self, EvalError, Mode, Tensor};
use crate::module::Module;
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure, operands};
use llmc_base::Expr;

/// Random 32-bit words that depend on the key, the step, the global sample and the element
/// alone (`docs/numerics.md`).
///
/// key: `u32[2]`, step: u32[], sample: `u32[B]` → u32[B, dims…].
///
/// Errors: `random_bits::c1` if an operand has another type.
/// Source: Philox4x32-10, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
#[derive(Clone, Debug, PartialEq)]
pub struct RandomBits {
    /// Dims of each sample.
    pub dims: Vec<Expr>,
}

/// Checks (key, step, sample) of a random op.
pub(crate) fn check_random(
    code: &str,
    key: &TensorType,
    step: &TensorType,
    sample: &TensorType,
) -> Result<(), TypeError> {
    check::ensure_same(code, "key", key, &TensorType::new(DType::U32, [2]))?;
    check::ensure_same(code, "step", step, &TensorType::scalar(DType::U32))?;
    ensure(sample.dtype == DType::U32 && sample.rank() == 1, code, || {
        format!("`sample` has type {sample}, expected u32[B]")
    })
}

impl OpDef for RandomBits {
    const NAME: &'static str = "random_bits";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![("dims", Attr::Dims(self.dims.clone()))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(RandomBits { dims: attrs.req("dims")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [key, step, sample] = operands(Self::NAME, types)?;
        check_random("random_bits::c1", key, step, sample)?;
        let shape = [&sample.shape[..], &self.dims[..]].concat();
        Ok(vec![TensorType { dtype: DType::U32, shape }])
    }

    fn map_dims(&self, f: &dyn Fn(&Expr) -> Expr) -> Self {
        RandomBits { dims: self.dims.iter().map(f).collect() }
    }

    fn eval(&self, v: &[&Tensor], _: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::random_bits(self, v[0], v[1], v[2])?])
    }

    fn vjp(&self, _: &mut FunctionBuilder, _: &VjpInput) -> Result<Option<Cotangents>, TypeError> {
        Ok(Some(vec![None, None, None]))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    RandomBits { dims: vec![3.into(), 5.into()] },
                    [
                        (typed(DType::U32, &[2]), Fill::Normal),
                        (typed(DType::U32, &[]), Fill::Normal),
                        (typed(DType::U32, &[2]), Fill::Positions),
                    ],
                    &[],
                ),
                Sample::new(
                    RandomBits { dims: vec![] },
                    [
                        (typed(DType::U32, &[2]), Fill::Normal),
                        (typed(DType::U32, &[]), Fill::Normal),
                        (typed(DType::U32, &[7]), Fill::Positions),
                    ],
                    &[],
                ),
            ],
            bad: vec![
                BadSample::new(
                    RandomBits { dims: vec![3.into()] },
                    [typed(DType::U32, &[3]), typed(DType::U32, &[]), typed(DType::U32, &[2])],
                    "random_bits::c1",
                ),
                BadSample::new(
                    RandomBits { dims: vec![3.into()] },
                    [typed(DType::U32, &[2]), i32(&[]), typed(DType::U32, &[2])],
                    "random_bits::c1",
                ),
                BadSample::new(
                    RandomBits { dims: vec![3.into()] },
                    [typed(DType::U32, &[2]), typed(DType::U32, &[]), typed(DType::U32, &[])],
                    "random_bits::c1",
                ),
            ],
        }
    }
}
