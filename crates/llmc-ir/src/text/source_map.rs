//! Where the parts of a parsed module stand in its text.

use super::syntax::Place;
use crate::verify::{Finding, Site};
use llmc_base::{Diagnostic, Span};

/// Places of the parts of a module in the text it was parsed from.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    pub(super) file: String,
    pub(super) symbols: Vec<Place>,
    pub(super) functions: Vec<FunctionPlaces>,
}

/// Places of the parts of one function.
#[derive(Clone, Debug, Default)]
pub(super) struct FunctionPlaces {
    pub(super) name: Place,
    pub(super) params: Vec<Place>,
    pub(super) nodes: Vec<Place>,
    pub(super) results: Vec<Place>,
}

impl SourceMap {
    /// Where a part of the module stands; the whole of it has no place.
    pub fn span(&self, site: &Site) -> Option<Span> {
        let function = |id: &crate::FuncId| self.functions.get(id.index());
        let place = match site {
            Site::Module => None,
            Site::Symbol(index) => self.symbols.get(*index),
            Site::Function(id) => function(id).map(|f| &f.name),
            Site::Param(id, index) => function(id).and_then(|f| f.params.get(*index)),
            Site::Node(id, node) => function(id).and_then(|f| f.nodes.get(node.index())),
            Site::Result(id, index) => function(id).and_then(|f| f.results.get(*index)),
        };
        place.map(|p| Span::new(self.file.clone(), p.start, p.end))
    }

    /// The diagnostic of a finding, with its place.
    pub fn locate(&self, finding: Finding) -> Diagnostic {
        let span = self.span(&finding.site);
        let diagnostic = finding.diagnostic();
        match span {
            Some(span) => diagnostic.at(span, ""),
            None => diagnostic,
        }
    }
}
