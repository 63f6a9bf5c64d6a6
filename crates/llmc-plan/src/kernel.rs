//! Kernel choice: which launches are matrix products, which ops have a kernel
//! of their own, and which are left to the evaluator.

use crate::layout::accumulator;
use crate::space::View;
use crate::why::Why;
use llmc_ir::ops::{BinaryKind, Dot, Precision, ReduceKind};
use llmc_ir::{DType, Op};

/// What executes a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Copies operand 0 to result 0.
    Copy,
    /// A matrix product.
    Gemm(Gemm),
    /// The hand-written kernel of the launch's op.
    Native,
    /// Operand 0 times the scalar operand 1.
    Scale,
    /// An optimiser step whose last operand is a scalar factor on the gradient.
    ScaledStep,
    /// The gradient of a norm; result 1 is the accumulator of the weight gradient.
    NormGrad,
    /// The `rounded` evaluator: right by definition, slow.
    Evaluate,
}

/// C[m, n] (+)= A[m, k] · B[k, n] (+ bias\[n\]); A is operand 0, B operand 1, C result 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Contracted length.
    pub k: usize,
    /// Layout of A.
    pub a: Strides,
    /// Layout of B.
    pub b: Strides,
    /// What C starts from.
    pub init: GemmInit,
    /// Whether operand 2 is a bias \[n\], added last.
    pub has_bias: bool,
    /// What the products are taken of.
    pub precision: Precision,
    /// Places of k within which pairs of bf16 operands stay; of no account for others.
    pub group: usize,
}

/// Distance in words between neighbours in a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// From one row to the next.
    pub row: usize,
    /// From one column to the next.
    pub col: usize,
}

/// What the chains of a product start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GemmInit {
    /// +0.
    Zero,
    /// What C holds.
    Accumulate,
}

/// Chooses the kernel of a launch, and says why. An accumulator is in result 0 already.
pub fn select(op: &Op, operands: &[View], results: &[View]) -> (Kernel, Why) {
    let all_f32 = operands.iter().chain(results).all(|v| v.dtype == DType::F32);
    let init = match accumulator(op, operands.len()) {
        Some(_) => GemmInit::Accumulate,
        None => GemmInit::Zero,
    };
    let product = |gemm| (Kernel::Gemm(gemm), Why::Product);
    match op {
        Op::Reshape(_) => (Kernel::Copy, Why::Moved),
        Op::Linear(linear) if all_f32 => {
            let (n, k) = (operands[1].shape[0], operands[1].shape[1]);
            product(Gemm {
                m: operands[0].region.len / k.max(1),
                n,
                k,
                a: Strides { row: k, col: 1 },
                b: Strides { row: 1, col: k },
                init,
                has_bias: operands.len() == 3,
                precision: linear.precision,
                group: k,
            })
        }
        Op::LinearWeightGrad(grad) if all_f32 => {
            let (m, n) = (results[0].shape[0], results[0].shape[1]);
            // Pairs stay within a sequence.
            let tokens = operands[0].shape.iter().rev().nth(1).copied().unwrap_or(1);
            product(Gemm {
                m,
                n,
                k: operands[0].region.len / m.max(1),
                a: Strides { row: 1, col: m },
                b: Strides { row: n, col: 1 },
                init,
                has_bias: false,
                precision: grad.precision,
                group: tokens,
            })
        }
        Op::Dot(dot) if all_f32 && dot.acc == DType::F32 => {
            dot_as_gemm(dot, operands, init).map_or((Kernel::Evaluate, Why::DotDims), product)
        }
        _ if has_native(op, operands, all_f32) => (Kernel::Native, Why::Native),
        _ if all_f32 => (Kernel::Evaluate, Why::NoKernel),
        _ => (Kernel::Evaluate, Why::Types),
    }
}

