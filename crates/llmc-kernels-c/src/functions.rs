//! The kernels, one function each. Matrices are row-major, vectors contiguous, results apart from operands.
//!
//! # Safety
//! For every function here: `context` is from `llmc_context_new` and not freed; every other pointer is null where the
//! header allows it or points to as many elements as the sizes say, results writable and touched by nobody else.

use crate::context::{Context, context};
use crate::status::{Status, guard, optional, product, slice, slice_mut};
use llmc_kernels as k;

/// C = A·B + bias, and + C if `accumulate` is not 0; products of operands rounded to bf16 in pairs of the chain if
/// `bf16` is not 0. A [m, k] and B [k, n] with distances between rows and columns in elements, C [m, n], bias \[n\] or null.
///
/// # Safety
/// As the module says.
#[allow(clippy::too_many_arguments)] // They are the operands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_gemm(
    context_: *const Context,
    m: usize,
    n: usize,
    k_: usize,
    a: *const f32,
    a_row: usize,
    a_col: usize,
    b: *const f32,
    b_row: usize,
    b_col: usize,
    bias: *const f32,
    accumulate: i32,
    bf16: i32,
    c: *mut f32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's; lengths reach to the last element of each matrix.
        let (a, b, bias, c, at) = unsafe {
            (
                slice(a, reach(m, a_row, k_, a_col)?)?,
                slice(b, reach(k_, b_row, n, b_col)?)?,
                optional(bias, n)?,
                slice_mut(c, product(&[m, n])?)?,
                context(context_)?,
            )
        };
        let precision = match bf16 {
            0 => k::Precision::F32,
            _ => k::Precision::Bf16 { group: k_.max(1) },
        };
        let problem = k::Gemm {
            m,
            n,
            k: k_,
            a: k::MatRef { data: a, row_stride: a_row, col_stride: a_col },
            b: k::MatRef { data: b, row_stride: b_row, col_stride: b_col },
            accumulate: accumulate != 0,
            bias,
            residual: None,
            precision,
        };
        let len = |threads| k::gemm_scratch_len(m, n, k_, precision, threads);
        at.run_with(len, |ctx, scratch| k::gemm(ctx, &problem, c, n, scratch))
    })
}

/// Elements from the first to the last of a strided matrix.
fn reach(rows: usize, row: usize, cols: usize, col: usize) -> Result<usize, Status> {
    if rows == 0 || cols == 0 {
        return Ok(0);
    }
    let down = product(&[rows - 1, row])?;
    let across = product(&[cols - 1, col])?;
    down.checked_add(across).and_then(|n| n.checked_add(1)).ok_or(Status::Dimension)
}

/// Panels of 16 that `outputs` rows take.
#[unsafe(no_mangle)]
pub extern "C" fn llmc_panels(outputs: usize) -> usize {
    k::panels(outputs)
}

/// The bf16 panels [panels, k, 16] of rows [outputs, k].
///
/// # Safety
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_pack_bf16(
    outputs: usize,
    k_: usize,
    rows: *const f32,
    panels: *mut u16,
) -> i32 {
    guard(|| {
        let len = product(&[k::panels(outputs), k_, k::PANEL])?;
        // SAFETY: the caller's.
        let (rows, to) =
            unsafe { (slice(rows, product(&[outputs, k_])?)?, slice_mut(panels, len)?) };
        Ok(k::pack_bf16(rows, k_, to)?)
    })
}

/// y = x·Wᵀ + bias by bf16 panels: x [rows, k], y [rows, outputs], bias \[outputs\] or null.
///
/// # Safety
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_linear_bf16(
    context_: *const Context,
    rows: usize,
    k_: usize,
    outputs: usize,
    x: *const f32,
    panels: *const u16,
    bias: *const f32,
    y: *mut f32,
) -> i32 {
    guard(|| {
        let len = product(&[k::panels(outputs), k_, k::PANEL])?;
        // SAFETY: the caller's.
        let (x, w, bias, y, at) = unsafe {
            (
                slice(x, product(&[rows, k_])?)?,
                slice(panels, len)?,
                optional(bias, outputs)?,
                slice_mut(y, product(&[rows, outputs])?)?,
                context(context_)?,
            )
        };
        at.run(|ctx| k::packed_linear(ctx, x, k_, k::Packed::Bf16(w), bias, outputs, y))
    })
}

