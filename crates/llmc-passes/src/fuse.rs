//! Fusion: nodes that are faster or smaller in one become one composite.
//!
//! Only patterns whose composite decomposes into the very nodes it replaces, so that no bit changes:
//!
//! - a linear map whose logits only a cross entropy reads: `linear_cross_entropy`;
//! - that with the gradient of x, and of w if it has one: `linear_cross_entropy_grad`.
//!
//! The new node stands where the last of the old ones stood; what depends on its results and
//! stood before moves behind it.

use crate::each_function;
use crate::rebuild::Rebuild;
use llmc_base::{Decision, Diagnostic};
use llmc_ir::ops::{LinearCrossEntropy, LinearCrossEntropyGrad, Precision};
use llmc_ir::{DType, Function, Module, Node, Op, ValueDef, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Fuses the nodes of every function.
pub fn fuse(module: &Module) -> Result<Module, Diagnostic> {
    fuse_explained(module, &mut Vec::new())
}

/// [`fuse`], and what was fused or left apart, and why.
pub fn fuse_explained(module: &Module, log: &mut Vec<Decision>) -> Result<Module, Diagnostic> {
    let log = std::cell::RefCell::new(log);
    each_function(module, |new, function| Ok(fuse_function(new, function, &mut log.borrow_mut())))
}

/// Nodes that become one.
struct Group {
    /// Their indices, ascending.
    nodes: Vec<usize>,
    op: Op,
    operands: Vec<ValueId>,
    /// What its results stand for.
    results: Vec<ValueId>,
}

fn fuse_function(module: &Module, function: &Function, log: &mut Vec<Decision>) -> Function {
    let users = users(function);
    // By last member; groups share no node.
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for at in 0..function.nodes.len() {
        let decided = match head(function, &users, at) {
            Ok(group) if is_movable(function, &group) => Ok(group),
            Ok(_) => Err(Some("what reads a result in between could not move behind it")),
            Err(reason) => Err(reason),
        };
        let mut tell = |choice, why: String, ops: Vec<&'static str>| {
            let told = Decision::new("fuse", &function.name, subject(function, at), choice, why);
            log.push(told.about(ops));
        };
        match decided {
            Ok(group) => {
                let ops: Vec<&'static str> =
                    group.nodes.iter().map(|at| function.nodes[*at].op.name()).collect();
                let why = format!(
                    "{} become `{}`: all logits are never in memory, and the bits are the same",
                    ops.join(", "),
                    group.op.name()
                );
                tell("fused", why, ops);
                groups.insert(group.nodes[group.nodes.len() - 1], group);
            }
            Err(Some(reason)) => {
                tell("left apart", reason.to_string(), vec![function.nodes[at].op.name()]);
            }
            Err(None) => {}
        }
    }
    if groups.is_empty() {
        return function.clone();
    }
    let members: BTreeSet<usize> = groups.values().flat_map(|g| g.nodes.clone()).collect();
    let mut rebuild = Rebuild::new(module, function);
    let mut waiting: Vec<&Node> = Vec::new();
    for (at, node) in function.nodes.iter().enumerate() {
        if let Some(group) = groups.get(&at) {
            let operands: Vec<ValueId> = group.operands.iter().map(|v| rebuild.get(*v)).collect();
            let types = group.results.iter().map(|v| function.ty(*v).clone()).collect();
            rebuild.b.set_origin(function.nodes[group.nodes[0]].origin);
            let results = rebuild.b.push(group.op.clone(), &operands, types);
            group.results.iter().zip(results).for_each(|(old, new)| rebuild.set(*old, new));
            // What waited, in its order, as far as it can go on now.
            for node in std::mem::take(&mut waiting) {
                match node.operands.iter().all(|v| rebuild.has(*v)) {
                    true => rebuild.copy(node),
                    false => waiting.push(node),
                }
            }
        } else if !members.contains(&at) {
            match node.operands.iter().all(|v| rebuild.has(*v)) {
                true => rebuild.copy(node),
                false => waiting.push(node),
            }
        }
    }
    rebuild.finish()
}

/// A node for people: its first result and its op.
pub(crate) fn subject(function: &Function, at: usize) -> String {
    let node = &function.nodes[at];
    let result = node.results.first().map(|v| value_name(function, *v)).unwrap_or_default();
    format!("{result} = {}", node.op.name())
}

/// A value for people: `%name` or its number.
pub(crate) fn value_name(function: &Function, value: ValueId) -> String {
    match &function.value(value).name {
        Some(name) => format!("%{name}"),
        None => format!("%{}", value.0),
    }
}

/// The nodes that read each value; `usize::MAX` for a result of the function.
fn users(function: &Function) -> Vec<Vec<usize>> {
    let mut users = vec![Vec::new(); function.values.len()];
    for (at, node) in function.nodes.iter().enumerate() {
        node.operands.iter().for_each(|v| users[v.index()].push(at));
    }
    function.results.iter().for_each(|r| users[r.value.index()].push(usize::MAX));
    users
}

