//! What a program is: types, ops, modules, text form, verifier, the two
//! reference evaluators, and cost.
//!
//! Named composites are the truth, a small closed set of primitives is the
//! meaning. A composite stays in the graph until a target asks for its
//! decomposition. This crate knows no specs, no target's spelling and no threads.

pub mod account;
pub mod attr;
pub mod builder;
pub mod cost;
pub mod eval;
pub mod generate;
pub mod graph;
pub mod hash;
pub mod module;
pub mod op;
pub mod ops;
pub mod sample;
pub mod text;
pub mod types;
pub mod verify;

pub use attr::{Attr, AttrError, AttrReader, Attrs};
pub use builder::FunctionBuilder;
pub use cost::Cost;
pub use module::{
    FuncId, Function, Module, Node, NodeId, OriginId, Param, ParamRole, ResultInfo, ResultRole,
    SymbolFact, ValueData, ValueDef, ValueId,
};
pub use op::{Class, Cotangents, OpDef, VjpInput};
pub use ops::Op;
pub use types::{DType, TensorType, TypeError};
