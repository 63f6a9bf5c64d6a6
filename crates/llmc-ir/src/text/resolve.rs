//! Names of ops, kinds and functions to ops, with help for slips.

use super::Report;
use super::limits::substitution_fits;
use super::sugar;
use super::syntax::{At, OpSyntax};
use crate::attr::{Attr, AttrReader};
use crate::module::Module;
use crate::ops::Op;
use crate::types::TensorType;
use llmc_base::diag::nearest;
use std::collections::{BTreeMap, BTreeSet};

/// What the names of a module stand for.
pub(super) struct Resolver<'a> {
    /// Functions defined anywhere in the text.
    all: &'a BTreeSet<&'a str>,
    /// Functions defined so far, and whether errors were reported in them.
    defined: BTreeMap<String, bool>,
    /// Spelling to op and kind.
    kinds: BTreeMap<String, (&'static str, &'static str)>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(all: &'a BTreeSet<&'a str>) -> Self {
        let kinds = sugar::spellings().into_iter().map(|(name, op, kind)| (name, (op, kind)));
        Resolver { all, defined: BTreeMap::new(), kinds: kinds.collect() }
    }

    /// A function can be called from now on. Calls of a broken one are poisoned.
    pub(super) fn define(&mut self, name: &str, is_broken: bool) {
        self.defined.insert(name.to_string(), is_broken);
    }

    /// The op of a statement; `None` if there is none, which is reported.
    pub(super) fn op(&self, op: &OpSyntax, index: Option<i64>, report: &mut Report) -> Option<Op> {
        let mut attrs: Vec<(String, Attr)> = op.attrs.iter().map(|a| a.it.clone()).collect();
        if let Some(scope) = &op.scope {
            attrs.push(("scope".to_string(), Attr::Text(scope.it.at(index.unwrap_or(0)))));
        }
        let mut functions: Vec<At<String>> = op.callee.iter().cloned().collect();
        for attr in &op.attrs {
            if let Attr::Function(name) = &attr.it.1 {
                functions.push(At { it: name.clone(), place: attr.place.clone() });
            }
        }
        let name = op.name.it.as_str();
        let (name, extra) = if Op::NAMES.contains(&name) {
            let callee = op.callee.as_ref().map(|c| ("callee", Attr::Function(c.it.clone())));
            (name, callee)
        } else if let Some((op, kind)) = self.kinds.get(name) {
            (*op, Some(("kind", Attr::Word(kind.to_string()))))
        } else if self.all.contains(name) {
            functions.push(op.name.clone());
            ("call", Some(("callee", Attr::Function(name.to_string()))))
        } else {
            self.unknown_op(&op.name, report);
            return None;
        };
        if let Some((key, value)) = extra {
            if attrs.iter().any(|(name, _)| name == key) {
                let message = format!("attribute `{key}` is already given by `{}`", op.name.it);
                report.error("ir::attribute", op.name.place.clone(), message);
                return None;
            }
            attrs.push((key.to_string(), value));
        }
        // All of them, so that each gets its diagnostic.
        let unknown = functions.iter().filter(|f| !self.check_function(f, report)).count();
        if unknown > 0 {
            return None;
        }
        let mut reader = AttrReader::new(attrs);
        match Op::read(name, &mut reader)? {
            Ok(op) => Some(op),
            Err(error) => {
                let slip = reader.left().find_map(|left| {
                    let asked = reader.asked().filter(|a| !op.attrs.iter().any(|w| w.it.0 == *a));
                    nearest(left, asked).map(|n| format!("did you mean `{n}` for `{left}`?"))
                });
                let place = op.name.place.start..op.place.end;
                report.error_help(
                    "ir::attribute",
                    place,
                    format!("`{}`: {error}", op.name.it),
                    slip,
                );
                None
            }
        }
    }

    fn unknown_op(&self, name: &At<String>, report: &mut Report) {
        let names = Op::NAMES.iter().copied().chain(self.kinds.keys().map(String::as_str));
        let names = names.chain(self.all.iter().copied());
        let help = nearest(&name.it, names).map(|n| format!("did you mean `{n}`?"));
        let message = format!("no op or function is named `{}`", name.it);
        report.error_help("ir::unknown_op", name.place.clone(), message, help);
    }

    /// Whether a function can be called here; if not, that is reported (or was).
    fn check_function(&self, name: &At<String>, report: &mut Report) -> bool {
        if let Some(is_broken) = self.defined.get(&name.it) {
            return !is_broken;
        }
        let (message, help) = if self.all.contains(name.it.as_str()) {
            (
                format!("function `@{}` is not defined before this", name.it),
                Some("a callee stands before its callers; recursion does not exist".to_string()),
            )
        } else {
            let help = nearest(&name.it, self.all.iter().copied());
            (
                format!("no function is named `@{}`", name.it),
                help.map(|n| format!("did you mean `@{n}`?")),
            )
        };
        report.error_help("ir::unknown_function", name.place.clone(), message, help);
        false
    }

    /// Whether the result types of a region op stay small, whatever its functions declare.
    pub(super) fn fits(&self, op: &Op, module: &Module, types: &[TensorType]) -> bool {
        op.attrs().iter().all(|(_, attr)| {
            let Attr::Function(name) = attr else { return true };
            let Some(id) = module.find(name) else { return true };
            let callee = module.function(id);
            let dims = callee
                .inputs()
                .chain(callee.outputs().map(|(_, v)| v))
                .flat_map(|v| &callee.ty(v).shape);
            substitution_fits(dims, types)
        })
    }
}
