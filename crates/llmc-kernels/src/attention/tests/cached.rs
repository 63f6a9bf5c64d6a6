//! Attention over a narrow cache is attention over its elements in f32.

use super::*;
use crate::quant::{quantize_rows, to_bf16};

/// A case without segments and dropout whose keys and values are rounded, in the formats that hold them.
struct Rounded {
    case: Case,
    halves: [Vec<u16>; 2],
    bytes: [(Vec<i8>, Vec<f32>); 2],
}

/// Keys and values in bf16, or in 8 bits, and the case by the values that they stand for.
fn rounded(shape: Attention, seed: u64, is_bytes: bool) -> Rounded {
    let mut case = Case::new(shape, 0, seed);
    case.rate = None;
    let ctx = Ctx::detect(&crate::Serial);
    let (mut halves, mut bytes) = ([vec![], vec![]], [(vec![], vec![]), (vec![], vec![])]);
    for (at, x) in [&mut case.k, &mut case.v].into_iter().enumerate() {
        let rows = x.len() / shape.head_dim;
        halves[at] = vec![0; x.len()];
        bytes[at] = (vec![0; x.len()], vec![0.0; rows]);
        to_bf16(&ctx, x, &mut halves[at]).unwrap();
        let (q, scale) = &mut bytes[at];
        quantize_rows(&ctx, x, shape.head_dim, q, scale).unwrap();
        for (i, x) in x.iter_mut().enumerate() {
            *x = match is_bytes {
                true => f32::from(q[i]) * scale[i / shape.head_dim],
                false => f32::from_bits(u32::from(halves[at][i]) << 16),
            };
        }
    }
    Rounded { case, halves, bytes }
}

fn check(shape: Attention, seed: u64) {
    for is_bytes in [false, true] {
        let Rounded { case, halves, bytes } = rounded(shape, seed, is_bytes);
        let want = case.forward();
        everywhere(|ctx| {
            let cells = |at: usize| match is_bytes {
                true => Cells::I8 { q: &bytes[at].0, scale: &bytes[at].1 },
                false => Cells::Bf16(&halves[at]),
            };
            let mut got = vec![f32::NAN; want.len()];
            let len = cached_attention_scratch_len(&shape, true, ctx.threads());
            let mut scratch = vec![f32::NAN; len];
            let (q, k, v) = (&case.q, cells(0), cells(1));
            cached_attention(ctx, &shape, q, k, v, &mut got, &mut scratch).unwrap();
            assert_bits(&format!("o of {shape:?}, bytes {is_bytes}"), ctx, &got, &want);

            let (k, v) = (Cells::F32(&case.k), Cells::F32(&case.v));
            cached_attention(ctx, &shape, q, k, v, &mut got, &mut scratch).unwrap();
            assert_bits(&format!("o of {shape:?} in f32"), ctx, &got, &want);
        });
    }
}

#[test]
fn narrow_caches_are_their_values() {
    for (q_len, head_dim) in [(1, 8), (2, 40), (3, 64), (1, 80), (4, 7), (5, 16), (37, 33)] {
        for (n_heads, n_kv_heads) in [(1, 1), (7, 1), (4, 2), (3, 3)] {
            for (window, batch) in [(None, 1), (Some(9), 2)] {
                let shape = Attention {
                    batch,
                    n_heads,
                    n_kv_heads,
                    q_len,
                    kv_len: 61,
                    kv_capacity: 70,
                    head_dim,
                    window,
                    ..SHAPE
                };
                check(shape, q_len as u64);
            }
        }
    }
}

#[test]
fn caches_that_do_not_fit_are_refused() {
    let ctx = Ctx::detect(&crate::Serial);
    let Rounded { case, halves, bytes } = rounded(SHAPE, 1, true);
    let run = |k, v, scratch: usize| {
        let (mut o, mut scratch) = (vec![0.0; case.q.len()], vec![0.0; scratch]);
        cached_attention(&ctx, &SHAPE, &case.q, k, v, &mut o, &mut scratch)
    };
    let enough = cached_attention_scratch_len(&SHAPE, true, 1);
    let (q, scale) = &bytes[0];
    let (whole, half) = (Cells::I8 { q, scale }, Cells::Bf16(&halves[0]));
    assert_eq!(run(whole, whole, enough), Ok(()));
    assert_eq!(run(half, half, enough), Ok(()));
    assert!(matches!(run(whole, whole, enough - 1), Err(Error::Scratch { .. })));
    assert!(matches!(run(whole, half, enough), Err(Error::Dimension { .. })));
    for (q, scale) in [(&q[1..], &scale[..]), (&q[..], &scale[1..])] {
        let refused = run(Cells::I8 { q, scale }, whole, enough);
        assert!(matches!(refused, Err(Error::Length { .. })));
    }
    let refused = run(half, Cells::Bf16(&halves[1][1..]), enough);
    assert!(matches!(refused, Err(Error::Length { operand: "v", .. })));
}
