//! Why a launch, a place or a fusion is as it is: small values that the planner writes where it decides.
//!
//! Every `match` here names every variant: a decision without a reason does not compile.

use llmc_ir::{Op, ValueId};

/// Why a launch runs on its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A product of f32 matrices in strides.
    Product,
    /// The op has a kernel for these types.
    Native,
    /// A `dot` whose dims the matrix product does not take.
    DotDims,
    /// The op has a kernel, or none, for other types.
    Types,
    /// The op has no kernel.
    NoKernel,
    /// A reshape whose result lives elsewhere than its operand.
    Moved,
    /// The accumulator that the next launch continues is no state.
    AccumulatorCopied,
    /// The successor of a state whose old value was still read when it was made.
    StateStillRead,
    /// A result whose value lives elsewhere.
    ResultElsewhere,
    /// A factor that is the same for all elements.
    ScalarFactor,
    /// The optimiser step takes the factor on its gradient.
    StepScales,
    /// The gradient of a norm sums its weight rows itself.
    NormSums,
}

impl Why {
    /// Half a sentence for people.
    pub fn text(self) -> &'static str {
        match self {
            Why::Product => "a product of f32 matrices, whatever their strides",
            Why::Native => "the op has a kernel of its own for these types",
            Why::DotDims => {
                "no matrix product: it has batch dims, or contracted dims that neither lead nor trail; \
                 the evaluator computes it"
            }
            Why::Types => "no kernel takes these types; the evaluator computes it",
            Why::NoKernel => "the op has no kernel; the evaluator, its definition, computes it",
            Why::Moved => "a reshape is a copy where its result has a place of its own",
            Why::AccumulatorCopied => {
                "the sum starts from a value that is no state, so from a copy of it"
            }
            Why::StateStillRead => {
                "the old state was still read when its successor was made, so it is copied last"
            }
            Why::ResultElsewhere => "the result has a place, and its value lives in another",
            Why::ScalarFactor => "a factor that is the same everywhere is never spread in memory",
            Why::StepScales => {
                "the optimiser step multiplies its gradient itself: one pass over it less"
            }
            Why::NormSums => "the weight rows go into their sum at once and are never in memory",
        }
    }

    /// The ops whose work the launch of `op` does.
    pub fn ops(self, op: &Op) -> Vec<&'static str> {
        match self {
            Why::ScalarFactor => vec!["broadcast", op.name()],
            Why::StepScales => vec!["broadcast", "binary", op.name()],
            Why::NormSums => vec![op.name(), "bias_grad"],
            Why::Moved
            | Why::AccumulatorCopied
            | Why::StateStillRead
            | Why::ResultElsewhere
            | Why::Product
            | Why::Native
            | Why::DotDims
            | Why::Types
            | Why::NoKernel => vec![op.name()],
        }
    }
}

/// Why a launch could be part of another and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declined {
    /// A scaled value that others than one optimiser step's gradient read.
    ScaledIsRead,
    /// A spread scalar that others than products read.
    ScalarIsRead,
    /// Weight rows of a norm that others than one token sum read.
    RowsAreRead,
    /// The token sum does not go into a state.
    SumIsNoState,
}

impl Declined {
    /// Half a sentence for people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Declined::ScaledIsRead => {
                "it is not the gradient of one optimiser step alone, so it is written"
            }
            Declined::ScalarIsRead => {
                "others than products by it read the spread scalar, so it is written"
            }
            Declined::RowsAreRead => {
                "others than one token sum read the weight rows, so they are written"
            }
            Declined::SumIsNoState => "the token sum goes into no f32 state, so it runs by itself",
        }
    }
}

/// Where a value lives, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// A parameter: the caller's, or persistent.
    Parameter,
    /// A reshape: the words of its operand.
    View(ValueId),
    /// The state that its op continues.
    InPlace(ValueId),
    /// A result, built where it belongs.
    Result,
    /// In the frame, from one node to another.
    Frame {
        /// The node that makes it.
        first: usize,
        /// The last node that touches it.
        last: usize,
    },
    /// Never in memory: another launch does the work of its node.
    Absorbed,
}

impl Storage {
    /// One word for people.
    pub(crate) fn choice(self) -> &'static str {
        match self {
            Storage::Parameter => "parameter",
            Storage::View(_) => "view",
            Storage::InPlace(_) => "in place",
            Storage::Result => "result",
            Storage::Frame { .. } => "frame",
            Storage::Absorbed => "absorbed",
        }
    }
}
