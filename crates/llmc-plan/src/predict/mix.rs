//! Launches one after another, as a training has them.
//!
//! A probe runs the same launch again and again, so its code and the predictions of its branches are at hand. Between
//! others it takes a little longer. How much is measured on a few layers with their gradients, small and
//! large, and between the two read off by the length of a launch.

use crate::plan::{Plan, PlanError, plan};
use crate::space::AddressSpace;
use llmc_base::expr::Env;
use llmc_ir::Module;

/// What one size of mix came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// The mean launch of it.
    pub picoseconds: u64,
    /// Thousandths of the predicted time that it took.
    pub permille: u64,
}

/// Length, heads, their width, and feed-forward width of the layers; small ones first.
pub const MIXES: [[usize; 4]; 2] = [[32, 2, 16, 64], [256, 4, 32, 384]];

/// Layers of a mix.
const LAYERS: usize = 6;

/// A layer and its gradients; what flows back is only of the right shape.
const LAYER: &str = "fn @layer(%x: f32[1, $T, $E], %s: i32[1, $T], weight %n \"n\": f32[$E],
  weight %wq \"q\": f32[$E, $E], weight %wk \"k\": f32[$E, $E], weight %wv \"v\": f32[$E, $E],
  weight %wo \"o\": f32[$E, $E], weight %wg \"g\": f32[$F, $E], weight %wu \"u\": f32[$F, $E],
  weight %wd \"d\": f32[$E, $F], state %so \"so\": f32[$E, $E], state %sg \"sg\": f32[$F, $E],
  state %su \"su\": f32[$F, $E], state %sd \"sd\": f32[$E, $F])
  -> (y: f32[1, $T, $E], state \"so\": f32[$E, $E], state \"sg\": f32[$F, $E],
  state \"su\": f32[$F, $E], state \"sd\": f32[$E, $F]) {
  %h = rms_norm(%x, %n) {eps = 1e-5} : f32[1, $T, $E]
  %q1 = linear(%h, %wq) : f32[1, $T, $E]
  %k1 = linear(%h, %wk) : f32[1, $T, $E]
  %v1 = linear(%h, %wv) : f32[1, $T, $E]
  %q = reshape(%q1) {dims = <1, $T, $H, $D>} : f32[1, $T, $H, $D]
  %k = reshape(%k1) {dims = <1, $T, $H, $D>} : f32[1, $T, $H, $D]
  %v = reshape(%v1) {dims = <1, $T, $H, $D>} : f32[1, $T, $H, $D]
  %a4 = attention(%q, %k, %v, %s, %s) {causal = true} : f32[1, $T, $H, $D]
  %a = reshape(%a4) {dims = <1, $T, $E>} : f32[1, $T, $E]
  %o = linear(%a, %wo) : f32[1, $T, $E]
  %r = add(%x, %o) : f32[1, $T, $E]
  %g = linear(%r, %wg) : f32[1, $T, $F]
  %u = linear(%r, %wu) : f32[1, $T, $F]
  %z = swiglu(%g, %u) : f32[1, $T, $F]
  %m = linear(%z, %wd) : f32[1, $T, $E]
  %y = add(%r, %m) : f32[1, $T, $E]
  %dz = dot(%y, %wd) {lhs_contract = [2], rhs_contract = [0], acc = f32} : f32[1, $T, $F]
  %gd = linear_weight_grad(%y, %z, %sd) : f32[$E, $F]
  %dg, %du = swiglu_backward(%g, %u, %dz) : f32[1, $T, $F], f32[1, $T, $F]
  %gg = linear_weight_grad(%dg, %r, %sg) : f32[$F, $E]
  %gu = linear_weight_grad(%du, %r, %su) : f32[$F, $E]
  %d1 = dot(%dg, %wg) {lhs_contract = [2], rhs_contract = [0], acc = f32} : f32[1, $T, $E]
  %d2 = dot(%du, %wu) {lhs_contract = [2], rhs_contract = [0], acc = f32} : f32[1, $T, $E]
  %d3 = add(%d1, %d2) : f32[1, $T, $E]
  %go = linear_weight_grad(%d3, %a, %so) : f32[$E, $E]
  %da = dot(%d3, %wo) {lhs_contract = [2], rhs_contract = [0], acc = f32} : f32[1, $T, $E]
  %da4 = reshape(%da) {dims = <1, $T, $H, $D>} : f32[1, $T, $H, $D]
  %dq, %dk, %dv = attention_backward(%q, %k, %v, %da4, %s, %s) {causal = true}
    : f32[1, $T, $H, $D], f32[1, $T, $H, $D], f32[1, $T, $H, $D]
  %d4 = add(%dq, %dk) : f32[1, $T, $H, $D]
  %d5 = add(%d4, %dv) : f32[1, $T, $H, $D]
  %out = reshape(%d5) {dims = <1, $T, $E>} : f32[1, $T, $E]
  return %out, %go, %gg, %gu, %gd
}";

/// The module of a mix.
///
/// # Panics
/// Never: a test parses both.
pub fn module([length, heads, width, ffn]: [usize; 4]) -> Module {
    let calls: String = (0..LAYERS)
        .map(|i| {
            let next = i + 1;
            format!("%v{next} = call @layer(%v{i}, %s) {{scope = \"l{i}\"}} : f32[1, $T, $E]\n")
        })
        .collect();
    let main = format!(
        "fn @main(%v0: f32[1, $T, $E], %s: i32[1, $T]) -> (y: f32[1, $T, $E]) {{\n{calls}return %v{LAYERS}\n}}"
    );
    let mut text = format!("module @mix {{\n{LAYER}\n{main}\n}}");
    let sizes = [("$T", length), ("$E", heads * width), ("$H", heads), ("$D", width), ("$F", ffn)];
    for (name, size) in sizes {
        text = text.replace(name, &size.to_string());
    }
    let parsed = llmc_ir::text::parse(&text);
    parsed.expect("a mix is IR text that parses, which a test holds")
}

/// The plan of a mix.
///
/// Errors: those of planning; none, as a test holds.
pub fn mix_plan(sizes: [usize; 4]) -> Result<Plan, PlanError> {
    let module = module(sizes);
    let entry = module.find("main").expect("a mix has `@main`");
    plan(&module, entry, &Env::new(), &mut AddressSpace::default())
}

/// By how much a launch that takes so long alone is longer between others.
pub(super) fn factor(mixes: &[Mix], picoseconds: f64) -> f64 {
    let one = |mix: &Mix| mix.permille as f64 / 1000.0;
    match mixes {
        [] => 1.0,
        [small, large] if small.picoseconds < large.picoseconds && small.picoseconds > 0 => {
            let (low, high) = (small.picoseconds as f64, large.picoseconds as f64);
            let part = libm::log(picoseconds.clamp(low, high) / low) / libm::log(high / low);
            one(small) + (one(large) - one(small)) * part
        }
        [.., last] => one(last),
    }
}
