//! Emitted text: whole files of tiny models, and what single features look like.

use super::*;
use llmc_ir::account;
use llmc_ir::eval::{self, EvalOptions, Mode, Tensor};
use llmc_ir::text::parse;
use llmc_model::build;
use llmc_spec::{
    Activation, Architecture, AttentionKind, Biases, DimExprs, Dims, Dropout, Init, Norm, Position,
    RopeScaling, Template,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn llama() -> Architecture {
    Architecture {
        template: Template::DecoderOnly,
        attention: AttentionKind::Gqa,
        sliding_window: None,
        norm: Norm::RmsNorm,
        norm_eps: 1e-5,
        activation: Activation::SwiGlu,
        position: Position::Rope { theta: 10_000.0, scaling: RopeScaling::None },
        tie_embeddings: true,
        biases: Biases::default(),
        dropout: Dropout::default(),
        attention_scale: None,
        init: Init { std: 0.02, is_residual_scaled: false },
        mup: None,
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

/// Compares with `tests/golden/NAME`; `UPDATE_GOLDEN=1` writes it anew.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = |(a, b): (&str, &str)| a != b;
    if let Some(line) = stored.lines().zip(text.lines()).position(differs) {
        panic!(
            "tests/golden/{name} differs from line {}:\n  stored: {}\n  now:    {}\n\
             if that is meant, run the test with UPDATE_GOLDEN=1",
            line + 1,
            stored.lines().nth(line).unwrap_or_default(),
            text.lines().nth(line).unwrap_or_default(),
        );
    }
    assert_eq!(stored.lines().count(), text.lines().count(), "tests/golden/{name}: lengths differ");
}

#[test]
fn a_llama_with_its_dims_by_name() {
    let mut dims = DimExprs::symbolic();
    dims.num_layers = DIMS.num_layers.into();
    let module = build(&llama(), &dims).unwrap();
    let options = Options { dims: DIMS.env(), ..Options::new("tiny-llama") };
    golden("tiny_llama.py", &emit(&module, &options).unwrap());
}

#[test]
fn a_gpt2_with_numbers() {
    let on = true;
    let arch = Architecture {
        norm: Norm::LayerNorm,
        activation: Activation::GeluTanh,
        position: Position::Learned,
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
    };
    let module = build(&arch, &DimExprs::from(&Dims { num_kv_heads: 4, ..DIMS })).unwrap();
    golden("tiny_gpt2.py", &emit(&module, &Options::new("tiny-gpt2")).unwrap());
}

#[test]
fn the_same_module_gives_the_same_text() {
    let module = build(&llama(), &DimExprs::from(&DIMS)).unwrap();
    let emitted = || emit(&module, &Options::new("m")).unwrap();
    assert_eq!(emitted(), emitted());
}

/// The bits of `@forward` with weights that depend on their paths alone.
fn bits(module: &Module) -> Vec<u64> {
    let tokens = Tensor::i32(&[1, 4], &[3, 1, 4, 1]).unwrap();
    let positions = Tensor::i32(&[1, 4], &[0, 1, 2, 3]).unwrap();
    let segments = Tensor::i32(&[1, 4], &[0; 4]).unwrap();
    let shapes: BTreeMap<String, Vec<usize>> =
        account::weights(module, module.find("forward").unwrap())
            .into_iter()
            .map(|info| (info.path, info.ty.concrete().unwrap()))
            .collect();
    let weights = |path: &str| {
        let shape = &shapes[path];
        let n = shape.iter().product::<usize>();
        let value = |i: usize| ((i * 7 + path.len() * 3) % 11) as f32 / 11.0 - 0.4;
        Tensor::f32(shape, &(0..n).map(value).collect::<Vec<_>>()).ok()
    };
    let options = EvalOptions::new(Mode::Rounded);
    let entry = module.find("forward").unwrap();
    let inputs = [tokens, positions, segments];
    let out = eval::run(module, entry, &inputs, &weights, &BTreeMap::new(), &options).unwrap();
    out.outputs[0].as_floats().unwrap().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn outlining_changes_no_bit_and_no_path() {
    let arch = Architecture { tie_embeddings: false, position: Position::Learned, ..llama() };
    for arch in [llama(), arch] {
        let module = file::reachable(&build(&arch, &DimExprs::from(&DIMS)).unwrap(), "forward");
        let module = module.unwrap();
        let outlined = outline::outline(&outline::prune(&module, "forward"));
        assert!(outlined.functions.len() > module.functions.len());
        assert_eq!(bits(&outlined), bits(&module));
        let paths = |m: &Module| {
            let weights = account::weights(m, m.find("forward").unwrap());
            weights.into_iter().map(|info| info.path).collect::<BTreeSet<_>>()
        };
        assert_eq!(paths(&outlined), paths(&module));
    }
}

#[test]
fn depth_adds_no_text() {
    let lines = |n_layers: u64| {
        let dims = DimExprs::from(&Dims { num_layers: n_layers, ..DIMS });
        emit(&build(&llama(), &dims).unwrap(), &Options::new("m")).unwrap().lines().count()
    };
    assert_eq!(lines(126), lines(2));
}

/// The definitions of `@forward` and what it calls, without head and tail.
fn definitions(text: &str, options: &Options<'_>) -> String {
    let module = parse(text).unwrap_or_else(|errors| panic!("{errors:?}"));
    let emitted = emit(&module, options).unwrap();
    let start = emitted.find("from torch import nn\n").unwrap() + "from torch import nn\n".len();
    let end = emitted.find("\n\ndef load(").unwrap();
    emitted[start..end].trim().to_string()
}

fn check(module: &str, expected: &str) {
    let found = definitions(module, &Options::new("m"));
    assert!(found == expected.trim(), "found:\n{found}\nexpected:\n{}", expected.trim());
}

#[test]
fn a_composite_of_a_user_is_a_function_and_unspelled_ops_are_decomposed() {
    check(
        r#"module @m {
  symbol B >= 1
  composite @squash(%x: f32[B, 4]) -> (y: f32[B, 4]) {
    %a = relu_squared(%x) : f32[B, 4]
    %b = tanh(%a) : f32[B, 4]
    return %b
  }
  fn @forward(%x: f32[B, 4], weight %w "scale.weight": f32[4, 4]) -> (y: f32[B, 4]) {
    %h = linear(%x, %w) : f32[B, 4]
    %y = squash(%h) : f32[B, 4]
    return %y
  }
}"#,
        r#"
def relu_squared(x):
    """x: f32[B, 4] → f32[B, 4]."""
    y = x.clamp(min=0.0)
    return y * y


def squash(x):
    """x: f32[B, 4] → f32[B, 4]."""
    return relu_squared(x).tanh()


class Model(nn.Module):
    """x: f32[B, 4] → f32[B, 4]."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        return squash(self.scale(x))
"#,
    );
}

#[test]
fn weights_that_are_no_torch_module_are_parameters() {
    check(
        r#"module @m {
  symbol B >= 1
  fn @forward(
    %x: f32[B, 4],
    weight %a "a.weight": f32[4],
    weight %b "b.0.gain": f32[4],
    weight %c "b.1.gain": f32[4],
    weight %d "b.1.weight": f32[4],
  ) -> (y: f32[B, 4]) {
    %1 = broadcast(%a) {dims = <B, 4>, axes = [1]} : f32[B, 4]
    %2 = mul(%x, %1) : f32[B, 4]
    %3 = rms_norm(%2, %b) {eps = 0.5} : f32[B, 4]
    %4 = rms_norm(%3, %c) {eps = 0.5} : f32[B, 4]
    %5 = rms_norm(%4, %d) {eps = 0.5} : f32[B, 4]
    return %5
  }
}"#,
        r#"
class Model(nn.Module):
    """x: f32[B, 4] → f32[B, 4]."""

    def __init__(self):
        super().__init__()
        self.a = nn.Module()
        self.a.weight = nn.Parameter(torch.empty(4))
        self.b = nn.ModuleList(nn.Module() for _ in range(2))
        self.b[0].gain = nn.Parameter(torch.empty(4))
        self.b[1].gain = nn.Parameter(torch.empty(4))
        self.b[1].weight = nn.Parameter(torch.empty(4))

    def forward(self, x):
        h = F.rms_norm(
            F.rms_norm(x * self.a.weight, (4,), self.b[0].gain, eps=0.5),
            (4,),
            self.b[1].gain,
            eps=0.5,
        )
        return F.rms_norm(h, (4,), self.b[1].weight, eps=0.5)
"#,
    );
}

/// Two layers that are called with these operands, in this order.
fn layers(calls: &str) -> String {
    format!(
        r#"module @m {{
  symbol B >= 1
  fn @layer(%x: f32[B, 4], %z: f32[B, 4], weight %w "w.weight": f32[4, 4]) -> (y: f32[B, 4]) {{
    %1 = linear(%x, %w) : f32[B, 4]
    %2 = add(%1, %z) : f32[B, 4]
    return %2
  }}
  fn @forward(%a: f32[B, 4], %b: f32[B, 4]) -> (y: f32[B, 4]) {{
{calls}
  }}
}}"#
    )
}

fn forward_of(calls: &str) -> String {
    let text = definitions(&layers(calls), &Options::new("m"));
    text.rsplit("def forward(self, a, b):\n").next().unwrap().to_string()
}

#[test]
fn a_run_of_calls_is_a_loop_only_if_it_means_the_same() {
    let first = r#"    %1 = call @layer(%a, %b) {scope = "layers.0"} : f32[B, 4]"#;
    let check = |rest: &str, expected: &str| {
        assert_eq!(forward_of(&format!("{first}\n{rest}")), expected, "{rest}");
    };
    check(
        r#"    %2 = call @layer(%1, %b) {scope = "layers.1"} : f32[B, 4]
    return %2"#,
        "        for layer in self.layers:\n            a = layer(a, b)\n        return a",
    );
    // The first result is read again, so a loop would have lost it.
    check(
        r#"    %2 = call @layer(%1, %b) {scope = "layers.1"} : f32[B, 4]
    %3 = add(%1, %2) : f32[B, 4]
    return %3"#,
        "        y = self.layers[0](a, b)\n        return y + self.layers[1](y, b)",
    );
    // The second call does not take what the first gives.
    check(
        r#"    %2 = call @layer(%b, %1) {scope = "layers.1"} : f32[B, 4]
    return %2"#,
        "        return self.layers[1](b, self.layers[0](a, b))",
    );
    // `a` is read after the loop, so it keeps its value.
    check(
        r#"    %2 = call @layer(%1, %b) {scope = "layers.1"} : f32[B, 4]
    %3 = add(%2, %a) : f32[B, 4]
    return %3"#,
        "        x = a\n        for layer in self.layers:\n            x = layer(x, b)\n        return x + a",
    );
}

#[test]
fn a_name_is_bound_anew_only_when_its_value_is_no_longer_read() {
    let body = |lines: &str| {
        let text = format!(
            "module @m {{\n  symbol B >= 1\n  fn @forward(%x: f32[B, 4]) -> (y: f32[B, 4]) {{\n{lines}\n  }}\n}}"
        );
        let text = definitions(&text, &Options::new("m"));
        text.rsplit("def forward(self, x):\n").next().unwrap().to_string()
    };
    assert_eq!(
        body(
            "    %1 = exp(%x) : f32[B, 4]\n    %s = add(%x, %1) : f32[B, 4]\n    %t = mul(%s, %s) : f32[B, 4]\n    return %t"
        ),
        "        x = x + x.exp()\n        return x * x"
    );
    // `exp(x)` moves behind the sum, so `x` has to stay what it is.
    assert_eq!(
        body(
            "    %1 = exp(%x) : f32[B, 4]\n    %s = add(%x, %x) : f32[B, 4]\n    %t = mul(%s, %s) : f32[B, 4]\n    %u = mul(%t, %1) : f32[B, 4]\n    return %u"
        ),
        "        s = x + x\n        return s * s * x.exp()"
    );
}

#[test]
fn says_what_it_cannot_emit() {
    let refuse = |text: &str, message: &str| {
        let module = parse(text).unwrap_or_else(|errors| panic!("{errors:?}"));
        assert_eq!(emit(&module, &Options::new("m")).unwrap_err().to_string(), message);
    };
    refuse(
        "module @m {\n  fn @main(%x: f32[4]) -> (y: f32[4]) {\n    return %x\n  }\n}",
        "there is no function `@forward`",
    );
    refuse(
        "module @m {\n  fn @forward(%x: u64[4]) -> (y: u64[4]) {\n    return %x\n  }\n}",
        "PyTorch does not compute in `u64` (in function `@forward`)",
    );
    refuse(
        "module @m {\n  fn @forward(%x: f32[4, 2], weight %w \"w\": f32[3, 2]) -> (y: f32[4, 3]) {\n    \
         %y = linear(%x, %w) {precision = bf16} : f32[4, 3]\n    return %y\n  }\n}",
        "`linear` of function `@forward` takes its products in bf16, which is not emitted; emit the \
         model rather than its training",
    );
    refuse(
        "module @m {\n  fn @forward(%x: f32[4], state %s \"s\": f32[4]) -> (y: f32[4], state \"s\": f32[4]) {\n    return %x, %s\n  }\n}",
        "function `@forward` has state `s`, which is not emitted",
    );
    refuse(
        "module @m {\n  fn @forward(%x: f32[4], weight %w \"forward.weight\": f32[4]) -> (y: f32[4]) {\n    %1 = mul(%x, %w) : f32[4]\n    return %1\n  }\n}",
        "`forward.weight` cannot name a module: `forward` is taken or reserved",
    );
    refuse(
        "module @m {\n  symbol B >= 1\n  fn @forward(%x: f32[B * B]) -> (y: f32[B, B]) {\n    %1 = reshape(%x) {dims = <B, B>} : f32[B, B]\n    return %1\n  }\n}",
        "dim `B` of function `@forward` is the dim of no input",
    );
}
