//! To which class of the calibration a launch belongs, and with which sizes.

use crate::kernel::Kernel;
use crate::plan::Launch;
use crate::space::View;
use llmc_ir::Op;
use llmc_ir::ops::Attention;

/// The class of copies, which also stands for what has none.
pub(super) const COPY: &str = "copy";

/// A launch by class and sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Classified {
    /// Name of the class; one of [`super::PROBES`].
    pub class: &'static str,
    /// Its sizes, in the order of the probe's axes.
    pub sizes: Vec<u64>,
    /// What part of the probe's work it does: below 1 for an attention with a window.
    pub share: f64,
}

/// The class of a launch; `None` if it is like no probe.
pub fn class_of(launch: &Launch) -> Option<Classified> {
    let whole = |class, sizes: &[usize]| {
        let sizes = sizes.iter().map(|s| *s as u64).collect();
        Some(Classified { class, sizes, share: 1.0 })
    };
    let (operands, results) = (&launch.operands, &launch.results);
    let first = operands.first().or(results.first())?;
    let width = first.shape.last().copied().unwrap_or(1);
    let n = results.first()?.region.len;
    let rows = |class| whole(class, &[first.region.len / width.max(1), width]);
    match launch.kernel {
        Kernel::Copy => return whole(COPY, &[n]),
        Kernel::Gemm(g) => {
            let class = match (g.a.row == 1 && g.m > 1, g.b.col == 1, g.has_bias) {
                (true, ..) => "gemm_tn",
                (_, true, _) => "gemm_nn",
                (.., true) => "gemm_nt_bias",
                _ => "gemm_nt",
            };
            return whole(class, &[g.m, g.n, g.k]);
        }
        Kernel::Scale => return whole("scale", &[n]),
        Kernel::Evaluate => {
            let words: usize = operands.iter().chain(results).map(|v| v.region.len).sum();
            return whole("evaluate", &[words]);
        }
        Kernel::Native | Kernel::ScaledStep | Kernel::NormGrad => {}
    }
    match &launch.op {
        Op::LinearCrossEntropy(_) | Op::LinearCrossEntropyGrad(_) => {
            let (w, tokens) = (&operands.get(1)?.shape, first.region.len / width.max(1));
            let class = match &launch.op {
                Op::LinearCrossEntropy(_) => "linear_cross_entropy",
                _ => "linear_cross_entropy_grad",
            };
            whole(class, &[tokens, *w.first()?, width])
        }
        Op::Attention(op) => match op.dropout {
            Some(_) => attention("attention_dropout", op, operands),
            None => attention("attention", op, operands),
        },
        Op::AttentionBackward(op) => match op.of.dropout {
            Some(_) => attention("attention_backward_dropout", &op.of, operands),
            None => attention("attention_backward", &op.of, operands),
        },
        Op::Embedding(_) => whole("embedding", &[n / width.max(1), width]),
        Op::EmbeddingGrad(_) => {
            let width = *operands.get(1)?.shape.last()?;
            whole("embedding_grad", &[first.region.len, width])
        }
        Op::RmsNorm(_) => rows("rms_norm"),
        Op::RmsNormBackward(_) => rows("rms_norm_backward"),
        Op::LayerNorm(_) => rows("layer_norm"),
        Op::LayerNormBackward(_) => rows("layer_norm_backward"),
        Op::Softmax(_) => rows("softmax"),
        Op::CrossEntropy(_) => rows("cross_entropy"),
        Op::CrossEntropyBackward(_) => rows("cross_entropy_backward"),
        Op::BiasGrad(_) => rows("bias_grad"),
        Op::Rope(_) => rows("rope"),
        Op::Relu(_) => whole("relu", &[n]),
        Op::ReluBackward(_) => whole("relu_backward", &[n]),
        Op::Gelu(_) => whole("gelu", &[n]),
        Op::GeluBackward(_) => whole("gelu_backward", &[n]),
        Op::GeluTanh(_) => whole("gelu_tanh", &[n]),
        Op::GeluTanhBackward(_) => whole("gelu_tanh_backward", &[n]),
        Op::Silu(_) => whole("silu", &[n]),
        Op::SiluBackward(_) => whole("silu_backward", &[n]),
        Op::Swiglu(_) => whole("swiglu", &[n]),
        Op::SwigluBackward(_) => whole("swiglu_backward", &[n]),
        Op::Dropout(_) => whole("dropout", &[n]),
        Op::AdamwStep(_) => whole("adamw_step", &[n]),
        Op::SgdStep(_) => whole("sgd_step", &[n]),
        Op::LionStep(_) => whole("lion_step", &[n]),
        Op::Binary(_) => whole("add", &[n]),
        Op::Constant(_) | Op::Broadcast(_) => whole("fill", &[n]),
        Op::Reduce(_) => whole("sum_chain", &[first.region.len]),
        Op::UpdateSlice(_) => whole(COPY, &[n]),
        _ => None,
    }
}

/// Heads of all sequences, length and width; a window leaves a share of the causal scores.
fn attention(class: &'static str, op: &Attention, operands: &[View]) -> Option<Classified> {
    let [b, t, h, d] = *operands.first()?.shape.as_slice() else { return None };
    let s = *operands.get(1)?.shape.get(1)?;
    // Scores that are seen; the probe is causal with as many keys as queries.
    let seen = |is_causal: bool, window: Option<usize>| -> f64 {
        let row = |i: usize| {
            let end = if is_causal { (i + 1 + s).saturating_sub(t).min(s) } else { s };
            window.map_or(end, |w| end.min(w))
        };
        (0..t).map(|i| row(i) as f64).sum()
    };
    let share = seen(op.causal, op.window) / ((t * (t + 1)) as f64 / 2.0).max(1.0);
    Some(Classified { class, sizes: vec![(b * h) as u64, t as u64, d as u64], share })
}
