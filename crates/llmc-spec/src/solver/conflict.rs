//! Why there is no solution: minimal sets of constraints that clash, and the nearest
//! change of one bound that helps.
//!
//! A set is made minimal by deletion: leave out one constraint after the other, for good
//! where the rest still clashes. What remains clashes, and stops clashing when any
//! one of it is left out, because leaving out more only allows more shapes. Sets are
//! disjoint; all of them are reported.

use super::count;
use super::lattice::{Lattice, System, divisors};
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

impl Constraint {
    /// Whether it is a law of the template rather than a bound.
    fn is_law(&self) -> bool {
        matches!(self.rule, Rule::HiddenIsHeads | Rule::KvDivides | Rule::KvEqualsHeads)
    }
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
                let list = |is_law: bool| -> Vec<String> {
                    let some = core.iter().filter(|c| c.is_law() == is_law);
                    some.map(|c| format!("`{}`", c.text)).collect()
                };
                let (laws, bounds) = (list(true), list(false));
                let together = if bounds.len() > 1 { " together" } else { "" };
                let mut message = format!("{} cannot hold{together}", bounds.join(", "));
                if !laws.is_empty() {
                    message.push_str(&format!(" with {}", laws.join(" and ")));
                }
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

/// Branches after which a question about constraints is given up. Only exact targets
/// (a tolerance near 0) with several free dims come near it.
const MAX_STEPS: u64 = 100_000;

/// Whether any shape satisfies the constraints; `None` if that is too hard to tell.
pub(super) fn is_feasible<'a>(
    problem: &Problem,
    active: impl Iterator<Item = &'a Constraint>,
) -> Option<bool> {
    let Some(system) = System::new(problem, active) else { return Some(false) };
    let want = Want::Any { max_steps: MAX_STEPS };
    let found = search(&problem.poly, &system, Lattice::Wide, want);
    match found.candidates.is_empty() {
        false => Some(true),
        true if found.is_cut => None,
        true => Some(false),
    }
}

/// Explains a problem that has no solution.
pub(super) fn explain(problem: &Problem, constraints: Vec<Constraint>) -> Conflict {
    let closest_params = closest(problem, &constraints).map(|c| count(problem, &c.dims));
    let mut rest = constraints.clone();
    let mut cores = Vec::new();
    let mut is_clash = true;
    while is_clash {
        let core = minimal(problem, &rest);
        rest.retain(|c| !core.contains(c));
        cores.push(core);
        is_clash = is_feasible(problem, rest.iter()) == Some(false);
    }
    // A change outside a set leaves that set as it is.
    let change = match cores.as_slice() {
        [core] => nearest_change(problem, &constraints, core, closest_params),
        _ => None,
    };
    Conflict { cores, change, closest_params }
}

/// A minimal subset that clashes. Where it is too hard to tell whether a constraint can be
/// left out, it stays.
fn minimal(problem: &Problem, constraints: &[Constraint]) -> Vec<Constraint> {
    let mut core = constraints.to_vec();
    let mut idx = 0;
    while idx < core.len() {
        let without = core.iter().enumerate().filter(|(i, _)| *i != idx).map(|(_, c)| c);
        if is_feasible(problem, without) == Some(false) {
            core.remove(idx);
        } else {
            idx += 1;
        }
    }
    core
}

/// The closest shape whatever the tolerance.
fn closest(problem: &Problem, constraints: &[Constraint]) -> Option<Candidate> {
    let mut system = System::new(problem, constraints.iter())?;
    let (params, _) = system.target?;
    system.target = Some((params, i128::MAX / 4));
    let found = search(&problem.poly, &system, Lattice::Wide, Want::Best(1));
    found.candidates.first().copied()
}

/// The change of one bound of `core` with the smallest ratio between new and old value.
fn nearest_change(
    problem: &Problem,
    constraints: &[Constraint],
    core: &[Constraint],
    closest_params: Option<u64>,
) -> Option<Change> {
    let mut best: Option<Change> = None;
    for (idx, constraint) in constraints.iter().enumerate().filter(|(_, c)| core.contains(c)) {
        let to = match constraint.rule {
            Rule::Equals(..) | Rule::Min(..) | Rule::Max(..) | Rule::MultipleOf(..)
                if constraint.name.starts_with("model.") =>
            {
                nearest_bound(problem, constraints, idx)
            }
            Rule::Target { params, .. } => {
                closest_params.filter(|to| *to != params).map(|to| (params, to))
            }
            _ => None,
        };
        let Some((from, to)) = to else { continue };
        let change = Change { name: constraint.name.clone(), from, to };
        if best.as_ref().is_none_or(|b| distance(&change) < distance(b)) {
            best = Some(change);
        }
    }
    best
}

/// How far a change goes: in millionths of the smaller value, then as it is.
fn distance(change: &Change) -> (u128, u64) {
    let step = change.from.abs_diff(change.to);
    let small = change.from.min(change.to).max(1);
    (u128::from(step) * 1_000_000 / u128::from(small), step)
}

/// How far numbers are tried one by one.
const MAX_SCAN: u64 = 4096;

/// The value of one bound nearest to its own with which there is a solution.
fn nearest_bound(problem: &Problem, constraints: &[Constraint], idx: usize) -> Option<(u64, u64)> {
    let rule = constraints[idx].rule;
    let holds = |rules: &[Rule]| {
        let changed: Vec<Constraint> = rules
            .iter()
            .map(|rule| Constraint { rule: *rule, ..constraints[idx].clone() })
            .collect();
        let others = constraints.iter().enumerate().filter(|(i, _)| *i != idx).map(|(_, c)| c);
        is_feasible(problem, others.chain(changed.iter())) == Some(true)
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
            // Two numbers allow their quotient as head width, which the window does not know.
            let works = |to: u64| {
                let changed = problem.clone().fix(dim, to);
                is_feasible(&changed, changed.constraints().iter()) == Some(true)
            };
            let has_quotient = [Dim::HiddenSize, Dim::NumHeads]
                .map(|d| problem.bounds[d.idx()].fixed.is_some() || d == dim);
            let is_head = matches!(dim, Dim::HiddenSize | Dim::NumHeads);
            let is_near = step <= MAX_SCAN && is_head && has_quotient == [true; 2];
            let nearer = if is_near { 1 } else { step };
            (nearer..=step)
                .flat_map(|d| [Some(from + d), from.checked_sub(d)])
                .flatten()
                .find(|to| *to > 0 && works(*to))
                .map(|to| (from, to))
        }
        Rule::MultipleOf(dim, from) => divisors(from)
            .into_iter()
            .rev()
            .skip(1)
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
