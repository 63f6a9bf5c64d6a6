//! `attention`: scaled dot-product attention with grouped heads.
//!
//! o = softmax(q·kᵀ·scale + mask)·v for each head; query head h reads key-value head h / (H/K).
//!
//! Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1; grouped heads: Ainslie et al. 2023,
//! arXiv:2305.13245; sliding window: Jiang et al. 2023, arXiv:2310.06825.

use super::random::check_random;
use super::softmax::softmax;
use super::{AttentionBackward, CompareKind, Dropout};
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
use crate::types::{DType, TensorType, TypeError, ensure};
use llmc_base::Expr;

/// Scaled dot-product attention over segments, optionally causal, within a window, and with dropout
/// of the probabilities.
///
/// q: [B, T, H, D], k and v: [B, S, K, D], both or neither of seg_q: i32 [B, T] and
/// seg_k: i32 [B, S], and with dropout key: `u32[2]`, step: u32[], sample: `u32[B]` → [B, T, H, D]; K
/// divides H. Query i stands at key position i + (S − T). It
/// sees key j if their segments are equal, j is not after it (causal), and it is less than
/// `window` keys back. A query that sees nothing gives zeros. Computed in f32 if the dtype is
/// narrower.
///
/// Over a cache (`cached`) k and v have room for S keys, and start: i32 \[B\] takes the place of the
/// segments: query i of row b stands at key start\[b\] + i, and no key behind the last query is seen. A cache
/// of an f32 q may be narrower: k and v bf16, or i8 with k_scale and v_scale: f32 [B, S, K] behind start, where
/// k and v are those times the scale of their row, one rounding.
///
/// Errors: `attention::c1` if q, k, v are not of these shapes and one float dtype, `attention::c2`
/// if K does not divide H, `attention::c3` if the segments are not i32 [B, T] and i32 [B, S],
/// `attention::c4` if the window is 0 or above 2³¹ − 1, `attention::c6` if key, step or sample has
/// another type, `attention::c7` if the dropout rate is not in 0..1, `attention::c8` if over a cache
/// start is not i32 \[B\] or the attention is not causal, `attention::c9` if k and v are narrower without being
/// a cache of an f32 q, or have the wrong scales.
/// Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1; grouped heads: arXiv:2305.13245.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Whether a query sees only keys at or before its own position.
    pub causal: bool,
    /// How many keys back, its own included, a query sees; `None` is all.
    pub window: Option<usize>,
    /// Factor of the scores; `None` is 1/sqrt(D), computed in f64 and rounded once.
    pub scale: Option<f64>,
    /// Of the probabilities, whose elements of a sample are [K, T, H/K, S]. In the text form `dropout` is
    /// the rate and `stream` the stream.
    pub dropout: Option<Dropout>,
    /// Whether k and v are a cache, filled up to where the queries stand.
    pub cached: bool,
}

pub(super) fn attrs(op: &Attention) -> Attrs {
    let mut attrs = vec![("causal", Attr::Bool(op.causal))];
    attrs.extend(op.window.map(|w| ("window", Attr::Int(w as i64))));
    attrs.extend(op.scale.map(|s| ("scale", Attr::Float(s))));
    if let Some(dropout) = &op.dropout {
        attrs.push(("dropout", Attr::Float(dropout.rate)));
        attrs.push(("stream", Attr::Int(dropout.stream as i64)));
    }
    if op.cached {
        attrs.push(("cached", Attr::Bool(true)));
    }
    attrs
}

pub(super) fn from_attrs(attrs: &mut AttrReader) -> Result<Attention, AttrError> {
    let rate: Option<f64> = attrs.opt("dropout")?;
    let dropout = match rate {
        Some(rate) => Some(Dropout { rate, stream: attrs.req::<i64>("stream")? as u64 }),
        None => None,
    };
    Ok(Attention {
        causal: attrs.req("causal")?,
        window: attrs.opt("window")?,
        scale: attrs.opt("scale")?,
        dropout,
        cached: attrs.opt("cached")?.unwrap_or(false),
    })
}

