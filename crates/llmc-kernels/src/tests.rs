//! Every kernel but the matrix product and attention against its line of
//! `docs/numerics.md`, written out per element with scalar functions.

use std::format;
use std::vec;
use std::vec::Vec;

use llmc_base::math::{self, sum_lanes};

use crate::testing::{Values, WIDTHS, assert_bits, everywhere};
use crate::*;

/// Inputs of one length: moderate values, wild ones, non-finite ones.
fn inputs(len: usize, seed: u64) -> [Vec<f32>; 3] {
    let mut values = Values::new(seed);
    let mut odd = values.units(len);
    for x in odd.iter_mut().step_by(7) {
        *x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e38, -1e30]
            [values.word() as usize % 6];
    }
    let moderate = values.units(len).iter().map(|x| x * 6.0).collect();
    [moderate, values.wild(len), odd]
}

type Unary = fn(&Ctx<'_>, &[f32], &mut [f32]) -> Result<(), Error>;
type Binary = fn(&Ctx<'_>, &[f32], &[f32], &mut [f32]) -> Result<(), Error>;

fn check_unary(name: &str, kernel: Unary, want: fn(f32) -> f32) {
    for len in WIDTHS.into_iter().chain([0, 20_000]) {
        for x in inputs(len, len as u64) {
            let want: Vec<f32> = x.iter().map(|&x| want(x)).collect();
            everywhere(|ctx| {
                let mut y = vec![f32::NAN; len];
                kernel(ctx, &x, &mut y).unwrap();
                assert_bits(name, ctx, &y, &want);
            });
        }
    }
}

fn check_binary(name: &str, kernel: Binary, want: fn(f32, f32) -> f32) {
    for len in WIDTHS.into_iter().chain([0, 20_000]) {
        let (left, right) = (inputs(len, 1), inputs(len, 2));
        for (a, b) in left.iter().zip(&right) {
            let want: Vec<f32> = a.iter().zip(b).map(|(&a, &b)| want(a, b)).collect();
            everywhere(|ctx| {
                let mut y = vec![f32::NAN; len];
                kernel(ctx, a, b, &mut y).unwrap();
                assert_bits(name, ctx, &y, &want);
            });
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    math::recip(1.0 + math::exp(-x))
}

fn gelu_tanh_t(x: f32) -> f32 {
    math::tanh(0.797_884_6 * (x + 0.044_715 * ((x * x) * x)))
}

#[test]
fn arithmetic() {
    check_binary("add", add, |a, b| a + b);
    check_binary("sub", sub, |a, b| a - b);
    check_binary("mul", mul, |a, b| a * b);
    check_unary("scale", |ctx, x, y| scale(ctx, x, 0.3, y), |x| x * 0.3);
    check_unary(
        "fill",
        |ctx, _, y| {
            fill(ctx, -1.5, y);
            Ok(())
        },
        |_| -1.5,
    );
    check_binary(
        "add_assign",
        |ctx, a, b, y| {
            y.copy_from_slice(a);
            add_assign(ctx, y, b)
        },
        |a, b| a + b,
    );
}

#[test]
fn activations() {
    check_unary("silu", silu, |x| x * sigmoid(x));
    check_unary("relu", relu, |x| math::max(x, 0.0));
    check_unary("gelu", gelu, |x| {
        (0.5 * x) * (1.0 + math::erf(x * core::f32::consts::FRAC_1_SQRT_2))
    });
    check_unary("gelu_tanh", gelu_tanh, |x| (0.5 * x) * (1.0 + gelu_tanh_t(x)));
    check_binary("swiglu", swiglu, |g, u| (g * sigmoid(g)) * u);
}

#[test]
fn activation_gradients() {
    check_binary("silu_backward", silu_backward, |x, dy| {
        let s = sigmoid(x);
        dy * (s * (1.0 + x * (1.0 - s)))
    });
    check_binary("relu_backward", relu_backward, |x, dy| if x > 0.0 { dy } else { 0.0 });
    check_binary("gelu_backward", gelu_backward, |x, dy| {
        let cdf = 0.5 * (1.0 + math::erf(x * core::f32::consts::FRAC_1_SQRT_2));
        let pdf = 0.398_942_3 * math::exp(-0.5 * (x * x));
        dy * (cdf + x * pdf)
    });
    check_binary("gelu_tanh_backward", gelu_tanh_backward, |x, dy| {
        let t = gelu_tanh_t(x);
        let i = 0.797_884_6 * (1.0 + 0.134_145 * (x * x));
        dy * (0.5 * (1.0 + t) + ((0.5 * x) * (1.0 - t * t)) * i)
    });
}

#[test]
fn swiglu_gradients() {
    for len in WIDTHS.into_iter().chain([0, 20_000]) {
        for ((g, u), dy) in inputs(len, 1).iter().zip(&inputs(len, 2)).zip(&inputs(len, 3)) {
            let (mut want_dg, mut want_du) = (vec![], vec![]);
            for ((&g, &u), &dy) in g.iter().zip(u).zip(dy) {
                let s = sigmoid(g);
                let a = g * s;
                want_du.push(dy * a);
                want_dg.push((dy * u) * (s * (1.0 + g * (1.0 - s))));
            }
            everywhere(|ctx| {
                let (mut dg, mut du) = (vec![0.0; len], vec![0.0; len]);
                swiglu_backward(ctx, g, u, dy, &mut dg, &mut du).unwrap();
                assert_bits("dg", ctx, &dg, &want_dg);
                assert_bits("du", ctx, &du, &want_du);
            });
        }
    }
}

/// The mean and factor of a row.
fn moments(x: &[f32], eps: f32, centred: bool) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = if centred { sum_lanes(x.iter().copied()) / width } else { 0.0 };
    let c = |x: f32| if centred { x - mean } else { x };
    let ms = sum_lanes(x.iter().map(|&x| c(x) * c(x))) / width;
    (mean, math::rsqrt(ms + eps))
}

#[test]
fn norms() {
    for width in WIDTHS {
        for rows in [0, 1, 5, 70] {
            let mut values = Values::new(width as u64);
            let (w, b) = (values.units(width), values.units(width));
            for x in inputs(rows * width, 4) {
                let norm = |centred: bool, b: Option<&[f32]>| -> Vec<f32> {
                    let mut y = vec![];
                    for x in x.chunks(width) {
                        let (mean, r) = moments(x, 1e-5, centred);
                        for (e, &x) in x.iter().enumerate() {
                            let c = if centred { x - mean } else { x };
                            let value = (c * r) * w[e];
                            y.push(b.map_or(value, |b| value + b[e]));
                        }
                    }
                    y
                };
                let (rms, layer, biased) =
                    (norm(false, None), norm(true, None), norm(true, Some(&b)));
                everywhere(|ctx| {
                    let mut y = vec![0.0; x.len()];
                    rms_norm(ctx, &x, &w, 1e-5, &mut y).unwrap();
                    assert_bits("rms_norm", ctx, &y, &rms);
                    layer_norm(ctx, &x, &w, None, 1e-5, &mut y).unwrap();
                    assert_bits("layer_norm", ctx, &y, &layer);
                    layer_norm(ctx, &x, &w, Some(&b), 1e-5, &mut y).unwrap();
                    assert_bits("layer_norm with bias", ctx, &y, &biased);
                });
            }
        }
    }
}

#[test]
fn norm_gradients() {
    for width in WIDTHS {
        for rows in [0, 1, 5, 70] {
            let mut values = Values::new(width as u64);
            let (w, acc) = (values.units(width), values.units(width));
            for (x, dy) in inputs(rows * width, 4).iter().zip(&inputs(rows * width, 5)) {
                for centred in [false, true] {
                    let (mut want_dx, mut want_dw) = (vec![], acc.clone());
                    for (x, dy) in x.chunks(width).zip(dy.chunks(width)) {
                        let (mean, r) = moments(x, 1e-6, centred);
                        let xh: Vec<f32> = x
                            .iter()
                            .map(|&x| if centred { (x - mean) * r } else { x * r })
                            .collect();
                        let g: Vec<f32> = dy.iter().zip(&w).map(|(dy, w)| dy * w).collect();
                        let m1 = sum_lanes(g.iter().copied()) / width as f32;
                        let products = g.iter().zip(&xh).map(|(g, xh)| g * xh);
                        let m2 = sum_lanes(products) / width as f32;
                        for e in 0..width {
                            want_dx.push(if centred {
                                r * ((g[e] - m1) - xh[e] * m2)
                            } else {
                                r * (g[e] - xh[e] * m2)
                            });
                            want_dw[e] += dy[e] * xh[e];
                        }
                    }
                    let kernel = if centred { layer_norm_backward } else { rms_norm_backward };
                    everywhere(|ctx| {
                        let (mut dx, mut dw) = (vec![0.0; x.len()], acc.clone());
                        let mut scratch = vec![0.0; norm_scratch_len(rows)];
                        kernel(ctx, x, &w, dy, 1e-6, &mut dx, &mut dw, &mut scratch).unwrap();
                        assert_bits("dx", ctx, &dx, &want_dx);
                        assert_bits("dw", ctx, &dw, &want_dw);
                    });
                }
            }
        }
    }
}

#[test]
fn sums() {
    for width in WIDTHS {
        for rows in [0, 1, 5, 200] {
            for x in inputs(rows * width, 6) {
                let want_rows: Vec<f32> =
                    x.chunks(width).map(|x| sum_lanes(x.iter().copied())).collect();
                let mut want_columns = Values::new(7).units(width);
                let init = want_columns.clone();
                for x in x.chunks(width) {
                    for (acc, x) in want_columns.iter_mut().zip(x) {
                        *acc += x;
                    }
                }
                let mut chain = 0.5;
                x.iter().for_each(|x| chain += x);
                assert_eq!(sum_chain(0.5, &x).to_bits() | 1 << 31, chain.to_bits() | 1 << 31);
                everywhere(|ctx| {
                    let mut y = vec![0.0; rows];
                    sum_rows(ctx, &x, width, &mut y).unwrap();
                    assert_bits("sum_rows", ctx, &y, &want_rows);
                    let mut acc = init.clone();
                    bias_grad(ctx, &mut acc, &x).unwrap();
                    assert_bits("bias_grad", ctx, &acc, &want_columns);
                });
            }
        }
    }
}

#[test]
fn squares_of_the_gradient_norm() {
    for len in [0, 1, 17, 4095, 4096, 4097, 20_000, 513 * 4096 + 5] {
        let x = Values::new(len as u64).units(len);
        let want = math::sum_squares(0.25, &x);
        everywhere(|ctx| {
            assert_eq!(sum_squares(ctx, 0.25, &x).to_bits(), want.to_bits());
        });
    }
}

#[test]
fn rotary_embedding() {
    for half in [1, 4, 15, 16, 17, 32, 40] {
        let (tokens, heads) = (37, 3);
        let mut values = Values::new(half as u64);
        let inv_freq: Vec<f32> =
            (0..half).map(|i| 10_000f64.powf(-(i as f64) / half as f64) as f32).collect();
        let mut positions = values.ids(tokens, 4096);
        positions[0] = 0;
        positions[1] = 1_048_575;
        positions[2] = 3_000_000;
        let x = values.wild(tokens * heads * 2 * half);
        let turn = |sign: f32| {
            let mut y = x.clone();
            for (t, token) in y.chunks_mut(heads * 2 * half).enumerate() {
                for head in token.chunks_mut(2 * half) {
                    for i in 0..half {
                        let a = positions[t] as f32 * inv_freq[i];
                        let (s, c) = (sign * math::sin(a), math::cos(a));
                        let (x1, x2) = (head[i], head[i + half]);
                        head[i] = x1 * c - x2 * s;
                        head[i + half] = x2 * c + x1 * s;
                    }
                }
            }
            y
        };
        let (forward, backward) = (turn(1.0), turn(-1.0));
        everywhere(|ctx| {
            let mut y = vec![0.0; x.len()];
            rope(ctx, &x, heads, &inv_freq, &positions, &mut y).unwrap();
            assert_bits("rope", ctx, &y, &forward);
            rope_backward(ctx, &x, heads, &inv_freq, &positions, &mut y).unwrap();
            assert_bits("rope_backward", ctx, &y, &backward);
        });
    }
}

/// `e`, and the reciprocal of its sum.
fn exponentials(x: &[f32]) -> (f32, Vec<f32>, f32) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, math::max);
    let e: Vec<f32> = x.iter().map(|x| math::exp(x - max)).collect();
    let sum = sum_lanes(e.iter().copied());
    (max, e, sum)
}

#[test]
fn an_ignored_target_has_no_loss_and_no_gradient_whatever_its_logits() {
    let x = [0.5, -1.0, 2.0, f32::NAN, f32::INFINITY, 1.0, 0.0, 3.0, 1.5];
    let (targets, ones) = ([2, IGNORE_INDEX, 0], [1.0; 3]);
    everywhere(|ctx| {
        let (mut loss, mut alone) = ([9.0; 3], [0.0; 1]);
        cross_entropy(ctx, &x, &targets, &ones, &mut loss).unwrap();
        cross_entropy(ctx, &x[6..], &[0], &[1.0], &mut alone).unwrap();
        assert_eq!((loss[1].to_bits(), loss[2]), (0, alone[0]));
        assert!(loss[0] > 0.0);
        let mut dx = [9.0; 9];
        cross_entropy_backward(ctx, &x, &targets, &ones, &mut dx).unwrap();
        assert!(dx[3..6].iter().all(|d| d.to_bits() == 0), "{dx:?}");
        assert!(dx[..3].iter().chain(&dx[6..]).all(|d| d.is_finite() && *d != 0.0), "{dx:?}");
    });
    let ctx = Ctx::detect(&Serial);
    let refused = cross_entropy(&ctx, &x, &[0, -99, 1], &ones, &mut [0.0; 3]);
    assert!(matches!(refused, Err(Error::Index { value: -99, bound: 3, .. })));
}

#[test]
fn softmax_and_cross_entropy() {
    for width in WIDTHS {
        for rows in [1, 5, 40] {
            let mut values = Values::new(width as u64);
            let targets = values.ids(rows, width);
            let (mut weights, dloss) = (values.units(rows), values.units(rows));
            weights[0] = 0.0;
            for x in inputs(rows * width, 8) {
                let (mut want_p, mut want_loss, mut want_dx) = (vec![], vec![], vec![]);
                for (row, x) in x.chunks(width).enumerate() {
                    let (max, e, sum) = exponentials(x);
                    let factor = math::recip(sum);
                    let target = targets[row] as usize;
                    want_loss.push(((max - x[target]) + math::log(sum)) * weights[row]);
                    for (i, e) in e.iter().enumerate() {
                        let p = e * factor;
                        want_p.push(p);
                        let onehot = if i == target { 1.0 } else { 0.0 };
                        want_dx.push((p - onehot) * dloss[row]);
                    }
                }
                everywhere(|ctx| {
                    let mut y = vec![0.0; x.len()];
                    softmax(ctx, &x, width, &mut y).unwrap();
                    assert_bits("softmax", ctx, &y, &want_p);
                    let mut loss = vec![0.0; rows];
                    cross_entropy(ctx, &x, &targets, &weights, &mut loss).unwrap();
                    assert_bits("cross_entropy", ctx, &loss, &want_loss);
                    cross_entropy_backward(ctx, &x, &targets, &dloss, &mut y).unwrap();
                    assert_bits("cross_entropy_backward", ctx, &y, &want_dx);
                });
            }
        }
    }
}

#[test]
fn embedding_and_its_gradient() {
    for width in WIDTHS {
        let (vocab, tokens) = (11, 300);
        let mut values = Values::new(width as u64);
        let ids = values.ids(tokens, vocab);
        let (w, dy) = (values.wild(vocab * width), values.wild(tokens * width));
        let (mut want_y, mut want_acc) = (vec![], w.clone());
        for (&id, dy) in ids.iter().zip(dy.chunks(width)) {
            let row = id as usize * width;
            want_y.extend_from_slice(&w[row..row + width]);
            for (acc, dy) in want_acc[row..row + width].iter_mut().zip(dy) {
                *acc += dy;
            }
        }
        everywhere(|ctx| {
            let mut y = vec![0.0; tokens * width];
            embedding(ctx, &w, width, &ids, &mut y).unwrap();
            assert_bits("embedding", ctx, &y, &want_y);
            let mut acc = w.clone();
            embedding_grad(ctx, &mut acc, width, &ids, &dy).unwrap();
            assert_bits("embedding_grad", ctx, &acc, &want_acc);
        });
    }
}

#[test]
fn optimizers() {
    let adamw = AdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        bias_correction1: 0.19,
        bias_correction2: 0.0975,
        grad_scale: 0.7,
    };
    let sgd = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01, grad_scale: 1.0 };
    let lion = Lion { lr: 1e-3, beta1: 0.9, beta2: 0.99, weight_decay: 0.3, grad_scale: 0.7 };
    for len in WIDTHS.into_iter().chain([0, 20_000]) {
        let mut values = Values::new(len as u64);
        let (p, g, m) = (values.wild(len), values.wild(len), values.wild(len));
        let v: Vec<f32> = values.wild(len).iter().map(|v| v.abs()).collect();
        let (mut want, mut want_sgd) = ([vec![], vec![], vec![]], [vec![], vec![]]);
        let mut want_lion = [vec![], vec![]];
        for i in 0..len {
            let h = adamw;
            let scaled = g[i] * h.grad_scale;
            let m1 = m[i] * h.beta1 + scaled * (1.0 - h.beta1);
            let v1 = v[i] * h.beta2 + (scaled * scaled) * (1.0 - h.beta2);
            let root = (v1 / h.bias_correction2).sqrt() + h.eps;
            let update = h.lr * ((m1 / h.bias_correction1) / root);
            want[0].push((p[i] - p[i] * (h.lr * h.weight_decay)) - update);
            want[1].push(m1);
            want[2].push(v1);
            let m1 = m[i] * sgd.momentum + (g[i] + p[i] * sgd.weight_decay);
            want_sgd[0].push(p[i] - sgd.lr * m1);
            want_sgd[1].push(m1);
            let h = lion;
            let scaled = g[i] * h.grad_scale;
            let c = m[i] * h.beta1 + scaled * (1.0 - h.beta1);
            let sign = if c > 0.0 {
                1.0
            } else if c < 0.0 {
                -1.0
            } else {
                0.0
            };
            want_lion[0].push((p[i] - p[i] * (h.lr * h.weight_decay)) - h.lr * sign);
            want_lion[1].push(m[i] * h.beta2 + scaled * (1.0 - h.beta2));
        }
        everywhere(|ctx| {
            let (mut p1, mut m1, mut v1) = (p.clone(), m.clone(), v.clone());
            adamw_step(ctx, &adamw, &mut p1, &g, &mut m1, &mut v1).unwrap();
            assert_bits("adamw p", ctx, &p1, &want[0]);
            assert_bits("adamw m", ctx, &m1, &want[1]);
            assert_bits("adamw v", ctx, &v1, &want[2]);
            let (mut p1, mut m1) = (p.clone(), m.clone());
            sgd_step(ctx, &sgd, &mut p1, &g, &mut m1).unwrap();
            assert_bits("sgd p", ctx, &p1, &want_sgd[0]);
            assert_bits("sgd m", ctx, &m1, &want_sgd[1]);
            let (mut p1, mut m1) = (p.clone(), m.clone());
            lion_step(ctx, &lion, &mut p1, &g, &mut m1).unwrap();
            assert_bits("lion p", ctx, &p1, &want_lion[0]);
            assert_bits("lion m", ctx, &m1, &want_lion[1]);
        });
    }
}

