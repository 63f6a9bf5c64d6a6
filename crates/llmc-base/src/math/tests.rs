//! Accuracy against f64, special values, known answers of Philox, exactness of
//! the emulated FMA.

use super::lanes::fma_by_f64;
use super::*;

/// The distance of `got` from `want` in units of the last place of the f32
/// nearest to `want`.
fn ulp_error(got: f32, want: f64) -> f64 {
    let nearest = want as f32;
    if got.is_nan() || nearest.is_nan() {
        return if got.is_nan() && nearest.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if nearest.is_infinite() || got.is_infinite() {
        // One ulp of the largest finite f32.
        let clamp = |x: f64| x.clamp(-3.402_823_669_209_385e38, 3.402_823_669_209_385e38);
        return (clamp(f64::from(got)) - clamp(want)).abs() / 2.0f64.powi(104);
    }
    let exponent = (nearest.abs().to_bits() >> 23).max(1) as i32;
    (f64::from(got) - want).abs() / 2.0f64.powi(exponent - 150)
}

/// The largest error over every `stride`-th bit pattern from `low` to `high`
/// (both positive), with both signs, and where it is.
fn worst(
    ours: fn(f32) -> f32,
    truth: fn(f64) -> f64,
    (low, high): (f32, f32),
    stride: usize,
) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    for bits in (low.to_bits()..=high.to_bits()).step_by(stride) {
        for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
            let error = ulp_error(ours(x), truth(f64::from(x)));
            if error > worst.0 {
                worst = (error, x);
            }
        }
    }
    worst
}

/// A prime, so that the sample meets every pattern of low bits.
const STRIDE: usize = 1009;

#[track_caller]
fn check(ours: fn(f32) -> f32, truth: fn(f64) -> f64, range: (f32, f32), bound: f64) {
    let (error, at) = worst(ours, truth, range, STRIDE);
    assert!(error <= bound, "{error} ulp at {at:e}, more than {bound}");
}

const ALL: (f32, f32) = (0.0, f32::MAX);

#[test]
fn exp_is_within_its_stated_error() {
    check(exp, f64::exp, ALL, EXP_ULP);
}

#[test]
fn log_is_within_its_stated_error() {
    check(log, f64::ln, ALL, LOG_ULP);
    check(log, f64::ln, (0.5, 2.0), LOG_ULP);
}

#[test]
fn sin_and_cos_are_within_their_stated_error() {
    check(sin, f64::sin, ALL, SIN_ULP);
    check(cos, f64::cos, ALL, SIN_ULP);
    // The neighbours of the multiples of π/2, where reduction matters most.
    for n in 1..200_000 {
        let x = (f64::from(n) * core::f64::consts::FRAC_PI_2) as f32;
        for x in [x.next_down(), x, x.next_up()] {
            let error = ulp_error(sin(x), f64::from(x).sin());
            assert!(error <= SIN_ULP, "{error} ulp at {x:e}");
            let error = ulp_error(cos(x), f64::from(x).cos());
            assert!(error <= SIN_ULP, "{error} ulp at {x:e}");
        }
    }
}

#[test]
fn tanh_is_within_its_stated_error() {
    check(tanh, f64::tanh, ALL, TANH_ULP);
}

#[test]
fn erf_is_within_its_stated_error() {
    check(erf, libm::erf, ALL, ERF_ULP);
}

#[test]
fn rsqrt_is_within_its_stated_error() {
    check(rsqrt, |x| 1.0 / x.sqrt(), (f32::from_bits(1), f32::MAX), RSQRT_ULP);
}

#[test]
fn pow_is_within_its_stated_error() {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 32) as u32
    };
    for _ in 0..1_000_000 {
        // All magnitudes of x, and a y that keeps the result in range mostly.
        let x = f32::from_bits(next() % 0x7f80_0000);
        let limit = 155.0 / (f64::from(x).log2().abs() + 1e-30);
        let y = ((f64::from(next()) / 2.0f64.powi(31) - 1.0) * limit.min(1e30)) as f32;
        let error = ulp_error(pow(x, y), f64::from(x).powf(f64::from(y)));
        assert!(error <= POW_ULP, "{error} ulp at {x:e}, {y:e}");
    }
    for _ in 0..300_000 {
        let x = 0.5 + (next() % (1 << 24)) as f32 / 8_388_608.0;
        let y = f32::from_bits(0x3f00_0000 + next() % 0x0800_0000);
        let error = ulp_error(pow(x, y), f64::from(x).powf(f64::from(y)));
        assert!(error <= POW_ULP, "{error} ulp at {x:e}, {y:e}");
    }
}

