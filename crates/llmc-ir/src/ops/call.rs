//! `call`: applies another function of the module under a parameter scope.
//!
//! `%y = call @layer(%x) {scope = "layers.3"}`. Operands and results are the
//! callee's inputs and outputs; its weights and state are found by scope. The
//! callee's dim symbols are bound by unifying its input types with the operands.

use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::cost::Cost;
use crate::module::{Function, Module, ValueId};
use crate::op::{Class, OpDef};
use crate::sample::Samples;
use crate::types::{TensorType, TypeError, ensure};
use llmc_base::{Expr, Symbol};
use std::collections::BTreeMap;

/// A call of a function.
///
/// The inputs of the callee, in order → its outputs. Dim symbols of the callee that its inputs do
/// not bind stand for the caller's symbols of the same name.
///
/// Errors: `call::c0` if there is no such function, `call::arity`, `call::c2` if an operand has
/// another rank or dtype than the input, `call::c3` if its dims do not fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Name of the callee.
    pub callee: String,
    /// Prefix of the callee's weight and state paths; may be empty.
    pub scope: String,
}

/// What the callee's symbols stand for at a call.
pub type Bindings = BTreeMap<Symbol, Expr>;

/// Unifies the callee's input types with the operand types.
///
/// Errors: `call::c2` (rank or dtype), `call::c3` (dims).
pub fn unify(expected: &[TensorType], actual: &[TensorType]) -> Result<Bindings, TypeError> {
    let mut bound = Bindings::new();
    let mut later = Vec::new();
    for (i, (want, got)) in expected.iter().zip(actual).enumerate() {
        ensure(want.dtype == got.dtype && want.rank() == got.rank(), "call::c2", || {
            format!("input {i} has type {got}, expected {want}")
        })?;
        for (w, g) in want.shape.iter().zip(&got.shape) {
            match w.as_symbol() {
                Some(symbol) if !bound.contains_key(symbol) => {
                    bound.insert(symbol.clone(), g.clone());
                }
                _ => later.push((i, w, g, want, got)),
            }
        }
    }
    for (i, w, g, want, got) in later {
        let w = w.substitute(&|s| bound.get(s).cloned());
        ensure(&w == g, "call::c3", || {
            format!("input {i} has type {got}, expected {want}: dim `{g}` is not `{w}`")
        })?;
    }
    Ok(bound)
}

/// The output types of a function for operands of these types.
///
/// Errors: `call::arity`, `call::c2` (rank or dtype), `call::c3` (dims).
pub fn applied(callee: &Function, operands: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
    let ty = |value: ValueId| {
        callee.values.get(value.index()).map(|v| v.ty.clone()).ok_or_else(|| {
            TypeError::new("call::c0", format!("`@{}` has no value {}", callee.name, value.0))
        })
    };
    let expected = callee.inputs().map(ty).collect::<Result<Vec<_>, _>>()?;
    ensure(expected.len() == operands.len(), "call::arity", || {
        format!("`@{}` takes {} inputs, got {}", callee.name, expected.len(), operands.len())
    })?;
    let bound = unify(&expected, operands)?;
    let mut outputs = Vec::new();
    for (_, value) in callee.outputs() {
        let mut output = ty(value)?;
        for dim in &mut output.shape {
            *dim = dim.substitute(&|s| bound.get(s).cloned());
        }
        outputs.push(output);
    }
    Ok(outputs)
}

impl OpDef for Call {
    const NAME: &'static str = "call";
    const CLASS: Class = Class::Region;

    fn attrs(&self) -> Attrs {
        let mut attrs = vec![("callee", Attr::Function(self.callee.clone()))];
        if !self.scope.is_empty() {
            attrs.push(("scope", Attr::Text(self.scope.clone())));
        }
        attrs
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Call { callee: attrs.req("callee")?, scope: attrs.opt("scope")?.unwrap_or_default() })
    }

    fn infer(
        &self,
        module: &Module,
        operands: &[TensorType],
    ) -> Result<Vec<TensorType>, TypeError> {
        let id = module
            .find(&self.callee)
            .ok_or_else(|| TypeError::new("call::c0", format!("no function `@{}`", self.callee)))?;
        applied(module.function(id), operands)
    }

    fn cost(&self, _operands: &[TensorType], _results: &[TensorType]) -> Cost {
        // The callee's cost is added by whoever walks the module.
        Cost::default()
    }

    fn samples() -> Samples {
        // Calls need a module; the region suites build their own.
        Samples::default()
    }
}