/// The operands after the first `n`: the segments, if any, or start and scales of a cache; and key, step and
/// sample of dropout.
///
/// `<op>::arity` unless there are as many as the op takes.
pub(super) fn split_rest<'t, T>(
    name: &str,
    op: &Attention,
    operands: &'t [T],
    n: usize,
) -> Result<(&'t [T], &'t [T]), TypeError> {
    let n_random = if op.dropout.is_some() { 3 } else { 0 };
    let (few, many) = if op.cached { (n + 1, n + 3) } else { (n, n + 2) };
    let fits = operands.len() == few + n_random || operands.len() == many + n_random;
    ensure(fits, &format!("{name}::arity"), || {
        let (few, many) = (few + n_random, many + n_random);
        format!("`{name}` takes {few} or {many} operands, got {}", operands.len())
    })?;
    Ok(operands[n..].split_at(operands.len() - n - n_random))
}

pub(super) fn check_operands(
    op: &str,
    attention: &Attention,
    [q, k, v]: [&TensorType; 3],
    segments: &[TensorType],
    random: &[TensorType],
) -> Result<(), TypeError> {
    let shapes = q.rank() == 4
        && k.rank() == 4
        && q.shape[0] == k.shape[0]
        && q.shape[3] == k.shape[3]
        && k == v
        && (q.dtype == k.dtype || attention.cached)
        && q.dtype.is_float();
    ensure(shapes, &format!("{op}::c1"), || {
        format!(
            "q {q}, k {k}, v {v}, expected [B, T, H, D] and twice [B, S, K, D] of one float dtype"
        )
    })?;
    if let (Some(heads), Some(kv_heads)) = (q.shape[2].as_constant(), k.shape[2].as_constant()) {
        ensure(kv_heads > 0 && heads % kv_heads == 0, &format!("{op}::c2"), || {
            format!("{kv_heads} key-value heads do not divide {heads} heads")
        })?;
    }
    if let ([seg_q, seg_k], false) = (segments, attention.cached) {
        let valid = seg_q.dtype == DType::I32
            && seg_k.dtype == DType::I32
            && seg_q.shape == q.shape[..2]
            && seg_k.shape == k.shape[..2];
        ensure(valid, &format!("{op}::c3"), || {
            format!(
                "segments {seg_q} and {seg_k}, expected i32 [B, T] and i32 [B, S] of q {q} and k {k}"
            )
        })?;
    }
    if let ([start, scales @ ..], true) = (segments, attention.cached) {
        let rows = TensorType::new(DType::I32, [q.shape[0].clone()]);
        ensure(start == &rows && attention.causal, &format!("{op}::c8"), || {
            format!("a causal attention over a cache takes start {rows}, not {start}")
        })?;
        let has_scales = k.dtype == DType::I8;
        let is_known = q.dtype == k.dtype
            || q.dtype == DType::F32 && matches!(k.dtype, DType::Bf16 | DType::I8);
        let scale = TensorType { dtype: DType::F32, shape: k.shape[..3].to_vec() };
        let fits =
            is_known && scales.is_empty() != has_scales && scales.iter().all(|s| s == &scale);
        ensure(fits, &format!("{op}::c9"), || {
            let scales: Vec<String> = scales.iter().map(ToString::to_string).collect();
            format!(
                "a cache {k} of q {q} with scales [{}], expected the dtype of q, or with q in f32 bf16, or i8 with twice {scale}",
                scales.join(", ")
            )
        })?;
    }
    let window = attention.window;
    let fits = window.is_none_or(|w| (1..=i32::MAX as usize).contains(&w));
    ensure(fits, &format!("{op}::c4"), || format!("window {window:?} is not in 1..2³¹"))?;
    if let (Some(dropout), [key, step, sample]) = (&attention.dropout, random) {
        let code = format!("{op}::c6");
        check_random(&code, key, step, sample)?;
        ensure(sample.shape[0] == q.shape[0], &code, || {
            format!("`sample` has type {sample}, expected u32[B] with the B of q {q}")
        })?;
        let rate = dropout.rate;
        ensure((0.0..1.0).contains(&(rate as f32)), &format!("{op}::c7"), || {
            format!("rate {rate:?} is not in 0..1")
        })?;
    }
    Ok(())
}

/// Dropout of the probabilities, or of their gradient; `x` itself where the op has none.
pub(super) fn dropped(
    b: &mut FunctionBuilder,
    op: &Attention,
    x: ValueId,
    random: &[ValueId],
) -> Result<ValueId, TypeError> {
    match (&op.dropout, random) {
        (Some(dropout), [key, step, sample]) => b.op1(dropout.clone(), &[x, *key, *step, *sample]),
        _ => Ok(x),
    }
}

