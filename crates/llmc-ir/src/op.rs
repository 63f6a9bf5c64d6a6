//! The one trait that every op implements.

use crate::attr::{AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{EvalError, Mode, Tensor};
use crate::module::{Module, ValueId};
use crate::sample::Samples;
use crate::types::{TensorType, TypeError};
use llmc_base::Expr;
use std::fmt;

/// Whether an op is part of the meaning or a name for a decomposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Closed set; has an evaluation and a gradient of its own.
    Primitive,
    /// Has a decomposition into primitives (and simpler composites).
    Composite,
    /// Calls functions: `call`, `if`, `while`, `scan`. Handled by whoever walks modules.
    Region,
}

/// What a vector-Jacobian product starts from. All values live in the function being built.
pub struct VjpInput<'a> {
    /// Operands of the node.
    pub operands: &'a [ValueId],
    /// Results of the node.
    pub results: &'a [ValueId],
    /// Cotangent of each result; `None` is zero.
    pub cotangents: &'a [Option<ValueId>],
    /// Which operands need a cotangent.
    pub needed: &'a [bool],
    /// Per operand: an accumulator that the contribution must be folded into, in token
    /// order (numerics.md). `None`: return the plain cotangent.
    pub accumulators: &'a [Option<ValueId>],
}

impl VjpInput<'_> {
    /// The contribution to operand `i`, added to its accumulator if there is one: for ops that
    /// have no accumulating form.
    pub fn fold(
        &self,
        b: &mut FunctionBuilder,
        i: usize,
        contribution: ValueId,
    ) -> Result<ValueId, TypeError> {
        let Some(accumulator) = self.accumulators[i] else { return Ok(contribution) };
        let contribution = b.cast(contribution, b.ty(accumulator).dtype)?;
        b.add(accumulator, contribution)
    }
}

/// Per operand: its cotangent. Where an accumulator was given, the accumulated value.
pub type Cotangents = Vec<Option<ValueId>>;

/// An op: its attributes are the fields of the implementing struct.
pub trait OpDef: Clone + PartialEq + fmt::Debug + Sized {
    /// Name in the text form, e.g. `rms_norm`.
    const NAME: &'static str;
    /// Primitive, composite or region.
    const CLASS: Class;

    /// Attributes in declared order, defaults left out.
    fn attrs(&self) -> Attrs {
        Attrs::new()
    }

    /// The op from attributes; the caller checks that none is left over.
    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError>;

    /// The type rule. Checks everything and gives the result types.
    fn infer(&self, module: &Module, operands: &[TensorType])
    -> Result<Vec<TensorType>, TypeError>;

    /// The op with each dim among its attributes replaced, e.g. symbols by numbers.
    fn map_dims(&self, _f: &dyn Fn(&Expr) -> Expr) -> Self {
        self.clone()
    }

    /// Composite: the meaning, in simpler ops. The operands have passed [`OpDef::infer`].
    fn decompose(
        &self,
        _b: &mut FunctionBuilder,
        _operands: &[ValueId],
    ) -> Result<Vec<ValueId>, TypeError> {
        Err(TypeError::new(
            format!("{}::decompose", Self::NAME),
            "a primitive has no decomposition",
        ))
    }

    /// Primitive: the meaning, as a computation on tensors.
    fn eval(&self, _operands: &[&Tensor], _mode: Mode) -> Result<Vec<Tensor>, EvalError> {
        Err(EvalError::new(format!("`{}` is evaluated by its decomposition", Self::NAME)))
    }

    /// The vector-Jacobian product. `Ok(None)`: differentiate the decomposition instead
    /// (composite), or the op has no gradient (primitive: zero).
    fn vjp(
        &self,
        _b: &mut FunctionBuilder,
        _input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        Ok(None)
    }

    /// FLOPs of one execution. Bytes are derived from the types unless set here.
    fn cost(&self, operands: &[TensorType], results: &[TensorType]) -> Cost;

    /// Inputs that the suites over all ops run: good ones and bad ones with their codes.
    fn samples() -> Samples;
}
