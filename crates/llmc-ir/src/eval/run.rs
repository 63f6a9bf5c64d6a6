//! The interpreter of functions.

use super::tensor::concrete;
use super::{EvalError, Mode, Tensor};
use crate::builder::FunctionBuilder;
use crate::module::{FuncId, Function, Module, Node, ParamRole, ResultRole, join_path};
use crate::op::Class;
use crate::ops::{Op, Scan, While};
use crate::types::TensorType;
use llmc_base::expr::{Env, Expr};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What an evaluation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalLimits {
    /// Elements of one tensor.
    pub max_elements: usize,
    /// Nodes executed, those of decompositions and loop rounds included.
    pub max_nodes: u64,
    /// Depth of calls, decompositions included.
    pub max_depth: u32,
}

impl Default for EvalLimits {
    fn default() -> Self {
        EvalLimits { max_elements: 1 << 28, max_nodes: 1 << 32, max_depth: 64 }
    }
}

/// How to evaluate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalOptions {
    /// Which evaluator.
    pub mode: Mode,
    /// Bounds of memory and time.
    pub limits: EvalLimits,
    /// Values of dim symbols that no input, weight or state binds.
    pub dims: Env,
}

impl EvalOptions {
    /// A mode with the default limits.
    pub fn new(mode: Mode) -> Self {
        EvalOptions { mode, limits: EvalLimits::default(), dims: Env::new() }
    }
}

/// What an evaluation gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The outputs in order.
    pub outputs: Vec<Tensor>,
    /// All state by absolute path, with the successors in place.
    pub states: BTreeMap<String, Tensor>,
}

/// Evaluates a function: inputs in order, weights and state by absolute path.
///
/// Dim symbols are bound by the shapes of the inputs, then of weights and state. Floats are
/// rounded to their declared dtypes first in `Rounded` mode.
///
/// Errors: a missing or ill-typed tensor, an unknown dim, a type rule, an index out of range, a
/// limit.
pub fn run(
    module: &Module,
    func: FuncId,
    inputs: &[Tensor],
    weights: &dyn Fn(&str) -> Option<Tensor>,
    states: &BTreeMap<String, Tensor>,
    options: &EvalOptions,
) -> Result<Evaluation, EvalError> {
    let function = module
        .functions
        .get(func.index())
        .ok_or_else(|| EvalError::new(format!("no function {}", func.0)))?;
    let mut interpreter = Interpreter::new(module, weights, options);
    let share = |tensor: &Tensor| -> Result<Rc<Tensor>, EvalError> {
        tensor.check()?;
        Ok(Rc::new(tensor.clone().normalized(options.mode)))
    };
    for (path, tensor) in states {
        interpreter.states.insert(path.clone(), share(tensor)?);
    }
    let inputs = inputs.iter().map(share).collect::<Result<Vec<_>, _>>()?;
    let outputs = interpreter.function(function, "", inputs, &options.dims)?;
    let states = std::mem::take(&mut interpreter.states);
    Ok(Evaluation {
        outputs: outputs.into_iter().map(Rc::unwrap_or_clone).collect(),
        states: states.into_iter().map(|(p, t)| (p, Rc::unwrap_or_clone(t))).collect(),
    })
}

/// Evaluates one op on tensors; a composite by its decomposition.
///
/// Errors: as [`run`]. Functions that the op names come from `module` and cannot have weights.
pub fn op(
    module: &Module,
    op: &Op,
    operands: &[Tensor],
    mode: Mode,
) -> Result<Vec<Tensor>, EvalError> {
    let options = EvalOptions::new(mode);
    let mut interpreter = Interpreter::new(module, &|_| None, &options);
    let mut shared = Vec::new();
    for tensor in operands {
        tensor.check()?;
        shared.push(Rc::new(tensor.clone().normalized(mode)));
    }
    let results = interpreter.apply(op, &shared, "", &Env::new())?;
    Ok(results.into_iter().map(Rc::unwrap_or_clone).collect())
}

struct Interpreter<'a> {
    module: &'a Module,
    weights: &'a dyn Fn(&str) -> Option<Tensor>,
    /// Weights used so far.
    loaded: BTreeMap<String, Rc<Tensor>>,
    states: BTreeMap<String, Rc<Tensor>>,
    options: &'a EvalOptions,
    nodes: u64,
    depth: u32,
}

