//! Specs of published decoders count to the unit, with the count on paper of the tests.
//! Sources are the `config.json` and the safetensors index of each model card.

use crate::testing::resolved;

fn check(name: &str, model: &str, count: u64) {
    let resolved = resolved(&format!("[model]\n{model}\n")).model.unwrap();
    assert_eq!(resolved.solution.params, count, "{name}");
}

#[test]
fn published_decoders_count_to_the_unit() {
    let gpt2 = |rest: &str| {
        format!(
            "vocab_size = 50257\nn_positions = 1024\nnorm = \"layernorm\"\nactivation = \"gelu_new\"\n\
             positional_encoding = \"learned\"\nbias = true\nattention = \"mha\"\n{rest}"
        )
    };
    // huggingface.co/openai-community/gpt2, gpt2-medium, gpt2-large, gpt2-xl
    for (name, dims, count) in [
        ("gpt2", [12, 768, 12, 3072], 124_439_808),
        ("gpt2-medium", [24, 1024, 16, 4096], 354_823_168),
        ("gpt2-large", [36, 1280, 20, 5120], 774_030_080),
        ("gpt2-xl", [48, 1600, 25, 6400], 1_557_611_200),
    ] {
        let [layers, width, heads, inner] = dims;
        let rest =
            format!("n_layer = {layers}\nn_embd = {width}\nn_head = {heads}\nn_inner = {inner}");
        check(name, &gpt2(&rest), count);
    }
    // vocabulary, layers, hidden, heads, kv heads, intermediate, tied
    let llama_like = [
        // huggingface.co/huggyllama/llama-7b
        ("llama-7b", [32000, 32, 4096, 32, 32, 11008, 0], 6_738_415_616u64),
        // huggingface.co/meta-llama/Llama-2-70b-hf
        ("llama-2-70b", [32000, 80, 8192, 64, 8, 28672, 0], 68_976_648_192),
        // huggingface.co/meta-llama/Meta-Llama-3-8B
        ("llama-3-8b", [128256, 32, 4096, 32, 8, 14336, 0], 8_030_261_248),
        // huggingface.co/meta-llama/Llama-3.1-405B
        ("llama-3.1-405b", [128256, 126, 16384, 128, 8, 53248, 0], 405_853_388_800),
        // huggingface.co/meta-llama/Llama-3.2-1B
        ("llama-3.2-1b", [128256, 16, 2048, 32, 8, 8192, 1], 1_235_814_400),
        // huggingface.co/mistralai/Mistral-7B-v0.1
        ("mistral-7b", [32000, 32, 4096, 32, 8, 14336, 0], 7_241_732_096),
        // huggingface.co/TinyLlama/TinyLlama-1.1B-Chat-v1.0
        ("tinyllama", [32000, 22, 2048, 32, 4, 5632, 0], 1_100_048_384),
        // huggingface.co/HuggingFaceTB/SmolLM-135M
        ("smollm-135m", [49152, 30, 576, 9, 3, 1536, 1], 134_515_008),
    ];
    for (name, [vocab, layers, hidden, heads, kv_heads, inner, is_tied], count) in llama_like {
        let model = format!(
            "vocab_size = {vocab}\nnum_hidden_layers = {layers}\nhidden_size = {hidden}\n\
             num_attention_heads = {heads}\nnum_key_value_heads = {kv_heads}\n\
             intermediate_size = {inner}\ntie_word_embeddings = {}",
            is_tied == 1
        );
        check(name, &model, count);
    }
    // huggingface.co/Qwen/Qwen2.5-0.5B: biases on q, k and v
    check(
        "qwen2.5-0.5b",
        "vocab_size = 151936\nnum_hidden_layers = 24\nhidden_size = 896\nnum_attention_heads = 14\n\
         num_key_value_heads = 2\nintermediate_size = 4864\nbias = { q = true, k = true, v = true }\n\
         tie_word_embeddings = true\nrms_norm_eps = 1e-6\nrope_theta = 1e6",
        494_032_768,
    );
}
