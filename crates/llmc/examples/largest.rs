//! Solves, builds and counts a decoder of 405 billion parameters: time and peak memory.
//!
//! `cargo run --release -p llmc --example largest`
//!
//! Two specs, from their text to counts of parameters, FLOPs and cache: the published dimensions,
//! and free dimensions with `target_params`. Fails above 100 ms or 100 MB; the module holds one
//! call per layer and nothing per weight.

use llmc::pipeline::{Defaults, Failure, Project, inspect};
use llmc_spec::{Format, Goal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Llama 3.1 405B without its dimensions.
const COMMON: &str = "[model]\nvocab_size = 128256\ncontext_length = 131072\nattention = \"gqa\"\n\
                      activation = \"swiglu\"\nnorm = \"rmsnorm\"\ntie_embeddings = false\n";
const TARGET: u64 = 405_853_388_800;
/// Name, dimensions, and how far from the target the count may be.
const SPECS: [(&str, &str, u64); 2] = [
    (
        "published",
        "num_layers = 126\nhidden_size = 16384\nnum_heads = 128\nnum_kv_heads = 8\n\
         intermediate_size = 53248\n",
        0,
    ),
    ("target", "target_params = 405853388800\n", TARGET / 1000),
];
const MOST_TIME: Duration = Duration::from_millis(100);
const MOST_MEMORY_KB: u64 = 100_000;

fn run(spec: &str) -> Result<u64, Failure> {
    let text = format!("{COMMON}{spec}");
    let parse = Project::parse(&text, Format::Toml, "spec", &[], Goal::Model, Defaults::Record);
    Ok(inspect::counts(&parse?.0)?.parameters)
}

/// Peak resident memory of this process in KB; Linux only.
fn peak_memory_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

fn main() -> Result<ExitCode, Failure> {
    let mut is_good = true;
    for (name, spec, most) in SPECS {
        let start = Instant::now();
        let parameters = run(spec)?;
        let time = start.elapsed();
        is_good &= time < MOST_TIME && parameters.abs_diff(TARGET) <= most;
        println!("{name:<10} {parameters} parameters in {time:.2?}, of {MOST_TIME:?}");
    }
    match peak_memory_kb() {
        Some(peak) => {
            is_good &= peak < MOST_MEMORY_KB;
            println!("peak memory {peak} kB, of {MOST_MEMORY_KB} kB");
        }
        None => println!("peak memory: not known on this system"),
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
