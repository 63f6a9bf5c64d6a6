//! Tests over all passes.
