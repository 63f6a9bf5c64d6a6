//! Composites against the formulas of their papers, written as plain loops in f64.

use crate::support::{apply, close};
use llmc_ir::eval::{Mode, Tensor};
use llmc_ir::ops::*;
use llmc_ir::sample::{Fill, f32, filled, i32, typed};
use llmc_ir::{DType, Op};

fn floats(t: &Tensor) -> Vec<f64> {
    t.as_floats().unwrap().to_vec()
}

fn agree(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert!(close(*a, *b, 1e-12, 1.0), "{what} element {i}: {a}, expected {b}");
    }
}

fn normal(shape: &[usize], seed: u64) -> Tensor {
    filled(&f32(shape), Fill::Normal, seed)
}

fn real(op: impl Into<Op>, operands: &[Tensor]) -> Vec<f64> {
    floats(&apply(&op.into(), operands, Mode::Real)[0])
}

#[test]
fn linear_is_a_matrix_product() {
    let (x, w, b) = (normal(&[3, 5], 1), normal(&[4, 5], 2), normal(&[4], 3));
    let (xs, ws, bs) = (floats(&x), floats(&w), floats(&b));
    let y =
        |i: usize| (0..5).map(|k| xs[i / 4 * 5 + k] * ws[i % 4 * 5 + k]).sum::<f64>() + bs[i % 4];
    agree("linear", &real(Linear::default(), &[x, w, b]), &(0..12).map(y).collect::<Vec<_>>());
}

#[test]
fn norms_have_their_moments() {
    let x = normal(&[4, 33], 1);
    let one = filled(&f32(&[33]), Fill::Constant(1.0), 0);
    let y = real(RmsNorm { eps: 0.0 }, &[x.clone(), one.clone()]);
    for row in y.chunks(33) {
        let ms = row.iter().map(|y| y * y).sum::<f64>() / 33.0;
        assert!(close(ms, 1.0, 1e-12, 1.0), "{ms}");
    }
    let w = filled(&f32(&[33]), Fill::Positive, 4);
    let b = normal(&[33], 5);
    let y = real(LayerNorm { eps: 0.0 }, &[x, w.clone(), b.clone()]);
    let (w, b) = (floats(&w), floats(&b));
    for row in y.chunks(33) {
        let plain: Vec<f64> = row.iter().zip(&w).zip(&b).map(|((y, w), b)| (y - b) / w).collect();
        let mean = plain.iter().sum::<f64>() / 33.0;
        let variance = plain.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 33.0;
        assert!(mean.abs() < 1e-12 && close(variance, 1.0, 1e-12, 1.0), "{mean} {variance}");
    }
}

#[test]
fn activations_are_their_formulas() {
    let x = normal(&[64], 1);
    let xs = floats(&x);
    let each = |f: fn(f64) -> f64| xs.iter().map(|x| f(*x)).collect::<Vec<_>>();
    let input = std::slice::from_ref(&x);
    agree("relu", &real(Relu, input), &each(|x| x.max(0.0)));
    agree("relu_squared", &real(ReluSquared, input), &each(|x| x.max(0.0).powi(2)));
    agree("silu", &real(Silu, input), &each(|x| x / (1.0 + (-x).exp())));
    let gelu = |x: f64| x * 0.5 * libm::erfc(-x / 2f64.sqrt());
    agree("gelu", &real(Gelu, input), &each(gelu));
    let gelu_tanh = |x: f64| {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        0.5 * x * (1.0 + inner.tanh())
    };
    agree("gelu_tanh", &real(GeluTanh, input), &each(gelu_tanh));
    let up = normal(&[64], 2);
    let want: Vec<f64> =
        xs.iter().zip(floats(&up)).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
    agree("swiglu", &real(Swiglu, &[x, up]), &want);
}

/// The f32 constants of `docs/numerics.md` are the nearest to the numbers they stand for.
#[test]
fn constants_round_to_those_of_the_page() {
    for (exact, page) in [
        (std::f64::consts::FRAC_1_SQRT_2, "0.70710678"),
        (1.0 / (2.0 * std::f64::consts::PI).sqrt(), "0.3989423"),
        (std::f64::consts::FRAC_2_PI.sqrt(), "0.7978846"),
        (3.0 * 0.044715, "0.134145"),
    ] {
        assert_eq!(exact as f32, page.parse::<f32>().unwrap());
    }
}