/// The head of a language model that begins with the linear map at `at`; why it stays as it is, if a
/// cross entropy reads it, and nothing for any other node.
fn head(
    function: &Function,
    users: &[Vec<usize>],
    at: usize,
) -> Result<Group, Option<&'static str>> {
    let node = &function.nodes[at];
    let reader = |at: &usize| function.nodes.get(*at);
    let logits = *node.results.first().ok_or(None)?;
    let loss = |node: &Node| matches!(node.op, Op::CrossEntropy(_)) && node.operands[0] == logits;
    let Op::Linear(linear) = &node.op else { return Err(None) };
    if !users[logits.index()].iter().filter_map(reader).any(loss) {
        return Err(None);
    }
    let &[x, w] = &node.operands[..] else {
        return Err(Some("the linear map has a bias, which the fused op has not"));
    };
    let precision = linear.precision;
    if function.ty(logits).dtype != DType::F32 {
        return Err(Some("the logits are not f32"));
    }
    pattern(function, users, at, (x, w), precision).ok_or(Some(
        "others than the loss and its gradient read the logits, so they have to be in memory",
    ))
}

/// The group of a linear map x·wᵀ whose f32 logits a cross entropy reads, if nothing else does.
fn pattern(
    function: &Function,
    users: &[Vec<usize>],
    at: usize,
    (x, w): (ValueId, ValueId),
    precision: Precision,
) -> Option<Group> {
    let logits = function.nodes[at].results[0];
    let reader = |at: &usize| function.nodes.get(*at);
    let loss = |node: &Node| matches!(node.op, Op::CrossEntropy(_)) && node.operands[0] == logits;
    match users[logits.index()][..] {
        [only] => {
            let entropy = reader(&only).filter(|n| loss(n))?;
            let [_, targets, weights] = entropy.operands[..] else { return None };
            Some(Group {
                nodes: vec![at, only],
                op: LinearCrossEntropy { precision }.into(),
                operands: vec![x, w, targets, weights],
                results: entropy.results.clone(),
            })
        }
        [one, two] => {
            let entropy = reader(&one).filter(|n| loss(n))?;
            let [_, targets, weights] = entropy.operands[..] else { return None };
            let backward = reader(&two)?;
            let Op::CrossEntropyBackward(_) = backward.op else { return None };
            let [_, same_targets, dloss] = backward.operands[..] else { return None };
            let dlogits = backward.results[0];
            let (input, weight) = match users[dlogits.index()][..] {
                [input] => (input, None),
                [input, weight] => (input, Some(weight)),
                _ => return None,
            };
            let dx = reader(&input)?;
            let rank = function.ty(logits).rank();
            let is_dx = matches!(&dx.op, Op::Dot(dot) if dot.lhs_batch.is_empty()
                && dot.acc == DType::F32
                && dot.lhs_contract == [rank - 1]
                && dot.rhs_contract == [0]
                && dot.precision == precision)
                && dx.operands == [dlogits, w];
            let mut group = Group {
                nodes: vec![at, one, two, input],
                op: LinearCrossEntropyGrad { precision }.into(),
                operands: vec![x, w, targets, weights, dloss],
                results: vec![entropy.results[0], dx.results[0]],
            };
            let mut fits = is_dx && same_targets == targets;
            if let Some(weight) = weight {
                let dw = reader(&weight)?;
                let (Op::LinearWeightGrad(grad), &[_, _, acc]) = (&dw.op, &dw.operands[..]) else {
                    return None;
                };
                fits &= grad.precision == precision && dw.operands[..2] == [dlogits, x];
                group.nodes.push(weight);
                group.operands.push(acc);
                group.results.push(dw.results[0]);
            }
            group.nodes.sort_unstable();
            fits.then_some(group)
        }
        _ => None,
    }
}

/// Whether no operand of the group depends on one of its results, and no call would have to move:
/// calls that share state stay in their order.
fn is_movable(function: &Function, group: &Group) -> bool {
    let mut tainted: BTreeSet<ValueId> =
        group.nodes.iter().flat_map(|at| function.nodes[*at].results.clone()).collect();
    let last = group.nodes[group.nodes.len() - 1];
    for (at, node) in function.nodes.iter().enumerate().take(last) {
        if !group.nodes.contains(&at) && node.operands.iter().any(|v| tainted.contains(v)) {
            if matches!(node.op, Op::Call(_)) {
                return false;
            }
            tainted.extend(node.results.iter().copied());
        }
    }
    let is_defined_before = |value: ValueId| match function.value(value).def {
        ValueDef::Node { node, .. } => node.index() < last,
        ValueDef::Param(_) => true,
    };
    group.operands.iter().all(|v| !tainted.contains(v) && is_defined_before(*v))
}

#[cfg(test)]
mod tests {
    use super::fuse;
    use crate::autodiff::{Options, autodiff};
    use crate::tests::module;
    use llmc_ir::Module;

