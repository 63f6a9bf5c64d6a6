//! The body of one function: names for values, loops for runs of calls, and a line for each
//! value that is not part of another's expression.

mod loops;

use super::helpers::{AttentionUse, Helper};
use super::spell::{self, NodeCtx};
use super::tree::{Tree, has_weights};
use super::{EmitError, Options};
use crate::python::{self, Block, Code};
use llmc_base::{Expr, Symbol};
use llmc_ir::ops::{Binary, BinaryKind, Call};
use llmc_ir::{DType, Function, Module, Node, Op, ParamRole, TensorType, ValueDef, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Longest expression that moves into its user although its value has a name.
const NAMED_INLINE: usize = 40;
/// Longest expression that moves into its user.
const INLINE: usize = 60;

/// What bodies have in common: what the file has to bring along.
pub struct Shared<'a> {
    /// The module, outlined.
    pub module: &'a Module,
    /// The options.
    pub options: &'a Options<'a>,
    /// Names of classes and plain functions, by function.
    pub names: BTreeMap<String, String>,
    /// Helpers that are used.
    pub helpers: BTreeSet<Helper>,
    /// Features of attention that are used.
    pub attention: AttentionUse,
    /// Functions made from decompositions, with the symbols that are passed to them.
    pub decomposed: Vec<Decomposed>,
    /// Whether `math` is used.
    pub uses_math: bool,
}

/// A decomposition as a function of its own.
pub struct Decomposed {
    /// The op that it decomposes.
    pub op: Op,
    /// Types of the operands.
    pub operands: Vec<TensorType>,
    /// The function.
    pub function: Function,
    /// Symbols that no operand shows, passed by name.
    pub symbols: Vec<Symbol>,
}

/// A value as text.
#[derive(Clone)]
pub enum Known {
    /// An expression, and one that gives the same under broadcasting.
    Tensor {
        /// The value.
        code: Code,
        /// The value before it was expanded.
        compact: Option<Code>,
    },
    /// The same number in every element.
    Scalar(Code),
}

/// A body being written.
pub struct Body<'f, 's, 'm> {
    /// What it shares with others.
    pub shared: &'s mut Shared<'m>,
    /// The function.
    pub function: &'f Function,
    /// Its submodules.
    pub tree: &'f Tree,
    /// Runtime symbols that the text uses.
    pub symbols: BTreeSet<Symbol>,
    values: BTreeMap<ValueId, Known>,
    /// Uses of each value that are still to come.
    left: BTreeMap<ValueId, usize>,
    /// The variable that holds a value.
    variables: BTreeMap<ValueId, String>,
    /// Variables that a value's expression reads, for values that are no variables themselves.
    reads: BTreeMap<ValueId, BTreeSet<String>>,
    taken: BTreeSet<String>,
    hoisted: BTreeMap<String, String>,
    lines: Block,
}

impl<'f, 's, 'm> Body<'f, 's, 'm> {
    /// Starts the body of `function`, whose parameters get the names in `parameters`.
    pub fn new(
        shared: &'s mut Shared<'m>,
        function: &'f Function,
        tree: &'f Tree,
        indent: usize,
    ) -> Self {
        let left = uses(function);
        let mut taken: BTreeSet<String> = ["self", "torch", "nn", "F", "math", "Config"]
            .iter()
            .map(|name| name.to_string())
            .collect();
        taken.extend(shared.names.values().cloned());
        taken.extend(Helper::ALL.iter().map(|h| h.name().to_string()));
        taken.extend(shared.module.symbols.iter().map(|s| s.symbol.name().to_string()));
        let mut body = Body {
            shared,
            function,
            tree,
            symbols: BTreeSet::new(),
            values: BTreeMap::new(),
            left,
            variables: BTreeMap::new(),
            reads: BTreeMap::new(),
            taken,
            hoisted: BTreeMap::new(),
            lines: Block::new(indent),
        };
        for param in &function.params {
            match &param.role {
                ParamRole::Weight(path) => {
                    let code = Code::atom(tree.reach(path));
                    body.values.insert(param.value, Known::Tensor { code, compact: None });
                }
                ParamRole::Input | ParamRole::State(_) => {
                    let name = function.value(param.value).name.as_deref().unwrap_or("x");
                    let name = body.fresh(name);
                    body.bind(param.value, name);
                }
            }
        }
        body
    }

    /// The names of the inputs, in order.
    pub fn inputs(&self) -> Vec<String> {
        self.function.inputs().map(|v| self.variables[&v].clone()).collect()
    }

