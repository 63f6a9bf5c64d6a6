//! What changes a hash and what does not.

use super::{function_hash, module_hash};
use crate::module::{Function, Module, ValueId};
use crate::text::parse;
use crate::types::DType;

const TEXT: &str = r#"module @m {
  symbol B >= 1
  fn @inner(%x: f32[N], weight %w "w": f32[N]) -> (y: f32[N]) {
    %a = mul(%x, %w) from "spec: scale"
    return %a
  }
  fn @other(%x: f32[N]) -> (y: f32[N]) {
    %a = neg(%x)
    return %a
  }
  fn @main(%x: f32[B], state %s "s": f32[B]) -> (y: f32[B], state "s": f32[B]) {
    %a = call @inner(%x) {scope = "one"}
    %b = add(%a, %x)
    %c = sub(%s, %b)
    return %b, %c
  }
}"#;

fn hash_of(text: &str) -> llmc_base::Hash {
    module_hash(&parse(text).unwrap_or_else(|errors| panic!("{errors:?}")))
}

/// Values in reverse order, everything else as before.
fn reversed(function: &Function) -> Function {
    let mut function = function.clone();
    let last = function.values.len() as u32 - 1;
    let flip = |v: &mut ValueId| v.0 = last - v.0;
    function.values.reverse();
    function.params.iter_mut().for_each(|p| flip(&mut p.value));
    for node in &mut function.nodes {
        node.operands.iter_mut().chain(&mut node.results).for_each(flip);
    }
    function.results.iter_mut().for_each(|r| flip(&mut r.value));
    function
}

#[test]
fn names_numbers_and_origins_do_not_count() {
    let hash = hash_of(TEXT);
    for (from, to) in [
        ("module @m", "module @n"),
        ("%a = mul(%x, %w) from \"spec: scale\"\n    return %a", "%7 = mul(%x, %w)\n    return %7"),
        ("%w \"w\"", "%v \"w\""),
        ("from \"spec: scale\"", "from \"elsewhere\""),
    ] {
        assert!(TEXT.contains(from), "{from}");
        let text = match from {
            "%w \"w\"" => TEXT.replace("%w", "%v"),
            _ => TEXT.replace(from, to),
        };
        assert_eq!(hash_of(&text), hash, "{to}");
    }
    let mut module = parse(TEXT).unwrap();
    module.functions.swap(0, 1);
    for function in &mut module.functions {
        *function = reversed(function);
    }
    assert_eq!(module_hash(&module), hash);
}

#[test]
fn everything_else_counts() {
    let mut seen = vec![hash_of(TEXT)];
    for (from, to) in [
        ("symbol B >= 1", "symbol B >= 2"),
        ("symbol B >= 1", "symbol B >= 1, multiple_of 2"),
        ("mul(%x", "add(%x"),
        ("mul(%x, %w)", "mul(%w, %x)"),
        ("%x: f32[N], weight %w \"w\"", "%x: f32[N], weight %w \"v\""),
        ("scope = \"one\"", "scope = \"two\""),
        ("call @inner(%x) {scope = \"one\"}", "call @other(%x)"),
        ("return %b, %c", "return %a, %c"),
        ("-> (y: f32[B], state", "-> (z: f32[B], state"),
        ("fn @inner(%x: f32[N]", "fn @inner(%z: f32[N]"),
        ("fn @other", "composite @other"),
        ("fn @other", "fn @another"),
    ] {
        assert!(TEXT.contains(from), "{from}");
        let text = match from {
            "fn @inner(%x: f32[N]" => TEXT.replace(from, to).replace("mul(%x", "mul(%z"),
            _ => TEXT.replacen(from, to, 1),
        };
        let hash = hash_of(&text);
        assert!(!seen.contains(&hash), "{to}");
        seen.push(hash);
    }
}

#[test]
fn a_callee_counts_by_content_not_by_name() {
    let hash = |text: &str| {
        let module: Module = parse(text).unwrap();
        function_hash(&module, module.find("main").unwrap())
    };
    let renamed = TEXT.replace("@inner", "@renamed");
    assert_eq!(hash(TEXT), hash(&renamed));
    assert_ne!(hash_of(TEXT), hash_of(&renamed));
    assert_ne!(hash(TEXT), hash(&TEXT.replace("mul(%x", "sub(%x")));
    assert_eq!(hash(TEXT), hash(&TEXT.replace("neg(%x)", "abs(%x)")));
}

#[test]
fn dtypes_count() {
    let of = |dtype: DType| hash_of(&TEXT.replace("f32[", &format!("{dtype}[")));
    assert_ne!(of(DType::F32), of(DType::F64));
}

#[test]
fn linking_adds_what_is_new_and_refuses_what_differs() {
    let mut module = parse(TEXT).unwrap();
    let other = parse(
        "module @o { symbol B >= 3, multiple_of 4 symbol C >= 2
  composite @mine(%x: f32[N]) -> (y: f32[N]) {
    %a = exp(%x) from \"spec: scale\"
    %b = abs(%a) from \"user\"
    return %b
  }
  fn @other(%x: f32[N]) -> (y: f32[N]) {
    %renamed = neg(%x)
    return %renamed
  }
}",
    )
    .unwrap();
    module.link(&other).unwrap();
    assert_eq!(crate::verify::verify(&module), []);
    assert_eq!(module.functions.len(), 4);
    assert_eq!(module.origins.len(), 3);
    let facts: Vec<_> = module.symbols.iter().map(|s| (s.min, s.multiple_of)).collect();
    assert_eq!(facts, [(3, 4), (2, 1)]);
    let mine = module.find("mine").unwrap();
    let theirs = other.find("mine").unwrap();
    assert_eq!(function_hash(&module, mine), function_hash(&other, theirs));
    let clash = parse(&TEXT.replace("neg(%x)", "exp(%x)")).unwrap();
    let before = module.clone();
    assert_eq!(module.link(&clash), Err("other".to_string()));
    assert_eq!(module, before);
}
