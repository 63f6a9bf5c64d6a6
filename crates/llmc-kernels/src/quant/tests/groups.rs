//! Weights with a scale and a minimum per group, against a plain transcription of their definition.

use super::*;

/// Weights as rows: codes [outputs, k], and per block of 32 its scale and minimum.
struct Rows {
    codes: Vec<u8>,
    blocks: Vec<[f32; 2]>,
}

/// 4-bit panels out of codes by the layout's definition: the two's complement of c − 8.
fn nibbles(codes: &[u8], outputs: usize, k: usize) -> Vec<u8> {
    let quants: Vec<i32> = codes.iter().map(|&c| i32::from(c) - 8).collect();
    panels_of(&Weights { quants, scales: vec![0.0; outputs * k / BLOCK] }, outputs, k).1
}

/// Panels [panels, per_row, 16] of rows [outputs, per_row].
fn turned<T: Copy + Default>(rows: &[T], outputs: usize, per_row: usize) -> Vec<T> {
    let mut to = vec![T::default(); panels(outputs) * per_row * PANEL];
    for output in 0..outputs {
        for at in 0..per_row {
            to[(output / PANEL * per_row + at) * PANEL + output % PANEL] =
                rows[output * per_row + at];
        }
    }
    to
}

/// The definition, block by block.
fn product(x: &[f32], k: usize, weights: &Rows, output: usize) -> f32 {
    let mut sum = 0.0;
    for (block, x) in x.chunks_exact(BLOCK).enumerate() {
        let (x, x_scale) = rounded_block(x);
        let codes = &weights.codes[output * k + block * BLOCK..][..BLOCK];
        let product: i32 = x.iter().zip(codes).map(|(x, &c)| x * i32::from(c)).sum();
        let minus_x = -x.iter().sum::<i32>();
        let [scale, min] = weights.blocks[output * (k / BLOCK) + block];
        sum = Lanes::fma(product as f32, scale * x_scale, sum);
        sum = Lanes::fma(minus_x as f32, min * x_scale, sum);
    }
    sum
}

/// The kernel everywhere against the definition.
fn check(
    values: &mut Values,
    rows: usize,
    k: usize,
    outputs: usize,
    weights: &Rows,
    scales: GroupScales,
) {
    let mut x = values.wild(rows * k);
    for (i, block) in x.chunks_exact_mut(BLOCK).enumerate() {
        match i % 4 {
            0 => block.fill(0.0),
            1 => block.iter_mut().for_each(|x| *x *= 1e-40),
            _ => block.iter_mut().for_each(|x| *x = x.clamp(-1.0, 1.0)),
        }
    }
    let bias = values.units(outputs);
    let quants = nibbles(&weights.codes, outputs, k);
    let mut expected = Vec::new();
    for row in 0..rows {
        for (output, bias) in bias.iter().enumerate() {
            expected.push(product(&x[row * k..(row + 1) * k], k, weights, output) + bias);
        }
    }
    everywhere(|ctx| {
        let mut y = vec![f32::NAN; rows * outputs];
        let mut scratch = vec![f32::NAN; quantized_scratch_len(rows, k)];
        group_quantized_linear(
            ctx,
            &x,
            k,
            &quants,
            scales,
            Some(&bias),
            outputs,
            &mut y,
            &mut scratch,
        )
        .unwrap();
        assert_bits("group_quantized_linear", ctx, &y, &expected);
    });
}

/// (rows, outputs, k) around the boundaries of tiles and panels; k is a multiple of 256.
const WIDE: [(usize, usize, usize); 4] = if cfg!(miri) {
    [(1, 3, 256), (0, 5, 256), (1, 0, 256), (2, 17, 0)]
} else {
    [(1, 300, 256), (3, 77, 512), (8, 33, 768), (17, 130, 256)]
};

fn codes(values: &mut Values, n: usize) -> Vec<u8> {
    (0..n).map(|_| (values.word() % 16) as u8).collect()
}

