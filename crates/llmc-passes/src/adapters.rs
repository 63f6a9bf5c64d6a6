//! Low-rank adapters: linear maps with a trained product of two narrow matrices beside a frozen weight.
//!
//! ```text
//! y = linear(x, W, b?) + linear(linear(x, A), B) · scale,  A [rank, in], B [out, rank]
//! ```
//!
//! A map is called by the path of its weight in its function, without `.weight`: `attention.q`. Every
//! layer is a call of the same function, so all layers have the adapters of one. The weights are
//! `<map>.lora_A.weight` and `<map>.lora_B.weight`, PEFT's names.
//!
//! Source: Hu et al. 2021, arXiv:2106.09685, section 4.1, eq. 3; there scale = alpha / rank.

use crate::rebuild::Rebuild;
use crate::{each_function, type_error};
use llmc_base::{Diagnostic, Expr};
use llmc_ir::ops::Linear;
use llmc_ir::{Function, FunctionBuilder, Module, Node, Op, TensorType, TypeError, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// The first matrix, from the input to the rank.
pub const DOWN: &str = "lora_A.weight";
/// The second matrix, from the rank to the output.
pub const UP: &str = "lora_B.weight";
/// The target that stands for every linear map but the head.
pub const ALL_LINEAR: &str = "all-linear";

/// The linear map over the whole vocabulary, which `all-linear` leaves out.
const HEAD: &str = "lm_head";
/// What follows the name of a map in the path of its weight.
const WEIGHT: &str = ".weight";

/// What adapters to add.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapters {
    /// Width of the product.
    pub rank: u64,
    /// Factor on it: alpha / rank.
    pub scale: f64,
    /// Names of maps: a glob over the name in its function or the last parts of it, or [`ALL_LINEAR`].
    pub targets: Vec<String>,
}

impl Adapters {
    /// Whether a target names this map.
    fn has(&self, map: &str) -> bool {
        self.targets.iter().any(|target| names(target, map))
    }
}

/// Whether a target names a map, as PEFT's do: by its whole name, or what follows a dot of it.
fn names(target: &str, map: &str) -> bool {
    if target == ALL_LINEAR {
        return map != HEAD;
    }
    let starts = map.match_indices('.').map(|(at, _)| at + 1);
    std::iter::once(0)
        .chain(starts)
        .any(|at| matches_glob(target.as_bytes(), &map.as_bytes()[at..]))
}

/// Whether a glob, in which `*` is any text, is the whole text.
fn matches_glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| matches_glob(rest, &text[at..])),
        ([a, pattern @ ..], [b, text @ ..]) if a == b => matches_glob(pattern, text),
        ([], []) => true,
        _ => false,
    }
}

/// Whether a path is that of an adapter's matrix.
pub fn is_adapter(path: &str) -> bool {
    let is = |name: &str| path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    is(DOWN) || is(UP)
}

/// The path of the weight that an adapter's first matrix stands beside, and that of the second.
pub fn beside(path: &str) -> Option<(String, String)> {
    let map = path.strip_suffix(DOWN)?.strip_suffix('.')?;
    Some((format!("{map}{WEIGHT}"), format!("{map}.{UP}")))
}

/// Adds adapters to every linear map that a target names.
///
/// Errors: `lora::target` for a target that names no linear map with a weight of its own;
/// `lora::type` if the matrices do not fit.
pub fn with_adapters(module: &Module, adapters: &Adapters) -> Result<Module, Diagnostic> {
    let known: BTreeSet<String> =
        module.functions.iter().flat_map(|f| maps(f).into_values()).collect();
    let mut unknown = adapters.targets.iter().filter(|t| !known.iter().any(|map| names(t, map)));
    if let Some(target) = unknown.next() {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let message =
            format!("the target \"{target}\" names no linear map with a weight of its own");
        let help = format!(
            "there are {}; every layer has the same; `*` is any text, \"{ALL_LINEAR}\" all but the head",
            known.join(", ")
        );
        let d = Diagnostic::error("lora::target", message).help(help);
        return Err(d.field("training.lora.target_modules"));
    }
    each_function(module, |new, function| {
        let maps = maps(function);
        let mut rebuild = Rebuild::new(new, function);
        for (at, node) in function.nodes.iter().enumerate() {
            rebuild.copy(node);
            let Some(map) = maps.get(&at).filter(|map| adapters.has(map)) else { continue };
            adapt(&mut rebuild, node, map, adapters)
                .map_err(|e| type_error("lora", &function.name, &e))?;
        }
        Ok(rebuild.finish())
    })
}

/// The linear maps of a function whose weight nothing else reads, by node.
fn maps(function: &Function) -> BTreeMap<usize, String> {
    let name = |weight: ValueId| {
        let (path, _) = function.weights().find(|(_, value)| *value == weight)?;
        let readers = function.nodes.iter().filter(|n| n.operands.contains(&weight)).count();
        path.strip_suffix(WEIGHT).filter(|_| readers == 1).map(str::to_string)
    };
    let nodes = function.nodes.iter().enumerate();
    let linear = nodes.filter(|(_, node)| matches!(node.op, Op::Linear(_)));
    linear.filter_map(|(at, node)| Some((at, name(*node.operands.get(1)?)?))).collect()
}

