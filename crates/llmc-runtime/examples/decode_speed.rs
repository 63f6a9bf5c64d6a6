//! How fast the weights of a model are read while decoding, per format, beside how fast memory is read.
//!
//! `cargo run --release -p llmc-runtime --example decode_speed [filter] [rows] [threads]`: the filter is part of
//! a line's name, like `1.1B q8`; rows is the number of texts that are decoded at once, 1 without it.
//! A line is one token through all linear maps of a model, whose weights stand one after the other in
//! memory; the rest of decoding is left out. Product and plain reading of the same bytes take turns
//! within a second, and each figure is the best of its turns, which other programs disturbed least.

use llmc_kernels::{
    BLOCK, Ctx, Gemm, MatRef, PANEL, Packed, Parallel, Precision, Quants, Scales, gemm,
    packed_linear, panels, quantized_linear, quantized_scratch_len,
};
use llmc_runtime::Pool;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

/// A model: its name, layers, (outputs, width) of the linear maps of a layer, and the head.
type Model = (&'static str, usize, &'static [(usize, usize)], (usize, usize));

const MODELS: [Model; 3] = [
    (
        "7.9M",
        8,
        &[(256, 256), (128, 256), (128, 256), (256, 256), (688, 256), (688, 256), (256, 688)],
        (8192, 256),
    ),
    (
        "46M",
        12,
        &[(512, 512), (512, 512), (512, 512), (512, 512), (1376, 512), (1376, 512), (512, 1376)],
        (16384, 512),
    ),
    (
        "1.1B",
        22,
        &[
            (2048, 2048),
            (256, 2048),
            (256, 2048),
            (2048, 2048),
            (5632, 2048),
            (5632, 2048),
            (2048, 5632),
        ],
        (32000, 2048),
    ),
];

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    /// Rows of f32, as training has them.
    F32,
    /// Panels of f32.
    F32Packed,
    Bf16,
    Q8,
    Q4,
}

impl Format {
    const ALL: [(Format, &'static str); 5] = [
        (Format::F32, "f32"),
        (Format::F32Packed, "f32 packed"),
        (Format::Bf16, "bf16"),
        (Format::Q8, "q8_0"),
        (Format::Q4, "q4_0"),
    ];

    /// The bits of a weight, without scales.
    fn bits(self) -> usize {
        match self {
            Format::F32 | Format::F32Packed => 32,
            Format::Bf16 => 16,
            Format::Q8 => 8,
            Format::Q4 => 4,
        }
    }
}

/// One matrix: values, and f16 scales where there are blocks.
struct Matrix {
    outputs: usize,
    width: usize,
    format: Format,
    values: Vec<u32>,
    scales: Vec<u16>,
}

impl Matrix {
    /// A matrix of harmless values.
    fn new((outputs, width): (usize, usize), format: Format) -> Matrix {
        // Blocks of 32: 688 of the smallest model is cut, which changes its bytes by 2 %.
        let width = width / BLOCK * BLOCK;
        let elements = panels(outputs) * PANEL * width;
        let (word, scales) = match format {
            Format::F32 | Format::F32Packed => (1.5f32.to_bits(), 0),
            Format::Bf16 => (0x3fc0_3fc0, 0),
            Format::Q8 | Format::Q4 => (0x31a7_5cf2, elements / BLOCK),
        };
        // 0x2000 is 2⁻⁷.
        let values = vec![word; elements * format.bits() / 32];
        Matrix { outputs, width, format, values, scales: vec![0x2000; scales] }
    }

    fn bytes(&self) -> usize {
        self.values.len() * 4 + self.scales.len() * 2
    }

