//! Every vector type against its lanes, and the functions of `llmc_base::math`
//! on every instruction set against the scalar ones.

use std::vec::Vec;

use llmc_base::math;

use super::*;
use crate::Isa;
use crate::isa::{Kernel, dispatch};
use crate::testing::Values;

/// Arguments of all kinds, a multiple of 16 of them.
fn arguments() -> Vec<f32> {
    let mut values = Values::new(3);
    let mut all = Vec::from([
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        -f32::from_bits(7),
        f32::MAX,
        f32::MIN,
        -87.5,
        -103.5,
        88.7,
        1e8,
    ]);
    all.extend((0..512).map(|_| f32::from_bits(values.word())));
    all.extend((0..512).map(|_| values.unit() * 100.0));
    all.extend(values.units(512));
    // The subnormals of f16, and the end of its range.
    all.extend((0..512).map(|i| values.unit() * if i % 2 == 0 { 1e-4 } else { 70_000.0 }));
    all
}

#[track_caller]
fn same(what: &str, isa: Isa, got: f32, want: f32) {
    let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
    assert!(same, "{what} on {}: {got:e}, expected {want:e}", isa.name());
}

type Unary = (&'static str, fn(f32) -> f32);

struct AllUnary<'a>(&'a [f32], &'a mut Vec<[f32; 16]>);

impl Kernel for AllUnary<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Simd>(self) {
        for chunk in self.0.as_chunks::<16>().0 {
            let x = V::from_array(chunk);
            for result in [
                generic::exp(x),
                generic::log(x),
                generic::sin(x),
                generic::cos(x),
                generic::tanh(x),
                generic::erf(x),
                generic::recip(x),
                generic::rsqrt(x),
                x.sqrt(),
                x.neg(),
                x.abs(),
                x.round_f16(),
            ] {
                self.1.push(result.to_array());
            }
        }
    }
}

#[test]
fn unary_functions_equal_the_scalar_ones() {
    let unary: [Unary; 12] = [
        ("exp", math::exp),
        ("log", math::log),
        ("sin", math::sin),
        ("cos", math::cos),
        ("tanh", math::tanh),
        ("erf", math::erf),
        ("recip", math::recip),
        ("rsqrt", math::rsqrt),
        ("sqrt", math::sqrt),
        ("neg", |x| -x),
        ("abs", f32::abs),
        ("round_f16", math::round_f16),
    ];
    let x = arguments();
    for isa in Isa::available() {
        let mut got = Vec::new();
        dispatch(isa, AllUnary(&x, &mut got));
        for (row, lanes) in got.iter().enumerate() {
            let (name, f) = unary[row % unary.len()];
            for (lane, &got) in lanes.iter().enumerate() {
                same(name, isa, got, f(x[row / unary.len() * 16 + lane]));
            }
        }
    }
}

struct AllBinary<'a>(&'a [f32], &'a [f32], &'a mut Vec<[f32; 16]>);

impl Kernel for AllBinary<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Simd>(self) {
        let (a, b) = (self.0.as_chunks::<16>().0, self.1.as_chunks::<16>().0);
        for (a, b) in a.iter().zip(b) {
            let (x, y) = (V::from_array(a), V::from_array(b));
            let (one, zero) = (V::splat(1.0), V::splat(0.0));
            let (i, j) = (x.to_bits(), y.to_bits());
            for result in [
                x.add(y),
                x.sub(y),
                x.mul(y),
                x.div(y),
                x.fma(y, y),
                generic::pow(x, y),
                Lanes::max(x, y),
                Lanes::min(x, y),
                V::select(V::lt(x, y), one, zero),
                V::select(V::le(x, y), one, zero),
                V::select(V::eq(x, y), one, zero),
                V::select(V::int_lt(i, j), one, zero),
                V::select(V::int_eq(i, j), one, zero),
                V::from_int(V::int_sub(i, j)),
                V::from_int(V::int_or(V::int_sar::<7>(i), V::int_shl::<3>(j))),
                V::select(V::mask_not(V::mask_or(V::lt(x, y), V::eq(x, y))), one, zero),
            ] {
                self.2.push(result.to_array());
            }
        }
    }
}

