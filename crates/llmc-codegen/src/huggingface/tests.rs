//! Families by structure, their configurations, and the explanations.

use super::*;
use llmc_formats::names::Tensor;
use llmc_ir::account;
use llmc_model::build;
use llmc_spec::{
    Activation, Architecture, AttentionKind, Biases, DimExprs, Dims, Dropout, Init, Norm, Position,
    RopeScaling, Template,
};
use std::borrow::Cow;

fn llama() -> Architecture {
    Architecture {
        template: Template::DecoderOnly,
        attention: AttentionKind::Gqa,
        sliding_window: None,
        norm: Norm::RmsNorm,
        norm_eps: 1e-5,
        activation: Activation::SwiGlu,
        position: Position::Rope { theta: 10_000.0, scaling: RopeScaling::None },
        tie_embeddings: false,
        biases: Biases::default(),
        dropout: Dropout::default(),
        attention_scale: None,
        init: Init { std: 0.02, is_residual_scaled: false },
        mup: None,
    }
}

fn gpt2() -> Architecture {
    let on = true;
    Architecture {
        norm: Norm::LayerNorm,
        activation: Activation::GeluTanh,
        position: Position::Learned,
        tie_embeddings: true,
        biases: Biases {
            q: on,
            k: on,
            v: on,
            o: on,
            up: on,
            down: on,
            norm: on,
            ..Biases::default()
        },
        ..llama()
    }
}

const DIMS: Dims = Dims {
    vocab_size: 32,
    context_length: 16,
    num_layers: 2,
    hidden_size: 16,
    num_heads: 4,
    num_kv_heads: 2,
    head_dim: 4,
    intermediate_size: 40,
};
const MHA: Dims = Dims { num_kv_heads: 4, ..DIMS };

fn module(arch: &Architecture, dims: &Dims) -> Module {
    build(arch, &DimExprs::from(dims)).unwrap()
}

fn family(arch: &Architecture, dims: &Dims) -> Result<Family, NoFamily> {
    recognise(&module(arch, dims), &Options::new(16)).map(|(family, _)| family)
}

fn zeros(module: &Module) -> Tensors<'static> {
    let entry = module.find("forward").unwrap();
    account::weights(module, entry)
        .into_iter()
        .map(|info| {
            let shape = info.ty.concrete().unwrap();
            let n: usize = shape.iter().product();
            (info.path, Tensor { dtype: DType::F32, shape, data: Cow::Owned(vec![0; 4 * n]) })
        })
        .collect()
}

#[test]
fn each_family_is_found_by_its_structure() {
    let qkv = Biases { q: true, k: true, v: true, ..Biases::default() };
    let window = Architecture { sliding_window: Some(8), ..llama() };
    let scale = Architecture { attention_scale: Some(0.5), ..llama() };
    for (arch, dims, expected) in [
        (llama(), DIMS, Family::Llama),
        (Architecture { tie_embeddings: true, ..llama() }, MHA, Family::Llama),
        // 1/sqrt(4), written out.
        (scale, DIMS, Family::Llama),
        (window.clone(), DIMS, Family::Mistral),
        (llama(), Dims { num_heads: 3, num_kv_heads: 3, ..DIMS }, Family::Mistral),
        (Architecture { biases: qkv, ..llama() }, DIMS, Family::Qwen2),
        (Architecture { biases: qkv, ..window }, DIMS, Family::Qwen2),
        (gpt2(), MHA, Family::Gpt2),
        (Architecture { activation: Activation::Relu, ..gpt2() }, MHA, Family::Gpt2),
    ] {
        assert_eq!(family(&arch, &dims).unwrap(), expected, "{arch:?}");
    }
}

