//! `compare` and `select`: conditions element by element, and the choice by them.

use super::check;
use crate::attr::{AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{self, EvalError, Mode, Tensor};
use crate::module::Module;
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
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

    fn eval(&self, v: &[&Tensor], _: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::compare(self.kind, v[0], v[1])?])
    }

    fn vjp(&self, _: &mut FunctionBuilder, _: &VjpInput) -> Result<Option<Cotangents>, TypeError> {
        Ok(Some(vec![None, None]))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Compare { kind: CompareKind::Eq },
                    [(f32(&[2, 9]), Fill::Normal), (f32(&[2, 9]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Compare { kind: CompareKind::Ne },
                    [(f32(&[2, 9]), Fill::Normal), (f32(&[2, 9]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Compare { kind: CompareKind::Lt },
                    [(f32(&[2, 9]), Fill::Normal), (f32(&[2, 9]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Compare { kind: CompareKind::Le },
                    [(f32(&[2, 9]), Fill::Normal), (f32(&[2, 9]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Compare { kind: CompareKind::Gt },
                    [(f32(&[2, 9]), Fill::Normal), (f32(&[2, 9]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Compare { kind: CompareKind::Ge },
                    [(f32(&[2, 9]), Fill::Normal), (f32(&[2, 9]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Compare { kind: CompareKind::Le },
                    [(i32(&[33]), Fill::Normal), (i32(&[33]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Compare { kind: CompareKind::Gt },
                    [
                        (typed(DType::U64, &[7]), Fill::Normal),
                        (typed(DType::U64, &[7]), Fill::Normal),
                    ],
                    &[],
                ),
                Sample::new(
                    Compare { kind: CompareKind::Eq },
                    [
                        (typed(DType::Bool, &[7]), Fill::Normal),
                        (typed(DType::Bool, &[7]), Fill::Normal),
                    ],
                    &[],
                ),
            ],
            bad: vec![BadSample::new(
                Compare { kind: CompareKind::Eq },
                [f32(&[2]), i32(&[2])],
                "compare::c1",
            )],
        }
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

    fn eval(&self, v: &[&Tensor], _: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::select(v[0], v[1], v[2])?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None, None, None];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        let condition = input.operands[0];
        let zero = b.constant_like(dy, 0.0)?;
        if input.needed[1] {
            let da = b.select(condition, dy, zero)?;
            out[1] = Some(input.fold(b, 1, da)?);
        }
        if input.needed[2] {
            let db = b.select(condition, zero, dy)?;
            out[2] = Some(input.fold(b, 2, db)?);
        }
        Ok(Some(out))
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Select,
                    [
                        (typed(DType::Bool, &[2, 9]), Fill::Normal),
                        (f32(&[2, 9]), Fill::Normal),
                        (f32(&[2, 9]), Fill::Normal),
                    ],
                    &[1, 2],
                ),
                Sample::new(
                    Select,
                    [
                        (typed(DType::Bool, &[]), Fill::Normal),
                        (i32(&[]), Fill::Normal),
                        (i32(&[]), Fill::Normal),
                    ],
                    &[],
                ),
            ],
            bad: vec![
                BadSample::new(
                    Select,
                    [typed(DType::Bool, &[2]), f32(&[2]), f32(&[3])],
                    "select::c1",
                ),
                BadSample::new(
                    Select,
                    [typed(DType::Bool, &[]), f32(&[2]), f32(&[2])],
                    "select::c2",
                ),
                BadSample::new(Select, [i32(&[2]), f32(&[2]), f32(&[2])], "select::c2"),
            ],
        }
    }
}
