//! From launches to kernels: one arm per op that `llmc-plan` calls native.

use crate::exec::{RunError, Slices};
use crate::narrow;
use llmc_ir::ops::{
    Attention, BinaryKind, Dropout, Precision, Rope, RopeScaling, rope_frequencies,
};
use llmc_ir::{DType, Op};
use llmc_kernels as k;
use llmc_kernels::{Ctx, MatRef, Segments};
use llmc_plan::{Gemm, GemmInit, Kernel, Launch, View};

/// Constants of kernels that take longer to compute than the kernels take, made once.
#[derive(Default)]
pub(crate) struct Tables {
    /// Rotary embeddings with their head dims and frequencies; a model has one or two.
    rope: Vec<(f64, RopeScaling, usize, Vec<f32>)>,
}

impl Tables {
    /// The frequencies of a rotary embedding of heads of `head_dim`.
    fn frequencies(&mut self, op: &Rope, head_dim: usize) -> &[f32] {
        let is_it = |(theta, scaling, dim, _): &(f64, RopeScaling, usize, Vec<f32>)| {
            *theta == op.theta && *scaling == op.scaling && *dim == head_dim
        };
        let at = self.rope.iter().position(is_it).unwrap_or_else(|| {
            let exact = rope_frequencies(op.theta, &op.scaling, head_dim);
            let rounded = exact.into_iter().map(|f| f as f32).collect();
            self.rope.push((op.theta, op.scaling, head_dim, rounded));
            self.rope.len() - 1
        });
        &self.rope[at].3
    }
}

/// Words of scratch that a launch needs.
pub(crate) fn scratch_words(launch: &Launch, threads: usize) -> usize {
    match (&launch.kernel, &launch.op) {
        (Kernel::Gemm(g), _) => {
            k::gemm_scratch_len(g.m, g.n, g.k, precision(g.precision, g.group), threads)
        }
        (Kernel::NormGrad, _) => {
            let view = &launch.operands[0];
            k::norm_scratch_len(view.region.len / last(view).max(1))
        }
        (Kernel::Native, Op::LinearCrossEntropy(_) | Op::LinearCrossEntropyGrad(_)) => {
            let (x, w) = (&launch.operands[0], &launch.operands[1]);
            let (width, precision) = (last(w), head_precision(launch));
            k::head_scratch_len(x.region.len / width.max(1), w.shape[0], width, precision, threads)
        }
        (Kernel::Native, Op::QuantizedLinear(_) | Op::GroupQuantizedLinear(_)) => {
            let x = &launch.operands[0];
            k::quantized_scratch_len(x.region.len / last(x).max(1), last(x))
        }
        (Kernel::Native, Op::Attention(op)) if op.cached => {
            let shape = attention_shape(&launch.operands, op);
            let is_narrow = launch.operands[1].dtype != DType::F32;
            k::cached_attention_scratch_len(&shape, is_narrow, threads)
        }
        (Kernel::Native, Op::Attention(op)) => {
            let shape = attention_shape(&launch.operands, op);
            k::attention_scratch_len(&shape, op.dropout.is_some(), threads)
        }
        (Kernel::Native, Op::AttentionBackward(op)) => {
            let shape = attention_shape(&launch.operands, &op.of);
            k::attention_backward_scratch_len(&shape, op.of.dropout.is_some(), threads)
        }
        _ => 0,
    }
}

/// What the products of a launch are taken of, pairs within so many k.
pub(crate) fn precision(declared: Precision, group: usize) -> k::Precision {
    match declared {
        Precision::F32 => k::Precision::F32,
        Precision::Bf16 => k::Precision::Bf16 { group: group.max(1) },
        Precision::F16 => k::Precision::F16,
    }
}

