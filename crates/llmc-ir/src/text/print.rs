//! Module to text.

use super::fold::{Folds, Run, RunOperand, folds};
use super::names::{is_bare, written};
use super::sugar;
use super::syntax::Pattern;
use crate::attr::Attr;
use crate::module::{
    FuncId, Function, Module, Node, OriginId, ParamRole, ResultRole, ValueData, ValueId,
};
use crate::ops::Op;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Signatures that are longer stand on several lines.
const MAX_WIDTH: usize = 100;

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrintOptions {
    /// Fold runs of calls into `repeat`.
    pub fold: bool,
    /// Print origins. Without them the text does not parse to an equal module.
    pub origins: bool,
}

impl Default for PrintOptions {
    /// Everything, folded.
    fn default() -> Self {
        PrintOptions { fold: true, origins: true }
    }
}

/// The text of a module: folded, with origins.
pub fn print(module: &Module) -> String {
    print_with(module, PrintOptions::default())
}

/// The text of a module.
pub fn print_with(module: &Module, options: PrintOptions) -> String {
    let mut out = format!("module @{} {{\n", written(&module.name));
    for fact in &module.symbols {
        _ = write!(out, "  symbol {} >= {}", fact.symbol, fact.min);
        if fact.multiple_of != 1 {
            _ = write!(out, ", multiple_of {}", fact.multiple_of);
        }
        out.push('\n');
    }
    let origins = origins_in_order_of_use(module);
    if options.origins && origins != module.origins {
        // Not what the parser would make of the nodes: say it.
        out.push_str("  origins {");
        for origin in module.origins.iter().skip(1) {
            _ = write!(out, "\n    {origin:?}");
        }
        out.push_str("\n  }\n");
    }
    for (i, function) in module.functions.iter().enumerate() {
        if i > 0 || !module.symbols.is_empty() {
            out.push('\n');
        }
        Printer::new(module, function, options).function(&mut out, "  ");
    }
    out.push_str("}\n");
    out
}

/// The text of one function, as it stands in its module.
pub fn print_function(module: &Module, function: FuncId, options: PrintOptions) -> String {
    let mut out = String::new();
    Printer::new(module, module.function(function), options).function(&mut out, "");
    out
}

/// The table that the parser makes of the nodes' origins.
fn origins_in_order_of_use(module: &Module) -> Vec<String> {
    let mut seen = BTreeSet::from([OriginId(0)]);
    let mut origins = vec![String::new()];
    for node in module.functions.iter().flat_map(|f| &f.nodes) {
        if seen.insert(node.origin) {
            origins.push(module.origin_text(node.origin).to_string());
        }
    }
    origins
}

struct Printer<'a> {
    module: &'a Module,
    function: &'a Function,
    options: PrintOptions,
    folds: Folds,
    /// Whether the ids of named values must be written.
    ids: bool,
}

impl<'a> Printer<'a> {
    fn new(module: &'a Module, function: &'a Function, options: PrintOptions) -> Self {
        let folds = if options.fold { folds(module, function) } else { Folds::default() };
        Printer { module, function, options, folds, ids: !numbered_as_parsed(function) }
    }

    fn function(&self, out: &mut String, indent: &str) {
        let f = self.function;
        let params: Vec<String> = f
            .params
            .iter()
            .map(|param| {
                let (value, ty) = (self.definition(param.value), f.ty(param.value));
                match &param.role {
                    ParamRole::Input => format!("{value}: {ty}"),
                    ParamRole::Weight(path) => format!("weight {value} {path:?}: {ty}"),
                    ParamRole::State(path) => format!("state {value} {path:?}: {ty}"),
                }
            })
            .collect();
        let results: Vec<String> = f
            .results
            .iter()
            .map(|result| {
                let ty = f.ty(result.value);
                match &result.role {
                    ResultRole::Output(name) if is_bare(name) => format!("{name}: {ty}"),
                    ResultRole::Output(name) => format!("{name:?}: {ty}"),
                    ResultRole::State(path) => format!("state {path:?}: {ty}"),
                }
            })
            .collect();
        let keyword = if f.is_composite { "composite" } else { "fn" };
        let head = format!("{indent}{keyword} @{}(", written(&f.name));
        let (params_line, results_line) = (params.join(", "), results.join(", "));
        out.push_str(&head);
        if head.len() + params_line.len() + results_line.len() + 8 <= MAX_WIDTH {
            _ = writeln!(out, "{params_line}) -> ({results_line}) {{");
        } else {
            list_lines(out, indent, &params);
            out.push_str(") -> (");
            if results_line.len() + indent.len() + 9 <= MAX_WIDTH {
                out.push_str(&results_line);
            } else {
                list_lines(out, indent, &results);
            }
            out.push_str(") {\n");
        }
        let mut at = 0;
        while let Some(node) = f.nodes.get(at) {
            match self.folds.run_at(at) {
                Some(run) => {
                    self.run(out, indent, run);
                    at += run.count * run.period;
                }
                None => {
                    _ = writeln!(out, "{indent}  {}", self.node(node));
                    at += 1;
                }
            }
        }
        let returned: Vec<String> = f.results.iter().map(|r| self.value(r.value)).collect();
        let space = if returned.is_empty() { "" } else { " " };
        _ = writeln!(out, "{indent}  return{space}{}\n{indent}}}", returned.join(", "));
    }

