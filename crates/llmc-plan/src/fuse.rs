//! Which nodes of a function run as one launch.
//!
//! Only patterns whose fused kernel rounds exactly as the nodes do: nothing here changes a bit.
//!
//! - a scalar broadcast into a multiplication: `y = x · s`;
//! - that, into an optimiser step: the step scales its gradient itself;
//! - the gradient of a norm, and the token sum of its weight rows into an accumulator.

use crate::why::Declined;
use llmc_ir::ops::BinaryKind;
use llmc_ir::{DType, Function, Op, ParamRole, ValueDef, ValueId};
use std::collections::BTreeMap;

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fusion {
    /// Another launch does its work.
    Skip,
    /// `x · scalar`.
    Scale { x: ValueId, scalar: ValueId },
    /// An optimiser step on the gradient `g`, scaled by `scalar`.
    ScaledStep { g: ValueId, scalar: ValueId },
    /// The gradient of a norm; its weight rows are summed into `acc`, which becomes `sum`.
    NormGrad { acc: ValueId, sum: ValueId },
}

/// The fusions of a function by node, and by node what could be fused and is not.
pub(crate) fn fusions(f: &Function) -> (BTreeMap<usize, Fusion>, BTreeMap<usize, Declined>) {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); f.values.len()];
    for (at, node) in f.nodes.iter().enumerate() {
        node.operands.iter().for_each(|v| users[v.index()].push(at));
    }
    // A result of the function counts as a user that no fusion covers.
    f.results.iter().for_each(|r| users[r.value.index()].push(usize::MAX));

    let (mut found, mut declined) = Default::default();
    scales(f, &users, &mut found, &mut declined);
    norm_grads(f, &users, &mut found, &mut declined);
    (found, declined)
}

/// The node that defines a value.
fn definition(f: &Function, value: ValueId) -> Option<usize> {
    match f.value(value).def {
        ValueDef::Node { node, .. } => Some(node.index()),
        ValueDef::Param(_) => None,
    }
}

/// The scalar that a value repeats, if it is a broadcast of one.
fn repeated_scalar(f: &Function, value: ValueId) -> Option<ValueId> {
    let node = &f.nodes[definition(f, value)?];
    let is_scalar = matches!(node.op, Op::Broadcast(_))
        && f.ty(node.operands[0]).shape.is_empty()
        && f.ty(value).dtype == DType::F32;
    is_scalar.then(|| node.operands[0])
}

fn scales(
    f: &Function,
    users: &[Vec<usize>],
    found: &mut BTreeMap<usize, Fusion>,
    declined: &mut BTreeMap<usize, Declined>,
) {
    for (at, node) in f.nodes.iter().enumerate() {
        let Op::Binary(binary) = &node.op else { continue };
        if binary.kind != BinaryKind::Mul || f.ty(node.results[0]).dtype != DType::F32 {
            continue;
        }
        let [a, b] = [node.operands[0], node.operands[1]];
        let (x, Some(scalar)) = (match repeated_scalar(f, b) {
            Some(scalar) => (a, Some(scalar)),
            None => (b, repeated_scalar(f, a)),
        }) else {
            continue;
        };
        found.insert(at, Fusion::Scale { x, scalar });
        // An optimiser step that is the only user takes the factor itself.
        if let [user] = users[node.results[0].index()].as_slice()
            && let Some(step) = f.nodes.get(*user)
            && matches!(step.op, Op::AdamwStep(_) | Op::SgdStep(_) | Op::LionStep(_))
            && step.operands[1] == node.results[0]
            && step.operands.iter().filter(|v| **v == node.results[0]).count() == 1
        {
            found.insert(at, Fusion::Skip);
            found.insert(*user, Fusion::ScaledStep { g: x, scalar });
        } else {
            declined.insert(at, Declined::ScaledIsRead);
        }
    }
    // A broadcast is skipped when every user takes the scalar itself.
    for (at, node) in f.nodes.iter().enumerate() {
        let Some(scalar) = node.results.first().and_then(|v| repeated_scalar(f, *v)) else {
            continue;
        };
        let takes_scalar = |user: &usize| match found.get(user) {
            Some(Fusion::Scale { scalar: s, .. }) => *s == scalar,
            Some(Fusion::Skip) => true,
            _ => false,
        };
        if users[node.results[0].index()].iter().all(takes_scalar) {
            found.insert(at, Fusion::Skip);
        } else {
            declined.insert(at, Declined::ScalarIsRead);
        }
    }
}

fn norm_grads(
    f: &Function,
    users: &[Vec<usize>],
    found: &mut BTreeMap<usize, Fusion>,
    declined: &mut BTreeMap<usize, Declined>,
) {
    let is_state = |value: ValueId| {
        f.params.iter().any(|p| p.value == value && matches!(p.role, ParamRole::State(_)))
    };
    for (at, node) in f.nodes.iter().enumerate() {
        if !matches!(node.op, Op::RmsNormBackward(_) | Op::LayerNormBackward(_)) {
            continue;
        }
        if let [user] = users[node.results[1].index()].as_slice()
            && let Some(sum) = f.nodes.get(*user)
            && matches!(sum.op, Op::BiasGrad(_))
            && let [rows, acc] = sum.operands[..]
            && rows == node.results[1]
        {
            if !is_state(acc) || f.ty(acc).dtype != DType::F32 {
                declined.insert(at, Declined::SumIsNoState);
                continue;
            }
            found.insert(at, Fusion::NormGrad { acc, sum: sum.results[0] });
            found.insert(*user, Fusion::Skip);
        } else {
            declined.insert(at, Declined::RowsAreRead);
        }
    }
}
