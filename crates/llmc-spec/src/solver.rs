//! From a wish ("125 million parameters, 12 layers") to dimensions, exactly.
//!
//! The parameter count is a polynomial in the dims that comes from the template; there is
//! no second formula here. Among all shapes of the documented [`Lattice`] the solver finds
//! the one with the smallest (distance from the target, cost, dims), and proves it by
//! exhausting the lattice with branch and bound. Or it names a minimal set of
//! constraints that cannot hold together, and the nearest change of one bound
//! that helps. `docs/solver.md` is the manual.

mod conflict;
mod cost;
mod lattice;
mod poly;
mod problem;
mod search;
mod why;

#[cfg(test)]
mod tests;

pub use conflict::{Change, Conflict};
pub use lattice::Lattice;
pub use problem::{Bound, Constraint, Problem, Rule, Target};
pub use why::Why;

use crate::dims::Dims;
use lattice::System;
use search::{Candidate, Want, search};
use serde::Serialize;

/// How many alternatives a solution lists at most.
pub const MAX_ALTERNATIVES: usize = 5;

/// The closest shape and what is next to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Solution {
    /// The dimensions.
    pub dims: Dims,
    /// Their parameter count.
    pub params: u64,
    /// The wanted count.
    pub target_params: Option<u64>,
    /// Its written cost; decides between equal distances.
    pub cost: u64,
    /// The lattice it comes from.
    pub lattice: Lattice,
    /// The next best by (distance, cost, dims), each with another depth or width.
    pub alternatives: Vec<Alternative>,
    /// Why each dim has its value, in the order of [`crate::Dim::ALL`].
    pub why: Vec<Why>,
}

/// A shape that was nearly chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alternative {
    /// The dimensions.
    pub dims: Dims,
    /// Their parameter count.
    pub params: u64,
    /// Their written cost.
    pub cost: u64,
}

/// The closest shape of the lattice: smallest by (distance from the target, cost, dims).
///
/// Without a target the cost decides alone; `num_layers` and `hidden_size` should then be
/// numbers. Errors: the constraints that clash.
pub fn solve(problem: &Problem) -> Result<Solution, Box<Conflict>> {
    let constraints = problem.constraints();
    match ranking(problem, &constraints) {
        Some((lattice, best, rest)) => Ok(solution(problem, lattice, &best, &rest)),
        None => Err(Box::new(conflict::explain(problem, constraints))),
    }
}

/// The first lattice with a shape within the tolerance: its best, and the next best.
fn ranking(
    problem: &Problem,
    constraints: &[Constraint],
) -> Option<(Lattice, Candidate, Vec<Candidate>)> {
    let system = System::new(problem, constraints.iter())?;
    [Lattice::Preferred, Lattice::Wide].into_iter().find_map(|lattice| {
        let want = Want::Best(MAX_ALTERNATIVES + 1);
        let found = search(&problem.poly, &system, lattice, want).candidates;
        found.split_first().map(|(best, rest)| (lattice, *best, rest.to_vec()))
    })
}

fn solution(problem: &Problem, lattice: Lattice, best: &Candidate, rest: &[Candidate]) -> Solution {
    let alternative = |c: &Candidate| Alternative {
        dims: Dims::from_array(c.dims),
        params: count(problem, &c.dims),
        cost: c.cost,
    };
    let Alternative { dims, params, cost } = alternative(best);
    Solution {
        dims,
        params,
        target_params: problem.target.map(|t| t.params),
        cost,
        lattice,
        alternatives: rest.iter().map(alternative).collect(),
        why: why::explain(problem, lattice, &dims),
    }
}

/// The parameter count of dims; saturates.
fn count(problem: &Problem, dims: &[u64; 8]) -> u64 {
    u64::try_from(problem.poly.eval(dims)).unwrap_or(u64::MAX)
}