    /// A value where it is used.
    fn value(&self, id: ValueId) -> String {
        match (self.function.values.get(id.index()), self.folds.element(id)) {
            (Some(ValueData { name: Some(name), .. }), _) => name_of_value(name),
            (_, Some((family, index))) => {
                format!("%{}[{index}]", self.folds.families[family].label)
            }
            _ => format!("%{}", id.0),
        }
    }

    /// A value where it is defined.
    fn definition(&self, id: ValueId) -> String {
        match &self.function.value(id).name {
            Some(name) if self.ids => format!("{}#{}", name_of_value(name), id.0),
            Some(name) => name_of_value(name),
            None => format!("%{}", id.0),
        }
    }

    fn node(&self, node: &Node) -> String {
        let targets: Vec<String> = node.results.iter().map(|v| self.definition(*v)).collect();
        let operands: Vec<String> = node.operands.iter().map(|v| self.value(*v)).collect();
        let mut origin = String::new();
        if self.options.origins && node.origin != OriginId(0) {
            origin = format!(" from {:?}", self.module.origin_text(node.origin));
        }
        self.statement(node, &targets, &operands, None, &origin)
    }

    fn statement(
        &self,
        node: &Node,
        targets: &[String],
        operands: &[String],
        scope: Option<&Pattern>,
        origin: &str,
    ) -> String {
        let (name, attrs) = match &node.op {
            Op::Call(call) => self.call_name(&call.callee, node.op.attrs()),
            op => sugar::contract(op),
        };
        let mut line = String::new();
        if !targets.is_empty() {
            _ = write!(line, "{} = ", targets.join(", "));
        }
        _ = write!(line, "{name}({})", operands.join(", "));
        let attrs: Vec<String> = attrs
            .into_iter()
            .map(|(name, value)| match (name, scope) {
                ("scope", Some(scope)) => format!("scope = {:?}", scope.written()),
                _ => format!("{name} = {value}"),
            })
            .collect();
        if !attrs.is_empty() {
            _ = write!(line, " {{{}}}", attrs.join(", "));
        }
        let types: Vec<String> =
            node.results.iter().map(|v| self.function.ty(*v).to_string()).collect();
        if !types.is_empty() {
            _ = write!(line, " : {}", types.join(", "));
        }
        line.push_str(origin);
        line
    }

    /// A user's composite reads like an op; other functions are called.
    fn call_name(
        &self,
        callee: &str,
        mut attrs: Vec<(&'static str, Attr)>,
    ) -> (String, Vec<(&'static str, Attr)>) {
        attrs.retain(|(name, _)| *name != "callee");
        let is_composite =
            self.module.find(callee).is_some_and(|id| self.module.function(id).is_composite);
        let is_free = is_bare(callee)
            && !Op::NAMES.contains(&callee)
            && sugar::spellings().iter().all(|(spelling, ..)| spelling != callee);
        match is_composite && is_free {
            true => (callee.to_string(), attrs),
            false => (format!("call @{}", written(callee)), attrs),
        }
    }

    fn run(&self, out: &mut String, indent: &str, run: &Run) {
        let end = run.start + run.count as i64;
        _ = write!(out, "{indent}  repeat i in {}..{end}", run.start);
        if run.is_reversed {
            out.push_str(" reversed");
        }
        for (n, (family, index, value)) in run.initial.iter().enumerate() {
            let word = if n == 0 { " with" } else { "," };
            let label = &self.folds.families[*family].label;
            _ = write!(out, "{word} %{label}[{index}] = {}", self.value(*value));
        }
        out.push_str(" {\n");
        let nodes = &self.function.nodes[run.first..run.first + run.period];
        for (node, folded) in nodes.iter().zip(&run.body) {
            let element = |family: usize, index: super::syntax::Affine| {
                format!("%{}[{}]", self.folds.families[family].label, index.written())
            };
            let targets: Vec<String> = folded
                .results
                .iter()
                .map(|result| {
                    let named = result.named.as_ref();
                    let named = named.map(|p| format!(" as {:?}", p.written()));
                    element(result.family, result.index) + &named.unwrap_or_default()
                })
                .collect();
            let operands: Vec<String> = folded
                .operands
                .iter()
                .map(|operand| match operand {
                    RunOperand::Fixed(value) => self.value(*value),
                    RunOperand::Element(family, index) => element(*family, *index),
                })
                .collect();
            let mut origin = String::new();
            if self.options.origins && node.origin != OriginId(0) {
                origin = format!(" from {:?}", folded.origin.written());
            }
            let line = self.statement(node, &targets, &operands, folded.scope.as_ref(), &origin);
            _ = writeln!(out, "{indent}    {line}");
        }
        _ = writeln!(out, "{indent}  }}");
    }
}

fn name_of_value(name: &str) -> String {
    format!("%{}", written(name))
}

fn list_lines(out: &mut String, indent: &str, items: &[String]) {
    for item in items {
        _ = write!(out, "\n{indent}  {item},");
    }
    if !items.is_empty() {
        _ = write!(out, "\n{indent}");
    }
}

/// Whether the parser gives named values the ids they have, without being told.
fn numbered_as_parsed(function: &Function) -> bool {
    let is_named = |id: &ValueId| function.values.get(id.index()).is_some_and(|v| v.name.is_some());
    let defined: Vec<ValueId> = function.definitions().filter(is_named).collect();
    defined.is_sorted()
}