/// The operands by group of heads, and what the two passes share.
pub(super) struct Grouped {
    /// [B, T, K, G, D].
    pub(super) q: ValueId,
    /// [B, S, K, D].
    pub(super) k: ValueId,
    /// [B, S, K, D].
    pub(super) v: ValueId,
    /// The type of q with the dims B, T, K, G, D.
    pub(super) ty: TensorType,
    /// Factor of the scores.
    pub(super) scale: f64,
    /// Probabilities, [B, K, T, G, S].
    pub(super) p: ValueId,
}

/// Axes of the products: batch (B, K) of [B, K, T, G, S] with that of [B, S, K, D].
pub(super) const P_BATCH: (&[usize], &[usize]) = (&[0, 1], &[0, 2]);
/// Batch (B, K) of [B, T, K, G, D] with that of [B, S, K, D].
pub(super) const Q_BATCH: (&[usize], &[usize]) = (&[0, 2], &[0, 2]);
/// Batch (B, K) of [B, K, T, G, S] with that of [B, T, K, G, D].
pub(super) const PQ_BATCH: (&[usize], &[usize]) = (&[0, 1], &[0, 2]);

/// Splits H into (K, G).
fn group(b: &mut FunctionBuilder, x: ValueId, kv_heads: &Expr) -> Result<ValueId, TypeError> {
    let shape = b.ty(x).shape.clone();
    let groups = shape[2].div_exact(kv_heads).ok_or_else(|| {
        TypeError::new("attention::c2", format!("`{kv_heads}` does not divide `{}`", shape[2]))
    })?;
    let dims = [&shape[0], &shape[1], kv_heads, &groups, &shape[3]];
    b.reshape(x, dims.into_iter().cloned())
}

/// Scores and probabilities. Operands have been widened.
pub(super) fn probabilities(
    b: &mut FunctionBuilder,
    op: &Attention,
    [q, k, v]: [ValueId; 3],
    segments: &[ValueId],
) -> Result<Grouped, TypeError> {
    let kv_heads = b.ty(k).shape[2].clone();
    let q = group(b, q, &kv_heads)?;
    let ty = b.ty(q).clone();
    let scale = match (op.scale, ty.shape[4].as_usize()) {
        (Some(scale), _) => scale,
        (None, Some(width)) => 1.0 / (width as f64).sqrt(),
        (None, None) => {
            let message = format!("head width `{}` is not a number yet", ty.shape[4]);
            return Err(TypeError::new("attention::c1", message));
        }
    };
    let scores = b.dot(q, k, Q_BATCH, (&[4], &[3]))?;
    let scores = b.mul_scalar(scores, scale)?;
    let mask = mask(b, op, scores, segments)?;
    let mut p = scores;
    if let Some(mask) = mask {
        let hidden = b.constant_like(scores, f64::NEG_INFINITY)?;
        p = b.select(mask, scores, hidden)?;
    }
    p = softmax(b, p)?;
    if let Some(mask) = mask {
        // Hidden keys are exact zeros already, but in a row that sees nothing, which is NaN here.
        let zero = b.constant_like(p, 0.0)?;
        p = b.select(mask, p, zero)?;
    }
    Ok(Grouped { q, k, v, ty, scale, p })
}

/// A product with + 0: whether masked terms, which are ±0, were added or skipped does not show.
pub(super) fn product(
    b: &mut FunctionBuilder,
    x: ValueId,
    y: ValueId,
    batch: (&[usize], &[usize]),
    contract: (&[usize], &[usize]),
) -> Result<ValueId, TypeError> {
    let product = b.dot(x, y, batch, contract)?;
    b.add_scalar(product, 0.0)
}

/// Keys or values in the dtype that is computed in, times the scales of their rows if they have some.
fn widened(
    b: &mut FunctionBuilder,
    x: ValueId,
    scale: Option<&ValueId>,
) -> Result<ValueId, TypeError> {
    let Some(scale) = scale else { return b.widen(x) };
    let x = b.cast(x, DType::F32)?;
    let scale = b.broadcast_last(*scale, x)?;
    b.mul(x, scale)
}

