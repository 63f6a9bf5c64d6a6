//! Random specs of trainings, a pure function of their number.

/// Decisions, from SplitMix64.
/// Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ x >> 31) % n as u64) as usize
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// Spec number `n` as TOML; `scale` 1 has models of a few thousand parameters, 4 those that are worth
/// timing.
pub fn spec(n: u64, scale: usize) -> String {
    let mut c = Choices(n << 32);
    let n_heads = c.of(&[2, 4]);
    let head_dim = c.of(&[4, 8, 12, 16]) * scale;
    let hidden = n_heads * head_dim;
    let n_kv_heads = c.of(&[1, n_heads / 2, n_heads]);
    let ffn = hidden * c.of(&[2, 3, 4]);
    let layers = 1 + c.below(1 + scale);
    let vocab = c.of(&[64, 96, 200, 320]) * scale * scale;
    let length = c.of(&[8, 16, 32, 48]) * scale;
    let micro = c.of(&[1, 2, 3]);
    let batch = micro * c.of(&[1, 1, 2, 4]);
    let activation = c.of(&["swiglu", "gelu", "gelu_tanh", "relu", "silu"]);
    let norm = c.of(&["rmsnorm", "rmsnorm", "layernorm"]);
    let position = c.of(&["rope", "rope", "learned", "none"]);
    let attention = match (n_kv_heads == n_heads, n_kv_heads) {
        (true, _) => c.of(&["mha", "sliding_window"]),
        (_, 1) => "mqa",
        _ => "gqa",
    };
    let window = match attention {
        "sliding_window" => format!("sliding_window = {}\n", length / 2),
        _ => String::new(),
    };
    let kv_heads = match attention {
        "gqa" => format!("num_kv_heads = {n_kv_heads}\n"),
        _ => String::new(),
    };
    let (tie, bias) = (c.below(2) == 0, c.below(3) == 0);
    let dropout = c.of(&["0.0", "0.0", "0.1"]);
    let optimizer = c.of(&["adamw", "adamw", "sgd", "lion", "muon"]);
    let checkpointing = c.of(&["none", "none", "block"]);
    format!(
        r#"[model]
name = "random-{n}"
num_layers = {layers}
hidden_size = {hidden}
num_heads = {n_heads}
{kv_heads}{window}intermediate_size = {ffn}
vocab_size = {vocab}
context_length = {length}
attention = "{attention}"
activation = "{activation}"
norm = "{norm}"
positional_encoding = "{position}"
tie_embeddings = {tie}
bias = {bias}
dropout = {dropout}

[dataset]
domains = ["synthetic"]
target_tokens = 10000
validation_fraction = 0.1

[tokenizer]
type = "char"

[optimizer]
type = "{optimizer}"
lr = 1e-3

[training]
batch_size = {batch}
microbatch_size = {micro}
max_steps = 100
eval_interval = 0
sample_tokens = 1
gradient_checkpointing = "{checkpointing}"
"#
    )
}
