//! Types: every result type is inferred again, every symbol must be known, every size sane.

use super::calls::Calls;
use super::{At, Check, Site, Verifier};
use crate::attr::Attr;
use crate::module::NodeId;
use crate::text::limits::{MAX_FUNCTIONS, MAX_NODES, check_dims, check_type};
use crate::types::TensorType;
use llmc_base::{Expr, Symbol};
use std::collections::BTreeSet;

/// Checks the types of one function.
pub(super) fn function(v: &mut Verifier, at: &At, calls: &Calls) {
    let f = at.function;
    if at.id.0 == 0 {
        module_size(v);
    }
    let mut known: BTreeSet<Symbol> = v.module.symbols.iter().map(|s| s.symbol.clone()).collect();
    known.extend(f.inputs().flat_map(|i| &f.ty(i).shape).filter_map(Expr::as_symbol).cloned());
    let mut unknown = BTreeSet::new();
    for (i, param) in f.params.iter().enumerate() {
        let site = Site::Param(at.id, i);
        dims(v, &site, &f.ty(param.value).shape, &known, &mut unknown);
    }
    for (i, node) in f.nodes.iter().enumerate() {
        let site = Site::Node(at.id, NodeId(i as u32));
        for (_, attr) in node.op.attrs() {
            if let Attr::Dims(attr_dims) = attr {
                dims(v, &site, &attr_dims, &known, &mut unknown);
            }
        }
        for result in &node.results {
            dims(v, &site, &f.ty(*result).shape, &known, &mut unknown);
        }
        if !calls.is_sound(at.id, i) {
            continue;
        }
        let operands: Vec<TensorType> = node.operands.iter().map(|o| f.ty(*o).clone()).collect();
        if operands.iter().any(|ty| check_type(ty).is_err()) {
            continue;
        }
        let recorded: Vec<&TensorType> = node.results.iter().map(|r| f.ty(*r)).collect();
        match node.op.infer(v.module, &operands) {
            Err(error) => v.report(Check::Operands, site, error.to_string()),
            Ok(inferred) if !inferred.iter().eq(recorded.iter().copied()) => {
                let message = format!("results have types {recorded:?}, inferred {inferred:?}");
                v.report(Check::Type, site, message);
            }
            Ok(_) => {}
        }
    }
}

fn module_size(v: &mut Verifier) {
    let n_functions = v.module.functions.len();
    let n_nodes: usize = v.module.functions.iter().map(|f| f.nodes.len()).sum();
    if n_functions > MAX_FUNCTIONS || n_nodes > MAX_NODES {
        let message = format!(
            "{n_functions} functions with {n_nodes} nodes are more than {MAX_FUNCTIONS} with {MAX_NODES}"
        );
        v.report(Check::Size, Site::Module, message);
    }
}

/// Each unknown symbol is reported once in a function.
fn dims(
    v: &mut Verifier,
    site: &Site,
    dims: &[Expr],
    known: &BTreeSet<Symbol>,
    unknown: &mut BTreeSet<Symbol>,
) {
    if let Err(message) = check_dims(dims) {
        v.report(Check::Size, site.clone(), message);
    }
    for symbol in dims.iter().flat_map(Expr::symbols) {
        if !known.contains(&symbol) && unknown.insert(symbol.clone()) {
            let message =
                format!("symbol `{symbol}` is neither declared nor bound by a dim of an input");
            v.report(Check::Symbol, site.clone(), message);
        }
    }
}