impl<'a> Interpreter<'a> {
    fn new(
        module: &'a Module,
        weights: &'a dyn Fn(&str) -> Option<Tensor>,
        options: &'a EvalOptions,
    ) -> Self {
        Interpreter {
            module,
            weights,
            loaded: BTreeMap::new(),
            states: BTreeMap::new(),
            options,
            nodes: 0,
            depth: 0,
        }
    }

    /// Runs a function under a scope; `outer` gives the symbols that its parameters do not bind.
    fn function(
        &mut self,
        function: &Function,
        scope: &str,
        inputs: Vec<Rc<Tensor>>,
        outer: &Env,
    ) -> Result<Vec<Rc<Tensor>>, EvalError> {
        self.depth += 1;
        if self.depth > self.options.limits.max_depth {
            let message = format!("calls nest deeper than {}", self.options.limits.max_depth);
            return Err(EvalError::new(message));
        }
        let result = self.body(function, scope, inputs, outer);
        self.depth -= 1;
        result.map_err(|e| match e.message.starts_with("in `@") {
            // The innermost function says it best.
            true => e,
            false => EvalError::new(format!("in `@{}`: {}", function.name, e.message)),
        })
    }

    fn body(
        &mut self,
        function: &Function,
        scope: &str,
        inputs: Vec<Rc<Tensor>>,
        outer: &Env,
    ) -> Result<Vec<Rc<Tensor>>, EvalError> {
        let mut frame = Frame::new(function)?;
        let mut env = Env::new();
        let wanted = function.inputs().count();
        if wanted != inputs.len() {
            let message = format!("takes {wanted} inputs, got {}", inputs.len());
            return Err(EvalError::new(message));
        }
        for (value, tensor) in function.inputs().zip(&inputs) {
            bind(&mut env, frame.ty(value.index())?, tensor);
        }
        for (symbol, value) in outer {
            env.entry(symbol.clone()).or_insert(*value);
        }
        let mut inputs = inputs.into_iter();
        for param in &function.params {
            let index = param.value.index();
            let (what, tensor) = match &param.role {
                ParamRole::Input => ("input".to_string(), inputs.next()),
                ParamRole::Weight(path) => {
                    let path = join_path(scope, path);
                    (format!("weight `{path}`"), self.weight(&path)?)
                }
                ParamRole::State(path) => {
                    let path = join_path(scope, path);
                    (format!("state `{path}`"), self.states.get(&path).cloned())
                }
            };
            let tensor = tensor.ok_or_else(|| EvalError::new(format!("{what} is missing")))?;
            let ty = frame.ty(index)?;
            bind(&mut env, ty, &tensor);
            if !fits(ty, &tensor, &env) {
                let message = format!("{what} has type {}, expected {ty}", tensor.ty());
                return Err(EvalError::new(message));
            }
            frame.values[index] = Some(tensor);
        }
        for (i, node) in function.nodes.iter().enumerate() {
            self.node(&mut frame, node, scope, &env).map_err(|e| {
                match e.message.starts_with("in `@") {
                    true => e,
                    false => EvalError::new(format!(
                        "in `@{}`, node {i} (`{}`): {}",
                        function.name,
                        node.op.name(),
                        e.message
                    )),
                }
            })?;
        }
        let mut outputs = Vec::new();
        let mut successors = Vec::new();
        for result in &function.results {
            let tensor = frame.take(result.value.index())?;
            match &result.role {
                ResultRole::Output(_) => outputs.push(tensor),
                ResultRole::State(path) => successors.push((join_path(scope, path), tensor)),
            }
        }
        self.states.extend(successors);
        Ok(outputs)
    }

    fn weight(&mut self, path: &str) -> Result<Option<Rc<Tensor>>, EvalError> {
        if let Some(tensor) = self.loaded.get(path) {
            return Ok(Some(tensor.clone()));
        }
        let Some(tensor) = (self.weights)(path) else { return Ok(None) };
        tensor.check()?;
        let tensor = Rc::new(tensor.normalized(self.options.mode));
        self.loaded.insert(path.to_string(), tensor.clone());
        Ok(Some(tensor))
    }

