//! Builds a function node by node, with types inferred and checked at once.

mod sugar;

use crate::module::{
    FuncId, Function, Module, Node, NodeId, OriginId, Param, ParamRole, ResultInfo, ResultRole,
    ValueData, ValueDef, ValueId,
};
use crate::ops::{Call, Op};
use crate::types::{TensorType, TypeError};

/// A function under construction. Callees come from `module`.
pub struct FunctionBuilder<'m> {
    module: &'m Module,
    function: Function,
    origin: OriginId,
}

impl<'m> FunctionBuilder<'m> {
    /// Starts an empty function.
    pub fn new(module: &'m Module, name: impl Into<String>) -> Self {
        FunctionBuilder {
            module,
            function: Function {
                name: name.into(),
                is_composite: false,
                params: Vec::new(),
                values: Vec::new(),
                nodes: Vec::new(),
                results: Vec::new(),
            },
            origin: OriginId(0),
        }
    }

    /// Goes on with a function taken apart.
    pub fn resume(module: &'m Module, function: Function) -> Self {
        FunctionBuilder { module, function, origin: OriginId(0) }
    }

    /// The module that callees come from.
    pub fn module(&self) -> &'m Module {
        self.module
    }

    /// What has been built.
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// Sets the origin of the nodes that follow; returns the one before.
    pub fn set_origin(&mut self, origin: OriginId) -> OriginId {
        std::mem::replace(&mut self.origin, origin)
    }

    /// Adds a parameter.
    pub fn param(&mut self, name: &str, ty: TensorType, role: ParamRole) -> ValueId {
        let def = ValueDef::Param(self.function.params.len());
        let value = self.value(Some(name.to_string()), ty, def);
        self.function.params.push(Param { value, role });
        value
    }

    /// Adds an input parameter.
    pub fn input(&mut self, name: &str, ty: TensorType) -> ValueId {
        self.param(name, ty, ParamRole::Input)
    }

    /// Adds a weight; the value is named by the path with `_` for `.`.
    pub fn weight(&mut self, path: &str, ty: TensorType) -> ValueId {
        self.param(&path.replace('.', "_"), ty, ParamRole::Weight(path.to_string()))
    }

    /// Adds a state parameter; the value is named by the path with `_` for `.`.
    pub fn state(&mut self, path: &str, ty: TensorType) -> ValueId {
        self.param(&path.replace('.', "_"), ty, ParamRole::State(path.to_string()))
    }

    /// The type of a value.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        self.function.ty(value)
    }

    /// Applies an op. Errors: the op's type rule.
    pub fn op(
        &mut self,
        op: impl Into<Op>,
        operands: &[ValueId],
    ) -> Result<Vec<ValueId>, TypeError> {
        let op = op.into();
        let types: Vec<TensorType> = operands.iter().map(|v| self.ty(*v).clone()).collect();
        let results = op.infer(self.module, &types)?;
        Ok(self.push(op, operands, results))
    }

    /// Applies an op with one result.
    pub fn op1(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId, TypeError> {
        let op = op.into();
        let name = op.name();
        let results = self.op(op, operands)?;
        match results.as_slice() {
            [one] => Ok(*one),
            many => Err(TypeError::new(
                format!("{name}::results"),
                format!("`{name}` has {} results where one is used", many.len()),
            )),
        }
    }

    /// Calls a function: `inputs` in order, weights and state under `scope`.
    pub fn call(
        &mut self,
        callee: FuncId,
        scope: &str,
        inputs: &[ValueId],
    ) -> Result<Vec<ValueId>, TypeError> {
        let callee = self.module.function(callee).name.clone();
        self.op(Call { callee, scope: scope.to_string() }, inputs)
    }

    /// Names a value for people; a name that is taken gets a number.
    pub fn name(&mut self, value: ValueId, name: &str) {
        let name = self.free_name(name);
        self.function.values[value.index()].name = Some(name);
    }

    /// Adds an output.
    pub fn output(&mut self, name: &str, value: ValueId) {
        let role = ResultRole::Output(name.to_string());
        self.function.results.push(ResultInfo { value, role });
    }

    /// Adds the successor of a state parameter.
    pub fn state_result(&mut self, path: &str, value: ValueId) {
        let role = ResultRole::State(path.to_string());
        self.function.results.push(ResultInfo { value, role });
    }

    /// The finished function.
    pub fn finish(self) -> Function {
        self.function
    }

    /// Adds a node whose result types are known to be right (checked by the verifier).
    pub fn push(&mut self, op: Op, operands: &[ValueId], results: Vec<TensorType>) -> Vec<ValueId> {
        let node = NodeId(self.function.nodes.len() as u32);
        let results: Vec<ValueId> = results
            .into_iter()
            .enumerate()
            .map(|(index, ty)| self.value(None, ty, ValueDef::Node { node, index }))
            .collect();
        self.function.nodes.push(Node {
            op,
            operands: operands.to_vec(),
            results: results.clone(),
            origin: self.origin,
        });
        results
    }

    fn value(&mut self, name: Option<String>, ty: TensorType, def: ValueDef) -> ValueId {
        let name = name.map(|n| self.free_name(&n));
        self.function.values.push(ValueData { name, ty, def });
        ValueId(self.function.values.len() as u32 - 1)
    }

    fn free_name(&self, name: &str) -> String {
        let taken = |n: &str| self.function.values.iter().any(|v| v.name.as_deref() == Some(n));
        if !taken(name) {
            return name.to_string();
        }
        (2..).map(|i| format!("{name}_{i}")).find(|n| !taken(n)).unwrap_or_default()
    }
}