#[test]
fn groups_give_the_bits_of_the_definition() {
    for (rows, outputs, k) in WIDE {
        for group in [32, 64, 128] {
            let mut values = Values::new((rows * 1000 + outputs + group) as u64);
            let n = outputs * k / group;
            let half = |v: Vec<f32>| -> Vec<u16> { v.into_iter().map(f16_from_f32).collect() };
            let (scale, min) = (half(values.units(n)), half(values.units(n)));
            let weights = Rows {
                codes: codes(&mut values, outputs * k),
                blocks: (0..outputs * k / BLOCK)
                    .map(|at| [scale[at * BLOCK / group], min[at * BLOCK / group]].map(from_f16))
                    .collect(),
            };
            let (scale, min) =
                (turned(&scale, outputs, k / group), turned(&min, outputs, k / group));
            let scales = GroupScales::F16 { group, scale: &scale, min: &min };
            check(&mut values, rows, k, outputs, &weights, scales);
        }
    }
}

#[test]
fn super_blocks_give_the_bits_of_the_definition() {
    for (rows, outputs, k) in WIDE {
        let mut values = Values::new((rows * 1000 + outputs) as u64);
        let n = outputs * k / BLOCK;
        let mut six = || (0..n).map(|_| (values.word() % 64) as u8).collect::<Vec<u8>>();
        let (scale, min) = (six(), six());
        let half = |v: Vec<f32>| -> Vec<u16> { v.into_iter().map(f16_from_f32).collect() };
        let (d, dmin) = (half(values.units(n / 8)), half(values.units(n / 8)));
        let weights = Rows {
            codes: codes(&mut values, outputs * k),
            // Exact: 11 bits by 6 bits.
            blocks: (0..n)
                .map(|at| {
                    let whole = |d: u16, v: u8| from_f16(d) * f32::from(v);
                    [whole(d[at / 8], scale[at]), whole(dmin[at / 8], min[at])]
                })
                .collect(),
        };
        let small = |v: &[u8]| turned(v, outputs, k / BLOCK);
        let large = |v: &[u16]| turned(v, outputs, k / SUPER_BLOCK);
        let (scale, min, d, dmin) = (small(&scale), small(&min), large(&d), large(&dmin));
        let scales = GroupScales::Super { scale: &scale, min: &min, d: &d, dmin: &dmin };
        check(&mut values, rows, k, outputs, &weights, scales);
    }
}

/// How one format rounds rows; the weights that it stands for.
fn rounded(format: &str, w: &[f32], outputs: usize, k: usize) -> Vec<f32> {
    let n = panels(outputs) * k * PANEL;
    let (mut q, mut to) = (vec![0; n / 2], vec![0.0; outputs * k]);
    if format == "q4_k" {
        let (mut scale, mut min) = (vec![0; n / BLOCK], vec![0; n / BLOCK]);
        let (mut d, mut dmin) = (vec![0; n / SUPER_BLOCK], vec![0; n / SUPER_BLOCK]);
        quantize_q4_k(w, k, &mut q, &mut scale, &mut min, &mut d, &mut dmin).unwrap();
        assert!(scale.iter().chain(&min).all(|v| *v < 64));
        let scales = GroupScales::Super { scale: &scale, min: &min, d: &d, dmin: &dmin };
        group_weights(&q, scales, outputs, k, &mut to).unwrap();
    } else {
        let group: usize = format.parse().unwrap();
        let (mut scale, mut min) = (vec![0; n / group], vec![0; n / group]);
        quantize_groups(w, k, group, &mut q, &mut scale, &mut min).unwrap();
        let scales = GroupScales::F16 { group, scale: &scale, min: &min };
        group_weights(&q, scales, outputs, k, &mut to).unwrap();
    }
    to
}

fn relative(w: &[f32], to: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let off: f64 = w.iter().zip(to).map(|(w, y)| square(w - y)).sum();
    (off / w.iter().map(|w| square(*w)).sum::<f64>()).sqrt()
}

