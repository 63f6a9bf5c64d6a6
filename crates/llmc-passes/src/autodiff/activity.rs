//! Which values depend on a weight: only they have cotangents.

use super::Derived;
use llmc_base::Diagnostic;
use llmc_ir::{Class, Function, Op, ParamRole, ValueId};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Makes the halves of a callee for its active inputs.
pub(super) type Derive<'a> = dyn FnMut(&str, &[bool]) -> Result<Rc<Derived>, Diagnostic> + 'a;

/// What [`Activity::of`] finds out about a function.
pub(super) struct Activity {
    values: Vec<bool>,
    /// The halves of the callee, for each call node that the gradient passes.
    pub calls: BTreeMap<usize, Rc<Derived>>,
}

impl Activity {
    /// Walks a function; `inputs` says which inputs are active, `is_trained` which weights, `has_weights`
    /// which nodes are regions over functions with weights, `derive` makes the halves of a callee.
    ///
    /// Errors: `autodiff::region` for an active `if`, `while` or `scan`, and those of `derive`.
    pub fn of(
        function: &Function,
        inputs: &[bool],
        is_trained: &dyn Fn(&str) -> bool,
        has_weights: &[bool],
        derive: &mut Derive,
    ) -> Result<Activity, Diagnostic> {
        let mut activity =
            Activity { values: vec![false; function.values.len()], calls: BTreeMap::new() };
        let mut inputs = inputs.iter();
        for param in &function.params {
            let is_active = match &param.role {
                ParamRole::Input => *inputs.next().unwrap_or(&false),
                ParamRole::Weight(path) => is_trained(path),
                ParamRole::State(_) => false,
            };
            activity.values[param.value.index()] =
                is_active && function.ty(param.value).dtype.is_float();
        }
        for (index, node) in function.nodes.iter().enumerate() {
            let operands: Vec<bool> =
                node.operands.iter().map(|v| activity.values[v.index()]).collect();
            let any = operands.iter().any(|active| *active);
            match &node.op {
                Op::Call(call) => {
                    let derived = derive(&call.callee, &operands)?;
                    for (value, active) in node.results.iter().zip(&derived.active_outputs) {
                        activity.values[value.index()] = *active;
                    }
                    if derived.backward.is_some() {
                        activity.calls.insert(index, derived);
                    }
                }
                op if op.class() == Class::Region && (any || has_weights[index]) => {
                    return Err(Diagnostic::error(
                        "autodiff::region",
                        format!(
                            "`@{}` has a gradient through `{}`, which cannot be differentiated",
                            function.name,
                            op.name()
                        ),
                    )
                    .help("unroll it into calls"));
                }
                _ => {
                    for value in &node.results {
                        activity.values[value.index()] =
                            any && function.ty(*value).dtype.is_float();
                    }
                }
            }
        }
        Ok(activity)
    }

    /// Whether a value of the function depends on a weight or an active input.
    pub fn is_active(&self, value: ValueId) -> bool {
        self.values[value.index()]
    }
}