/// A dot without batch dims whose contracted dims lead or trail in order is a matrix product.
fn dot_as_gemm(dot: &Dot, operands: &[View], init: GemmInit) -> Option<Gemm> {
    if !dot.lhs_batch.is_empty() || !dot.rhs_batch.is_empty() {
        return None;
    }
    let split = |view: &View, contract: &[usize]| -> Option<(usize, usize, bool)> {
        let rank = view.shape.len();
        let leads = contract.iter().copied().eq(0..contract.len());
        let trails = contract.iter().copied().eq(rank - contract.len()..rank);
        let k: usize = contract.iter().map(|axis| view.shape[*axis]).product();
        let free = view.region.len / k.max(1);
        (leads || trails).then_some((free, k, trails))
    };
    let (m, k, a_trails) = split(&operands[0], &dot.lhs_contract)?;
    let (n, _, b_trails) = split(&operands[1], &dot.rhs_contract)?;
    let a = if a_trails { Strides { row: k, col: 1 } } else { Strides { row: 1, col: m } };
    let b = if b_trails { Strides { row: 1, col: k } } else { Strides { row: n, col: 1 } };
    let group = dot.lhs_contract.last().map_or(1, |axis| operands[0].shape[*axis]);
    Some(Gemm { m, n, k, a, b, init, has_bias: false, precision: dot.precision, group })
}

/// The table of ops with a kernel of their own; `llmc-runtime` launches exactly these.
fn has_native(op: &Op, operands: &[View], all_f32: bool) -> bool {
    let is_i32 = |view: &View| view.dtype == DType::I32;
    match op {
        Op::PackedLinear(_) | Op::QuantizedLinear(_) | Op::GroupQuantizedLinear(_) => {
            return true;
        }
        Op::PackedEmbedding(_) => return is_i32(&operands[1]),
        Op::QuantizedEmbedding(_) => return is_i32(&operands[2]),
        Op::QuantizeRows(_) => return operands[0].dtype == DType::F32,
        Op::Cast(cast) if operands[0].dtype == DType::F32 && cast.dtype == DType::Bf16 => {
            return true;
        }
        // Parts of whole bytes are copied whatever they are.
        Op::UpdateSlice(_) => {
            let dtype = operands[0].dtype;
            return is_i32(&operands[2]) && (dtype == DType::Bool || dtype.bits() >= 8);
        }
        Op::Attention(op) if op.cached => {
            return operands[0].dtype == DType::F32;
        }
        // The others take one word per element.
        _ if operands.iter().any(|v| v.dtype != DType::Bool && v.dtype.bits() != 32) => {
            return false;
        }
        _ => {}
    }
    match op {
        Op::Embedding(_)
        | Op::EmbeddingGrad(_)
        | Op::Rope(_)
        | Op::CrossEntropy(_)
        | Op::CrossEntropyBackward(_)
        | Op::Attention(_)
        | Op::AttentionBackward(_) => true,
        Op::RmsNorm(_)
        | Op::LayerNorm(_)
        | Op::Relu(_)
        | Op::ReluBackward(_)
        | Op::Gelu(_)
        | Op::GeluBackward(_)
        | Op::GeluTanh(_)
        | Op::GeluTanhBackward(_)
        | Op::Silu(_)
        | Op::SiluBackward(_)
        | Op::Swiglu(_)
        | Op::SwigluBackward(_)
        | Op::Softmax(_)
        | Op::BiasGrad(_)
        | Op::AdamwStep(_)
        | Op::SgdStep(_)
        | Op::LionStep(_)
        | Op::Constant(_) => all_f32,
        Op::Dropout(_) | Op::LinearCrossEntropy(_) | Op::LinearCrossEntropyGrad(_) => {
            operands[0].dtype == DType::F32
        }
        Op::Binary(binary) => {
            all_f32 && matches!(binary.kind, BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul)
        }
        Op::Broadcast(_) => all_f32 && operands[0].region.len == 1,
        // A whole-tensor chain, the shape of a loss.
        Op::Reduce(reduce) => {
            all_f32
                && reduce.kind == ReduceKind::Sum
                && reduce.order == llmc_ir::ops::Order::Chain
                && reduce.axes.len() == operands[0].shape.len()
        }
        _ => false,
    }
}
