//! Builds the 405-billion-parameter decoder and counts it: time and peak memory.
//!
//! `cargo run -p llmc-model --example largest`
//!
//! The bar is 100 ms and 100 MB; the module holds one call per layer and nothing per weight.

use llmc_ir::{TypeError, account};
use llmc_model::{build, parameter_polynomial};
use llmc_spec::{
    Activation, Architecture, AttentionKind, Biases, DimExprs, Dims, Dropout, Init, Norm, Position,
    RopeScaling, Template,
};
use std::time::Instant;

fn main() -> Result<(), TypeError> {
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context_length: 8192,
    };
    let arch = Architecture {
        template: Template::DecoderOnly,
        attention: AttentionKind::Gqa,
        sliding_window: None,
        norm: Norm::RmsNorm,
        norm_eps: 1e-5,
        activation: Activation::SwiGlu,
        position: Position::Rope { theta: 5e5, scaling },
        tie_embeddings: false,
        biases: Biases::default(),
        dropout: Dropout::default(),
        attention_scale: None,
        init: Init { std: 0.02, is_residual_scaled: false },
    };
    let dims = Dims {
        vocab_size: 128_256,
        context_length: 131_072,
        num_layers: 126,
        hidden_size: 16_384,
        num_heads: 128,
        num_kv_heads: 8,
        head_dim: 128,
        intermediate_size: 53_248,
    };
    let start = Instant::now();
    let polynomial = parameter_polynomial(&arch)?;
    let polynomial_ms = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let module = build(&arch, &DimExprs::from(&dims))?;
    let build_ms = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    let forward = module.find("forward").ok_or_else(|| TypeError::new("example", "no @forward"))?;
    let count = account::parameter_count(&module, forward).unique;
    let count_ms = start.elapsed().as_secs_f64() * 1e3;
    println!("parameters {count}, by the polynomial {:?}", polynomial.eval(&dims.env()));
    println!("polynomial {polynomial_ms:.2} ms, build {build_ms:.2} ms, count {count_ms:.2} ms");
    // Linux only; elsewhere the line is not there.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find(|line| line.starts_with("VmHWM")) {
        println!("peak memory {}", peak.trim_start_matches("VmHWM:").trim());
    }
    Ok(())
}