/// Weights like those of a trained layer: bells of different widths per row, and a few outliers.
fn trained(values: &mut Values, outputs: usize, k: usize) -> Vec<f32> {
    let mut w = vec![0.0f32; outputs * k];
    for _ in 0..6 {
        w.iter_mut().zip(values.units(outputs * k)).for_each(|(w, u)| *w += u);
    }
    for (row, w) in w.chunks_exact_mut(k).enumerate() {
        w.iter_mut().for_each(|w| *w *= 0.01 * (1.0 + row as f32 % 7.0));
        w[row * 37 % k] *= 4.0;
    }
    w
}

#[test]
fn no_weight_is_off_by_more_than_its_step() {
    let (outputs, k) = (5, 512);
    let w = Values::new(3).units(outputs * k);
    for format in ["32", "64", "128", "q4_k"] {
        let to = rounded(format, &w, outputs, k);
        for (w, to) in w.chunks_exact(BLOCK).zip(to.chunks_exact(BLOCK)) {
            let group = if format == "q4_k" { 2.1 } else { 2.0 };
            // Weights of −1..1 in 15 steps; the fit may leave an end out by half a step more.
            let step = group / 15.0;
            w.iter()
                .zip(to)
                .for_each(|(w, to)| assert!((w - to).abs() <= step, "{format}: {w} {to}"));
        }
        // What is representable stays: codes times a power of two, from a minimum.
        let exact: Vec<f32> = (0..outputs * k).map(|i| (i * 7 % 16) as f32 * 0.25 - 1.0).collect();
        let to = rounded(format, &exact, outputs, k);
        let limit = if format == "q4_k" { 0.01 } else { 0.0 };
        assert!(relative(&exact, &to) <= limit, "{format}: {}", relative(&exact, &to));
        let zeros = vec![0.0; outputs * k];
        assert_eq!(rounded(format, &zeros, outputs, k), zeros);
        // One value everywhere needs no steps.
        let same = vec![-0.75; outputs * k];
        assert!(relative(&same, &rounded(format, &same, outputs, k)) < 0.01, "{format}");
    }
}

#[test]
fn groups_with_a_minimum_are_nearer_than_blocks_without() {
    let (outputs, k) = if cfg!(miri) { (2, 256) } else { (48, 512) };
    let w = trained(&mut Values::new(11), outputs, k);
    let symmetric = error_of(4, &w, outputs, k);
    let error = |format: &str| relative(&w, &rounded(format, &w, outputs, k));
    let [g32, g64, g128, q4_k] = ["32", "64", "128", "q4_k"].map(error);
    assert!(g32 < g64 && g64 < g128, "{g32} {g64} {g128}");
    // 5 bits per weight beat 4.5, and so do the 4.625 of k-quants.
    assert!(g32 < 0.95 * symmetric, "{g32} {symmetric}");
    assert!(q4_k < symmetric, "{q4_k} {symmetric}");
    assert!(q4_k < 1.1 * g32, "{q4_k} {g32}");
}

#[test]
fn rows_that_are_not_whole_groups_are_refused() {
    let w = vec![0.5; 96];
    let mut q = vec![0; 96 * PANEL / 2];
    let mut short = vec![0u16; 3 * PANEL];
    let mut other = short.clone();
    let dimension = |r: Result<(), crate::Error>| matches!(r, Err(crate::Error::Dimension { .. }));
    assert!(dimension(quantize_groups(&w, 96, 64, &mut q, &mut short, &mut other)));
    assert!(dimension(quantize_groups(&w, 96, 48, &mut q, &mut short, &mut other)));
    assert!(quantize_groups(&w, 96, 32, &mut q, &mut short[1..], &mut other).is_err());
    assert!(dimension(quantize_groups(&[f32::NAN; 96], 96, 32, &mut q, &mut short, &mut other)));
    let scales = GroupScales::F16 { group: 64, scale: &short, min: &other };
    let ctx = Ctx::detect(&Serial);
    let mut scratch = vec![0.0; quantized_scratch_len(1, 96)];
    let mut y = [0.0];
    assert!(dimension(group_quantized_linear(
        &ctx,
        &w,
        96,
        &q,
        scales,
        None,
        1,
        &mut y,
        &mut scratch,
    )));
}