#[test]
fn where_none_fits_each_says_why() {
    let arch = Architecture { norm: Norm::None, activation: Activation::Silu, ..llama() };
    assert_eq!(
        family(&arch, &DIMS).unwrap_err().to_string(),
        "no model class of `transformers` known here computes this model
  LlamaForCausalLM: a norm is missing, it has RMS norm before each block and the head; the activation is `silu`, it has `swiglu`
  MistralForCausalLM: a norm is missing, it has RMS norm before each block and the head; the activation is `silu`, it has `swiglu`
  Qwen2ForCausalLM: a norm is missing, it has RMS norm before each block and the head; the activation is `silu`, it has `swiglu`; biases are not on q, k, v alone, where it has them
  GPT2LMHeadModel: a norm is missing, it has layer norm before each block and the head; positions are rotary, it has learned positions; a projection has no bias, it has one on each; 4 heads share 2 key-value heads, it has one for each"
    );
    let misfit = |arch: Architecture, dims: Dims, family: Family| {
        let module = module(&arch, &dims);
        let options = Options::new(16);
        let decoder = decoder::read(&module, &options.entry, &options.dims).unwrap();
        misfits(family, &decoder).join("; ")
    };
    let biases = |biases| Architecture { biases, ..llama() };
    assert_eq!(
        misfit(biases(Biases { o: true, ..Biases::default() }), DIMS, Family::Llama),
        "biases of q, k, v, o differ, it has all or none"
    );
    assert_eq!(
        misfit(biases(Biases { lm_head: true, ..Biases::default() }), DIMS, Family::Mistral),
        "the head has a bias, it has none"
    );
    assert_eq!(
        misfit(Architecture { attention_scale: Some(1.0), ..llama() }, DIMS, Family::Llama),
        "attention is scaled by 1.0, it scales by 1/sqrt(head_dim)"
    );
    assert_eq!(
        misfit(Architecture { position: Position::None, ..llama() }, DIMS, Family::Llama),
        "there are no positions, it has rotary positions"
    );
    assert_eq!(
        misfit(gpt2(), DIMS, Family::Gpt2),
        "4 heads share 2 key-value heads, it has one for each"
    );
    assert_eq!(
        misfit(gpt2(), Dims { head_dim: 8, ..MHA }, Family::Gpt2),
        "4 heads of width 8 do not make hidden_size 16"
    );
}

/// A module in which one op of the template's text is replaced.
fn altered(from: &str, to: &str) -> String {
    let text = llmc_ir::text::print(&module(&llama(), &Dims { num_layers: 1, ..DIMS }));
    let text = text.replacen(from, to, 1);
    let module = llmc_ir::text::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}"));
    match recognise(&module, &Options::new(16)) {
        Ok((family, _)) => format!("{family:?}"),
        Err(error) => error.structure.unwrap_or_else(|| "misfits".to_string()),
    }
}

#[test]
fn another_graph_is_seen_and_told_where() {
    assert_eq!(altered("swiglu(%gate, %up)", "swiglu(%gate, %up)"), "Llama");
    assert_eq!(
        altered("swiglu(%gate, %up)", "mul(%gate, %up)"),
        "in block 1 from the end, an activation is expected, `binary` (from `model.activation`) is found"
    );
    // Gate and up are not the same thing the other way round, but the same structure.
    assert_eq!(altered("swiglu(%gate, %up)", "swiglu(%up, %gate)"), "Llama");
    assert_eq!(altered("swiglu(%gate, %up)", "swiglu(%gate, %gate)"), "Llama");
}

#[test]
fn config_has_every_key_of_the_family() {
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context_length: 8,
    };
    let arch = Architecture {
        position: Position::Rope { theta: 5e5, scaling: llama3 },
        tie_embeddings: true,
        ..llama()
    };
    let module = module(&arch, &DIMS);
    let options = Options { eos_token_id: Some(3), ..Options::new(16) };
    let export = export(&module, &options, &zeros(&module)).unwrap();
    assert_eq!(export.family, Family::Llama);
    let text = String::from_utf8(export.files["config.json"].clone()).unwrap();
    assert_eq!(
        text,
        r#"{
  "architectures": [
    "LlamaForCausalLM"
  ],
  "attention_bias": false,
  "attention_dropout": 0.0,
  "bos_token_id": null,
  "dtype": "float32",
  "eos_token_id": 3,
  "head_dim": 4,
  "hidden_act": "silu",
  "hidden_size": 16,
  "initializer_range": 0.02,
  "intermediate_size": 40,
  "max_position_embeddings": 16,
  "mlp_bias": false,
  "model_type": "llama",
  "num_attention_heads": 4,
  "num_hidden_layers": 2,
  "num_key_value_heads": 2,
  "pad_token_id": null,
  "pretraining_tp": 1,
  "rms_norm_eps": 0.00001,
  "rope_parameters": {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
    "rope_theta": 500000.0
  },
  "rope_scaling": {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8
  },
  "rope_theta": 500000.0,
  "tie_word_embeddings": true,
  "torch_dtype": "float32",
  "use_cache": true,
  "vocab_size": 32
}
"#
    );
}

