//! Element types, tensor types and type errors.

use llmc_base::Expr;
use llmc_base::expr::Env;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // The names say it all.
pub enum DType {
    Bool,
    I4,
    I8,
    I16,
    I32,
    I64,
    U4,
    U8,
    U16,
    U32,
    U64,
    F8E4M3,
    F8E5M2,
    Bf16,
    F16,
    F32,
    F64,
}

impl DType {
    /// Every dtype with its text form.
    pub const ALL: [(DType, &'static str); 17] = [
        (DType::Bool, "bool"),
        (DType::I4, "i4"),
        (DType::I8, "i8"),
        (DType::I16, "i16"),
        (DType::I32, "i32"),
        (DType::I64, "i64"),
        (DType::U4, "u4"),
        (DType::U8, "u8"),
        (DType::U16, "u16"),
        (DType::U32, "u32"),
        (DType::U64, "u64"),
        (DType::F8E4M3, "f8e4m3"),
        (DType::F8E5M2, "f8e5m2"),
        (DType::Bf16, "bf16"),
        (DType::F16, "f16"),
        (DType::F32, "f32"),
        (DType::F64, "f64"),
    ];

    /// Width in bits.
    pub fn bits(self) -> u32 {
        match self {
            DType::I4 | DType::U4 => 4,
            DType::Bool | DType::I8 | DType::U8 | DType::F8E4M3 | DType::F8E5M2 => 8,
            DType::I16 | DType::U16 | DType::Bf16 | DType::F16 => 16,
            DType::I32 | DType::U32 | DType::F32 => 32,
            DType::I64 | DType::U64 | DType::F64 => 64,
        }
    }

    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            DType::F8E4M3 | DType::F8E5M2 | DType::Bf16 | DType::F16 | DType::F32 | DType::F64
        )
    }

    /// Whether it is a signed or unsigned integer type (not `bool`).
    pub fn is_int(self) -> bool {
        !self.is_float() && self != DType::Bool
    }

    /// Whether it is an integer type with a sign.
    pub fn is_signed_int(self) -> bool {
        matches!(self, DType::I4 | DType::I8 | DType::I16 | DType::I32 | DType::I64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(d, _)| d == self).map_or("?", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(d, _)| *d)
            .ok_or_else(|| format!("unknown dtype `{text}`"))
    }
}

/// Element type and shape. Rank is static; dims are expressions over symbols.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dims, outermost first; empty for a scalar.
    pub shape: Vec<Expr>,
}

impl TensorType {
    /// A type from anything that becomes dims.
    pub fn new<D: Into<Expr>>(dtype: DType, shape: impl IntoIterator<Item = D>) -> Self {
        TensorType { dtype, shape: shape.into_iter().map(Into::into).collect() }
    }

    /// A scalar.
    pub fn scalar(dtype: DType) -> Self {
        TensorType { dtype, shape: Vec::new() }
    }

    /// Number of dims.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn numel(&self) -> Expr {
        Expr::product(&self.shape)
    }

    /// The same shape with another element type.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        TensorType { dtype, shape: self.shape.clone() }
    }

    /// The shape as numbers, if no symbol is left.
    pub fn concrete(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(Expr::as_usize).collect()
    }

    /// Replaces symbols by constants.
    pub fn bind(&self, env: &Env) -> Self {
        TensorType { dtype: self.dtype, shape: self.shape.iter().map(|d| d.bind(env)).collect() }
    }
}

/// `f32[B, T, 64]`; a scalar is `f32[]`.
impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, dim) in self.shape.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why an op does not accept its operands or attributes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct TypeError {
    /// Stable code: the op and the number of the broken constraint, e.g. `attention::c2`.
    pub code: String,
    /// Lower case, with the values.
    pub message: String,
}

impl TypeError {
    /// An error with its code.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        TypeError { code: code.into(), message: message.into() }
    }
}

/// `Err(TypeError)` unless the condition holds.
pub fn ensure(holds: bool, code: &str, message: impl FnOnce() -> String) -> Result<(), TypeError> {
    if holds { Ok(()) } else { Err(TypeError::new(code, message())) }
}

/// The operands as an array of exactly `N`; code `<op>::arity` otherwise.
pub fn operands<'a, const N: usize>(
    op: &str,
    operands: &'a [TensorType],
) -> Result<&'a [TensorType; N], TypeError> {
    operands.try_into().map_err(|_| {
        TypeError::new(
            format!("{op}::arity"),
            format!("`{op}` takes {N} operands, got {}", operands.len()),
        )
    })
}
