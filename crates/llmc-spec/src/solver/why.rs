//! Why each dim of a solution has its value.

use super::count;
use super::lattice::Lattice;
use super::problem::Problem;
use crate::architecture::AttentionKind;
use crate::dims::{Dim, Dims};
use serde::Serialize;

/// One dim, its value, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The dim.
    pub dim: Dim,
    /// Its value.
    pub value: u64,
    /// Whether the value itself was written.
    pub is_written: bool,
    /// The reason, one sentence.
    pub text: String,
}

/// The reasons in the order of [`Dim::ALL`].
pub(super) fn explain(problem: &Problem, lattice: Lattice, dims: &Dims) -> Vec<Why> {
    Dim::ALL
        .into_iter()
        .map(|dim| {
            let default = problem.defaulted.iter().find(|(d, _)| *d == dim).map(|(_, rule)| *rule);
            let is_written = problem.bounds[dim.idx()].fixed.is_some() && default.is_none();
            let text = match default {
                Some(rule) => format!("by default: {rule}"),
                None if is_written => "written".to_string(),
                None => reason(problem, lattice, dims, dim),
            };
            Why { dim, value: dims.get(dim), is_written, text }
        })
        .collect()
}

fn reason(problem: &Problem, lattice: Lattice, dims: &Dims, dim: Dim) -> String {
    let is_fixed = |dim: Dim| problem.bounds[dim.idx()].fixed.is_some();
    let product = "hidden_size = num_heads * head_dim";
    match (dim, problem.attention) {
        (Dim::NumKvHeads, AttentionKind::Mha) => {
            return "mha: num_kv_heads = num_heads".to_string();
        }
        (Dim::NumKvHeads, AttentionKind::Mqa) => return "mqa: one key/value head".to_string(),
        (Dim::NumKvHeads, AttentionKind::Gqa)
            if is_fixed(Dim::NumHeads) && problem.bounds[dim.idx()].is_free() =>
        {
            return "num_heads, by default where num_heads is a number".to_string();
        }
        (Dim::HeadDim, _) if is_fixed(Dim::HiddenSize) && is_fixed(Dim::NumHeads) => {
            return format!("{} / {}: {product}", dims.hidden_size, dims.num_heads);
        }
        (Dim::NumHeads, _) if is_fixed(Dim::HiddenSize) && is_fixed(Dim::HeadDim) => {
            return format!("{} / {}: {product}", dims.hidden_size, dims.head_dim);
        }
        (Dim::HiddenSize, _) if is_fixed(Dim::NumHeads) && is_fixed(Dim::HeadDim) => {
            return format!("{} * {}: {product}", dims.num_heads, dims.head_dim);
        }
        _ => {}
    }
    let chosen = match problem.target {
        Some(target) => {
            let params = count(problem, &dims.to_array());
            let sign = if params >= target.params { "+" } else { "−" };
            format!(
                "solved: together with the other free dims closest to {} parameters ({params}, {sign}{})",
                target.params,
                params.abs_diff(target.params)
            )
        }
        None => "solved: the lowest cost".to_string(),
    };
    let bound = &problem.bounds[dim.idx()];
    let mut within = Vec::new();
    within.extend(bound.min.map(|v| format!("≥ {v}")));
    within.extend(bound.max.map(|v| format!("≤ {v}")));
    within.extend(bound.multiple_of.map(|v| format!("a multiple of {v}")));
    let domain = match (within.is_empty(), lattice) {
        (true, Lattice::Preferred) => String::new(),
        (true, Lattice::Wide) => "; no usual shape is close enough".to_string(),
        (false, _) => format!("; written {}", within.join(", ")),
    };
    match effect(problem, dims, dim) {
        Some(step) => format!("{chosen}{domain}; one more is {step} parameters more"),
        None => format!("{chosen}{domain}"),
    }
}

/// What one more of a dim that stands alone adds to the count.
fn effect(problem: &Problem, dims: &Dims, dim: Dim) -> Option<u64> {
    if !matches!(dim, Dim::NumLayers | Dim::IntermediateSize | Dim::VocabSize) {
        return None;
    }
    let mut more = dims.to_array();
    more[dim.idx()] += 1;
    Some(count(problem, &more) - count(problem, &dims.to_array()))
}