#[test]
fn rope_turns_pairs_by_position() {
    let x = normal(&[2, 5, 3, 8], 1);
    let positions = filled(&i32(&[2, 5]), Fill::Below(1000), 2);
    let op = Rope { theta: 10000.0, scaling: RopeScaling::None, inverse: false };
    let y = real(op.clone(), &[x.clone(), positions.clone()]);
    let xs = floats(&x);
    let pos = positions.as_ints().unwrap();
    for (token, position) in pos.iter().enumerate() {
        for head in 0..3 {
            let at = (token * 3 + head) * 8;
            for i in 0..4 {
                let angle = *position as f64 * 10000f64.powf(-(i as f64) / 4.0);
                let (a, b) = (xs[at + i], xs[at + 4 + i]);
                let want = [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()];
                agree("rope", &[y[at + i], y[at + 4 + i]], &want);
            }
        }
    }
    // The inverse turns back.
    let back = Rope { inverse: true, ..op };
    let turned = Tensor::floats(DType::F32, &[2, 5, 3, 8], y).unwrap();
    agree("inverse", &real(back, &[turned, positions]), &xs);
}

#[test]
fn rope_scaling_keeps_high_and_divides_low_frequencies() {
    let plain = rope_frequencies(500_000.0, &RopeScaling::None, 128);
    let linear = rope_frequencies(500_000.0, &RopeScaling::Linear { factor: 4.0 }, 128);
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context_length: 8192.0,
    };
    let llama3 = rope_frequencies(500_000.0, &llama3, 128);
    for i in 0..64 {
        assert_eq!(linear[i], plain[i] / 4.0);
        let wavelength = std::f64::consts::TAU / plain[i];
        let want = match wavelength {
            w if w < 2048.0 => plain[i],
            w if w > 8192.0 => plain[i] / 8.0,
            w => {
                let s = (8192.0 / w - 1.0) / 3.0;
                plain[i] * (s + (1.0 - s) / 8.0)
            }
        };
        assert!(close(llama3[i], want, 1e-14, 0.0), "{i}");
    }
}

/// Whether, in batch b, query i sees key j.
type Visible = dyn Fn(usize, usize, usize) -> bool;

/// Attention as a loop over queries.
fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    visible: impl Fn(usize, usize, usize) -> bool,
) -> Vec<f64> {
    let [batch, queries, heads, width] = q.shape[..] else { panic!() };
    let [_, keys, kv_heads, _] = k.shape[..] else { panic!() };
    let (q, k, v) = (floats(q), floats(k), floats(v));
    let mut out = vec![0.0; q.len()];
    for b in 0..batch {
        for i in 0..queries {
            for h in 0..heads {
                let kv = h / (heads / kv_heads);
                let at = ((b * queries + i) * heads + h) * width;
                let key = |j: usize| ((b * keys + j) * kv_heads + kv) * width;
                let seen: Vec<usize> = (0..keys).filter(|j| visible(b, i, *j)).collect();
                let score =
                    |j: &usize| (0..width).map(|d| q[at + d] * k[key(*j) + d]).sum::<f64>() * scale;
                let e: Vec<f64> = seen.iter().map(|j| score(j).exp()).collect();
                let sum: f64 = e.iter().sum();
                for (j, e) in seen.iter().zip(e) {
                    for d in 0..width {
                        out[at + d] += e / sum * v[key(*j) + d];
                    }
                }
            }
        }
    }
    out
}

#[test]
fn attention_sees_what_it_should() {
    let op =
        |causal, window, scale| Attention { causal, window, scale, dropout: None, cached: false };
    let q = normal(&[2, 5, 4, 6], 1);
    let (k, v) = (normal(&[2, 7, 2, 6], 2), normal(&[2, 7, 2, 6], 3));
    let operands = [q.clone(), k.clone(), v.clone()];
    let scale = 1.0 / 6f64.sqrt();
    // Query i stands at key i + 2.
    let cases: [(Attention, &Visible); 4] = [
        (op(false, None, None), &|_, _, _| true),
        (op(true, None, None), &|_, i, j| j <= i + 2),
        (op(true, Some(3), None), &|_, i, j| j <= i + 2 && i + 2 < j + 3),
        (op(false, Some(1), None), &|_, i, j| i + 2 < j + 1),
    ];
    for (op, visible) in cases {
        let want = attend(&q, &k, &v, scale, visible);
        agree(&format!("{op:?}"), &real(op, &operands), &want);
    }
    let want = attend(&q, &k, &v, 0.7, |_, _, _| true);
    agree("scale", &real(op(false, None, Some(0.7)), &operands), &want);
}