#[test]
fn binary_functions_equal_the_scalar_ones() {
    let truth = |b: bool| f32::from(u8::from(b));
    let binary = |x: f32, y: f32| {
        let (i, j) = (x.to_bits() as i32, y.to_bits() as i32);
        [
            x + y,
            x - y,
            x * y,
            x / y,
            math::fma(x, y, y),
            math::pow(x, y),
            math::max(x, y),
            math::min(x, y),
            truth(x < y),
            truth(x <= y),
            truth(x == y),
            truth(i < j),
            truth(i == j),
            i.wrapping_sub(j) as f32,
            (i >> 7 | j << 3) as f32,
            truth(x.partial_cmp(&y).is_none_or(std::cmp::Ordering::is_gt)),
        ]
    };
    let x = arguments();
    let mut y = x.clone();
    y.rotate_left(5);
    y[16..40].copy_from_slice(&x[16..40]);
    for isa in Isa::available() {
        let mut got = Vec::new();
        dispatch(isa, AllBinary(&x, &y, &mut got));
        for (row, lanes) in got.iter().enumerate() {
            let (chunk, function) = (row / 16, row % 16);
            for (lane, &got) in lanes.iter().enumerate() {
                let i = chunk * 16 + lane;
                same(
                    &std::format!("binary {function} of {:e}, {:e}", x[i], y[i]),
                    isa,
                    got,
                    binary(x[i], y[i])[function],
                );
            }
        }
    }
}

struct Moves;

impl Kernel for Moves {
    type Output = ();
    #[inline(always)]
    fn run<V: Simd>(self) {
        let numbers: [f32; 16] = core::array::from_fn(|i| i as f32);
        for count in 0..=16 {
            let part = V::at(&numbers[..count], 0, -1.0).to_array();
            let mut out = [9.0; 16];
            V::from_array(&numbers).put(&mut out[..count], 0);
            for i in 0..16 {
                assert_eq!(part[i], if i < count { numbers[i] } else { -1.0 });
                assert_eq!(out[i], if i < count { numbers[i] } else { 9.0 });
            }
        }
        let mut rows: [V; 16] =
            core::array::from_fn(|i| V::from_array(&core::array::from_fn(|j| (i * 16 + j) as f32)));
        V::transpose(&mut rows);
        for (i, row) in rows.iter().enumerate() {
            for (j, &value) in row.to_array().iter().enumerate() {
                assert_eq!(value, (j * 16 + i) as f32);
            }
        }
        let integers: [i32; 16] = core::array::from_fn(|i| 3 - i as i32);
        let loaded = V::from_int(V::int_from_array(&integers)).to_array();
        assert_eq!(loaded, integers.map(|i| i as f32));
        assert_eq!(V::from_array(&numbers).sum(), 120.0);
        assert_eq!(V::from_array(&numbers).largest(), 15.0);
        let wild = Values::new(5).units(16);
        let lanes: [f32; 16] = wild[..].try_into().unwrap();
        assert_eq!(V::from_array(&lanes).sum(), math::sum_tree(lanes));
    }
}

#[test]
fn loads_stores_and_transposes_move_what_they_say() {
    for isa in Isa::available() {
        dispatch(isa, Moves);
    }
}

#[test]
fn flush_to_zero_of_the_caller_neither_matters_nor_changes() {
    #[cfg(target_arch = "x86_64")]
    {
        struct Halve;
        impl Kernel for Halve {
            type Output = f32;
            #[inline(always)]
            fn run<V: Simd>(self) -> f32 {
                let x = std::hint::black_box(V::splat(f32::MIN_POSITIVE));
                x.mul(V::splat(0.5)).to_array()[0]
            }
        }
        let read = || {
            let mut control = 0u32;
            // SAFETY: stores MXCSR.
            unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut control) };
            control
        };
        let write = |control: u32| {
            // SAFETY: restores or sets flush-to-zero for this test only.
            unsafe { core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control) };
        };
        for isa in Isa::available() {
            let before = read();
            write(before | 0x8040);
            let half = dispatch(isa, Halve);
            let during = read();
            write(before);
            assert_eq!(half.to_bits(), 0x0040_0000, "{}", isa.name());
            assert_eq!(during & 0xffc0, (before | 0x8040) & 0xffc0);
        }
    }
}
