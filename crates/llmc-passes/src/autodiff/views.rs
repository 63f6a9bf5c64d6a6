//! Views of weights: values whose gradient is the gradient of a weight under another shape.
//!
//! The gradient of `reshape(w)`, `transpose(w)`, `cast(w)`, `w + c` or `w − c` is that of `w`,
//! rearranged. So the accumulator of `w` is rearranged alike, the use of the view folds into
//! it in token order, and the result is rearranged back: every bit is as if `w` itself were used.

use llmc_ir::ops::BinaryKind;
use llmc_ir::{FunctionBuilder, Node, Op, TypeError, ValueId};
use std::collections::BTreeMap;

/// One step from a weight to a view.
#[derive(Clone, Debug)]
enum Step {
    Reshape { from: Vec<llmc_base::Expr>, to: Vec<llmc_base::Expr> },
    Transpose { perm: Vec<usize> },
}

/// A view of a weight.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The weight.
    pub weight: ValueId,
    steps: Vec<Step>,
}

/// The views among the values of a function.
#[derive(Default)]
pub(super) struct Views {
    by_value: BTreeMap<ValueId, View>,
}

impl Views {
    /// Declares a weight: the trivial view of itself.
    pub fn weight(&mut self, value: ValueId) {
        self.by_value.insert(value, View { weight: value, steps: Vec::new() });
    }

    /// Records the result of a node, if it is a view. `is_active` tells values with a gradient.
    pub fn visit(&mut self, b: &FunctionBuilder, node: &Node, is_active: impl Fn(ValueId) -> bool) {
        let active: Vec<ValueId> =
            node.operands.iter().copied().filter(|v| is_active(*v)).collect();
        let (&[operand], &[result]) = (active.as_slice(), node.results.as_slice()) else { return };
        let Some(mut view) = self.by_value.get(&operand).cloned() else { return };
        match &node.op {
            Op::Reshape(op) => view
                .steps
                .push(Step::Reshape { from: b.ty(operand).shape.clone(), to: op.dims.clone() }),
            Op::Transpose(op) => view.steps.push(Step::Transpose { perm: op.perm.clone() }),
            Op::Cast(op) if op.dtype.is_float() => {}
            Op::Binary(op) if op.kind == BinaryKind::Add => {}
            Op::Binary(op) if op.kind == BinaryKind::Sub && node.operands[0] == operand => {}
            _ => return,
        }
        self.by_value.insert(result, view);
    }

    /// The view that a value is.
    pub fn get(&self, value: ValueId) -> Option<&View> {
        self.by_value.get(&value)
    }

    /// Whether a node only makes a view, so that its gradient is taken at the uses of the view.
    pub fn is_made_by(&self, node: &Node) -> bool {
        node.results.iter().any(|v| self.by_value.contains_key(v))
    }
}

impl View {
    /// An accumulator of the weight, arranged like the view.
    pub fn forward(&self, b: &mut FunctionBuilder, acc: ValueId) -> Result<ValueId, TypeError> {
        self.steps.iter().try_fold(acc, |acc, step| match step {
            Step::Reshape { to, .. } => b.reshape(acc, to.clone()),
            Step::Transpose { perm } => b.transpose(acc, perm),
        })
    }

    /// An accumulator of the view, arranged like the weight.
    pub fn back(&self, b: &mut FunctionBuilder, acc: ValueId) -> Result<ValueId, TypeError> {
        self.steps.iter().rev().try_fold(acc, |acc, step| match step {
            Step::Reshape { from, .. } => b.reshape(acc, from.clone()),
            Step::Transpose { perm } => {
                let mut inverse = vec![0; perm.len()];
                for (to, from) in perm.iter().enumerate() {
                    inverse[*from] = to;
                }
                b.transpose(acc, &inverse)
            }
        })
    }
}
