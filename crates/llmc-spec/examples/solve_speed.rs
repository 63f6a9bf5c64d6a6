//! How long the solver takes from two thousand to a trillion parameters.
//!
//! `cargo run --release -p llmc-spec --example solve_speed`

use llmc_base::Expr;
use llmc_spec::solver::Bound;
use llmc_spec::{Dim, Problem, architecture::AttentionKind, solve};
use std::time::{Duration, Instant};

fn main() {
    let params = Expr::parse(
        "vocab_size*hidden_size + hidden_size + num_layers*(2*hidden_size*num_heads*head_dim \
         + 2*hidden_size*num_kv_heads*head_dim + 3*hidden_size*intermediate_size + 2*hidden_size)",
    )
    .expect("a constant of this example");
    println!(
        "{:>16} {:>8} {:>10}  {:>8} {:>10} dims L E H K D F",
        "target", "vocab", "time", "gap", "lattice"
    );
    let mut slowest = Duration::ZERO;
    for exponent in 0..=44 {
        // 2e3 … 1e12 in steps of about a fifth of a decade, as odd numbers.
        let target = (2e3 * 10f64.powf(f64::from(exponent) * 8.7 / 44.0)) as u64 | 1;
        let vocab = match target {
            0..20_000 => 32,
            20_000..1_000_000 => 256,
            1_000_000..50_000_000 => 4096,
            50_000_000..1_000_000_000 => 32_000,
            _ => 128_256,
        };
        let problem = Problem::new(params.clone(), AttentionKind::Gqa)
            .expect("every symbol is a dim")
            .fix(Dim::VocabSize, vocab)
            .bound(Dim::ContextLength, Bound::fixed(1024))
            .target(target, 0.01);
        let start = Instant::now();
        let result = solve(&problem);
        let time = start.elapsed();
        slowest = slowest.max(time);
        match result {
            Ok(s) => {
                let d = s.dims;
                println!(
                    "{target:>16} {vocab:>8} {time:>10.2?}  {:>8} {:>10} {} {} {} {} {} {}",
                    s.params.abs_diff(target),
                    format!("{:?}", s.lattice),
                    d.num_layers,
                    d.hidden_size,
                    d.num_heads,
                    d.num_kv_heads,
                    d.head_dim,
                    d.intermediate_size,
                );
            }
            Err(conflict) => {
                println!("{target:>16} {vocab:>8} {time:>10.2?}  {:?}", conflict.cores)
            }
        }
    }
    println!("slowest: {slowest:.2?}");
    if slowest > Duration::from_millis(50) {
        eprintln!("slower than the promised 50 ms");
        std::process::exit(1);
    }
}
