//! Reverse-mode differentiation, IR to IR.
//!
//! From `@loss` and the functions it calls, [`autodiff`] makes
//!
//! - `@f_forward` for every called function `f` that the gradient passes: the outputs of
//!   `f`, then the values that its backward half reads (residuals);
//! - `@f_backward`: inputs of `f` that it reads, residuals, and cotangents of the outputs →
//!   cotangents of the inputs. Weights are found by scope, as in `f`; the gradient of
//!   weight `p` is folded into the state `p.grad`;
//! - `@grad`: the inputs and results of `@loss`, and every `p.grad` as linear state.
//!
//! Both halves of a function are made once, whatever the number of calls.
//!
//! **Order.** A weight gradient is a sum over tokens: the vjp of each op folds it into the
//! accumulator it is given, in token order (`docs/numerics.md`), so a micro-batch boundary
//! leaves the bits alone. A weight used more than once in a function has one accumulator per
//! use, `p.grad.0`, `p.grad.1`, … in forward order; the caller adds them once per step. The
//! cotangent of any other value with several uses is `((last + last but one) + …) + first`, in
//! forward order of the uses.
//!
//! **Composites** without a vjp are decomposed in the backward half, which so recomputes their
//! inner values from their operands, and the decomposition is differentiated.
//!
//! Source: Griewank and Walther 2008, *Evaluating Derivatives*, chapter 3; saving and
//! recomputing: Chen et al. 2016, arXiv:1604.06174.

mod accumulators;
mod activity;
mod joint;
mod partition;
mod recompute;
mod views;

pub use accumulators::{GradAccumulator, grad_accumulators};
pub use recompute::Recompute;

use crate::dce::callees;
use activity::Activity;
use joint::{Joint, Seed};
use llmc_base::{Decision, Diagnostic};
use llmc_ir::{FuncId, Function, Module, Op, ResultRole};
use recompute::Policy;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What to differentiate, and how.
pub struct Options<'a> {
    /// The function whose result is differentiated.
    pub entry: &'a str,
    /// The result: a scalar, output or state.
    pub result: &'a str,
    /// Name of a new input of the entry, the cotangent of the result; without it that is 1.
    pub seed: Option<&'a str>,
    /// Name of the new entry function.
    pub name: &'a str,
    /// What the backward half of a called function computes again. Changes no bit.
    pub recompute: Recompute,
    /// Which weights have a gradient, by their path in the function that declares them; all without it.
    pub weights: Option<&'a dyn Fn(&str) -> bool>,
}

impl Default for Options<'_> {
    /// `@loss`, its result `loss`, by all weights, into `@grad`, with cheap recomputation.
    fn default() -> Self {
        let recompute = Recompute::default();
        Options {
            entry: "loss",
            result: "loss",
            seed: None,
            name: "grad",
            recompute,
            weights: None,
        }
    }
}

/// Adds the gradient of a scalar result with respect to all weights.
///
/// Errors: `autodiff::entry` (no such function or result, or it is no scalar),
/// `autodiff::region` (the gradient meets `if`, `while` or `scan`), `autodiff::state` (it meets
/// a call that changes state), `autodiff::shared` (two calls reach one weight), `autodiff::order`
/// (the gradient of a weight would depend on the micro-batch split),
/// `autodiff::type` (a vjp does not type-check).
pub fn autodiff(module: &Module, options: &Options) -> Result<Module, Diagnostic> {
    autodiff_explained(module, options, &mut Vec::new())
}

/// [`autodiff`], and which values every backward half keeps or computes again, and why.
///
/// Errors: as [`autodiff`].
pub fn autodiff_explained(
    module: &Module,
    options: &Options,
    log: &mut Vec<Decision>,
) -> Result<Module, Diagnostic> {
    let mut pass = Autodiff {
        module: module.clone(),
        options,
        derived: BTreeMap::new(),
        entry_calls: 0,
        policy: None,
        log: Vec::new(),
    };
    let entry = module.find(options.entry).ok_or_else(|| {
        Diagnostic::error("autodiff::entry", format!("no function `@{}`", options.entry))
    })?;
    if module.find(options.name).is_some() {
        let message = format!("there is a function `@{}` already", options.name);
        let help = "it is differentiated already, or the function needs another name";
        return Err(Diagnostic::error("autodiff::name", message).help(help));
    }
    pass.entry(entry)?;
    accumulators::check_unique(&pass.module, options.name)?;
    log.append(&mut pass.log);
    Ok(crate::checked(pass.module))
}

/// The two halves of a called function.
struct Derived {
    /// Name of the forward half.
    forward: String,
    /// Name of the backward half; `None` if no gradient passes.
    backward: Option<String>,
    /// Types of the residuals: outputs of the forward half after those of the function.
    residuals: usize,
    /// Inputs of the function that the backward half takes first, in order.
    kept_inputs: Vec<usize>,
    /// Per output: whether it depends on a weight or an active input, so that the backward
    /// half takes its cotangent.
    active_outputs: Vec<bool>,
    /// Inputs whose cotangents the backward half returns, in order.
    grad_inputs: Vec<usize>,
}