    /// Writes the nodes and the `return`.
    pub fn write(mut self) -> Result<(Block, BTreeSet<Symbol>), EmitError> {
        let nodes = &self.function.nodes;
        let mut at = 0;
        while at < nodes.len() {
            match self.find_run(at) {
                Some(run) => {
                    self.run(&run)?;
                    at = run.end;
                }
                None => {
                    self.node(&nodes[at])?;
                    at += 1;
                }
            }
        }
        let outputs: Vec<ValueId> = self.function.outputs().map(|(_, v)| v).collect();
        let results: Vec<String> = outputs
            .iter()
            .map(|v| Ok(self.tensor(*v)?.text().to_string()))
            .collect::<Result<_, EmitError>>()?;
        let text = results.join(", ");
        let is_long = results.len() > 1 && text.chars().count() > 80;
        self.lines.line(&if is_long {
            format!("return ({text})")
        } else {
            format!("return {text}")
        });
        // A dim that was spelled may have been left out where broadcasting does without it.
        let text = self.lines.text();
        self.symbols.retain(|s| python::mentions(text, &python::identifier(s.name())));
        Ok((self.lines, self.symbols))
    }

    /// One node: spelled, or as a call of its decomposition.
    fn node(&mut self, node: &'f Node) -> Result<(), EmitError> {
        // Nothing has effects, so what nobody reads is left out.
        if node.results.iter().all(|v| !self.left.contains_key(v)) {
            return Ok(());
        }
        let spelled = match spell::spell(&mut NodeCtx { body: self, node })? {
            Some(known) => known,
            None => {
                let call = self.decompose(node)?;
                Known::Tensor { code: call, compact: None }
            }
        };
        for operand in &node.operands {
            self.consume(*operand);
        }
        match node.results.as_slice() {
            [result] => self.define(node, *result, spelled),
            results => {
                let Known::Tensor { code, .. } = spelled else { return Ok(()) };
                let mut names = Vec::new();
                for result in results {
                    let name = match self.function.value(*result).name.as_deref() {
                        Some(name) => self.fresh(name),
                        None => self.fresh("y"),
                    };
                    self.bind(*result, name.clone());
                    names.push(name);
                }
                self.lines.line(&format!("{} = {}", names.join(", "), code.text()));
            }
        }
        Ok(())
    }

    /// Makes a result an expression inside its only user, or a variable.
    fn define(&mut self, node: &Node, result: ValueId, known: Known) {
        let Known::Tensor { code, .. } = &known else {
            self.values.insert(result, known);
            return;
        };
        let name = self.function.value(result).name.as_deref();
        let is_module = matches!(&node.op, Op::Call(_) | Op::Linear(_));
        let limit = if name.is_some() && !is_module { NAMED_INLINE } else { INLINE };
        let returned = self.function.results.iter().any(|r| r.value == result);
        let is_short = code.text().chars().count() <= limit || returned || self.starts_run(result);
        let rebound = self.rebindable(node, result);
        let continues = !returned
            && name.is_some_and(|name| {
                rebound
                    .as_deref()
                    .is_some_and(|variable| name != variable && name.starts_with(variable))
            });
        if self.left.get(&result) == Some(&1) && is_short && !continues {
            let reads = self.reads_of(node);
            self.reads.insert(result, reads);
            self.values.insert(result, known);
            return;
        }
        let code = code.clone();
        let variable = match rebound {
            Some(variable) => variable,
            None => self.fresh(name.unwrap_or_else(|| default_name(node))),
        };
        self.lines.line(&format!("{variable} = {}", code.text()));
        self.bind(result, variable);
    }

    /// The variable of an operand that dies here and that the result continues: `x = x + …`,
    /// or a result whose name is that of the operand with a word added.
    fn rebindable(&self, node: &Node, result: ValueId) -> Option<String> {
        let ty = self.function.ty(result);
        let continues = |operand: &ValueId, variable: &str| {
            let name = self.function.value(result).name.as_deref().unwrap_or_default();
            matches!(&node.op, Op::Binary(Binary { kind: BinaryKind::Add }))
                && (self.is_input(*operand) || name.starts_with("residual"))
                || name.strip_prefix(variable).is_some_and(|rest| rest.starts_with('_'))
        };
        node.operands.iter().find_map(|operand| {
            let variable = self.variables.get(operand)?;
            let is_dead = self.left.get(operand).is_none_or(|n| *n == 0)
                && !self.reads.values().any(|reads| reads.contains(variable));
            let fits = self.function.ty(*operand) == ty && continues(operand, variable);
            (is_dead && fits).then(|| variable.clone())
        })
    }