/// Which of the scores [B, K, T, G, S] are visible; `None` is all.
fn mask(
    b: &mut FunctionBuilder,
    op: &Attention,
    scores: ValueId,
    segments: &[ValueId],
) -> Result<Option<ValueId>, TypeError> {
    let dims = b.ty(scores).shape.clone();
    let mut mask = None;
    let and = |b: &mut FunctionBuilder, mask: Option<ValueId>, more: ValueId| match mask {
        Some(mask) => b.and(mask, more).map(Some),
        None => Ok(Some(more)),
    };
    if let ([seg_q, seg_k], false) = (segments, op.cached) {
        let square = [dims[0].clone(), dims[2].clone(), dims[4].clone()];
        let seg_q = b.broadcast(*seg_q, &square, &[0, 1])?;
        let seg_k = b.broadcast(*seg_k, &square, &[0, 2])?;
        let same = b.compare(CompareKind::Eq, seg_q, seg_k)?;
        let same = b.broadcast(same, &dims, &[0, 2, 4])?;
        mask = and(b, mask, same)?;
    }
    if let ([start, ..], true) = (segments, op.cached) {
        // The distance start + i − j from key j back to where query i of a row stands.
        let square = [dims[0].clone(), dims[2].clone(), dims[4].clone()];
        let query = b.iota(DType::I32, &square, 1)?;
        let start = b.broadcast(*start, &square, &[0])?;
        let position = b.add(query, start)?;
        let key = b.iota(DType::I32, &square, 2)?;
        let distance = b.sub(position, key)?;
        let zero = b.constant_like(distance, 0.0)?;
        let visible = b.compare(CompareKind::Ge, distance, zero)?;
        let visible = b.broadcast(visible, &dims, &[0, 2, 4])?;
        mask = and(b, mask, visible)?;
        if let Some(window) = op.window {
            let limit = b.constant_like(distance, window as f64)?;
            let visible = b.compare(CompareKind::Lt, distance, limit)?;
            let visible = b.broadcast(visible, &dims, &[0, 2, 4])?;
            mask = and(b, mask, visible)?;
        }
    } else if op.causal || op.window.is_some() {
        // The distance i + (S − T) − j from key j back to where query i stands.
        let square = [dims[2].clone(), dims[4].clone()];
        let query = b.iota(DType::I32, &square, 0)?;
        let shift_s = b.dim_size(&square[1], DType::I32)?;
        let shift_t = b.dim_size(&square[0], DType::I32)?;
        let shift = b.sub(shift_s, shift_t)?;
        let shift = b.splat_like(shift, query)?;
        let position = b.add(query, shift)?;
        let key = b.iota(DType::I32, &square, 1)?;
        let distance = b.sub(position, key)?;
        if op.causal {
            let zero = b.constant_like(distance, 0.0)?;
            let visible = b.compare(CompareKind::Ge, distance, zero)?;
            let visible = b.broadcast(visible, &dims, &[2, 4])?;
            mask = and(b, mask, visible)?;
        }
        if let Some(window) = op.window {
            let limit = b.constant_like(distance, window as f64)?;
            let visible = b.compare(CompareKind::Lt, distance, limit)?;
            let visible = b.broadcast(visible, &dims, &[2, 4])?;
            mask = and(b, mask, visible)?;
        }
    }
    Ok(mask)
}

/// Two matrix products over visible pairs; a causal mask hides about half of them.
pub(super) fn product_flops(q: &TensorType, k: &TensorType) -> Expr {
    q.numel() * k.shape[1].clone() * 2
}

impl OpDef for Attention {
    const NAME: &'static str = "attention";
    const CLASS: Class = Class::Composite;

    fn attrs(&self) -> Attrs {
        attrs(self)
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        from_attrs(attrs)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let (segments, random) = split_rest(Self::NAME, self, types, 3)?;
        check_operands(Self::NAME, self, [&types[0], &types[1], &types[2]], segments, random)?;
        Ok(vec![types[0].clone()])
    }