struct Autodiff<'a> {
    module: Module,
    options: &'a Options<'a>,
    /// By callee, which of its inputs are active, and the policy.
    derived: BTreeMap<(String, Vec<bool>, Policy), Rc<Derived>>,
    /// Calls of the entry so far.
    entry_calls: usize,
    /// The policy of the call that is being derived; it holds for the calls inside too.
    policy: Option<Policy>,
    /// What was decided on the way.
    log: Vec<Decision>,
}

impl Autodiff<'_> {
    /// Builds the gradient function of the entry.
    fn entry(&mut self, id: FuncId) -> Result<(), Diagnostic> {
        let function = self.module.function(id).clone();
        let target = function
            .results
            .iter()
            .find(|r| match &r.role {
                ResultRole::Output(name) | ResultRole::State(name) => name == self.options.result,
            })
            .filter(|r| function.ty(r.value).shape.is_empty())
            .ok_or_else(|| {
                Diagnostic::error(
                    "autodiff::entry",
                    format!("`@{}` has no scalar result `{}`", function.name, self.options.result),
                )
            })?;
        let inactive = vec![false; function.inputs().count()];
        let activity = self.activity(&function, &inactive)?;
        let seed = match self.options.seed {
            None => Seed::One(target.value),
            Some(input) => Seed::Input(target.value, input),
        };
        let joint = Joint::build(&self.module, &function, &activity, seed)?;
        let grad = partition::whole(&self.module, &function, joint);
        self.module.add(Function { name: self.options.name.to_string(), ..grad });
        Ok(())
    }

    /// The two halves of a called function, made at its first use with a policy.
    fn derive(&mut self, callee: &str, inputs: &[bool]) -> Result<Rc<Derived>, Diagnostic> {
        if let Some(policy) = self.policy {
            return self.derive_with(callee, inputs, policy);
        }
        let policy = self.options.recompute.of_call(self.entry_calls);
        self.entry_calls += 1;
        self.policy = Some(policy);
        let derived = self.derive_with(callee, inputs, policy);
        self.policy = None;
        derived
    }

    fn derive_with(
        &mut self,
        callee: &str,
        inputs: &[bool],
        policy: Policy,
    ) -> Result<Rc<Derived>, Diagnostic> {
        let key = (callee.to_string(), inputs.to_vec(), policy);
        if let Some(known) = self.derived.get(&key) {
            return Ok(known.clone());
        }
        let id = self.module.find(callee).ok_or_else(|| {
            Diagnostic::error("autodiff::entry", format!("no function `@{callee}`"))
        })?;
        let function = self.module.function(id).clone();
        let activity = self.activity(&function, inputs)?;
        if let Some((path, _)) = function.state_results().find(|(_, v)| activity.is_active(*v)) {
            return Err(through_state(&function, path));
        }
        let joint = Joint::build(&self.module, &function, &activity, Seed::Outputs)?;
        let halves = partition::split(&self.module, &function, joint, policy)?;
        let forward = self.free_name(&format!("{callee}_forward"));
        let backward = self.free_name(&format!("{callee}_backward"));
        let derived = Rc::new(Derived {
            forward: forward.clone(),
            backward: halves.backward.is_some().then(|| backward.clone()),
            residuals: halves.residuals,
            kept_inputs: halves.kept_inputs,
            active_outputs: function
                .outputs()
                .map(|(_, value)| activity.is_active(value))
                .collect(),
            grad_inputs: halves.grad_inputs,
        });
        if let Some(half) = halves.backward {
            let named = halves.log.into_iter();
            self.log.extend(named.map(|d| Decision { function: backward.clone(), ..d }));
            self.module.add(Function { name: forward, ..halves.forward });
            self.module.add(Function { name: backward, ..half });
        }
        self.derived.insert(key, derived.clone());
        Ok(derived)
    }

    fn activity(&mut self, function: &Function, inputs: &[bool]) -> Result<Activity, Diagnostic> {
        let has_weights: Vec<bool> = function
            .nodes
            .iter()
            .map(|node| !matches!(node.op, Op::Call(_)) && reaches_weights(&self.module, &node.op))
            .collect();
        let weights = self.options.weights;
        let is_trained = &|path: &str| weights.is_none_or(|weights| weights(path));
        let derive = &mut |name: &str, inputs: &[bool]| self.derive(name, inputs);
        Activity::of(function, inputs, is_trained, &has_weights, derive)
    }

    fn free_name(&self, name: &str) -> String {
        if self.module.find(name).is_none() {
            return name.to_string();
        }
        (2..)
            .map(|i| format!("{name}_{i}"))
            .find(|n| self.module.find(n).is_none())
            .expect("a module has finitely many functions")
    }
}

/// Whether an op calls, at any depth, a function with weights.
fn reaches_weights(module: &Module, op: &Op) -> bool {
    callees(op).iter().filter_map(|name| module.find(name)).any(|id| {
        let callee = module.function(id);
        callee.weights().next().is_some()
            || callee.nodes.iter().any(|node| reaches_weights(module, &node.op))
    })
}

fn through_state(function: &Function, path: &str) -> Diagnostic {
    Diagnostic::error(
        "autodiff::state",
        format!("`@{}` has a gradient through the state `{path}`", function.name),
    )
    .help("return the value as an output")
}

#[cfg(test)]
mod tests;
