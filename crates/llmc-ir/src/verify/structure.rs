//! Ids, definitions, order and names: what must hold before anything else can be asked.

use super::{At, Check, Site, Verifier};
use crate::module::{NodeId, OriginId, ParamRole, ResultRole, ValueDef, ValueId};
use crate::text::names::is_bare;
use std::collections::BTreeSet;

/// Names of functions, symbol facts and the table of origins.
pub(super) fn module(v: &mut Verifier) {
    let module = v.module;
    let mut names = BTreeSet::new();
    for (i, function) in module.functions.iter().enumerate() {
        let site = Site::Function(crate::FuncId(i as u32));
        if function.name.is_empty() {
            v.report(Check::FunctionName, site, "a function has no name");
        } else if !names.insert(&function.name) {
            let message = format!("two functions are named `@{}`", function.name);
            v.report(Check::FunctionName, site, message);
        }
    }
    let mut symbols = BTreeSet::new();
    for (i, fact) in module.symbols.iter().enumerate() {
        let name = fact.symbol.name();
        let problem = if !is_bare(name) {
            Some(format!("symbol `{name}` is no plain name"))
        } else if !symbols.insert(name) {
            Some(format!("symbol `{name}` is declared twice"))
        } else if fact.min < 0 {
            Some(format!("symbol `{name}` has the minimum {}, below 0", fact.min))
        } else if fact.multiple_of < 1 {
            Some(format!("symbol `{name}` is a multiple of {}", fact.multiple_of))
        } else {
            None
        };
        if let Some(message) = problem {
            v.report(Check::SymbolFact, Site::Symbol(i), message);
        }
    }
    if module.origins.first().is_none_or(|first| !first.is_empty()) {
        v.report(Check::Origin, Site::Module, "the first origin is not the empty text");
    }
    let mut origins = BTreeSet::new();
    for origin in &module.origins {
        if !origins.insert(origin) {
            v.report(Check::Origin, Site::Module, format!("origin {origin:?} occurs twice"));
        }
    }
}

/// Ids, definitions, order and names of a function. Gives whether later checks may index freely.
pub(super) fn function(v: &mut Verifier, at: &At) -> bool {
    if !ids(v, at) {
        return false;
    }
    let before = v.findings.len();
    definitions(v, at);
    order(v, at);
    let is_sound = v.findings.len() == before;
    names(v, at);
    is_sound
}

fn ids(v: &mut Verifier, at: &At) -> bool {
    let f = at.function;
    let before = v.findings.len();
    let bad = |value: &ValueId| value.index() >= f.values.len();
    let message = |value: ValueId| format!("value %{} does not exist", value.0);
    for (i, param) in f.params.iter().enumerate().filter(|(_, p)| bad(&p.value)) {
        v.report(Check::Ids, Site::Param(at.id, i), message(param.value));
    }
    for (i, node) in f.nodes.iter().enumerate() {
        let site = Site::Node(at.id, NodeId(i as u32));
        for value in node.operands.iter().chain(&node.results).filter(|value| bad(value)) {
            v.report(Check::Ids, site.clone(), message(*value));
        }
        if node.origin.index() >= v.module.origins.len() && node.origin != OriginId(0) {
            v.report(Check::Origin, site, format!("origin {} does not exist", node.origin.0));
        }
    }
    for (i, result) in f.results.iter().enumerate().filter(|(_, r)| bad(&r.value)) {
        v.report(Check::Ids, Site::Result(at.id, i), message(result.value));
    }
    v.findings[before..].iter().all(|finding| finding.check != Check::Ids)
}

fn definitions(v: &mut Verifier, at: &At) {
    let f = at.function;
    let mut n_definitions = vec![0usize; f.values.len()];
    let mut check = |v: &mut Verifier, site: Site, value: ValueId, def: ValueDef| {
        n_definitions[value.index()] += 1;
        let recorded = f.value(value).def;
        if recorded != def {
            let message = format!("value %{} is recorded as {recorded:?}, found {def:?}", value.0);
            v.report(Check::Definition, site, message);
        }
    };
    for (i, param) in f.params.iter().enumerate() {
        check(v, Site::Param(at.id, i), param.value, ValueDef::Param(i));
    }
    for (i, node) in f.nodes.iter().enumerate() {
        let id = NodeId(i as u32);
        for (index, value) in node.results.iter().enumerate() {
            check(v, Site::Node(at.id, id), *value, ValueDef::Node { node: id, index });
        }
    }
    for (i, n) in n_definitions.into_iter().enumerate() {
        // A second definition was reported above: only one of them can be the recorded one.
        if n == 0 {
            let message = format!("value %{i} is defined by nothing");
            v.report(Check::Definition, Site::Function(at.id), message);
        }
    }
}

fn order(v: &mut Verifier, at: &At) {
    let f = at.function;
    let mut is_defined = vec![false; f.values.len()];
    f.params.iter().for_each(|p| is_defined[p.value.index()] = true);
    for (i, node) in f.nodes.iter().enumerate() {
        for value in node.operands.iter().filter(|value| !is_defined[value.index()]) {
            let message = format!("value %{} is used before it is defined", value.0);
            v.report(Check::Order, Site::Node(at.id, NodeId(i as u32)), message);
        }
        node.results.iter().for_each(|value| is_defined[value.index()] = true);
    }
}

fn names(v: &mut Verifier, at: &At) {
    let f = at.function;
    let mut seen = BTreeSet::new();
    for (i, value) in f.values.iter().enumerate() {
        let Some(name) = &value.name else { continue };
        if name.is_empty() {
            let message = format!("value %{i} has an empty name");
            v.report(Check::ValueName, Site::Function(at.id), message);
        } else if !seen.insert(name) {
            let message = format!("two values are named `%{name}`");
            v.report(Check::ValueName, Site::Function(at.id), message);
        }
    }
    let mut paths = BTreeSet::new();
    for (i, param) in f.params.iter().enumerate() {
        let (ParamRole::Weight(path) | ParamRole::State(path)) = &param.role else { continue };
        if !paths.insert(path) {
            let message = format!("two parameters have the path `{path}`");
            v.report(Check::Path, Site::Param(at.id, i), message);
        }
    }
    let mut outputs = BTreeSet::new();
    for (i, result) in f.results.iter().enumerate() {
        let ResultRole::Output(name) = &result.role else { continue };
        if name.is_empty() {
            v.report(Check::OutputName, Site::Result(at.id, i), "an output has an empty name");
        } else if !outputs.insert(name) {
            let message = format!("two outputs are named `{name}`");
            v.report(Check::OutputName, Site::Result(at.id, i), message);
        }
    }
}
