//! Pictures of a function: DOT text for Graphviz, and a self-contained SVG with a layout of our
//! own.
//!
//! Nodes are boxes coloured by class; weights, state and constants are lines in the boxes that use
//! them, so that edges show the flow of activations; a run of layers is one frame, as in the text
//! form. The output depends on nothing but the function.

mod arrange;
mod dot;
mod layout;
mod picture;
mod svg;
#[cfg(test)]
mod tests;

pub use dot::dot;
pub use svg::svg;
