/* Calls every kernel, prints the bits of each result, and compares some with plain double arithmetic. */
#include "llmc_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { M = 21, N = 37, K = 64, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 16, TOKENS = 19 };

static uint64_t seed = 1;

/* The same numbers as the test has: 24 bits each, in -1..1. */
static float next(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(seed >> 40) * 0x1p-23f - 1.0f;
}

static float *values(size_t n) {
    float *to = malloc(n * sizeof(float));
    for (size_t i = 0; i < n; i++) to[i] = next();
    return to;
}

static void check(int32_t status, const char *what) {
    if (status != LLMC_OK) {
        fprintf(stderr, "%s: %s\n", what, llmc_status_message(status));
        exit(1);
    }
}

static void expect(int32_t status, int32_t wanted, const char *what) {
    if (status != wanted) {
        fprintf(stderr, "%s: %d, expected %d\n", what, (int)status, (int)wanted);
        exit(1);
    }
}

static void near(double got, double wanted, const char *what) {
    if (!(fabs(got - wanted) <= 1e-5 * (1.0 + fabs(wanted)))) {
        fprintf(stderr, "%s: %g, expected %g\n", what, got, wanted);
        exit(1);
    }
}

static void print(const char *name, const float *y, size_t n) {
    printf("%s", name);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &y[i], sizeof bits);
        printf(" %08x", (unsigned)bits);
    }
    printf("\n");
}

int main(int argc, char **argv) {
    llmc_context *at = NULL;
    check(llmc_context_new((size_t)atoi(argv[1]), argc > 2 ? argv[2] : NULL, &at), "context");
    const float *x = values(M * K), *w = values(N * K), *bias = values(N);
    static float y[M * N], z[M * K];

    /* x by the transpose of w. */
    check(llmc_gemm(at, M, N, K, x, K, 1, w, 1, K, bias, 0, 0, y), "gemm");
    print("gemm", y, M * N);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double sum = bias[j];
            for (int k = 0; k < K; k++) sum += (double)x[i * K + k] * w[j * K + k];
            near(y[i * N + j], sum, "gemm");
        }
    check(llmc_gemm(at, M, N, K, x, K, 1, w, 1, K, NULL, 1, 1, y), "gemm bf16");
    print("gemm_bf16", y, M * N);

    size_t elements = llmc_panels(N) * K * 16;
    uint16_t *halves = malloc(elements * 2), *scales = malloc(elements / 32 * 2);
    int8_t *bytes = malloc(elements);
    uint8_t *nibbles = malloc(elements / 2);
    check(llmc_pack_bf16(N, K, w, halves), "pack");
    check(llmc_linear_bf16(at, M, K, N, x, halves, bias, y), "bf16");
    print("linear_bf16", y, M * N);
    check(llmc_quantize_q8_0(N, K, w, bytes, scales), "quantize q8_0");
    check(llmc_linear_q8_0(at, M, K, N, x, bytes, scales, bias, y), "q8_0");
    print("linear_q8_0", y, M * N);
    check(llmc_quantize_q4_0(N, K, w, nibbles, scales), "quantize q4_0");
    check(llmc_linear_q4_0(at, M, K, N, x, nibbles, scales, NULL, y), "q4_0");
    print("linear_q4_0", y, M * N);

    check(llmc_rms_norm(at, M, K, x, w, 1e-5f, z), "rms_norm");
    print("rms_norm", z, M * K);
    for (int i = 0; i < M; i++) {
        double sum = 0;
        for (int k = 0; k < K; k++) sum += (double)x[i * K + k] * x[i * K + k];
        near(z[i * K], x[i * K] / sqrt(sum / K + 1e-5) * w[0], "rms_norm");
    }
    check(llmc_layer_norm(at, M, K, x, w, w + K, 1e-5f, z), "layer_norm");
    print("layer_norm", z, M * K);
    check(llmc_softmax(at, M, K, x, z), "softmax");
    print("softmax", z, M * K);
    double sum = 0;
    for (int k = 0; k < K; k++) sum += z[k];
    near(sum, 1.0, "softmax");
    for (int32_t kind = 0; kind < 4; kind++) {
        check(llmc_activation(at, kind, M * K, x, z), "activation");
        print("activation", z, M * K);
    }
    check(llmc_swiglu(at, M * K, x, w, z), "swiglu");
    print("swiglu", z, M * K);

    const float *q = values(TOKENS * HEADS * HEAD_DIM);
    const float *key = values(TOKENS * KV_HEADS * HEAD_DIM), *v = values(TOKENS * KV_HEADS * HEAD_DIM);
    static float o[TOKENS * HEADS * HEAD_DIM];
    int32_t positions[TOKENS];
    float frequencies[HEAD_DIM / 2];
    for (int i = 0; i < TOKENS; i++) positions[i] = i;
    for (int i = 0; i < HEAD_DIM / 2; i++) frequencies[i] = 1.0f / (float)(1 << i);
    check(llmc_rope(at, TOKENS, HEADS, HEAD_DIM, q, frequencies, positions, o), "rope");
    print("rope", o, TOKENS * HEADS * HEAD_DIM);
    check(llmc_attention(at, 1, HEADS, KV_HEADS, TOKENS, TOKENS, HEAD_DIM, 0.25f, 7, q, key, v, o), "attention");
    print("attention", o, TOKENS * HEADS * HEAD_DIM);
    /* The first token sees itself alone. */
    near(o[0], v[0], "attention");

    expect(llmc_softmax(at, M, K, NULL, z), LLMC_POINTER, "null");
    expect(llmc_softmax(NULL, M, K, x, z), LLMC_POINTER, "no context");
    expect(llmc_softmax(at, 1, K, (const float *)((const char *)x + 1), z), LLMC_POINTER, "not aligned");
    expect(llmc_softmax(at, SIZE_MAX, 2, x, z), LLMC_DIMENSION, "too large");
    expect(llmc_rms_norm(at, 1, 0, x, w, 1e-5f, z), LLMC_DIMENSION, "no width");
    expect(llmc_attention(at, 1, 3, 2, 1, 1, 16, 1.0f, 0, q, key, v, o), LLMC_DIMENSION, "heads");
    expect(llmc_linear_q8_0(at, 1, 48, 1, x, bytes, scales, NULL, y), LLMC_DIMENSION, "no block");
    expect(llmc_activation(at, 9, 1, x, z), LLMC_INDEX, "kind");
    llmc_context *none = NULL;
    expect(llmc_context_new(1, "abacus", &none), LLMC_ISA, "isa");
    expect(llmc_context_new(1, NULL, NULL), LLMC_POINTER, "out");
    llmc_context_free(none);
    if (llmc_context_threads(at) < 1 || llmc_context_threads(NULL) != 0) return 1;
    if (strcmp(llmc_status_message(99), "not a status") != 0) return 1;
    llmc_context_free(at);
    return 0;
}
