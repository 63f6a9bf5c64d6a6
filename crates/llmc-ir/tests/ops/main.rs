//! Suites over all ops: what `samples()` gives is checked here in every way that needs nothing but
//! the op itself, so that a new op is tested by being in the list.

#![allow(clippy::unwrap_used)] // Everything here is test code.

mod docs;
mod gradients;
mod hostile;
mod order;
mod reference;
mod rules;
mod support;
