//! `cast`: another element type.

use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{self, EvalError, Mode, Tensor};
use crate::module::Module;
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::{BadSample, Fill, Sample, Samples, f32, typed};
use crate::types::{DType, TensorType, TypeError, operands};

/// Converts every element to another dtype.
///
/// x: any → the shape of x with `dtype`. To a float: rounded to nearest even; f8e4m3 overflows
/// to NaN, the others to infinity. Float to integer: truncated, out of range clamped, NaN to 0.
/// Integer to integer: the low bits. To `bool`: whether it is not 0. From `bool`: 0 or 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Cast {
    /// The element type of the result.
    pub dtype: DType,
}

impl OpDef for Cast {
    const NAME: &'static str = "cast";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![("dtype", Attr::DType(self.dtype))]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Cast { dtype: attrs.req("dtype")? })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = operands(Self::NAME, types)?;
        Ok(vec![x.with_dtype(self.dtype)])
    }

    fn eval(&self, v: &[&Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::cast(self.dtype, v[0], mode)])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let from = b.ty(input.operands[0]).dtype;
        match input.cotangents[0] {
            Some(dy) if input.needed[0] && from.is_float() && self.dtype.is_float() => {
                let dx = b.cast(dy, from)?;
                Ok(Some(vec![Some(input.fold(b, 0, dx)?)]))
            }
            _ => Ok(Some(vec![None])),
        }
    }

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Cast { dtype: DType::Bf16 },
                    [(typed(DType::F32, &[3, 5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Cast { dtype: DType::F16 },
                    [(typed(DType::F32, &[3, 5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Cast { dtype: DType::F64 },
                    [(typed(DType::F32, &[3, 5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Cast { dtype: DType::F32 },
                    [(typed(DType::F64, &[3, 5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Cast { dtype: DType::F32 },
                    [(typed(DType::Bf16, &[3, 5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Cast { dtype: DType::F8E4M3 },
                    [(typed(DType::F32, &[3, 5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Cast { dtype: DType::F8E5M2 },
                    [(typed(DType::F32, &[3, 5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Cast { dtype: DType::I32 },
                    [(typed(DType::F32, &[3, 5]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Cast { dtype: DType::Bool },
                    [(typed(DType::F32, &[3, 5]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Cast { dtype: DType::F32 },
                    [(typed(DType::I32, &[3, 5]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Cast { dtype: DType::U4 },
                    [(typed(DType::I64, &[3, 5]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Cast { dtype: DType::F32 },
                    [(typed(DType::Bool, &[3, 5]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Cast { dtype: DType::Bf16 },
                    [(typed(DType::U8, &[3, 5]), Fill::Normal)],
                    &[],
                ),
            ],
            bad: vec![BadSample::new(
                Cast { dtype: DType::F32 },
                [f32(&[2]), f32(&[2])],
                "cast::arity",
            )],
        }
    }
}
