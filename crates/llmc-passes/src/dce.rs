//! Dead code elimination: drops nodes that no result needs.
//!
//! A call of a function with state changes that state, so it stays. Parameters
//! stay too: they are the signature, and the accounting of parameters is theirs.

use crate::each_function;
use crate::rebuild::Rebuild;
use llmc_base::Diagnostic;
use llmc_ir::{Function, Module, Op, ValueDef, ValueId};

/// Drops the nodes of every function that no result needs.
pub fn dce(module: &Module) -> Result<Module, Diagnostic> {
    each_function(module, |new, function| Ok(dce_function(new, function)))
}

/// [`dce`] of one function; its callees are in `module`.
pub(crate) fn dce_function(module: &Module, function: &Function) -> Function {
    let live = live_nodes(module, function, function.results.iter().map(|r| r.value));
    if live.iter().all(|l| *l) {
        return function.clone();
    }
    let mut rebuild = Rebuild::new(module, function);
    for (node, _) in function.nodes.iter().zip(live).filter(|(_, live)| *live) {
        rebuild.copy(node);
    }
    rebuild.finish()
}

/// Which nodes `roots` need, together with the nodes that change state.
pub(crate) fn live_nodes(
    module: &Module,
    function: &Function,
    roots: impl IntoIterator<Item = ValueId>,
) -> Vec<bool> {
    let mut live = vec![false; function.nodes.len()];
    let mark = |live: &mut Vec<bool>, value: ValueId| {
        if let ValueDef::Node { node, .. } = function.value(value).def {
            live[node.index()] = true;
        }
    };
    roots.into_iter().for_each(|value| mark(&mut live, value));
    for (index, node) in function.nodes.iter().enumerate().rev() {
        if live[index] || changes_state(module, &node.op) {
            live[index] = true;
            node.operands.iter().for_each(|operand| mark(&mut live, *operand));
        }
    }
    live
}

/// Whether an op calls, at any depth, a function with state.
pub(crate) fn changes_state(module: &Module, op: &Op) -> bool {
    callees(op).iter().filter_map(|name| module.find(name)).any(|id| {
        let callee = module.function(id);
        callee.states().next().is_some()
            || callee.nodes.iter().any(|node| changes_state(module, &node.op))
    })
}

/// Names of the functions that an op calls.
pub(crate) fn callees(op: &Op) -> Vec<&str> {
    match op {
        Op::Call(call) => vec![&call.callee],
        Op::If(branch) => vec![&branch.then_fn, &branch.else_fn],
        Op::While(repeat) => vec![&repeat.cond, &repeat.body],
        Op::Scan(scan) => vec![&scan.body],
        _ => Vec::new(),
    }
}
