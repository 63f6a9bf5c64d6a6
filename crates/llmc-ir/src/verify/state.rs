//! State is linear: what comes in goes out once, and the old value is not used when the new one
//! exists, so that an executor may update it in place.

use super::{At, Check, Site, Verifier};
use crate::module::{NodeId, ParamRole, ResultRole, ValueDef};

/// Checks the state of one function on its own.
pub(super) fn function(v: &mut Verifier, at: &At) {
    let f = at.function;
    for (i, param) in f.params.iter().enumerate() {
        let ParamRole::State(path) = &param.role else { continue };
        let site = Site::Param(at.id, i);
        let mut successors = f.state_results().filter(|(p, _)| p == path).map(|(_, value)| value);
        let (Some(successor), None) = (successors.next(), successors.next()) else {
            let n = f.state_results().filter(|(p, _)| p == path).count();
            let message = format!("state `{path}` has {n} results, expected one");
            v.report(Check::StateResult, site, message);
            continue;
        };
        if f.ty(successor) != f.ty(param.value) {
            let message = format!(
                "state `{path}` has type {}, its successor {}",
                f.ty(param.value),
                f.ty(successor)
            );
            v.report(Check::StateResult, site, message);
            continue;
        }
        if successor == param.value {
            continue;
        }
        // Nodes up to this one may use the old value.
        let last = match f.value(successor).def {
            ValueDef::Param(_) => None,
            ValueDef::Node { node, .. } => Some(node.index()),
        };
        for (n, node) in f.nodes.iter().enumerate() {
            if node.operands.contains(&param.value) && last.is_none_or(|last| n > last) {
                let message = format!("state `{path}` is used after its successor is defined");
                v.report(Check::StateUse, Site::Node(at.id, NodeId(n as u32)), message);
            }
        }
        for (n, result) in f.results.iter().enumerate() {
            if result.value == param.value {
                let message = format!("state `{path}` is returned beside its successor");
                v.report(Check::StateUse, Site::Result(at.id, n), message);
            }
        }
    }
    for (i, result) in f.results.iter().enumerate() {
        let ResultRole::State(path) = &result.role else { continue };
        if f.states().all(|(p, _)| p != path) {
            let message = format!("`{path}` is returned as state, but is no state parameter");
            v.report(Check::StateResult, Site::Result(at.id, i), message);
        }
    }
}
