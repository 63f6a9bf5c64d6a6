//! Accounting on small texts and on a model of the largest published size.

use super::{bytes, own_parameters, parameter_count, states, weights, work};
use crate::module::Module;
use crate::text::parse;
use crate::types::{DType, TensorType};
use crate::verify::verify;
use llmc_base::expr::Env;
use llmc_base::{Expr, Symbol};

fn parsed(text: &str) -> Module {
    let module = parse(text).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(verify(&module), []);
    module
}

fn e(text: &str) -> Expr {
    Expr::parse(text).unwrap()
}

/// A decoder of LLaMA's shape: `n` layers, dims as texts.
fn decoder(n: usize, [v, e, f, q, kv]: [&str; 5], tied: bool) -> Module {
    let symbols: String = ["B", "T", v, e, f, q, kv]
        .iter()
        .filter(|d| !d.starts_with(char::is_numeric))
        .map(|d| format!("  symbol {d} >= 1\n"))
        .collect();
    let head = if tied { "%embedding_weight" } else { "%head_weight" };
    parsed(&format!(
        r#"module @decoder {{
{symbols}
  fn @layer(
    %x: f32[B, T, {e}],
    weight %n1 "attention.norm.weight": f32[{e}],
    weight %q "attention.q.weight": f32[{q}, {e}],
    weight %k "attention.k.weight": f32[{kv}, {e}],
    weight %v "attention.v.weight": f32[{kv}, {e}],
    weight %o "attention.o.weight": f32[{e}, {q}],
    weight %n2 "ffn.norm.weight": f32[{e}],
    weight %gate "ffn.gate.weight": f32[{f}, {e}],
    weight %up "ffn.up.weight": f32[{f}, {e}],
    weight %down "ffn.down.weight": f32[{e}, {f}],
  ) -> (x: f32[B, T, {e}]) {{
    %1 = rms_norm(%x, %n1) {{eps = 1e-5}}
    %2 = linear(%1, %q)
    %3 = linear(%1, %k)
    %4 = linear(%1, %v)
    %5 = linear(%2, %o)
    %6 = add(%x, %5)
    %7 = rms_norm(%6, %n2) {{eps = 1e-5}}
    %8 = linear(%7, %gate)
    %9 = linear(%7, %up)
    %10 = swiglu(%8, %9)
    %11 = linear(%10, %down)
    %12 = add(%6, %11)
    return %12
  }}
  fn @forward(
    %tokens: i32[B, T],
    weight %head_weight "head.weight": f32[{v}, {e}],
    weight %embedding_weight "embedding.weight": f32[{v}, {e}],
    weight %norm "norm.weight": f32[{e}],
  ) -> (logits: f32[B, T, {v}]) {{
    %h = embedding(%embedding_weight, %tokens)
    repeat i in 0..{n} with %x[0] = %h {{
      %x[i+1] = call @layer(%x[i]) {{scope = "layers.{{i}}"}}
    }}
    %y = rms_norm(%x[{n}], %norm) {{eps = 1e-5}}
    %logits = linear(%y, {head})
    return %logits
  }}
}}"#
    ))
}

#[test]
fn weights_come_in_the_order_of_first_use() {
    let module = decoder(2, ["100", "8", "16", "8", "4"], false);
    let entry = module.find("forward").unwrap();
    let paths: Vec<String> = weights(&module, entry).into_iter().map(|w| w.path).collect();
    assert_eq!(paths.len(), 3 + 2 * 9);
    assert_eq!(
        paths[..3],
        ["embedding.weight", "layers.0.attention.norm.weight", "layers.0.attention.q.weight"]
    );
    assert_eq!(paths[19..], ["norm.weight", "head.weight"]);
    assert!(states(&module, entry).is_empty());
}

#[test]
fn the_largest_llama_counts_to_the_unit() {
    // LLaMA 3.1 405B: 126 layers, hidden 16384, ffn 53248, 128 heads and 8 kv heads of 128.
    let module = decoder(126, ["128256", "16384", "53248", "16384", "1024"], false);
    let entry = module.find("forward").unwrap();
    let count = parameter_count(&module, entry);
    let flops = work(&module, entry).unwrap().total().flops;
    assert_eq!(count.unique, Expr::from(405_853_388_800i128));
    assert_eq!(count.stored, count.unique);
    assert_eq!(count.non_embedding, Expr::from(405_853_388_800i128 - 128_256 * 16_384));
    assert_eq!(count.bytes, count.unique.clone() * 4);
    // Two FLOPs per parameter of a matrix and token, and a little for norms.
    let env = Env::from([(Symbol::new("B"), 1), (Symbol::new("T"), 1)]);
    let per_token = flops.eval(&env).unwrap();
    let matrices = 2 * (405_853_388_800i128 - 128_256 * 16_384);
    assert!(per_token > matrices && per_token < matrices + matrices / 100, "{per_token}");
}

#[test]
fn dims_may_stay_symbols() {
    let module = decoder(3, ["V", "E", "F", "Q", "K"], true);
    let entry = module.find("forward").unwrap();
    let count = parameter_count(&module, entry);
    // The head is tied, so its own weight is declared but used by nothing.
    let layers = e("3*(2*E + 2*Q*E + 2*K*E + 3*F*E)");
    assert_eq!(count.unique, e("2*V*E + E") + layers.clone());
    assert_eq!(count.stored, e("3*V*E + E") + layers.clone());
    assert_eq!(count.non_embedding, e("V*E + E") + layers);
    assert_eq!(own_parameters(&module.functions[0]), e("2*E + 2*Q*E + 2*K*E + 3*F*E"));
    let all = weights(&module, entry);
    assert!(all[0].is_tied() && all[0].is_embedding());
    assert_eq!((all[0].uses, all[0].lookups), (2, 1));
    assert_eq!(all.last().map(|w| (w.path.as_str(), w.uses)), Some(("head.weight", 0)));
}

