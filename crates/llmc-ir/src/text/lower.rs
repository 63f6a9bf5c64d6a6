//! Syntax tree to module: names to values, attributes to ops, types inferred and compared,
//! `repeat` unrolled.
//!
//! An error poisons the values it concerns, so that their uses are no further errors; as any
//! error means that no module is returned, poisoned parts may be left out.

use super::Report;
use super::limits::{self, MAX_NODES};
use super::resolve::Resolver;
use super::source_map::{FunctionPlaces, SourceMap};
use super::syntax::{
    At, FunctionSyntax, ModuleSyntax, OpSyntax, Place, RepeatSyntax, RoleSyntax, StatementSyntax,
    TargetSyntax, UseSyntax, ValueName,
};
use crate::module::{
    Function, Module, Node, NodeId, OriginId, Param, ParamRole, ResultInfo, ResultRole, SymbolFact,
    ValueData, ValueDef, ValueId,
};
use crate::types::TensorType;
use llmc_base::diag::nearest;
use llmc_base::{Diagnostic, Symbol};
use std::collections::{BTreeMap, BTreeSet};

/// The module of a tree. Of use only if the report is still empty.
pub(super) fn lower(tree: &ModuleSyntax, report: &mut Report) -> (Module, SourceMap) {
    let mut module = Module::new(&tree.name);
    let mut map = SourceMap { file: report.file.clone(), ..SourceMap::default() };
    let mut seen: BTreeMap<&str, &Place> = BTreeMap::new();
    for symbol in &tree.symbols {
        if let Some(first) = seen.insert(&symbol.name.it, &symbol.name.place) {
            duplicate(report, &format!("symbol `{}`", symbol.name.it), &symbol.name.place, first);
        }
        map.symbols.push(symbol.name.place.clone());
        module.symbols.push(SymbolFact {
            symbol: Symbol::new(&symbol.name.it),
            min: symbol.min,
            multiple_of: symbol.multiple_of,
        });
    }
    let mut origins = BTreeMap::from([(String::new(), OriginId(0))]);
    for origin in &tree.origins {
        if origins.contains_key(&origin.it) {
            let message = format!("origin {:?} stands here twice, or is empty", origin.it);
            report.error("ir::duplicate", origin.place.clone(), message);
        }
        intern(&mut module, &mut origins, &origin.it);
    }
    let mut all_names: BTreeSet<&str> = tree.functions.iter().map(|f| f.name.it.as_str()).collect();
    all_names.extend(tree.broken.iter().map(String::as_str));
    let mut resolver = Resolver::new(&all_names);
    tree.broken.iter().for_each(|name| resolver.define(name, true));
    let mut first_places: BTreeMap<&str, &Place> = BTreeMap::new();
    let mut n_nodes = 0;
    for syntax in &tree.functions {
        if let Some(first) = first_places.insert(&syntax.name.it, &syntax.name.place) {
            duplicate(
                report,
                &format!("function `@{}`", syntax.name.it),
                &syntax.name.place,
                first,
            );
        }
        let mut lowering = Lowering {
            module: &mut module,
            report,
            resolver: &mut resolver,
            origins: &mut origins,
            n_nodes: &mut n_nodes,
            locals: Vec::new(),
            named: BTreeMap::new(),
            families: BTreeMap::new(),
            nodes: Vec::new(),
            places: FunctionPlaces::default(),
        };
        let n_errors = lowering.report.diagnostics.len();
        let (function, places) = lowering.function(syntax);
        let is_broken = report.diagnostics.len() > n_errors || report.is_full;
        resolver.define(&function.name, is_broken);
        module.functions.push(function);
        map.functions.push(places);
    }
    (module, map)
}

fn intern(module: &mut Module, ids: &mut BTreeMap<String, OriginId>, text: &str) -> OriginId {
    if let Some(id) = ids.get(text) {
        return *id;
    }
    let id = OriginId(module.origins.len() as u32);
    module.origins.push(text.to_string());
    ids.insert(text.to_string(), id);
    id
}

fn duplicate(report: &mut Report, what: &str, place: &Place, first: &Place) {
    let (here, there) = (report.span(place.clone()), report.span(first.clone()));
    let diagnostic = Diagnostic::error("ir::duplicate", format!("{what} is defined twice"));
    report.push(diagnostic.at(here, "").at(there, "first defined here"));
}

/// Index into the values of the function so far, in the order of their definitions.
type Local = usize;

struct LocalData {
    name: Option<String>,
    /// The id that the text asks for.
    id: Option<u32>,
    /// `None`: poisoned.
    ty: Option<TensorType>,
    def: ValueDef,
    place: Place,
}