/// The bounds of the table in the module page.
const EXP_ULP: f64 = 1.02;
const LOG_ULP: f64 = 1.25;
const SIN_ULP: f64 = 0.95;
const TANH_ULP: f64 = 1.4;
const ERF_ULP: f64 = 1.1;
const POW_ULP: f64 = 1.0;
const RSQRT_ULP: f64 = 1.5;

/// Bits, with one pattern for all NaN.
fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

#[track_caller]
fn same(got: f32, want: f32) {
    assert_eq!(bits(got), bits(want), "{got:e} is not {want:e}");
}

#[test]
fn special_values_of_unary_functions() {
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    for (f, cases) in [
        (
            exp as fn(f32) -> f32,
            &[
                (0.0, 1.0),
                (-0.0, 1.0),
                (INF, INF),
                (-INF, 0.0),
                (NAN, NAN),
                (88.722_83, 3.402_798_5e38),
                (88.722_84, INF),
                (-103.97, f32::from_bits(1)),
                (-104.0, 0.0),
                (1e30, INF),
                (-1e30, 0.0),
            ][..],
        ),
        (
            log,
            &[
                (1.0, 0.0),
                (0.0, -INF),
                (-0.0, -INF),
                (-1.0, NAN),
                (-INF, NAN),
                (INF, INF),
                (NAN, NAN),
                (f32::from_bits(1), -103.278_93),
            ],
        ),
        (sin, &[(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN), (1e-40, 1e-40)]),
        (cos, &[(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN), (NAN, NAN)]),
        (
            tanh,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (INF, 1.0),
                (-INF, -1.0),
                (NAN, NAN),
                (1e-40, 1e-40),
                (-20.0, -1.0),
            ],
        ),
        (
            erf,
            &[
                (0.0, 0.0),
                (-0.0, -0.0),
                (INF, 1.0),
                (-INF, -1.0),
                (NAN, NAN),
                (5.0, 1.0),
                (-4.5, -1.0),
            ],
        ),
        (
            sqrt,
            &[(0.0, 0.0), (-0.0, -0.0), (-1.0, NAN), (INF, INF), (2.0, core::f32::consts::SQRT_2)],
        ),
        (rsqrt, &[(0.0, INF), (-0.0, -INF), (-1.0, NAN), (INF, 0.0), (4.0, 0.5)]),
        (recip, &[(0.0, INF), (-0.0, -INF), (INF, 0.0), (4.0, 0.25)]),
    ] {
        for &(x, want) in cases {
            same(f(x), want);
        }
    }
}

#[test]
fn special_values_of_pow() {
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    let values = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.0,
        -2.0,
        3.0,
        -3.0,
        INF,
        -INF,
        NAN,
        8_388_607.0,
        -8_388_607.0,
        8_388_609.0,
        16_777_215.0,
        16_777_216.0,
        4_194_303.5,
        1e-40,
        -1e-40,
        1e30,
        -1e30,
        2.5,
        -2.5,
    ];
    for x in values {
        for y in values {
            let want = f64::from(x).powf(f64::from(y)) as f32;
            let got = pow(x, y);
            if want.is_nan() || want == 0.0 || want.is_infinite() || want.abs() == 1.0 {
                assert_eq!(bits(got), bits(want), "pow({x:e}, {y:e}) = {got:e}, not {want:e}");
            } else {
                let error = ulp_error(got, f64::from(x).powf(f64::from(y)));
                assert!(error <= POW_ULP, "pow({x:e}, {y:e}) = {got:e}, not {want:e}");
            }
        }
    }
}

