//! Speed of inference with weights of no meaning: what `benches/inference.py` compares with llama.cpp, onnxruntime and
//! PyTorch.
//!
//! ```text
//! cargo run --release -p llmc --example inference_speed -- c q8_0 prefill 512 2
//! cargo run --release -p llmc --example inference_speed -- c bf16 decode 128 2 8
//! ```
//!
//! Arguments: size (`b` of 7.9 M parameters, `c` of 46 M, `1.1B`), format of the weights, `prefill` or `decode`,
//! tokens, threads, texts at once. Prefill takes that many tokens into an empty cache; decoding begins
//! with an empty cache and makes that many one by one. Prints tokens per second, of the median round.

use llmc::pipeline::{Defaults, Failure, Project};
use llmc_ir::{DType, Module};
use llmc_passes::{WeightFormat, pack_panels, pack_weights};
use llmc_runtime::{Batch, Engine, Session};
use llmc_spec::{Format, Goal};
use std::time::Instant;

/// Rounds that are timed; as many tokens as asked for in each.
const ROUNDS: usize = 5;

/// The module of a size, and its vocabulary.
fn module(size: &str, context: usize) -> Result<(Module, u32), Failure> {
    // vocab, hidden, layers, heads, kv heads, ffn: the ffn of `b` is a multiple of 32, as block formats need it.
    let (v, e, l, h, k, f) = match size {
        "c" => (16384, 512, 12, 8, 8, 1376),
        "1.1B" => (32000, 2048, 22, 32, 4, 5632),
        _ => (8192, 256, 8, 8, 4, 704),
    };
    let tied = size != "1.1B";
    let spec = format!(
        "[model]\nvocab_size = {v}\ncontext_length = {context}\nnum_layers = {l}\nhidden_size = {e}\nnum_heads = {h}\n\
         num_kv_heads = {k}\nintermediate_size = {f}\nattention = \"gqa\"\nactivation = \"swiglu\"\n\
         norm = \"rmsnorm\"\ntie_embeddings = {tied}\n"
    );
    let (project, _) =
        Project::parse(&spec, Format::Toml, "spec", &[], Goal::Model, Defaults::Record)?;
    Ok((project.build()?, v))
}

/// Harmless values for a weight, of any dtype: small, of both signs.
fn fill(dtype: DType, seed: &mut u32, bytes: &mut [u8]) {
    let mut next = || {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *seed >> 8
    };
    let mut float = |scale: f32| (next() as f32 / (1 << 23) as f32 - 1.0) * scale;
    match dtype {
        DType::F32 => bytes
            .chunks_exact_mut(4)
            .for_each(|word| word.copy_from_slice(&float(0.03).to_ne_bytes())),
        DType::Bf16 => bytes.chunks_exact_mut(2).for_each(|half| {
            half.copy_from_slice(&((float(0.03).to_bits() >> 16) as u16).to_ne_bytes())
        }),
        // 2⁻¹², a scale of blocks.
        DType::F16 => bytes
            .chunks_exact_mut(2)
            .for_each(|half| half.copy_from_slice(&0x0c00u16.to_ne_bytes())),
        _ => bytes.iter_mut().for_each(|byte| *byte = (float(1.0) * 127.0) as i8 as u8),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize, default: &'static str| args.get(i).map_or(default, String::as_str);
    let (size, format, work) = (arg(0, "b"), arg(1, "f32"), arg(2, "decode"));
    let n_tokens: usize = arg(3, "128").parse()?;
    let (threads, rows): (usize, usize) = (arg(4, "2").parse()?, arg(5, "1").parse()?);
    let format = WeightFormat::parse(format).ok_or("no such format of weights")?;
    let (module, vocab) = module(size, n_tokens)?;
    let module = pack_panels(&pack_weights(&module, format)?)?;
    let engine = Engine::new(threads, None)?;
    let ids: Vec<u32> =
        (0..n_tokens as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) % vocab).collect();

    let mut seed = 1;
    let mut times = Vec::new();
    if rows == 1 {
        let mut session = Session::new(&module, n_tokens, engine)?;
        for path in session.weights() {
            let dtype = session.weight_view(&path).ok_or("a weight without a view")?.dtype;
            fill(dtype, &mut seed, session.weight_bytes_mut(&path)?);
        }
        for round in 0..=ROUNDS {
            // Another first token: nothing is left of the round before.
            let mut ids = ids.clone();
            ids[0] = round as u32;
            let began = Instant::now();
            let first = if work == "prefill" { n_tokens } else { 1 };
            for n in first..=n_tokens {
                session.next_logits(&ids[..n])?;
            }
            times.push(began.elapsed().as_secs_f64());
        }
    } else {
        let mut batch = Batch::new(&module, rows, n_tokens, engine)?;
        for path in batch.weights() {
            let dtype = batch.weight_view(&path).ok_or("a weight without a view")?.dtype;
            fill(dtype, &mut seed, batch.weight_bytes_mut(&path)?);
        }
        for round in 0..=ROUNDS {
            let began = Instant::now();
            let mut joined = Vec::new();
            for row in 0..rows {
                joined.push(batch.join(&[(round * rows + row) as u32])?);
            }
            batch.next_logits()?;
            for id in &ids[1..] {
                for (row, sequence) in joined.iter().enumerate() {
                    batch.push(*sequence, (id + row as u32) % vocab)?;
                }
                batch.next_logits()?;
            }
            for sequence in joined {
                batch.leave(sequence)?;
            }
            times.push(began.elapsed().as_secs_f64());
        }
    }
    // The first round makes the plans.
    let mut timed = times.split_off(1);
    timed.sort_by(f64::total_cmp);
    let median = timed[ROUNDS / 2];
    eprintln!(
        "{size} {}: {:.3} ms a token of each text",
        format.name(),
        median * 1e3 / n_tokens as f64
    );
    println!("{:.1}", (n_tokens * rows) as f64 / median);
    Ok(())
}
