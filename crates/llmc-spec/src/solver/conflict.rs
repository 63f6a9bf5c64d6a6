//! Why there is no solution: minimal sets of constraints that clash, and the nearest
//! change of one bound that helps.
//!
//! A set is made minimal by deletion: leave out one constraint after the other, for good
//! where the rest still clashes. What remains clashes, and stops clashing when any
//! one of it is left out, because leaving out more only allows more shapes. Sets are
//! disjoint; all of them are reported.

use super::count;
use super::lattice::{Lattice, System};
use super::problem::{Bound, Constraint, Problem, Rule};
use super::search::{Candidate, Want, search};
use crate::dims::Dim;
use llmc_base::Diagnostic;
use std::fmt;

/// Why a problem has no solution.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// Minimal sets that clash, disjoint; at least one.
    pub cores: Vec<Vec<Constraint>>,
    /// The nearest change of one bound after which there is a solution, if one is enough.
    pub change: Option<Change>,
    /// The count closest to the target that everything else allows.
    pub closest_params: Option<u64>,
}

/// A change of one bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the constraint.
    pub name: String,
    /// Its value today.
    pub from: u64,
    /// The nearest value with a solution.
    pub to: u64,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.to > self.from { "raise" } else { "lower" };
        write!(f, "{verb} `{}` from {} to {}", self.name, self.from, self.to)
    }
}

impl Conflict {
    /// One diagnostic per set, with every place that is written.
    pub fn to_diagnostics(&self) -> Vec<Diagnostic> {
        self.cores
            .iter()
            .enumerate()
            .map(|(idx, core)| {
                let texts: Vec<_> = core.iter().map(|c| format!("`{}`", c.text)).collect();
                let message = match texts.len() {
                    1 => format!("{} cannot hold", texts[0]),
                    _ => format!("{} cannot hold together", texts.join(", ")),
                };
                let mut d = Diagnostic::error("spec::infeasible", message);
                for constraint in core.iter().rev() {
                    if let Some(span) = &constraint.span {
                        d = d.at(span.clone(), constraint.text.clone());
                    }
                }
                match &self.change {
                    Some(change) if idx == 0 => d.help(format!("{change}")),
                    _ => d.help("leave out any one of them"),
                }
            })
            .collect()
    }
}

/// Whether any shape satisfies the constraints.
pub(super) fn is_feasible<'a>(
    problem: &Problem,
    active: impl Iterator<Item = &'a Constraint>,
) -> bool {
    System::new(problem, active).is_some_and(|system| {
        !search(&problem.poly, &system, Lattice::Wide, Want::Any).0.is_empty()
    })
}

/// Explains a problem that has no solution.
pub(super) fn explain(problem: &Problem, constraints: Vec<Constraint>) -> Conflict {
    let change = nearest_change(problem, &constraints);
    let closest_params = closest(problem, &constraints).map(|c| count(problem, &c.dims));
    let mut rest = constraints;
    let mut cores = Vec::new();
    while !is_feasible(problem, rest.iter()) {
        let core = minimal(problem, &rest);
        if core.is_empty() {
            break;
        }
        rest.retain(|c| !core.contains(c));
        cores.push(core);
    }
    Conflict { cores, change, closest_params }
}

/// A minimal subset that clashes.
fn minimal(problem: &Problem, constraints: &[Constraint]) -> Vec<Constraint> {
    let mut core = constraints.to_vec();
    let mut idx = 0;
    while idx < core.len() {
        let without = core.iter().enumerate().filter(|(i, _)| *i != idx).map(|(_, c)| c);
        if is_feasible(problem, without) {
            idx += 1;
        } else {
            core.remove(idx);
        }
    }
    core
}

/// The closest shape whatever the tolerance.
fn closest(problem: &Problem, constraints: &[Constraint]) -> Option<Candidate> {
    let mut system = System::new(problem, constraints.iter())?;
    let (params, _) = system.target?;
    system.target = Some((params, i128::MAX / 4));
    let (found, _) = search(&problem.poly, &system, Lattice::Wide, Want::Best(1));
    found.first().copied()
}

