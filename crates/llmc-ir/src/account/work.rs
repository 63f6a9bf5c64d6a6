//! FLOPs and bytes of a function with all it calls, and what each op contributes.
//!
//! A callee is summed once; its sum is then taken as often as it is called, with its symbols
//! replaced. A `scan` counts its body once per slice. Of an `if` the larger branch counts, term by
//! term. The rounds of a `while` are not known: one is counted, and [`Work::is_lower_bound`] says so.

use super::bytes;
use super::external::{bindings, functions_of, reachable};
use crate::cost::Cost;
use crate::module::{FuncId, Function, Module, Node};
use crate::ops::{Bindings, Op};
use crate::text::limits::Size;
use crate::text::sugar;
use crate::types::TensorType;
use llmc_base::Expr;
use llmc_base::expr::Env;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The sums exceed 120 bits or have too many terms: no real model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work of this module is too large to be counted")]
pub struct TooLarge;

/// What one kind of op contributes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OpWork {
    /// How often it is executed.
    pub count: Expr,
    /// In all.
    pub cost: Cost,
}

/// The work of one execution of a function.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Work {
    /// By the name of the op as the text form spells it.
    pub by_op: BTreeMap<String, OpWork>,
    /// Whether a `while` was counted with one round.
    pub is_lower_bound: bool,
}

/// The work of `entry` with all it calls.
///
/// Errors: [`TooLarge`].
pub fn work(module: &Module, entry: FuncId) -> Result<Work, TooLarge> {
    let mut done: BTreeMap<FuncId, Work> = BTreeMap::new();
    for id in reachable(module, entry) {
        let work = of_function(module, module.function(id), &done)?;
        done.insert(id, work);
    }
    Ok(done.remove(&entry).unwrap_or_default())
}

impl Work {
    /// The sum over all ops.
    pub fn total(&self) -> Cost {
        let mut total = Cost::default();
        for op in self.by_op.values() {
            total.flops += op.cost.flops.clone();
            total.bytes_read += op.cost.bytes_read.clone();
            total.bytes_written += op.cost.bytes_written.clone();
        }
        total
    }

    /// A table for people, ops with the most FLOPs first. Symbols must have values in `env`;
    /// what has none is shown as `?`.
    pub fn table(&self, env: &Env) -> String {
        let value = |e: &Expr| e.eval(env);
        let text = |v: Option<i128>| v.map_or("?".to_string(), |v| v.to_string());
        let total = self.total();
        let all_flops = value(&total.flops);
        let mut rows: Vec<(&String, &OpWork)> = self.by_op.iter().collect();
        rows.sort_by_key(|(name, op)| (std::cmp::Reverse(value(&op.cost.flops)), *name));
        let line = |name: &str, count: String, cost: &Cost| {
            let flops = value(&cost.flops);
            let share = match (flops, all_flops) {
                (Some(flops), Some(all)) if all > 0 => {
                    format!("{:.1} %", 100.0 * flops as f64 / all as f64)
                }
                _ => "-".to_string(),
            };
            let read = text(value(&cost.bytes_read));
            [name.to_string(), count, text(flops), share, read, text(value(&cost.bytes_written))]
        };
        let titles = ["op", "count", "flops", "share", "bytes read", "bytes written"];
        let mut lines = vec![titles.map(str::to_string)];
        lines.extend(rows.iter().map(|(name, op)| line(name, text(value(&op.count)), &op.cost)));
        lines.push(line("total", String::new(), &total));
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max();
        let widths: Vec<usize> = (0..titles.len()).filter_map(width).collect();
        let mut out = String::new();
        for line in &lines {
            _ = write!(out, "{:<1$}", line[0], widths[0]);
            for (cell, width) in line.iter().zip(&widths).skip(1) {
                _ = write!(out, "  {cell:>width$}");
            }
            out.push('\n');
        }
        out
    }

    /// Adds `times` times another work.
    fn add(&mut self, other: &Work, times: &Expr) -> Result<(), TooLarge> {
        self.is_lower_bound |= other.is_lower_bound;
        for (name, op) in &other.by_op {
            let slot = self.by_op.entry(name.clone()).or_default();
            for (sum, part) in slot.parts_mut().into_iter().zip(op.parts()) {
                accumulate(sum, part, times)?;
            }
        }
        Ok(())
    }

    /// The larger of two works, term by term.
    fn max(&self, other: &Work) -> Work {
        let mut max = self.clone();
        max.is_lower_bound |= other.is_lower_bound;
        for (name, op) in &other.by_op {
            let slot = max.by_op.entry(name.clone()).or_default();
            for (sum, part) in slot.parts_mut().into_iter().zip(op.parts()) {
                *sum = larger(sum, part);
            }
        }
        max
    }

