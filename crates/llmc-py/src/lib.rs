//! `llm_compiler._native`: llmc for Python. Conversions only: what a function
//! means is said in the crate `llmc`, and the friendly classes are in Python.
//!
//! Every long call gives up the interpreter's lock; every failure becomes
//! `llm_compiler.CompileError` with the diagnostics of the command line.

mod convert;
mod ir;
mod run;
mod session;
mod training;

use pyo3::prelude::*;

/// The native part of llm_compiler.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<ir::DatasetIR>()?;
    module.add_class::<ir::TokenizerIR>()?;
    module.add_class::<ir::TrainingIR>()?;
    module.add_class::<ir::ModelIR>()?;
    module.add_class::<ir::Graph>()?;
    module.add_class::<training::TrainingResult>()?;
    module.add_class::<run::Run>()?;
    module.add_class::<run::Tokenizer>()?;
    module.add_class::<session::Session>()?;
    module.add_class::<session::Token>()?;
    module.add_class::<session::TokenStream>()?;
    module.add_function(wrap_pyfunction!(ir::compile_dataset, module)?)?;
    module.add_function(wrap_pyfunction!(ir::compile_tokenizer, module)?)?;
    module.add_function(wrap_pyfunction!(ir::compile_training, module)?)?;
    module.add_function(wrap_pyfunction!(ir::compile_model, module)?)?;
    module.add_function(wrap_pyfunction!(ir::restore_model, module)?)?;
    module.add_function(wrap_pyfunction!(convert::nearest, module)?)?;
    module.add_function(wrap_pyfunction!(training::run_training, module)?)?;
    module.add_function(wrap_pyfunction!(run::load_run, module)?)?;
    module.add_function(wrap_pyfunction!(run::load_tokenizer, module)?)?;
    Ok(())
}
