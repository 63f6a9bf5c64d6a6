//! Tests of the solver: exactness against brute force, conflicts, speed as steps.

mod brute;
mod conflicts;

use super::lattice::{Lattice, System};
use super::search::{Want, search};
use super::*;
use crate::architecture::AttentionKind;
use crate::dims::Dim;
use crate::testing::llama;

fn free(target: u64, vocab: u64) -> Problem {
    Problem::new(llama(), AttentionKind::Gqa)
        .unwrap()
        .fix(Dim::VocabSize, vocab)
        .fix(Dim::ContextLength, 1024)
        .target(target, 0.01)
}

fn steps(problem: &Problem) -> u64 {
    let constraints = problem.constraints();
    let system = System::new(problem, constraints.iter()).unwrap();
    let want = Want::Best(MAX_ALTERNATIVES + 1);
    let preferred = search(&problem.poly, &system, Lattice::Preferred, want);
    if !preferred.candidates.is_empty() {
        return preferred.n_steps;
    }
    preferred.n_steps + search(&problem.poly, &system, Lattice::Wide, want).n_steps
}

/// A step is well under a microsecond, so this bounds the time of a release build by
/// milliseconds; `examples/solve_speed.rs` measures it.
const MAX_STEPS: u64 = 30_000;

#[test]
fn free_problems_from_two_thousand_to_a_trillion_solve_in_few_steps() {
    let mut target = 2_000u64;
    while target <= 1_000_000_000_000 {
        // Head room for the embedding of a hidden size of 16 to 1024.
        let vocab = (target / 1_000).clamp(16, 128_256);
        let problem = free(target, vocab);
        let solution = solve(&problem).unwrap();
        assert_eq!(solution.lattice, Lattice::Preferred, "{target} {vocab} {solution:?}");
        assert!(solution.params.abs_diff(target) <= target / 500, "{solution:?}");
        assert!(steps(&problem) <= MAX_STEPS, "{} steps for {target}", steps(&problem));
        target += target / 7 + 1;
    }
}

#[test]
fn partly_fixed_problems_solve_in_few_steps() {
    type Case<'a> = (&'a str, u64, &'a [(Dim, u64)]);
    let cases: [Case<'_>; 9] = [
        ("gpt2", 124_000_000, &[(Dim::NumLayers, 12), (Dim::NumHeads, 12)]),
        ("wide", 1_000_000_000, &[(Dim::HiddenSize, 512)]),
        ("shallow", 1_000_000_000, &[(Dim::NumLayers, 1)]),
        ("heads", 7_000_000_000, &[(Dim::NumHeads, 8)]),
        ("narrow", 1_000_000_000, &[(Dim::IntermediateSize, 100)]),
        ("odd", 1_000_000_000, &[(Dim::HeadDim, 80)]),
        ("7b", 7_000_000_000, &[(Dim::HiddenSize, 4096), (Dim::HeadDim, 128)]),
        ("405b", 405_000_000_000, &[(Dim::NumLayers, 126)]),
        ("kv", 70_000_000_000, &[(Dim::NumKvHeads, 8)]),
    ];
    for (name, target, fixed) in cases {
        let problem = fixed.iter().fold(free(target, 32_000), |p, (dim, v)| p.fix(*dim, *v));
        let solution = solve(&problem).unwrap_or_else(|c| panic!("{name}: {c:?}"));
        for (dim, value) in fixed {
            assert_eq!(solution.dims.get(*dim), *value, "{name}");
        }
        assert!(solution.params.abs_diff(target) <= target / 100, "{name}: {solution:?}");
        assert!(steps(&problem) <= 50 * MAX_STEPS, "{name}: {} steps", steps(&problem));
    }
}

#[test]
fn every_target_with_room_for_its_embedding_has_a_usual_shape() {
    for (vocab, from) in [(32, 2_000u64), (256, 10_000), (4096, 200_000), (32_000, 6_000_000)] {
        let mut target = from;
        while target < from * 1000 {
            let solution = solve(&free(target, vocab)).unwrap();
            assert_eq!(solution.lattice, Lattice::Preferred, "{target} {vocab} {solution:?}");
            target += target / 13 + 1;
        }
    }
}

#[test]
fn alternatives_differ_in_depth_or_width_and_are_ranked() {
    let solution = solve(&free(125_000_000, 32_000)).unwrap();
    assert_eq!(solution.alternatives.len(), MAX_ALTERNATIVES);
    let mut shapes = vec![(solution.dims.num_layers, solution.dims.hidden_size)];
    let mut last = (solution.params.abs_diff(125_000_000), solution.cost);
    for a in &solution.alternatives {
        let rank = (a.params.abs_diff(125_000_000), a.cost);
        assert!(last <= rank);
        last = rank;
        let shape = (a.dims.num_layers, a.dims.hidden_size);
        assert!(!shapes.contains(&shape));
        shapes.push(shape);
    }
}

#[test]
fn without_a_target_the_cost_decides() {
    let problem = Problem::new(llama(), AttentionKind::Gqa)
        .unwrap()
        .fix(Dim::VocabSize, 32_000)
        .fix(Dim::ContextLength, 2048)
        .fix(Dim::NumLayers, 12)
        .fix(Dim::HiddenSize, 768);
    let dims = solve(&problem).unwrap().dims;
    assert_eq!((dims.num_heads, dims.head_dim, dims.num_kv_heads), (12, 64, 3));
    assert_eq!(dims.intermediate_size, 2048);
}

#[test]
fn every_dim_says_why() {
    let problem = free(125_000_000, 32_000).fix(Dim::NumLayers, 12).fix(Dim::NumHeads, 12);
    let why = solve(&problem).unwrap().why;
    let text = |dim: Dim| why[dim.idx()].text.as_str();
    assert_eq!(why.len(), 8);
    assert_eq!(text(Dim::NumLayers), "written");
    assert!(text(Dim::NumKvHeads).starts_with("num_heads, by default"), "{why:?}");
    assert!(text(Dim::IntermediateSize).contains("closest to 125000000"), "{why:?}");
}

#[test]
fn polynomials_that_do_not_fit_are_refused() {
    for (text, part) in [
        ("vocab_size*width", "`width`"),
        ("vocab_size - hidden_size", "negative"),
        (
            "num_layers*num_layers*num_layers*num_layers*num_layers*num_layers*num_layers*num_layers*num_layers",
            "power 9",
        ),
    ] {
        let expr = llmc_base::Expr::parse(text).unwrap();
        let error = Problem::new(expr, AttentionKind::Gqa).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn numbers_beyond_all_bounds_do_not_panic() {
    let huge = 1u64 << 32;
    for dim in Dim::ALL {
        let problem = free(1_000_000, 32).fix(dim, huge);
        let _ = solve(&problem);
        let bound = Bound { min: Some(huge), multiple_of: Some(huge - 1), ..Bound::default() };
        let _ = solve(&free(1_000_000, 32).bound(dim, bound));
    }
}