/// Panels [panels, k/4, 16, 4] of 8-bit integers and their f16 scales [panels, k/32, 16] of rows [outputs, k].
///
/// # Safety
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_quantize_q8_0(
    outputs: usize,
    k_: usize,
    rows: *const f32,
    quants: *mut i8,
    scales: *mut u16,
) -> i32 {
    guard(|| {
        let len = product(&[k::panels(outputs), k_, k::PANEL])?;
        // SAFETY: the caller's.
        let (rows, q, s) = unsafe {
            (
                slice(rows, product(&[outputs, k_])?)?,
                slice_mut(quants, len)?,
                slice_mut(scales, len / k::BLOCK)?,
            )
        };
        Ok(k::quantize_i8(rows, k_, q, s)?)
    })
}

/// Panels [panels, k/8, 16, 4] of two 4-bit integers and their f16 scales [panels, k/32, 16] of rows [outputs, k].
///
/// # Safety
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_quantize_q4_0(
    outputs: usize,
    k_: usize,
    rows: *const f32,
    quants: *mut u8,
    scales: *mut u16,
) -> i32 {
    guard(|| {
        let len = product(&[k::panels(outputs), k_, k::PANEL])?;
        // SAFETY: the caller's.
        let (rows, q, s) = unsafe {
            (
                slice(rows, product(&[outputs, k_])?)?,
                slice_mut(quants, len / 2)?,
                slice_mut(scales, len / k::BLOCK)?,
            )
        };
        Ok(k::quantize_i4(rows, k_, q, s)?)
    })
}

/// y = x·Wᵀ + bias by what `llmc_quantize_q8_0` makes, x rounded to 8 bits per block of 32.
///
/// # Safety
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_linear_q8_0(
    context_: *const Context,
    rows: usize,
    k_: usize,
    outputs: usize,
    x: *const f32,
    quants: *const i8,
    scales: *const u16,
    bias: *const f32,
    y: *mut f32,
) -> i32 {
    guard(|| {
        let len = product(&[k::panels(outputs), k_, k::PANEL])?;
        // SAFETY: the caller's.
        let (q, s) = unsafe { (slice(quants, len)?, slice(scales, len / k::BLOCK)?) };
        // SAFETY: the caller's.
        unsafe { quantized(context_, [rows, k_, outputs], x, k::Quants::I8(q), s, bias, y) }
    })
}

/// y = x·Wᵀ + bias by what `llmc_quantize_q4_0` makes, x rounded to 8 bits per block of 32.
///
/// # Safety
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_linear_q4_0(
    context_: *const Context,
    rows: usize,
    k_: usize,
    outputs: usize,
    x: *const f32,
    quants: *const u8,
    scales: *const u16,
    bias: *const f32,
    y: *mut f32,
) -> i32 {
    guard(|| {
        let len = product(&[k::panels(outputs), k_, k::PANEL])?;
        // SAFETY: the caller's.
        let (q, s) = unsafe { (slice(quants, len / 2)?, slice(scales, len / k::BLOCK)?) };
        // SAFETY: the caller's.
        unsafe { quantized(context_, [rows, k_, outputs], x, k::Quants::I4(q), s, bias, y) }
    })
}

/// # Safety
/// As the module says.
unsafe fn quantized(
    context_: *const Context,
    [rows, k_, outputs]: [usize; 3],
    x: *const f32,
    quants: k::Quants<'_>,
    scales: &[u16],
    bias: *const f32,
    y: *mut f32,
) -> Result<(), Status> {
    // SAFETY: the caller's.
    let (x, bias, y, at) = unsafe {
        (
            slice(x, product(&[rows, k_])?)?,
            optional(bias, outputs)?,
            slice_mut(y, product(&[rows, outputs])?)?,
            context(context_)?,
        )
    };
    at.run_with(
        |_| k::quantized_scratch_len(rows, k_),
        |ctx, scratch| {
            let scales = k::Scales::F16(scales);
            k::quantized_linear(ctx, x, k_, quants, scales, bias, outputs, y, scratch)
        },
    )
}

/// y = x / sqrt(mean(x²) + eps) · w by rows: x, y [rows, width], w \[width\].
///
/// # Safety
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_rms_norm(
    context_: *const Context,
    rows: usize,
    width: usize,
    x: *const f32,
    w: *const f32,
    eps: f32,
    y: *mut f32,
) -> i32 {
    guard(|| {
        let len = product(&[rows, width])?;
        // SAFETY: the caller's.
        let (x, w, y, at) =
            unsafe { (slice(x, len)?, slice(w, width)?, slice_mut(y, len)?, context(context_)?) };
        at.run(|ctx| k::rms_norm(ctx, x, w, eps, y))
    })
}

