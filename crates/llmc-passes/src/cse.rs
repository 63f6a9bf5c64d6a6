//! Common subexpression elimination: equal ops on equal operands are computed once.
//!
//! All ops are pure: even random bits are a function of their operands. Only a
//! call that changes state stays as it is.

use crate::dce::changes_state;
use crate::each_function;
use crate::rebuild::Rebuild;
use llmc_base::Diagnostic;
use llmc_ir::{Module, Op, ValueId};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Computes equal nodes of every function once; the first one stays.
pub fn cse(module: &Module) -> Result<Module, Diagnostic> {
    each_function(module, |new, function| {
        let mut rebuild = Rebuild::new(new, function);
        let mut seen: BTreeMap<String, Vec<ValueId>> = BTreeMap::new();
        for node in &function.nodes {
            if changes_state(new, &node.op) {
                rebuild.copy(node);
                continue;
            }
            let key = key(&node.op, &rebuild.operands(node));
            if let Some(known) = seen.get(&key) {
                for (old, new) in node.results.iter().zip(known) {
                    rebuild.set(*old, *new);
                }
            } else {
                rebuild.copy(node);
                let results = node.results.iter().map(|v| rebuild.get(*v)).collect();
                seen.insert(key, results);
            }
        }
        Ok(rebuild.finish())
    })
}

/// A text that is equal exactly when op, attributes and operands are.
fn key(op: &Op, operands: &[ValueId]) -> String {
    let mut key = op.name().to_string();
    for (name, attr) in op.attrs() {
        // Floats print as the shortest text that reads back to the same bits.
        let _ = write!(key, " {name}={attr}");
    }
    for operand in operands {
        let _ = write!(key, " %{}", operand.0);
    }
    key
}
