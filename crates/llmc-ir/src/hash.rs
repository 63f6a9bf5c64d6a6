//! Content hashes of functions and modules.
//!
//! Two functions have one hash if they are the same computation with the same interface. In the
//! hash: parameters in order with types, weight and state paths, names of inputs and outputs
//! (tensors are bound by them), ops with their attributes, how values flow, and, in place of the
//! name of a callee, the callee's hash. Not in the hash, because they do not change the meaning:
//! names and numbers of other values, origins, the name of the function itself, and whatever
//! follows from the rest, such as result types.
//!
//! The hash of a module covers its functions by name and its symbol facts, but not its own name nor
//! the order in which functions and symbols stand.

use crate::attr::Attr;
use crate::module::{FuncId, Function, Module, ParamRole, ResultRole, ValueId};
use crate::types::TensorType;
use llmc_base::{CanonicalHasher, Hash};
use std::collections::BTreeMap;

/// The content hash of a module.
pub fn module_hash(module: &Module) -> Hash {
    let mut hasher = CanonicalHasher::new("llmc.ir.module.v1");
    let mut symbols: Vec<_> = module.symbols.iter().collect();
    symbols.sort_by(|a, b| a.symbol.cmp(&b.symbol));
    hasher.seq(symbols.len());
    for fact in symbols {
        hasher.str(fact.symbol.name()).int(fact.min.into()).int(fact.multiple_of.into());
    }
    let hashes = function_hashes(module);
    let by_name: BTreeMap<&str, &Hash> =
        module.functions.iter().map(|f| f.name.as_str()).zip(&hashes).collect();
    hasher.seq(by_name.len());
    for (name, hash) in by_name {
        hasher.str(name).hash(hash);
    }
    hasher.finish()
}

/// The content hash of one function with everything it calls.
pub fn function_hash(module: &Module, id: FuncId) -> Hash {
    function_hashes(module)[id.index()]
}

/// The content hashes of all functions of a module, in its order.
pub fn function_hashes(module: &Module) -> Vec<Hash> {
    let mut hashes = Vec::with_capacity(module.functions.len());
    let mut callees: BTreeMap<&str, Hash> = BTreeMap::new();
    for function in &module.functions {
        let hash = hash_function(function, &callees);
        callees.entry(&function.name).or_insert(hash);
        hashes.push(hash);
    }
    hashes
}

fn hash_function(function: &Function, callees: &BTreeMap<&str, Hash>) -> Hash {
    let mut hasher = CanonicalHasher::new("llmc.ir.function.v1");
    let mut numbers = vec![u32::MAX; function.values.len()];
    for (number, value) in function.definitions().enumerate() {
        numbers[value.index()] = number as u32;
    }
    let number = |value: ValueId| i128::from(numbers[value.index()]);
    if function.is_composite {
        hasher.field("composite").bool(true);
    }
    hasher.field("params").seq(function.params.len());
    for param in &function.params {
        match &param.role {
            ParamRole::Input => {
                let name = function.value(param.value).name.as_deref();
                hasher.field("input").str(name.unwrap_or(""));
            }
            ParamRole::Weight(path) => _ = hasher.field("weight").str(path),
            ParamRole::State(path) => _ = hasher.field("state").str(path),
        }
        hash_type(&mut hasher, function.ty(param.value));
    }
    hasher.field("nodes").seq(function.nodes.len());
    for node in &function.nodes {
        hasher.str(node.op.name());
        let attrs = node.op.attrs();
        hasher.seq(attrs.len());
        for (name, attr) in attrs {
            hasher.field(name);
            hash_attr(&mut hasher, &attr, callees);
        }
        hasher.seq(node.operands.len());
        node.operands.iter().for_each(|v| _ = hasher.int(number(*v)));
        hasher.int(node.results.len() as i128);
    }
    hasher.field("results").seq(function.results.len());
    for result in &function.results {
        match &result.role {
            ResultRole::Output(name) => hasher.field("output").str(name),
            ResultRole::State(path) => hasher.field("state").str(path),
        };
        hasher.int(number(result.value));
    }
    hasher.finish()
}

fn hash_type(hasher: &mut CanonicalHasher, ty: &TensorType) {
    hasher.str(&ty.dtype.to_string()).seq(ty.rank());
    ty.shape.iter().for_each(|dim| _ = hasher.str(&dim.to_string()));
}

fn hash_attr(hasher: &mut CanonicalHasher, attr: &Attr, callees: &BTreeMap<&str, Hash>) {
    match attr {
        Attr::Bool(value) => _ = hasher.bool(*value),
        Attr::Int(value) => _ = hasher.int((*value).into()),
        Attr::Float(value) => _ = hasher.f64(*value),
        Attr::Word(text) | Attr::Text(text) => _ = hasher.str(text),
        Attr::Ints(values) => {
            hasher.seq(values.len());
            values.iter().for_each(|value| _ = hasher.int((*value).into()));
        }
        Attr::Floats(values) => {
            hasher.seq(values.len());
            values.iter().for_each(|value| _ = hasher.f64(*value));
        }
        Attr::Dims(dims) => {
            hasher.seq(dims.len());
            dims.iter().for_each(|dim| _ = hasher.str(&dim.to_string()));
        }
        Attr::DType(dtype) => _ = hasher.str(&dtype.to_string()),
        Attr::Function(name) => match callees.get(name.as_str()) {
            Some(hash) => _ = hasher.hash(hash),
            None => _ = hasher.str(name),
        },
    }
}

#[cfg(test)]
mod tests;
