//! Accounting of whole functions with everything they call: weights, parameters, FLOPs and bytes.
//!
//! All of it is derived from the IR, with symbolic dims, and a callee is looked at once however
//! often it is called; there is no second formula anywhere.

pub(crate) mod external;