struct Lowering<'a, 'b> {
    module: &'a mut Module,
    report: &'a mut Report,
    resolver: &'a mut Resolver<'b>,
    origins: &'a mut BTreeMap<String, OriginId>,
    n_nodes: &'a mut usize,
    locals: Vec<LocalData>,
    named: BTreeMap<ValueName, Local>,
    families: BTreeMap<String, BTreeMap<i64, Local>>,
    nodes: Vec<Node>,
    places: FunctionPlaces,
}

/// The results of a statement cannot be used, which has been reported.
struct Poisoned;

impl Lowering<'_, '_> {
    fn function(&mut self, syntax: &FunctionSyntax) -> (Function, FunctionPlaces) {
        self.places.name = syntax.name.place.clone();
        let mut roles = Vec::new();
        for (index, param) in syntax.params.iter().enumerate() {
            self.places.params.push(param.target.place.clone());
            let def = ValueDef::Param(index);
            self.define(&param.target, None, Some(param.ty.it.clone()), def);
            roles.push(match &param.role {
                RoleSyntax::Plain => ParamRole::Input,
                RoleSyntax::Weight(path) => ParamRole::Weight(path.clone()),
                RoleSyntax::State(path) => ParamRole::State(path.clone()),
            });
        }
        for statement in &syntax.body {
            match statement {
                StatementSyntax::Op(op) => _ = self.op(op, None),
                StatementSyntax::Repeat(repeat) => self.repeat(repeat),
            }
        }
        let returned = self.returned(syntax);
        let ids = self.ids();
        let value = |local: Local| ValueId(ids[local]);
        let function = Function {
            name: syntax.name.it.clone(),
            is_composite: syntax.is_composite,
            params: roles
                .into_iter()
                .enumerate()
                .map(|(index, role)| Param { value: value(index), role })
                .collect(),
            values: Vec::new(),
            nodes: std::mem::take(&mut self.nodes)
                .into_iter()
                .map(|mut node| {
                    let renumber = |v: &mut ValueId| *v = value(v.index());
                    node.operands.iter_mut().for_each(renumber);
                    node.results.iter_mut().for_each(renumber);
                    node
                })
                .collect(),
            results: syntax
                .results
                .iter()
                .zip(returned)
                .map(|(result, local)| ResultInfo {
                    value: value(local),
                    role: match &result.role {
                        RoleSyntax::State(path) => ResultRole::State(path.clone()),
                        _ => ResultRole::Output(result.name.it.clone()),
                    },
                })
                .collect(),
        };
        (self.with_values(function, &ids), std::mem::take(&mut self.places))
    }

    /// The arena of values, in the order of their ids.
    fn with_values(&mut self, mut function: Function, ids: &[u32]) -> Function {
        let mut order: Vec<Local> = (0..ids.len()).collect();
        order.sort_by_key(|local| ids[*local]);
        let mut locals: Vec<Option<LocalData>> =
            std::mem::take(&mut self.locals).into_iter().map(Some).collect();
        for local in order {
            // Each local occurs once in `order`. A poisoned one has no type, and then the module
            // is not returned.
            if let Some(data) = locals[local].take() {
                let ty = data.ty.unwrap_or(TensorType::scalar(crate::DType::F32));
                function.values.push(ValueData { name: data.name, ty, def: data.def });
            }
        }
        function
    }

    /// The id of each local: as written where written, the others fill the gaps in order. Written
    /// ids that leave gaps beyond the end are no more than labels.
    fn ids(&self) -> Vec<u32> {
        let n = self.locals.len();
        let mut is_taken = vec![false; n];
        let fit = self.locals.iter().filter_map(|l| l.id).all(|id| {
            is_taken.get_mut(id as usize).is_some_and(|slot| !std::mem::replace(slot, true))
        });
        if !fit {
            return (0..n as u32).collect();
        }
        let mut free = (0..n as u32).filter(|id| !is_taken[*id as usize]);
        // As many ids are free as locals have none.
        self.locals.iter().map(|l| l.id.or_else(|| free.next()).unwrap_or_default()).collect()
    }

    /// What is returned; empty if that has been reported.
    fn returned(&mut self, syntax: &FunctionSyntax) -> Vec<Local> {
        let Some(returned) = &syntax.returned else { return Vec::new() };
        if returned.it.len() != syntax.results.len() {
            let message = format!(
                "`@{}` declares {} results, {} are returned",
                syntax.name.it,
                syntax.results.len(),
                returned.it.len()
            );
            self.report.error("ir::results", returned.place.clone(), message);
        }
        let mut locals = Vec::new();
        for (result, value) in syntax.results.iter().zip(&returned.it) {
            self.places.results.push(value.place.clone());
            let Some(local) = self.value(value, None) else { continue };
            let ty = self.locals[local].ty.clone();
            if let Some(ty) = ty {
                self.compare(&format!("result `{}`", result.name.it), &ty, &result.ty);
            }
            locals.push(local);
        }
        // A missing one was reported; keep what is left in step with the results.
        if locals.len() == syntax.results.len() { locals } else { Vec::new() }
    }

