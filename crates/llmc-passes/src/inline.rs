//! Inlining: every call becomes the nodes of its callee.
//!
//! Weights of the callee become weights of the caller under the path of the call's scope; two
//! calls with one scope share them. State runs through the calls in order. Functions that
//! were only called disappear; entries stay.

use crate::dce::callees;
use crate::rebuild::Rebuild;
use llmc_base::{Diagnostic, Expr};
use llmc_ir::module::join_path;
use llmc_ir::ops::{Bindings, unify};
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
    Ok(crate::checked(out))
}

/// The values of the caller that stand for weights, and for state at this point, by path.
#[derive(Default)]
struct Paths {
    weights: BTreeMap<String, ValueId>,
    states: BTreeMap<String, ValueId>,
}

/// A call with its callee and what the callee's symbols stand for.
struct Site<'a> {
    scope: &'a str,
    callee: &'a Function,
    bound: Bindings,
}

impl<'a> Site<'a> {
    /// The call that a node is, if it is one.
    fn of(
        function: &Function,
        node: &'a Node,
        flat: &'a BTreeMap<&str, Function>,
    ) -> Result<Option<Site<'a>>, Diagnostic> {
        let Op::Call(call) = &node.op else { return Ok(None) };
        let Some(callee) = flat.get(call.callee.as_str()) else { return Ok(None) };
        let types: Vec<TensorType> =
            node.operands.iter().map(|v| function.ty(*v).clone()).collect();
        let expected: Vec<TensorType> = callee.inputs().map(|v| callee.ty(v).clone()).collect();
        let mut site = Site { scope: &call.scope, callee, bound: Bindings::new() };
        site.bound = unify(&expected, &types).map_err(|e| site.fail(&e.to_string()))?;
        Ok(Some(site))
    }

    fn fail(&self, message: &str) -> Diagnostic {
        let message = format!("call of `@{}`: {message}", self.callee.name);
        Diagnostic::error("inline::call", message)
    }

    fn path(&self, path: &str) -> String {
        join_path(self.scope, path)
    }

    fn dim(&self, dim: &Expr) -> Expr {
        dim.substitute(&|symbol| self.bound.get(symbol).cloned())
    }

    /// The type of a value of the callee in the symbols of the caller.
    fn ty(&self, value: ValueId) -> TensorType {
        let ty = self.callee.ty(value);
        TensorType { dtype: ty.dtype, shape: ty.shape.iter().map(|d| self.dim(d)).collect() }
    }
}

fn inline_calls(
    module: &Module,
    function: &Function,
    flat: &BTreeMap<&str, Function>,
) -> Result<Function, Diagnostic> {
    let mut rebuild = Rebuild::new(module, function);
    let sites: Vec<Option<Site>> = function
        .nodes
        .iter()
        .map(|node| Site::of(function, node, flat))
        .collect::<Result<_, _>>()?;
    let mut paths = Paths::default();
    let mut own_states = BTreeSet::new();
    for (path, value) in function.weights() {
        paths.weights.insert(path.to_string(), rebuild.get(value));
    }
    for (path, value) in function.states() {
        paths.states.insert(path.to_string(), rebuild.get(value));
        own_states.insert(path.to_string());
    }
    for site in sites.iter().flatten() {
        for (path, value) in site.callee.weights() {
            let path = site.path(path);
            let declare = || rebuild.b.weight(&path.clone(), site.ty(value));
            paths.weights.entry(path.clone()).or_insert_with(declare);
        }
    }
    for site in sites.iter().flatten() {
        for (path, value) in site.callee.states() {
            let path = site.path(path);
            let declare = || rebuild.b.state(&path.clone(), site.ty(value));
            paths.states.entry(path.clone()).or_insert_with(declare);
        }
    }
    for (node, site) in function.nodes.iter().zip(&sites) {
        match site {
            None => rebuild.copy(node),
            Some(site) => splice(&mut rebuild, &mut paths, node, site)?,
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

/// Puts the nodes of the callee in the place of a call.
fn splice(
    rebuild: &mut Rebuild,
    paths: &mut Paths,
    node: &Node,
    site: &Site,
) -> Result<(), Diagnostic> {
    let callee = site.callee;
    let mut map: Vec<Option<ValueId>> = vec![None; callee.values.len()];
    for (input, operand) in callee.inputs().zip(rebuild.operands(node)) {
        map[input.index()] = Some(operand);
    }
    for param in &callee.params {
        let value = match &param.role {
            ParamRole::Input => continue,
            ParamRole::Weight(path) => paths.weights.get(&site.path(path)),
            ParamRole::State(path) => paths.states.get(&site.path(path)),
        };
        map[param.value.index()] = value.copied();
    }
    let at = |map: &[Option<ValueId>], value: ValueId| {
        map[value.index()].expect("definitions precede uses")
    };
    for inner in &callee.nodes {
        if !site.scope.is_empty() && reaches_paths(rebuild.b.module(), &inner.op) {
            let what = format!("`{}` reaches weights or state under a scope", inner.op.name());
            return Err(site.fail(&what));
        }
        let op = inner.op.map_dims(&|dim| site.dim(dim));
        let operands: Vec<ValueId> = inner.operands.iter().map(|v| at(&map, *v)).collect();
        let types = inner.results.iter().map(|v| site.ty(*v)).collect();
        rebuild.b.set_origin(inner.origin);
        let results = rebuild.b.push(op, &operands, types);
        for (old, new) in inner.results.iter().zip(results) {
            map[old.index()] = Some(new);
            if let Some(name) = &callee.value(*old).name {
                rebuild.b.name(new, &site.path(name).replace('.', "_"));
            }
        }
    }
    for ((_, inner), outer) in callee.outputs().zip(&node.results) {
        rebuild.set(*outer, at(&map, inner));
    }
    for (path, value) in callee.state_results() {
        paths.states.insert(site.path(path), at(&map, value));
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
