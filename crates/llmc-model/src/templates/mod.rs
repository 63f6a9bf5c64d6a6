//! All templates: one file each, one list.

pub mod decoder_cached;
pub mod decoder_only;

use llmc_ir::{Module, TypeError};
use llmc_spec::{Architecture, DimExprs, Template};

/// How often a layer is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layers {
    /// So many calls, with scopes `layers.0`, `layers.1`, …
    Count(usize),
    /// One call with scope [`ANY_LAYER`] that stands for all.
    Folded,
}

/// The scope of the one call that stands for all layers.
pub const ANY_LAYER: &str = "layers.*";

/// Builds the module of an architecture.
pub type Build = fn(&Architecture, &DimExprs, Layers) -> Result<Module, TypeError>;

/// Every template with its builder.
pub const TEMPLATES: &[(Template, Build)] = &[(Template::DecoderOnly, decoder_only::build)];

/// The builder of a template.
pub fn find(template: Template) -> Build {
    let entry = TEMPLATES.iter().find(|(t, _)| *t == template);
    entry.map(|(_, build)| *build).expect("every template has an entry in the list")
}
