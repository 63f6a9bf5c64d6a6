//! Parameter counts of published decoders, reproduced to the unit.
//!
//! Shapes come from the `config.json` in the named repository on the Hugging Face hub, counts
//! from the model's safetensors metadata there or from the paper. A count is that of the unique
//! trained parameters: some LLaMA-1 and Llama-2 files also hold `head_dim / 2` rotary
//! frequencies per layer, which are no parameters and are left out here.

// The whole program is a test; helpers panic on purpose.
#![allow(clippy::unwrap_used)]

use llmc_model::{build, parameter_polynomial, skeleton};
use llmc_spec::{
    Activation, Architecture, AttentionKind, Biases, DimExprs, Dims, Dropout, Init, Norm, Position,
    RopeScaling, Template,
};

/// Name | repository | architecture | vocab_size context_length num_layers hidden_size num_heads
/// num_kv_heads head_dim intermediate_size | parameters.
const PUBLISHED: &str = "
# Radford et al. 2019, Language Models are Unsupervised Multitask Learners, table 2.
GPT-2 small | openai-community/gpt2 | gpt2 | 50257 1024 12 768 12 12 64 3072 | 124439808
GPT-2 medium | openai-community/gpt2-medium | gpt2 | 50257 1024 24 1024 16 16 64 4096 | 354823168
GPT-2 large | openai-community/gpt2-large | gpt2 | 50257 1024 36 1280 20 20 64 5120 | 774030080
GPT-2 xl | openai-community/gpt2-xl | gpt2 | 50257 1024 48 1600 25 25 64 6400 | 1557611200
DistilGPT2 | distilbert/distilgpt2 | gpt2 | 50257 1024 6 768 12 12 64 3072 | 81912576
# Touvron et al. 2023, arXiv:2302.13971, table 2.
LLaMA 7B | huggyllama/llama-7b | base | 32000 2048 32 4096 32 32 128 11008 | 6738415616
LLaMA 13B | huggyllama/llama-13b | base | 32000 2048 40 5120 40 40 128 13824 | 13015864320
LLaMA 33B | huggyllama/llama-30b | base | 32000 2048 60 6656 52 52 128 17920 | 32528943616
LLaMA 65B | huggyllama/llama-65b | base | 32000 2048 80 8192 64 64 128 22016 | 65285660672
# Touvron et al. 2023, arXiv:2307.09288.
Llama 2 7B | meta-llama/Llama-2-7b-hf | base | 32000 4096 32 4096 32 32 128 11008 | 6738415616
Llama 2 13B | meta-llama/Llama-2-13b-hf | base | 32000 4096 40 5120 40 40 128 13824 | 13015864320
Llama 2 70B | meta-llama/Llama-2-70b-hf | base | 32000 4096 80 8192 64 8 128 28672 | 68976648192
# Rozière et al. 2023, arXiv:2308.12950.
Code Llama 7B | codellama/CodeLlama-7b-hf | mistral | 32016 16384 32 4096 32 32 128 11008 | 6738546688
Code Llama 34B | codellama/CodeLlama-34b-hf | mistral | 32000 16384 48 8192 64 8 128 22016 | 33743970304
# Llama team 2024, arXiv:2407.21783, table 3.
Llama 3 8B | meta-llama/Meta-Llama-3-8B | llama3 | 128256 8192 32 4096 32 8 128 14336 | 8030261248
Llama 3 70B | meta-llama/Meta-Llama-3-70B | llama3 | 128256 8192 80 8192 64 8 128 28672 | 70553706496
Llama 3.1 8B | meta-llama/Llama-3.1-8B | llama31 | 128256 131072 32 4096 32 8 128 14336 | 8030261248
Llama 3.1 70B | meta-llama/Llama-3.1-70B | llama31 | 128256 131072 80 8192 64 8 128 28672 | 70553706496
Llama 3.1 405B | meta-llama/Llama-3.1-405B | llama31 | 128256 131072 126 16384 128 8 128 53248 | 405853388800
Llama 3.2 1B | meta-llama/Llama-3.2-1B | llama32 | 128256 131072 16 2048 32 8 64 8192 | 1235814400
Llama 3.2 3B | meta-llama/Llama-3.2-3B | llama32 | 128256 131072 28 3072 24 8 128 8192 | 3212749824
# Jiang et al. 2023, arXiv:2310.06825.
Mistral 7B v0.1 | mistralai/Mistral-7B-v0.1 | windowed | 32000 32768 32 4096 32 8 128 14336 | 7241732096
Mistral 7B v0.3 | mistralai/Mistral-7B-v0.3 | mistral | 32768 32768 32 4096 32 8 128 14336 | 7248023552
Mistral Nemo | mistralai/Mistral-Nemo-Base-2407 | mistral | 131072 131072 40 5120 32 8 128 14336 | 12247782400
Mistral Small | mistralai/Mistral-Small-Instruct-2409 | mistral | 32768 32768 56 6144 48 8 128 16384 | 22247282688
# Qwen team 2024, arXiv:2412.15115.
Qwen2.5 0.5B | Qwen/Qwen2.5-0.5B | qwen_tied | 151936 32768 24 896 14 2 64 4864 | 494032768
Qwen2.5 1.5B | Qwen/Qwen2.5-1.5B | qwen_tied | 151936 131072 28 1536 12 2 128 8960 | 1543714304
Qwen2.5 3B | Qwen/Qwen2.5-3B | qwen_tied | 151936 32768 36 2048 16 2 128 11008 | 3085938688
Qwen2.5 7B | Qwen/Qwen2.5-7B | qwen | 152064 131072 28 3584 28 4 128 18944 | 7615616512
Qwen2.5 14B | Qwen/Qwen2.5-14B | qwen | 152064 131072 48 5120 40 8 128 13824 | 14770033664
Qwen2.5 32B | Qwen/Qwen2.5-32B | qwen | 152064 131072 64 5120 40 8 128 27648 | 32763876352
Qwen2.5 72B | Qwen/Qwen2.5-72B | qwen | 152064 131072 80 8192 64 8 128 29568 | 72706203648
# Ben Allal et al. 2025, arXiv:2502.02737.
SmolLM2 135M | HuggingFaceTB/SmolLM2-135M | smol | 49152 8192 30 576 9 3 64 1536 | 134515008
SmolLM2 360M | HuggingFaceTB/SmolLM2-360M | smol | 49152 8192 32 960 15 5 64 2560 | 361821120
SmolLM2 1.7B | HuggingFaceTB/SmolLM2-1.7B | smol | 49152 8192 24 2048 32 32 64 8192 | 1711376384
# Zhang et al. 2024, arXiv:2401.02385.
TinyLlama 1.1B | TinyLlama/TinyLlama_v1.1 | base | 32000 2048 22 2048 32 4 64 5632 | 1100048384
# 01.AI 2024, arXiv:2403.04652.
Yi 6B | 01-ai/Yi-6B | base | 64000 4096 32 4096 32 4 128 11008 | 6061035520
Yi 34B | 01-ai/Yi-34B | base | 64000 4096 60 7168 56 8 128 20480 | 34388917248
# DeepSeek-AI 2024, arXiv:2401.02954.
DeepSeek LLM 7B | deepseek-ai/deepseek-llm-7b-base | base | 102400 4096 30 4096 32 32 128 11008 | 6910365696
# Geng and Liu 2023, OpenLLaMA.
OpenLLaMA 3B | openlm-research/open_llama_3b | base | 32000 2048 26 3200 32 32 100 8640 | 3426473600
";

