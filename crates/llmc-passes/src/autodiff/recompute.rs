//! Which forward values are kept for the backward half, and which are computed again there.

use crate::fuse::{subject, value_name};
use llmc_base::Decision;
use llmc_ir::{Function, Node, Op, ValueDef, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// What the backward half of a called function computes again instead of reading it. The values
/// are the same bits either way: a policy trades time for memory, nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Constants and views.
    Views,
    /// Also what costs a few operations per element, where its operands are at hand in the backward
    /// half anyway: norms, activations, gates.
    #[default]
    Cheap,
    /// As `Cheap`, and everything in the first so many calls of the entry: only their inputs are kept.
    /// Source: Chen et al. 2016, arXiv:1604.06174.
    Blocks(usize),
}

impl Recompute {
    /// Everything, in every call.
    pub const ALL: Recompute = Recompute::Blocks(usize::MAX);

    /// The policy for a call of the entry by its number.
    pub(super) fn of_call(self, number: usize) -> Policy {
        match self {
            Recompute::Views => Policy::Views,
            Recompute::Blocks(n) if number < n => Policy::All,
            Recompute::Cheap | Recompute::Blocks(_) => Policy::Cheap,
        }
    }
}

/// What the backward half of one function computes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Policy {
    /// Constants and views.
    Views,
    /// Also what is cheap.
    Cheap,
    /// All but calls.
    All,
}

/// Why the backward half keeps a value or computes it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It is a constant or a view.
    View,
    /// It costs little and all that it is made of is there.
    Cheap,
    /// The policy keeps nothing of this call but its inputs.
    Block,
    /// It is the result of a call.
    Call,
    /// It costs more than reading it back.
    Expensive,
    /// It costs little, but this operand would have to be kept for it.
    OperandGone(ValueId),
    /// The policy computes nothing again but views.
    ViewsOnly,
}

impl Why {
    fn choice(self) -> &'static str {
        match self {
            Why::View | Why::Cheap | Why::Block => "computed again",
            Why::Call | Why::Expensive | Why::OperandGone(_) | Why::ViewsOnly => "kept",
        }
    }

    fn text(self, function: &Function) -> String {
        match self {
            Why::View => "a constant or a view costs nothing to make again".into(),
            Why::Cheap => {
                "it costs a few operations per element, and all that it is made of is there".into()
            }
            Why::Block => "`gradient_checkpointing` keeps only the inputs of this layer".into(),
            Why::Call => "results of calls are always kept: a call may be long".into(),
            Why::Expensive => "computing it again costs more than reading it back".into(),
            Why::OperandGone(operand) => format!(
                "it is cheap, but {} would have to be kept for it instead",
                value_name(function, operand)
            ),
            Why::ViewsOnly => "nothing but views is to be computed again".into(),
        }
    }
}

/// Whether an op moves or repeats values that are there already.
fn is_view(op: &Op) -> bool {
    matches!(op, Op::Constant(_) | Op::Literal(_) | Op::Iota(_) | Op::Reshape(_) | Op::Broadcast(_))
}

/// Whether an op costs a few operations per element.
fn is_cheap(op: &Op) -> bool {
    matches!(
        op,
        Op::RmsNorm(_)
            | Op::LayerNorm(_)
            | Op::Silu(_)
            | Op::Swiglu(_)
            | Op::Gelu(_)
            | Op::GeluTanh(_)
            | Op::Relu(_)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select(_)
            | Op::Cast(_)
            | Op::Transpose(_)
            | Op::Slice(_)
    )
}

/// What the backward half reads of the forward half.
pub(super) struct Needs<'a> {
    function: &'a Function,
    n_forward: usize,
    policy: Policy,
    /// Parameters.
    params: BTreeSet<ValueId>,
    /// Results of forward nodes that are saved.
    saved: BTreeSet<ValueId>,
    /// Why each value that was looked at is saved or made again.
    why: BTreeMap<ValueId, Why>,
}

/// What [`Needs::decide`] finds.
pub(super) struct Decided {
    /// Parameters that the backward half reads.
    pub params: BTreeSet<ValueId>,
    /// Values to save for it.
    pub saved: BTreeSet<ValueId>,
    /// What was decided and why, by value; the function is the caller's to name.
    pub log: Vec<Decision>,
}

