//! The joint function: the forward nodes, then the backward nodes that follow from them.
//!
//! Every vjp finds the operands and results of its node in one function, whatever will be
//! saved or recomputed later. The entry keeps this form; a called function is split by
//! [`super::partition`].

use super::Derived;
use super::activity::Activity;
use super::views::Views;
use crate::rebuild::Rebuild;
use crate::type_error;
use llmc_base::Diagnostic;
use llmc_ir::ops::{BinaryKind, Call, compute_dtype};
use llmc_ir::{
    Class, Function, FunctionBuilder, Module, Node, Op, ParamRole, ResultInfo, ResultRole,
    TensorType, TypeError, ValueDef, ValueId, VjpInput,
};
use std::collections::{BTreeMap, BTreeSet};

/// Where the cotangents start.
#[derive(Clone, Copy)]
pub(super) enum Seed<'a> {
    /// This value has cotangent 1.
    One(ValueId),
    /// The cotangent of this value is a new input of this name.
    Input(ValueId, &'a str),
    /// Every active output has a cotangent, a new input `d_<output>`.
    Outputs,
}

/// Forward and backward nodes in one function, its results not set yet. State parameters
/// that are not in `gradients` and have no successor are to be left out.
pub(super) struct Joint {
    /// The nodes.
    pub function: Function,
    /// The number of forward nodes; they stand first.
    pub n_forward: usize,
    /// For each value of the original function, the value here.
    pub forward: Vec<ValueId>,
    /// Cotangents of the active inputs that have one, as (index of the input, value).
    pub input_cotangents: Vec<(usize, ValueId)>,
    /// The successors of the accumulators.
    pub gradients: Vec<ResultInfo>,
}

/// Why a function has no gradient.
enum Failure {
    Type(TypeError),
    /// The gradient of a weight by this op is not folded in token order.
    Order {
        weight: String,
        op: &'static str,
    },
}

impl From<TypeError> for Failure {
    fn from(error: TypeError) -> Self {
        Failure::Type(error)
    }
}

impl Failure {
    fn diagnostic(self, function: &str) -> Diagnostic {
        match self {
            Failure::Type(error) => type_error("autodiff", function, &error),
            Failure::Order { weight, op } => Diagnostic::error(
                "autodiff::order",
                format!(
                    "in `@{function}`, the gradient of weight `{weight}` through `{op}` cannot be \
                     folded in token order, so it would depend on the micro-batch split"
                ),
            )
            .help("use the weight in an op that sums over tokens, or give a composite a vjp"),
        }
    }
}

/// One use of a weight: its accumulator before and after.
struct Use {
    weight: ValueId,
    before: ValueId,
    after: ValueId,
}

struct Reverse<'m> {
    b: FunctionBuilder<'m>,
    active: Vec<bool>,
    views: Views,
    cotangents: BTreeMap<ValueId, ValueId>,
    /// In reverse order of use.
    uses: Vec<Use>,
    n_accumulators: usize,
}

impl Joint {
    /// Builds the joint function. Callees in `activity.calls` have their halves in `module`.
    pub fn build(
        module: &Module,
        function: &Function,
        activity: &Activity,
        seed: Seed<'_>,
    ) -> Result<Joint, Diagnostic> {
        let fail = |failure: Failure| failure.diagnostic(&function.name);
        let mut rebuild = Rebuild::new(module, function);
        let mut halves: BTreeMap<usize, (&Derived, String)> = BTreeMap::new();
        for (index, node) in function.nodes.iter().enumerate() {
            match (&node.op, activity.calls.get(&index)) {
                (Op::Call(call), Some(derived)) => {
                    forward_call(&mut rebuild, node, call, derived).map_err(|e| fail(e.into()))?;
                    halves.insert(index, (&**derived, call.scope.clone()));
                }
                _ => rebuild.copy(node),
            }
        }
        let forward: Vec<ValueId> =
            (0..function.values.len() as u32).map(|v| rebuild.get(ValueId(v))).collect();
        let b = rebuild.b;
        let n_forward = b.function().nodes.len();
        let mut active = vec![false; b.function().values.len()];
        for (old, new) in forward.iter().enumerate() {
            active[new.index()] |= activity.is_active(ValueId(old as u32));
        }
        let mut reverse = Reverse {
            b,
            active,
            views: Views::default(),
            cotangents: BTreeMap::new(),
            uses: Vec::new(),
            n_accumulators: 0,
        };
        reverse.find_views(n_forward);
        match seed {
            Seed::One(value) => reverse.seed_one(forward[value.index()]).map_err(fail)?,
            Seed::Input(value, name) => {
                let value = forward[value.index()];
                let ty = reverse.b.ty(value).clone();
                let cotangent = reverse.b.input(name, ty);
                reverse.add(value, cotangent, "result").map_err(fail)?;
            }
            Seed::Outputs => {
                for (name, value) in function.outputs() {
                    if activity.is_active(value) {
                        let ty = function.ty(value).clone();
                        let cotangent = reverse.b.input(&format!("d_{name}"), ty);
                        let value = forward[value.index()];
                        reverse.add(value, cotangent, "output").map_err(fail)?;
                    }
                }
            }
        }
        for index in (0..n_forward).rev() {
            let node = reverse.b.function().nodes[index].clone();
            match halves.get(&index) {
                Some((derived, scope)) => reverse.backward_call(&node, derived, scope),
                None => reverse.node(&node),
            }
            .map_err(fail)?;
        }
        let input_cotangents = function
            .inputs()
            .enumerate()
            .filter_map(|(i, input)| {
                let cotangent = reverse.cotangents.get(&forward[input.index()])?;
                activity.is_active(input).then_some((i, *cotangent))
            })
            .collect();
        let (function, gradients) = name_accumulators(reverse.b.finish(), reverse.uses);
        Ok(Joint { function, n_forward, forward, input_cotangents, gradients })
    }
}

