//! All ops: one file each, one list.
//!
//! To add a composite, write its file and add two lines here: its `mod` and its
//! entry in `ops!`, which also makes it public. Everything else (text form, suites, training, running,
//! emitting) follows from the decomposition.

mod attention;
mod attention_backward;
mod binary;
mod call;
mod cast;
pub(crate) mod check;
mod compare;
mod concat;
mod constant;
mod control;
mod cross_entropy;
mod dot;
mod dropout;
mod embedding;
mod gather;
mod gelu;
mod gelu_tanh;
mod group_quantized_linear;
mod layer_norm;
mod linear;
mod linear_cross_entropy;
mod lion_step;
mod newton_schulz;
mod optimizer;
mod packed_linear;
mod precision;
mod quantize_rows;
mod quantized_linear;
mod random;
mod reduce;
mod relu;
mod relu_squared;
mod rms_norm;
mod rope;
mod shape;
mod silu;
mod slice;
mod softmax;
mod swiglu;
mod unary;

pub use binary::BinaryKind;
pub use call::{Bindings, applied, unify};
pub use check::compute_dtype;
pub use compare::CompareKind;
pub use cross_entropy::IGNORE_INDEX;
pub use precision::Precision;
pub use reduce::{Order, ReduceKind};
pub use rope::{RopeScaling, rope_frequencies};
pub use unary::UnaryKind;

use crate::attr::{AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{EvalError, Mode, Tensor};
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::sample::Samples;
use crate::types::{TensorType, TypeError};
use llmc_base::Expr;

/// Generates the closed enum and its dispatch from the list of ops.
macro_rules! ops {
    ($($file:ident::$name:ident),* $(,)?) => {
        $(pub use $file::$name;)*

        /// Any op.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)] // Each variant is documented on its struct.
        pub enum Op { $($name($name),)* }

        $(impl From<$name> for Op {
            fn from(op: $name) -> Op {
                Op::$name(op)
            }
        })*

        impl Op {
            /// Names of all ops, in the order of the list.
            pub const NAMES: &'static [&'static str] = &[$(<$name as OpDef>::NAME,)*];

            /// (name, name of the struct, class) of all ops, in the order of the list.
            pub const LIST: &'static [(&'static str, &'static str, Class)] =
                &[$((<$name as OpDef>::NAME, stringify!($name), <$name as OpDef>::CLASS),)*];

            /// The op of this name from attributes. `None`: no such op.
            pub fn parse(name: &str, attrs: Vec<(String, crate::Attr)>) -> Option<Result<Op, AttrError>> {
                Op::read(name, &mut AttrReader::new(attrs))
            }

            /// [`Op::parse`] with the reader left to the caller, who can ask it what went wrong.
            pub fn read(name: &str, reader: &mut AttrReader) -> Option<Result<Op, AttrError>> {
                $(if name == <$name as OpDef>::NAME {
                    let op = <$name as OpDef>::from_attrs(reader).map(Op::$name);
                    return Some(op.and_then(|op| reader.finish().map(|()| op)));
                })*
                None
            }

            /// Samples of every op, by name, in the order of the list.
            pub fn all_samples() -> Vec<(&'static str, Samples)> {
                vec![$((<$name as OpDef>::NAME, <$name as OpDef>::samples()),)*]
            }

            /// Name in the text form.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$name(_) => <$name as OpDef>::NAME,)* }
            }

            /// Primitive, composite or region.
            pub fn class(&self) -> Class {
                match self { $(Op::$name(_) => <$name as OpDef>::CLASS,)* }
            }

            /// See [`OpDef::attrs`].
            pub fn attrs(&self) -> Attrs {
                match self { $(Op::$name(op) => op.attrs(),)* }
            }

            /// See [`OpDef::infer`]; besides, every type must be of a sane size (`<op>::size`).
            pub fn infer(&self, module: &Module, operands: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
                check::check_types(self.name(), operands)?;
                let results = match self { $(Op::$name(op) => op.infer(module, operands)?,)* };
                check::check_types(self.name(), &results)?;
                Ok(results)
            }

            /// See [`OpDef::map_dims`].
            pub fn map_dims(&self, f: &dyn Fn(&Expr) -> Expr) -> Op {
                match self { $(Op::$name(op) => Op::$name(op.map_dims(f)),)* }
            }

            /// See [`OpDef::decompose`].
            pub fn decompose(&self, b: &mut FunctionBuilder, operands: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
                match self { $(Op::$name(op) => op.decompose(b, operands),)* }
            }

            /// See [`OpDef::eval`].
            pub fn eval(&self, operands: &[&Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
                match self { $(Op::$name(op) => op.eval(operands, mode),)* }
            }

            /// See [`OpDef::vjp`].
            pub fn vjp(&self, b: &mut FunctionBuilder, input: &VjpInput) -> Result<Option<Cotangents>, TypeError> {
                match self { $(Op::$name(op) => op.vjp(b, input),)* }
            }

            /// See [`OpDef::cost`].
            pub fn cost(&self, operands: &[TensorType], results: &[TensorType]) -> Cost {
                match self { $(Op::$name(op) => op.cost(operands, results),)* }
            }
        }
    };
}

ops! {
    // Primitives.
    constant::Constant,
    constant::Literal,
    constant::Iota,
    constant::DimSize,
    unary::Unary,
    binary::Binary,
    compare::Compare,
    compare::Select,
    cast::Cast,
    reduce::Reduce,
    dot::Dot,
    gather::Gather,
    gather::ScatterAdd,
    shape::Reshape,
    shape::Transpose,
    shape::Broadcast,
    slice::Slice,
    slice::Pad,
    concat::Concat,
    concat::UpdateSlice,
    random::RandomBits,
    // Composites.
    linear::Linear,
    linear::LinearWeightGrad,
    linear::BiasGrad,
    linear_cross_entropy::LinearCrossEntropy,
    linear_cross_entropy::LinearCrossEntropyGrad,
    packed_linear::PackedLinear,
    quantized_linear::QuantizedLinear,
    group_quantized_linear::GroupQuantizedLinear,
    embedding::Embedding,
    embedding::EmbeddingGrad,
    packed_linear::PackedEmbedding,
    quantized_linear::QuantizedEmbedding,
    quantize_rows::QuantizeRows,
    rms_norm::RmsNorm,
    rms_norm::RmsNormBackward,
    layer_norm::LayerNorm,
    layer_norm::LayerNormBackward,
    relu::Relu,
    relu::ReluBackward,
    relu_squared::ReluSquared,
    gelu::Gelu,
    gelu::GeluBackward,
    gelu_tanh::GeluTanh,
    gelu_tanh::GeluTanhBackward,
    silu::Silu,
    silu::SiluBackward,
    swiglu::Swiglu,
    swiglu::SwigluBackward,
    rope::Rope,
    softmax::Softmax,
    attention::Attention,
    attention_backward::AttentionBackward,
    cross_entropy::CrossEntropy,
    cross_entropy::CrossEntropyBackward,
    dropout::Dropout,
    optimizer::AdamwStep,
    optimizer::SgdStep,
    lion_step::LionStep,
    newton_schulz::NewtonSchulz,
    // Regions.
    call::Call,
    control::If,
    control::While,
    control::Scan,
}