/// The layer norm by rows: x, y [rows, width], w \[width\], bias \[width\] or null.
///
/// # Safety
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_layer_norm(
    context_: *const Context,
    rows: usize,
    width: usize,
    x: *const f32,
    w: *const f32,
    bias: *const f32,
    eps: f32,
    y: *mut f32,
) -> i32 {
    guard(|| {
        let len = product(&[rows, width])?;
        // SAFETY: the caller's.
        let (x, w, bias, y, at) = unsafe {
            (
                slice(x, len)?,
                slice(w, width)?,
                optional(bias, width)?,
                slice_mut(y, len)?,
                context(context_)?,
            )
        };
        at.run(|ctx| k::layer_norm(ctx, x, w, bias, eps, y))
    })
}

/// Half-split rotary positions: x, y [tokens, heads, head_dim], frequencies \[head_dim/2\], positions \[tokens\].
///
/// # Safety
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_rope(
    context_: *const Context,
    tokens: usize,
    heads: usize,
    head_dim: usize,
    x: *const f32,
    frequencies: *const f32,
    positions: *const i32,
    y: *mut f32,
) -> i32 {
    guard(|| {
        let len = product(&[tokens, heads, head_dim])?;
        // SAFETY: the caller's.
        let (x, f, p, y, at) = unsafe {
            (
                slice(x, len)?,
                slice(frequencies, head_dim / 2)?,
                slice(positions, tokens)?,
                slice_mut(y, len)?,
                context(context_)?,
            )
        };
        at.run(|ctx| k::rope(ctx, x, heads, f, p, y))
    })
}

/// Causal attention: q, o [batch, q_len, heads, head_dim], k, v [batch, kv_len, kv_heads, head_dim]; query i sees key j if
/// j ≤ i + (kv_len − q_len), and of those the last `window` if it is not 0.
///
/// # Safety
/// As the module says.
#[allow(clippy::too_many_arguments)] // They are the operands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_attention(
    context_: *const Context,
    batch: usize,
    heads: usize,
    kv_heads: usize,
    q_len: usize,
    kv_len: usize,
    head_dim: usize,
    scale: f32,
    window: usize,
    q: *const f32,
    key: *const f32,
    v: *const f32,
    o: *mut f32,
) -> i32 {
    guard(|| {
        let (len, kv) = (
            product(&[batch, q_len, heads, head_dim])?,
            product(&[batch, kv_len, kv_heads, head_dim])?,
        );
        // SAFETY: the caller's.
        let (q, key, v, o, at) = unsafe {
            (slice(q, len)?, slice(key, kv)?, slice(v, kv)?, slice_mut(o, len)?, context(context_)?)
        };
        let shape = k::Attention {
            batch,
            n_heads: heads,
            n_kv_heads: kv_heads,
            q_len,
            kv_len,
            kv_capacity: kv_len,
            head_dim,
            scale,
            causal: true,
            window: (window > 0).then_some(window),
        };
        // Sizes that the kernel refuses ask for no scratch.
        let is_whole = kv_heads > 0 && head_dim > 0 && heads.is_multiple_of(kv_heads);
        let len = |threads| match is_whole {
            true => k::attention_scratch_len(&shape, false, threads),
            false => 0,
        };
        at.run_with(len, |ctx, scratch| {
            k::attention(ctx, &shape, q, key, v, None, None, o, scratch)
        })
    })
}

/// The softmax of each row: x, y [rows, width].
///
/// # Safety
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_softmax(
    context_: *const Context,
    rows: usize,
    width: usize,
    x: *const f32,
    y: *mut f32,
) -> i32 {
    guard(|| {
        let len = product(&[rows, width])?;
        // SAFETY: the caller's.
        let (x, y, at) = unsafe { (slice(x, len)?, slice_mut(y, len)?, context(context_)?) };
        at.run(|ctx| k::softmax(ctx, x, width, y))
    })
}

/// An activation of n elements: 0 relu, 1 silu, 2 gelu, 3 gelu by tanh.
///
/// # Safety
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_activation(
    context_: *const Context,
    kind: i32,
    n: usize,
    x: *const f32,
    y: *mut f32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's.
        let (x, y, at) = unsafe { (slice(x, n)?, slice_mut(y, n)?, context(context_)?) };
        match kind {
            0 => at.run(|ctx| k::relu(ctx, x, y)),
            1 => at.run(|ctx| k::silu(ctx, x, y)),
            2 => at.run(|ctx| k::gelu(ctx, x, y)),
            3 => at.run(|ctx| k::gelu_tanh(ctx, x, y)),
            _ => Err(Status::Index),
        }
    })
}

/// y = silu(gate)·up, n elements each.
///
/// # Safety
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llmc_swiglu(
    context_: *const Context,
    n: usize,
    gate: *const f32,
    up: *const f32,
    y: *mut f32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's.
        let (g, u, y, at) =
            unsafe { (slice(gate, n)?, slice(up, n)?, slice_mut(y, n)?, context(context_)?) };
        at.run(|ctx| k::swiglu(ctx, g, u, y))
    })
}
