//! `reduce`: sums, extremes and products over axes, in a declared order.

use super::check;
use crate::attr::{Attr, AttrError, AttrReader, Attrs};
use crate::builder::FunctionBuilder;
use crate::cost::Cost;
use crate::eval::{self, EvalError, Mode, Tensor};
use crate::module::{Module, ValueId};
use crate::op::{Class, Cotangents, OpDef, VjpInput};
use crate::ops::CompareKind;
use crate::sample::{BadSample, Fill, Sample, Samples, f32, i32, typed};
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

impl Reduce {
    /// A result repeated along the reduced axes, to the shape of `like`.
    fn spread(
        &self,
        b: &mut FunctionBuilder,
        result: ValueId,
        like: ValueId,
    ) -> Result<ValueId, TypeError> {
        let dims = b.ty(like).shape.clone();
        let kept: Vec<usize> = (0..dims.len()).filter(|a| !self.axes.contains(a)).collect();
        b.broadcast(result, &dims, &kept)
    }

    /// The sum of a condition over the reduced elements and init, as floats of the result type.
    fn count(
        &self,
        b: &mut FunctionBuilder,
        hits: ValueId,
        init_hits: Option<ValueId>,
    ) -> Result<ValueId, TypeError> {
        let count = b.sum_chain(hits, &self.axes)?;
        match init_hits {
            Some(more) => b.add(count, more),
            None => Ok(count),
        }
    }

    /// Elements equal to the extreme share the cotangent.
    fn extreme_gradient(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
        dy: ValueId,
    ) -> Result<Vec<ValueId>, TypeError> {
        let (x, y) = (input.operands[0], input.results[0]);
        let wide = self.spread(b, y, x)?;
        let hits = b.compare(CompareKind::Eq, x, wide)?;
        let hits = b.cast(hits, self.acc)?;
        let init_hits = match input.operands.get(1) {
            Some(init) => {
                let hits = b.compare(CompareKind::Eq, *init, y)?;
                Some(b.cast(hits, self.acc)?)
            }
            None => None,
        };
        let count = self.count(b, hits, init_hits)?;
        let share = b.div(dy, count)?;
        let wide = self.spread(b, share, x)?;
        let mut grads = vec![b.mul(hits, wide)?];
        if let Some(hits) = init_hits {
            grads.push(b.mul(hits, share)?);
        }
        Ok(grads)
    }

    /// The product of all other elements, right even where some are zero.
    fn product_gradient(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
        dy: ValueId,
    ) -> Result<Vec<ValueId>, TypeError> {
        let mut parts = Vec::new();
        for operand in input.operands {
            // Zeros are set aside: (element or 1, 1 where it was 0).
            let x = b.cast(*operand, self.acc)?;
            let zero = b.constant_like(x, 0.0)?;
            let one = b.constant_like(x, 1.0)?;
            let is_zero = b.compare(CompareKind::Eq, x, zero)?;
            parts.push((b.select(is_zero, one, x)?, b.cast(is_zero, self.acc)?));
        }
        let (x, zeros) = parts[0];
        let init = parts.get(1).copied();
        let zeros = self.count(b, zeros, init.map(|(_, zeros)| zeros))?;
        let product = b.token_sum(self.clone(), &[x], init.map(|(x, _)| x))?;
        let mut grads = Vec::new();
        for (i, (x, own_zeros)) in parts.into_iter().enumerate() {
            let fit = |b: &mut FunctionBuilder, result| match i {
                0 => self.spread(b, result, x),
                _ => Ok(result),
            };
            let (zeros, product, dy) = (fit(b, zeros)?, fit(b, product)?, fit(b, dy)?);
            let others = b.div(product, x)?;
            let none = b.constant_like(others, 0.0)?;
            let no_other_zero = b.compare(CompareKind::Eq, zeros, own_zeros)?;
            let slope = b.select(no_other_zero, others, none)?;
            grads.push(b.mul(dy, slope)?);
        }
        Ok(grads)
    }
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