/// The precision of a head, whose pairs of tokens stay within a sequence.
pub(crate) fn head_precision(launch: &Launch) -> k::Precision {
    let declared = match &launch.op {
        Op::LinearCrossEntropy(op) => op.precision,
        Op::LinearCrossEntropyGrad(op) => op.precision,
        _ => Precision::F32,
    };
    precision(declared, last(&launch.operands[2]))
}

/// The sum of squares of `values` in f64, chunked as `docs/numerics.md` says.
pub(crate) fn sum_squares(ctx: &Ctx<'_>, values: &[f32]) -> f64 {
    k::sum_squares(ctx, 0.0, values)
}

/// Last dim of a view; 1 for a scalar.
fn last(view: &View) -> usize {
    view.shape.last().copied().unwrap_or(1)
}

fn ints(words: &[f32]) -> &[i32] {
    bytemuck::cast_slice(words)
}

/// Dropout of an op whose last three operands are key, step and sample.
fn dropout<'a>(op: &Dropout, operands: &[&'a [f32]]) -> Option<k::Dropout<'a>> {
    let [.., key, step, samples] = *operands else { return None };
    let words = |words: &'a [f32]| -> &'a [u32] { bytemuck::cast_slice(words) };
    let ([low, high], [step]) = (words(key), words(step)) else { return None };
    let key = (u64::from(*high) << 32 | u64::from(*low)) ^ op.stream;
    Some(k::Dropout { rate: op.rate as f32, key, step: *step, samples: words(samples) })
}

pub(crate) fn attention_shape(operands: &[View], op: &Attention) -> k::Attention {
    let (q, kv) = (&operands[0].shape, &operands[1].shape);
    let scale = op.scale.unwrap_or_else(|| 1.0 / libm::sqrt(q[3] as f64));
    k::Attention {
        batch: q[0],
        n_heads: q[2],
        n_kv_heads: kv[2],
        q_len: q[1],
        kv_len: kv[1],
        kv_capacity: kv[1],
        head_dim: q[3],
        scale: scale as f32,
        causal: op.causal,
        window: op.window,
    }
}

/// The head of a model, from x, w, targets and weights.
fn head<'a>(launch: &Launch, operands: &[&'a [f32]]) -> k::Head<'a> {
    k::Head {
        width: last(&launch.operands[1]),
        precision: head_precision(launch),
        x: operands[0],
        w: operands[1],
        targets: ints(operands[2]),
        weights: operands[3],
    }
}

/// Splits results into exactly `N`.
fn results<'s, 'a, const N: usize>(
    slices: &'s mut Slices<'a>,
) -> Result<&'s mut [&'a mut [f32]; N], String> {
    let n = slices.results.len();
    slices.results.as_mut_slice().try_into().map_err(|_| format!("{n} results"))
}

/// Runs one launch.
pub(crate) fn run(
    ctx: &Ctx<'_>,
    launch: &Launch,
    slices: &mut Slices,
    scratch: &mut [f32],
    tables: &mut Tables,
) -> Result<(), RunError> {
    dispatch(ctx, launch, slices, scratch, tables)
        .map_err(|message| RunError::Kernel { op: launch.op.name(), message })
}