    /// With symbols replaced.
    fn bound(&self, bindings: &Bindings) -> Result<Work, TooLarge> {
        let mut bound = self.clone();
        let largest = bindings.values().map(Size::of).fold(
            Size { magnitude: 1, terms: 1, degree: 1 },
            |a, b| Size {
                magnitude: a.magnitude.max(b.magnitude),
                terms: a.terms.max(b.terms),
                degree: a.degree.max(b.degree),
            },
        );
        for op in bound.by_op.values_mut() {
            for part in op.parts_mut() {
                let own = Size::of(part);
                check((0..own.degree).fold(own, |size, _| size.times(largest)))?;
                *part = part.substitute(&|s| bindings.get(s).cloned());
            }
        }
        Ok(bound)
    }
}

impl OpWork {
    fn parts(&self) -> [&Expr; 4] {
        let Cost { flops, bytes_read, bytes_written } = &self.cost;
        [&self.count, flops, bytes_read, bytes_written]
    }

    fn parts_mut(&mut self) -> [&mut Expr; 4] {
        let Cost { flops, bytes_read, bytes_written } = &mut self.cost;
        [&mut self.count, flops, bytes_read, bytes_written]
    }
}

fn check(size: Size) -> Result<(), TooLarge> {
    match size.magnitude < 1 << 120 && size.terms <= 1 << 16 && size.degree <= 256 {
        true => Ok(()),
        false => Err(TooLarge),
    }
}

/// `sum += part · times`.
fn accumulate(sum: &mut Expr, part: &Expr, times: &Expr) -> Result<(), TooLarge> {
    check(Size::of(part).times(Size::of(times)))?;
    *sum += part * times;
    check(Size::of(sum))
}

/// Per monomial the larger coefficient: an upper bound of both for symbols of at least 0.
fn larger(a: &Expr, b: &Expr) -> Expr {
    let difference = b.clone() - a.clone();
    let mut sum = a.clone();
    for (coefficient, powers) in difference.terms().filter(|(c, _)| *c > 0) {
        let mut term = Expr::constant(coefficient);
        for (symbol, power) in powers {
            for _ in 0..*power {
                term *= Expr::from(symbol.clone());
            }
        }
        sum += term;
    }
    sum
}

fn of_function(
    module: &Module,
    function: &Function,
    done: &BTreeMap<FuncId, Work>,
) -> Result<Work, TooLarge> {
    let one = Expr::from(1);
    let mut total = Work::default();
    // Calls of one function with one binding are summed at once: all layers of a model.
    let mut calls: BTreeMap<(FuncId, Bindings), i128> = BTreeMap::new();
    for node in &function.nodes {
        let parts = || {
            functions_of(module, node).filter_map(|(callee, _)| {
                Some((done.get(&callee)?, bindings(module, function, node, callee)))
            })
        };
        match &node.op {
            Op::Call(_) => {
                for (callee, _) in functions_of(module, node) {
                    let bound = bindings(module, function, node, callee);
                    *calls.entry((callee, bound)).or_default() += 1;
                }
            }
            Op::Scan(op) => {
                let types: Vec<TensorType> =
                    node.operands.iter().map(|v| function.ty(*v).clone()).collect();
                let length = op.split(module, &types).map_or(one.clone(), |(_, length)| length);
                for (work, bound) in parts() {
                    total.add(&work.bound(&bound)?, &length)?;
                }
            }
            Op::If(_) => {
                let mut larger = Work::default();
                for (work, bound) in parts() {
                    larger = larger.max(&work.bound(&bound)?);
                }
                total.add(&larger, &one)?;
            }
            Op::While(_) => {
                for (work, bound) in parts() {
                    total.add(&work.bound(&bound)?, &one)?;
                }
                total.is_lower_bound = true;
            }
            _ => of_node(function, node, &mut total)?,
        }
    }
    for ((callee, bound), n) in calls {
        if let Some(work) = done.get(&callee) {
            total.add(&work.bound(&bound)?, &Expr::from(n))?;
        }
    }
    Ok(total)
}

fn of_node(function: &Function, node: &Node, total: &mut Work) -> Result<(), TooLarge> {
    let types = |values: &[crate::ValueId]| -> Vec<TensorType> {
        values.iter().map(|v| function.ty(*v).clone()).collect()
    };
    let (operands, results) = (types(&node.operands), types(&node.results));
    let mut cost = node.op.cost(&operands, &results);
    // What the op does not say is what its types say.
    if cost.bytes_read == Expr::default() {
        cost.bytes_read = operands.iter().map(bytes).sum();
    }
    if cost.bytes_written == Expr::default() {
        cost.bytes_written = results.iter().map(bytes).sum();
    }
    let (name, _) = sugar::contract(&node.op);
    let slot = total.by_op.entry(name).or_default();
    let one = Expr::from(1);
    let parts = [&one, &cost.flops, &cost.bytes_read, &cost.bytes_written];
    for (sum, part) in slot.parts_mut().into_iter().zip(parts) {
        accumulate(sum, part, &one)?;
    }
    Ok(())
}