    fn eval(&self, v: &[&Tensor], mode: Mode) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval::reduce(self, v[0], v.get(1).copied(), mode)?])
    }

    fn vjp(
        &self,
        b: &mut FunctionBuilder,
        input: &VjpInput,
    ) -> Result<Option<Cotangents>, TypeError> {
        let mut out = vec![None; input.operands.len()];
        let Some(dy) = input.cotangents[0] else { return Ok(Some(out)) };
        if !self.acc.is_float() {
            return Ok(Some(out));
        }
        let grads = match self.kind {
            ReduceKind::Sum => {
                let like = input.operands[0];
                let dx = self.spread(b, dy, like)?;
                vec![dx, dy]
            }
            ReduceKind::Max | ReduceKind::Min => self.extreme_gradient(b, input, dy)?,
            ReduceKind::Prod => self.product_gradient(b, input, dy)?,
        };
        for (i, grad) in grads.into_iter().enumerate().take(input.operands.len()) {
            if input.needed[i] {
                let grad = b.cast(grad, b.ty(input.operands[i]).dtype)?;
                out[i] = Some(input.fold(b, i, grad)?);
            }
        }
        Ok(Some(out))
    }

    fn cost(&self, types: &[TensorType], _: &[TensorType]) -> Cost {
        match self.kind {
            ReduceKind::Sum | ReduceKind::Prod => Cost::flops(types[0].numel()),
            ReduceKind::Max | ReduceKind::Min => Cost::default(),
        }
    }

    fn samples() -> Samples {
        Samples {
            good: vec![
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Sum,
                        axes: vec![1],
                        order: Order::Lanes,
                        acc: DType::F32,
                    },
                    [(f32(&[3, 33]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Sum,
                        axes: vec![0, 1],
                        order: Order::Chain,
                        acc: DType::F32,
                    },
                    [(f32(&[2, 3, 5]), Fill::Normal), (f32(&[5]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Sum,
                        axes: vec![1],
                        order: Order::Lanes,
                        acc: DType::F32,
                    },
                    [(typed(DType::Bf16, &[3, 33]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Sum,
                        axes: vec![0, 2],
                        order: Order::Lanes,
                        acc: DType::F64,
                    },
                    [(typed(DType::F64, &[2, 3, 5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Sum,
                        axes: vec![],
                        order: Order::Chain,
                        acc: DType::F32,
                    },
                    [(f32(&[4]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Max,
                        axes: vec![1],
                        order: Order::Lanes,
                        acc: DType::F32,
                    },
                    [(f32(&[3, 17]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Max,
                        axes: vec![0],
                        order: Order::Chain,
                        acc: DType::F32,
                    },
                    [(f32(&[3, 4]), Fill::Normal), (f32(&[4]), Fill::Normal)],
                    &[0, 1],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Min,
                        axes: vec![0, 1],
                        order: Order::Chain,
                        acc: DType::F32,
                    },
                    [(f32(&[3, 4]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Prod,
                        axes: vec![1],
                        order: Order::Lanes,
                        acc: DType::F32,
                    },
                    [(f32(&[2, 5]), Fill::Normal)],
                    &[0],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Prod,
                        axes: vec![0],
                        order: Order::Chain,
                        acc: DType::F32,
                    },
                    [(f32(&[3, 2]), Fill::Normal), (f32(&[2]), Fill::Positive)],
                    &[0, 1],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Prod,
                        axes: vec![0],
                        order: Order::Chain,
                        acc: DType::F32,
                    },
                    [(f32(&[3, 2]), Fill::Positions), (f32(&[2]), Fill::Positive)],
                    &[0, 1],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Sum,
                        axes: vec![0],
                        order: Order::Lanes,
                        acc: DType::I64,
                    },
                    [(i32(&[19]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Max,
                        axes: vec![0],
                        order: Order::Lanes,
                        acc: DType::Bool,
                    },
                    [(typed(DType::Bool, &[5]), Fill::Normal)],
                    &[],
                ),
                Sample::new(
                    Reduce {
                        kind: ReduceKind::Min,
                        axes: vec![1],
                        order: Order::Lanes,
                        acc: DType::U8,
                    },
                    [(typed(DType::U8, &[2, 5]), Fill::Normal)],
                    &[],
                ),
            ],
            bad: vec![
                BadSample::new(
                    Reduce {
                        kind: ReduceKind::Sum,
                        axes: vec![2],
                        order: Order::Lanes,
                        acc: DType::F32,
                    },
                    [f32(&[2, 3])],
                    "reduce::c1",
                ),
                BadSample::new(
                    Reduce {
                        kind: ReduceKind::Sum,
                        axes: vec![1, 0],
                        order: Order::Lanes,
                        acc: DType::F32,
                    },
                    [f32(&[2, 3])],
                    "reduce::c1",
                ),
                BadSample::new(
                    Reduce {
                        kind: ReduceKind::Sum,
                        axes: vec![0],
                        order: Order::Lanes,
                        acc: DType::Bf16,
                    },
                    [typed(DType::Bf16, &[2])],
                    "reduce::c2",
                ),
                BadSample::new(
                    Reduce {
                        kind: ReduceKind::Max,
                        axes: vec![0],
                        order: Order::Lanes,
                        acc: DType::F64,
                    },
                    [f32(&[2])],
                    "reduce::c2",
                ),
                BadSample::new(
                    Reduce {
                        kind: ReduceKind::Sum,
                        axes: vec![0],
                        order: Order::Lanes,
                        acc: DType::F32,
                    },
                    [i32(&[2])],
                    "reduce::c2",
                ),
                BadSample::new(
                    Reduce {
                        kind: ReduceKind::Sum,
                        axes: vec![0],
                        order: Order::Lanes,
                        acc: DType::F32,
                    },
                    [f32(&[2, 3]), f32(&[3])],
                    "reduce::c3",
                ),
                BadSample::new(
                    Reduce {
                        kind: ReduceKind::Sum,
                        axes: vec![0],
                        order: Order::Chain,
                        acc: DType::F32,
                    },
                    [f32(&[2, 3]), f32(&[2])],
                    "reduce::c3",
                ),
            ],
        }
    }
}
