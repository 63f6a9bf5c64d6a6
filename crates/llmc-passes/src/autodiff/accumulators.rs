//! The gradient accumulators of an entry function: what the trainer allocates and adds up.

use crate::dce::callees;
use llmc_base::Diagnostic;
use llmc_ir::module::join_path;
use llmc_ir::{Module, Op, TensorType};

/// One accumulator: the gradient of a weight by one of its uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GradAccumulator {
    /// Absolute path of the weight.
    pub weight: String,
    /// Absolute path of the state: `<weight>.grad`, or `<weight>.grad.<use>`.
    pub state: String,
    /// Type of weight and state.
    pub ty: TensorType,
}

/// The accumulators that `entry` folds into, by weight path and use.
///
/// The gradient of a weight is the sum of its accumulators in this order, taken once per
/// step. An unknown entry has none.
pub fn grad_accumulators(module: &Module, entry: &str) -> Vec<GradAccumulator> {
    let mut found = Vec::new();
    collect(module, entry, "", &mut found);
    found.sort_by(|a, b| {
        (&a.weight, a.state.len(), &a.state).cmp(&(&b.weight, b.state.len(), &b.state))
    });
    found
}

fn collect(module: &Module, name: &str, scope: &str, found: &mut Vec<GradAccumulator>) {
    let Some(id) = module.find(name) else { return };
    let function = module.function(id);
    for (path, value) in function.states() {
        if let Some(weight) = weight_of(path) {
            found.push(GradAccumulator {
                weight: join_path(scope, weight),
                state: join_path(scope, path),
                ty: function.ty(value).clone(),
            });
        }
    }
    for node in &function.nodes {
        let inner = match &node.op {
            Op::Call(call) => join_path(scope, &call.scope),
            _ => scope.to_string(),
        };
        for callee in callees(&node.op) {
            collect(module, callee, &inner, found);
        }
    }
}

/// `a.b` of `a.b.grad` and `a.b.grad.1`.
fn weight_of(state: &str) -> Option<&str> {
    if let Some(weight) = state.strip_suffix(".grad") {
        return Some(weight);
    }
    let (weight, index) = state.rsplit_once(".grad.")?;
    index.bytes().all(|b| b.is_ascii_digit()).then_some(weight)
}

/// Refuses a gradient in which two places fold into one accumulator, because their order
/// would depend on the micro-batch split.
///
/// Errors: `autodiff::shared`.
pub(super) fn check_unique(module: &Module, entry: &str) -> Result<(), Diagnostic> {
    let found = grad_accumulators(module, entry);
    match found.windows(2).find(|pair| pair[0].state == pair[1].state) {
        None => Ok(()),
        Some(pair) => Err(Diagnostic::error(
            "autodiff::shared",
            format!("weight `{}` is reached by two calls", pair[0].weight),
        )
        .help("pass the weight as an input, or use it in one function only")),
    }
}
