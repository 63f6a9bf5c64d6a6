//! PyTorch from the IR, as a person would have written it.
//!
//! One `nn.Module` per function with weights (and per group of weights, see `outline`), one
//! plain function per function without. Submodules are named so that the `state_dict` has exactly
//! our parameter paths. Composites are spelled as calls of `torch.nn`, `torch.nn.functional` or
//! of short functions that come along; primitives are spelled as expressions; what is not spelled
//! is decomposed. Runs of calls become loops, values used once become part of the expression that uses
//! them.
//!
//! The text runs in any float dtype: `model.double()` gives the numbers of the `real` evaluator.
//! Not emitted: functions with state, and a KV cache.

mod body;
mod classes;
mod file;
mod helpers;
mod outline;
mod spell;
#[cfg(test)]
mod tests;
mod tree;

use llmc_base::expr::Env;
use llmc_ir::{DType, Module, TypeError};

/// What to emit and under which names.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The function that becomes the class `Model`.
    pub entry: &'a str,
    /// Name of the model, for the head of the file.
    pub title: &'a str,
    /// Values of dim symbols that are choices of the model, e.g. `hidden_size`. They become
    /// fields of `Config`; a dim that is a number in the module is a number in the text. The
    /// symbol `num_layers`, if it is here with the number of layers, counts them.
    pub dims: Env,
    /// Name of the file that `load` reads.
    pub weights_file: &'a str,
}

impl<'a> Options<'a> {
    /// Emits `forward` under this title.
    pub fn new(title: &'a str) -> Self {
        Options { entry: "forward", title, dims: Env::new(), weights_file: "model.safetensors" }
    }
}

/// Why a module has no PyTorch text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// No such function.
    #[error("there is no function `@{0}`")]
    UnknownFunction(String),
    /// State would have to be passed along.
    #[error("function `@{function}` has state `{path}`, which is not emitted")]
    State {
        /// The function.
        function: String,
        /// Path of the state.
        path: String,
    },
    /// PyTorch cannot compute with this dtype.
    #[error("PyTorch does not compute in `{dtype}` (in function `@{function}`)")]
    DType {
        /// The function.
        function: String,
        /// The dtype.
        dtype: DType,
    },
    /// PyTorch has no product of these bits.
    #[error(
        "`{op}` of function `@{function}` takes its products in bf16, which is not emitted; emit the \
         model rather than its training"
    )]
    Precision {
        /// The function.
        function: String,
        /// The op.
        op: &'static str,
    },
    /// A path that names no attribute, or two things at one place.
    #[error("`{path}` cannot name a module: `{name}` is taken or reserved")]
    Path {
        /// The path.
        path: String,
        /// The name in it.
        name: String,
    },
    /// A function with weights that is called without a scope, or by `if`, `while`, `scan`.
    #[error("`@{function}` calls `@{callee}`, which has weights, without a scope of its own")]
    Scope {
        /// The caller.
        function: String,
        /// The callee.
        callee: String,
    },
    /// A dim symbol that no input shows.
    #[error("dim `{symbol}` of function `@{function}` is the dim of no input")]
    Symbol {
        /// The function.
        function: String,
        /// The symbol.
        symbol: String,
    },
    /// A decomposition failed.
    #[error(transparent)]
    Type(#[from] TypeError),
}

/// The text of `model.py`.
///
/// Errors: see [`EmitError`].
pub fn emit(module: &Module, options: &Options<'_>) -> Result<String, EmitError> {
    file::emit(module, options)
}
