//! Metadata keys, and names as they are.

use super::*;
use llmc_formats::names::Tensor;
use llmc_formats::safetensors::{DType, SafeTensors};

#[test]
fn the_file_has_our_names_and_the_keys_of_the_original() {
    let facts = ModelFacts {
        model_name: "tiny".to_string(),
        hidden_size: 2,
        rope_theta: Some(1e4),
        ..ModelFacts::default()
    };
    let bytes = 1.5f32.to_le_bytes();
    let tensor = Tensor { dtype: DType::F32, shape: vec![1], data: bytes[..].into() };
    let tensors = Tensors::from([("norm.weight".to_string(), tensor)]);
    let file = to_bytes(&tensors, &facts.metadata()).unwrap();
    let mut streamed = Vec::new();
    write(&mut streamed, &tensors, &facts.metadata()).unwrap();
    assert_eq!(streamed, file);
    let read = SafeTensors::parse(&file).unwrap();
    assert_eq!(read.tensor("norm.weight").unwrap().to_f32().unwrap(), [1.5]);
    let keys: Vec<&str> = read.metadata().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "activation",
            "architecture",
            "attention_type",
            "format",
            "generator",
            "head_dim",
            "hidden_size",
            "intermediate_size",
            "max_position_embeddings",
            "model_name",
            "norm_type",
            "num_attention_heads",
            "num_key_value_heads",
            "num_layers",
            "parameter_count",
            "rope_theta",
            "version",
            "vocab_size",
        ]
    );
    assert_eq!(read.metadata()["format"], "pt");
    assert_eq!(read.metadata()["rope_theta"], "10000.0");
}
