/* The kernels of llmc for C.
 *
 * Matrices are row-major, vectors contiguous; results do not overlap operands. Functions that return int32_t return a
 * status: LLMC_OK, or what llmc_status_message says. The bits of a result depend on neither threads nor instruction
 * set; docs/numerics.md of llmc defines them. A context may be used by several threads. Link with the system's thread,
 * dynamic loading and mathematics libraries (-lpthread -ldl -lm on Linux).
 */
#ifndef LLMC_KERNELS_H
#define LLMC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LLMC_OK = 0,
    LLMC_POINTER = 1,
    LLMC_DIMENSION = 2,
    LLMC_INDEX = 3,
    LLMC_MEMORY = 4,
    LLMC_ISA = 5,
    LLMC_INTERNAL = 6
};

typedef struct llmc_context llmc_context;

/* What a status means, as text that lives for ever; any number has one. */
const char *llmc_status_message(int32_t status);

/* A context with so many threads (0: one per core) on an instruction set by name (`scalar`, `avx2`, `avx512`,
 * `neon`; null: the best), to be freed with `llmc_context_free`. */
int32_t llmc_context_new(size_t threads, const char *isa, llmc_context **out);

/* Ends the threads of a context and frees it; null does nothing. */
void llmc_context_free(llmc_context *context);

/* The threads of a context; 0 for null. */
size_t llmc_context_threads(const llmc_context *context);

/* C = A·B + bias, and + C if `accumulate` is not 0; products of operands rounded to bf16 in pairs of the
 * chain if `bf16` is not 0. A [m, k] and B [k, n] with distances between rows and columns in elements, C [m,
 * n], bias [n] or null. */
int32_t llmc_gemm(const llmc_context *context, size_t m, size_t n, size_t k, const float *a, size_t a_row,
    size_t a_col, const float *b, size_t b_row, size_t b_col, const float *bias, int32_t accumulate, int32_t
    bf16, float *c);

/* Panels of 16 that `outputs` rows take. */
size_t llmc_panels(size_t outputs);

/* The bf16 panels [panels, k, 16] of rows [outputs, k]. */
int32_t llmc_pack_bf16(size_t outputs, size_t k, const float *rows, uint16_t *panels);

/* y = x·Wᵀ + bias by bf16 panels: x [rows, k], y [rows, outputs], bias [outputs] or null. */
int32_t llmc_linear_bf16(const llmc_context *context, size_t rows, size_t k, size_t outputs, const float *x,
    const uint16_t *panels, const float *bias, float *y);

/* Panels [panels, k/4, 16, 4] of 8-bit integers and their f16 scales [panels, k/32, 16] of rows [outputs, k].
 * */
int32_t llmc_quantize_q8_0(size_t outputs, size_t k, const float *rows, int8_t *quants, uint16_t *scales);

/* Panels [panels, k/8, 16, 4] of two 4-bit integers and their f16 scales [panels, k/32, 16] of rows [outputs,
 * k]. */
int32_t llmc_quantize_q4_0(size_t outputs, size_t k, const float *rows, uint8_t *quants, uint16_t *scales);

/* y = x·Wᵀ + bias by what `llmc_quantize_q8_0` makes, x rounded to 8 bits per block of 32. */
int32_t llmc_linear_q8_0(const llmc_context *context, size_t rows, size_t k, size_t outputs, const float *x,
    const int8_t *quants, const uint16_t *scales, const float *bias, float *y);

/* y = x·Wᵀ + bias by what `llmc_quantize_q4_0` makes, x rounded to 8 bits per block of 32. */
int32_t llmc_linear_q4_0(const llmc_context *context, size_t rows, size_t k, size_t outputs, const float *x,
    const uint8_t *quants, const uint16_t *scales, const float *bias, float *y);

/* y = x / sqrt(mean(x²) + eps) · w by rows: x, y [rows, width], w [width]. */
int32_t llmc_rms_norm(const llmc_context *context, size_t rows, size_t width, const float *x, const float *w,
    float eps, float *y);

/* The layer norm by rows: x, y [rows, width], w [width], bias [width] or null. */
int32_t llmc_layer_norm(const llmc_context *context, size_t rows, size_t width, const float *x, const float
    *w, const float *bias, float eps, float *y);

/* Half-split rotary positions: x, y [tokens, heads, head_dim], frequencies [head_dim/2], positions [tokens].
 * */
int32_t llmc_rope(const llmc_context *context, size_t tokens, size_t heads, size_t head_dim, const float *x,
    const float *frequencies, const int32_t *positions, float *y);

/* Causal attention: q, o [batch, q_len, heads, head_dim], k, v [batch, kv_len, kv_heads, head_dim]; query i
 * sees key j if j ≤ i + (kv_len − q_len), and of those the last `window` if it is not 0. */
int32_t llmc_attention(const llmc_context *context, size_t batch, size_t heads, size_t kv_heads, size_t q_len,
    size_t kv_len, size_t head_dim, float scale, size_t window, const float *q, const float *key, const float
    *v, float *o);

/* The softmax of each row: x, y [rows, width]. */
int32_t llmc_softmax(const llmc_context *context, size_t rows, size_t width, const float *x, float *y);

/* An activation of n elements: 0 relu, 1 silu, 2 gelu, 3 gelu by tanh. */
int32_t llmc_activation(const llmc_context *context, int32_t kind, size_t n, const float *x, float *y);

/* y = silu(gate)·up, n elements each. */
int32_t llmc_swiglu(const llmc_context *context, size_t n, const float *gate, const float *up, float *y);

#ifdef __cplusplus
}
#endif

#endif