#[test]
fn attention_stays_in_its_segment_and_sees_nothing_as_zeros() {
    let q = normal(&[1, 4, 1, 2], 1);
    let (k, v) = (normal(&[1, 4, 1, 2], 2), normal(&[1, 4, 1, 2], 3));
    let seg_q = Tensor::i32(&[1, 4], &[0, 1, 1, 9]).unwrap();
    let seg_k = Tensor::i32(&[1, 4], &[0, 0, 1, 1]).unwrap();
    let op =
        Attention { causal: true, window: None, scale: Some(1.0), dropout: None, cached: false };
    let segments = [(0, 0), (1, 0), (1, 1), (9, 1)];
    let want = attend(&q, &k, &v, 1.0, |_, i, j| segments[i].0 == segments[j].1 && j <= i);
    for mode in [Mode::Real, Mode::Rounded] {
        let operands = [q.clone(), k.clone(), v.clone(), seg_q.clone(), seg_k.clone()];
        let got = floats(&apply(&op.clone().into(), &operands, mode)[0]);
        // Query 1 has no key of its segment at or before it; query 3 has none at all.
        assert_eq!(got[2..4], [0.0, 0.0]);
        assert_eq!(got[6..], [0.0, 0.0]);
        if mode == Mode::Real {
            agree("segments", &got, &want);
        }
        let back = AttentionBackward { of: op.clone() };
        let dy = normal(&[1, 4, 1, 2], 4);
        let [q, k, v, seg_q, seg_k] = operands;
        for grad in apply(&back.into(), &[q, k, v, dy, seg_q, seg_k], mode) {
            assert!(floats(&grad).iter().all(|g| g.is_finite()));
        }
    }
}

#[test]
fn cross_entropy_is_minus_log_probability() {
    let logits = normal(&[3, 7], 1);
    let targets = Tensor::i32(&[3], &[6, 0, 3]).unwrap();
    let weights = Tensor::f32(&[3], &[1.0, 0.0, 0.5]).unwrap();
    let x = floats(&logits);
    let probability = |row: usize, id: usize| {
        x[row * 7 + id].exp() / (0..7).map(|j| x[row * 7 + j].exp()).sum::<f64>()
    };
    let want = [-probability(0, 6).ln(), 0.0, -0.5 * probability(2, 3).ln()];
    let operands = [logits.clone(), targets.clone(), weights.clone()];
    agree("cross_entropy", &real(CrossEntropy, &operands), &want);
    let softmax: Vec<f64> = (0..21).map(|i| probability(i / 7, i % 7)).collect();
    agree("softmax", &real(Softmax, std::slice::from_ref(&logits)), &softmax);
    let mut want = softmax;
    for (row, (target, weight)) in [(6, 1.0), (0, 0.0), (3, 0.5)].into_iter().enumerate() {
        want[row * 7 + target] -= 1.0;
        want[row * 7..row * 7 + 7].iter_mut().for_each(|p| *p *= weight);
    }
    agree("cross_entropy_backward", &real(CrossEntropyBackward, &operands), &want);
    // Large logits do not overflow.
    let large = Tensor::f32(&[1, 2], &[1e30, 1e30]).unwrap();
    let one = Tensor::f32(&[1], &[1.0]).unwrap();
    let operands = [large, Tensor::i32(&[1], &[0]).unwrap(), one];
    let loss = apply(&CrossEntropy.into(), &operands, Mode::Rounded);
    assert!(close(floats(&loss[0])[0], 2f64.ln(), 1e-6, 1.0));
}

