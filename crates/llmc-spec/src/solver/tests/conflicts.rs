//! Conflicts: minimal by mechanical check, and changes that help.

use super::super::conflict::is_feasible;
use super::*;

/// Every set clashes, none of its members can be left out, and the change helps.
fn check(problem: &Problem) -> Conflict {
    let conflict = *solve(problem).unwrap_err();
    assert!(!conflict.cores.is_empty());
    for core in &conflict.cores {
        assert_eq!(is_feasible(problem, core.iter()), Some(false), "{core:#?}");
        for left_out in core {
            let rest = core.iter().filter(|c| c.name != left_out.name);
            assert_eq!(is_feasible(problem, rest), Some(true), "without {left_out:?}: {core:#?}");
        }
    }
    if let Some(change) = &conflict.change {
        let changed = apply(problem, change);
        assert!(solve(&changed).is_ok(), "{change}: {changed:#?}");
    }
    conflict
}

fn apply(problem: &Problem, change: &Change) -> Problem {
    let mut changed = problem.clone();
    if change.name == "model.target_params" {
        let tolerance = problem.target.unwrap().tolerance;
        return changed.target(change.to, tolerance);
    }
    let name = change.name.strip_prefix("model.").unwrap();
    let (dim, part) = name.split_once('.').unwrap_or((name, ""));
    let bound = &mut changed.bounds[Dim::from_name(dim).unwrap().idx()];
    let slot = match part {
        "" => &mut bound.fixed,
        "min" => &mut bound.min,
        "max" => &mut bound.max,
        _ => &mut bound.multiple_of,
    };
    assert_eq!(*slot, Some(change.from));
    *slot = Some(change.to);
    changed
}

fn names(core: &[Constraint]) -> Vec<&str> {
    core.iter().map(|c| c.name.as_str()).collect()
}

fn max(value: u64) -> Bound {
    Bound { max: Some(value), ..Bound::default() }
}

#[test]
fn heads_that_do_not_divide_the_width() {
    let problem = free(1_000_000, 256).fix(Dim::HiddenSize, 100).fix(Dim::NumHeads, 3);
    let conflict = check(&problem);
    assert_eq!(
        names(&conflict.cores[0]),
        ["hidden_size = num_heads * head_dim", "model.hidden_size", "model.num_heads"]
    );
}

#[test]
fn too_few_layers_names_the_bound_to_raise() {
    let problem = free(1_000_000_000, 32_000)
        .fix(Dim::HiddenSize, 2048)
        .bound(Dim::NumLayers, max(4))
        .bound(Dim::IntermediateSize, max(8192));
    let conflict = check(&problem);
    let core = names(&conflict.cores[0]);
    for name in ["model.num_layers.max", "model.hidden_size", "model.target_params"] {
        assert!(core.contains(&name), "{core:?}");
    }
    let change = conflict.change.unwrap();
    // One step less does not help.
    let less = Change { to: change.to.abs_diff(0) - 1, ..change.clone() };
    if change.to > change.from && less.to > change.from {
        assert!(solve(&apply(&problem, &less)).is_err(), "{change}");
    }
}

#[test]
fn key_value_heads_that_do_not_divide() {
    let problem = free(1_000_000_000, 32_000).fix(Dim::NumHeads, 12).fix(Dim::NumKvHeads, 5);
    let conflict = check(&problem);
    assert_eq!(
        names(&conflict.cores[0]),
        ["num_kv_heads divides num_heads", "model.num_heads", "model.num_kv_heads"]
    );
    let change = conflict.change.unwrap();
    assert_eq!(change.to_string(), "raise `model.num_kv_heads` from 5 to 6");
}

#[test]
fn one_kind_of_attention_against_a_number() {
    let mut problem = free(1_000_000_000, 32_000).fix(Dim::NumKvHeads, 4);
    problem.attention = AttentionKind::Mqa;
    let conflict = check(&problem);
    assert_eq!(names(&conflict.cores[0]), ["attention = mqa", "model.num_kv_heads"]);
}

#[test]
fn rotary_positions_need_even_heads() {
    let problem = free(1_000_000, 256).fix(Dim::HiddenSize, 75).fix(Dim::NumHeads, 3);
    let conflict = check(&problem);
    assert!(names(&conflict.cores[0]).contains(&"positional_encoding = rope"));
}

#[test]
fn a_target_below_the_smallest_model() {
    let problem = free(500, 256);
    let conflict = check(&problem);
    let core = names(&conflict.cores[0]);
    assert!(core.ends_with(&["model.vocab_size", "model.target_params"]), "{core:?}");
    assert!(conflict.closest_params.unwrap() > 500);
}

#[test]
fn an_exact_target_that_no_shape_meets() {
    // Every shape has a multiple of hidden_size parameters.
    let mut problem = free(1_000_000_007, 32_000).fix(Dim::HiddenSize, 1024);
    problem.target = Some(Target { params: 1_000_000_007, tolerance: 0.0 });
    let conflict = check(&problem);
    assert_eq!(names(&conflict.cores[0]), ["model.hidden_size", "model.target_params"]);
    let change = conflict.change.unwrap();
    assert!(change.to.abs_diff(change.from) <= 512, "{change}");
}

#[test]
fn two_independent_conflicts_are_both_reported() {
    let mut problem = free(1_000_000_000, 32_000).fix(Dim::NumHeads, 12).fix(Dim::NumKvHeads, 5);
    problem.bounds[Dim::NumLayers.idx()] =
        Bound { min: Some(5), max: Some(7), multiple_of: Some(8), ..Bound::default() };
    let conflict = check(&problem);
    assert_eq!(conflict.cores.len(), 2);
    assert_eq!(conflict.change, None);
}

#[test]
fn random_infeasible_problems_have_minimal_conflicts() {
    // A small generator of our own: problems that clash are rare among random ones.
    let mut state = 1u64;
    let mut next = |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    let mut n_conflicts = 0;
    while n_conflicts < 60 {
        let mut problem = free(100_000 + next(1_000_000_000), 256 + next(30_000));
        for dim in &Dim::ALL[2..] {
            let top = [1 << 16, 1 << 10, 64, 8192, 64, 16, 256, 16384][dim.idx()];
            let bound = match next(5) {
                0 => Bound::fixed(1 + next(top)),
                1 => max(1 + next(top)),
                2 => Bound { min: Some(1 + next(top)), ..Bound::default() },
                3 => Bound { multiple_of: Some(1 + next(64)), ..Bound::default() },
                _ => Bound::default(),
            };
            problem.bounds[dim.idx()] = bound;
        }
        if solve(&problem).is_err() {
            check(&problem);
            n_conflicts += 1;
        }
    }
}
