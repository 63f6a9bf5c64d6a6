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
    /// How many nodes use it, each as often as it is reached by calls.
    pub(crate) uses: usize,
    /// How many of these look rows up in it.
    pub(crate) lookups: usize,
}

/// What a function needs from outside, with all it calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Weights and state in the order of first use.
    pub(crate) externals: Vec<External>,
    /// Inputs, by number, that rows are looked up in.
    table_inputs: BTreeSet<usize>,
    pub(crate) conflicts: Vec<Conflict>,
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

/// Functions that a node calls, with their scopes.
pub(crate) fn functions_of<'a>(
    module: &Module,
    node: &'a Node,
) -> impl Iterator<Item = (FuncId, &'a str)> {
    let names: [Option<(&str, &str)>; 2] = match &node.op {
        Op::Call(call) => [Some((&call.callee, &call.scope)), None],
        Op::If(op) => [Some((&op.then_fn, "")), Some((&op.else_fn, ""))],
        Op::While(op) => [Some((&op.cond, "")), Some((&op.body, ""))],
        Op::Scan(op) => [Some((&op.body, "")), None],
        _ => [None, None],
    };
    names.into_iter().flatten().filter_map(|(name, scope)| Some((module.find(name)?, scope)))
}

/// What the callee's symbols stand for at a node; nothing where the types do not fit.
pub(crate) fn bindings(
    module: &Module,
    function: &Function,
    node: &Node,
    callee: FuncId,
) -> Bindings {
    let mut types: Vec<TensorType> =
        node.operands.iter().map(|v| function.ty(*v).clone()).collect();
    match &node.op {
        Op::If(_) if !types.is_empty() => drop(types.remove(0)),
        Op::Scan(op) => {
            let carried = op.split(module, &types).map_or(0, |(carried, _)| carried);
            types[carried..].iter_mut().filter(|ty| ty.rank() > 0).for_each(|ty| {
                ty.shape.remove(0);
            });
        }
        _ => {}
    }
    let callee = module.function(callee);
    let inputs: Vec<TensorType> = callee.inputs().map(|v| callee.ty(v).clone()).collect();
    unify(&inputs, &types).unwrap_or_default()
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
        known.lookups = known.lookups.saturating_add(external.lookups);
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

/// Weights and state of a function and all it calls, in the order of first use.
pub(crate) fn externals(module: &Module, entry: FuncId) -> Vec<External> {
    let mut summaries: BTreeMap<FuncId, Summary> = BTreeMap::new();
    for id in reachable(module, entry) {
        let of_callee = |_: usize, callee: FuncId| summaries.get(&callee);
        let summary = summarise(module, module.function(id), &of_callee);
        summaries.insert(id, summary);
    }
    summaries.remove(&entry).unwrap_or_default().externals
}

/// The entry and all it calls, callees first; what stands out of order is left out.
pub(crate) fn reachable(module: &Module, entry: FuncId) -> BTreeSet<FuncId> {
    let mut found = BTreeSet::from([entry]);
    for id in (0..=entry.0).rev().map(FuncId) {
        if found.contains(&id) {
            for node in &module.function(id).nodes {
                let callees = functions_of(module, node).map(|(callee, _)| callee);
                found.extend(callees.filter(|callee| *callee < id));
            }
        }
    }
    found
}

/// What one function needs. `of_callee` gives the summary of a callee (given the index of the
/// node), if it can be relied on.
pub(crate) fn summarise<'a>(
    module: &Module,
    function: &Function,
    of_callee: &dyn Fn(usize, FuncId) -> Option<&'a Summary>,
) -> Summary {
    let tables = table_operands(module, function, of_callee);
    let mut own: BTreeMap<ValueId, External> = BTreeMap::new();
    for param in &function.params {
        let (path, is_state) = match &param.role {
            ParamRole::Input => continue,
            ParamRole::Weight(path) => (path, false),
            ParamRole::State(path) => (path, true),
        };
        let ty = function.ty(param.value).clone();
        let external = External { path: path.clone(), ty, is_state, uses: 0, lookups: 0 };
        own.insert(param.value, external);
    }
    for (n, node) in function.nodes.iter().enumerate() {
        let distinct: BTreeSet<ValueId> = node.operands.iter().copied().collect();
        for value in distinct {
            if let Some(external) = own.get_mut(&value) {
                external.uses += 1;
                external.lookups += usize::from(tables.contains(&(n, value)));
            }
        }
    }
    let mut collector = Collector::default();
    for (n, node) in function.nodes.iter().enumerate() {
        for value in &node.operands {
            if let Some(external) = own.remove(value) {
                collector.add(external, None);
            }
        }
        let is_if = matches!(node.op, Op::If(_));
        let mut branch_states: BTreeSet<String> = BTreeSet::new();
        for (callee, scope) in functions_of(module, node) {
            let Some(summary) = of_callee(n, callee) else { continue };
            let bound = bindings(module, function, node, callee);
            for external in &summary.externals {
                let external = External {
                    path: join_path(scope, &external.path),
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
    for param in &function.params {
        if let Some(external) = own.remove(&param.value) {
            collector.add(external, None);
        }
    }
    let is_table = |value: ValueId| tables.iter().any(|(_, v)| *v == value);
    Summary {
        externals: collector.list,
        table_inputs: function
            .inputs()
            .enumerate()
            .filter(|(_, value)| is_table(*value))
            .map(|(i, _)| i)
            .collect(),
        conflicts: collector.conflicts,
    }
}

/// Operands (with the index of their node) that rows are looked up in: the table of `embedding`,
/// directly, through a cast, or in a callee.
fn table_operands<'a>(
    module: &Module,
    function: &Function,
    of_callee: &dyn Fn(usize, FuncId) -> Option<&'a Summary>,
) -> BTreeSet<(usize, ValueId)> {
    let mut found = BTreeSet::new();
    let mut tables: BTreeSet<ValueId> = BTreeSet::new();
    for (n, node) in function.nodes.iter().enumerate().rev() {
        let mut operands: Vec<usize> = Vec::new();
        match &node.op {
            Op::Embedding(_) => operands.push(0),
            Op::Gather(gather) if gather.axis == 0 => operands.push(0),
            Op::Cast(_) if node.results.iter().any(|r| tables.contains(r)) => operands.push(0),
            op => {
                let condition = usize::from(matches!(op, Op::If(_)));
                for (callee, _) in functions_of(module, node) {
                    let inputs = of_callee(n, callee).map(|s| &s.table_inputs);
                    operands.extend(inputs.into_iter().flatten().map(|i| i + condition));
                }
            }
        }
        for value in operands.into_iter().filter_map(|i| node.operands.get(i)) {
            found.insert((n, *value));
            tables.insert(*value);
        }
    }
    found
}
