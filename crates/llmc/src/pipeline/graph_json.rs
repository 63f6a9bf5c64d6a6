//! A function of a module as flat JSON: named tensors and operations, calls
//! written out, for programs that read graphs and know nothing of our text form.
//!
//! `{name, tensors: {name: {name, shape, dtype, node, consumers}}, operations:
//! {name: {name, type, inputs, outputs, attributes}}, inputs, outputs}`; a dim
//! that is no number is −1. A weight is a tensor that no node makes, under its
//! absolute path.

use llmc_ir::module::join_path;
use llmc_ir::ops::Op;
use llmc_ir::{Attr, DType, Function, Module, ParamRole, TensorType, ValueId};
use serde_json::{Map, Value, json};

/// The graph of `entry`; `None` if there is no such function.
pub fn graph_json(module: &Module, name: &str, entry: &str) -> Option<Value> {
    let function = module.function(module.find(entry)?);
    let mut flat = Flat { module, tensors: Map::new(), operations: Map::new() };
    let inputs: Vec<String> = function
        .inputs()
        .map(|value| {
            let name = value_name(function, value);
            flat.tensor(&name, function.ty(value), None);
            name
        })
        .collect();
    let outputs = flat.walk(function, "", &inputs);
    Some(json!({
        "name": name,
        "tensors": flat.tensors,
        "operations": flat.operations,
        "inputs": inputs,
        "outputs": outputs,
    }))
}

struct Flat<'m> {
    module: &'m Module,
    tensors: Map<String, Value>,
    operations: Map<String, Value>,
}

impl Flat<'_> {
    fn tensor(&mut self, name: &str, ty: &TensorType, node: Option<&str>) {
        if self.tensors.contains_key(name) {
            return;
        }
        let dim = |d: &llmc_base::Expr| d.as_constant().and_then(|n| i64::try_from(n).ok());
        let shape: Vec<i64> = ty.shape.iter().map(|d| dim(d).unwrap_or(-1)).collect();
        let tensor = json!({
            "name": name,
            "shape": shape,
            "dtype": dtype_name(ty.dtype),
            "node": node,
            "consumers": [],
        });
        self.tensors.insert(name.to_string(), tensor);
    }

    /// Adds the nodes of a function whose inputs are known; gives the names of its outputs.
    fn walk(&mut self, function: &Function, scope: &str, inputs: &[String]) -> Vec<String> {
        let mut names = vec![String::new(); function.values.len()];
        let mut given = inputs.iter();
        for param in &function.params {
            let name = match &param.role {
                ParamRole::Input => given.next().cloned().unwrap_or_default(),
                ParamRole::Weight(path) | ParamRole::State(path) => join_path(scope, path),
            };
            self.tensor(&name, function.ty(param.value), None);
            names[param.value.index()] = name;
        }
        for node in &function.nodes {
            let operands: Vec<String> =
                node.operands.iter().map(|v| names[v.index()].clone()).collect();
            if let Op::Call(call) = &node.op
                && let Some(callee) = self.module.find(&call.callee)
            {
                let module = self.module;
                let scope = join_path(scope, &call.scope);
                let results = self.walk(module.function(callee), &scope, &operands);
                for (value, name) in node.results.iter().zip(results) {
                    names[value.index()] = name;
                }
                continue;
            }
            let first = node.results.first().map(|v| value_name(function, *v));
            let mut name = join_path(scope, &first.unwrap_or_default());
            while self.operations.contains_key(&name) || self.tensors.contains_key(&name) {
                name.push('_');
            }
            let mut results = Vec::new();
            for (i, value) in node.results.iter().enumerate() {
                let result = if i == 0 { name.clone() } else { format!("{name}.{i}") };
                self.tensor(&result, function.ty(*value), Some(&name));
                names[value.index()] = result.clone();
                results.push(result);
            }
            for operand in &operands {
                if let Some(consumers) = self.tensors.get_mut(operand)
                    && let Some(list) = consumers["consumers"].as_array_mut()
                {
                    list.push(json!(name));
                }
            }
            let attributes: Map<String, Value> =
                node.op.attrs().iter().map(|(k, v)| (k.to_string(), attribute(v))).collect();
            let operation = json!({
                "name": name,
                "type": node.op.name(),
                "inputs": operands,
                "outputs": results,
                "attributes": attributes,
            });
            self.operations.insert(name, operation);
        }
        function.outputs().map(|(_, value)| names[value.index()].clone()).collect()
    }
}

fn value_name(function: &Function, value: ValueId) -> String {
    function.value(value).name.clone().unwrap_or_else(|| format!("v{}", value.0))
}

fn dtype_name(dtype: DType) -> String {
    match dtype {
        DType::F32 => "float32".to_string(),
        DType::F16 => "float16".to_string(),
        DType::Bf16 => "bfloat16".to_string(),
        DType::F64 => "float64".to_string(),
        DType::I32 => "int32".to_string(),
        DType::I64 => "int64".to_string(),
        other => other.to_string(),
    }
}

fn attribute(attr: &Attr) -> Value {
    match attr {
        Attr::Bool(b) => json!(b),
        Attr::Int(i) => json!(i),
        // JSON has no infinities; they are written as text, like in the metrics.
        Attr::Float(f) if f.is_finite() => json!(f),
        Attr::Float(f) => json!(f.to_string()),
        Attr::Word(text) | Attr::Text(text) | Attr::Function(text) => json!(text),
        Attr::Ints(v) => json!(v),
        Attr::Floats(v) => json!(v),
        Attr::Dims(dims) => dims
            .iter()
            .map(|d| match d.as_constant().and_then(|n| i64::try_from(n).ok()) {
                Some(n) => json!(n),
                None => json!(d.to_string()),
            })
            .collect(),
        Attr::DType(dtype) => json!(dtype_name(*dtype)),
    }
}