    fn is_input(&self, value: ValueId) -> bool {
        matches!(self.function.value(value).def, ValueDef::Param(_))
    }

    fn bind(&mut self, value: ValueId, variable: String) {
        let code = Code::atom(variable.clone());
        self.values.insert(value, Known::Tensor { code, compact: None });
        self.variables.insert(value, variable);
    }

    fn consume(&mut self, value: ValueId) {
        let left = self.left.entry(value).or_insert(1);
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.reads.remove(&value);
        }
    }

    /// The variables that an expression of this node reads.
    fn reads_of(&self, node: &Node) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        for operand in &node.operands {
            match self.variables.get(operand) {
                Some(variable) => {
                    out.insert(variable.clone());
                }
                // `consume` has dropped what this operand reads, so it is asked of its own node.
                None => {
                    if let ValueDef::Node { node, .. } = self.function.value(*operand).def {
                        out.extend(self.reads_of(&self.function.nodes[node.index()]));
                    }
                }
            }
        }
        out
    }

    /// A name that is not taken yet, from this one.
    pub fn fresh(&mut self, name: &str) -> String {
        let base = python::identifier(name);
        let name = (1..)
            .map(|i| if i == 1 { base.clone() } else { format!("{base}_{i}") })
            .find(|name| !self.taken.contains(name))
            .unwrap_or_default();
        self.taken.insert(name.clone());
        name
    }

    /// The value as a tensor of its own shape.
    pub fn tensor(&mut self, value: ValueId) -> Result<Code, EmitError> {
        match self.known(value) {
            Known::Tensor { code, .. } => Ok(code),
            Known::Scalar(number) => {
                let ty = self.function.ty(value).clone();
                self.full(&ty, &number)
            }
        }
    }

    /// The value as known.
    pub fn known(&self, value: ValueId) -> Known {
        self.values.get(&value).cloned().expect("definitions precede uses")
    }

    /// A tensor with one number in every element.
    fn full(&mut self, ty: &TensorType, number: &Code) -> Result<Code, EmitError> {
        let shape = self.shape(&ty.shape)?;
        let mut arguments = vec![shape, number.text().to_string()];
        arguments.extend(self.placement(ty.dtype)?);
        Ok(Code::call("torch.full", &arguments))
    }

    /// `dtype=…` and `device=…` for a new tensor. Floats follow a tensor of the same declared
    /// dtype, so that `model.double()` reaches them.
    pub fn placement(&self, dtype: DType) -> Result<Vec<String>, EmitError> {
        let function = self.function;
        let like = |wanted: &dyn Fn(DType) -> bool| {
            let param = function.params.iter().find(|p| wanted(function.ty(p.value).dtype))?;
            match &param.role {
                ParamRole::Weight(path) => Some(self.tree.reach(path)),
                _ => self.variables.get(&param.value).cloned(),
            }
        };
        let mut out = match like(&|d| dtype.is_float() && d == dtype) {
            Some(tensor) => vec![format!("dtype={tensor}.dtype")],
            None => vec![format!("dtype={}", self.dtype(dtype)?)],
        };
        out.extend(like(&|_| true).map(|tensor| format!("device={tensor}.device")));
        Ok(out)
    }

    /// `device=…` alone.
    pub fn device(&self) -> Option<String> {
        self.placement(DType::I64).ok()?.into_iter().nth(1)
    }

    /// PyTorch's name of a dtype.
    pub fn dtype(&self, dtype: DType) -> Result<&'static str, EmitError> {
        torch_dtype(self.function, dtype)
    }

    /// A dim: symbols of the model are fields of `Config`, those of inputs are variables.
    pub fn dim(&mut self, expr: &Expr) -> Code {
        let (options, symbols) = (self.shared.options, &mut self.symbols);
        python::dim(expr, &mut |symbol| {
            if options.dims.contains_key(symbol) {
                return format!("Config.{symbol}");
            }
            symbols.insert(symbol.clone());
            python::identifier(symbol.name())
        })
    }

    /// `(B, T, 16)`.
    pub fn shape(&mut self, dims: &[Expr]) -> Result<String, EmitError> {
        let dims: Vec<String> = dims.iter().map(|d| self.dim(d).text().to_string()).collect();
        Ok(match dims.as_slice() {
            [one] => format!("({one},)"),
            many => format!("({})", many.join(", ")),
        })
    }

    /// Puts an expression that several nodes share into a variable, once.
    pub fn hoist(&mut self, name: &str, code: &Code) -> Code {
        if let Some(variable) = self.hoisted.get(code.text()) {
            return Code::atom(variable.clone());
        }
        let variable = self.fresh(name);
        self.lines.line(&format!("{variable} = {}", code.text()));
        self.hoisted.insert(code.text().to_string(), variable.clone());
        Code::atom(variable)
    }

    /// The code that applies a callee: an instance, or a plain function.
    pub fn callee(&self, call: &Call) -> String {
        match has_weights(self.shared.module, &call.callee) {
            true => self.tree.reach(&call.scope),
            false => self.shared.names[&call.callee].clone(),
        }
    }

    /// A call of the function that holds the decomposition of a node.
    fn decompose(&mut self, node: &Node) -> Result<Code, EmitError> {
        let operands: Vec<TensorType> =
            node.operands.iter().map(|v| self.function.ty(*v).clone()).collect();
        let known = |d: &Decomposed| d.op == node.op && d.operands == operands;
        let at = match self.shared.decomposed.iter().position(known) {
            Some(at) => at,
            None => {
                let name = self.shared.free_function_name(node.op.name());
                let made = super::file::decompose(self.shared, &name, &node.op, operands)?;
                self.shared.decomposed.push(made);
                self.shared.decomposed.len() - 1
            }
        };
        let (name, symbols) = {
            let found = &self.shared.decomposed[at];
            (found.function.name.clone(), found.symbols.clone())
        };
        let mut arguments = Vec::new();
        for operand in &node.operands {
            arguments.push(self.tensor(*operand)?.text().to_string());
        }
        for symbol in symbols {
            let dim = self.dim(&Expr::from(symbol.clone()));
            arguments.push(format!("{symbol}={}", dim.text()));
        }
        Ok(Code::call(&name, &arguments))
    }
}