    /// Reports a written type that is not the inferred one.
    fn compare(&mut self, what: &str, inferred: &TensorType, written: &At<TensorType>) {
        if *inferred != written.it {
            let message = format!("{what} has type `{inferred}`, written `{}`", written.it);
            let help = Some(format!("write `{inferred}`, or leave the type away"));
            self.report.error_help("ir::type", written.place.clone(), message, help);
        }
    }

    /// Defines a value (or an element of a family).
    fn define(
        &mut self,
        target: &TargetSyntax,
        index: Option<i64>,
        ty: Option<TensorType>,
        def: ValueDef,
    ) -> Local {
        let local = self.locals.len();
        let first = match (&target.element, &target.name) {
            (Some(element), ValueName::Named(family)) => {
                let at = element.at(index.unwrap_or(0));
                self.families.entry(family.clone()).or_default().insert(at, local)
            }
            (Some(_), ValueName::Unnamed(_)) => {
                let message = "the elements of a family need a name, `%h[i]`".to_string();
                self.report.error("ir::syntax", target.place.clone(), message);
                None
            }
            (None, name) => self.named.insert(name.clone(), local),
        };
        let mut clash = first;
        let (name, id) = match (&target.element, &target.name) {
            (Some(_), _) => (target.named.as_ref().map(|p| p.at(index.unwrap_or(0))), None),
            (None, ValueName::Named(name)) => (Some(name.clone()), target.id),
            (None, ValueName::Unnamed(id)) => (None, Some(*id)),
        };
        if let (Some(_), Some(name)) = (&target.element, &name) {
            clash = clash.or(self.named.insert(ValueName::Named(name.clone()), local));
        }
        if let Some(first) = clash {
            let there = self.locals[first].place.clone();
            duplicate(self.report, &format!("value `{}`", target.name), &target.place, &there);
        }
        self.locals.push(LocalData { name, id, ty, def, place: target.place.clone() });
        local
    }

    /// The value that is used; `None` if there is none, which is reported.
    fn value(&mut self, value: &UseSyntax, index: Option<i64>) -> Option<Local> {
        let (message, help) = match (&value.name, value.element) {
            (ValueName::Named(family), Some(element)) => {
                let at = element.at(index.unwrap_or(0));
                match self.families.get(family) {
                    Some(elements) => {
                        if let Some(local) = elements.get(&at) {
                            return Some(*local);
                        }
                        let known = match (elements.first_key_value(), elements.last_key_value()) {
                            (Some((first, _)), Some((last, _))) => Some(format!(
                                "defined so far: `%{family}[{first}]` to `%{family}[{last}]`"
                            )),
                            _ => None,
                        };
                        (format!("`%{family}[{at}]` is not defined here"), known)
                    }
                    None => {
                        let names = self.families.keys().map(String::as_str);
                        let help =
                            nearest(family, names).map(|n| format!("did you mean `%{n}[…]`?"));
                        (format!("no family `%{family}` is defined here"), help)
                    }
                }
            }
            (name, _) => {
                if let Some(local) = self.named.get(name) {
                    return Some(*local);
                }
                let names = self.named.keys().filter_map(|n| match n {
                    ValueName::Named(n) => Some(n.as_str()),
                    ValueName::Unnamed(_) => None,
                });
                let help = match name {
                    ValueName::Named(name) => nearest(name, names),
                    ValueName::Unnamed(_) => None,
                };
                let help = help.map(|n| format!("did you mean `%{n}`?"));
                (format!("value `{name}` is not defined here"), help)
            }
        };
        self.report.error_help("ir::unknown_value", value.place.clone(), message, help);
        None
    }