#[test]
fn dropout_is_a_function_of_the_counter() {
    for sample_len in [1, 15, 16, 37, 1000] {
        let samples: Vec<u32> = (100..107).collect();
        let cfg = Dropout { rate: 0.3, key: 0x0123_4567_89ab_cdef, step: 5, samples: &samples };
        let x = Values::new(1).wild(7 * sample_len);
        let want: Vec<f32> = x
            .iter()
            .enumerate()
            .map(|(i, &x)| {
                let (sample, element) = (i / sample_len, i % sample_len);
                let word = math::philox_element(cfg.key, 5, 100 + sample as u32, element as u64);
                if word >= 1_288_490_240 { x * (1.0 / (1.0 - 0.3)) } else { 0.0 }
            })
            .collect();
        everywhere(|ctx| {
            let mut y = vec![0.0; x.len()];
            dropout(ctx, &cfg, &x, &mut y).unwrap();
            assert_bits(&format!("dropout {sample_len}"), ctx, &y, &want);
            // Two samples later, the same bits.
            let later = Dropout { samples: &samples[2..], ..cfg };
            let mut part = vec![0.0; x.len() - 2 * sample_len];
            dropout(ctx, &later, &x[2 * sample_len..], &mut part).unwrap();
            assert_bits("split", ctx, &part, &y[2 * sample_len..]);
        });
    }
}

