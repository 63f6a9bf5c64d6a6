//! Calls: callees exist and stand before their callers; weights and state keep one meaning per
//! absolute path.

use super::{At, Check, Site, Verifier};
use crate::account::external::{Conflict, Summary, summarise};
use crate::attr::Attr;
use crate::module::{FuncId, NodeId};
use crate::ops::Op;
use std::collections::BTreeSet;

/// Nodes whose functions cannot be relied on.
#[derive(Default)]
pub(super) struct Calls {
    unsound: BTreeSet<(FuncId, usize)>,
}

impl Calls {
    /// Whether the functions that this node names exist, are sound and stand before it.
    pub(super) fn is_sound(&self, function: FuncId, node: usize) -> bool {
        !self.unsound.contains(&(function, node))
    }
}

/// Checks what nodes name, and the rules that regions and composites add.
pub(super) fn callees(v: &mut Verifier, is_sound: &[bool]) -> Calls {
    let module = v.module;
    let mut calls = Calls::default();
    for (i, function) in module.functions.iter().enumerate() {
        let id = FuncId(i as u32);
        let has_parameters =
            function.weights().next().is_some() || function.states().next().is_some();
        if function.is_composite && has_parameters {
            let message = "a composite takes all it uses as inputs; it has no weights or state";
            v.report(Check::Region, Site::Function(id), message);
        }
        for (n, node) in function.nodes.iter().enumerate() {
            let site = Site::Node(id, NodeId(n as u32));
            for (_, attr) in node.op.attrs() {
                let Attr::Function(name) = attr else { continue };
                let problem = match module.find(&name) {
                    None => format!("no function is named `@{name}`"),
                    Some(callee) if callee.index() >= i => {
                        format!("function `@{name}` does not stand before its caller")
                    }
                    Some(callee) if is_sound[callee.index()] => continue,
                    Some(_) => String::new(),
                };
                calls.unsound.insert((id, n));
                if !problem.is_empty() {
                    v.report(Check::Callee, site.clone(), problem);
                }
            }
            if let Op::While(op) = &node.op
                && let Some(cond) = module.find(&op.cond).map(|c| module.function(c))
                && cond.states().next().is_some()
            {
                let message = format!("the condition `@{}` of a `while` has state", cond.name);
                v.report(Check::Region, site, message);
            }
        }
    }
    calls
}

/// Weights and state of each function checked so far, with those of its callees.
#[derive(Default)]
pub(super) struct Externals {
    of: Vec<Option<Summary>>,
}

impl Externals {
    /// Checks one function; its callees have been checked.
    pub(super) fn function(&mut self, v: &mut Verifier, at: &At, calls: &Calls) {
        self.of.resize(at.id.index() + 1, None);
        let lookup = |node: usize, callee: FuncId| match calls.is_sound(at.id, node) {
            true => self.of.get(callee.index()).and_then(Option::as_ref),
            false => None,
        };
        let mut summary = summarise(v.module, at.function, &lookup);
        for conflict in std::mem::take(&mut summary.conflicts) {
            let site = |node: &Option<usize>| match node {
                Some(node) => Site::Node(at.id, NodeId(*node as u32)),
                None => Site::Function(at.id),
            };
            match conflict {
                Conflict::Types { path, node, first, second } => {
                    let message = format!("weight `{path}` has type {second} here, {first} before");
                    v.report(Check::Weight, site(&node), message);
                }
                Conflict::Kinds { path, node } => {
                    let message = format!("`{path}` names a weight and state");
                    v.report(Check::PathCollision, site(&node), message);
                }
                Conflict::StateTwice { path, node } => {
                    let message = format!("state `{path}` is reached twice");
                    v.report(Check::StateShared, site(&node), message);
                }
                Conflict::TooMany => {
                    let message = "more weights and state than can be listed";
                    v.report(Check::Size, Site::Function(at.id), message);
                }
            }
        }
        self.of[at.id.index()] = Some(summary);
    }
}