impl<'a> Needs<'a> {
    /// Of a joint function whose first `n_forward` nodes are its forward half.
    pub fn new(function: &'a Function, n_forward: usize, policy: Policy) -> Self {
        let (params, saved, why) = Default::default();
        Needs { function, n_forward, policy, params, saved, why }
    }

    /// Notes that the backward half reads a value.
    pub fn read(&mut self, value: ValueId) {
        match self.function.value(value).def {
            ValueDef::Param(_) => {
                self.params.insert(value);
            }
            ValueDef::Node { node, .. } if node.index() < self.n_forward => {
                let node = &self.function.nodes[node.index()];
                let why = match &node.op {
                    // A call may be long and may have state: its results are always kept.
                    Op::Call(_) => Why::Call,
                    op if is_view(op) => Why::View,
                    _ => match self.policy {
                        Policy::All => Why::Block,
                        Policy::Views => Why::ViewsOnly,
                        Policy::Cheap => Why::Expensive,
                    },
                };
                self.why.insert(value, why);
                if why.choice() == "kept" {
                    self.saved.insert(value);
                } else {
                    node.operands.iter().for_each(|v| self.read(*v));
                }
            }
            ValueDef::Node { .. } => {}
        }
    }

    /// The parameters that the backward half reads and the values to save for it.
    pub fn decide(mut self) -> Decided {
        if self.policy == Policy::Cheap {
            // In the order of their definitions: one may follow from another.
            let mut again = BTreeSet::new();
            for value in self.saved.clone() {
                let ValueDef::Node { node, .. } = self.function.value(value).def else { continue };
                let node = &self.function.nodes[node.index()];
                if !is_cheap(&node.op) {
                    continue;
                }
                match node.operands.iter().find(|v| !self.is_at_hand(**v, &again)) {
                    None => {
                        again.insert(value);
                        self.why.insert(value, Why::Cheap);
                    }
                    Some(operand) => {
                        self.why.insert(value, Why::OperandGone(*operand));
                    }
                }
            }
            let dropped: Vec<ValueId> = again.into_iter().collect();
            dropped.iter().for_each(|value| {
                self.saved.remove(value);
            });
            // What they are made of is read now, also where nothing else reads it.
            for value in dropped {
                if let ValueDef::Node { node, .. } = self.function.value(value).def {
                    self.read_weights(&self.function.nodes[node.index()]);
                }
            }
        }
        let log = self.why.iter().filter_map(|(value, why)| {
            let ValueDef::Node { node, .. } = self.function.value(*value).def else { return None };
            let subject = subject(self.function, node.index());
            let why_text = why.text(self.function);
            let decision = Decision::new("recompute", "", subject, why.choice(), why_text);
            Some(decision.about([self.function.nodes[node.index()].op.name()]))
        });
        Decided { log: log.collect(), params: self.params, saved: self.saved }
    }

    /// Notes the parameters that a node reads, through views.
    fn read_weights(&mut self, node: &Node) {
        for operand in &node.operands {
            match self.function.value(*operand).def {
                ValueDef::Param(_) => {
                    self.params.insert(*operand);
                }
                ValueDef::Node { node, .. } => {
                    let node = &self.function.nodes[node.index()];
                    if is_view(&node.op) {
                        self.read_weights(node);
                    }
                }
            }
        }
    }

    /// Whether the backward half has a value, or can have it for little. A weight is always there; an
    /// input of which nothing else is read would have to be kept for this alone.
    fn is_at_hand(&self, value: ValueId, again: &BTreeSet<ValueId>) -> bool {
        match self.function.value(value).def {
            ValueDef::Param(_) => {
                self.params.contains(&value)
                    || self.function.weights().any(|(_, weight)| weight == value)
            }
            ValueDef::Node { node, .. } => {
                let node = &self.function.nodes[node.index()];
                self.saved.contains(&value)
                    || again.contains(&value)
                    || (is_view(&node.op)
                        && node.operands.iter().all(|v| self.is_at_hand(*v, again)))
            }
        }
    }
}
