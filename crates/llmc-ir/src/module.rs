//! The shape of a program: arenas with typed indices, SSA values, functions
//! with typed parameters.
//!
//! A layer is a function and a model calls it N times, each call an ordinary
//! node with its own parameter scope. Weights and state are not operands of a
//! call: the callee declares them by a path relative to itself, and the scope
//! of each call on the way from the entry function makes the path absolute
//! (`layers.3` + `attention.q.weight`). State is linear: a state parameter is
//! consumed once and its successor is returned under the same path.

use crate::ops::Op;
use crate::types::TensorType;
use llmc_base::Symbol;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);
        impl $name {
            /// As an index into its arena.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}
ids! {
    /// A function of a module.
    FuncId;
    /// A value of a function.
    ValueId;
    /// A node of a function.
    NodeId;
    /// An origin in the module's table; 0 is "unknown".
    OriginId;
}

/// What is known about a dim symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolFact {
    /// The symbol.
    pub symbol: Symbol,
    /// Smallest value it takes.
    pub min: i64,
    /// Divides every value it takes.
    pub multiple_of: i64,
}

/// A program: functions that may call functions defined before them.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Module {
    /// Name for people.
    pub name: String,
    /// Facts about dim symbols, by name.
    pub symbols: Vec<SymbolFact>,
    /// Functions; a callee stands before its callers.
    pub functions: Vec<Function>,
    /// Where nodes come from: a spec field, an ONNX node, a Python line. Entry 0 is empty.
    pub origins: Vec<String>,
}

impl Module {
    /// An empty module.
    pub fn new(name: impl Into<String>) -> Self {
        Module { name: name.into(), origins: vec![String::new()], ..Module::default() }
    }

    /// Adds a function. Its callees must be here already. Its values are renumbered
    /// ([`Function::renumber`]), so that a module prints well however it was built.
    pub fn add(&mut self, mut function: Function) -> FuncId {
        function.renumber();
        self.functions.push(function);
        FuncId(self.functions.len() as u32 - 1)
    }

    /// The function with this id.
    pub fn function(&self, id: FuncId) -> &Function {
        &self.functions[id.index()]
    }

    /// The function with this name.
    pub fn find(&self, name: &str) -> Option<FuncId> {
        self.functions.iter().position(|f| f.name == name).map(|i| FuncId(i as u32))
    }

    /// The id of an origin text, added if new.
    pub fn origin(&mut self, text: &str) -> OriginId {
        if self.origins.is_empty() {
            self.origins.push(String::new());
        }
        let at = self.origins.iter().position(|o| o == text).unwrap_or_else(|| {
            self.origins.push(text.to_string());
            self.origins.len() - 1
        });
        OriginId(at as u32)
    }

    /// Adds what another module has: its functions after ours, the stricter of two facts about a
    /// symbol, its origins. A function that is here already, and equal, stays as it is.
    ///
    /// Errors: the name of a function that is here with another meaning; nothing has changed then.
    pub fn link(&mut self, other: &Module) -> Result<(), String> {
        let ours = crate::hash::function_hashes(self);
        let theirs = crate::hash::function_hashes(other);
        let mut new = Vec::new();
        for (function, hash) in other.functions.iter().zip(theirs) {
            match self.find(&function.name) {
                None => new.push(function),
                Some(id) if ours[id.index()] == hash => {}
                Some(_) => return Err(function.name.clone()),
            }
        }
        for fact in &other.symbols {
            let known = self.symbols.iter().find(|s| s.symbol == fact.symbol);
            let (min, multiple_of) = known.map_or((0, 1), |k| (k.min, k.multiple_of));
            let both = lcm(multiple_of, fact.multiple_of);
            self.declare_symbol(fact.symbol.name(), min.max(fact.min), both);
        }
        for function in new {
            let mut function = function.clone();
            for node in &mut function.nodes {
                node.origin = self.origin(other.origin_text(node.origin));
            }
            self.add(function);
        }
        Ok(())
    }

    /// The text of an origin; empty if there is none.
    pub fn origin_text(&self, id: OriginId) -> &str {
        self.origins.get(id.index()).map_or("", String::as_str)
    }

    /// Records what is known about a symbol (the last word wins).
    pub fn declare_symbol(&mut self, name: &str, min: i64, multiple_of: i64) {
        let symbol = Symbol::new(name);
        self.symbols.retain(|s| s.symbol != symbol);
        self.symbols.push(SymbolFact { symbol, min, multiple_of });
        self.symbols.sort_by(|a, b| a.symbol.cmp(&b.symbol));
    }
}

/// The least common multiple of two divisors; on overflow the first.
fn lcm(a: i64, b: i64) -> i64 {
    let (mut x, mut y) = (a.max(1), b.max(1));
    let (a, b) = (x, y);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x).checked_mul(b).unwrap_or(a)
}

/// What a function parameter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamRole {
    /// An operand of each call, in order.
    Input,
    /// An external, read-only weight, found by scope and this relative path.
    Weight(String),
    /// Linear state found by scope and this relative path; the result of the same path succeeds it.
    State(String),
}

