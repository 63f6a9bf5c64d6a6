//! The search against brute force: the lattice as a predicate, written from the table
//! in the documentation and tried on every point of a box.

use super::super::cost::cost;
use super::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;

/// Largest values of the box.
const MAX_LAYERS: u64 = 5;
const MAX_HIDDEN: u64 = 72;
const MAX_WIDTH: u64 = 600;

const LATTICES: [Lattice; 2] = [Lattice::Preferred, Lattice::Wide];

fn within(bound: &Bound, value: u64) -> bool {
    bound.fixed.is_none_or(|v| v == value)
        && bound.min.is_none_or(|v| v <= value)
        && bound.max.is_none_or(|v| v >= value)
        && bound.multiple_of.is_none_or(|v| value.is_multiple_of(v))
}

/// Whether a shape satisfies what is written and lies in the lattice.
fn is_shape(p: &Problem, lattice: Lattice, dims: &[u64; 8]) -> bool {
    let [vocab, context, layers, hidden, heads, kv_heads, head_dim, width] = *dims;
    let bound = |dim: Dim| &p.bounds[dim.idx()];
    if !Dim::ALL.into_iter().all(|dim| within(bound(dim), dims[dim.idx()])) {
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
    let has_low = |b: &Bound| b.fixed.or(b.min).is_some();
    let has_high = |b: &Bound| b.fixed.or(b.max).is_some();
    let has_step = |b: &Bound| b.fixed.or(b.multiple_of).is_some();
    let usual_head_dim = match hidden {
        0..=63 => [4, 8, 16].contains(&head_dim),
        64..=255 => [16, 32].contains(&head_dim),
        _ => unreachable!("outside the box"),
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
    let l = bound(Dim::NumLayers);
    if !has_low(l) && layers * 256 < hidden || !has_high(l) && layers > (hidden / 16).max(1) {
        return false;
    }
    let f = bound(Dim::IntermediateSize);
    let (low, high, step) = match (hidden < 64, p.is_gated) {
        (true, _) => (2 * hidden, 16 * hidden, 1),
        (false, true) => (5 * hidden, 8 * hidden, 8),
        (false, false) => (6 * hidden, 10 * hidden, 8),
    };
    if !has_low(f) && 2 * width < low || !has_high(f) && 2 * width > high {
        return false;
    }
    if !has_step(f) && width % step != 0 {
        return false;
    }
    let _ = (vocab, context);
    true
}

/// (distance, cost, dims) of the best shape for each depth and width, best first.
type Ranking = Vec<(i128, u64, [u64; 8])>;

/// The rankings of the preferred and the wide lattice.
fn brute_force(p: &Problem) -> [Ranking; 2] {
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
    let mut best = [BTreeMap::new(), BTreeMap::new()];
    let widths = values(Dim::IntermediateSize, MAX_WIDTH);
    let depths = values(Dim::NumLayers, MAX_LAYERS);
    let head_widths = values(Dim::HeadDim, MAX_HIDDEN);
    for vocab in values(Dim::VocabSize, 64) {
        for context in values(Dim::ContextLength, 64) {
            for hidden in values(Dim::HiddenSize, MAX_HIDDEN) {
                for heads in values(Dim::NumHeads, MAX_HIDDEN) {
                    // Cheap parts of the predicate first.
                    let linked = |head_dim: &&u64| !is_linked || hidden == heads * **head_dim;
                    for &head_dim in head_widths.iter().filter(linked) {
                        for kv_heads in (1..=heads).filter(|k| heads % k == 0) {
                            for &layers in &depths {
                                let shape = |width: u64| {
                                    [
                                        vocab, context, layers, hidden, heads, kv_heads, head_dim,
                                        width,
                                    ]
                                };
                                let [c0, c1, c2] = along_width(&shape(1));
                                for width in &widths {
                                    let dims = shape(*width);
                                    let w = i128::from(*width);
                                    let gap = (c0 + c1 * w + c2 * w * w
                                        - i128::from(target.params))
                                    .abs();
                                    if gap > max_gap {
                                        continue;
                                    }
                                    let found = (gap, cost(&dims, p.is_gated), dims);
                                    for (idx, lattice) in LATTICES.into_iter().enumerate() {
                                        if is_shape(p, lattice, &dims) {
                                            let slot = &mut best[idx];
                                            let slot = slot.entry((layers, hidden));
                                            let slot = slot.or_insert(found);
                                            *slot = (*slot).min(found);
                                        }
                                    }
                                }
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
    let loose = (bound(48, false), bound(16, false), bound(MAX_LAYERS, true));
    let heads = (bound(MAX_HIDDEN, false), bound(12, true), bound(12, true), bound(24, true));
    let rest = (bound(MAX_WIDTH, true), any::<(bool, bool)>(), 0u64..=100);
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
        let [preferred, wide] = brute_force(&p);
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