    fn node(
        &mut self,
        frame: &mut Frame,
        node: &Node,
        scope: &str,
        env: &Env,
    ) -> Result<(), EvalError> {
        let operands =
            node.operands.iter().map(|v| frame.take(v.index())).collect::<Result<Vec<_>, _>>()?;
        let results = self.apply(&node.op, &operands, scope, env)?;
        if results.len() != node.results.len() {
            let message = format!("{} results for {} values", results.len(), node.results.len());
            return Err(EvalError::new(message));
        }
        for (value, tensor) in node.results.iter().zip(results) {
            frame.put(value.index(), tensor)?;
        }
        Ok(())
    }

    /// Applies an op. The symbols of its attributes are those of `env`.
    fn apply(
        &mut self,
        op: &Op,
        operands: &[Rc<Tensor>],
        scope: &str,
        env: &Env,
    ) -> Result<Vec<Rc<Tensor>>, EvalError> {
        self.nodes += 1;
        if self.nodes > self.options.limits.max_nodes {
            let message = format!("more than {} nodes", self.options.limits.max_nodes);
            return Err(EvalError::new(message));
        }
        let number = |dim: &Expr| dim.eval(env).map_or_else(|| dim.clone(), Expr::constant);
        let op = op.map_dims(&number);
        match &op {
            Op::Call(call) => {
                let scope = join_path(scope, &call.scope);
                self.named(&call.callee, &scope, operands.to_vec(), env)
            }
            Op::If(branch) => {
                let (condition, inputs) = operands
                    .split_first()
                    .ok_or_else(|| EvalError::new("`if` without a condition"))?;
                let name = if truth(condition)? { &branch.then_fn } else { &branch.else_fn };
                self.named(name, scope, inputs.to_vec(), env)
            }
            Op::While(op) => self.while_loop(op, operands, scope, env),
            Op::Scan(op) => self.scan(op, operands, scope, env),
            _ => self.plain(&op, operands),
        }
    }

    fn named(
        &mut self,
        name: &str,
        scope: &str,
        inputs: Vec<Rc<Tensor>>,
        env: &Env,
    ) -> Result<Vec<Rc<Tensor>>, EvalError> {
        let module = self.module;
        let id =
            module.find(name).ok_or_else(|| EvalError::new(format!("no function `@{name}`")))?;
        self.function(module.function(id), scope, inputs, env)
    }

    fn while_loop(
        &mut self,
        op: &While,
        operands: &[Rc<Tensor>],
        scope: &str,
        env: &Env,
    ) -> Result<Vec<Rc<Tensor>>, EvalError> {
        let mut values = operands.to_vec();
        loop {
            // An empty body executes no node; a round counts itself.
            self.nodes += 1;
            if self.nodes > self.options.limits.max_nodes {
                return Err(EvalError::new("a loop does not end"));
            }
            let condition = self.named(&op.cond, scope, values.clone(), env)?;
            match condition.as_slice() {
                [condition] if truth(condition)? => {}
                [_] => return Ok(values),
                _ => return Err(EvalError::new("a loop needs one condition")),
            }
            values = self.named(&op.body, scope, values, env)?;
        }
    }

    fn scan(
        &mut self,
        op: &Scan,
        operands: &[Rc<Tensor>],
        scope: &str,
        env: &Env,
    ) -> Result<Vec<Rc<Tensor>>, EvalError> {
        let types: Vec<TensorType> = operands.iter().map(|t| t.ty()).collect();
        let (carried, _) = op.split(self.module, &types)?;
        let results = Op::from(op.clone()).infer(self.module, &types)?;
        let length = operands[carried].shape[0];
        let mut carry = operands[..carried].to_vec();
        let mut slices: Vec<Vec<Rc<Tensor>>> = vec![Vec::new(); results.len() - carried];
        for round in 0..length {
            let index = if op.reverse { length - 1 - round } else { round };
            let mut inputs = carry.clone();
            inputs.extend(operands[carried..].iter().map(|x| Rc::new(x.leading(index))));
            let mut outputs = self.named(&op.body, scope, inputs, env)?;
            if outputs.len() != results.len() {
                return Err(EvalError::new("a round gives another number of results"));
            }
            let ys = outputs.split_off(carried);
            carry = outputs;
            slices.iter_mut().zip(ys).for_each(|(all, y)| all.push(y));
        }
        for (mut all, ty) in slices.into_iter().zip(&results[carried..]) {
            if op.reverse {
                all.reverse();
            }
            carry.push(Rc::new(Tensor::stacked(ty.dtype, concrete(&ty.shape)?, &all)?));
        }
        Ok(carry)
    }

