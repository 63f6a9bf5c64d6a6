//! Weights and state of a function and everything it calls, by absolute path.

use crate::module::{FuncId, Function, Module, Node, ParamRole, ValueId, join_path};
use crate::ops::Op;
use crate::ops::{Bindings, unify};
use crate::types::TensorType;
use std::collections::{BTreeMap, BTreeSet};

/// More than this are refused: calls of calls could name exponentially many.
pub(crate) const MAX_EXTERNALS: usize = 1 << 20;

/// A weight or state, by its path relative to the function that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct External {
    pub(crate) path: String,
    pub(crate) ty: TensorType,
    pub(crate) is_state: bool,
    /// How many times a node uses it: nodes with the parameter as operand, summed over all calls.
    pub(crate) uses: usize,
}

/// What does not go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// One weight with two types.
    Types { path: String, node: Option<usize>, first: TensorType, second: TensorType },
    /// Weight and state of one path.
    Kinds { path: String, node: Option<usize> },
    /// State that two nodes reach.
    StateTwice { path: String, node: Option<usize> },
    /// More than [`MAX_EXTERNALS`].
    TooMany,
}

/// Functions that a node calls, with their scopes and operand types.
pub(crate) fn called(
    module: &Module,
    function: &Function,
    node: &Node,
) -> Vec<(FuncId, String, Vec<TensorType>)> {
    let types =
        || -> Vec<TensorType> { node.operands.iter().map(|v| function.ty(*v).clone()).collect() };
    let found = |name: &str, scope: &str, types: Vec<TensorType>| {
        module.find(name).map(|id| (id, scope.to_string(), types))
    };
    let list = match &node.op {
        Op::Call(call) => vec![found(&call.callee, &call.scope, types())],
        Op::If(op) => {
            let types = types().split_off(1.min(node.operands.len()));
            vec![found(&op.then_fn, "", types.clone()), found(&op.else_fn, "", types)]
        }
        Op::While(op) => vec![found(&op.cond, "", types()), found(&op.body, "", types())],
        Op::Scan(op) => {
            let mut types = types();
            let carried = op.split(module, &types).map_or(0, |(carried, _)| carried);
            for ty in &mut types[carried..] {
                if ty.rank() > 0 {
                    ty.shape.remove(0);
                }
            }
            vec![found(&op.body, "", types)]
        }
        _ => Vec::new(),
    };
    list.into_iter().flatten().collect()
}

/// What the callee's symbols stand for at a call; nothing where the types do not fit.
pub(crate) fn bindings(callee: &Function, operands: &[TensorType]) -> Bindings {
    let inputs: Vec<TensorType> = callee.inputs().map(|v| callee.ty(v).clone()).collect();
    unify(&inputs, operands).unwrap_or_default()
}

/// A type of the callee in the caller's symbols.
pub(crate) fn instantiate(ty: &TensorType, bindings: &Bindings) -> TensorType {
    TensorType {
        dtype: ty.dtype,
        shape: ty.shape.iter().map(|d| d.substitute(&|s| bindings.get(s).cloned())).collect(),
    }
}

/// Collects by path, in the order of first use.
#[derive(Default)]
struct Collector {
    list: Vec<External>,
    by_path: BTreeMap<String, usize>,
    conflicts: Vec<Conflict>,
}

impl Collector {
    fn add(&mut self, external: External, node: Option<usize>) {
        if self.list.len() >= MAX_EXTERNALS {
            if self.conflicts.last() != Some(&Conflict::TooMany) {
                self.conflicts.push(Conflict::TooMany);
            }
            return;
        }
        let Some(at) = self.by_path.get(&external.path) else {
            self.by_path.insert(external.path.clone(), self.list.len());
            self.list.push(external);
            return;
        };
        let known = &mut self.list[*at];
        known.uses = known.uses.saturating_add(external.uses);
        let path = external.path;
        if known.is_state != external.is_state {
            self.conflicts.push(Conflict::Kinds { path, node });
        } else if known.is_state {
            self.conflicts.push(Conflict::StateTwice { path, node });
        } else if known.ty != external.ty {
            let (first, second) = (known.ty.clone(), external.ty);
            self.conflicts.push(Conflict::Types { path, node, first, second });
        }
    }
}

/// Weights and state of a function in the order of first use, those of callees under their
/// scopes. `of_callee` gives the callee's own list (given the index of the node).
pub(crate) fn own_and_called<'a>(
    module: &Module,
    function: &Function,
    of_callee: &dyn Fn(usize, FuncId) -> Option<&'a [External]>,
) -> (Vec<External>, Vec<Conflict>) {
    let mut collector = Collector::default();
    let own: BTreeMap<ValueId, (&str, bool)> = function
        .params
        .iter()
        .filter_map(|p| match &p.role {
            ParamRole::Input => None,
            ParamRole::Weight(path) => Some((p.value, (path.as_str(), false))),
            ParamRole::State(path) => Some((p.value, (path.as_str(), true))),
        })
        .collect();
    let mut n_uses: BTreeMap<ValueId, usize> = BTreeMap::new();
    for node in &function.nodes {
        let distinct: BTreeSet<ValueId> = node.operands.iter().copied().collect();
        distinct.iter().for_each(|v| *n_uses.entry(*v).or_default() += 1);
    }
    let mut is_added = BTreeSet::new();
    let mut add_own = |collector: &mut Collector, value: ValueId| {
        if let Some((path, is_state)) = own.get(&value)
            && is_added.insert(value)
        {
            let external = External {
                path: path.to_string(),
                ty: function.ty(value).clone(),
                is_state: *is_state,
                uses: n_uses.get(&value).copied().unwrap_or(0),
            };
            collector.add(external, None);
        }
    };
    for (n, node) in function.nodes.iter().enumerate() {
        node.operands.iter().for_each(|value| add_own(&mut collector, *value));
        let is_if = matches!(node.op, Op::If(_));
        let mut branch_states: BTreeSet<String> = BTreeSet::new();
        for (callee, scope, types) in called(module, function, node) {
            let Some(list) = of_callee(n, callee) else { continue };
            let bound = bindings(module.function(callee), &types);
            for external in list {
                let external = External {
                    path: join_path(&scope, &external.path),
                    ty: instantiate(&external.ty, &bound),
                    ..external.clone()
                };
                // Only one branch runs, so both may use the same state.
                let is_new = !external.is_state || branch_states.insert(external.path.clone());
                if is_new || !is_if {
                    collector.add(external, Some(n));
                }
            }
        }
    }
    function.params.iter().for_each(|p| add_own(&mut collector, p.value));
    (collector.list, collector.conflicts)
}
