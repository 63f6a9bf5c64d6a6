//! Runs of calls over a list of modules, written as loops.

use super::Body;
use crate::python::Code;
use crate::pytorch::EmitError;
use crate::pytorch::tree::{has_weights, weight_path};
use llmc_ir::ops::Call;
use llmc_ir::{Op, ValueId};
use std::collections::BTreeSet;

/// A run of calls of one function over all modules of a list.
pub(super) struct Run {
    start: usize,
    pub(super) end: usize,
    /// Path of the list.
    list: String,
    /// For each operand: the result of the call before that it takes, if it is carried.
    carried: Vec<Option<usize>>,
}

impl Body<'_, '_, '_> {
    /// The run that starts at node `start`, if it covers a whole list.
    pub(super) fn find_run(&self, start: usize) -> Option<Run> {
        let nodes = &self.function.nodes;
        let Op::Call(first) = &nodes[start].op else { return None };
        let (list, "0") = first.scope.rsplit_once('.')? else { return None };
        let length = self.tree.get(list)?.children.len();
        let end = start + length;
        let calls = nodes.get(start..end)?;
        for (i, node) in calls.iter().enumerate() {
            let expected = Call { callee: first.callee.clone(), scope: format!("{list}.{i}") };
            if node.op != Op::Call(expected) {
                return None;
            }
        }
        if !has_weights(self.shared.module, &first.callee) {
            return None;
        }
        let inside: BTreeSet<ValueId> = calls.iter().flat_map(|n| &n.results).copied().collect();
        let n_operands = nodes[start].operands.len();
        let carried: Vec<Option<usize>> = (0..n_operands)
            .map(|j| {
                let [before, after, ..] = calls else { return None };
                before.results.iter().position(|r| *r == after.operands[j])
            })
            .collect();
        for pair in calls.windows(2) {
            for (j, carry) in carried.iter().enumerate() {
                let expected = match carry {
                    Some(result) => pair[0].results[*result],
                    None => calls[0].operands[j],
                };
                if pair[1].operands[j] != expected
                    || (carry.is_none() && inside.contains(&expected))
                {
                    return None;
                }
            }
        }
        // A single layer has nothing to carry, and a result that is not carried would be lost.
        let is_whole = (0..nodes[start].results.len()).all(|r| carried.contains(&Some(r)));
        let is_private = calls[..length - 1].iter().all(|node| {
            node.results.iter().enumerate().all(|(r, value)| {
                let uses = carried.iter().filter(|c| **c == Some(r)).count();
                self.left.get(value).copied().unwrap_or(0) == uses
            })
        });
        let is_loop = length > 1 && is_whole && is_private;
        is_loop.then(|| Run { start, end, list: list.to_string(), carried })
    }

    /// Whether a value is what a run starts from: the loop's variable takes it.
    pub(super) fn starts_run(&self, value: ValueId) -> bool {
        let nodes = &self.function.nodes;
        let user = nodes.iter().position(|n| n.operands.contains(&value));
        let run = user.and_then(|at| self.find_run(at));
        let carried = |run: &Run| {
            let operands = nodes[run.start].operands.iter().zip(&run.carried);
            operands.filter(|(v, _)| **v == value).all(|(_, carry)| carry.is_some())
        };
        run.as_ref().is_some_and(carried)
    }

    /// Writes a run as a loop over its list.
    pub(super) fn run(&mut self, run: &Run) -> Result<(), EmitError> {
        let function = self.function;
        let (first, last) = (&function.nodes[run.start], &function.nodes[run.end - 1]);
        let Op::Call(call) = &first.op else { return Ok(()) };
        let callee =
            self.shared.module.find(&call.callee).map(|id| self.shared.module.function(id));
        let parameter = |j: usize| {
            let callee = callee?;
            callee.value(callee.inputs().nth(j)?).name.clone()
        };
        // Invariant operands are read in every round, so they become variables if they are not.
        let mut arguments = Vec::new();
        let mut starts = Vec::new();
        for (j, operand) in first.operands.iter().enumerate() {
            let code = self.tensor(*operand)?;
            if run.carried[j].is_some() {
                starts.push((j, *operand, code));
                arguments.push(String::new());
                continue;
            }
            let is_simple =
                self.variables.contains_key(operand) || weight_path(function, *operand).is_some();
            arguments.push(match is_simple {
                true => code.text().to_string(),
                false => {
                    let name = self.fresh(&parameter(j).unwrap_or_else(|| "y".to_string()));
                    self.lines.line(&format!("{name} = {}", code.text()));
                    name
                }
            });
        }
        for node in &function.nodes[run.start..run.end] {
            node.operands.iter().for_each(|v| self.consume(*v));
        }
        let mut results = vec![String::new(); last.results.len()];
        for (j, operand, code) in starts {
            let is_dead = self.left.get(&operand).is_none_or(|n| *n == 0);
            let variable = match self.variables.get(&operand) {
                Some(variable) if is_dead && !self.reads.values().any(|r| r.contains(variable)) => {
                    variable.clone()
                }
                _ => {
                    let name = self.fresh(&parameter(j).unwrap_or_else(|| "x".to_string()));
                    self.lines.line(&format!("{name} = {}", code.text()));
                    name
                }
            };
            if let Some(result) = run.carried[j] {
                results[result].clone_from(&variable);
            }
            arguments[j] = variable;
        }
        let list = self.tree.reach(&run.list);
        let name = run.list.rsplit('.').next().unwrap_or("modules");
        let item = self.fresh(name.strip_suffix('s').filter(|s| !s.is_empty()).unwrap_or("module"));
        self.lines.line(&format!("for {item} in {list}:"));
        self.lines.indent();
        let call = Code::call(&item, &arguments);
        self.lines.line(&format!("{} = {}", results.join(", "), call.text()));
        self.lines.dedent();
        for (value, variable) in last.results.iter().zip(results) {
            self.bind(*value, variable);
        }
        Ok(())
    }
}