    /// A primitive by its evaluation, a composite by its decomposition.
    fn plain(&mut self, op: &Op, operands: &[Rc<Tensor>]) -> Result<Vec<Rc<Tensor>>, EvalError> {
        let types: Vec<TensorType> = operands.iter().map(|t| t.ty()).collect();
        let results = op.infer(self.module, &types)?;
        for ty in &results {
            let count = concrete(&ty.shape)?.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
            if count.is_none_or(|n| n > self.options.limits.max_elements) {
                let message =
                    format!("{ty} has more than {} elements", self.options.limits.max_elements);
                return Err(EvalError::new(message));
            }
        }
        if op.class() == Class::Primitive {
            let operands: Vec<&Tensor> = operands.iter().map(Rc::as_ref).collect();
            let results = op.eval(&operands, self.options.mode)?;
            return Ok(results.into_iter().map(Rc::new).collect());
        }
        let mut b = FunctionBuilder::new(self.module, op.name());
        let inputs: Vec<_> = types.into_iter().map(|ty| b.input("x", ty)).collect();
        for value in op.decompose(&mut b, &inputs)? {
            b.output("y", value);
        }
        let function = b.finish();
        self.function(&function, "", operands.to_vec(), &Env::new())
    }
}

/// The values of a function while it runs; each is dropped after its last use.
struct Frame<'f> {
    function: &'f Function,
    values: Vec<Option<Rc<Tensor>>>,
    uses: Vec<u32>,
}

impl<'f> Frame<'f> {
    fn new(function: &'f Function) -> Result<Self, EvalError> {
        let mut uses = vec![0u32; function.values.len()];
        let operands = function.nodes.iter().flat_map(|node| &node.operands);
        for value in operands.chain(function.results.iter().map(|r| &r.value)) {
            let slot = uses.get_mut(value.index());
            *slot.ok_or_else(|| EvalError::new(format!("no value {}", value.0)))? += 1;
        }
        Ok(Frame { function, values: vec![None; function.values.len()], uses })
    }

    fn ty(&self, index: usize) -> Result<&'f TensorType, EvalError> {
        let value = self.function.values.get(index);
        value.map(|v| &v.ty).ok_or_else(|| EvalError::new(format!("no value {index}")))
    }

    /// A value for one of its uses.
    fn take(&mut self, index: usize) -> Result<Rc<Tensor>, EvalError> {
        let undefined = || EvalError::new(format!("value {index} is used before its definition"));
        self.uses[index] = self.uses[index].saturating_sub(1);
        match self.uses[index] {
            0 => self.values[index].take().ok_or_else(undefined),
            _ => self.values[index].clone().ok_or_else(undefined),
        }
    }

    fn put(&mut self, index: usize, tensor: Rc<Tensor>) -> Result<(), EvalError> {
        let count =
            self.uses.get(index).ok_or_else(|| EvalError::new(format!("no value {index}")))?;
        if *count > 0 {
            self.values[index] = Some(tensor);
        }
        Ok(())
    }
}

/// Binds the symbols that stand alone as dims and have no value yet.
fn bind(env: &mut Env, ty: &TensorType, tensor: &Tensor) {
    for (dim, size) in ty.shape.iter().zip(&tensor.shape) {
        if let Some(symbol) = dim.as_symbol() {
            env.entry(symbol.clone()).or_insert(*size as i128);
        }
    }
}

/// Whether a tensor has the type under the values of the symbols.
fn fits(ty: &TensorType, tensor: &Tensor, env: &Env) -> bool {
    let mut dims = ty.shape.iter().zip(&tensor.shape);
    ty.dtype == tensor.dtype
        && ty.rank() == tensor.shape.len()
        && dims.all(|(dim, size)| dim.eval(env) == Some(*size as i128))
}

/// The value of a condition.
fn truth(condition: &Tensor) -> Result<bool, EvalError> {
    match condition.as_ints()? {
        [value] if condition.shape.is_empty() => Ok(*value != 0),
        _ => Err(EvalError::new(format!("a condition of type {}", condition.ty()))),
    }
}
