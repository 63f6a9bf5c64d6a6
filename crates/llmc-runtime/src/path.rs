//! Which way of a kernel a launch takes, in words: the kernels' own choice, asked and not guessed.

use crate::native::{attention_shape, head_precision, precision};
use llmc_ir::{DType, Op};
use llmc_kernels::{GemmPath, Isa, Precision, gemm_path, is_decoding_attention};
use llmc_plan::{Kernel, Launch};

/// The way that a launch takes with these threads on this instruction set, e.g. `blocked f32, tiles 12x32`.
pub fn kernel_path(launch: &Launch, isa: Isa, threads: usize) -> String {
    match (launch.kernel, &launch.op) {
        (Kernel::Gemm(g), _) => {
            product([g.m, g.n, g.k], precision(g.precision, g.group), isa, threads)
        }
        (Kernel::Copy, _) => "memory copy".to_string(),
        (Kernel::Scale, _) => vectors(isa, "one pass over the elements"),
        (Kernel::ScaledStep, _) => vectors(isa, "one pass over parameter, gradient and moments"),
        (Kernel::NormGrad, _) => {
            vectors(isa, "row by row, the weight's sum in the order of tokens")
        }
        (Kernel::Evaluate, _) => "evaluator, one element at a time".to_string(),
        (Kernel::Native, op) => native(launch, op, isa, threads),
    }
}

fn vectors(isa: Isa, what: &str) -> String {
    format!("{}, {what}", isa.name())
}

fn product([m, n, k]: [usize; 3], precision: Precision, isa: Isa, threads: usize) -> String {
    let narrow = match precision {
        Precision::F32 => "f32",
        Precision::Bf16 { .. } => "bf16 pairs",
        Precision::F16 => "f16",
    };
    match gemm_path(isa, m, n, k, precision, threads) {
        GemmPath::Skinny { tasks } => {
            format!("{} skinny {narrow}: weights streamed once, {tasks} tasks", isa.name())
        }
        GemmPath::Blocked(b) => {
            let ([rows, columns], [down, across]) = (b.tile, b.parts);
            format!(
                "{} blocked {narrow}: tiles {rows}x{columns}, k by {}, {down}x{across} tasks",
                isa.name(),
                b.k_block
            )
        }
    }
}

fn native(launch: &Launch, op: &Op, isa: Isa, threads: usize) -> String {
    match op {
        Op::Attention(attention) => {
            let shape = attention_shape(&launch.operands, attention);
            match is_decoding_attention(&shape, attention.dropout.is_some()) {
                true => {
                    vectors(isa, "decoding: keys turned in blocks of 16, a row of scores per head")
                }
                false => vectors(isa, "tiles of query rows; masked tiles skipped, never TxT"),
            }
        }
        Op::AttentionBackward(_) => {
            vectors(isa, "tiles of query rows, probabilities computed again; never TxT")
        }
        Op::LinearCrossEntropy(_) | Op::LinearCrossEntropyGrad(_) => {
            let (x, w) = (&launch.operands[0].shape, &launch.operands[1].shape);
            let width = w.get(1).copied().unwrap_or(1);
            let tokens = x.iter().product::<usize>() / width.max(1);
            let vocabulary = w.first().copied().unwrap_or(1);
            let inner = product([tokens, vocabulary, width], head_precision(launch), isa, threads);
            format!("tokens in tiles, never all logits; {inner}")
        }
        Op::PackedLinear(_) => match launch.operands[1].dtype {
            DType::F32 => vectors(isa, "panels of 16 outputs, streamed once"),
            other => vectors(isa, &format!("panels of 16 outputs in {other}, widened to f32")),
        },
        Op::QuantizedLinear(_) => vectors(
            isa,
            &format!("panels of 16 outputs in {}, activations in i8", launch.operands[1].dtype),
        ),
        Op::GroupQuantizedLinear(_) => {
            let blocks = match launch.operands[2].dtype {
                DType::U8 => "super-blocks of 256",
                _ => "groups with scale and minimum",
            };
            vectors(isa, &format!("panels of 16 outputs in i4, {blocks}, activations in i8"))
        }
        Op::AdamwStep(_) | Op::SgdStep(_) | Op::LionStep(_) => {
            vectors(isa, "one pass over parameter, gradient and moments")
        }
        Op::Embedding(_) | Op::PackedEmbedding(_) | Op::QuantizedEmbedding(_) => {
            vectors(isa, "rows gathered")
        }
        Op::UpdateSlice(_) => "memory copy of the new rows".to_string(),
        Op::EmbeddingGrad(_) => vectors(isa, "rows scattered in the order of tokens"),
        _ => vectors(isa, "tile by tile, 16 lanes"),
    }
}
