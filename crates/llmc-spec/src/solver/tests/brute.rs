//! The search against brute force: the lattice as a predicate, written from the table
//! in the documentation and tried on every point of a box.

use super::super::cost::cost;
use super::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;

/// The points that are tried.
struct Box {
    layers: u64,
    hidden: u64,
    width: u64,
    /// Of a feed-forward width that nothing is written about.
    width_step: u64,
}

/// Small enough to try every shape, however odd.
const SMALL: Box = Box { layers: 5, hidden: 72, width: 600, width_step: 1 };

/// Every row of the preferred lattice up to the last; no preferred width is off the step.
const LARGE: Box = Box { layers: 512, hidden: 6144, width: 5 * 6144, width_step: 8 };

const LATTICES: [Lattice; 2] = [Lattice::Preferred, Lattice::Wide];

fn within(bound: &Bound, value: u64) -> bool {
    bound.fixed.is_none_or(|v| v == value)
        && bound.min.is_none_or(|v| v <= value)
        && bound.max.is_none_or(|v| v >= value)
        && bound.multiple_of.is_none_or(|v| value.is_multiple_of(v))
}

/// Whether a shape satisfies what is written and lies in the lattice, its width aside.
fn is_frame(p: &Problem, lattice: Lattice, dims: &[u64; 8]) -> bool {
    let [_, _, layers, hidden, heads, kv_heads, head_dim, _] = *dims;
    let bound = |dim: Dim| &p.bounds[dim.idx()];
    let is_within = |dim: Dim| dim == Dim::IntermediateSize || within(bound(dim), dims[dim.idx()]);
    if !Dim::ALL.into_iter().all(is_within) {
        return false;
    }
    let [h, n, d] = [Dim::HiddenSize, Dim::NumHeads, Dim::HeadDim].map(bound);
    let is_linked = [h, n, d].iter().any(|b| b.fixed.is_none());
    if is_linked && hidden != heads * head_dim {
        return false;
    }
    let k = bound(Dim::NumKvHeads);
    let is_grouping_right = match p.attention {
        AttentionKind::Mha => kv_heads == heads,
        AttentionKind::Mqa => kv_heads == 1,
        AttentionKind::Gqa if n.fixed.is_some() && k.is_free() => kv_heads == heads,
        AttentionKind::Gqa => true,
    };
    if !is_grouping_right || heads % kv_heads != 0 || (p.is_rotary && head_dim % 2 != 0) {
        return false;
    }
    let is_quotient = h.fixed.is_some() && n.fixed.is_some() && hidden == heads * head_dim;
    let is_wide = [1, 2, 4, 8, 16, 32, 64, 80, 96, 112, 128, 160, 192, 256].contains(&head_dim);
    if d.is_free() && !is_wide && !is_quotient {
        return false;
    }
    if lattice == Lattice::Wide {
        return true;
    }
    let usual_head_dim = match hidden {
        0..=63 => [4, 8, 16].contains(&head_dim),
        64..=255 => [16, 32].contains(&head_dim),
        256..=1023 => head_dim == 64,
        1024..=4096 => [64, 128].contains(&head_dim),
        _ => head_dim == 128,
    };
    if d.is_free() && !is_quotient && !usual_head_dim {
        return false;
    }
    if k.is_free() && p.attention == AttentionKind::Gqa && kv_heads * 8 < heads {
        // Written heads have one key/value head each, which passes.
        return false;
    }
    if !has_step(n) && ((heads > 16 && heads % 4 != 0) || (heads > 64 && heads % 8 != 0)) {
        return false;
    }
    let least_ratio = match hidden {
        0..=1023 => 16,
        1024..=4095 => 32,
        _ => 64,
    };
    let l = bound(Dim::NumLayers);
    let is_too_shallow = !has_low(l) && layers * 256 < hidden;
    let is_too_deep = !has_high(l) && layers > (hidden / least_ratio).max(1);
    !is_too_shallow && !is_too_deep
}

