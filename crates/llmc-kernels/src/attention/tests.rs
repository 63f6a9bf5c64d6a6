//! Attention against the definition, written out per element.

use std::format;
use std::vec;
use std::vec::Vec;

use llmc_base::math;
use proptest::prelude::*;

use super::*;
use crate::Ctx;
use crate::testing::{Values, assert_bits, everywhere};

mod cached;

/// Operands of one attention.
struct Case {
    shape: Attention,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
    segments: Option<(Vec<i32>, Vec<i32>)>,
    /// Of every second case.
    rate: Option<f32>,
    samples: Vec<u32>,
}

impl Case {
    fn new(shape: Attention, n_segments: usize, seed: u64) -> Self {
        let mut values = Values::new(seed);
        let q_len = shape.q_elements().unwrap();
        let kv_len = shape.kv_elements().unwrap();
        // Documents in order, as packing makes them, and once at random.
        let mut ids = |len: usize| -> Vec<i32> {
            let mut ids = values.ids(shape.batch * len, n_segments.max(1));
            if n_segments > 2 {
                ids.chunks_mut(len.max(1)).for_each(<[i32]>::sort);
            }
            ids
        };
        let segments = (n_segments > 0).then(|| (ids(shape.q_len), ids(shape.kv_len)));
        let mut spread = |len: usize| -> Vec<f32> {
            let factor = if seed.is_multiple_of(3) { 8.0 } else { 1.0 };
            values.units(len).iter().map(|x| x * factor).collect()
        };
        Self {
            shape,
            q: spread(q_len),
            k: spread(kv_len),
            v: spread(kv_len),
            dout: spread(q_len),
            segments,
            rate: seed.is_multiple_of(2).then_some(0.4),
            samples: (0..shape.batch).map(|b| 7 * b as u32 + 3).collect(),
        }
    }