    fn repeat(&mut self, repeat: &RepeatSyntax) {
        for (family, value) in &repeat.initial {
            let (ValueName::Named(name), Some(element)) = (&family.name, family.element) else {
                let message = "expected an element such as `%h[0]`".to_string();
                self.report.error("ir::syntax", family.place.clone(), message);
                continue;
            };
            if let Some(local) = self.value(value, None) {
                let at = element.at(0);
                let first = self.families.entry(name.clone()).or_default().insert(at, local);
                if first.is_some() {
                    let message = format!("`%{name}[{at}]` is defined twice");
                    self.report.error("ir::duplicate", family.place.clone(), message);
                }
            }
        }
        let steps = (repeat.end - repeat.start) as usize;
        if repeat.body.len().saturating_mul(steps) > MAX_NODES {
            self.too_many_nodes(&repeat.place);
            return;
        }
        let mut is_broken = vec![false; repeat.body.len()];
        for step in 0..repeat.end - repeat.start {
            let index = match repeat.is_reversed {
                false => repeat.start + step,
                true => repeat.end - 1 - step,
            };
            for (op, is_broken) in repeat.body.iter().zip(&mut is_broken) {
                // An error is reported for one step only; later steps still define their values.
                match *is_broken {
                    true => self.poison(op, Some(index)),
                    false => *is_broken = self.op(op, Some(index)).is_err(),
                }
                if *self.n_nodes >= MAX_NODES {
                    return;
                }
            }
        }
    }

    fn too_many_nodes(&mut self, place: &Place) {
        let message = format!("the module has more than {MAX_NODES} nodes");
        self.report.error("ir::limit", place.clone(), message);
    }

    /// Defines the results of a statement that could not be read.
    fn poison(&mut self, op: &OpSyntax, index: Option<i64>) {
        for (i, target) in op.targets.iter().enumerate() {
            let written = op.types.as_ref().and_then(|types| types.get(i));
            let def = ValueDef::Node { node: NodeId(0), index: i };
            self.define(target, index, written.map(|ty| ty.it.clone()), def);
        }
        *self.n_nodes += 1;
    }

    fn op(&mut self, op: &OpSyntax, index: Option<i64>) -> Result<(), Poisoned> {
        if *self.n_nodes >= MAX_NODES {
            if *self.n_nodes == MAX_NODES {
                self.too_many_nodes(&op.place);
                *self.n_nodes += 1;
            }
            return Err(Poisoned);
        }
        match self.node(op, index) {
            Some((node, types)) => {
                *self.n_nodes += 1;
                self.push(op, index, node, types);
                Ok(())
            }
            None => {
                self.poison(op, index);
                Err(Poisoned)
            }
        }
    }

    /// The node of a statement with its result types, or `None` if that is an error (reported)
    /// or follows from one.
    fn node(&mut self, op: &OpSyntax, index: Option<i64>) -> Option<(Node, Vec<TensorType>)> {
        if op.is_broken {
            return None;
        }
        let operands: Vec<Option<Local>> =
            op.operands.iter().map(|value| self.value(value, index)).collect();
        let resolved = self.resolver.op(op, index, self.report)?;
        let mut locals = Vec::new();
        let mut types = Vec::new();
        for operand in operands {
            locals.push(ValueId(operand? as u32));
            types.push(self.locals[operand?].ty.clone()?);
        }
        if !self.resolver.fits(&resolved, self.module, &types) {
            let message = "the types of this call are too large".to_string();
            self.report.error("ir::limit", op.place.clone(), message);
            return None;
        }
        let results = match resolved.infer(self.module, &types) {
            Ok(results) => results,
            Err(error) => {
                let place = op.name.place.start..op.place.end;
                self.report.error(&error.code, place, error.message);
                return None;
            }
        };
        for ty in &results {
            if let Err(message) = limits::check_type(ty) {
                self.report.error("ir::limit", op.place.clone(), message);
                return None;
            }
        }
        if results.len() != op.targets.len() {
            let message = format!(
                "`{}` has {} results, {} are named",
                op.name.it,
                results.len(),
                op.targets.len()
            );
            self.report.error("ir::results", op.place.clone(), message);
            return None;
        }
        if let Some(written) = &op.types {
            if written.len() != results.len() {
                let message =
                    format!("{} types are written for {} results", written.len(), results.len());
                self.report.error("ir::results", op.place.clone(), message);
                return None;
            }
            for ((target, inferred), written) in op.targets.iter().zip(&results).zip(written) {
                self.compare(&format!("`{}`", target.name), inferred, written);
            }
        }
        let origin = op.origin.as_ref().map_or(String::new(), |p| p.at(index.unwrap_or(0)));
        let origin = intern(self.module, self.origins, &origin);
        Some((Node { op: resolved, operands: locals, results: Vec::new(), origin }, results))
    }

    fn push(&mut self, op: &OpSyntax, index: Option<i64>, mut node: Node, types: Vec<TensorType>) {
        let id = NodeId(self.nodes.len() as u32);
        for (i, (target, ty)) in op.targets.iter().zip(types).enumerate() {
            let local = self.define(target, index, Some(ty), ValueDef::Node { node: id, index: i });
            node.results.push(ValueId(local as u32));
        }
        self.nodes.push(node);
        self.places.nodes.push(op.place.clone());
    }
}
