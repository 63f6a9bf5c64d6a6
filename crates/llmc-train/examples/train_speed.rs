//! Training speed of the engine on random tokens: what `benches/run.sh` compares with PyTorch.
//!
//! ```text
//! cargo run --release -p llmc-train --example train_speed -- b 6 2
//! ```
//!
//! Arguments: size (`tiny`, `b` of 7.9 M parameters, `c` of 46 M), timed steps, threads, `float32` or
//! `bfloat16`. Prints tokens per second of the median step.

mod common;

use common::{Shape, median_step, trainer};

/// Vocabulary, hidden, layers, heads, key heads, ffn, sequence, batch.
fn shape([vocab, hidden, layers, heads, kv_heads, ffn, sequence, batch]: [usize; 8]) -> Shape {
    Shape { vocab, hidden, layers, heads, kv_heads, ffn, sequence, batch }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let size = args.next().unwrap_or_else(|| "b".to_string());
    let steps: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(6);
    let threads: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(2);
    let precision = args.next().unwrap_or_else(|| "float32".to_string());
    let shape = shape(match size.as_str() {
        "tiny" => [32, 16, 1, 2, 1, 32, 16, 2],
        "c" => [16384, 512, 12, 8, 8, 1376, 512, 4],
        _ => [8192, 256, 8, 8, 4, 688, 256, 8],
    });
    let (mut trainer, parameters) = trainer(shape, &precision, threads);
    let median = median_step(&mut trainer, shape, steps);
    eprintln!(
        "{parameters} parameters, {threads} threads, {:.2} ms a step, {:.1} MiB",
        median * 1e3,
        trainer.memory_bytes() as f64 / (1 << 20) as f64
    );
    println!("{:.1}", (shape.batch * shape.sequence) as f64 / median);
}