fn value(export: &Export<'_>, file: &str, key: &str) -> Value {
    let parsed: Value = serde_json::from_slice(&export.files[file]).unwrap();
    parsed[key].clone()
}

#[test]
fn windows_layers_and_positions_reach_the_config() {
    let exported = |arch: &Architecture, dims: &Dims| {
        let module = module(arch, dims);
        let tensors = zeros(&module);
        let export = export(&module, &Options::new(16), &tensors).unwrap();
        Export { weights: Tensors::new(), ..export }
    };
    let window = Architecture { sliding_window: Some(8), ..llama() };
    assert_eq!(value(&exported(&window, &DIMS), "config.json", "sliding_window"), 8);
    let biases = Biases { q: true, k: true, v: true, ..Biases::default() };
    let qwen2 = exported(&Architecture { biases, ..window }, &DIMS);
    let layer_types = json!(["sliding_attention", "sliding_attention"]);
    assert_eq!(value(&qwen2, "config.json", "layer_types"), layer_types);
    assert_eq!(value(&qwen2, "config.json", "max_window_layers"), 0);
    let gpt2 = exported(&gpt2(), &MHA);
    assert_eq!(value(&gpt2, "config.json", "n_positions"), 16);
    assert_eq!(value(&gpt2, "config.json", "activation_function"), "gelu_new");
    assert_eq!(value(&gpt2, "generation_config.json", "eos_token_id"), Value::Null);
}

#[test]
fn weights_have_the_names_of_the_family_and_a_tied_head_is_left_out() {
    let arch = Architecture { tie_embeddings: true, ..llama() };
    let one = Dims { num_layers: 1, ..DIMS };
    let module = module(&arch, &one);
    let tensors = zeros(&module);
    let export = export(&module, &Options::new(16), &tensors).unwrap();
    let names: Vec<&str> = export.weights.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "model.embed_tokens.weight",
            "model.layers.0.input_layernorm.weight",
            "model.layers.0.mlp.down_proj.weight",
            "model.layers.0.mlp.gate_proj.weight",
            "model.layers.0.mlp.up_proj.weight",
            "model.layers.0.post_attention_layernorm.weight",
            "model.layers.0.self_attn.k_proj.weight",
            "model.layers.0.self_attn.o_proj.weight",
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.0.self_attn.v_proj.weight",
            "model.norm.weight",
        ]
    );
    let mut file = Vec::new();
    export.write_weights(&mut file).unwrap();
    let read = llmc_formats::safetensors::SafeTensors::parse(&file).unwrap();
    assert_eq!(read.metadata()["format"], "pt");
}

#[test]
fn tensors_that_do_not_belong_are_named() {
    let module = module(&llama(), &DIMS);
    let options = Options::new(16);
    let message =
        |tensors: &Tensors<'_>| export(&module, &options, tensors).unwrap_err().to_string();
    let mut tensors = zeros(&module);
    let norm = tensors.remove("norm.weight").unwrap();
    assert_eq!(message(&tensors), "there is no tensor `norm.weight`");
    tensors.insert("norm.weight".to_string(), norm.clone());
    tensors.insert("extra".to_string(), norm.clone());
    assert_eq!(message(&tensors), "tensor `extra` is no weight of the model");
    tensors.remove("extra");
    tensors.insert("norm.weight".to_string(), Tensor { dtype: DType::F16, ..norm });
    assert_eq!(message(&tensors), "tensor `norm.weight` has dtype F16, others have F32");
}

#[test]
fn tokenizer_files_pass_through() {
    let config = tokenizer_config(16, None, Some("<eos>"), Some("<unk>"), None);
    assert_eq!(
        config,
        r#"{
  "clean_up_tokenization_spaces": false,
  "eos_token": "<eos>",
  "model_max_length": 16,
  "tokenizer_class": "PreTrainedTokenizerFast",
  "unk_token": "<unk>"
}
"#
    );
    let module = module(&llama(), &DIMS);
    let tokenizer = TokenizerFiles {
        tokenizer_json: b"{ }".to_vec(),
        tokenizer_config_json: config.clone().into_bytes(),
    };
    let options = Options { tokenizer: Some(tokenizer), ..Options::new(16) };
    let export = export(&module, &options, &zeros(&module)).unwrap();
    assert_eq!(export.files["tokenizer.json"], b"{ }");
    assert_eq!(export.files["tokenizer_config.json"], config.as_bytes());
}