/// The change of one bound with the smallest ratio between new and old value.
fn nearest_change(problem: &Problem, constraints: &[Constraint]) -> Option<Change> {
    let mut best: Option<Change> = None;
    for (idx, constraint) in constraints.iter().enumerate() {
        let to = match constraint.rule {
            Rule::Equals(..) | Rule::Min(..) | Rule::Max(..) | Rule::MultipleOf(..)
                if constraint.name.starts_with("model.") =>
            {
                nearest_bound(problem, constraints, idx)
            }
            Rule::Target { params, .. } => {
                nearest_target(problem, constraints, params).map(|to| (params, to))
            }
            _ => None,
        };
        let Some((from, to)) = to else { continue };
        let change = Change { name: constraint.name.clone(), from, to };
        if best.as_ref().is_none_or(|b| ratio(&change) < ratio(b)) {
            best = Some(change);
        }
    }
    best
}

/// How far a change goes, in millionths of the smaller value.
fn ratio(change: &Change) -> u128 {
    let (small, large) = (change.from.min(change.to), change.from.max(change.to));
    u128::from(large - small) * 1_000_000 / u128::from(small.max(1))
}

/// The target nearest to the wanted one that has a solution.
fn nearest_target(problem: &Problem, constraints: &[Constraint], params: u64) -> Option<u64> {
    let found = closest(problem, constraints)?;
    let to = count(problem, &found.dims);
    (to != params).then_some(to)
}

/// The value of one bound nearest to its own with which there is a solution.
fn nearest_bound(problem: &Problem, constraints: &[Constraint], idx: usize) -> Option<(u64, u64)> {
    let rule = constraints[idx].rule;
    let holds = |rules: &[Rule]| {
        let changed: Vec<Constraint> = rules
            .iter()
            .map(|rule| Constraint { rule: *rule, ..constraints[idx].clone() })
            .collect();
        let others = constraints.iter().enumerate().filter(|(i, _)| *i != idx).map(|(_, c)| c);
        is_feasible(problem, others.chain(changed.iter()))
    };
    if !holds(&[]) {
        return None;
    }
    match rule {
        Rule::Max(dim, from) => {
            let top = largest(problem, dim);
            let step =
                first_true(top.saturating_sub(from), |d| holds(&[Rule::Max(dim, from + d)]))?;
            Some((from, from + step))
        }
        Rule::Min(dim, from) => {
            let step = first_true(from - 1, |d| holds(&[Rule::Min(dim, from - d)]))?;
            Some((from, from - step))
        }
        Rule::Equals(dim, from) => {
            let window =
                |d: u64| [Rule::Min(dim, from.saturating_sub(d).max(1)), Rule::Max(dim, from + d)];
            let step = first_true(largest(problem, dim).max(from), |d| holds(&window(d)))?;
            let down = from.checked_sub(step).filter(|v| *v > 0 && holds(&[Rule::Equals(dim, *v)]));
            Some((from, down.unwrap_or(from + step)))
        }
        Rule::MultipleOf(dim, from) => (1..from)
            .rev()
            .filter(|divisor| from.is_multiple_of(*divisor))
            .find(|divisor| holds(&[Rule::MultipleOf(dim, *divisor)]))
            .map(|to| (from, to)),
        _ => None,
    }
}

/// The largest value of a dim in the wide lattice of the problem.
fn largest(problem: &Problem, dim: Dim) -> u64 {
    let free = problem.clone().bound(dim, Bound::default());
    System::new(&free, std::iter::empty()).map_or(1, |system| system.range(dim).hi())
}

/// The smallest d from 1 to `max` with `holds(d)`, where more only allows more.
fn first_true(max: u64, holds: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut low, mut high) = (1, 1);
    // Double until it holds, so that near changes are found with few questions.
    while high < max && !holds(high) {
        low = high + 1;
        high = high.saturating_mul(2).min(max);
    }
    if high > max || !holds(high) {
        return None;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(high)
}
