//! `if`, `while`, `scan`: control flow whose parts are functions of the module.
//!
//! Weights and state of the parts are found under the scope of the function that holds the node.

use super::call::applied;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::cost::Cost;
use crate::module::{Function, Module, ValueId};
use crate::op::{Class, OpDef};
use crate::sample::Samples;
use crate::types::{DType, TensorType, TypeError, ensure};
use llmc_base::Expr;

/// Runs one of two functions.
///
/// condition: bool[], then the inputs of both functions → their outputs, whose types agree.
///
/// Errors: `if::c0` if a function does not exist, `if::c1` if the condition is not bool[],
/// `if::c2` if the functions give different types, `call::…` if inputs do not fit.
#[derive(Clone, Debug, PartialEq)]
pub struct If {
    /// The function that runs if the condition holds.
    pub then_fn: String,
    /// The function that runs otherwise.
    pub else_fn: String,
}

/// Runs a function over its own results while a condition holds.
///
/// init: the inputs of both functions → the same types. `cond` gives bool[], `body` the next values.
///
/// Errors: `while::c0` if a function does not exist, `while::c1` if `cond` does not give bool[],
/// `while::c2` if `body` does not give the types it takes, `call::…` if inputs do not fit.
#[derive(Clone, Debug, PartialEq)]
pub struct While {
    /// Whether to go on.
    pub cond: String,
    /// One round.
    pub body: String,
}

/// Runs a function once for each slice of the leading axis, carrying values along.
///
/// carry…, xs: [N, ...]… → carry…, ys: [N, ...]…. The body takes (carry…, x…) and gives
/// (carry…, y…). An operand is carried if it has the rank of the body's input, and sliced if it has
/// one axis more; the carried ones come first, and at least one is sliced.
///
/// Errors: `scan::c0` if the body does not exist, `scan::c1` if the operands do not split into
/// carried and sliced ones of one N, `scan::c2` if the body does not give the carried types,
/// `call::…` if inputs do not fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// One round.
    pub body: String,
    /// From the last slice to the first; y of slice i stays at i.
    pub reverse: bool,
}

/// The function of this name.
fn find<'m>(module: &'m Module, op: &str, name: &str) -> Result<&'m Function, TypeError> {
    let id = module
        .find(name)
        .ok_or_else(|| TypeError::new(format!("{op}::c0"), format!("no function `@{name}`")))?;
    Ok(module.function(id))
}

impl Scan {
    /// How many operands are carried, and the number of slices.
    pub fn split(
        &self,
        module: &Module,
        operands: &[TensorType],
    ) -> Result<(usize, Expr), TypeError> {
        let body = find(module, Self::NAME, &self.body)?;
        let rank = |v: ValueId| body.values.get(v.index()).map_or(0, |v| v.ty.rank());
        let ranks: Vec<usize> = body.inputs().map(rank).collect();
        let error = || {
            let message = format!("operands of `scan` do not fit the inputs of `@{}`", self.body);
            TypeError::new("scan::c1", message)
        };
        if ranks.len() != operands.len() {
            return Err(error());
        }
        let carried = ranks.iter().zip(operands).take_while(|(r, ty)| ty.rank() == **r).count();
        let sliced = &operands[carried..];
        let fits = ranks[carried..].iter().zip(sliced).all(|(r, ty)| ty.rank() == r + 1);
        let length = sliced.first().and_then(|ty| ty.shape.first()).cloned();
        match length {
            Some(n) if fits && sliced.iter().all(|ty| ty.shape[0] == n) => Ok((carried, n)),
            _ => Err(error()),
        }
    }
}

impl OpDef for If {
    const NAME: &'static str = "if";
    const CLASS: Class = Class::Region;

    fn attrs(&self) -> Attrs {
        vec![
            ("then", Attr::Function(self.then_fn.clone())),
            ("else", Attr::Function(self.else_fn.clone())),
        ]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(If { then_fn: attrs.req("then")?, else_fn: attrs.req("else")? })
    }

    fn infer(&self, module: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let (condition, inputs) = types
            .split_first()
            .ok_or_else(|| TypeError::new("if::arity", "`if` takes a condition, got no operand"))?;
        ensure(condition == &TensorType::scalar(DType::Bool), "if::c1", || {
            format!("the condition has type {condition}, expected bool[]")
        })?;
        let yes = applied(find(module, Self::NAME, &self.then_fn)?, inputs)?;
        let no = applied(find(module, Self::NAME, &self.else_fn)?, inputs)?;
        ensure(yes == no, "if::c2", || {
            format!("`@{}` gives {yes:?}, `@{}` gives {no:?}", self.then_fn, self.else_fn)
        })?;
        Ok(yes)
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        // The parts are added by whoever walks the module.
        Cost::default()
    }

    fn samples() -> Samples {
        // Regions need a module; their suites build their own.
        Samples::default()
    }
}

impl OpDef for While {
    const NAME: &'static str = "while";
    const CLASS: Class = Class::Region;

    fn attrs(&self) -> Attrs {
        vec![
            ("cond", Attr::Function(self.cond.clone())),
            ("body", Attr::Function(self.body.clone())),
        ]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(While { cond: attrs.req("cond")?, body: attrs.req("body")? })
    }

    fn infer(&self, module: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let cond = applied(find(module, Self::NAME, &self.cond)?, types)?;
        ensure(cond == [TensorType::scalar(DType::Bool)], "while::c1", || {
            format!("`@{}` gives {cond:?}, expected bool[]", self.cond)
        })?;
        let body = applied(find(module, Self::NAME, &self.body)?, types)?;
        ensure(body == types, "while::c2", || {
            format!("`@{}` gives {body:?}, expected {types:?}", self.body)
        })?;
        Ok(body)
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        // The parts are added by whoever walks the module.
        Cost::default()
    }

    fn samples() -> Samples {
        // Regions need a module; their suites build their own.
        Samples::default()
    }
}

impl OpDef for Scan {
    const NAME: &'static str = "scan";
    const CLASS: Class = Class::Region;

    fn attrs(&self) -> Attrs {
        let mut attrs = vec![("body", Attr::Function(self.body.clone()))];
        if self.reverse {
            attrs.push(("reverse", Attr::Bool(true)));
        }
        attrs
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Scan { body: attrs.req("body")?, reverse: attrs.opt("reverse")?.unwrap_or(false) })
    }

    fn infer(&self, module: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let (carried, length) = self.split(module, types)?;
        let mut inputs = types.to_vec();
        inputs[carried..].iter_mut().for_each(|ty| drop(ty.shape.remove(0)));
        let mut outputs = applied(find(module, Self::NAME, &self.body)?, &inputs)?;
        ensure(outputs.get(..carried) == Some(&inputs[..carried]), "scan::c2", || {
            format!(
                "`@{}` gives {outputs:?}, expected to start with {:?}",
                self.body,
                &inputs[..carried]
            )
        })?;
        outputs[carried..].iter_mut().for_each(|ty| ty.shape.insert(0, length.clone()));
        Ok(outputs)
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        // The rounds are added by whoever walks the module.
        Cost::default()
    }

    fn samples() -> Samples {
        // Regions need a module; their suites build their own.
        Samples::default()
    }
}