/// The same of the feed-forward width at a hidden size.
fn is_width(p: &Problem, lattice: Lattice, hidden: u64, width: u64) -> bool {
    let f = &p.bounds[Dim::IntermediateSize.idx()];
    let (low, high) = match (hidden, p.is_gated) {
        (0..=63, _) => (2 * hidden, 16 * hidden),
        (_, true) => (5 * hidden, 8 * hidden),
        (_, false) => (6 * hidden, 10 * hidden),
    };
    let step = match hidden {
        0..=63 => 1,
        64..=255 => 8,
        256..=1023 => 32,
        _ => 256,
    };
    let is_usual = (has_low(f) || 2 * width >= low)
        && (has_high(f) || 2 * width <= high)
        && (has_step(f) || width.is_multiple_of(step));
    within(f, width) && (lattice == Lattice::Wide || is_usual)
}

fn has_low(b: &Bound) -> bool {
    b.fixed.or(b.min).is_some()
}

fn has_high(b: &Bound) -> bool {
    b.fixed.or(b.max).is_some()
}

fn has_step(b: &Bound) -> bool {
    b.fixed.or(b.multiple_of).is_some()
}

/// (distance, cost, dims) of the best shape for each depth and width, best first.
type Ranking = Vec<(i128, u64, [u64; 8])>;

