//! The matrix product against the definition, on every instruction set and
//! number of threads.

use std::format;
use std::vec;
use std::vec::Vec;

use llmc_base::math;
use proptest::prelude::*;

use super::*;
use crate::testing::{Values, assert_bits, everywhere};

/// `docs/numerics.md`: one FMA chain per element, then the additions.
fn reference(problem: &Gemm<'_>, c: &mut [f32], c_stride: usize) {
    let at =
        |mat: &MatRef<'_>, i: usize, j: usize| mat.data[i * mat.row_stride + j * mat.col_stride];
    for i in 0..problem.m {
        for j in 0..problem.n {
            let c = &mut c[i * c_stride + j];
            let mut acc = if problem.accumulate { *c } else { 0.0 };
            match problem.precision {
                Precision::F32 => {
                    for k in 0..problem.k {
                        acc = math::fma(at(&problem.a, i, k), at(&problem.b, k, j), acc);
                    }
                }
                Precision::F16 => {
                    for k in 0..problem.k {
                        let [a, b] = [at(&problem.a, i, k), at(&problem.b, k, j)];
                        acc = math::fma(math::round_f16(a), math::round_f16(b), acc);
                    }
                }
                Precision::Bf16 { group } => {
                    for k in (0..problem.k).step_by(group) {
                        for pair in (k..k + group).step_by(2) {
                            for k in [pair + 1, pair] {
                                let is_there = k < pair - pair % group + group;
                                let value = |mat, i, j| math::round_bf16(at(mat, i, j));
                                let (a, b) = match is_there {
                                    true => (value(&problem.a, i, k), value(&problem.b, k, j)),
                                    false => (0.0, 0.0),
                                };
                                acc = math::fma_flushed(a, b, acc);
                            }
                        }
                    }
                }
            }
            if let Some(bias) = problem.bias {
                acc += bias[j];
            }
            if let Some((residual, stride)) = problem.residual {
                acc += residual[i * stride + j];
            }
            *c = acc;
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Form {
    NN,
    NT,
    TN,
    Strided,
}

/// Sizes, form, and bits: accumulate, bias, residual, wild values.
fn check(size: (usize, usize, usize), form: Form, flags: u32, seed: u64) {
    check_with(size, form, flags, seed, Precision::F32);
}

fn check_with(
    (m, n, k): (usize, usize, usize),
    form: Form,
    flags: u32,
    seed: u64,
    precision: Precision,
) {
    let mut values = Values::new(seed);
    let mut make = |len: usize| {
        if flags & 8 != 0 { values.wild(len) } else { values.units(len) }
    };
    let (a, b) = (make(3 * m * k + 8), make(3 * k * n + 8));
    let (bias, residual) = (make(n), make(m * (n + 1)));
    let c_stride = n + (flags >> 4 & 3) as usize;
    let c = make(m * c_stride);
    let (a, b) = match form {
        Form::NN => (MatRef::row_major(&a, k), MatRef::row_major(&b, n)),
        Form::NT => (MatRef::row_major(&a, k), MatRef::row_major(&b, k).transposed()),
        Form::TN => (MatRef::row_major(&a, m).transposed(), MatRef::row_major(&b, n)),
        Form::Strided => (
            MatRef { data: &a, row_stride: 2 * k + 1, col_stride: 2 },
            MatRef { data: &b, row_stride: 3, col_stride: 3 * k },
        ),
    };
    let problem = Gemm {
        m,
        n,
        k,
        a,
        b,
        accumulate: flags & 1 != 0,
        bias: (flags & 2 != 0).then_some(&bias[..]),
        residual: (flags & 4 != 0).then_some((&residual[..], n + 1)),
        precision,
    };
    let mut want = c.clone();
    reference(&problem, &mut want, c_stride);
    everywhere(|ctx| {
        let mut got = c.clone();
        let mut scratch = vec![f32::NAN; gemm_scratch_len(m, n, k, precision, ctx.threads())];
        gemm(ctx, &problem, &mut got, c_stride, &mut scratch).unwrap();
        assert_bits(&format!("{form:?} {m}x{n}x{k} {flags}"), ctx, &got, &want);
    });
}

const FORMS: [Form; 4] = [Form::NN, Form::NT, Form::TN, Form::Strided];

#[test]
fn sizes_around_the_tiles() {
    let sizes = [
        (1, 1, 1),
        (1, 33, 17),
        (3, 16, 300),
        (2, 300, 33),
        (6, 130, 48),
        (7, 31, 16),
        (8, 144, 20),
        (5, 40, 16),
        (16, 15, 31),
        (17, 17, 17),
        (18, 31, 1),
        (28, 32, 64),
        (29, 64, 33),
        (170, 65, 257),
        (337, 16, 5),
        (20, 100, 530),
        (64, 300, 40),
    ];
    for (i, &size) in sizes.iter().enumerate() {
        for form in FORMS {
            for flags in [0, 1, 6, 15, 16 + 7] {
                check(size, form, flags, i as u64);
            }
        }
    }
}

#[test]
fn pairs_in_bf16() {
    let sizes = [
        (1, 1, 1),
        (3, 16, 300),
        (7, 31, 15),
        (17, 17, 17),
        (29, 64, 33),
        (170, 65, 257),
        (20, 100, 530),
        (5, 5, 0),
    ];
    for (i, &(m, n, k)) in sizes.iter().enumerate() {
        for form in FORMS {
            for flags in [0, 1, 6, 15, 16 + 7] {
                let precision = Precision::Bf16 { group: k.max(1) };
                check_with((m, n, k), form, flags, i as u64, precision);
            }
        }
    }
    // Groups of even and odd length, and chains over several blocks of k.
    for (k, group) in [(30, 5), (30, 10), (30, 1), (9 * 77, 77), (600, 50), (2 * 2051, 2051)] {
        for form in FORMS {
            check_with((18, 33, k), form, 9, k as u64, Precision::Bf16 { group });
        }
    }
}

#[test]
fn operands_in_f16() {
    let sizes = [
        (1, 1, 1),
        (3, 16, 300),
        (7, 31, 15),
        (17, 17, 17),
        (29, 64, 33),
        (20, 100, 530),
        (18, 33, 4100),
        (5, 5, 0),
    ];
    for (i, &size) in sizes.iter().enumerate() {
        for form in FORMS {
            for flags in [0, 15, 16 + 7] {
                check_with(size, form, flags, i as u64, Precision::F16);
            }
        }
    }
}

#[test]
fn empty_sizes() {
    for size in [(0, 5, 5), (5, 0, 5), (5, 5, 0), (40, 40, 0), (1, 1, 0)] {
        for flags in 0..8 {
            check(size, Form::NT, flags, 1);
        }
    }
}

#[test]
fn long_chains_and_many_columns_cross_the_blocks() {
    check((17, 33, 9000), Form::NT, 1, 3);
    check((17, 1100, 4200), Form::NN, 0, 4);
}

#[test]
fn non_finite_values_go_through() {
    let mut a: Vec<f32> = Values::new(1).units(20 * 20);
    a[3] = f32::INFINITY;
    a[25] = f32::NAN;
    a[47] = f32::NEG_INFINITY;
    let problem = Gemm {
        m: 20,
        n: 20,
        k: 20,
        a: MatRef::row_major(&a, 20),
        b: MatRef::row_major(&a, 20).transposed(),
        accumulate: false,
        bias: None,
        residual: None,
        precision: Precision::F32,
    };
    // In f16 a number may become infinite on the way.
    let mut large = a.clone();
    large[100] = 65519.0;
    large[140] = -65520.0;
    let large = Gemm { a: MatRef::row_major(&large, 20), precision: Precision::F16, ..problem };
    for problem in [problem, large] {
        let mut want = vec![0.0; 400];
        reference(&problem, &mut want, 20);
        everywhere(|ctx| {
            let mut got = vec![0.0; 400];
            let needed = gemm_scratch_len(20, 20, 20, problem.precision, ctx.threads());
            gemm(ctx, &problem, &mut got, 20, &mut vec![0.0; needed]).unwrap();
            assert_bits("non-finite", ctx, &got, &want);
        });
    }
}

#[test]
fn a_split_of_the_tokens_leaves_the_weight_gradient_alone() {
    let (tokens, out, inp) = (96, 24, 40);
    let mut values = Values::new(9);
    let (dy, x, acc) =
        (values.units(tokens * out), values.units(tokens * inp), values.units(out * inp));
    let run = |ctx: &Ctx<'_>, from: usize, to: usize, precision: Precision, acc: &mut [f32]| {
        let problem = Gemm {
            m: out,
            n: inp,
            k: to - from,
            a: MatRef::row_major(&dy[from * out..to * out], out).transposed(),
            b: MatRef::row_major(&x[from * inp..to * inp], inp),
            accumulate: true,
            bias: None,
            residual: None,
            precision,
        };
        let mut scratch =
            vec![0.0; gemm_scratch_len(out, inp, to - from, precision, ctx.threads())];
        gemm(ctx, &problem, acc, inp, &mut scratch).unwrap();
    };
    everywhere(|ctx| {
        let splits = |precision, cuts: &[&[usize]]| {
            let mut whole = acc.clone();
            run(ctx, 0, tokens, precision, &mut whole);
            for cuts in cuts {
                let mut parts = acc.clone();
                for cut in cuts.windows(2) {
                    run(ctx, cut[0], cut[1], precision, &mut parts);
                }
                assert_bits("split", ctx, &parts, &whole);
            }
        };
        splits(Precision::F32, &[&[0, 48, 96], &[0, 1, 33, 96], &[0, 32, 64, 80, 96]]);
        splits(Precision::F16, &[&[0, 48, 96], &[0, 1, 33, 96]]);
        // Sequences of 3 and of 16 tokens.
        splits(Precision::Bf16 { group: 3 }, &[&[0, 48, 96], &[0, 3, 33, 96]]);
        splits(Precision::Bf16 { group: 16 }, &[&[0, 48, 96], &[0, 16, 32, 96]]);
    });
}

#[test]
fn wrong_shapes_are_refused() {
    let data = [0.0; 12];
    let problem = Gemm {
        m: 3,
        n: 4,
        k: 2,
        a: MatRef::row_major(&data, 2),
        b: MatRef::row_major(&data, 4),
        accumulate: false,
        bias: None,
        residual: None,
        precision: Precision::F32,
    };
    let ctx = Ctx::detect(&crate::Serial);
    let run =
        |problem: &Gemm<'_>, c: &mut [f32], stride: usize| gemm(&ctx, problem, c, stride, &mut []);
    let mut c = [0.0; 12];
    assert_eq!(run(&problem, &mut c, 4), Ok(()));
    assert_eq!(
        run(&problem, &mut c[..11], 4),
        Err(Error::Length { operand: "c", expected: 12, actual: 11 })
    );
    assert!(matches!(run(&problem, &mut c, 3), Err(Error::Dimension { .. })));
    let long = Gemm { k: 7, ..problem };
    assert!(matches!(run(&long, &mut c, 4), Err(Error::Length { operand: "b", .. })));
    let wide = Gemm { bias: Some(&data[..3]), ..problem };
    assert!(matches!(run(&wide, &mut c, 4), Err(Error::Length { operand: "bias", .. })));
    let huge = MatRef { data: &data, row_stride: usize::MAX, col_stride: 2 };
    let huge = Gemm { a: huge, ..problem };
    assert!(matches!(run(&huge, &mut c, 4), Err(Error::Dimension { .. })));
    let tall = Gemm { m: 20, a: MatRef { data: &data, row_stride: 0, col_stride: 1 }, ..problem };
    let mut c = [0.0; 80];
    assert!(matches!(run(&tall, &mut c, 4), Err(Error::Scratch { actual: 0, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_size_and_form(
        m in 1usize..70,
        n in 1usize..90,
        k in 0usize..80,
        form in 0usize..4,
        flags in 0u32..64,
        seed: u64,
    ) {
        check((m, n, k), FORMS[form], flags, seed);
    }
}