#[test]
fn tables_are_seen_through_casts_and_calls() {
    let module = parsed(
        r#"module @m {
  symbol B >= 1
  fn @look_up(%ids: i32[N], %w: bf16[V, E]) -> (y: bf16[N, E]) {
    %y = embedding(%w, %ids)
    return %y
  }
  fn @main(%ids: i32[B], weight %w "w": f32[10, 4], weight %v "v": f32[10, 4]) -> (y: bf16[B, 4]) {
    %a = cast(%w) {dtype = bf16}
    %y = call @look_up(%ids, %a)
    %b = neg(%v)
    return %y
  }
}"#,
    );
    let all = weights(&module, module.find("main").unwrap());
    assert_eq!(all.iter().map(|w| w.is_embedding()).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn work_is_the_sum_of_all_nodes_whatever_the_calls() {
    let folded = decoder(4, ["100", "8", "16", "8", "4"], false);
    let entry = folded.find("forward").unwrap();
    let all = work(&folded, entry).unwrap();
    assert_eq!(all.by_op["linear"].count, Expr::from(4 * 7 + 1));
    assert_eq!(all.by_op["add"].cost.flops, e("4*2*8*B*T"));
    assert_eq!(all.by_op["add"].cost.bytes_written, e("4*2*8*4*B*T"));
    let matrices = 4 * (8 * 8 + 2 * 4 * 8 + 8 * 8 + 3 * 16 * 8) + 100 * 8;
    assert_eq!(all.by_op["linear"].cost.flops, e("2*B*T") * matrices);
    assert!(!all.is_lower_bound);
    let total: Expr = all.by_op.values().map(|op| op.cost.flops.clone()).sum();
    assert_eq!(all.total().flops, total);
}

#[test]
fn scans_branches_and_loops_count_as_documented() {
    let module = parsed(
        r#"module @m {
  symbol S >= 1
  symbol N >= 1
  fn @add(%c: f32[N], %x: f32[N]) -> (c: f32[N]) {
    %y = add(%c, %x)
    return %y
  }
  fn @one(%x: f32[N]) -> (y: f32[N]) {
    %y = neg(%x)
    return %y
  }
  fn @two(%x: f32[N]) -> (y: f32[N]) {
    %y = neg(%x)
    %z = neg(%y)
    return %z
  }
  fn @go(%x: f32[N]) -> (go: bool[]) {
    %y = constant() {dtype = bool, dims = <>, value = 0.0}
    return %y
  }
  fn @main(%go: bool[], %c: f32[8], %xs: f32[S, 8]) -> (y: f32[8]) {
    %d = scan(%c, %xs) {body = @add}
    %e = if(%go, %d) {then = @one, else = @two}
    %f = while(%e) {cond = @go, body = @one}
    return %f
  }
}"#,
    );
    let all = work(&module, module.find("main").unwrap()).unwrap();
    assert_eq!(all.by_op["add"].cost.flops, e("8*S"));
    assert_eq!(all.by_op["neg"].count, Expr::from(3));
    assert!(all.is_lower_bound);
}

#[test]
fn the_table_is_sorted_and_aligned() {
    let module = decoder(2, ["100", "8", "16", "8", "4"], false);
    let all = work(&module, module.find("forward").unwrap()).unwrap();
    let env = Env::from([(Symbol::new("B"), 1), (Symbol::new("T"), 1)]);
    let table = all.table(&env);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("op"), "{table}");
    assert!(lines[1].starts_with("linear"), "{table}");
    assert!(lines.last().is_some_and(|l| l.starts_with("total")), "{table}");
    assert!(lines.iter().all(|l| l.len() == lines[0].len()), "{table}");
    assert!(all.table(&Env::new()).contains('?'));
}

#[test]
fn exponential_calls_are_refused_not_overflowed() {
    let mut text = String::from(
        "module @m {\nsymbol N >= 1\nfn @f0(%x: f32[N]) -> (y: f32[N]) {\n%y = neg(%x)\nreturn %y\n}\n",
    );
    for i in 1..150 {
        text += &format!(
            "fn @f{i}(%x: f32[N]) -> (y: f32[N]) {{\n%a = call @f{}(%x)\n%b = call @f{}(%a)\nreturn %b\n}}\n",
            i - 1,
            i - 1
        );
    }
    let module = parsed(&(text + "}"));
    assert!(work(&module, module.find("f30").unwrap()).is_ok());
    assert!(work(&module, module.find("f149").unwrap()).is_err());
}

#[test]
fn bytes_of_narrow_types_round_up() {
    let ty = |dtype, n: usize| TensorType::new(dtype, [Expr::symbol("B"), Expr::from(n)]);
    assert_eq!(bytes(&ty(DType::I4, 8)), e("4*B"));
    assert_eq!(bytes(&ty(DType::I4, 3)), e("2*B"));
    assert_eq!(bytes(&ty(DType::Bf16, 3)), e("6*B"));
}
