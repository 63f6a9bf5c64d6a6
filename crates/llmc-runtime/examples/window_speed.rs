//! Time of attention, forward and backward, by the length of its window.
//!
//! `cargo run --release -p llmc-runtime --example window_speed [threads]`: one text of 8192 tokens, 8 heads of 64.
//! Where time is linear in the window the last column is constant.

use llmc_kernels::{
    Attention, Ctx, Error, attention, attention_backward, attention_backward_scratch_len,
    attention_scratch_len,
};
use llmc_runtime::Pool;
use std::time::Instant;

/// Seconds of attention with its gradient over one text, the best of some.
fn attention_seconds(ctx: &Ctx<'_>, length: usize, window: Option<usize>) -> Result<f64, Error> {
    let shape = Attention {
        batch: 1,
        n_heads: 8,
        n_kv_heads: 8,
        q_len: length,
        kv_len: length,
        kv_capacity: length,
        head_dim: 64,
        scale: 0.125,
        causal: true,
        window,
    };
    let n = length * 8 * 64;
    let values: Vec<f32> = (0..n).map(|i| (i % 97) as f32 / 97.0 - 0.5).collect();
    let (mut o, mut dq, mut dk, mut dv) = (vec![0.0; n], vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let forward = attention_scratch_len(&shape, false, ctx.threads());
    let backward = attention_backward_scratch_len(&shape, false, ctx.threads());
    let mut scratch = vec![0.0; forward.max(backward)];
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let x = &values[..];
        let began = Instant::now();
        attention(ctx, &shape, x, x, x, None, None, &mut o, &mut scratch)?;
        attention_backward(
            ctx,
            &shape,
            x,
            x,
            x,
            x,
            None,
            None,
            &mut dq,
            &mut dk,
            &mut dv,
            &mut scratch,
        )?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn main() -> Result<(), Error> {
    let threads: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2);
    let pool = Pool::new(threads);
    let ctx = Ctx::detect(&pool);
    println!("window  ms of attention over 8192 tokens  µs per token of window");
    for window in [128, 256, 512, 1024, 2048] {
        let seconds = attention_seconds(&ctx, 8192, Some(window))?;
        println!("{window:6}  {:32.1}  {:22.1}", seconds * 1e3, seconds * 1e6 / window as f64);
    }
    println!("  none  {:32.1}", attention_seconds(&ctx, 8192, None)? * 1e3);
    Ok(())
}
