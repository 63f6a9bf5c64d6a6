//! Rewriting a function: parameters are copied, nodes pass by one at a time,
//! and a table says which new value stands for which old one.

use llmc_ir::{
    Function, FunctionBuilder, Module, Node, Op, Param, ResultInfo, ValueData, ValueDef, ValueId,
};

/// A function being rewritten into a new one.
pub(crate) struct Rebuild<'m, 'f> {
    /// The new function.
    pub b: FunctionBuilder<'m>,
    old: &'f Function,
    map: Vec<Option<ValueId>>,
}

impl<'m, 'f> Rebuild<'m, 'f> {
    /// Starts with the parameters of `old`.
    pub fn new(module: &'m Module, old: &'f Function) -> Self {
        Self::with_params(module, old, &old.params)
    }

    /// Starts with these parameters; each is named by a value of `old`, which it will stand for.
    pub fn with_params(module: &'m Module, old: &'f Function, params: &[Param]) -> Self {
        let mut map = vec![None; old.values.len()];
        let mut new = Function {
            name: old.name.clone(),
            is_composite: old.is_composite,
            params: Vec::new(),
            values: Vec::new(),
            nodes: Vec::new(),
            results: Vec::new(),
        };
        for (index, param) in params.iter().enumerate() {
            let value = ValueId(index as u32);
            let data = old.value(param.value).clone();
            new.values.push(ValueData { def: ValueDef::Param(index), ..data });
            new.params.push(Param { value, role: param.role.clone() });
            map[param.value.index()] = Some(value);
        }
        Rebuild { b: FunctionBuilder::resume(module, new), old, map }
    }

    /// Whether a value has been mapped.
    pub fn has(&self, old: ValueId) -> bool {
        self.map[old.index()].is_some()
    }

    /// The new value for an old one. Definitions precede uses, so it is there.
    pub fn get(&self, old: ValueId) -> ValueId {
        self.map[old.index()].expect("definitions precede uses")
    }

    /// The new values for the operands of a node.
    pub fn operands(&self, node: &Node) -> Vec<ValueId> {
        node.operands.iter().map(|v| self.get(*v)).collect()
    }

    /// Lets `new` stand for `old`; an unnamed `new` takes the name.
    pub fn set(&mut self, old: ValueId, new: ValueId) {
        self.map[old.index()] = Some(new);
        if let Some(name) = &self.old.value(old).name
            && self.b.function().value(new).name.is_none()
        {
            self.b.name(new, name);
        }
    }

    /// Copies a node.
    pub fn copy(&mut self, node: &Node) {
        self.copy_as(node.op.clone(), node);
    }

    /// Copies a node under another op with the same operand and result types.
    pub fn copy_as(&mut self, op: Op, node: &Node) {
        let operands = self.operands(node);
        let types = node.results.iter().map(|v| self.old.ty(*v).clone()).collect();
        self.b.set_origin(node.origin);
        let results = self.b.push(op, &operands, types);
        for (old, new) in node.results.iter().zip(results) {
            self.set(*old, new);
        }
    }

    /// The new function with the results of the old one.
    pub fn finish(self) -> Function {
        let results = &self.old.results;
        self.finish_with(results)
    }

    /// The new function with these results, given as values of the old one.
    pub fn finish_with(self, results: &[ResultInfo]) -> Function {
        let results: Vec<ResultInfo> = results
            .iter()
            .map(|r| ResultInfo { value: self.get(r.value), role: r.role.clone() })
            .collect();
        let mut function = self.b.finish();
        function.results = results;
        function
    }
}
