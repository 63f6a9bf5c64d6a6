//! Inlining: every call becomes the nodes of its callee.
//!
//! Weights of the callee become weights of the caller under the path of the call's scope; two
//! calls with one scope share them. State runs through the calls in order. Functions that
//! were only called disappear; entries stay.

use crate::dce::callees;
use crate::rebuild::Rebuild;
use llmc_base::{Diagnostic, Expr, Symbol};
use llmc_ir::module::join_path;
use llmc_ir::ops::unify;
use llmc_ir::{Function, Module, Node, Op, ParamRole, ResultInfo, ResultRole, TensorType, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Replaces every call of every entry function by the callee's nodes.
///
/// Errors: `inline::call` if a call does not fit its callee.
pub fn inline(module: &Module) -> Result<Module, Diagnostic> {
    let nodes = || module.functions.iter().flat_map(|f| &f.nodes);
    let (calls, regions): (Vec<&Node>, Vec<&Node>) =
        nodes().partition(|node| matches!(node.op, Op::Call(_)));
    let called: BTreeSet<&str> = calls.iter().flat_map(|n| callees(&n.op)).collect();
    let in_regions: BTreeSet<&str> = regions.iter().flat_map(|n| callees(&n.op)).collect();
    let mut out = Module { functions: Vec::new(), ..module.clone() };
    // Callees stand before their callers, so each callee is inlined itself already.
    let mut flat: BTreeMap<&str, Function> = BTreeMap::new();
    for function in &module.functions {
        let new = inline_calls(&out, function, &flat)?;
        let name = function.name.as_str();
        if !called.contains(name) || in_regions.contains(name) {
            out.add(new.clone());
        }
        flat.insert(&function.name, new);
    }
    Ok(out)
}

/// The values of the caller that stand for weights, and for state at this point, by path.
#[derive(Default)]
struct Paths {
    weights: BTreeMap<String, ValueId>,
    states: BTreeMap<String, ValueId>,
}

fn inline_calls(
    module: &Module,
    function: &Function,
    flat: &BTreeMap<&str, Function>,
) -> Result<Function, Diagnostic> {
    let mut rebuild = Rebuild::new(module, function);
    let callee_of = |node: &Node| match &node.op {
        Op::Call(call) => flat.get(call.callee.as_str()).map(|callee| (call.clone(), callee)),
        _ => None,
    };
    let mut paths = Paths::default();
    let mut own_states = BTreeSet::new();
    for (path, value) in function.weights() {
        paths.weights.insert(path.to_string(), rebuild.get(value));
    }
    for (path, value) in function.states() {
        paths.states.insert(path.to_string(), rebuild.get(value));
        own_states.insert(path.to_string());
    }
    for (call, callee) in function.nodes.iter().filter_map(callee_of) {
        for (path, value) in callee.weights() {
            let path = join_path(&call.scope, path);
            let weight = || rebuild.b.weight(&path.clone(), callee.ty(value).clone());
            paths.weights.entry(path.clone()).or_insert_with(weight);
        }
    }
    for (call, callee) in function.nodes.iter().filter_map(callee_of) {
        for (path, value) in callee.states() {
            let path = join_path(&call.scope, path);
            let state = || rebuild.b.state(&path.clone(), callee.ty(value).clone());
            paths.states.entry(path.clone()).or_insert_with(state);
        }
    }
    for node in &function.nodes {
        match callee_of(node) {
            None => rebuild.copy(node),
            Some((call, callee)) => splice(&mut rebuild, &mut paths, node, &call.scope, callee)?,
        }
    }
    let mut new = rebuild.finish();
    for (path, value) in paths.states {
        if !own_states.contains(&path) {
            new.results.push(ResultInfo { value, role: ResultRole::State(path) });
        }
    }
    Ok(new)
}

/// Puts the nodes of `callee` in the place of a call.
fn splice(
    rebuild: &mut Rebuild,
    paths: &mut Paths,
    node: &Node,
    scope: &str,
    callee: &Function,
) -> Result<(), Diagnostic> {
    let fail = |message: String| {
        Diagnostic::error("inline::call", format!("call of `@{}`: {message}", callee.name))
    };
    let operands = rebuild.operands(node);
    let types: Vec<TensorType> = operands.iter().map(|v| rebuild.b.ty(*v).clone()).collect();
    let expected: Vec<TensorType> = callee.inputs().map(|v| callee.ty(v).clone()).collect();
    let bound = unify(&expected, &types).map_err(|e| fail(e.to_string()))?;
    let lookup = |symbol: &Symbol| bound.get(symbol).cloned();
    let is_renamed = bound.iter().any(|(symbol, dim)| dim.as_symbol() != Some(symbol));

    let mut map: Vec<Option<ValueId>> = vec![None; callee.values.len()];
    for (input, operand) in callee.inputs().zip(&operands) {
        map[input.index()] = Some(*operand);
    }
    for param in &callee.params {
        let value = match &param.role {
            ParamRole::Input => continue,
            ParamRole::Weight(path) => paths.weights.get(&join_path(scope, path)),
            ParamRole::State(path) => paths.states.get(&join_path(scope, path)),
        };
        map[param.value.index()] = value.copied();
    }
    let at = |map: &[Option<ValueId>], value: ValueId| {
        map[value.index()].expect("definitions precede uses")
    };
    for inner in &callee.nodes {
        if !scope.is_empty() && reaches_paths(rebuild.b.module(), &inner.op) {
            let what = format!("`{}` reaches weights or state under a scope", inner.op.name());
            return Err(fail(what));
        }
        let op = match is_renamed {
            true => inner.op.map_dims(&|dim| dim.substitute(&lookup)),
            false => inner.op.clone(),
        };
        let operands: Vec<ValueId> = inner.operands.iter().map(|v| at(&map, *v)).collect();
        let types = inner.results.iter().map(|v| instantiate(callee.ty(*v), &lookup)).collect();
        rebuild.b.set_origin(inner.origin);
        let results = rebuild.b.push(op, &operands, types);
        for (old, new) in inner.results.iter().zip(results) {
            map[old.index()] = Some(new);
            if let Some(name) = &callee.value(*old).name {
                let name = join_path(scope, name).replace('.', "_");
                rebuild.b.name(new, &name);
            }
        }
    }
    for ((_, inner), outer) in callee.outputs().zip(&node.results) {
        rebuild.set(*outer, at(&map, inner));
    }
    for (path, value) in callee.state_results() {
        paths.states.insert(join_path(scope, path), at(&map, value));
    }
    Ok(())
}

/// Whether a region op calls, at any depth, a function with weights or state.
fn reaches_paths(module: &Module, op: &Op) -> bool {
    callees(op).iter().filter_map(|name| module.find(name)).any(|id| {
        let callee = module.function(id);
        callee.weights().next().is_some()
            || callee.states().next().is_some()
            || callee.nodes.iter().any(|node| reaches_paths(module, &node.op))
    })
}

fn instantiate(ty: &TensorType, lookup: &dyn Fn(&Symbol) -> Option<Expr>) -> TensorType {
    TensorType {
        dtype: ty.dtype,
        shape: ty.shape.iter().map(|dim| dim.substitute(lookup)).collect(),
    }
}
