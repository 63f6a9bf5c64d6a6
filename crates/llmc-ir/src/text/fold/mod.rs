//! Finds runs of nodes that a `repeat` says in a few lines: the layers of a model.
//!
//! A run is `count` steps of `period` nodes each. From step to step the nodes have the same op,
//! types and attributes, except that the scopes of calls (and origins, and names of results) count
//! up or down by a constant; and each operand is one of
//! - the same value in every step,
//! - a result of the same step,
//! - a result of the step before (the first step takes an initial value),
//! - an element of an earlier run's results, at an index that is affine in the step.
//!
//! The results of a run become *families* with an index, `%h[i]`. A carried result has the index
//! of the step that reads it, so that `%h[0]` is the initial value of an ascending run.
//!
//! Only functions whose values are numbered in the order of their definitions are folded, because
//! the parser numbers unrolled values in that order. Runs of fewer than [`MIN_STEPS`] steps and
//! runs without a call whose scope counts stay as they are.

mod candidate;
mod counting;

use super::names::label;
use super::sugar;
use super::syntax::{Affine, Pattern, Piece};
use crate::module::{Function, Module, Node, ValueId};
use crate::ops::Op;
use candidate::{Candidate, Guess};
use counting::Counting;
use std::collections::{BTreeMap, BTreeSet};

/// Fewer steps are easier to read unrolled.
pub(crate) const MIN_STEPS: usize = 3;
/// Longest step that is looked for, in nodes.
const MAX_PERIOD: usize = 256;

/// The runs of a function, in order, and the families they define.
#[derive(Debug, Default)]
pub(crate) struct Folds {
    pub(crate) runs: Vec<Run>,
    pub(crate) families: Vec<Family>,
    /// Value to family and index; the definition stands before uses as initial values.
    members: BTreeMap<ValueId, Vec<(usize, i64)>>,
}

/// Values with an index.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) label: String,
    elements: BTreeMap<i64, ValueId>,
}

/// One run.
#[derive(Debug)]
pub(crate) struct Run {
    /// Index of the first node.
    pub(crate) first: usize,
    pub(crate) period: usize,
    pub(crate) count: usize,
    /// Smallest index.
    pub(crate) start: i64,
    /// Whether the index counts down.
    pub(crate) is_reversed: bool,
    /// Family, index and value of what is carried into the first step.
    pub(crate) initial: Vec<(usize, i64, ValueId)>,
    /// One per node of a step.
    pub(crate) body: Vec<RunNode>,
}

/// One node of each step.
#[derive(Debug)]
pub(crate) struct RunNode {
    /// Scope, for a call.
    pub(super) scope: Option<Pattern>,
    pub(super) origin: Pattern,
    pub(crate) operands: Vec<RunOperand>,
    pub(crate) results: Vec<RunResult>,
}

impl RunNode {
    /// The scope with its index expression, `layers.{i}`.
    pub(crate) fn scope_text(&self) -> Option<String> {
        self.scope.as_ref().map(Pattern::written)
    }
}

/// An operand in each step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RunOperand {
    /// The same value.
    Fixed(ValueId),
    /// Family and index.
    Element(usize, Affine),
}

/// A result in each step.
#[derive(Debug)]
pub(crate) struct RunResult {
    pub(crate) family: usize,
    pub(crate) index: Affine,
    pub(super) named: Option<Pattern>,
}

impl Folds {
    /// Family and index where the value is defined by a run.
    pub(crate) fn element(&self, value: ValueId) -> Option<(usize, i64)> {
        let (family, index) = *self.members.get(&value)?.first()?;
        (!self.is_initial(family, index)).then_some((family, index))
    }

    fn is_initial(&self, family: usize, index: i64) -> bool {
        self.runs.iter().any(|r| r.initial.iter().any(|(f, i, _)| (*f, *i) == (family, index)))
    }

    /// The run that starts at this node.
    pub(crate) fn run_at(&self, node: usize) -> Option<&Run> {
        self.runs.iter().find(|run| run.first == node)
    }

    fn add_member(&mut self, family: usize, index: i64, value: ValueId) {
        self.families[family].elements.insert(index, value);
        self.members.entry(value).or_default().push((family, index));
    }
}

/// The runs of a function.
pub(crate) fn folds(module: &Module, function: &Function) -> Folds {
    let mut folds = Folds::default();
    let has_calls = function.nodes.iter().any(|node| matches!(node.op, Op::Call(_)));
    if !has_calls || !function.is_canonical() {
        return folds;
    }
    let mut labels: BTreeSet<String> =
        function.values.iter().filter_map(|v| v.name.clone()).collect();
    let mut at = 0;
    while at < function.nodes.len() {
        // The shortest step that covers the most nodes.
        let mut longest: Option<Candidate> = None;
        for period in 1..=MAX_PERIOD {
            let covered = longest.as_ref().map_or(0, |c| c.count * c.period);
            // A step that repeats within the run found so far says no more than that run.
            if period * MIN_STEPS > covered
                && let Some(found) = Candidate::find(module, function, &folds, at, period)
                && found.count * found.period > covered
            {
                longest = Some(found);
            }
        }
        match longest.and_then(|c| c.into_run(module, function, &mut folds, &mut labels)) {
            Some(run) => {
                at += run.count * run.period;
                folds.runs.push(run);
            }
            None => at += 1,
        }
    }
    folds
}