fn dispatch(
    ctx: &Ctx<'_>,
    launch: &Launch,
    slices: &mut Slices,
    scratch: &mut [f32],
    tables: &mut Tables,
) -> Result<(), String> {
    let operands = slices.operands.clone();
    let text = |e: k::Error| e.to_string();
    match launch.kernel {
        Kernel::Gemm(g) => {
            let [c] = results::<1>(slices)?;
            return gemm(ctx, &g, &operands, c, scratch).map_err(text);
        }
        Kernel::Scale => {
            let [y] = results::<1>(slices)?;
            return k::scale(ctx, operands[0], operands[1][0], y).map_err(text);
        }
        Kernel::ScaledStep => {
            let factor = operands.last().map_or(1.0, |s| s[0]);
            return step(ctx, launch, slices, factor);
        }
        Kernel::NormGrad => {
            let [dx, dw] = results::<2>(slices)?;
            let (x, w, dy) = (operands[0], operands[1], operands[2]);
            return match &launch.op {
                Op::RmsNormBackward(op) => {
                    k::rms_norm_backward(ctx, x, w, dy, op.eps as f32, dx, dw, scratch)
                }
                Op::LayerNormBackward(op) => {
                    k::layer_norm_backward(ctx, x, w, dy, op.eps as f32, dx, dw, scratch)
                }
                other => return Err(format!("`{}` is no norm", other.name())),
            }
            .map_err(text);
        }
        Kernel::Copy | Kernel::Evaluate => return Err("not a kernel launch".to_string()),
        Kernel::Native => {}
    }
    let width = launch.operands.first().map_or(1, last);
    match &launch.op {
        Op::AdamwStep(_) | Op::SgdStep(_) | Op::LionStep(_) => {
            return step(ctx, launch, slices, 1.0);
        }
        Op::AttentionBackward(op) => {
            let shape = attention_shape(&launch.operands, &op.of);
            let (segments, dropout) = attention_rest(&op.of, &operands[4..]);
            let [dq, dk, dv] = results::<3>(slices)?;
            let (q, key, v, dout) = (operands[0], operands[1], operands[2], operands[3]);
            return k::attention_backward(
                ctx, &shape, q, key, v, dout, segments, dropout, dq, dk, dv, scratch,
            )
            .map_err(text);
        }
        Op::LinearCrossEntropyGrad(_) => {
            let (loss, dx, dw) = match slices.results.as_mut_slice() {
                [loss, dx] => (loss, dx, None),
                [loss, dx, dw] => (loss, dx, Some(&mut **dw)),
                other => return Err(format!("{} results", other.len())),
            };
            let grad = k::HeadGrad { dloss: operands[4], dx, dw };
            let head = head(launch, &operands);
            return k::linear_cross_entropy(ctx, &head, loss, Some(grad), scratch).map_err(text);
        }
        Op::QuantizeRows(_) => {
            let [q, scale] = results::<2>(slices)?;
            let q = narrow::elements_mut(&launch.results[0], q)?;
            let width = last(&launch.operands[0]);
            return k::quantize_rows(ctx, operands[0], width, q, scale).map_err(text);
        }
        Op::SwigluBackward(_) => {
            let [dg, du] = results::<2>(slices)?;
            return k::swiglu_backward(ctx, operands[0], operands[1], operands[2], dg, du)
                .map_err(text);
        }
        _ => {}
    }
    let [y] = results::<1>(slices)?;
    let operand = |i: usize| operands[i];
    match &launch.op {
        Op::Embedding(_) => k::embedding(ctx, operand(0), width, ints(operand(1)), y),
        Op::EmbeddingGrad(_) => {
            // Without an accumulator the sum starts from zero.
            if operands.len() < 3 {
                k::fill(ctx, 0.0, y);
            }
            let width = last(&launch.operands[1]);
            k::embedding_grad(ctx, y, width, ints(operand(0)), operand(1))
        }
        Op::PackedLinear(op) => {
            let w = narrow::packed(&launch.operands[1], operand(1))?;
            let bias = operands.get(2).copied();
            k::packed_linear(ctx, operand(0), width, w, bias, op.outputs, y)
        }
        Op::PackedEmbedding(op) => {
            let w = &launch.operands[0];
            let table = narrow::packed(w, operand(0))?;
            k::packed_embedding(ctx, table, w.shape[1], op.rows, ints(operand(1)), y)
        }
        Op::QuantizedLinear(op) => {
            let q = narrow::quants(&launch.operands[1], operand(1))?;
            let scales = narrow::scales(&launch.operands[2], operand(2))?;
            let bias = operands.get(3).copied();
            k::quantized_linear(ctx, operand(0), width, q, scales, bias, op.outputs, y, scratch)
        }
        Op::GroupQuantizedLinear(op) => {
            let (q, scales) = narrow::groups(launch, &operands)?;
            let n_factors = if matches!(scales, k::GroupScales::Super { .. }) { 6 } else { 4 };
            let bias = operands.get(n_factors).copied();
            k::group_quantized_linear(
                ctx,
                operand(0),
                width,
                q,
                scales,
                bias,
                op.outputs,
                y,
                scratch,
            )
        }
        Op::QuantizedEmbedding(op) => {
            let q = narrow::quants(&launch.operands[0], operand(0))?;
            let scales = narrow::scales(&launch.operands[1], operand(1))?;
            let width = launch.operands[1].shape[1] * k::BLOCK;
            k::quantized_embedding(ctx, q, scales, width, op.rows, ints(operand(2)), y)
        }
        Op::BiasGrad(_) => {
            if operands.len() < 2 {
                k::fill(ctx, 0.0, y);
            }
            k::bias_grad(ctx, y, operand(0))
        }
        Op::RmsNorm(op) => k::rms_norm(ctx, operand(0), operand(1), op.eps as f32, y),
        Op::LayerNorm(op) => {
            let bias = operands.get(2).copied();
            k::layer_norm(ctx, operand(0), operand(1), bias, op.eps as f32, y)
        }
        Op::Rope(op) => {
            let shape = &launch.operands[0].shape;
            let frequencies = tables.frequencies(op, shape[3]);
            let rotate = if op.inverse { k::rope_backward } else { k::rope };
            rotate(ctx, operand(0), shape[2], frequencies, ints(operand(1)), y)
        }
        Op::Attention(op) if op.cached => {
            let shape = attention_shape(&launch.operands, op);
            return cached_attention(ctx, &shape, &launch.operands, &operands, y, scratch);
        }
        Op::Attention(op) => {
            let shape = attention_shape(&launch.operands, op);
            let (segments, dropout) = attention_rest(op, &operands[3..]);
            let [q, key, v] = [0, 1, 2].map(operand);
            k::attention(ctx, &shape, q, key, v, segments, dropout, y, scratch)
        }
        Op::CrossEntropy(_) => k::cross_entropy(ctx, operand(0), ints(operand(1)), operand(2), y),
        Op::LinearCrossEntropy(_) => {
            k::linear_cross_entropy(ctx, &head(launch, &operands), y, None, scratch)
        }
        Op::CrossEntropyBackward(_) => {
            k::cross_entropy_backward(ctx, operand(0), ints(operand(1)), operand(2), y)
        }
        Op::UpdateSlice(op) => {
            let shape = &launch.operands[0].shape;
            // Bytes of an element: one word of a bool, too.
            let bytes = match launch.operands[0].dtype {
                DType::Bool => 4,
                dtype => dtype.bits() as usize / 8,
            };
            let inner = shape[op.axis + 1..].iter().product::<usize>() * bytes;
            let row = shape[op.axis] * inner;
            let new = launch.operands[1].shape[op.axis] * inner;
            // One start for all, or one for each row of the first axis.
            let starts = ints(operand(2));
            let all = shape.iter().product::<usize>() * bytes;
            let update = launch.operands[1].shape.iter().product::<usize>() * bytes;
            let (y, from): (&mut [u8], &[u8]) =
                (bytemuck::cast_slice_mut(y), bytemuck::cast_slice(operand(1)));
            let short = || "a region is too short".to_string();
            let y = y.get_mut(..all).ok_or_else(short)?;
            let from = from.get(..update).ok_or_else(short)?;
            let (wide, part) = (all / starts.len().max(1), update / starts.len().max(1));
            for (at, start) in starts.iter().enumerate() {
                let start = usize::try_from(*start).map_err(|_| format!("start is {start}"))?;
                let (y, update) = (&mut y[at * wide..][..wide], &from[at * part..][..part]);
                update_slice(y, row, update, new, start * inner)?;
            }
            Ok(())
        }
        Op::Cast(_) => k::to_bf16(ctx, operand(0), narrow::elements_mut(&launch.results[0], y)?),
        Op::Softmax(_) => k::softmax(ctx, operand(0), width, y),
        Op::Relu(_) => k::relu(ctx, operand(0), y),
        Op::ReluBackward(_) => k::relu_backward(ctx, operand(0), operand(1), y),
        Op::Gelu(_) => k::gelu(ctx, operand(0), y),
        Op::GeluBackward(_) => k::gelu_backward(ctx, operand(0), operand(1), y),
        Op::GeluTanh(_) => k::gelu_tanh(ctx, operand(0), y),
        Op::GeluTanhBackward(_) => k::gelu_tanh_backward(ctx, operand(0), operand(1), y),
        Op::Dropout(op) => match dropout(op, &operands[1..]) {
            Some(dropout) => k::dropout(ctx, &dropout, operand(0), y),
            None => return Err("dropout without key, step and sample".to_string()),
        },
        Op::Silu(_) => k::silu(ctx, operand(0), y),
        Op::SiluBackward(_) => k::silu_backward(ctx, operand(0), operand(1), y),
        Op::Swiglu(_) => k::swiglu(ctx, operand(0), operand(1), y),
        Op::Binary(binary) => match binary.kind {
            BinaryKind::Add => k::add(ctx, operand(0), operand(1), y),
            BinaryKind::Sub => k::sub(ctx, operand(0), operand(1), y),
            BinaryKind::Mul => k::mul(ctx, operand(0), operand(1), y),
            other => return Err(format!("no kernel for `{other:?}`")),
        },
        Op::Constant(op) => {
            k::fill(ctx, op.value as f32, y);
            Ok(())
        }
        Op::Broadcast(_) => {
            k::fill(ctx, operand(0)[0], y);
            Ok(())
        }
        Op::Reduce(_) => {
            let start = if operands.len() > 1 { y[0] } else { 0.0 };
            y[0] = k::sum_chain(start, operand(0));
            Ok(())
        }
        other => {
            return Err(format!("`{}` is in the plan's table but has no kernel", other.name()));
        }
    }
    .map_err(text)
}

