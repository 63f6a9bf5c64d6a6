//! The text form: round trips, folding, diagnostics. More in `tests/text`.

use super::{PrintOptions, limits, parse, parse_file, print, print_with};
use crate::builder::FunctionBuilder;
use crate::module::{Module, ParamRole};
use crate::ops::{BinaryKind, Call, Op, RmsNorm};
use crate::types::{DType, TensorType};

const SMALL: &str = r#"module @small {
  symbol B >= 1
  symbol T >= 1, multiple_of 8

  composite @half(%x: f32[B, T]) -> (y: f32[B, T]) {
    %1 = constant() {dtype = f32, dims = <B, T>, value = 0.5} : f32[B, T]
    %2 = mul(%x, %1) : f32[B, T] from "spec: model.scale"
    return %2
  }

  fn @layer(
    %x: f32[B, T, 64],
    weight %norm_weight "norm.weight": f32[64],
    state %count "count": f32[64],
  ) -> (y: f32[B, T, 64], state "count": f32[64]) {
    %3 = rms_norm(%x, %norm_weight) {eps = 1e-5} : f32[B, T, 64] from "model.norm"
    %4 = add(%x, %3) : f32[B, T, 64]
    return %4, %count
  }

  fn @main(%x: f32[B, T, 64], %z: f32[B, T]) -> (y: f32[B, T, 64], z: f32[B, T]) {
    %2 = call @layer(%x) {scope = "first"} : f32[B, T, 64]
    %3 = half(%z) : f32[B, T]
    return %2, %3
  }
}
"#;

/// Parses or shows the diagnostics.
fn parsed(text: &str) -> Module {
    parse(text).unwrap_or_else(|errors| {
        panic!("{}", errors.iter().map(|e| format!("{e}\n")).collect::<String>())
    })
}

/// The codes of all diagnostics with the text each points at.
fn errors(text: &str) -> Vec<(String, String)> {
    let diagnostics = parse(text).expect_err("an error");
    let place = |d: &llmc_base::Diagnostic| {
        d.labels.first().map_or("", |l| &text[l.span.start..l.span.end]).to_string()
    };
    diagnostics.iter().map(|d| (d.code.clone(), place(d))).collect()
}

/// One error in the body of a function over `%x: f32[B, 8]` and `weight %w: f32[8]`.
fn body_errors(body: &str) -> Vec<(String, String)> {
    let results = body.lines().filter(|l| !l.trim().is_empty()).count();
    assert!(results > 0);
    errors(&format!(
        "module @m {{\n  fn @f(%x: f32[B, 8], weight %w \"w\": f32[8]) -> (y: f32[B, 8]) {{\n{body}\n    return %x\n  }}\n}}\n"
    ))
}

#[test]
fn canonical_text_is_a_fixed_point() {
    let module = parsed(SMALL);
    assert_eq!(print(&module), SMALL);
    assert_eq!(parsed(&print(&module)), module);
}

#[test]
fn types_and_ids_may_be_left_to_the_parser() {
    let module = parsed(
        "module @m { fn @f(%x: f32[4]) -> (y: f32[4]) { %7 = neg(%x) %a = exp(%7) return %a } }",
    );
    let function = &module.functions[0];
    assert!(function.is_canonical());
    assert_eq!(function.values[1].name, None);
    assert_eq!(function.values[2].name.as_deref(), Some("a"));
}

#[test]
fn out_of_order_ids_survive() {
    let mut module = Module::new("m");
    let ty = TensorType::new(DType::F32, [4]);
    let mut b = FunctionBuilder::new(&module, "f");
    let x = b.input("x", ty.clone());
    let y = b.op(Op::from(crate::ops::Binary { kind: BinaryKind::Add }), &[x, x]).unwrap()[0];
    let w = b.weight("late.weight", ty);
    let z = b.op(Op::from(crate::ops::Binary { kind: BinaryKind::Mul }), &[y, w]).unwrap()[0];
    b.name(y, "sum");
    b.output("z", z);
    let mut function = b.finish();
    // As a pass may leave it.
    if function.is_canonical() {
        function.values.swap(1, 2);
        let swap = |v: &mut crate::ValueId| match v.0 {
            1 => v.0 = 2,
            2 => v.0 = 1,
            _ => {}
        };
        function.params.iter_mut().for_each(|p| swap(&mut p.value));
        for node in &mut function.nodes {
            node.operands.iter_mut().chain(&mut node.results).for_each(swap);
        }
        function.results.iter_mut().for_each(|r| swap(&mut r.value));
    }
    module.functions.push(function.clone());
    let text = print(&module);
    assert!(text.contains("%late_weight#2"), "{text}");
    assert_eq!(parsed(&text), module);
    function.renumber();
    assert!(function.is_canonical());
    module.functions[0] = function;
    assert!(!print(&module).contains('#'));
    assert_eq!(parsed(&print(&module)), module);
}