const QKV: Biases = Biases {
    q: true,
    k: true,
    v: true,
    o: false,
    gate: false,
    up: false,
    down: false,
    lm_head: false,
    norm: false,
};

fn llama(theta: f64, tie_embeddings: bool, biases: Biases) -> Architecture {
    Architecture {
        template: Template::DecoderOnly,
        attention: AttentionKind::Gqa,
        sliding_window: None,
        norm: Norm::RmsNorm,
        norm_eps: 1e-5,
        activation: Activation::SwiGlu,
        position: Position::Rope { theta, scaling: RopeScaling::None },
        tie_embeddings,
        biases,
        dropout: Dropout::default(),
        attention_scale: None,
        init: Init { std: 0.02, is_residual_scaled: false },
        mup: None,
    }
}

fn gpt2() -> Architecture {
    let all = Biases { o: true, up: true, down: true, norm: true, ..QKV };
    Architecture {
        norm: Norm::LayerNorm,
        activation: Activation::GeluTanh,
        position: Position::Learned,
        ..llama(1.0, true, all)
    }
}

/// The architectures of the table, by name.
fn architectures() -> Vec<(&'static str, Architecture)> {
    let gpt2 = gpt2();
    let base = llama(1e4, false, Biases::default());
    let llama3 = llama(5e5, false, Biases::default());
    let llama31 = Architecture {
        position: Position::Rope {
            theta: 5e5,
            scaling: RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_context_length: 8192,
            },
        },
        ..llama3.clone()
    };
    let llama32 = Architecture { tie_embeddings: true, ..llama31.clone() };
    let windowed = Architecture { sliding_window: Some(4096), ..base.clone() };
    let mistral = llama(1e6, false, Biases::default());
    let qwen_tied = llama(1e6, true, QKV);
    let qwen = llama(1e6, false, QKV);
    let smol = llama(1e5, true, Biases::default());
    vec![
        ("gpt2", gpt2),
        ("base", base),
        ("llama3", llama3),
        ("llama31", llama31),
        ("llama32", llama32),
        ("windowed", windowed),
        ("mistral", mistral),
        ("qwen_tied", qwen_tied),
        ("qwen", qwen),
        ("smol", smol),
    ]
}

#[test]
fn published_counts_are_reproduced_to_the_unit() {
    let architectures = architectures();
    let rows = PUBLISHED.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let mut n_models = 0;
    for row in rows {
        let columns: Vec<&str> = row.split(" | ").collect();
        let [_name, _source, arch, dims, parameters] = columns[..] else { panic!("{row}") };
        let (_, arch) = architectures.iter().find(|(name, _)| *name == arch).expect(row);
        let dims: Vec<u64> = dims.split(' ').map(|d| d.parse().expect(row)).collect();
        let dims = Dims::from_array(dims.try_into().expect(row));
        let expected: Option<i128> = parameters.parse().ok();
        let polynomial = parameter_polynomial(arch).unwrap();
        assert_eq!(polynomial.eval(&dims.env()), expected, "polynomial of {row}");
        let concrete = skeleton(arch, &DimExprs::from(&dims)).unwrap().parameters("forward");
        assert_eq!(concrete.as_constant(), expected, "functions of {row}");
        build(arch, &DimExprs::from(&dims)).unwrap();
        n_models += 1;
    }
    assert!(n_models >= 20, "{n_models}");
}
