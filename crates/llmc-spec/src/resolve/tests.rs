//! Tests of [`super`]: the typed structs, the rules, what has to fit.

use crate::testing::{good, params, resolved, show};
use crate::*;

const EXAMPLE: &str = r#"
[model]
name = "debug-2k-transformer"
template = "decoder_only"
vocab_size = 32
context_length = 16
num_layers = 1
hidden_size = 16
num_heads = 2
intermediate_size = 32
activation = "relu"
norm = "rmsnorm"
tie_embeddings = true

[dataset]
name = "debug_dataset"
target_tokens = 1_000
languages = { en = 1.0 }
domains = ["synthetic"]
min_length = 4
max_length = 16

[tokenizer]
name = "debug_tokenizer"
type = "bpe"
vocab_size = 32

[training]
name = "debug_run"
optimizer = { type = "adamw", lr = 1e-3, weight_decay = 0.0 }
batch_size = 2
microbatch_size = 1
max_steps = 10
"#;

#[test]
fn the_example_of_the_readme_resolves() {
    let r = resolved(EXAMPLE);
    let model = r.model.unwrap();
    assert_eq!(model.solution.params, 2608);
    assert_eq!(
        model.dims,
        Dims {
            vocab_size: 32,
            context_length: 16,
            num_layers: 1,
            hidden_size: 16,
            num_heads: 2,
            num_kv_heads: 2,
            head_dim: 8,
            intermediate_size: 32,
        }
    );
    assert_eq!(model.architecture.biases, Biases::default());
    assert_eq!(model.architecture.activation, Activation::Relu);
    let optimizer = r.optimizer.unwrap();
    assert_eq!((optimizer.lr, optimizer.weight_decay), (1e-3, 0.0));
    let training = r.training.unwrap();
    assert_eq!((training.sequence_length, training.microbatch_size), (16, 1));
    assert_eq!(r.tokenizer.unwrap().special_tokens.unk.as_deref(), Some("<unk>"));
    assert_eq!(r.dataset.unwrap().domains, [Domain::Synthetic]);
}