#[test]
fn strange_names_are_quoted() {
    let mut module = Module::new("a \"strange\" name");
    let mut b = FunctionBuilder::new(&module, "f{1}");
    let x = b.param("12", TensorType::scalar(DType::I4), ParamRole::Weight("wé.\n".into()));
    b.output("state", x);
    b.output("ünï", x);
    let function = b.finish();
    module.add(function);
    let origin = module.origin("never \\ used {i}");
    assert_eq!(origin.0, 1);
    let text = print(&module);
    assert!(text.contains("weight %\"12\" \"wé.\\n\""), "{text}");
    assert_eq!(parsed(&text), module);
}

/// A model of `n` layers; with `backward`, the layers give residuals that a chain of calls in
/// reverse order reads.
fn layered(n: usize, backward: bool) -> Module {
    let mut module = parsed(
        r#"module @model {
  symbol B >= 1
  fn @layer(%x: f32[B, 64], %p: i32[B], weight %w "norm.weight": f32[64]) -> (x: f32[B, 64], r: f32[B, 64]) {
    %a = rms_norm(%x, %w) {eps = 1e-5}
    %b = add(%x, %a)
    return %b, %a
  }
  fn @layer_backward(%x: f32[B, 64], %r: f32[B, 64], %dy: f32[B, 64]) -> (dx: f32[B, 64]) {
    %a = mul(%x, %r)
    %b = mul(%a, %dy)
    return %b
  }
}"#,
    );
    let ty = module.functions[0].ty(crate::ValueId(0)).clone();
    let mut b = FunctionBuilder::new(&module, "main");
    let input = b.input("ids", ty);
    let positions =
        b.input("positions", TensorType::new(DType::I32, [llmc_base::Expr::symbol("B")]));
    let weight = b.weight("norm.weight", TensorType::new(DType::F32, [64]));
    let mut h = b.op1(RmsNorm { eps: 1e-5 }, &[input, weight]).unwrap();
    let mut saved = Vec::new();
    for i in 0..n {
        let call = Call { callee: "layer".into(), scope: format!("layers.{i}") };
        let results = b.op(call, &[h, positions]).unwrap();
        saved.push((h, results[1]));
        h = results[0];
    }
    b.output("y", h);
    if backward {
        let mut d = b.op1(RmsNorm { eps: 1e-5 }, &[h, weight]).unwrap();
        for (i, (x, r)) in saved.iter().enumerate().rev() {
            let call = Call { callee: "layer_backward".into(), scope: format!("layers.{i}") };
            d = b.op1(call, &[*x, *r, d]).unwrap();
        }
        b.output("dx", d);
    }
    let function = b.finish();
    module.add(function);
    module
}

#[test]
fn a_deep_model_fits_on_a_page() {
    for backward in [false, true] {
        let module = layered(126, backward);
        let text = print(&module);
        assert!(text.lines().count() < 40, "{text}");
        assert!(text.contains("repeat i in 0..126 with %x[0] = %3 {"), "{text}");
        assert_eq!(parsed(&text), module);
        let plain = print_with(&module, PrintOptions { fold: false, ..PrintOptions::default() });
        assert!(plain.lines().count() > 126);
        assert_eq!(parsed(&plain), module);
    }
    let text = print(&layered(126, true));
    let backward = "    repeat i in 0..126 reversed with %dx[126] = %256 {
      %dx[i] = call @layer_backward(%x[i], %r[i], %dx[i+1]) {scope = \"layers.{i}\"} : f32[B, 64]
    }
    return %x[126], %dx[0]
";
    assert!(text.contains(backward), "{text}");
}

#[test]
fn short_or_irregular_runs_stay_plain() {
    assert!(!print(&layered(2, true)).contains("repeat"));
    let mut module = layered(8, false);
    let main = module.functions.last_mut().unwrap();
    // One call in the middle under another scope cuts the run in two.
    let Op::Call(call) = &mut main.nodes[4].op else { panic!("a call") };
    call.scope = "elsewhere".into();
    let text = print(&module);
    assert_eq!(text.matches("repeat").count(), 2, "{text}");
    assert_eq!(parsed(&text), module);
}