impl Candidate {
    /// Makes the families. `None` if one result would start from two initial values.
    fn into_run(
        self,
        module: &Module,
        f: &Function,
        folds: &mut Folds,
        labels: &mut BTreeSet<String>,
    ) -> Option<Run> {
        let lead = self.nodes.iter().find_map(|n| n.scope.as_ref().filter(|s| s.step != 0))?;
        let is_reversed = lead.step < 0;
        let last = self.count as i64 - 1;
        let start = match lead.step {
            1 => lead.first,
            -1 => lead.first - last,
            _ => 0,
        };
        let (dir, i0) = if is_reversed { (-1, start + last) } else { (1, start) };
        // What counts `first, first + step, …` over the steps, as a function of the index.
        let affine =
            |first: i64, step: i64| Affine { scale: step * dir, offset: first - step * dir * i0 };
        let pattern = |c: &Counting| match c.step {
            0 => Pattern(vec![Piece::Text(c.prefix.clone())]),
            _ => Pattern(vec![
                Piece::Text(c.prefix.clone()),
                Piece::Index(affine(c.first, c.step)),
                Piece::Text(c.suffix.clone()),
            ]),
        };

        // Which results are carried, and from what they start.
        let mut initial: BTreeMap<(usize, usize), ValueId> = BTreeMap::new();
        for (j, node) in self.nodes.iter().enumerate() {
            for (o, guesses) in node.operands.iter().enumerate() {
                if let Guess::Carried(from, r) = guesses[0] {
                    let value = f.nodes[self.first + j].operands[o];
                    if *initial.entry((from, r)).or_insert(value) != value {
                        return None;
                    }
                }
            }
        }
        // Index of a result at index i, and of the same result as the next step sees it.
        let defined = |key: &(usize, usize)| {
            let shift = i64::from(initial.contains_key(key) && !is_reversed);
            Affine { scale: 1, offset: shift }
        };
        let carried = Affine { scale: 1, offset: i64::from(is_reversed) };

        let mut families = BTreeMap::new();
        for (j, node) in f.nodes[self.first..self.first + self.period].iter().enumerate() {
            for r in 0..node.results.len() {
                let label = unique_label(node, r, labels, module);
                folds.families.push(Family { label, elements: BTreeMap::new() });
                families.insert((j, r), folds.families.len() - 1);
            }
        }
        let mut run = Run {
            first: self.first,
            period: self.period,
            count: self.count,
            start,
            is_reversed,
            initial: initial
                .iter()
                .map(|(key, value)| (families[key], carried.at(i0), *value))
                .collect(),
            body: Vec::new(),
        };
        for (j, node) in self.nodes.iter().enumerate() {
            let operands = node.operands.iter().map(|guesses| match guesses[0] {
                Guess::Fixed(value) => RunOperand::Fixed(value),
                Guess::Same(from, r) => {
                    RunOperand::Element(families[&(from, r)], defined(&(from, r)))
                }
                Guess::Carried(from, r) => RunOperand::Element(families[&(from, r)], carried),
                Guess::Element(family, first, step) => {
                    RunOperand::Element(family, affine(first, step))
                }
            });
            run.body.push(RunNode {
                scope: node.scope.as_ref().map(pattern),
                origin: pattern(&node.origin),
                operands: operands.collect(),
                results: (0..node.names.len())
                    .map(|r| RunResult {
                        family: families[&(j, r)],
                        index: defined(&(j, r)),
                        named: node.names[r].as_ref().map(pattern),
                    })
                    .collect(),
            });
        }
        for t in 0..self.count {
            let i = i0 + dir * t as i64;
            for j in 0..self.period {
                let results = &f.nodes[self.first + t * self.period + j].results;
                for (r, value) in results.iter().enumerate() {
                    folds.add_member(families[&(j, r)], defined(&(j, r)).at(i), *value);
                }
            }
        }
        for (family, index, value) in &run.initial {
            folds.add_member(*family, *index, *value);
        }
        Some(run)
    }
}

/// A label for result `r` of a node: the callee's name for it, or the op's spelling.
fn unique_label(node: &Node, r: usize, labels: &mut BTreeSet<String>, module: &Module) -> String {
    let name = match &node.op {
        Op::Call(call) => module
            .find(&call.callee)
            .and_then(|id| module.function(id).outputs().nth(r).map(|(name, _)| name.to_string())),
        _ => None,
    };
    let base = label(&name.unwrap_or_else(|| sugar::contract(&node.op).0));
    let mut unique = base.clone();
    let mut n = 2;
    while !labels.insert(unique.clone()) {
        unique = format!("{base}_{n}");
        n += 1;
    }
    unique
}