    fn dropout(&self) -> Option<Dropout<'_>> {
        Some(Dropout {
            rate: self.rate?,
            key: 0x5555_1234_0000_0007,
            step: 9,
            samples: &self.samples,
        })
    }

    /// Dropout of the values of one row of probabilities.
    fn dropped(&self, b: usize, i: usize, h: usize, row: &[f32]) -> Vec<f32> {
        let Some(dropout) = self.dropout() else { return row.to_vec() };
        let s = &self.shape;
        let group = s.n_heads / s.n_kv_heads;
        let start = (((h / group) * s.q_len + i) * group + h % group) * s.kv_len;
        let keep = |j: usize| {
            let element = (start + j) as u64;
            let word = math::philox_element(dropout.key, 9, self.samples[b], element);
            word >= dropout.threshold()
        };
        let value = |(j, x): (usize, &f32)| if keep(j) { x * dropout.scale() } else { 0.0 };
        row.iter().enumerate().map(value).collect()
    }

    fn segments(&self) -> Option<Segments<'_>> {
        let (q, kv) = self.segments.as_ref()?;
        Some(Segments { q, kv })
    }

    fn visible(&self, b: usize, i: usize, j: usize) -> bool {
        let s = &self.shape;
        let position = i as i64 + s.kv_len as i64 - s.q_len as i64;
        (!s.causal || j as i64 <= position)
            && s.window.is_none_or(|window| i128::from(position - j as i64) < window as i128)
            && self
                .segments
                .as_ref()
                .is_none_or(|(q, kv)| q[b * s.q_len + i] == kv[b * s.kv_len + j])
    }

    fn q_at(&self, b: usize, i: usize, h: usize) -> usize {
        ((b * self.shape.q_len + i) * self.shape.n_heads + h) * self.shape.head_dim
    }

    fn kv_at(&self, b: usize, j: usize, h: usize) -> usize {
        let group = self.shape.n_heads / self.shape.n_kv_heads;
        let row = b * self.shape.kv_capacity + j;
        (row * self.shape.n_kv_heads + h / group) * self.shape.head_dim
    }

    /// The probabilities of a row.
    fn p(&self, b: usize, i: usize, h: usize) -> Vec<f32> {
        let s = &self.shape;
        let scores: Vec<f32> = (0..s.kv_len)
            .map(|j| {
                let (q, k) = (self.q_at(b, i, h), self.kv_at(b, j, h));
                let dot = (0..s.head_dim)
                    .fold(0.0, |acc, d| math::fma(self.q[q + d], self.k[k + d], acc));
                if self.visible(b, i, j) { dot * s.scale } else { f32::NEG_INFINITY }
            })
            .collect();
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if max == f32::NEG_INFINITY {
            return vec![0.0; s.kv_len];
        }
        let e: Vec<f32> = scores.iter().map(|x| math::exp(x - max)).collect();
        let factor = 1.0 / math::sum_lanes(e.iter().copied());
        e.iter().map(|e| e * factor).collect()
    }

    fn forward(&self) -> Vec<f32> {
        let s = &self.shape;
        let mut o = vec![0.0; self.q.len()];
        for b in 0..s.batch {
            for i in 0..s.q_len {
                for h in 0..s.n_heads {
                    let p = self.dropped(b, i, h, &self.p(b, i, h));
                    let at = self.q_at(b, i, h);
                    for d in 0..s.head_dim {
                        o[at + d] = (0..s.kv_len).fold(0.0, |acc, j| {
                            math::fma(p[j], self.v[self.kv_at(b, j, h) + d], acc)
                        }) + 0.0;
                    }
                }
            }
        }
        o
    }

    fn backward(&self) -> [Vec<f32>; 3] {
        let s = &self.shape;
        let mut dq = vec![0.0; self.q.len()];
        let mut dk = vec![0.0; self.k.len()];
        let mut dv = vec![0.0; self.k.len()];
        for b in 0..s.batch {
            // Heads of a group in order, then positions: the chains of dk and dv.
            for h in 0..s.n_heads {
                for i in 0..s.q_len {
                    let p = self.p(b, i, h);
                    let at = self.q_at(b, i, h);
                    let dp: Vec<f32> = (0..s.kv_len)
                        .map(|j| {
                            let v = self.kv_at(b, j, h);
                            (0..s.head_dim).fold(0.0, |acc, d| {
                                math::fma(self.dout[at + d], self.v[v + d], acc)
                            })
                        })
                        .collect();
                    let (kept, dp) = (self.dropped(b, i, h, &p), self.dropped(b, i, h, &dp));
                    let dot = math::sum_lanes(p.iter().zip(&dp).map(|(p, dp)| p * dp));
                    let ds: Vec<f32> =
                        p.iter().zip(&dp).map(|(p, dp)| (p * (dp - dot)) * s.scale).collect();
                    for d in 0..s.head_dim {
                        let mut acc = 0.0;
                        for j in 0..s.kv_len {
                            let kv = self.kv_at(b, j, h) + d;
                            acc = math::fma(ds[j], self.k[kv], acc);
                            dk[kv] = math::fma(ds[j], self.q[at + d], dk[kv]);
                            dv[kv] = math::fma(kept[j], self.dout[at + d], dv[kv]);
                        }
                        dq[at + d] = acc + 0.0;
                    }
                }
            }
        }
        for gradient in dk.iter_mut().chain(&mut dv) {
            *gradient += 0.0;
        }
        [dq, dk, dv]
    }

    fn check(&self) {
        let shape = &self.shape;
        let o = self.forward();
        let [dq, dk, dv] = self.backward();
        everywhere(|ctx| {
            let mut got = vec![f32::NAN; self.q.len()];
            let (dropout, is_dropped) = (self.dropout(), self.rate.is_some());
            let len = attention_scratch_len(shape, is_dropped, ctx.threads());
            let mut scratch = vec![f32::NAN; len];
            let (q, k, v) = (&self.q, &self.k, &self.v);
            let segments = self.segments();
            attention(ctx, shape, q, k, v, segments, dropout, &mut got, &mut scratch).unwrap();
            assert_bits(&format!("o of {shape:?}"), ctx, &got, &o);

            let mut got = [&dq, &dk, &dv].map(|want| vec![f32::NAN; want.len()]);
            let len = attention_backward_scratch_len(shape, is_dropped, ctx.threads());
            let mut scratch = vec![f32::NAN; len];
            let [got_dq, got_dk, got_dv] = &mut got;
            attention_backward(
                ctx,
                shape,
                q,
                k,
                v,
                &self.dout,
                segments,
                dropout,
                got_dq,
                got_dk,
                got_dv,
                &mut scratch,
            )
            .unwrap();
            assert_bits(&format!("dq of {shape:?}"), ctx, &got[0], &dq);
            assert_bits(&format!("dk of {shape:?}"), ctx, &got[1], &dk);
            assert_bits(&format!("dv of {shape:?}"), ctx, &got[2], &dv);
        });
    }
}