impl Shared<'_> {
    /// A name for a plain function that nothing else has.
    pub fn free_function_name(&self, name: &str) -> String {
        let base = python::identifier(name);
        let is_taken = |name: &String| {
            self.names.values().any(|n| n == name)
                || Helper::ALL.iter().any(|h| h.name() == name)
                || self.decomposed.iter().any(|d| d.function.name == *name)
        };
        (1..)
            .map(|i| if i == 1 { base.clone() } else { format!("{base}_{i}") })
            .find(|name| !is_taken(name))
            .unwrap_or_default()
    }
}

/// How often each value is read, by nodes whose results are read in turn and by the results.
fn uses(function: &Function) -> BTreeMap<ValueId, usize> {
    let mut left = BTreeMap::new();
    for result in &function.results {
        *left.entry(result.value).or_insert(0) += 1;
    }
    for node in function.nodes.iter().rev() {
        if node.results.iter().any(|v| left.contains_key(v)) {
            for operand in &node.operands {
                *left.entry(*operand).or_insert(0) += 1;
            }
        }
    }
    left
}

/// A name for a result that has none.
fn default_name(node: &Node) -> &'static str {
    match &node.op {
        Op::Compare(_) => "mask",
        Op::Iota(_) => "index",
        Op::Linear(_) | Op::RmsNorm(_) | Op::LayerNorm(_) | Op::Embedding(_) => "h",
        _ => "y",
    }
}

/// PyTorch's name of a dtype. Unsigned integers wider than a byte are held in int64.
///
/// Errors: [`EmitError::DType`] for dtypes that PyTorch does not compute in.
pub fn torch_dtype(function: &Function, dtype: DType) -> Result<&'static str, EmitError> {
    Ok(match dtype {
        DType::Bool => "torch.bool",
        DType::I8 => "torch.int8",
        DType::I16 => "torch.int16",
        DType::I32 => "torch.int32",
        DType::I64 | DType::U16 | DType::U32 => "torch.int64",
        DType::U8 => "torch.uint8",
        DType::F8E4M3 => "torch.float8_e4m3fn",
        DType::F8E5M2 => "torch.float8_e5m2",
        DType::Bf16 => "torch.bfloat16",
        DType::F16 => "torch.float16",
        DType::F32 => "torch.float32",
        DType::F64 => "torch.float64",
        DType::I4 | DType::U4 | DType::U64 => {
            return Err(EmitError::DType { function: function.name.clone(), dtype });
        }
    })
}