#[test]
fn alternating_layers_fold_by_their_period() {
    let mut module = layered(3, false);
    let mut other = module.functions[0].clone();
    other.name = "other".into();
    let main = module.functions.remove(2);
    module.functions.push(other);
    let mut b = FunctionBuilder::resume(
        &module,
        crate::Function {
            nodes: Vec::new(),
            results: Vec::new(),
            values: main.values[..3].to_vec(),
            ..main
        },
    );
    let mut h = crate::ValueId(0);
    for i in 0..12 {
        let callee = if i % 3 == 2 { "other" } else { "layer" };
        let call = Call { callee: callee.into(), scope: format!("layers.{i}") };
        h = b.op(call, &[h, crate::ValueId(1)]).unwrap()[0];
    }
    b.output("y", h);
    let function = b.finish();
    module.add(function);
    let text = print(&module);
    assert!(text.contains("scope = \"layers.{3*i+1}\""), "{text}");
    assert_eq!(text.matches("repeat i in 0..4").count(), 1, "{text}");
    assert_eq!(parsed(&text), module);
}

#[test]
fn named_results_and_origins_fold_if_they_count() {
    let mut module = layered(5, false);
    let origins: Vec<_> = (0..5).map(|i| module.origin(&format!("layer {{{i}}}"))).collect();
    let main = module.functions.last_mut().unwrap();
    for (i, origin) in origins.into_iter().enumerate() {
        main.nodes[i + 1].origin = origin;
        let value = main.nodes[i + 1].results[0];
        main.values[value.index()].name = Some(format!("h_{}", i + 1));
    }
    let text = print(&module);
    assert!(text.contains("%x[i+1] as \"h_{i+1}\", %r[i] = call"), "{text}");
    assert!(text.contains("from \"layer {{{i}}}\""), "{text}");
    assert!(text.contains("return %h_5"), "{text}");
    assert_eq!(parsed(&text), module);
}

#[test]
fn every_sample_of_every_op_round_trips() {
    let mut n = 0;
    for (name, samples) in Op::all_samples() {
        for sample in samples.good {
            let mut module = Module::new(name);
            let mut b = FunctionBuilder::new(&module, name);
            let operands: Vec<_> = sample
                .operands
                .iter()
                .enumerate()
                .map(|(i, (ty, _))| b.input(&format!("x{i}"), ty.clone()))
                .collect();
            let results = b.op(sample.op, &operands).unwrap();
            for (i, result) in results.iter().enumerate() {
                b.output(&format!("y{i}"), *result);
            }
            let function = b.finish();
            module.add(function);
            let text = print(&module);
            assert_eq!(parsed(&text), module, "{text}");
            n += 1;
        }
    }
    assert!(n > 0);
}

#[test]
fn spellings_are_unique_and_no_ops() {
    let all = super::sugar::spellings();
    for (i, (spelling, op, kind)) in all.iter().enumerate() {
        assert!(!Op::NAMES.contains(&spelling.as_str()), "{spelling}");
        assert!(all[i + 1..].iter().all(|(other, ..)| other != spelling), "{spelling}");
        let attrs = vec![("kind".to_string(), crate::Attr::Word(kind.to_string()))];
        if *op != "reduce" {
            let op = Op::parse(op, attrs).unwrap().unwrap();
            assert_eq!(super::sugar::contract(&op).0, *spelling);
        }
    }
}

#[test]
fn slips_get_help() {
    let help = |body: &str| {
        let text = format!(
            "module @m {{ fn @f(%value: f32[8]) -> (y: f32[8]) {{\n{body}\nreturn %value\n}}\n}}"
        );
        let all = parse(&text).expect_err("an error");
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].help.clone().unwrap_or_default()
    };
    assert_eq!(help("%1 = rms_nrom(%value, %value) {eps = 1e-5}"), "did you mean `rms_norm`?");
    assert_eq!(help("%1 = rms_norm(%value, %value) {epz = 1e-5}"), "did you mean `eps` for `epz`?");
    assert_eq!(help("%1 = exp(%valeu)"), "did you mean `%value`?");
    assert_eq!(help("%1 = cast(%value) {dtype = f23}"), "");
    assert_eq!(help("%1 = neg(%value) : f23[8]"), "did you mean `f32`?");
    assert_eq!(help("%1 = neg(%value) : f32[9]"), "write `f32[8]`, or leave the type away");
}

