//! Makes a function of each group of weights, as a person makes a class of it.
//!
//! `attention.q.weight`, `attention.k.weight`, … of a layer form the group `attention`. The
//! nodes that use them, with everything on a path between two of them, become a function
//! of their own with weights `q.weight`, `k.weight`, …, and the layer calls it with scope
//! `attention`. The meaning does not change: this is the reverse of inlining.
//!
//! A group stays where it is if its nodes give more than one value, if another group's nodes
//! are among them, if a call uses its name as a scope, or if its modules are numbered.

use crate::python::is_identifier;
use llmc_ir::ops::Call;
use llmc_ir::{
    Function, Module, Node, NodeId, Op, Param, ParamRole, ResultInfo, ResultRole, ValueData,
    ValueDef, ValueId,
};
use std::collections::{BTreeMap, BTreeSet};

/// Outlines every group of every function; new functions stand before those they come from.
pub fn outline(module: &Module) -> Module {
    let mut out = Module { functions: Vec::new(), ..module.clone() };
    for function in &module.functions {
        let function = outline_function(&mut out, function.clone());
        out.functions.push(function);
    }
    out
}

/// Drops inputs that a called function does not read, and the operands that go there. The entry
/// and the parts of region ops keep theirs.
pub fn prune(module: &Module, entry: &str) -> Module {
    let mut out = module.clone();
    let mut kept: BTreeSet<&str> = BTreeSet::from([entry]);
    for node in module.functions.iter().flat_map(|f| &f.nodes) {
        match &node.op {
            Op::If(op) => kept.extend([op.then_fn.as_str(), op.else_fn.as_str()]),
            Op::While(op) => kept.extend([op.cond.as_str(), op.body.as_str()]),
            Op::Scan(op) => kept.extend([op.body.as_str()]),
            _ => {}
        }
    }
    // Callees stand before their callers, so what a call no longer passes is seen in its turn.
    for i in 0..out.functions.len() {
        if kept.contains(out.functions[i].name.as_str()) {
            continue;
        }
        let function = &out.functions[i];
        let used: BTreeSet<ValueId> = function
            .nodes
            .iter()
            .flat_map(|n| n.operands.iter().copied())
            .chain(function.results.iter().map(|r| r.value))
            .collect();
        let is_read: Vec<bool> = function.inputs().map(|v| used.contains(&v)).collect();
        let name = function.name.clone();
        drop_inputs(&mut out.functions[i], &is_read);
        for node in out.functions.iter_mut().flat_map(|f| &mut f.nodes) {
            if matches!(&node.op, Op::Call(call) if call.callee == name) {
                let mut index = 0;
                node.operands.retain(|_| {
                    index += 1;
                    is_read[index - 1]
                });
            }
        }
    }
    out
}

/// Drops the inputs whose place in `is_kept` is false.
fn drop_inputs(function: &mut Function, is_kept: &[bool]) {
    let mut index = 0;
    function.params.retain(|param| {
        if param.role != ParamRole::Input {
            return true;
        }
        index += 1;
        is_kept[index - 1]
    });
    for (index, param) in function.params.iter().enumerate() {
        function.values[param.value.index()].def = ValueDef::Param(index);
    }
}

/// The function with its groups replaced by calls; their functions are added to `out`.
fn outline_function(out: &mut Module, mut function: Function) -> Function {
    let mut tried = BTreeSet::new();
    // Each replacement renumbers the nodes, so the groups are looked for anew.
    while let Some((group, nodes)) = groups(&function).into_iter().find(|(g, _)| !tried.contains(g))
    {
        tried.insert(group.clone());
        let Some(block) = extract(&function, &group, &nodes) else { continue };
        let body = outline_function(out, block.function);
        let callee = adopt(out, &function.name, &group, body);
        let call = Call { callee, scope: group.clone() };
        function = replace(&function, &group, &nodes, call.into(), &block.inputs, block.output);
    }
    function
}