    fn decompose(&self, b: &mut FunctionBuilder, v: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let (segments, random) = split_rest(Self::NAME, self, v, 3)?;
        let ty = b.ty(v[0]).clone();
        let scales = if self.cached { &segments[1..] } else { &[] };
        let k = widened(b, v[1], scales.first())?;
        let wide = [b.widen(v[0])?, k, widened(b, v[2], scales.get(1))?];
        let g = probabilities(b, self, wide, segments)?;
        let p = dropped(b, self, g.p, random)?;
        // [B, K, T, G, D] → [B, T, K, G, D] → [B, T, H, D]
        let o = product(b, p, g.v, P_BATCH, (&[4], &[1]))?;
        let o = b.transpose(o, &[0, 2, 1, 3, 4])?;
        let o = b.reshape(o, ty.shape)?;
        Ok(vec![b.cast(o, ty.dtype)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        if self.cached {
            // Nothing is trained over a cache; its decomposition has a gradient all the same.
            return Ok(None);
        }
        let mut out = vec![None; input.operands.len()];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        let op = AttentionBackward { of: self.clone() };
        let mut operands = input.operands.to_vec();
        operands.insert(3, dy);
        let grads = b.op(op, &operands)?;
        for i in 0..3 {
            if input.needed[i] {
                out[i] = Some(input.fold(b, i, grads[i])?);
            }
        }
        Ok(Some(out))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::flops(product_flops(&types[0], &types[1]) * 2)
    }

    fn samples() -> Samples {
        let good = |(op, (shape, segments, dtype)): Case| {
            let operands = sample_operands(shape, segments, dtype, op.dropout.is_some());
            Sample::new(op, operands, &[0, 1, 2])
        };
        let bad = |op: Attention, [q, k, v]: [TensorType; 3], rest: &[TensorType], code| {
            BadSample::new(op, [&[q, k, v], rest].concat(), code)
        };
        let op =
            |window| Attention { causal: true, window, scale: None, dropout: None, cached: false };
        let cached = |window| Attention { cached: true, ..op(window) };
        // Starts 0, 1, 2: rows that are filled to different lengths.
        let good_cached = |window, [b, t, h, d, s, kv]: [usize; 6]| {
            let mut operands = sample_operands([b, t, h, d, s, kv], false, DType::F32, false);
            operands.push((i32(&[b]), Fill::Positions));
            Sample::new(cached(window), operands, &[0, 1, 2])
        };
        let narrow = |dtype, window, [b, t, h, d, s, kv]: [usize; 6]| {
            let mut operands = sample_operands([b, t, h, d, s, kv], false, DType::F32, false);
            operands[1].0.dtype = dtype;
            operands[2].0.dtype = dtype;
            operands.push((i32(&[b]), Fill::Positions));
            if dtype == DType::I8 {
                operands.extend([0, 1].map(|_| (f32(&[b, s, kv]), Fill::Normal)));
            }
            Sample::new(cached(window), operands, &[])
        };
        let bad_narrow = |dtype, [q_dtype, scale]: [DType; 2], n_scales| {
            let (q, k) = (typed(q_dtype, &[1, 2, 2, 4]), typed(dtype, &[1, 3, 2, 4]));
            let mut operands = vec![q, k.clone(), k, i32(&[1])];
            operands.extend((0..n_scales).map(|_| typed(scale, &[1, 3, 2])));
            BadSample::new(cached(None), operands, "attention::c9")
        };
        let with_dropout =
            |rate| Attention { dropout: Some(Dropout { rate, stream: 1 }), ..op(None) };
        let (q, k) = (f32(&[1, 2, 2, 4]), f32(&[1, 3, 2, 4]));
        let fine = [q.clone(), k.clone(), k.clone()];
        let odd_heads = [f32(&[1, 2, 3, 4]), k.clone(), k.clone()];
        let odd_width = [q.clone(), f32(&[1, 3, 2, 5]), f32(&[1, 3, 2, 5])];
        let random = |batch| {
            let u32s = |dims: &[i64]| TensorType::new(DType::U32, dims.iter().copied());
            [u32s(&[2]), u32s(&[]), u32s(&[batch])]
        };
        Samples {
            good: sample_cases()
                .map(good)
                .into_iter()
                .chain([
                    good_cached(None, [3, 1, 4, 6, 5, 2]),
                    good_cached(Some(2), [2, 1, 2, 4, 4, 2]),
                    good_cached(None, [2, 6, 2, 4, 9, 1]),
                    good_cached(Some(3), [3, 5, 2, 4, 8, 2]),
                    narrow(DType::Bf16, None, [3, 1, 4, 18, 20, 2]),
                    narrow(DType::Bf16, Some(3), [2, 6, 2, 4, 9, 1]),
                    narrow(DType::I8, None, [3, 1, 4, 18, 20, 2]),
                    narrow(DType::I8, Some(3), [2, 6, 2, 4, 9, 1]),
                    narrow(DType::I8, None, [2, 3, 5, 33, 40, 1]),
                ])
                .collect(),
            bad: vec![
                bad(op(None), odd_width, &[], "attention::c1"),
                bad(op(None), [q.clone(), k.clone(), f32(&[1, 4, 2, 4])], &[], "attention::c1"),
                bad(op(None), odd_heads, &[], "attention::c2"),
                bad(op(None), fine.clone(), &[i32(&[1, 2]), i32(&[1, 2])], "attention::c3"),
                bad(op(Some(0)), fine.clone(), &[], "attention::c4"),
                bad(op(None), fine.clone(), &[i32(&[1, 2])], "attention::arity"),
                bad(with_dropout(0.5), fine.clone(), &random(2), "attention::c6"),
                bad(with_dropout(1.0), fine.clone(), &random(1), "attention::c7"),
                bad(with_dropout(0.5), fine.clone(), &[], "attention::arity"),
                bad(cached(None), fine.clone(), &[], "attention::arity"),
                bad(cached(None), fine.clone(), &[i32(&[2])], "attention::c8"),
                bad_narrow(DType::F16, [DType::F32; 2], 0),
                bad_narrow(DType::I8, [DType::F32; 2], 0),
                bad_narrow(DType::Bf16, [DType::F32; 2], 2),
                bad_narrow(DType::I8, [DType::F32, DType::F16], 2),
                bad_narrow(DType::I8, [DType::Bf16, DType::F32], 2),
                bad(
                    Attention { causal: false, ..cached(None) },
                    fine,
                    &[i32(&[1])],
                    "attention::c8",
                ),
            ],
        }
    }
}

/// The op and ([B, T, H, D, S, K], whether there are segments, dtype).
type Case = (Attention, ([usize; 6], bool, DType));

/// What the samples of both passes try: grouped heads, caches, windows, segments, dropout, odd sizes.
pub(super) fn sample_cases() -> [Case; 11] {
    let f32 = DType::F32;
    let op =
        |causal, window, scale| Attention { causal, window, scale, dropout: None, cached: false };
    let drop =
        |op: Attention, rate| Attention { dropout: Some(Dropout { rate, stream: 77 }), ..op };
    [
        (op(true, None, None), ([2, 5, 4, 6, 5, 2], false, f32)),
        (op(false, None, None), ([1, 3, 2, 4, 7, 2], false, f32)),
        (op(true, Some(2), None), ([1, 6, 2, 4, 6, 1], false, f32)),
        (op(true, None, None), ([1, 2, 2, 4, 5, 1], false, f32)),
        (op(true, None, Some(0.3)), ([2, 6, 2, 4, 6, 2], true, f32)),
        (op(false, None, None), ([1, 6, 2, 4, 6, 1], true, f32)),
        (op(false, Some(3), None), ([1, 5, 1, 4, 5, 1], false, f32)),
        (op(true, None, None), ([1, 19, 1, 2, 19, 1], false, f32)),
        (op(true, None, None), ([1, 5, 2, 4, 5, 1], false, DType::Bf16)),
        (drop(op(true, None, None), 0.4), ([2, 7, 4, 3, 7, 2], true, f32)),
        (drop(op(false, None, None), 0.2), ([1, 3, 2, 4, 6, 1], false, f32)),
    ]
}

/// q, k, v, segments and random operands of a case.
pub(super) fn sample_operands(
    [b, t, h, d, s, kv]: [usize; 6],
    segments: bool,
    dtype: DType,
    is_dropped: bool,
) -> Vec<(TensorType, Fill)> {
    let q = (typed(dtype, &[b, t, h, d]), Fill::Normal);
    let k = (typed(dtype, &[b, s, kv, d]), Fill::Normal);
    let mut operands = vec![q, k.clone(), k];
    if segments {
        operands.push((i32(&[b, t]), Fill::Segments));
        operands.push((i32(&[b, s]), Fill::Segments));
    }
    if is_dropped {
        operands.push((typed(DType::U32, &[2]), Fill::Normal));
        operands.push((typed(DType::U32, &[]), Fill::Normal));
        operands.push((typed(DType::U32, &[b]), Fill::Positions));
    }
    operands
}