const SHAPE: Attention = Attention {
    batch: 2,
    n_heads: 4,
    n_kv_heads: 2,
    q_len: 20,
    kv_len: 20,
    kv_capacity: 20,
    head_dim: 8,
    scale: 0.35,
    causal: true,
    window: None,
};

#[test]
fn head_widths() {
    for head_dim in [1, 8, 15, 16, 32, 33, 40, 64, 80] {
        Case::new(Attention { head_dim, ..SHAPE }, 0, head_dim as u64).check();
    }
}

#[test]
fn lengths_around_the_tiles() {
    for len in [1, 2, 15, 16, 17, 31, 32, 33, 65, 100] {
        let shape = Attention {
            batch: 1,
            q_len: len,
            kv_len: len,
            kv_capacity: len,
            head_dim: 16,
            ..SHAPE
        };
        Case::new(shape, 0, len as u64).check();
        Case::new(shape, 0, len as u64 + 1).check();
        let shape = Attention { causal: false, ..shape };
        Case::new(shape, 0, len as u64).check();
    }
}

#[test]
fn windows_and_segments() {
    for window in [None, Some(1), Some(7), Some(40), Some(usize::MAX)] {
        for causal in [false, true] {
            for n_segments in [0, 2, 3] {
                let shape =
                    Attention { q_len: 50, kv_len: 50, kv_capacity: 50, window, causal, ..SHAPE };
                Case::new(shape, n_segments, 5).check();
                Case::new(shape, n_segments, 8).check();
            }
        }
    }
}

#[test]
fn queries_and_keys_of_different_length() {
    for (q_len, kv_len, kv_capacity) in [(1, 77, 80), (5, 40, 40), (40, 5, 9), (33, 64, 64)] {
        for causal in [false, true] {
            let shape = Attention {
                q_len,
                kv_len,
                kv_capacity,
                causal,
                window: (q_len == 5).then_some(3),
                ..SHAPE
            };
            Case::new(shape, 0, 3).check();
            Case::new(shape, 3, 4).check();
        }
    }
}

#[test]
fn a_few_queries() {
    for (q_len, head_dim) in [(1, 8), (2, 40), (3, 64), (4, 80), (1, 128), (5, 16)] {
        for (n_heads, n_kv_heads) in [(1, 1), (6, 1), (7, 1), (4, 2), (3, 3)] {
            for (window, n_segments) in [(None, 0), (Some(9), 0), (None, 3)] {
                let shape = Attention {
                    n_heads,
                    n_kv_heads,
                    q_len,
                    kv_len: 61,
                    kv_capacity: 70,
                    head_dim,
                    window,
                    causal: window.is_some() || n_segments == 0,
                    ..SHAPE
                };
                Case::new(shape, n_segments, q_len as u64).check();
            }
        }
    }
}

#[test]
fn slots_around_the_text_are_not_read() {
    let shape = Attention {
        batch: 2,
        n_heads: 4,
        n_kv_heads: 2,
        q_len: 1,
        kv_len: 70,
        kv_capacity: 70,
        head_dim: 8,
        scale: 0.3,
        causal: false,
        window: None,
    };
    // The first row has its text at the end of the cache, the second one at its start.
    let seen = [41..70, 0..19];
    let mut case = Case::new(shape, 0, 5);
    let mut kv = vec![-1; 2 * 70];
    for (batch, seen) in seen.iter().enumerate() {
        kv[batch * 70..][seen.clone()].fill(0);
    }
    case.segments = Some((vec![0; 2], kv.clone()));
    case.rate = None;
    let run = |case: &Case, ctx: &Ctx<'_>| {
        let (q, kv) = case.segments.as_ref().unwrap();
        let segments = Some(Segments { q, kv });
        let mut o = vec![0.0; case.q.len()];
        let mut scratch = vec![0.0; attention_scratch_len(&shape, false, ctx.threads())];
        let (q, k, v) = (&case.q, &case.k, &case.v);
        attention(ctx, &shape, q, k, v, segments, None, &mut o, &mut scratch).unwrap();
        o
    };
    let expected = run(&case, &Ctx::detect(&crate::Serial));
    assert!(expected.iter().all(|x| x.is_finite()));
    for (slot, _) in kv.iter().enumerate().filter(|(_, segment)| **segment < 0) {
        let row = 2 * 8;
        case.k[slot * row..(slot + 1) * row].fill(f32::NAN);
        case.v[slot * row..(slot + 1) * row].fill(f32::INFINITY);
    }
    everywhere(|ctx| assert_bits("attention", ctx, &run(&case, ctx), &expected));
}

