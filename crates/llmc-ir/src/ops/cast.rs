//! `cast`: another element type.

use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::cost::Cost;
use crate::module::Module;
use crate::op::{Class, OpDef};
use crate::sample::Samples;
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

    fn cost(&self, _: &[TensorType], _: &[TensorType]) -> Cost {
        Cost::default()
    }

    fn samples() -> Samples {
        Samples::default()
    }
}