/// Adds a block under a free name, or finds the equal one that is there.
fn adopt(out: &mut Module, owner: &str, group: &str, body: Function) -> String {
    let mut name = group.to_string();
    for candidate in [group.to_string(), format!("{owner}_{group}")] {
        let body = Function { name: candidate.clone(), ..body.clone() };
        name = candidate;
        match out.functions.iter().find(|f| f.name == name) {
            Some(found) if *found == body => return name,
            Some(_) => {}
            None => break,
        }
    }
    while out.functions.iter().any(|f| f.name == name) {
        name.push('_');
    }
    out.functions.push(Function { name: name.clone(), ..body });
    name
}

/// The groups of a function with their nodes, in order of the first weight; none overlap.
fn groups(function: &Function) -> Vec<(String, BTreeSet<usize>)> {
    let mut group_of = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for (path, value) in function.weights() {
        if let Some((group, rest)) = path.split_once('.')
            && rest.contains('.')
        {
            group_of.insert(value, group);
            if !order.contains(&group) {
                order.push(group);
            }
        }
    }
    let is_scope = |group: &str| {
        let first = |scope: &str| scope.split('.').next().unwrap_or_default().to_string();
        function.nodes.iter().any(|n| matches!(&n.op, Op::Call(c) if first(&c.scope) == group))
    };
    // Numbered or oddly named modules are items of a list or dict, which is no class.
    let is_list = |group: &str| {
        let mut below =
            function.weights().filter_map(|(path, _)| path.strip_prefix(group)?.strip_prefix('.'));
        below.any(|rest| !is_identifier(rest.split('.').next().unwrap_or_default()))
    };
    let found: Vec<_> = order
        .into_iter()
        .filter(|group| !is_scope(group) && !is_list(group))
        .map(|group| {
            let uses = |n: &Node| n.operands.iter().any(|v| group_of.get(v) == Some(&group));
            (group.to_string(), closure(function, uses))
        })
        .collect();
    let is_alone = |group: &str, nodes: &BTreeSet<usize>| {
        found.iter().all(|(other, theirs)| other == group || nodes.is_disjoint(theirs))
    };
    found
        .iter()
        .filter(|(group, nodes)| !nodes.is_empty() && is_alone(group, nodes))
        .cloned()
        .collect()
}

/// The nodes that `is_seed`, those on a path between two of them, and constants that only they use.
fn closure(function: &Function, is_seed: impl Fn(&Node) -> bool) -> BTreeSet<usize> {
    let nodes = &function.nodes;
    let producer = |v: &ValueId| match function.value(*v).def {
        ValueDef::Node { node, .. } => Some(node.index()),
        ValueDef::Param(_) => None,
    };
    let mut after = vec![false; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        after[i] = is_seed(node) || node.operands.iter().filter_map(producer).any(|p| after[p]);
    }
    let mut before = vec![false; nodes.len()];
    for (i, node) in nodes.iter().enumerate().rev() {
        before[i] |= is_seed(node);
        if before[i] {
            node.operands.iter().filter_map(producer).for_each(|p| before[p] = true);
        }
    }
    let mut inside: BTreeSet<usize> =
        (0..nodes.len()).filter(|i| after[*i] && before[*i]).collect();
    let users = |i: usize| {
        let results = &nodes[i].results;
        let is_result = function.results.iter().any(|r| results.contains(&r.value));
        let users = nodes
            .iter()
            .enumerate()
            .filter(move |(_, n)| n.operands.iter().any(|v| results.contains(v)));
        (is_result, users.map(|(j, _)| j))
    };
    let is_constant = |i: &usize| {
        let (is_result, mut users) = users(*i);
        nodes[*i].operands.is_empty() && !is_result && users.all(|j| inside.contains(&j))
    };
    let constants: Vec<usize> = (0..nodes.len()).filter(is_constant).collect();
    inside.extend(constants);
    inside
}

/// A group as a function, and what it takes from and gives to the function it came from.
struct Block {
    function: Function,
    inputs: Vec<ValueId>,
    output: ValueId,
}