/// Adds the adapter to the map that was copied last, and lets the sum stand for its result.
fn adapt(
    rebuild: &mut Rebuild,
    node: &Node,
    map: &str,
    adapters: &Adapters,
) -> Result<(), TypeError> {
    let (x, w) = (rebuild.get(node.operands[0]), rebuild.get(node.operands[1]));
    let plain = rebuild.get(node.results[0]);
    let sum = low_rank(&mut rebuild.b, [x, w, plain], map, adapters)?;
    // The sum takes the name.
    rebuild.b.name(plain, &format!("{}_frozen", map.replace('.', "_")));
    rebuild.set(node.results[0], sum);
    Ok(())
}

/// y + linear(linear(x, A), B) · scale.
fn low_rank(
    b: &mut FunctionBuilder,
    [x, w, y]: [ValueId; 3],
    map: &str,
    adapters: &Adapters,
) -> Result<ValueId, TypeError> {
    let ty = b.ty(w).clone();
    let [out, width] = &ty.shape[..] else {
        return Err(TypeError::new("lora::type", format!("the weight of `{map}` is no matrix")));
    };
    let rank = Expr::constant(i128::from(adapters.rank));
    let matrix =
        |dims: [&Expr; 2]| TensorType { shape: dims.map(Clone::clone).to_vec(), ..ty.clone() };
    let down = b.weight(&format!("{map}.{DOWN}"), matrix([&rank, width]));
    let up = b.weight(&format!("{map}.{UP}"), matrix([out, &rank]));
    let narrow = b.op1(Linear::default(), &[x, down])?;
    let wide = b.op1(Linear::default(), &[narrow, up])?;
    let scaled = b.mul_scalar(wide, adapters.scale)?;
    b.add(y, scaled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::{Options, autodiff, grad_accumulators};
    use crate::tests::module;

    const MODEL: &str = "fn @layer(%x: f32[B, 2], weight %q \"attention.q.weight\": f32[4, 2],
            weight %o \"attention.o.weight\": f32[2, 4]) -> (y: f32[B, 2]) {
            %h = linear(%x, %q) : f32[B, 4]
            %y = linear(%h, %o) : f32[B, 2]
            return %y
        }
        fn @loss(%ids: i32[B], weight %e \"embedding.weight\": f32[3, 2], state %loss \"loss\": f32[])
            -> (state \"loss\": f32[]) {
            %x = embedding(%e, %ids) : f32[B, 2]
            %a = call @layer(%x) {scope = \"layers.0\"} : f32[B, 2]
            %b = call @layer(%a) {scope = \"layers.1\"} : f32[B, 2]
            %y = linear(%b, %e) : f32[B, 3]
            %l = reduce_sum(%y, %loss) {axes = [0, 1], order = chain, acc = f32} : f32[]
            return %l
        }";

    fn adapters(targets: &[&str]) -> Adapters {
        let targets = targets.iter().map(|t| t.to_string()).collect();
        Adapters { rank: 1, scale: 2.0, targets }
    }

    #[test]
    fn targets_name_maps_as_those_of_peft_do() {
        for (target, map, is_named) in [
            ("q", "attention.q", true),
            ("attention.q", "attention.q", true),
            ("attention.*", "attention.o", true),
            ("*", "lm_head", true),
            (ALL_LINEAR, "mlp.up", true),
            (ALL_LINEAR, HEAD, false),
            ("q", "attention.qq", false),
            ("attention", "attention.q", false),
        ] {
            assert_eq!(names(target, map), is_named, "{target} {map}");
        }
        assert!(is_adapter("layers.0.attention.q.lora_A.weight") && is_adapter("q.lora_B.weight"));
        assert!(!is_adapter("layers.0.attention.q.weight") && !is_adapter("lora_A.weight"));
        let pair = ("a.q.weight".to_string(), "a.q.lora_B.weight".to_string());
        assert_eq!(beside("a.q.lora_A.weight"), Some(pair));
    }

    #[test]
    fn only_what_is_chosen_is_adapted_and_trained() {
        let adapted = with_adapters(&module(MODEL), &adapters(&["q"])).unwrap();
        assert_eq!(llmc_ir::verify::verify(&adapted), []);
        let weights = Some(&is_adapter as &dyn Fn(&str) -> bool);
        let grad = autodiff(&adapted, &Options { weights, ..Options::default() }).unwrap();
        let trained: Vec<String> =
            grad_accumulators(&grad, "grad").into_iter().map(|a| a.weight).collect();
        let names = ["lora_A", "lora_B"].map(|m| format!("attention.q.{m}.weight"));
        let expected: Vec<String> = ["layers.0", "layers.1"]
            .iter()
            .flat_map(|l| names.iter().map(move |n| format!("{l}.{n}")))
            .collect();
        assert_eq!(trained, expected);
    }

    #[test]
    fn a_target_that_names_nothing_is_an_error() {
        let refused = with_adapters(&module(MODEL), &adapters(&["o", "lm_head"])).unwrap_err();
        assert_eq!(refused.code, "lora::target");
        // The tied head has no weight of its own.
        assert!(refused.message.contains("\"lm_head\""), "{}", refused.message);
        let help = refused.help.unwrap();
        assert!(help.starts_with("there are attention.o, attention.q;"), "{help}");
    }
}