/// Replaces a call by a call of the forward half; its residuals are results without a name.
fn forward_call(
    rebuild: &mut Rebuild,
    node: &Node,
    call: &Call,
    derived: &Derived,
) -> Result<(), TypeError> {
    let operands = rebuild.operands(node);
    rebuild.b.set_origin(node.origin);
    let op = Call { callee: derived.forward.clone(), scope: call.scope.clone() };
    let results = rebuild.b.op(op, &operands)?;
    for (old, new) in node.results.iter().zip(results) {
        rebuild.set(*old, new);
    }
    Ok(())
}

impl Reverse<'_> {
    fn seed_one(&mut self, value: ValueId) -> Result<(), Failure> {
        let ty = self.b.ty(value).clone();
        let one = self.b.constant(&ty, 1.0)?;
        self.add(value, one, "result")
    }

    /// Adds a contribution to the cotangent of a value, which is no view of a weight.
    fn add(
        &mut self,
        value: ValueId,
        contribution: ValueId,
        op: &'static str,
    ) -> Result<(), Failure> {
        if let Some(view) = self.views.get(value) {
            return Err(Failure::Order { weight: self.path(view.weight), op });
        }
        let sum = match self.cotangents.get(&value) {
            None => contribution,
            Some(sum) => self.b.add(*sum, contribution)?,
        };
        self.cotangents.insert(value, sum);
        Ok(())
    }

    fn is_active(&self, value: ValueId) -> bool {
        self.active.get(value.index()).copied().unwrap_or(false)
    }

    fn find_views(&mut self, n_forward: usize) {
        let weights: Vec<ValueId> = self.b.function().weights().map(|(_, value)| value).collect();
        for weight in weights {
            if self.is_active(weight) {
                self.views.weight(weight);
            }
        }
        for index in 0..n_forward {
            self.find_view(index);
        }
    }

    fn find_view(&mut self, node: usize) {
        let active = &self.active;
        let is_active = |v: ValueId| active.get(v.index()).copied().unwrap_or(false);
        self.views.visit(&self.b, &self.b.function().nodes[node], is_active);
    }

    /// The relative path of a weight.
    fn path(&self, weight: ValueId) -> String {
        let found = self.b.function().weights().find(|(_, value)| *value == weight);
        found.map(|(path, _)| path.to_string()).unwrap_or_default()
    }

    /// The backward nodes of one node.
    fn node(&mut self, node: &Node) -> Result<(), Failure> {
        let cotangents: Vec<Option<ValueId>> = node
            .results
            .iter()
            .map(|v| self.cotangents.get(v).copied().filter(|_| self.is_active(*v)))
            .collect();
        let needed: Vec<bool> = node.operands.iter().map(|v| self.is_active(*v)).collect();
        let is_dead = cotangents.iter().all(Option::is_none) || !needed.contains(&true);
        if is_dead || self.views.is_made_by(node) {
            return Ok(());
        }
        self.b.set_origin(node.origin);
        // The accumulator of each weight operand as declared, and arranged like the operand.
        let mut states = vec![None; node.operands.len()];
        let mut accumulators = vec![None; node.operands.len()];
        for (index, operand) in node.operands.iter().enumerate() {
            if let Some(view) = self.views.get(*operand).cloned() {
                let ty = accumulator_type(self.b.ty(view.weight));
                // A provisional path, replaced by `name_accumulators`.
                let path = format!("{}.grad.use{}", self.path(view.weight), self.n_accumulators);
                self.n_accumulators += 1;
                let state = self.b.state(&path, ty);
                accumulators[index] = Some(view.forward(&mut self.b, state)?);
                states[index] = Some(state);
            }
        }
        let input = VjpInput {
            operands: &node.operands,
            results: &node.results,
            cotangents: &cotangents,
            needed: &needed,
            accumulators: &accumulators,
        };
        let Some(contributions) = node.op.vjp(&mut self.b, &input)? else {
            return match node.op.class() {
                Class::Composite => self.decomposed(node, &cotangents),
                // A primitive without a vjp has a zero gradient.
                _ => Ok(()),
            };
        };
        for (index, contribution) in contributions.into_iter().enumerate().rev() {
            let (Some(value), operand) = (contribution, node.operands[index]) else { continue };
            match (states[index], accumulators[index]) {
                (Some(before), Some(accumulator)) => {
                    self.check_order(node, operand, accumulator, value)?;
                    let Some(view) = self.views.get(operand).cloned() else { continue };
                    let after = view.back(&mut self.b, value)?;
                    self.uses.push(Use { weight: view.weight, before, after });
                }
                _ if self.is_active(operand) => self.add(operand, value, node.op.name())?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses a gradient that is summed first and then added to the accumulator: it would
    /// depend on where micro-batches end.
    fn check_order(
        &self,
        node: &Node,
        operand: ValueId,
        accumulator: ValueId,
        after: ValueId,
    ) -> Result<(), Failure> {
        let function = self.b.function();
        let ValueDef::Node { node: last, .. } = function.value(after).def else { return Ok(()) };
        let last = &function.nodes[last.index()];
        let is_plain_sum = matches!(&last.op, Op::Binary(op) if op.kind == BinaryKind::Add)
            && last.operands.contains(&accumulator);
        match self.views.get(operand) {
            Some(view) if is_plain_sum => {
                Err(Failure::Order { weight: self.path(view.weight), op: node.op.name() })
            }
            _ => Ok(()),
        }
    }

    /// The backward nodes of a composite by its decomposition, computed here once more.
    fn decomposed(&mut self, node: &Node, cotangents: &[Option<ValueId>]) -> Result<(), Failure> {
        let start = self.b.function().nodes.len();
        let results = node.op.decompose(&mut self.b, &node.operands)?;
        let nodes = self.b.function().nodes[start..].to_vec();
        for inner in &nodes {
            let any = inner.operands.iter().any(|v| self.is_active(*v));
            self.active.resize(self.b.function().values.len(), false);
            for value in &inner.results {
                self.active[value.index()] = any && self.b.ty(*value).dtype.is_float();
            }
        }
        (start..start + nodes.len()).for_each(|index| self.find_view(index));
        for (result, cotangent) in results.iter().zip(cotangents) {
            if let Some(cotangent) = cotangent {
                self.add(*result, *cotangent, node.op.name())?;
            }
        }
        nodes.iter().rev().try_for_each(|inner| self.node(inner))
    }

    /// A call of the backward half.
    fn backward_call(
        &mut self,
        node: &Node,
        derived: &Derived,
        scope: &str,
    ) -> Result<(), Failure> {
        let n_outputs = derived.active_outputs.len();
        let outputs = &node.results[..n_outputs];
        if !outputs.iter().any(|v| self.cotangents.contains_key(v)) {
            return Ok(());
        }
        let Some(backward) = &derived.backward else { return Ok(()) };
        self.b.set_origin(node.origin);
        let mut operands: Vec<ValueId> =
            derived.kept_inputs.iter().map(|i| node.operands[*i]).collect();
        operands.extend(&node.results[n_outputs..n_outputs + derived.residuals]);
        for (output, active) in outputs.iter().zip(&derived.active_outputs) {
            if !active {
                continue;
            }
            operands.push(match self.cotangents.get(output) {
                Some(cotangent) => *cotangent,
                None => self.b.constant_like(*output, 0.0)?,
            });
        }
        let call = Call { callee: backward.clone(), scope: scope.to_string() };
        let contributions = self.b.op(call, &operands)?;
        let pairs = derived.grad_inputs.iter().zip(contributions);
        for (input, contribution) in pairs.rev() {
            self.add(node.operands[*input], contribution, node.op.name())?;
        }
        Ok(())
    }
}

/// The type of the accumulator of a weight: the dtype that the gradient is computed in.
fn accumulator_type(weight: &TensorType) -> TensorType {
    weight.with_dtype(compute_dtype(weight.dtype))
}

/// Gives the accumulators their final paths and names, and returns their successors.
fn name_accumulators(mut function: Function, mut uses: Vec<Use>) -> (Function, Vec<ResultInfo>) {
    uses.reverse();
    let states: BTreeSet<ValueId> = function.states().map(|(_, value)| value).collect();
    let mut taken: BTreeSet<String> = (0..function.values.len() as u32)
        .filter(|v| !states.contains(&ValueId(*v)))
        .filter_map(|v| function.values[v as usize].name.clone())
        .collect();
    let mut gradients = Vec::new();
    let weights: Vec<(String, ValueId)> =
        function.weights().map(|(path, value)| (path.to_string(), value)).collect();
    for (path, weight) in weights {
        let of_weight: Vec<&Use> = uses.iter().filter(|u| u.weight == weight).collect();
        for (index, used) in of_weight.iter().enumerate() {
            let state = match of_weight.len() {
                1 => format!("{path}.grad"),
                _ => format!("{path}.grad.{index}"),
            };
            if let ValueDef::Param(param) = function.value(used.before).def {
                function.params[param].role = ParamRole::State(state.clone());
            }
            let name = state.replace('.', "_");
            let is_free = taken.insert(name.clone());
            function.values[used.before.index()].name = is_free.then_some(name);
            gradients.push(ResultInfo { value: used.after, role: ResultRole::State(state) });
        }
    }
    (function, gradients)
}