/// Writes each run of `n_new` bytes of `update` at `start` of each run of `row` bytes of `x`.
fn update_slice(
    x: &mut [u8],
    row: usize,
    update: &[u8],
    n_new: usize,
    start: usize,
) -> Result<(), String> {
    if n_new == 0 {
        return Ok(());
    }
    if start + n_new > row || row == 0 {
        return Err(format!("bytes {start}..{} do not lie in {row}", start + n_new));
    }
    for (to, from) in x.chunks_exact_mut(row).zip(update.chunks_exact(n_new)) {
        to[start..start + n_new].copy_from_slice(from);
    }
    Ok(())
}

/// Attention over a cache that each row has filled to another length: operands q, k, v, start, and the scales
/// of k and v if they have some. Each row is an attention of its own over as many keys as it has, which changes
/// no bit.
fn cached_attention(
    ctx: &Ctx<'_>,
    shape: &k::Attention,
    views: &[View],
    operands: &[&[f32]],
    o: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), String> {
    let (q, key, v, start, scales) = match *operands {
        [q, key, v, start] => (q, key, v, start, [None; 2]),
        [q, key, v, start, key_scale, v_scale] => {
            (q, key, v, start, [Some(key_scale), Some(v_scale)])
        }
        _ => return Err(format!("{} operands", operands.len())),
    };
    let key = narrow::cells(&views[1], key, scales[0])?;
    let v = narrow::cells(&views[2], v, scales[1])?;
    let q_row = shape.q_len * shape.n_heads * shape.head_dim;
    for (b, start) in ints(start).iter().enumerate() {
        let kv_len = usize::try_from(*start).ok().map(|start| start + shape.q_len);
        let kv_len = kv_len.filter(|n| *n <= shape.kv_capacity);
        let kv_len = kv_len.ok_or_else(|| format!("start {start} is not in the cache"))?;
        let row = k::Attention { batch: 1, kv_len, ..*shape };
        let (q, o) = (&q[b * q_row..][..q_row], &mut o[b * q_row..][..q_row]);
        let (key, v) = (key.batch(shape, b), v.batch(shape, b));
        k::cached_attention(ctx, &row, q, key, v, o, scratch).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Segments and dropout of an attention, from the operands after its tensors.
fn attention_rest<'a>(
    op: &Attention,
    rest: &[&'a [f32]],
) -> (Option<Segments<'a>>, Option<k::Dropout<'a>>) {
    let random = op.dropout.as_ref().and_then(|op| dropout(op, rest));
    let segments = match rest {
        [q, kv] | [q, kv, _, _, _] => Some(Segments { q: ints(q), kv: ints(kv) }),
        _ => None,
    };
    (segments, random)
}

fn gemm(
    ctx: &Ctx<'_>,
    g: &Gemm,
    operands: &[&[f32]],
    c: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), k::Error> {
    let matrix = |data, strides: llmc_plan::Strides| MatRef {
        data,
        row_stride: strides.row,
        col_stride: strides.col,
    };
    let problem = k::Gemm {
        m: g.m,
        n: g.n,
        k: g.k,
        a: matrix(operands[0], g.a),
        b: matrix(operands[1], g.b),
        accumulate: g.init == GemmInit::Accumulate,
        bias: if g.has_bias { operands.get(2).copied() } else { None },
        residual: None,
        precision: precision(g.precision, g.group),
    };
    k::gemm(ctx, &problem, c, g.n, scratch)
}

/// An optimiser step in place: parameter and moments are results, the rest operands.
fn step(ctx: &Ctx<'_>, launch: &Launch, slices: &mut Slices, factor: f32) -> Result<(), String> {
    let operands = slices.operands.clone();
    let scalar = |i: usize| operands[i].first().copied().unwrap_or(0.0);
    // What is not continued in place is copied first.
    let pairs: &[(usize, usize)] = match &launch.op {
        Op::AdamwStep(_) => &[(0, 0), (2, 1), (3, 2)],
        _ => &[(0, 0), (2, 1)],
    };
    for (operand, result) in pairs {
        if launch.operands[*operand].region != launch.results[*result].region {
            slices.results[*result].copy_from_slice(operands[*operand]);
        }
    }
    match &launch.op {
        Op::AdamwStep(op) => {
            let step = k::AdamW {
                lr: scalar(4),
                beta1: op.beta1 as f32,
                beta2: op.beta2 as f32,
                eps: op.eps as f32,
                bias_correction1: scalar(5),
                bias_correction2: scalar(6),
                weight_decay: scalar(7),
                grad_scale: factor,
            };
            let [p, m, v] = results::<3>(slices)?;
            k::adamw_step(ctx, &step, p, operands[1], m, v).map_err(|e| e.to_string())
        }
        Op::SgdStep(op) => {
            let step = k::Sgd {
                lr: scalar(3),
                momentum: op.momentum as f32,
                weight_decay: scalar(4),
                grad_scale: factor,
            };
            let [p, m] = results::<2>(slices)?;
            k::sgd_step(ctx, &step, p, operands[1], m).map_err(|e| e.to_string())
        }
        Op::LionStep(op) => {
            let step = k::Lion {
                lr: scalar(3),
                beta1: op.beta1 as f32,
                beta2: op.beta2 as f32,
                weight_decay: scalar(4),
                grad_scale: factor,
            };
            let [p, m] = results::<2>(slices)?;
            k::lion_step(ctx, &step, p, operands[1], m).map_err(|e| e.to_string())
        }
        other => Err(format!("`{}` is no optimiser step", other.name())),
    }
}
