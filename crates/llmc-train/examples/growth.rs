//! How speed grows with the model: FLOP/s from 2 to 64 layers, and the time of building and planning.
//!
//! ```text
//! cargo run --release -p llmc-train --example growth -- 2
//! ```
//!
//! Argument: threads. FLOPs are those of the matrix products and of the visible half of attention, three times the
//! forward pass. Planning includes initial weights.
//! Attention by its window is in the example `window_speed` of `llmc-runtime`.

mod common;

use common::{Shape, median_step, trainer};
use std::time::Instant;

/// FLOPs of a training step.
fn flops(s: Shape) -> f64 {
    let head_dim = s.hidden / s.heads;
    let layer =
        2 * s.hidden * s.hidden + 2 * s.hidden * s.kv_heads * head_dim + 3 * s.hidden * s.ffn;
    let weights = s.layers * layer + s.vocab * s.hidden;
    let tokens = s.batch * s.sequence;
    (6 * weights * tokens + 6 * s.layers * tokens * s.sequence * s.hidden) as f64
}

fn main() {
    let threads: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2);
    println!("layers  parameters  plan ms  ms a step  GFLOP/s  of the first");
    let mut first = None;
    for layers in [2, 4, 8, 16, 32, 64] {
        let shape = Shape {
            vocab: 2048,
            hidden: 256,
            layers,
            heads: 8,
            kv_heads: 8,
            ffn: 688,
            sequence: 256,
            batch: 4,
        };
        let began = Instant::now();
        let (mut trainer, parameters) = trainer(shape, "float32", threads);
        let planned = began.elapsed().as_secs_f64();
        let step = median_step(&mut trainer, shape, 5);
        let speed = flops(shape) / step / 1e9;
        let of_first = speed / *first.get_or_insert(speed);
        println!(
            "{layers:6}  {parameters:10}  {:7.1}  {:9.1}  {speed:7.1}  {of_first:12.3}",
            planned * 1e3,
            step * 1e3
        );
    }
}