#[test]
fn all_errors_are_reported_and_none_twice() {
    let found = body_errors(
        r#"    %1 = rms_norm(%x, %w) {eps = 1e-5} : f32[B, 9]
    %2 = add(%1, %nothing)
    %3 = mul(%2, %2)
    %4 = neg(%3
    %5 = add(%4, %w)
    %6 = add(%x, %w)
    %1 = neg(%x)"#,
    );
    let expected = [
        ("ir::syntax", "%5"),
        ("ir::type", "f32[B, 9]"),
        ("ir::unknown_value", "%nothing"),
        ("binary::c1", "add(%x, %w)"),
        ("ir::duplicate", "%1"),
    ];
    let found: Vec<(&str, &str)> = found.iter().map(|(c, p)| (c.as_str(), p.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_broken_function_does_not_break_its_callers() {
    let text = "module @m {
  fn @a(%x: f32[8], ) -> y: f32[8]) {
    return %x
  }
  fn @b(%x: f32[8]) -> (y: f32[8]) {
    %1 = nag(%x)
    return %1
  }
  fn @c(%x: f32[8]) -> (y: f32[8]) {
    %1 = call @a(%x)
    %2 = call @b(%1)
    %3 = call @d(%2)
    return %3
  }
  fn @d(%x: f32[8]) -> (y: f32[8]) {
    return %x
  }
}";
    let found = errors(text);
    let codes: Vec<&str> = found.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(codes, ["ir::syntax", "ir::unknown_op", "ir::unknown_function"], "{found:?}");
}

#[test]
fn hostile_texts_are_refused_quickly() {
    let function = |body: &str| {
        format!("module @m {{ fn @f(%x: f32[8]) -> (y: f32[8]) {{ {body} return %x }} }}")
    };
    let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let texts = [
        function("repeat i in 0..999999999999 { %h[i] = neg(%x) }"),
        function("repeat i in 0..1048577 { %h[i] = neg(%x) }"),
        function("repeat i in 0..600000 { %h[i] = neg(%x) %g[i] = neg(%x) }"),
        function(&format!("%1 = neg(%x) : f32[{deep}]")),
        function("%1 = neg(%x) : f32[999999999999999999999999999999999999999999]"),
        function("%1 = neg(%x) : f32[99999999999*99999999999*99999999999*99999999999]"),
        function("%1 = neg(%x) : f32[(a+b+c+d+e+f+g)*(a+b+c+d+e+f+g)*(h+i+j+k)*(a+b)*(a+b)*(a+b)]"),
        function("%1 = iota() {dtype = f32, dims = <4294967296, 4294967296>, axis = 0}"),
        format!("module @m {{ {}", "fn @f(".repeat(10_000)),
        "module @m { fn @f() -> () { %\u{1}\u{0}é \"\\u{ffffff}\" return } }".to_string(),
        String::new(),
        "%".repeat(100_000),
        "\"".repeat(100_001),
    ];
    for text in &texts {
        assert!(parse(text).is_err(), "{:.100}", text);
    }
}

#[test]
fn calls_of_calls_cannot_blow_up_types() {
    // Each function squares its dim: 2^n as a power.
    let mut text = String::from("module @m {\n symbol N >= 1\n");
    text += "fn @f0(%x: f32[N]) -> (y: f32[N*N]) {\n %1 = iota() {dtype = f32, dims = <N*N>, axis = 0}\n return %1\n}\n";
    for i in 1..40 {
        text += &format!(
            "fn @f{i}(%x: f32[N]) -> (y: f32[{}]) {{\n %1 = call @f{}(%x)\n %2 = call @f{}(%1)\n return %2\n}}\n",
            vec!["N"; 1 << (i + 1).min(4)].join("*"),
            i - 1,
            i - 1
        );
    }
    text += "}\n";
    let codes: Vec<String> = errors(&text).into_iter().map(|(code, _)| code).collect();
    assert!(codes.iter().any(|c| c == "ir::limit" || c == "ir::type"), "{codes:?}");
}

#[test]
fn places_are_kept() {
    let (module, map) = parse_file("small.ir", SMALL).unwrap();
    let node = crate::verify::Site::Node(module.find("layer").unwrap(), crate::NodeId(1));
    let span = map.span(&node).unwrap();
    assert_eq!(span.file, "small.ir");
    assert_eq!(&SMALL[span.start..span.end], "%4 = add(%x, %3) : f32[B, T, 64]");
}

#[test]
fn limits_are_far_above_the_largest_models() {
    let vocabulary_logits = TensorType::new(DType::F32, [1 << 10, 1 << 17, 1 << 18]);
    assert!(limits::check_type(&vocabulary_logits).is_ok());
}
