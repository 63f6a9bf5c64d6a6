//! The kernels for C: a thin layer over `llmc-kernels`, so that compiled programs link the code that training and
//! inference run, and have its bits.
//!
//! `include/llmc_kernels.h` declares what is here, and a test holds the two against each other. Every function checks
//! its pointers and sizes and answers with a status ([`llmc_status_message`] says what it means); no panic crosses the
//! border. A [`Context`] has the instruction set, the threads and the scratch.
//!
//! It allocates nothing for results and knows no graphs: shapes come with every call.

mod context;
mod functions;
mod pool;
mod status;

pub use context::{Context, llmc_context_free, llmc_context_new, llmc_context_threads};
pub use functions::*;
pub use status::{Status, llmc_status_message};