    fn multiply(
        &self,
        ctx: &Ctx<'_>,
        x: &[f32],
        y: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), llmc_kernels::Error> {
        let (n, k) = (self.outputs, self.width);
        let rows = x.len() / k;
        let y = &mut y[..rows * n];
        let floats: &[f32] = bytemuck::cast_slice(&self.values);
        match self.format {
            Format::F32 => {
                let (a, b) = (MatRef::row_major(x, k), MatRef::row_major(floats, k).transposed());
                let (bias, residual, precision) = (None, None, Precision::F32);
                let m = rows;
                let problem = Gemm { m, n, k, a, b, accumulate: false, bias, residual, precision };
                gemm(ctx, &problem, y, n, scratch)
            }
            Format::F32Packed => packed_linear(ctx, x, k, Packed::F32(floats), None, n, y),
            Format::Bf16 => {
                let w = Packed::Bf16(bytemuck::cast_slice(&self.values));
                packed_linear(ctx, x, k, w, None, n, y)
            }
            Format::Q8 | Format::Q4 => {
                let quants = match self.format {
                    Format::Q8 => Quants::I8(bytemuck::cast_slice(&self.values)),
                    _ => Quants::I4(bytemuck::cast_slice(&self.values)),
                };
                let scales = Scales::F16(&self.scales);
                quantized_linear(ctx, x, k, quants, scales, None, n, y, scratch)
            }
        }
    }
}

/// Reads every byte once, each thread a contiguous part.
fn read(pool: &Pool, matrices: &[Matrix]) {
    for matrix in matrices {
        let values = &matrix.values;
        let share = values.len().div_ceil(pool.threads()).max(1);
        pool.run(pool.threads(), &|index| {
            let part = values.chunks(share).nth(index).unwrap_or_default();
            // Many sums, so that the additions do not hold up the reading.
            let mut sums = [0u32; 64];
            for chunk in part.chunks_exact(64) {
                sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
            }
            black_box(sums);
        });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let filter = args.next().unwrap_or_default();
    let rows: usize = args.next().map_or(Ok(1), |text| text.parse())?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads: usize = args.next().map_or(Ok(cores), |text| text.parse())?;
    let pool = Pool::new(threads);
    let ctx = Ctx::detect(&pool);
    println!("{} rows, {threads} threads, {}", rows, ctx.isa().name());
    println!(
        "{:>16} {:>8} {:>10} {:>8} {:>8} {:>6}",
        "", "MB", "ms/token", "GB/s", "read", "share"
    );
    for (model, n_layers, layer, head) in MODELS {
        for (format, name) in Format::ALL {
            let name = format!("{model} {name}");
            // Rows of f32 of the largest model take 4 GB and show nothing new.
            let is_huge = model == "1.1B" && format.bits() == 32;
            if !name.contains(&filter) || is_huge && filter != name {
                continue;
            }
            let shapes = (0..n_layers).flat_map(|_| layer).chain([&head]);
            let matrices: Vec<Matrix> = shapes.map(|shape| Matrix::new(*shape, format)).collect();
            let bytes: usize = matrices.iter().map(Matrix::bytes).sum();
            let width = matrices.iter().map(|m| m.width).max().unwrap_or(0);
            let outputs = matrices.iter().map(|m| m.outputs).max().unwrap_or(0);
            let x: Vec<f32> = (0..rows * width).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect();
            let mut y = vec![0.0; rows * outputs];
            let longest = |m: &Matrix| match m.format {
                Format::F32 => llmc_kernels::gemm_scratch_len(
                    rows,
                    m.outputs,
                    m.width,
                    Precision::F32,
                    threads,
                ),
                _ => quantized_scratch_len(rows, m.width),
            };
            let mut scratch = vec![0.0; matrices.iter().map(longest).max().unwrap_or(0)];
            let (mut product, mut reading) = (f64::INFINITY, f64::INFINITY);
            let started = Instant::now();
            let mut turns = 0;
            while turns < 3 || started.elapsed().as_secs_f64() < 2.0 {
                let began = Instant::now();
                for matrix in &matrices {
                    let x = &x[..rows * matrix.width];
                    matrix.multiply(&ctx, x, &mut y, &mut scratch)?;
                }
                product = product.min(began.elapsed().as_secs_f64());
                black_box(&y);
                let began = Instant::now();
                read(&pool, &matrices);
                reading = reading.min(began.elapsed().as_secs_f64());
                turns += 1;
            }
            let gigabytes = bytes as f64 / 1e9;
            let values: usize = matrices.iter().map(|m| m.values.len() * 4).sum();
            let (speed, limit) = (gigabytes / product, values as f64 / 1e9 / reading);
            println!(
                "{name:>16} {:8.1} {:10.3} {speed:8.1} {limit:8.1} {:5.0}%",
                bytes as f64 / 1e6,
                product * 1e3,
                speed / limit * 100.0
            );
        }
    }
    Ok(())
}
