//! Inputs for the suites that run over all ops.

use crate::eval::{Data, Mode, Tensor};
use crate::ops::Op;
use crate::types::{DType, TensorType};
use llmc_base::math::philox_element;

/// How an operand of a sample is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Seeded normal values (floats), small integers, or truth values.
    Normal,
    /// Floats in `(0.5, 1.5)`.
    Positive,
    /// Integers in `0..n`.
    Below(i64),
    /// Integers in `0..n`, and −100 for a quarter of them: targets of a loss.
    Targets(i64),
    /// Each row of the last axis counts 0, 1, 2, …
    Positions,
    /// Each row of the last axis: two segments, 0 then 1.
    Segments,
    /// Every element this value.
    Constant(f64),
}

/// A good input: concrete types, and which operands have a gradient to check.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The op.
    pub op: Op,
    /// Operand types (concrete) and fills.
    pub operands: Vec<(TensorType, Fill)>,
    /// Operands whose gradient is compared with finite differences.
    pub differentiable: Vec<usize>,
}

/// A bad input with the code that refuses it.
#[derive(Clone, Debug)]
pub struct BadSample {
    /// The op.
    pub op: Op,
    /// Operand types.
    pub operands: Vec<TensorType>,
    /// Code of the [`crate::TypeError`].
    pub code: &'static str,
}

/// What [`crate::OpDef::samples`] gives.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Accepted.
    pub good: Vec<Sample>,
    /// Refused.
    pub bad: Vec<BadSample>,
}

impl Sample {
    /// A good input.
    pub fn new(
        op: impl Into<Op>,
        operands: impl Into<Vec<(TensorType, Fill)>>,
        differentiable: &[usize],
    ) -> Self {
        let differentiable = differentiable.to_vec();
        Sample { op: op.into(), operands: operands.into(), differentiable }
    }

    /// The operand types.
    pub fn types(&self) -> Vec<TensorType> {
        self.operands.iter().map(|(ty, _)| ty.clone()).collect()
    }

    /// The operands, the same for the same seed. Elements are values of their dtypes.
    pub fn tensors(&self, seed: u64) -> Vec<Tensor> {
        let operands = self.operands.iter().enumerate();
        operands.map(|(i, (ty, fill))| filled(ty, *fill, seed.wrapping_add(i as u64))).collect()
    }
}

impl BadSample {
    /// A bad input.
    pub fn new(
        op: impl Into<Op>,
        operands: impl Into<Vec<TensorType>>,
        code: &'static str,
    ) -> Self {
        BadSample { op: op.into(), operands: operands.into(), code }
    }
}

/// A concrete type.
pub fn typed(dtype: DType, shape: &[usize]) -> TensorType {
    TensorType::new(dtype, shape.iter().copied())
}

/// A concrete f32 type.
pub fn f32(shape: &[usize]) -> TensorType {
    typed(DType::F32, shape)
}

/// A concrete i32 type.
pub fn i32(shape: &[usize]) -> TensorType {
    typed(DType::I32, shape)
}

/// A tensor of a concrete type (empty if it is not), the same for the same seed.
pub fn filled(ty: &TensorType, fill: Fill, seed: u64) -> Tensor {
    let shape = ty.concrete().unwrap_or_else(|| vec![0; ty.rank()]);
    let count: usize = shape.iter().product();
    let width = shape.last().copied().unwrap_or(1).max(1);
    let word = |i: usize| philox_element(seed, 0, 0, i as u64);
    let data = match ty.dtype.is_float() {
        true => Data::Float((0..count).map(|i| float(fill, i, width, word(i))).collect()),
        false => Data::Int((0..count).map(|i| int(fill, ty.dtype, i, width, word(i))).collect()),
    };
    Tensor { dtype: ty.dtype, shape, data }.normalized(Mode::Rounded)
}

fn float(fill: Fill, i: usize, width: usize, word: u32) -> f64 {
    match fill {
        // The sum of four bytes is near enough to a normal distribution, and never far out.
        Fill::Normal => {
            let sum: u32 = word.to_le_bytes().into_iter().map(u32::from).sum();
            (f64::from(sum) + f64::from(word) / 4_294_967_296.0 - 510.5) / 147.8
        }
        Fill::Positive => 0.5 + (f64::from(word) + 0.5) / 4_294_967_296.0,
        Fill::Constant(value) => value,
        _ => int(fill, DType::F64, i, width, word) as f64,
    }
}

fn int(fill: Fill, dtype: DType, i: usize, width: usize, word: u32) -> i64 {
    match fill {
        Fill::Normal if dtype.is_signed_int() => i64::from(word % 16) - 8,
        Fill::Normal if dtype == DType::Bool => i64::from(word % 2),
        Fill::Normal => i64::from(word % 16),
        Fill::Positive => 1,
        Fill::Below(n) => i64::from(word) % n.max(1),
        Fill::Targets(_) if word >> 30 == 0 => i64::from(crate::ops::IGNORE_INDEX),
        Fill::Targets(n) => i64::from(word) % n.max(1),
        Fill::Positions => (i % width) as i64,
        Fill::Segments => i64::from(i % width >= width / 2),
        Fill::Constant(value) => value as i64,
    }
}
