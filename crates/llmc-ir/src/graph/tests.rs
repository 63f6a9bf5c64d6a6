//! The pictures hold what they should; how they look is for eyes.

use super::{dot, svg};
use crate::module::Module;
use crate::text::parse;

const TEXT: &str = r#"module @m {
  symbol B >= 1
  fn @layer(%x: f32[B, 8], %p: i32[B], weight %w "norm.weight": f32[8]) -> (x: f32[B, 8], r: f32[B, 8]) {
    %c = constant() {dtype = f32, dims = <B, 8>, value = 0.5}
    %a = rms_norm(%x, %w) {eps = 1e-5}
    %b = mul(%a, %c)
    return %b, %a
  }
  fn @back(%dx: f32[B, 8], %r: f32[B, 8]) -> (dx: f32[B, 8]) {
    %a = mul(%dx, %r)
    return %a
  }
  fn @main(%x: f32[B, 8], %p: i32[B]) -> (y: f32[B, 8], "d<x>": f32[B, 8]) {
    repeat i in 0..9 with %h[0] = %x {
      %h[i+1], %r[i] = call @layer(%h[i], %p) {scope = "layers.{i}"}
    }
    %d = neg(%h[9])
    repeat i in 0..9 reversed with %g[9] = %d {
      %g[i] = call @back(%g[i+1], %r[i]) {scope = "layers.{i}"}
    }
    return %h[9], %g[0]
  }
}"#;

fn parsed() -> Module {
    parse(TEXT).unwrap_or_else(|errors| panic!("{errors:?}"))
}

#[test]
fn runs_are_one_frame_and_weights_are_lines() {
    let module = parsed();
    let text = svg(&module, module.find("main").unwrap());
    assert_eq!(text.matches("class=\"frame\"").count(), 2, "{text}");
    assert_eq!(text.matches("@layer").count(), 1);
    assert_eq!(text.matches("repeat × 9").count(), 2);
    assert!(text.contains("layers.{i}"));
    // One dashed edge per run, and its key.
    assert_eq!(text.matches("edge carried").count(), 3);
    assert!(text.contains("d&lt;x&gt;") && !text.contains("d<x>"));
    let layer = svg(&module, module.find("layer").unwrap());
    assert!(layer.contains("norm.weight: f32[8]"));
    assert!(layer.contains("0.5: f32[B, 8]"), "{layer}");
}

#[test]
fn many_values_between_two_boxes_are_one_edge() {
    let text = "module @m {
  fn @many(%x: f32[8]) -> (a: f32[8], b: f32[8], c: f32[8], d: f32[8]) {
    return %x, %x, %x, %x
  }
  fn @use(%a: f32[8], %b: f32[8], %c: f32[8], %d: f32[8]) -> (y: f32[8]) {
    return %d
  }
  fn @main(%x: f32[8]) -> (y: f32[8]) {
    %a, %b, %c, %d = call @many(%x)
    %y = call @use(%a, %b, %c, %d)
    return %y
  }
}";
    let module = parse(text).unwrap_or_else(|errors| panic!("{errors:?}"));
    let main = module.find("main").unwrap();
    assert!(svg(&module, main).contains("4 values"));
    assert_eq!(dot(&module, main).matches(" -> ").count(), 3);
}

#[test]
fn both_colour_schemes_are_inside_and_nothing_else_is_loaded() {
    let module = parsed();
    let text = svg(&module, module.find("main").unwrap());
    assert!(text.contains("prefers-color-scheme:dark"));
    assert_eq!(text.matches("http").count(), 1, "only the namespace");
    assert!(!text.contains("<script"));
}

#[test]
fn dot_has_a_cluster_per_run_and_balanced_braces() {
    let module = parsed();
    let text = dot(&module, module.find("main").unwrap());
    assert_eq!(text.matches("subgraph cluster_").count(), 2);
    assert_eq!(text.matches("style=dashed").count(), 2);
    assert_eq!(text.matches('{').count() - 2, text.matches('}').count() - 2);
    assert!(text.contains("label=\"f32[B, 8]\""));
}

#[test]
fn every_function_can_be_drawn_twice_alike() {
    for seed in 0..60u32 {
        let mut state = seed;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let bytes: Vec<u8> = (0..150).map(|_| byte()).collect();
        let module = crate::generate::module(&bytes);
        for id in 0..module.functions.len() as u32 {
            let id = crate::FuncId(id);
            let text = svg(&module, id);
            assert_eq!(text, svg(&module, id));
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            assert_eq!(dot(&module, id), dot(&module, id));
        }
    }
}
