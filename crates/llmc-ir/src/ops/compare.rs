//! `compare` and `select`: conditions element by element, and the choice by them.

use super::check;
use crate::attr::{AttrError, AttrReader, Attrs};
use crate::cost::Cost;
use crate::module::Module;
use crate::op::{Class, OpDef};
use crate::sample::Samples;
use crate::types::{DType, TensorType, TypeError, ensure, operands};

/// Which comparison; on floats as IEEE 754 has it, so that NaN differs from everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it all.
pub enum CompareKind {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl CompareKind {
    /// Every kind with its word in the text form.
    pub const WORDS: [(CompareKind, &'static str); 6] = [
        (CompareKind::Eq, "eq"),
        (CompareKind::Ne, "ne"),
        (CompareKind::Lt, "lt"),
        (CompareKind::Le, "le"),
        (CompareKind::Gt, "gt"),
        (CompareKind::Ge, "ge"),
    ];
}

/// Compares two operands of one type, element by element.
///
/// a, b: one type → bool of their shape.
///
/// Errors: `compare::c1` if the types differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare {
    /// The comparison.
    pub kind: CompareKind,
}

/// Takes a where the condition holds and b elsewhere.
///
/// condition: bool, a and b: one type, all of one shape → the type of a.
///
/// Errors: `select::c1` if a and b differ, `select::c2` if the condition is no bool of their shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Select;

impl OpDef for Compare {
    const NAME: &'static str = "compare";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![("kind", check::word(&CompareKind::WORDS, &self.kind))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Compare { kind: check::required_kind(&CompareKind::WORDS, attrs, "kind")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [a, b] = operands(Self::NAME, types)?;
        check::ensure_same("compare::c1", "b", b, a)?;
        Ok(vec![a.with_dtype(DType::Bool)])
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples::default()
    }
}

impl OpDef for Select {
    const NAME: &'static str = "select";
    const CLASS: Class = Class::Primitive;

    fn from_attrs(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Select)
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [condition, a, b] = operands(Self::NAME, types)?;
        check::ensure_same("select::c1", "b", b, a)?;
        ensure(condition == &a.with_dtype(DType::Bool), "select::c2", || {
            format!("the condition has type {condition}, expected bool of the shape of {a}")
        })?;
        Ok(vec![a.clone()])
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples::default()
    }
}
