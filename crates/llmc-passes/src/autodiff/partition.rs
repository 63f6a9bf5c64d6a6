//! Cuts a joint function into its forward and backward halves.
//!
//! The forward half returns what the backward half reads. Which values that are follows from
//! the live backward nodes and from the policy ([`super::Recompute`]): a value that is not kept is
//! computed again in the backward half, where it is first read.

use super::joint::Joint;
use super::recompute::{Decided, Needs, Policy};
use super::through_state;
use crate::dce::live_nodes;
use crate::rebuild::Rebuild;
use llmc_base::{Decision, Diagnostic};
use llmc_ir::{Function, Module, Param, ParamRole, ResultInfo, ResultRole, ValueDef, ValueId};

/// The two halves, without their names.
pub(super) struct Halves {
    /// Outputs of the function, then residuals.
    pub forward: Function,
    /// `None` if no gradient passes.
    pub backward: Option<Function>,
    /// The number of residuals.
    pub residuals: usize,
    /// Inputs of the function that the backward half takes.
    pub kept_inputs: Vec<usize>,
    /// Inputs of the function whose cotangents it returns.
    pub grad_inputs: Vec<usize>,
    /// What the backward half keeps and computes again, and why; the function is not named yet.
    pub log: Vec<Decision>,
}

/// The joint function as one, with the results of the original and the gradients.
pub(super) fn whole(module: &Module, original: &Function, joint: Joint) -> Function {
    let mut results = original_results(original, &joint);
    results.extend(joint.gradients);
    let function = &joint.function;
    let live = live_nodes(module, function, results.iter().map(|r| r.value));
    let mut rebuild =
        Rebuild::with_params(module, function, &signature(function, &results, |_| true));
    for (node, _) in function.nodes.iter().zip(live).filter(|(_, live)| *live) {
        rebuild.copy(node);
    }
    rebuild.finish_with(&results)
}

/// The halves of a called function.
///
/// Errors: `autodiff::state` if the backward half reads state that the forward half consumes.
pub(super) fn split(
    module: &Module,
    original: &Function,
    joint: Joint,
    policy: Policy,
) -> Result<Halves, Diagnostic> {
    let function = &joint.function;
    let mut gradients: Vec<ResultInfo> = joint
        .input_cotangents
        .iter()
        .map(|(index, value)| {
            let input = original.inputs().nth(*index).and_then(|v| original.value(v).name.clone());
            let name = format!("d_{}", input.unwrap_or_else(|| index.to_string()));
            ResultInfo { value: *value, role: ResultRole::Output(name) }
        })
        .collect();
    gradients.extend(joint.gradients.iter().cloned());
    let live = live_nodes(module, function, gradients.iter().map(|r| r.value));
    let backward_nodes: Vec<usize> =
        (joint.n_forward..function.nodes.len()).filter(|i| live[*i]).collect();

    let mut needs = Needs::new(function, joint.n_forward, policy);
    for index in &backward_nodes {
        function.nodes[*index].operands.iter().for_each(|v| needs.read(*v));
    }
    gradients.iter().for_each(|r| needs.read(r.value));
    let Decided { params: read, saved, log } = needs.decide();
    if let Some((path, _)) =
        original.states().find(|(_, v)| read.contains(&joint.forward[v.index()]))
    {
        return Err(through_state(original, path));
    }

    let is_cotangent = |param: usize| param >= original.params.len();
    let inputs = |wanted: bool| {
        let inputs = function.params.iter().enumerate().filter(|(_, p)| p.role == ParamRole::Input);
        inputs.filter(move |(i, _)| is_cotangent(*i) == wanted)
    };
    let kept_inputs: Vec<usize> = inputs(false)
        .enumerate()
        .filter(|(_, (_, p))| read.contains(&p.value))
        .map(|(position, _)| position)
        .collect();

    let mut results = original_results(original, &joint);
    results.extend(saved.iter().map(|value| {
        let name = function.value(*value).name.clone();
        let name = format!("saved_{}", name.unwrap_or_else(|| value.0.to_string()));
        ResultInfo { value: *value, role: ResultRole::Output(name) }
    }));
    let forward = forward_half(module, &joint, original.params.len(), &results);

    let backward = (!gradients.is_empty()).then(|| {
        let mut params: Vec<Param> = inputs(false)
            .filter(|(_, p)| read.contains(&p.value))
            .map(|(_, p)| p.clone())
            .chain(saved.iter().map(|v| Param { value: *v, role: ParamRole::Input }))
            .chain(inputs(true).map(|(_, p)| p.clone()))
            .collect();
        params.extend(signature(function, &gradients, |p| {
            p.role != ParamRole::Input && read.contains(&p.value)
        }));
        let mut rebuild = Rebuild::with_params(module, function, &params);
        for index in &backward_nodes {
            let node = &function.nodes[*index];
            node.operands.iter().for_each(|v| recompute(&mut rebuild, function, *v));
            rebuild.copy(node);
        }
        gradients.iter().for_each(|r| recompute(&mut rebuild, function, r.value));
        rebuild.finish_with(&gradients)
    });
    Ok(Halves {
        forward,
        backward,
        residuals: saved.len(),
        log,
        kept_inputs,
        grad_inputs: joint.input_cotangents.iter().map(|(index, _)| *index).collect(),
    })
}

/// The results of the original function, as values of the joint one.
fn original_results(original: &Function, joint: &Joint) -> Vec<ResultInfo> {
    let results = original.results.iter();
    results
        .map(|r| ResultInfo { value: joint.forward[r.value.index()], role: r.role.clone() })
        .collect()
}

/// The parameters to declare: inputs and weights that `wanted` accepts, then the state whose
/// successors are among the results, in the order of the results.
fn signature(
    function: &Function,
    results: &[ResultInfo],
    wanted: impl Fn(&Param) -> bool,
) -> Vec<Param> {
    let is_state = |p: &&Param| matches!(p.role, ParamRole::State(_));
    let plain = function.params.iter().filter(|p| !is_state(p) && wanted(p));
    let states = results.iter().filter_map(|r| match &r.role {
        ResultRole::State(path) => {
            let role = ParamRole::State(path.clone());
            function.params.iter().find(|p| p.role == role)
        }
        ResultRole::Output(_) => None,
    });
    plain.chain(states).cloned().collect()
}

/// The forward nodes that the results need; the signature keeps all `n_params` parameters.
fn forward_half(
    module: &Module,
    joint: &Joint,
    n_params: usize,
    results: &[ResultInfo],
) -> Function {
    let function = &joint.function;
    let live = live_nodes(module, function, results.iter().map(|r| r.value));
    let is_own = |p: &Param| p.value.index() < n_params;
    let signature = signature(function, results, is_own);
    let mut rebuild = Rebuild::with_params(module, function, &signature);
    for (node, _) in function.nodes[..joint.n_forward].iter().zip(live).filter(|(_, live)| *live) {
        rebuild.copy(node);
    }
    rebuild.finish_with(results)
}

/// Adds the nodes that define `value`, if it is neither a parameter nor there already.
fn recompute(rebuild: &mut Rebuild, function: &Function, value: ValueId) {
    if rebuild.has(value) {
        return;
    }
    if let ValueDef::Node { node, .. } = function.value(value).def {
        let node = &function.nodes[node.index()];
        node.operands.iter().for_each(|v| recompute(rebuild, function, *v));
        rebuild.copy(node);
    }
}