/// A function parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// The value it defines; its type and name are there.
    pub value: ValueId,
    /// Input, weight or state.
    pub role: ParamRole,
}

/// What a function result is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultRole {
    /// A result of each call, in order, with a name for people and bindings.
    Output(String),
    /// The successor of the state parameter of this path.
    State(String),
}

/// A function result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultInfo {
    /// The value returned.
    pub value: ValueId,
    /// Output or state.
    pub role: ResultRole,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueDef {
    /// The function parameter of this index.
    Param(usize),
    /// Result `index` of a node.
    Node {
        /// The node.
        node: NodeId,
        /// Which of its results.
        index: usize,
    },
}

/// A value: defined once, used any number of times (state: once).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueData {
    /// A name for people, unique in the function; unnamed values print as their index.
    pub name: Option<String>,
    /// Its type.
    pub ty: TensorType,
    /// Its definition.
    pub def: ValueDef,
}

/// One application of an op.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The op with its attributes.
    pub op: Op,
    /// Operands.
    pub operands: Vec<ValueId>,
    /// Results, defined by this node.
    pub results: Vec<ValueId>,
    /// Where it comes from.
    pub origin: OriginId,
}

/// A function: parameters, nodes in an order where definitions precede uses, results.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Unique in its module.
    pub name: String,
    /// Whether this is a composite op that a user defined by its decomposition.
    pub is_composite: bool,
    /// Parameters.
    pub params: Vec<Param>,
    /// All values.
    pub values: Vec<ValueData>,
    /// Nodes in order.
    pub nodes: Vec<Node>,
    /// Results.
    pub results: Vec<ResultInfo>,
}

impl Function {
    /// All values in the order of their definitions: parameters, then results of nodes.
    pub fn definitions(&self) -> impl Iterator<Item = ValueId> {
        let params = self.params.iter().map(|p| p.value);
        params.chain(self.nodes.iter().flat_map(|n| n.results.iter().copied()))
    }

    /// Whether values are numbered in the order of their definitions.
    pub fn is_canonical(&self) -> bool {
        self.definitions().map(ValueId::index).eq(0..self.values.len())
    }

    /// Numbers values in the order of their definitions, and drops those that nothing defines.
    /// The meaning stays; ids that were taken from the function before do not.
    pub fn renumber(&mut self) {
        if self.is_canonical() {
            return;
        }
        let order: Vec<ValueId> = self.definitions().collect();
        let mut new_ids = vec![ValueId(u32::MAX); self.values.len()];
        for (new, old) in order.iter().enumerate() {
            new_ids[old.index()] = ValueId(new as u32);
        }
        self.values = order.iter().map(|old| self.values[old.index()].clone()).collect();
        let renumber = |value: &mut ValueId| *value = new_ids[value.index()];
        self.params.iter_mut().for_each(|p| renumber(&mut p.value));
        for node in &mut self.nodes {
            node.operands.iter_mut().for_each(renumber);
            node.results.iter_mut().for_each(renumber);
        }
        self.results.iter_mut().for_each(|r| renumber(&mut r.value));
    }

    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &ValueData {
        &self.values[id.index()]
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        &self.values[id.index()].ty
    }

    /// The parameters with role `Input`, in order.
    pub fn inputs(&self) -> impl Iterator<Item = ValueId> {
        self.params.iter().filter(|p| p.role == ParamRole::Input).map(|p| p.value)
    }

    /// The weights as (relative path, value), in order.
    pub fn weights(&self) -> impl Iterator<Item = (&str, ValueId)> {
        self.params.iter().filter_map(|p| match &p.role {
            ParamRole::Weight(path) => Some((path.as_str(), p.value)),
            _ => None,
        })
    }

    /// The state parameters as (relative path, value), in order.
    pub fn states(&self) -> impl Iterator<Item = (&str, ValueId)> {
        self.params.iter().filter_map(|p| match &p.role {
            ParamRole::State(path) => Some((path.as_str(), p.value)),
            _ => None,
        })
    }

    /// The results with role `Output` as (name, value), in order.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, ValueId)> {
        self.results.iter().filter_map(|r| match &r.role {
            ResultRole::Output(name) => Some((name.as_str(), r.value)),
            ResultRole::State(_) => None,
        })
    }

    /// The state results as (relative path, value), in order.
    pub fn state_results(&self) -> impl Iterator<Item = (&str, ValueId)> {
        self.results.iter().filter_map(|r| match &r.role {
            ResultRole::State(path) => Some((path.as_str(), r.value)),
            ResultRole::Output(_) => None,
        })
    }
}

/// `scope` + `.` + `path`, where either may be empty.
pub fn join_path(scope: &str, path: &str) -> String {
    match (scope.is_empty(), path.is_empty()) {
        (true, _) => path.to_string(),
        (_, true) => scope.to_string(),
        _ => format!("{scope}.{path}"),
    }
}