fn extract(function: &Function, group: &str, nodes: &BTreeSet<usize>) -> Option<Block> {
    let inside: Vec<&Node> = nodes.iter().map(|i| &function.nodes[*i]).collect();
    let defined: BTreeSet<ValueId> = inside.iter().flat_map(|n| &n.results).copied().collect();
    let outside = function.nodes.iter().enumerate().filter(|(i, _)| !nodes.contains(i));
    let used: BTreeSet<ValueId> = outside
        .flat_map(|(_, n)| n.operands.iter().copied())
        .chain(function.results.iter().map(|r| r.value))
        .collect();
    let mut outputs = defined.intersection(&used);
    let (Some(output), None) = (outputs.next(), outputs.next()) else { return None };
    let holds_calls =
        inside.iter().any(|n| matches!(&n.op, Op::If(_) | Op::While(_) | Op::Scan(_)));
    if holds_calls {
        return None;
    }

    let mut values: Vec<ValueData> = Vec::new();
    let mut params: Vec<Param> = Vec::new();
    let mut map: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let mut inputs = Vec::new();
    let prefix = format!("{group}.");
    for value in inside.iter().flat_map(|n| &n.operands) {
        if defined.contains(value) || map.contains_key(value) {
            continue;
        }
        let old = function.value(*value);
        let role = match old.def {
            ValueDef::Param(index) => match &function.params[index].role {
                ParamRole::Weight(path) => {
                    // A weight of another group cannot come along.
                    ParamRole::Weight(path.strip_prefix(&prefix)?.to_string())
                }
                ParamRole::State(_) => return None,
                ParamRole::Input => ParamRole::Input,
            },
            ValueDef::Node { .. } => ParamRole::Input,
        };
        if role == ParamRole::Input {
            inputs.push(*value);
        }
        let name = match (&role, inputs.len()) {
            (ParamRole::Input, 1) => Some("x".to_string()),
            (ParamRole::Input, _) => old.name.clone().filter(|name| name != "x"),
            (ParamRole::Weight(path), _) => Some(path.replace('.', "_")),
            (ParamRole::State(_), _) => None,
        };
        let new = ValueId(values.len() as u32);
        let def = ValueDef::Param(params.len());
        values.push(ValueData { name, ty: old.ty.clone(), def });
        params.push(Param { value: new, role });
        map.insert(*value, new);
    }
    let mut new_nodes = Vec::new();
    for node in inside {
        let id = NodeId(new_nodes.len() as u32);
        let operands = node.operands.iter().map(|v| map[v]).collect();
        let mut results = Vec::new();
        for (index, value) in node.results.iter().enumerate() {
            let new = ValueId(values.len() as u32);
            let old = function.value(*value);
            let def = ValueDef::Node { node: id, index };
            values.push(ValueData { name: old.name.clone(), ty: old.ty.clone(), def });
            map.insert(*value, new);
            results.push(new);
        }
        new_nodes.push(Node { op: node.op.clone(), operands, results, origin: node.origin });
    }
    let role = ResultRole::Output("y".to_string());
    let results = vec![ResultInfo { value: map[output], role }];
    let function = Function {
        name: group.to_string(),
        is_composite: false,
        params,
        values,
        nodes: new_nodes,
        results,
    };
    Some(Block { function, inputs, output: *output })
}

/// The function with `nodes` replaced by one call in the place of the one that gives `output`.
fn replace(
    function: &Function,
    group: &str,
    nodes: &BTreeSet<usize>,
    call: Op,
    inputs: &[ValueId],
    output: ValueId,
) -> Function {
    let mut out = Function { nodes: Vec::new(), ..function.clone() };
    let prefix = format!("{group}.");
    out.params.retain(|p| !matches!(&p.role, ParamRole::Weight(path) if path.starts_with(&prefix)));
    drop_inputs(&mut out, &vec![true; function.params.len()]);
    for (i, node) in function.nodes.iter().enumerate() {
        let id = NodeId(out.nodes.len() as u32);
        let node = if !nodes.contains(&i) {
            node.clone()
        } else if node.results.contains(&output) {
            Node {
                op: call.clone(),
                operands: inputs.to_vec(),
                results: vec![output],
                origin: node.origin,
            }
        } else {
            continue;
        };
        for (index, value) in node.results.iter().enumerate() {
            out.values[value.index()].def = ValueDef::Node { node: id, index };
        }
        out.nodes.push(node);
    }
    out
}