/// FNV-1a over the bits.
fn hash(hash: &mut u64, values: &[f32]) {
    for byte in values.iter().flat_map(|x| x.to_bits().to_le_bytes()) {
        *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

/// A layer forward and backward and an optimiser step, hashed.
fn layer(ctx: &Ctx<'_>) -> u64 {
    let (tokens, heads, kv_heads, dim, wide, vocab) = (70, 4, 2, 24, 60, 50);
    let width = heads * dim;
    let mut values = Values::new(2026);
    let mut total = 0xcbf2_9ce4_8422_2325;
    let linear = |x: &[f32], w: &[f32], n: usize| {
        let k = w.len() / n;
        let mut y = vec![0.0; tokens * n];
        let mut scratch = vec![0.0; gemm_scratch_len(tokens, n, k, Precision::F32, ctx.threads())];
        let problem = Gemm {
            m: tokens,
            n,
            k,
            a: MatRef::row_major(x, k),
            b: MatRef::row_major(w, k).transposed(),
            accumulate: false,
            bias: None,
            residual: None,
            precision: Precision::F32,
        };
        gemm(ctx, &problem, &mut y, n, &mut scratch).unwrap();
        y
    };
    let ids = values.ids(tokens, vocab);
    let (table, w) = (values.units(vocab * width), values.units(width));
    let mut x = vec![0.0; tokens * width];
    embedding(ctx, &table, width, &ids, &mut x).unwrap();
    let mut normed = x.clone();
    rms_norm(ctx, &x, &w, 1e-5, &mut normed).unwrap();
    hash(&mut total, &normed);

    let inv_freq: Vec<f32> = (0..dim / 2).map(|i| 0.5f32.powi(i as i32)).collect();
    let positions: Vec<i32> = (0..tokens as i32).collect();
    let project = |values: &mut Values, heads: usize| {
        let w = values.units(heads * dim * width);
        let y = linear(&normed, &w, heads * dim);
        let mut turned = y.clone();
        rope(ctx, &y, heads, &inv_freq, &positions, &mut turned).unwrap();
        turned
    };
    let q = project(&mut values, heads);
    let (k, v) = (project(&mut values, kv_heads), project(&mut values, kv_heads));
    let shape = Attention {
        batch: 1,
        n_heads: heads,
        n_kv_heads: kv_heads,
        q_len: tokens,
        kv_len: tokens,
        kv_capacity: tokens,
        head_dim: dim,
        scale: 0.2,
        causal: true,
        window: None,
    };
    let mut o = vec![0.0; q.len()];
    let mut scratch = vec![0.0; attention_scratch_len(&shape, false, ctx.threads())];
    attention(ctx, &shape, &q, &k, &v, None, None, &mut o, &mut scratch).unwrap();
    hash(&mut total, &o);

    let (g, u) = (
        linear(&o, &values.units(wide * width), wide),
        linear(&o, &values.units(wide * width), wide),
    );
    let mut h = g.clone();
    swiglu(ctx, &g, &u, &mut h).unwrap();
    let mut act = h.clone();
    gelu_tanh(ctx, &h, &mut act).unwrap();
    gelu(ctx, &act, &mut h).unwrap();
    let logits = linear(&h, &values.units(vocab * wide), vocab);
    let weights = vec![1.0 / tokens as f32; tokens];
    let mut loss = vec![0.0; tokens];
    cross_entropy(ctx, &logits, &ids, &weights, &mut loss).unwrap();
    hash(&mut total, &[sum_chain(0.0, &loss)]);
    let mut dlogits = logits.clone();
    cross_entropy_backward(ctx, &logits, &ids, &weights, &mut dlogits).unwrap();
    hash(&mut total, &dlogits);

    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    let len = attention_backward_scratch_len(&shape, false, ctx.threads());
    attention_backward(
        ctx,
        &shape,
        &q,
        &k,
        &v,
        &x,
        None,
        None,
        &mut dq,
        &mut dk,
        &mut dv,
        &mut vec![0.0; len],
    )
    .unwrap();
    for gradient in [&dq, &dk, &dv] {
        hash(&mut total, gradient);
    }
    let (mut dx, mut dw) = (x.clone(), w.clone());
    let mut scratch = vec![0.0; norm_scratch_len(tokens)];
    rms_norm_backward(ctx, &x, &w, &dq, 1e-5, &mut dx, &mut dw, &mut scratch).unwrap();
    let mut dtable = vec![0.0; table.len()];
    embedding_grad(ctx, &mut dtable, width, &ids, &dx).unwrap();
    let step = AdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        bias_correction1: 0.1,
        bias_correction2: 0.05,
        grad_scale: 1.0,
    };
    let (mut p, mut m, mut v) = (table, vec![0.0; dtable.len()], vec![0.0; dtable.len()]);
    adamw_step(ctx, &step, &mut p, &dtable, &mut m, &mut v).unwrap();
    hash(&mut total, &p);
    hash(&mut total, &dw);
    total
}

/// The constant moves only with `NUMERICS_VERSION`.
#[test]
fn one_hash_on_every_machine() {
    everywhere(|ctx| {
        let isa = ctx.isa().name();
        assert_eq!(layer(ctx), GOLDEN, "{isa} with {} threads", ctx.threads());
    });
}

/// [`layer`] under numerics version 1.
const GOLDEN: u64 = 14_177_981_922_471_799_528;

#[test]
fn wrong_arguments_are_refused() {
    let ctx = Ctx::detect(&Serial);
    let mut y = [0.0; 8];
    let x = [1.0; 8];
    assert_eq!(
        add(&ctx, &x, &x[..7], &mut y),
        Err(Error::Length { operand: "b", expected: 8, actual: 7 })
    );
    assert!(rms_norm(&ctx, &x, &x[..3], 1e-5, &mut y).is_err());
    assert!(rms_norm(&ctx, &x, &[], 1e-5, &mut y).is_err());
    let mut dw = [0.0; 4];
    assert_eq!(
        rms_norm_backward(&ctx, &x, &x[..4], &x, 1e-5, &mut y, &mut dw, &mut [0.0; 3]),
        Err(Error::Scratch { expected: 4, actual: 3 })
    );
    assert!(rope(&ctx, &x, 1, &[1.0, 2.0], &[0, 1, 2], &mut y).is_err());
    assert!(rope(&ctx, &x, 0, &[1.0, 2.0], &[0, 1], &mut y).is_err());
    assert_eq!(
        cross_entropy(&ctx, &x, &[0, 4], &[1.0; 2], &mut y[..2]),
        Err(Error::Index { operand: "targets", value: 4, bound: 4 })
    );
    assert!(cross_entropy(&ctx, &x, &[0, -1], &[1.0; 2], &mut y[..2]).is_err());
    assert!(embedding(&ctx, &x, 4, &[2, 0], &mut y).is_err());
    assert!(embedding(&ctx, &x, 4, &[1, 0], &mut y).is_ok());
    let cfg = Dropout { rate: 1.0, key: 0, step: 0, samples: &[0, 1] };
    assert!(dropout(&ctx, &cfg, &x, &mut y).is_err());
    let message = format!("{}", add(&ctx, &x, &x[..7], &mut y).unwrap_err());
    assert_eq!(message, "operand `b` has 7 elements, expected 8");
    let missing = Isa::ALL.into_iter().find(|isa| !isa.is_available());
    if let Some(isa) = missing {
        assert!(matches!(Ctx::new(isa, &Serial), Err(Error::Isa)));
    }
}
