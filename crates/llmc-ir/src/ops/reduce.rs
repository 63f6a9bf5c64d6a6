//! `reduce`: sums, extremes and products over axes, in a declared order.

use super::check;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::cost::Cost;
use crate::module::Module;
use crate::op::{Class, OpDef};
use crate::sample::Samples;
use crate::types::{DType, TensorType, TypeError, ensure};

/// What is computed over the reduced elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it all.
pub enum ReduceKind {
    Sum,
    Max,
    Min,
    Prod,
}

impl ReduceKind {
    /// Every kind with its word in the text form.
    pub const WORDS: [(ReduceKind, &'static str); 4] = [
        (ReduceKind::Sum, "sum"),
        (ReduceKind::Max, "max"),
        (ReduceKind::Min, "min"),
        (ReduceKind::Prod, "prod"),
    ];
}

/// In which order the elements are folded (`docs/numerics.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// 16 virtual lanes and one fixed tree: sums along a row.
    Lanes,
    /// One chain in row-major order that may start from `init`: sums over tokens.
    Chain,
}

impl Order {
    /// Every order with its word in the text form.
    pub const WORDS: [(Order, &'static str); 2] =
        [(Order::Lanes, "lanes"), (Order::Chain, "chain")];
}

/// Reduces axes away, folding their elements in row-major order of the axes.
///
/// x: any, init (optional, only with `order = chain`): the result type → the shape of x without
/// `axes`, of dtype `acc`. Sum and product accumulate in `acc`, which is f32 or f64 for floats
/// and at least as wide as x; maximum and minimum keep the dtype of x, and NaN wins.
///
/// Errors: `reduce::c1` if the axes are not increasing axes of x, `reduce::c2` if `acc` does not
/// fit, `reduce::c3` if init has another type or the order is not `chain`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// What is computed.
    pub kind: ReduceKind,
    /// Axes to reduce, strictly increasing.
    pub axes: Vec<usize>,
    /// Order of the fold.
    pub order: Order,
    /// Dtype of the accumulator and of the result.
    pub acc: DType,
}

impl OpDef for Reduce {
    const NAME: &'static str = "reduce";
    const CLASS: Class = Class::Primitive;

    fn attrs(&self) -> Attrs {
        vec![
            ("kind", check::word(&ReduceKind::WORDS, &self.kind)),
            ("axes", check::axes_attr(&self.axes)),
            ("order", check::word(&Order::WORDS, &self.order)),
            ("acc", Attr::DType(self.acc)),
        ]
    }

    fn from_attrs(attrs: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Reduce {
            kind: check::required_kind(&ReduceKind::WORDS, attrs, "kind")?,
            axes: check::axes(attrs, "axes")?,
            order: check::required_kind(&Order::WORDS, attrs, "order")?,
            acc: attrs.req("acc")?,
        })
    }

    fn infer(&self, _: &Module, types: &[TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let types = check::between(Self::NAME, types, 1, 2)?;
        let x = &types[0];
        ensure(check::increasing(&self.axes, x.rank()), "reduce::c1", || {
            format!("axes {:?} are not increasing axes of {x}", self.axes)
        })?;
        match self.kind {
            ReduceKind::Sum | ReduceKind::Prod => {
                check::ensure_accumulates("reduce::c2", self.acc, x.dtype)?;
            }
            ReduceKind::Max | ReduceKind::Min => ensure(self.acc == x.dtype, "reduce::c2", || {
                format!("`acc = {}` differs from the dtype of {x}", self.acc)
            })?,
        }
        let kept = (0..x.rank()).filter(|axis| !self.axes.contains(axis));
        let result =
            TensorType { dtype: self.acc, shape: kept.map(|axis| x.shape[axis].clone()).collect() };
        if let Some(init) = types.get(1) {
            check::ensure_same("reduce::c3", "init", init, &result)?;
            ensure(self.order == Order::Chain, "reduce::c3", || {
                "init needs `order = chain`".to_string()
            })?;
        }
        Ok(vec![result])
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        match self.kind {
            ReduceKind::Sum | ReduceKind::Prod => Cost::flops(types[0].numel()),
            ReduceKind::Max | ReduceKind::Min => Cost::default(),
        }
    }

    fn samples() -> Samples {
        Samples::default()
    }
}
