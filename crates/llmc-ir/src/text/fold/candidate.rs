//! Runs as they are recognised: the first two steps say what each operand could be, and every
//! further step narrows that down until one does not fit.

use super::counting::Counting;
use super::{Folds, MIN_STEPS};
use crate::module::{Function, Module, Node, ValueId};
use crate::ops::Op;

/// What an operand can be, judged by the steps seen so far.
#[derive(Clone, Copy, Debug)]
pub(super) enum Guess {
    /// Result `.1` of node `.0` of the same step.
    Same(usize, usize),
    /// Result `.1` of node `.0` of the step before.
    Carried(usize, usize),
    Fixed(ValueId),
    /// Family, index in the first step, and how it counts.
    Element(usize, i64, i64),
}

/// One node of each step of a candidate.
pub(super) struct CandidateNode {
    pub(super) scope: Option<Counting>,
    pub(super) origin: Counting,
    /// Per operand: what it can be; the first one is taken.
    pub(super) operands: Vec<Vec<Guess>>,
    pub(super) names: Vec<Option<Counting>>,
}

/// A run before its families are made.
pub(super) struct Candidate {
    pub(super) first: usize,
    pub(super) period: usize,
    pub(super) count: usize,
    pub(super) nodes: Vec<CandidateNode>,
}

fn scope(node: &Node) -> Option<&str> {
    match &node.op {
        Op::Call(call) => Some(&call.scope),
        _ => None,
    }
}

/// Whether two nodes differ in no more than scope, operands and results.
fn alike(f: &Function, a: &Node, b: &Node) -> bool {
    let same_op = match (&a.op, &b.op) {
        (Op::Call(a), Op::Call(b)) => a.callee == b.callee,
        (a, b) => a == b,
    };
    same_op
        && a.operands.len() == b.operands.len()
        && a.results.len() == b.results.len()
        && a.results.iter().zip(&b.results).all(|(a, b)| f.ty(*a) == f.ty(*b))
}

impl Candidate {
    /// The longest run of this period from node `first`, if it is long enough.
    pub(super) fn find(
        module: &Module,
        f: &Function,
        folds: &Folds,
        first: usize,
        period: usize,
    ) -> Option<Candidate> {
        if first + period * MIN_STEPS > f.nodes.len() {
            return None;
        }
        let step = |t: usize| &f.nodes[first + t * period..first + (t + 1) * period];
        let mut nodes = Vec::with_capacity(period);
        for (a, b) in step(0).iter().zip(step(1)) {
            if !alike(f, a, b) {
                return None;
            }
            nodes.push(CandidateNode::new(module, f, folds, [a, b], [step(0), step(1)])?);
        }
        if nodes.iter().all(|n| n.scope.as_ref().is_none_or(|s| s.step == 0)) {
            return None;
        }
        let mut run = Candidate { first, period, count: 2, nodes };
        while first + (run.count + 1) * period <= f.nodes.len() {
            let (t, before, now) = (run.count, step(run.count - 1), step(run.count));
            let next: Option<Vec<Vec<Vec<Guess>>>> = run
                .nodes
                .iter()
                .zip(step(0))
                .zip(now)
                .map(|((candidate, template), node)| {
                    if !alike(f, template, node) {
                        return None;
                    }
                    candidate.narrowed(module, f, folds, t, node, [before, now])
                })
                .collect();
            let Some(next) = next else { break };
            for (node, operands) in run.nodes.iter_mut().zip(next) {
                node.operands = operands;
            }
            run.count += 1;
        }
        (run.count >= MIN_STEPS).then_some(run)
    }
}

impl CandidateNode {
    /// From a node in the first two steps, given all nodes of these steps.
    fn new(
        module: &Module,
        f: &Function,
        folds: &Folds,
        [a, b]: [&Node; 2],
        [before, now]: [&[Node]; 2],
    ) -> Option<CandidateNode> {
        let scope = match (scope(a), scope(b)) {
            (Some(a), Some(b)) => Some(Counting::new(a, b)?),
            _ => None,
        };
        let origin = Counting::new(module.origin_text(a.origin), module.origin_text(b.origin))?;
        let mut names = Vec::new();
        for (a, b) in a.results.iter().zip(&b.results) {
            names.push(match (&f.value(*a).name, &f.value(*b).name) {
                (None, None) => None,
                (Some(a), Some(b)) => Some(Counting::new(a, b)?),
                _ => return None,
            });
        }
        let mut operands = Vec::new();
        for (first, second) in a.operands.iter().zip(&b.operands) {
            let mut guesses = Vec::new();
            for (j, node) in now.iter().enumerate() {
                if let Some(r) = node.results.iter().position(|v| v == second) {
                    guesses.push(Guess::Same(j, r));
                }
            }
            for (j, node) in before.iter().enumerate() {
                if let Some(r) = node.results.iter().position(|v| v == second) {
                    guesses.push(Guess::Carried(j, r));
                }
            }
            guesses.push(Guess::Fixed(*first));
            for (family, index) in folds.members.get(first).into_iter().flatten() {
                for (other, next) in folds.members.get(second).into_iter().flatten() {
                    if other == family && next != index {
                        guesses.push(Guess::Element(*family, *index, next - index));
                    }
                }
            }
            // The first step decides between a value of the same step and others.
            guesses.retain(|guess| match guess {
                Guess::Same(j, r) => before[*j].results[*r] == *first,
                Guess::Fixed(_) => first == second,
                _ => true,
            });
            if guesses.is_empty() {
                return None;
            }
            operands.push(guesses);
        }
        Some(CandidateNode { scope, origin, operands, names })
    }

    /// The guesses about operands that step `t` leaves; `None` if the step does not fit.
    fn narrowed(
        &self,
        module: &Module,
        f: &Function,
        folds: &Folds,
        t: usize,
        node: &Node,
        [before, now]: [&[Node]; 2],
    ) -> Option<Vec<Vec<Guess>>> {
        let scope_fits = match (&self.scope, scope(node)) {
            (Some(counting), Some(scope)) => counting.holds(t, scope),
            (None, None) => true,
            _ => false,
        };
        let names_fit = self.names.iter().zip(&node.results).all(|(counting, value)| {
            match (counting, &f.value(*value).name) {
                (Some(counting), Some(name)) => counting.holds(t, name),
                (None, None) => true,
                _ => false,
            }
        });
        if !scope_fits || !names_fit || !self.origin.holds(t, module.origin_text(node.origin)) {
            return None;
        }
        let mut operands = Vec::new();
        for (guesses, value) in self.operands.iter().zip(&node.operands) {
            let fits = |guess: &Guess| match guess {
                Guess::Same(j, r) => now[*j].results[*r] == *value,
                Guess::Carried(j, r) => before[*j].results[*r] == *value,
                Guess::Fixed(fixed) => fixed == value,
                Guess::Element(family, first, step) => {
                    let index = first + step * t as i64;
                    folds.families[*family].elements.get(&index) == Some(value)
                }
            };
            let left: Vec<Guess> = guesses.iter().copied().filter(fits).collect();
            if left.is_empty() {
                return None;
            }
            operands.push(left);
        }
        Some(operands)
    }
}
