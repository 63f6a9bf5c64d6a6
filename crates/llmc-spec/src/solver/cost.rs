//! The written cost of a shape: what decides between equally close solutions, and
//! everything where there is no target.
//!
//! An integer, so that it is the same on every machine. Each part is in
//! thousandths and is 0 for the shapes that published decoders have:
//!
//! | part | cost |
//! |---|---|
//! | `head_dim` | 0 for 64 and 128; 50 between them; otherwise 100 per doubling or halving away |
//! | depth to width | 0 where `hidden_size / num_layers` is from 64 to 128, otherwise the distance in thousandths |
//! | feed-forward | distance of `intermediate_size` from 8/3 (gated) or 4 times `hidden_size`, in thousandths |
//! | key/value groups | 50 per step that `num_heads / num_kv_heads` is from 4 |
//! | multiples | `hidden_size` and `intermediate_size` each: 50 unless a multiple of 256, 200 more unless of 32 |
//!
//! Each distance counts for at most 10,000.

use crate::dims::Dim;

const CAP: u64 = 10_000;

/// The cost of a shape, with dims in the order of [`Dim::ALL`].
pub(super) fn cost(dims: &[u64; 8], is_gated: bool) -> u64 {
    let at = |dim: Dim| dims[dim.idx()];
    let hidden = at(Dim::HiddenSize);
    head_dim(at(Dim::HeadDim))
        + depth(hidden, at(Dim::NumLayers))
        + feed_forward(hidden, at(Dim::IntermediateSize), is_gated)
        + group(at(Dim::NumHeads), at(Dim::NumKvHeads))
        + multiple(hidden)
        + multiple(at(Dim::IntermediateSize))
}

/// What the known dims cost at least: 0 stands for a dim that is not known.
pub(super) fn floor(dims: &[u64; 8], is_gated: bool) -> u64 {
    let at = |dim: Dim| dims[dim.idx()];
    let (hidden, heads, kv_heads) = (at(Dim::HiddenSize), at(Dim::NumHeads), at(Dim::NumKvHeads));
    let (layers, width) = (at(Dim::NumLayers), at(Dim::IntermediateSize));
    let mut floor = head_dim(at(Dim::HeadDim));
    if hidden > 0 {
        floor += multiple(hidden);
    }
    if hidden > 0 && layers > 0 {
        floor += depth(hidden, layers);
    }
    if hidden > 0 && width > 0 {
        floor += feed_forward(hidden, width, is_gated) + multiple(width);
    }
    if kv_heads > 0 {
        floor += group(heads, kv_heads);
    }
    floor
}

/// Distance of the heads per key/value head from 4.
fn group(heads: u64, kv_heads: u64) -> u64 {
    ((heads / kv_heads).abs_diff(4) * 50).min(CAP)
}

fn head_dim(head_dim: u64) -> u64 {
    match head_dim {
        64 | 128 => 0,
        65..128 => 50,
        0..64 => 100 * u64::from(64u64.div_ceil(head_dim.max(1)).next_power_of_two().ilog2()),
        _ => 100 * u64::from(head_dim.div_ceil(128).next_power_of_two().ilog2()),
    }
}

fn depth(hidden: u64, layers: u64) -> u64 {
    let (low, high) = (64 * layers, 128 * layers);
    if hidden < low {
        distance(hidden, low)
    } else if hidden > high {
        distance(hidden, high)
    } else {
        0
    }
}

/// The part of the cost that grows with the distance of `num_layers` or
/// `intermediate_size` from the usual one, on both sides; 0 for other dims.
pub(super) fn distance_cost(dim: Dim, dims: &[u64; 8], is_gated: bool) -> u64 {
    let hidden = dims[Dim::HiddenSize.idx()];
    match (dim, hidden) {
        (_, 0) => 0,
        (Dim::NumLayers, _) => depth(hidden, dims[dim.idx()]),
        (Dim::IntermediateSize, _) => feed_forward(hidden, dims[dim.idx()], is_gated),
        _ => 0,
    }
}

/// The value with the smallest [`distance_cost`]; 0 for other dims.
pub(super) fn usual_value(dim: Dim, dims: &[u64; 8], is_gated: bool) -> u64 {
    let hidden = dims[Dim::HiddenSize.idx()];
    match (dim, is_gated) {
        (Dim::NumLayers, _) => hidden / 96,
        (Dim::IntermediateSize, true) => hidden.saturating_mul(8) / 3,
        (Dim::IntermediateSize, false) => hidden.saturating_mul(4),
        _ => 0,
    }
}

fn feed_forward(hidden: u64, intermediate: u64, is_gated: bool) -> u64 {
    match is_gated {
        true => distance(intermediate.saturating_mul(3), hidden.saturating_mul(8)),
        false => distance(intermediate, hidden.saturating_mul(4)),
    }
}

/// |a − b| / b in thousandths, rounded down.
fn distance(a: u64, b: u64) -> u64 {
    let thousandths = u128::from(a.abs_diff(b)) * 1000 / u128::from(b.max(1));
    u64::try_from(thousandths).unwrap_or(CAP).min(CAP)
}

fn multiple(x: u64) -> u64 {
    match (x % 256, x % 32) {
        (0, _) => 0,
        (_, 0) => 50,
        _ => 250,
    }
}
