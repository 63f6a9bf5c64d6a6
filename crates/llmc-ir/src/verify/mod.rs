//! Checks that a module is what every stage takes for granted.
//!
//! The verifier derives everything again instead of comparing notes: types from the type rules,
//! absolute paths from the calls, the order from the nodes. It reports every error with its place.
//! It runs after every pass in tests and debug builds.

mod calls;
mod state;
mod structure;
#[cfg(test)]
mod tests;
mod types;

use crate::module::{FuncId, Module, NodeId, ParamRole};
use llmc_base::Diagnostic;

/// Part of a module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// The whole.
    Module,
    /// A symbol fact, by its index.
    Symbol(usize),
    /// A function.
    Function(FuncId),
    /// A parameter of a function.
    Param(FuncId, usize),
    /// A node of a function.
    Node(FuncId, NodeId),
    /// A result of a function.
    Result(FuncId, usize),
}

macro_rules! checks {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)*) => {
        /// A check of the verifier.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Check { $($(#[doc = $doc])+ $name,)* }

        impl Check {
            /// Every check with its code and what it demands.
            pub const ALL: &'static [(Check, &'static str, &'static str)] =
                &[$((Check::$name, $code, concat!($($doc),+)),)*];
        }
    };
}
checks! {
    /// Every id of a value or node lies in its arena.
    Ids = "ir::ids";
    /// Every value is defined exactly once, by what its entry names.
    Definition = "ir::definition";
    /// A value is defined before it is used.
    Order = "ir::order";
    /// Names of functions are not empty and unique in the module.
    FunctionName = "ir::function_name";
    /// Names of values are not empty and unique in their function.
    ValueName = "ir::value_name";
    /// Names of outputs are not empty and unique in their function.
    OutputName = "ir::output_name";
    /// Paths of weights and state are unique among the parameters of their function.
    Path = "ir::path";
    /// Origins lie in the table, whose first entry is empty and whose texts differ.
    Origin = "ir::origin";
    /// Symbol facts have plain, unique names, a minimum of at least 0 and a divisor of at least 1.
    SymbolFact = "ir::symbol_fact";
    /// A symbol in a function is declared by the module or bound by a dim of an input.
    Symbol = "ir::symbol";
    /// Dims, tensors and modules are within the limits of size.
    Size = "ir::size";
    /// A function that a node names exists and stands before the function that holds the node.
    Callee = "ir::callee";
    /// The type rule of the op accepts the operands; for regions: the functions fit.
    Operands = "ir::operands";
    /// The types of results are those that the type rule gives.
    Type = "ir::type";
    /// The condition of a `while` has no state, and a composite has neither weights nor state.
    Region = "ir::region";
    /// Weights of one absolute path agree in their type, however they are reached.
    Weight = "ir::weight";
    /// No absolute path names both a weight and state.
    PathCollision = "ir::path_collision";
    /// Each state parameter has exactly one result of its path and type, and no result is without.
    StateResult = "ir::state_result";
    /// A state parameter is not used after the definition of its successor.
    StateUse = "ir::state_use";
    /// State of one absolute path is reached once (by one branch of an `if` each).
    StateShared = "ir::state_shared";
}

impl Check {
    /// Its stable code.
    pub fn code(self) -> &'static str {
        Self::ALL.iter().find(|(check, ..)| *check == self).map_or("ir::check", |(_, code, _)| code)
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// Where.
    pub site: Site,
    /// What is wrong, with the values.
    pub message: String,
    /// `@layer, node 3 (rms_norm)`; empty for the module as a whole.
    pub place: String,
}

impl Finding {
    /// As a diagnostic whose message says the place.
    pub fn diagnostic(&self) -> Diagnostic {
        let place = if self.place.is_empty() { "" } else { " in " };
        Diagnostic::error(self.check.code(), format!("{}{place}{}", self.message, self.place))
    }
}

/// Everything that is wrong with a module; empty for a good one.
pub fn verify(module: &Module) -> Vec<Diagnostic> {
    findings(module).iter().map(Finding::diagnostic).collect()
}

/// [`verify`], with the parts of the module instead of texts.
pub fn findings(module: &Module) -> Vec<Finding> {
    let mut verifier = Verifier { module, findings: Vec::new() };
    structure::module(&mut verifier);
    let mut is_sound = Vec::new();
    for (i, function) in module.functions.iter().enumerate() {
        let at = At { id: FuncId(i as u32), function };
        is_sound.push(structure::function(&mut verifier, &at));
    }
    let calls = calls::callees(&mut verifier, &is_sound);
    let mut externals = calls::Externals::default();
    for (i, function) in module.functions.iter().enumerate() {
        let at = At { id: FuncId(i as u32), function };
        if is_sound[i] {
            types::function(&mut verifier, &at, &calls);
            state::function(&mut verifier, &at);
            externals.function(&mut verifier, &at, &calls);
        }
    }
    verifier.findings
}

/// The function that is being checked.
struct At<'a> {
    id: FuncId,
    function: &'a crate::module::Function,
}

struct Verifier<'a> {
    module: &'a Module,
    findings: Vec<Finding>,
}

impl Verifier<'_> {
    fn report(&mut self, check: Check, site: Site, message: impl Into<String>) {
        let place = self.describe(&site);
        self.findings.push(Finding { check, site, message: message.into(), place });
    }

    fn describe(&self, site: &Site) -> String {
        let name = |id: &FuncId| {
            self.module.functions.get(id.index()).map_or("?", |f| f.name.as_str()).to_string()
        };
        match site {
            Site::Module => String::new(),
            Site::Symbol(index) => self
                .module
                .symbols
                .get(*index)
                .map(|s| format!("symbol `{}`", s.symbol))
                .unwrap_or_default(),
            Site::Function(id) => format!("`@{}`", name(id)),
            Site::Param(id, index) => {
                let param =
                    self.module.functions.get(id.index()).and_then(|f| f.params.get(*index));
                match param.map(|p| &p.role) {
                    Some(ParamRole::Weight(path)) => format!("`@{}`, weight `{path}`", name(id)),
                    Some(ParamRole::State(path)) => format!("`@{}`, state `{path}`", name(id)),
                    _ => format!("`@{}`, parameter {index}", name(id)),
                }
            }
            Site::Node(id, node) => {
                let op =
                    self.module.functions.get(id.index()).and_then(|f| f.nodes.get(node.index()));
                format!("`@{}`, node {} (`{}`)", name(id), node.0, op.map_or("?", |n| n.op.name()))
            }
            Site::Result(id, index) => format!("`@{}`, result {index}", name(id)),
        }
    }
}
