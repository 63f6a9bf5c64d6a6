//! Legalisation: composites that a target does not keep become their decompositions.
//!
//! The decomposition of a composite may hold composites again; they are treated the same way.

use crate::rebuild::Rebuild;
use crate::{each_function, type_error};
use llmc_base::Diagnostic;
use llmc_ir::{Class, Function, Module, Op};

/// Decomposes every composite for which `keep` is false, at any depth.
///
/// Errors: `legalise::type` if a decomposition does not type-check.
pub fn legalise(module: &Module, keep: &dyn Fn(&Op) -> bool) -> Result<Module, Diagnostic> {
    let goes = |op: &Op| op.class() == Class::Composite && !keep(op);
    each_function(module, |new, function| {
        let mut function = function.clone();
        while function.nodes.iter().any(|node| goes(&node.op)) {
            function = decompose_once(new, &function, &goes)?;
        }
        Ok(function)
    })
}

/// One level: the composites that `goes` selects become the nodes of their decompositions.
fn decompose_once(
    module: &Module,
    function: &Function,
    goes: &dyn Fn(&Op) -> bool,
) -> Result<Function, Diagnostic> {
    let mut rebuild = Rebuild::new(module, function);
    for node in &function.nodes {
        if !goes(&node.op) {
            rebuild.copy(node);
            continue;
        }
        let operands = rebuild.operands(node);
        rebuild.b.set_origin(node.origin);
        let results = node
            .op
            .decompose(&mut rebuild.b, &operands)
            .map_err(|e| type_error("legalise", &function.name, &e))?;
        for (old, new) in node.results.iter().zip(results) {
            rebuild.set(*old, new);
        }
    }
    Ok(rebuild.finish())
}