#[test]
fn groups() {
    for (n_heads, n_kv_heads) in [(1, 1), (6, 1), (6, 6), (6, 3)] {
        let shape =
            Attention { n_heads, n_kv_heads, q_len: 35, kv_len: 35, kv_capacity: 35, ..SHAPE };
        Case::new(shape, 0, 6).check();
    }
}

#[test]
fn empty_shapes() {
    for shape in [
        Attention { batch: 0, ..SHAPE },
        Attention { q_len: 0, ..SHAPE },
        Attention { kv_len: 0, ..SHAPE },
        Attention { kv_len: 0, kv_capacity: 0, ..SHAPE },
    ] {
        Case::new(shape, 0, 1).check();
    }
}

#[test]
fn a_dropout_that_does_not_fit_is_refused() {
    let ctx = Ctx::detect(&crate::Serial);
    let case = Case::new(SHAPE, 0, 1);
    let run = |rate: f32, samples: &[u32]| {
        let mut o = vec![0.0; case.q.len()];
        let mut scratch = vec![0.0; attention_scratch_len(&SHAPE, true, 1)];
        let dropout = Some(Dropout { rate, key: 1, step: 2, samples });
        attention(&ctx, &SHAPE, &case.q, &case.k, &case.v, None, dropout, &mut o, &mut scratch)
    };
    assert_eq!(run(0.5, &[0, 1]), Ok(()));
    assert!(matches!(run(1.0, &[0, 1]), Err(Error::Dimension { .. })));
    assert!(matches!(run(0.5, &[0]), Err(Error::Dimension { .. })));
}

#[test]
fn wrong_shapes_are_refused() {
    let ctx = Ctx::detect(&crate::Serial);
    let case = Case::new(SHAPE, 0, 1);
    let run = |shape: &Attention, q: &[f32], scratch: usize| {
        let mut o = vec![0.0; case.q.len()];
        let mut scratch = vec![0.0; scratch];
        attention(&ctx, shape, q, &case.k, &case.v, None, None, &mut o, &mut scratch)
    };
    let enough = attention_scratch_len(&SHAPE, false, 1);
    assert_eq!(run(&SHAPE, &case.q, enough), Ok(()));
    assert!(matches!(run(&SHAPE, &case.q[1..], enough), Err(Error::Length { operand: "q", .. })));
    assert!(matches!(run(&SHAPE, &case.q, enough - 1), Err(Error::Scratch { .. })));
    for shape in [
        Attention { n_kv_heads: 3, ..SHAPE },
        Attention { n_kv_heads: 0, ..SHAPE },
        Attention { n_heads: 0, ..SHAPE },
        Attention { head_dim: 0, ..SHAPE },
        Attention { kv_capacity: 19, ..SHAPE },
        Attention { batch: usize::MAX / 2, ..SHAPE },
        Attention { q_len: 1 << 30, ..SHAPE },
    ] {
        assert!(matches!(run(&shape, &case.q, enough), Err(Error::Dimension { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_shape(
        (q_len, kv_len) in (1usize..80, 1usize..80),
        (n_kv_heads, group) in (1usize..4, 1usize..4),
        head_dim in 1usize..70,
        causal: bool,
        window in proptest::option::of(1usize..90),
        n_segments in 0usize..4,
        seed: u64,
    ) {
        let shape = Attention {
            batch: 1,
            n_heads: n_kv_heads * group,
            n_kv_heads,
            q_len,
            kv_len,
            kv_capacity: kv_len + (seed % 3) as usize,
            head_dim,
            scale: 0.2,
            causal,
            window,
        };
        Case::new(shape, n_segments, seed).check();
    }
}
