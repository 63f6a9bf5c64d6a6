//! Tests of differentiation.