#[test]
fn embeddings_take_and_return_rows() {
    let w = normal(&[5, 2], 1);
    let ids = Tensor::i32(&[3], &[4, 0, 4]).unwrap();
    let rows = floats(&w);
    let want = [rows[8], rows[9], rows[0], rows[1], rows[8], rows[9]];
    agree("embedding", &real(Embedding, &[w, ids.clone()]), &want);
    let dy = Tensor::f32(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let grad = real(EmbeddingGrad { rows: 5.into() }, &[ids, dy]);
    assert_eq!(grad, [3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 6.0, 8.0]);
}

#[test]
fn dropout_depends_on_the_sample_and_not_on_the_batch() {
    let key = Tensor::ints(DType::U32, &[2], vec![123, 456]).unwrap();
    let step = Tensor::scalar(DType::U32, 7.0);
    let op = |stream| Dropout { rate: 0.25, stream };
    let run = |stream: u64, samples: &[i64]| {
        let x = filled(&f32(&[samples.len(), 1000]), Fill::Constant(3.0), 0);
        let samples = Tensor::ints(DType::U32, &[samples.len()], samples.to_vec()).unwrap();
        let operands = [x, key.clone(), step.clone(), samples];
        floats(&apply(&op(stream).into(), &operands, Mode::Rounded)[0])
    };
    let whole = run(1, &[0, 1, 2, 3]);
    assert_eq!(whole[2000..4000], run(1, &[2, 3]));
    assert_ne!(whole[..1000], whole[1000..2000]);
    assert_ne!(whole, run(2, &[0, 1, 2, 3]));
    assert_ne!(whole, run(1 << 40, &[0, 1, 2, 3]));
    let kept = whole.iter().filter(|y| **y != 0.0).count();
    assert!((2900..3100).contains(&kept), "{kept} of 4000 kept");
    let scaled = f64::from(3.0 * (1.0f32 / 0.75));
    assert!(whole.iter().all(|y| *y == 0.0 || *y == scaled));
}

#[test]
fn random_bits_are_philox_words() {
    let key = Tensor::ints(DType::U32, &[2], vec![0xdead_beef, 0x1234]).unwrap();
    let step = Tensor::scalar(DType::U32, 9.0);
    let samples = Tensor::ints(DType::U32, &[2], vec![5, 6]).unwrap();
    let op = RandomBits { dims: vec![3.into(), 2.into()] };
    let bits = apply(&op.into(), &[key, step, samples], Mode::Rounded);
    let word = |i: u64| {
        let sample = 5 + (i / 6) as u32;
        llmc_base::math::philox_element(0x1234_dead_beef, 9, sample, i % 6)
    };
    let want: Vec<i64> = (0..12).map(|i| i64::from(word(i))).collect();
    assert_eq!(bits[0].as_ints().unwrap(), want);
}

#[test]
fn optimizer_steps_are_their_formulas() {
    let ty = f32(&[6]);
    let [p, g, m] = [1, 2, 3].map(|seed| filled(&ty, Fill::Normal, seed));
    let v = filled(&ty, Fill::Positive, 4);
    let scalar = |x: f64| Tensor {
        dtype: DType::F32,
        ..filled(&typed(DType::F64, &[]), Fill::Constant(x), 0)
    };
    let (lr, step, wd) = (0.01, 3, 0.1);
    let (beta1, beta2, eps) = (0.9f64, 0.95f64, 1e-8);
    let (bc1, bc2) = (1.0 - beta1.powi(step), 1.0 - beta2.powi(step));
    let op = AdamwStep { beta1, beta2, eps };
    let operands = [&p, &g, &m, &v].map(Clone::clone).to_vec();
    let scalars = [lr, bc1, bc2, wd].map(scalar).to_vec();
    let got = apply(&op.into(), &[operands, scalars].concat(), Mode::Real);
    for i in 0..6 {
        let at = |t: &Tensor| floats(t)[i];
        let m = beta1 * at(&m) + (1.0 - beta1) * at(&g);
        let v = beta2 * at(&v) + (1.0 - beta2) * at(&g) * at(&g);
        let direction = (m / bc1) / ((v / bc2).sqrt() + eps);
        let want = at(&p) * (1.0 - lr * wd) - lr * direction;
        agree("adamw", &got.iter().map(at).collect::<Vec<_>>(), &[want, m, v]);
    }
    let op = SgdStep { momentum: 0.9 };
    let got =
        apply(&op.into(), &[p.clone(), g.clone(), m.clone(), scalar(lr), scalar(wd)], Mode::Real);
    for i in 0..6 {
        let at = |t: &Tensor| floats(t)[i];
        let momentum = 0.9 * at(&m) + at(&g) + wd * at(&p);
        let want = [at(&p) - lr * momentum, momentum];
        agree("sgd", &got.iter().map(at).collect::<Vec<_>>(), &want);
    }
}