    const HEAD: &str = "fn @loss(%x: f32[B, 2], %t: i32[B], %s: f32[B], weight %e \"e\": f32[2, 2],
            weight %w \"w\": f32[3, 2], state %loss \"loss\": f32[]) -> (state \"loss\": f32[]) {
            %h = linear(%x, %e) : f32[B, 2]
            %logits = linear(%h, %w) : f32[B, 3]
            %y = cross_entropy(%logits, %t, %s) : f32[B]
            %l = reduce_sum(%y, %loss) {axes = [0], order = chain, acc = f32} : f32[]
            return %l
        }";

    fn ops(module: &Module, function: &str) -> Vec<&'static str> {
        let function = module.function(module.find(function).unwrap());
        function.nodes.iter().map(|node| node.op.name()).collect()
    }

    #[test]
    fn a_head_and_its_gradients_become_one_node() {
        let grad = autodiff(&module(HEAD), &Options::default()).unwrap();
        let fused = fuse(&grad).unwrap();
        assert_eq!(ops(&fused, "loss"), ["linear", "linear_cross_entropy", "reduce"]);
        let ops = ops(&fused, "grad");
        assert!(ops.contains(&"linear_cross_entropy_grad"), "{ops:?}");
        let gone = ["cross_entropy", "cross_entropy_backward", "dot"];
        assert!(ops.iter().all(|op| !gone.contains(op)), "{ops:?}");
        // The loss is summed after the node that makes it, though it stood before.
        let at = |name: &str| ops.iter().position(|op| *op == name).unwrap();
        assert!(at("linear_cross_entropy_grad") < at("reduce"), "{ops:?}");
    }

    #[test]
    fn a_head_that_is_not_trained_has_no_gradient_of_its_own() {
        let weights = Some(&(|path: &str| path == "e") as &dyn Fn(&str) -> bool);
        let options = Options { weights, ..Options::default() };
        let fused = fuse(&autodiff(&module(HEAD), &options).unwrap()).unwrap();
        let ops = ops(&fused, "grad");
        assert!(ops.contains(&"linear_cross_entropy_grad") && !ops.contains(&"dot"), "{ops:?}");
        let grad = fused.function(fused.find("grad").unwrap());
        let states: Vec<&str> = grad.states().map(|(path, _)| path).collect();
        assert_eq!(states, ["loss", "e.grad"]);
    }

    #[test]
    fn what_is_fused_and_what_is_not_has_a_reason() {
        let mut log = Vec::new();
        super::fuse_explained(&module(HEAD), &mut log).unwrap();
        let [fused] = &log[..] else { panic!("{log:?}") };
        assert_eq!((fused.function.as_str(), fused.choice), ("loss", "fused"));
        assert_eq!(fused.subject, "%logits = linear");
        assert!(fused.why.contains("linear, cross_entropy become"), "{}", fused.why);
        let biased = HEAD
            .replace("state %loss", "weight %b \"b\": f32[3], state %loss")
            .replace("linear(%h, %w)", "linear(%h, %w, %b)");
        let mut log = Vec::new();
        super::fuse_explained(&module(&biased), &mut log).unwrap();
        assert_eq!((log.len(), log[0].choice), (1, "left apart"), "{log:?}");
        assert!(log[0].why.contains("bias"), "{}", log[0].why);
    }

    #[test]
    fn a_gradient_that_depends_on_the_loss_waits_for_it() {
        // One node for the loss and what comes of its square would be an operand of itself.
        let text = "fn @f(%x: f32[B, 2], %t: i32[B], %s: f32[B], weight %w \"w\": f32[3, 2]) -> (dx: f32[B, 2]) {
            %logits = linear(%x, %w) : f32[B, 3]
            %y = cross_entropy(%logits, %t, %s) : f32[B]
            %d = mul(%y, %s) : f32[B]
            %dl = cross_entropy_backward(%logits, %t, %d) : f32[B, 3]
            %dx = dot(%dl, %w) {lhs_contract = [1], rhs_contract = [0], acc = f32} : f32[B, 2]
            return %dx
        }";
        let module = module(text);
        assert_eq!(ops(&fuse(&module).unwrap(), "f"), ops(&module, "f"));
        let independent = text.replace("mul(%y, %s)", "mul(%s, %s)");
        let fused = fuse(&crate::tests::module(&independent)).unwrap();
        assert_eq!(ops(&fused, "f"), ["binary", "linear_cross_entropy_grad"]);
    }

    #[test]
    fn logits_that_others_read_stay() {
        let read = HEAD.replace(
            "%l = reduce_sum(%y, %loss)",
            "%z = reduce_max(%logits) {axes = [1], order = lanes, acc = f32} : f32[B]
             %q = add(%y, %z) : f32[B]
             %l = reduce_sum(%q, %loss)",
        );
        let read = module(&read);
        assert_eq!(ops(&fuse(&read).unwrap(), "loss"), ops(&read, "loss"));
    }
}
