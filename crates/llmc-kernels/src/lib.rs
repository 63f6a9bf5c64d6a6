//! The CPU kernels of llmc: hand-tuned, `no_std`, panic-free on valid arguments,
//! and the same bits on every machine.
//!
//! `docs/numerics.md` defines every result, element by element. Instruction set,
//! number of threads, tile sizes and the cut of a batch into micro-batches change
//! nothing, and the tests compare each kernel on every instruction set with a
//! plain transcription of its line there. This crate knows shapes and slices, not
//! graphs; threads come from the caller through [`Parallel`], memory too.
//!
//! ```
//! use llmc_kernels::{Ctx, Gemm, MatRef, Precision, Serial, gemm, gemm_scratch_len};
//!
//! // y = x·Wᵀ with x [2, 3] and W [4, 3].
//! let (x, w) = ([1.0; 6], [0.5; 12]);
//! let ctx = Ctx::detect(&Serial);
//! let mut y = [0.0; 8];
//! let mut scratch = vec![0.0; gemm_scratch_len(2, 4, 3, Precision::F32, ctx.threads())];
//! let problem = Gemm {
//!     m: 2,
//!     n: 4,
//!     k: 3,
//!     a: MatRef::row_major(&x, 3),
//!     b: MatRef::row_major(&w, 3).transposed(),
//!     accumulate: false,
//!     bias: None,
//!     residual: None,
//!     precision: Precision::F32,
//! };
//! gemm(&ctx, &problem, &mut y, 4, &mut scratch)?;
//! assert_eq!(y, [1.5; 8]);
//! # Ok::<(), llmc_kernels::Error>(())
//! ```
//!
//! | what | kernels |
//! |---|---|
//! | matrix product | [`gemm`]: `x·Wᵀ`, `dy·W`, `dyᵀ·x` accumulating; bias and residual fused |
//! | narrow weights | [`packed_linear`], [`quantized_linear`] and their embeddings, [`group_quantized_linear`]: panels of f32, bf16, f16, 8 and 4 bits |
//! | attention | [`attention`], [`attention_backward`]: grouped heads, causal, window, segments; [`cached_attention`]: over a cache in f32, bf16 or 8 bits |
//! | narrow cache | [`to_bf16`], [`quantize_rows`] |
//! | normalisation | [`rms_norm`], [`layer_norm`] and their `_backward` |
//! | activation | [`silu`], [`swiglu`], [`gelu`], [`gelu_tanh`], [`relu`] and their `_backward` |
//! | position | [`rope`], [`rope_backward`] |
//! | softmax and loss | [`softmax`], [`cross_entropy`], [`cross_entropy_backward`], [`linear_cross_entropy`] with its gradient |
//! | embedding | [`embedding`], [`embedding_grad`] |
//! | arithmetic | [`add`], [`sub`], [`mul`], [`scale`], [`add_assign`], [`fill`] |
//! | sums | [`sum_rows`] (lanes), [`sum_chain`], [`bias_grad`] (chain per column), [`sum_squares`] |
//! | dropout | [`dropout`] |
//! | optimiser | [`adamw_step`], [`sgd_step`], [`lion_step`] |
//!
//! # How a kernel is built
//!
//! Its public function checks the shapes, cuts the output into parts that belong
//! to one task each (`DisjointMut` carries them), and runs a `Kernel` on each part
//! by `dispatch`. The `Kernel` is one text over `Simd`, sixteen lanes whatever the
//! machine, and becomes AVX-512, AVX2, NEON or scalar code there. To add one:
//!
//! 1. Write its line in `docs/numerics.md`: every rounding, every order.
//! 2. Write a struct with the part's slices, `impl Kernel` with an
//!    `#[inline(always)] fn run<V: Simd>`, and the public function. Loops go
//!    `V::at(row, i, fill)` … `put(row, i)` in steps of 16, which handles the rest of
//!    a row. No closures around vector code: a closure is a function of its own
//!    and may miss the instruction set.
//! 3. Add the transcription of the line to the tests with `everywhere`, which runs
//!    all instruction sets and 1, 2, 3 and 8 threads.

#![no_std]

#[cfg(test)]
extern crate std;

mod attention;
mod disjoint;
mod dropout;
mod elementwise;
mod embedding;
mod error;
mod float_env;
mod gemm;
mod head;
mod isa;
mod norm;
mod optimizer;
mod parallel;
mod quant;
mod reduce;
mod rope;
mod simd;
mod softmax;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use attention::{
    Attention, Cells, Segments, attention, attention_backward, attention_backward_scratch_len,
    attention_scratch_len, cached_attention, cached_attention_scratch_len, is_decoding_attention,
};
pub use dropout::{Dropout, dropout};
pub use elementwise::{
    add, add_assign, fill, gelu, gelu_backward, gelu_tanh, gelu_tanh_backward, mul, relu,
    relu_backward, scale, silu, silu_backward, sub, swiglu, swiglu_backward,
};
pub use embedding::{embedding, embedding_grad};
pub use error::Error;
pub use gemm::{Blocking, Gemm, GemmPath, MatRef, Precision, gemm, gemm_path, gemm_scratch_len};
pub use head::{Head, HeadGrad, head_scratch_len, linear_cross_entropy};
pub use isa::Isa;
pub use norm::{layer_norm, layer_norm_backward, norm_scratch_len, rms_norm, rms_norm_backward};
pub use optimizer::{AdamW, Lion, Sgd, adamw_step, lion_step, sgd_step};
pub use parallel::{Ctx, Parallel, Serial};
pub use quant::{
    BLOCK, GroupScales, PANEL, Packed, Quants, SUPER_BLOCK, Scales, bf16_from_f32, f16_from_f32,
    f32_from_f16, group_quantized_linear, group_weights, pack_bf16, pack_f32, packed_embedding,
    packed_linear, panels, quantize_groups, quantize_i4, quantize_i8, quantize_q4_k, quantize_rows,
    quantized_embedding, quantized_linear, quantized_scratch_len, to_bf16,
};
pub use reduce::{bias_grad, sum_chain, sum_rows, sum_squares};
pub use rope::{rope, rope_backward};
pub use softmax::{IGNORE_INDEX, cross_entropy, cross_entropy_backward, softmax};