#[test]
fn maximum_and_minimum_order_zeros_and_let_nan_win() {
    same(max(0.0, -0.0), 0.0);
    same(max(-0.0, 0.0), 0.0);
    same(min(0.0, -0.0), -0.0);
    same(min(-0.0, 0.0), -0.0);
    same(max(1.0, 2.0), 2.0);
    same(min(1.0, -2.0), -2.0);
    for f in [max, min] {
        same(f(f32::NAN, 1.0), f32::NAN);
        same(f(1.0, f32::NAN), f32::NAN);
    }
}

#[test]
fn fma_in_f64_is_exact() {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        f32::from_bits((state >> 32) as u32)
    };
    for round in 0..2_000_000 {
        let (a, b, mut c) = (next(), next(), next());
        if round % 2 == 0 {
            // Cancellation and near ties: an addend of about the product's size,
            // or of the size of its rounding error.
            let product = a * b;
            let low = f32::from_bits(product.to_bits() & 0xff80_0000) * 2.0f32.powi(-24);
            c = [-product, product.next_up(), low, -low.next_up()][round / 2 % 4];
        }
        same(fma_by_f64(a, b, c), a.mul_add(b, c));
    }
    // A tie between denormals that only the third bit group decides.
    let c = f32::from_bits(3);
    let a = 2.0f32.powi(-75) * (1.0 + f32::EPSILON);
    let b = 2.0f32.powi(-75);
    same(fma_by_f64(a, b, c), f32::from_bits(4));
    same(fma_by_f64(-a, b, c), f32::from_bits(2));
}

#[test]
fn philox_gives_the_published_known_answers() {
    let ones = u32::MAX;
    for (counter, key, want) in [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([ones; 4], [ones; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ] {
        assert_eq!(philox4x32(counter, key), want);
    }
    let group = philox4x32([2, 1, 8, 9], [3, 4]);
    let element = (1u64 << 32 | 2) * 4 + 3;
    assert_eq!(philox_element(4 << 32 | 3, 9, 8, element), group[3]);
}

#[test]
fn normals_have_the_right_moments() {
    let n = 100_000u32;
    let (mut sum, mut squares, mut cubes) = (0.0, 0.0, 0.0);
    for i in 0..n {
        let [a, b, ..] = philox4x32([i, 0, 0, 0], [1, 2]);
        let (x, y) = normal_f32(a, b);
        for z in [f64::from(x), f64::from(y)] {
            sum += z;
            squares += z * z;
            cubes += z * z * z;
        }
    }
    let count = f64::from(2 * n);
    assert!((sum / count).abs() < 0.01);
    assert!((squares / count - 1.0).abs() < 0.02);
    assert!((cubes / count).abs() < 0.03);
    // The ends of the range of both words.
    for (a, b) in [(0, 0), (u32::MAX, u32::MAX), (0, u32::MAX)] {
        let (x, y) = normal_f32(a, b);
        assert!(x.is_finite() && y.is_finite());
    }
    assert_eq!(uniform_f32(0), 0.0);
    assert_eq!(uniform_f32(u32::MAX), 1.0 - f32::EPSILON / 2.0);
}

#[test]
fn lane_sums_follow_the_written_order() {
    let values: Vec<f32> = (0..37).map(|i| 0.1 + i as f32 * 1.37).collect();
    let mut lanes = [0.0f32; 16];
    for i in 0..37 {
        lanes[i % 16] += values[i];
    }
    let eight: Vec<f32> = (0..8).map(|j| lanes[j] + lanes[j + 8]).collect();
    let four: Vec<f32> = (0..4).map(|j| eight[j] + eight[j + 4]).collect();
    let two: Vec<f32> = (0..2).map(|j| four[j] + four[j + 2]).collect();
    same(sum_lanes(values.iter().copied()), two[0] + two[1]);
    same(sum_lanes([]), 0.0);

    let many: Vec<f32> = (0..5000).map(|i| (i as f32).sin()).collect();
    let whole = sum_squares(0.0, &many);
    let parts = sum_squares(sum_squares(0.0, &many[..4096]), &many[4096..]);
    assert_eq!(whole.to_bits(), parts.to_bits());
    let exact: f64 = many.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    assert!((whole - exact).abs() < 1e-9 * exact);
}