/// The rankings of these lattices.
fn brute_force<const N: usize>(p: &Problem, space: &Box, lattices: [Lattice; N]) -> [Ranking; N] {
    let target = p.target.unwrap();
    let max_gap = i128::from(target.max_gap());
    let terms: Vec<(i128, Vec<usize>)> = p
        .params
        .terms()
        .map(|(c, factors)| {
            let idx = |name: &str| Dim::from_name(name).unwrap().idx();
            let powers = factors.iter().flat_map(|(s, p)| vec![idx(s.name()); *p as usize]);
            (c, powers.collect())
        })
        .collect();
    // The count as a polynomial in the feed-forward width, at dims without one.
    let along_width = |dims: &[u64; 8]| -> [i128; 3] {
        let mut coefficients = [0; 3];
        for (c, at) in &terms {
            let is_width = |i: &&usize| **i == Dim::IntermediateSize.idx();
            let power = at.iter().filter(is_width).count();
            let rest = at.iter().filter(|i| !is_width(i));
            coefficients[power] += rest.fold(*c, |acc, i| acc * i128::from(dims[*i]));
        }
        coefficients
    };
    let values = |dim: Dim, max: u64| -> Vec<u64> {
        (1..=max).filter(|v| within(&p.bounds[dim.idx()], *v)).collect()
    };
    let numbers = [Dim::HiddenSize, Dim::NumHeads, Dim::HeadDim];
    let is_linked = numbers.iter().any(|dim| p.bounds[dim.idx()].fixed.is_none());
    let mut best = [(); N].map(|()| BTreeMap::new());
    let is_free_width = p.bounds[Dim::IntermediateSize.idx()].is_free();
    let width_step = if is_free_width { space.width_step } else { 1 };
    let mut widths = values(Dim::IntermediateSize, space.width);
    widths.retain(|width| width.is_multiple_of(width_step));
    let mut try_frame = |frame: [u64; 8], widths: &[u64]| {
        let [_, _, layers, hidden, ..] = frame;
        let fits = lattices.map(|lattice| is_frame(p, lattice, &frame));
        if !fits.contains(&true) {
            return;
        }
        let [c0, c1, c2] = along_width(&frame);
        for &width in widths {
            let w = i128::from(width);
            let gap = (c0 + c1 * w + c2 * w * w - i128::from(target.params)).abs();
            if gap > max_gap {
                continue;
            }
            let mut dims = frame;
            dims[Dim::IntermediateSize.idx()] = width;
            let found = (gap, cost(&dims, p.is_gated), dims);
            for idx in (0..N).filter(|&idx| fits[idx]) {
                if is_width(p, lattices[idx], hidden, width) {
                    let slot = best[idx].entry((layers, hidden)).or_insert(found);
                    *slot = (*slot).min(found);
                }
            }
        }
    };
    let depths = values(Dim::NumLayers, space.layers);
    for vocab in values(Dim::VocabSize, 1 << 16) {
        for context in values(Dim::ContextLength, 1 << 16) {
            for hidden in values(Dim::HiddenSize, space.hidden) {
                let mut widths = widths.clone();
                widths.retain(|w| lattices.iter().any(|lattice| is_width(p, *lattice, hidden, *w)));
                for heads in values(Dim::NumHeads, hidden.max(SMALL.hidden)) {
                    let head_dims = match is_linked {
                        true if hidden.is_multiple_of(heads) => vec![hidden / heads],
                        true => Vec::new(),
                        false => values(Dim::HeadDim, SMALL.hidden),
                    };
                    for head_dim in head_dims {
                        for kv_heads in (1..=heads).filter(|k| heads % k == 0) {
                            for &layers in &depths {
                                try_frame(
                                    [vocab, context, layers, hidden, heads, kv_heads, head_dim, 1],
                                    &widths,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
    best.map(|by_shape| {
        let mut ranking: Ranking = by_shape.into_values().collect();
        ranking.sort();
        ranking.truncate(MAX_ALTERNATIVES + 1);
        ranking
    })
}

fn bound(max: u64, may_be_free: bool) -> impl Strategy<Value = Bound> {
    let fixed = (1..=max).prop_map(Bound::fixed);
    let range = (1..=max, 0..=max / 4, 1u64..=5, any::<(bool, bool)>()).prop_map(
        move |(a, b, m, (has_min, has_multiple))| Bound {
            fixed: None,
            min: has_min.then_some(a.saturating_sub(b).max(1)),
            max: Some(a),
            multiple_of: has_multiple.then_some(m),
        },
    );
    let free =
        if may_be_free { Bound::default() } else { Bound { max: Some(max), ..Bound::default() } };
    prop_oneof![3 => Just(free), 1 => fixed, 2 => range]
}

/// Polynomials of several shapes: LLaMA, learned positions, untied and biased, and one
/// that does not depend on some dims.
fn polynomial() -> impl Strategy<Value = llmc_base::Expr> {
    let texts = [
        "vocab_size*hidden_size + hidden_size + num_layers*(2*hidden_size*num_heads*head_dim + 2*hidden_size*num_kv_heads*head_dim + 3*hidden_size*intermediate_size + 2*hidden_size)",
        "vocab_size*hidden_size + context_length*hidden_size + num_layers*(2*hidden_size*num_heads*head_dim + 2*hidden_size*num_kv_heads*head_dim + num_heads*head_dim + 2*num_kv_heads*head_dim + 2*hidden_size*intermediate_size + intermediate_size + 6*hidden_size) + 2*hidden_size",
        "2*vocab_size*hidden_size + vocab_size + num_layers*(hidden_size*hidden_size + 7*hidden_size*intermediate_size)",
        "num_layers*num_layers*hidden_size + intermediate_size*intermediate_size + 11",
    ];
    prop::sample::select(texts.map(|t| llmc_base::Expr::parse(t).unwrap()).to_vec())
}

fn problem() -> impl Strategy<Value = Problem> {
    let attention =
        prop::sample::select(vec![AttentionKind::Mha, AttentionKind::Gqa, AttentionKind::Mqa]);
    let loose = (bound(48, false), bound(16, false), bound(SMALL.layers, true));
    let heads = (bound(SMALL.hidden, false), bound(12, true), bound(12, true), bound(24, true));
    let rest = (bound(SMALL.width, true), any::<(bool, bool)>(), 0u64..=100);
    let tolerance = prop::sample::select(vec![0.0, 0.0005, 0.003, 0.01, 0.05]);
    (polynomial(), attention, loose, heads, rest, tolerance).prop_map(
        |(params, attention, (v, c, l), (e, h, k, d), (f, (is_gated, is_rotary), noise), tol)| {
            let mut problem = Problem::new(params, attention).unwrap();
            problem.bounds = [v, c, l, e, h, k, d, f];
            // One value each, or the box is too large to try.
            for dim in [Dim::VocabSize, Dim::ContextLength] {
                let bound = &mut problem.bounds[dim.idx()];
                let top = bound.fixed.or(bound.max).unwrap_or(1);
                if dim == Dim::ContextLength || !top.is_multiple_of(4) {
                    *bound = Bound::fixed(top);
                } else {
                    let min = top.saturating_sub(2).max(1);
                    *bound = Bound { min: Some(min), max: Some(top), ..Bound::default() };
                }
            }
            let width = &mut problem.bounds[Dim::HiddenSize.idx()];
            if let Some(max) = width.max {
                width.min = Some(width.min.unwrap_or(1).max(max.saturating_sub(20)));
            }
            // Ask for about what some shape has.
            let at = |dim: Dim| {
                let bound = &problem.bounds[dim.idx()];
                let usual = [32, 16, 2, 32, 4, 2, 8, 96][dim.idx()];
                bound.fixed.or(bound.max).unwrap_or(usual)
            };
            let mut dims = Dim::ALL.map(at);
            dims[Dim::HeadDim.idx()] = (dims[3] / dims[4]).max(1);
            dims[Dim::NumKvHeads.idx()] = if attention == AttentionKind::Mqa { 1 } else { dims[4] };
            let params = count(&problem, &dims).saturating_sub(noise * noise).max(1);
            problem = problem.target(params, tol);
            problem.is_gated = is_gated;
            problem.is_rotary = is_rotary;
            problem
        },
    )
}

/// The solver's answer in the form of [`brute_force`].
fn answer(p: &Problem) -> Option<(Lattice, Ranking)> {
    let (lattice, best, rest) = ranking(p, &p.constraints())?;
    let all = [best].into_iter().chain(rest);
    Some((lattice, all.map(|c| (c.gap, c.cost, c.dims)).collect()))
}

/// Whether brute force sees the whole wide lattice of the problem.
fn is_boxed(p: &Problem) -> bool {
    let has_high = |dim: Dim| p.bounds[dim.idx()].fixed.or(p.bounds[dim.idx()].max).is_some();
    has_high(Dim::NumLayers) && has_high(Dim::IntermediateSize)
}

#[test]
fn a_thousand_random_problems_equal_brute_force() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut n_preferred, mut n_wide, mut n_infeasible) = (0, 0, 0);
    while n_preferred + n_wide + n_infeasible < 1000 || n_preferred.min(n_wide) < 100 {
        let p = problem().new_tree(&mut runner).unwrap().current();
        let [preferred, wide] = brute_force(&p, &SMALL, LATTICES);
        if !preferred.is_empty() {
            assert_eq!(answer(&p), Some((Lattice::Preferred, preferred)), "{p:#?}");
            n_preferred += 1;
        } else if is_boxed(&p) {
            if wide.is_empty() {
                assert_eq!(answer(&p), None, "{p:#?}");
                n_infeasible += 1;
            } else {
                assert_eq!(answer(&p), Some((Lattice::Wide, wide)), "{p:#?}");
                n_wide += 1;
            }
        } else if let Some((lattice, _)) = answer(&p) {
            assert_eq!(lattice, Lattice::Wide, "{p:#?}");
        }
    }
    assert!(n_infeasible > 100);
}

/// Problems of the size that people train: a hidden size of 256 to 6144, most dims free.
fn large_problem() -> impl Strategy<Value = Problem> {
    let attention =
        prop::sample::select(vec![AttentionKind::Mha, AttentionKind::Gqa, AttentionKind::Mqa]);
    // Units of 64, more of them where rows of the lattice are narrow.
    let hidden =
        (prop_oneof![4u64..16, 16u64..64, 64u64..96, Just(16), Just(64)], 0u64..4, any::<bool>());
    let shape = (0u64..=100, 0u64..=100, prop::sample::select(vec![64u64, 128]));
    let extra = (0u8..7, 1u64..=4, any::<(bool, bool)>(), 1u64..2_000_000);
    let tolerance = prop::sample::select(vec![0.0, 0.0005, 0.003, 0.01]);
    (polynomial(), attention, hidden, shape, extra, tolerance, 100u64..50_000).prop_map(
        |(params, attention, (units, below, is_odd), (depth, width, head), extra, tol, vocab)| {
            let (kind, n, (is_gated, is_rotary), noise) = extra;
            let mut p = Problem::new(params, attention).unwrap();
            p.is_gated = is_gated;
            p.is_rotary = is_rotary;
            let hidden = units * 64;
            let head_dim = if (1024..=4096).contains(&hidden) && hidden % 128 == 0 {
                head
            } else {
                hidden.min(64 + hidden / 4097 * 64)
            };
            let heads = hidden / head_dim;
            let ratio = [16, 32, 64][usize::from(hidden >= 1024) + usize::from(hidden >= 4096)];
            let (least, most) = (hidden.div_ceil(256), hidden / ratio);
            let layers = least + (most - least) * depth / 100;
            let width = hidden * 3 + hidden * width / 100;
            // The hidden size is near that of the shape that the target comes from.
            let of_hidden = match is_odd {
                true => Bound { min: Some(hidden - 2), max: Some(hidden + 1), ..Bound::default() },
                false => Bound {
                    min: Some(hidden - below.min(units - 1) * 64),
                    max: Some(hidden),
                    multiple_of: Some(16),
                    ..Bound::default()
                },
            };
            let at_least = |value: u64| Bound { min: Some(value), ..Bound::default() };
            let written = match kind {
                0 => Some((Dim::NumLayers, Bound::fixed(layers * n))),
                1 => Some((Dim::NumLayers, at_least(layers))),
                2 => Some((Dim::NumHeads, Bound::fixed(heads))),
                3 => Some((Dim::NumKvHeads, at_least(n))),
                4 => Some((
                    Dim::IntermediateSize,
                    Bound { multiple_of: Some(100 * n), ..Bound::default() },
                )),
                _ => None,
            };
            p.bounds[Dim::HiddenSize.idx()] = of_hidden;
            p.bounds[Dim::VocabSize.idx()] = Bound::fixed(vocab);
            p.bounds[Dim::ContextLength.idx()] = Bound::fixed(2048);
            if let Some((dim, bound)) = written {
                p.bounds[dim.idx()] = bound;
            }
            let kv_heads = if attention == AttentionKind::Mqa { 1 } else { heads };
            let dims = [vocab, 2048, layers, hidden, heads, kv_heads, head_dim, width];
            let target = count(&p, &dims) + noise;
            p.target(target, tol)
        },
    )
}

#[test]
fn usual_shapes_of_every_row_equal_brute_force() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    // Comparisons by the hidden size of the best shape: below 1024, up to 4096, above.
    let mut n_by_row = [0; 3];
    while n_by_row.iter().any(|n| *n < 30) {
        let p = large_problem().new_tree(&mut runner).unwrap().current();
        let [preferred] = brute_force(&p, &LARGE, [Lattice::Preferred]);
        match preferred.first() {
            Some((_, _, [_, _, _, hidden, ..])) => {
                n_by_row[[1024, 4097].iter().filter(|end| hidden >= *end).count()] += 1;
                assert_eq!(answer(&p), Some((Lattice::Preferred, preferred)), "{p:#?}");
            }
            None => {
                // The wide lattice of such a problem takes the solver a while.
                let Some(system) = System::new(&p, p.constraints().iter()) else { continue };
                let found = search(&p.poly, &system, Lattice::Preferred, Want::Best(1));
                assert!(found.candidates.is_empty(), "{p:#?}");
            }
        }
    }
}
