//! Short names for the primitives, as decompositions and templates write them.

use super::FunctionBuilder;
use crate::module::ValueId;
use crate::ops::Precision;
use crate::ops::{
    Binary, BinaryKind, Broadcast, Cast, Compare, CompareKind, Concat, Constant, DimSize, Dot,
    Gather, Iota, Literal, Op, Order, Pad, Reduce, ReduceKind, Reshape, ScatterAdd, Select, Slice,
    Transpose, Unary, UnaryKind, compute_dtype,
};
use crate::types::{DType, TensorType, TypeError, ensure};
use llmc_base::Expr;

type Built = Result<ValueId, TypeError>;

macro_rules! unary {
    ($($name:ident $kind:ident $doc:literal;)*) => {$(
        #[doc = $doc]
        pub fn $name(&mut self, x: ValueId) -> Built {
            self.op1(Unary { kind: UnaryKind::$kind }, &[x])
        }
    )*};
}

macro_rules! binary {
    ($($name:ident $kind:ident $doc:literal;)*) => {$(
        #[doc = $doc]
        pub fn $name(&mut self, a: ValueId, b: ValueId) -> Built {
            self.op1(Binary { kind: BinaryKind::$kind }, &[a, b])
        }
    )*};
}

/// Element by element. Operands of one type; nothing is broadcast.
impl FunctionBuilder<'_> {
    unary! {
        neg Neg "−x.";
        abs Abs "|x|.";
        sign Sign "The sign of x.";
        exp Exp "e^x.";
        log Log "The natural logarithm of x.";
        sin Sin "sin x.";
        cos Cos "cos x.";
        tanh Tanh "tanh x.";
        erf Erf "The error function of x.";
        sqrt Sqrt "The square root of x.";
        rsqrt Rsqrt "1/sqrt(x).";
        recip Recip "1/x.";
        not Not "Logical or bitwise not.";
    }

    binary! {
        add Add "a + b.";
        sub Sub "a − b.";
        mul Mul "a·b.";
        div Div "a/b.";
        max Max "The greater of a and b; NaN wins.";
        min Min "The lesser of a and b; NaN wins.";
        pow Pow "a to the power of b.";
        and And "Logical or bitwise and.";
        or Or "Logical or bitwise or.";
        xor Xor "Logical or bitwise exclusive or.";
    }

    /// x + `value`.
    pub fn add_scalar(&mut self, x: ValueId, value: f64) -> Built {
        let value = self.constant_like(x, value)?;
        self.add(x, value)
    }

    /// x·`value`.
    pub fn mul_scalar(&mut self, x: ValueId, value: f64) -> Built {
        let value = self.constant_like(x, value)?;
        self.mul(x, value)
    }

    /// `value` − x.
    pub fn scalar_sub(&mut self, value: f64, x: ValueId) -> Built {
        let value = self.constant_like(x, value)?;
        self.sub(value, x)
    }

    /// Compares a and b.
    pub fn compare(&mut self, kind: CompareKind, a: ValueId, b: ValueId) -> Built {
        self.op1(Compare { kind }, &[a, b])
    }

    /// a where the condition holds, b elsewhere.
    pub fn select(&mut self, condition: ValueId, a: ValueId, b: ValueId) -> Built {
        self.op1(Select, &[condition, a, b])
    }

    /// x as `dtype`; x itself if it has it.
    pub fn cast(&mut self, x: ValueId, dtype: DType) -> Built {
        match self.ty(x).dtype == dtype {
            true => Ok(x),
            false => self.op1(Cast { dtype }, &[x]),
        }
    }

    /// x as the dtype that ops compute in: f32 if it is a narrower float.
    pub fn widen(&mut self, x: ValueId) -> Built {
        let dtype = compute_dtype(self.ty(x).dtype);
        self.cast(x, dtype)
    }
}

/// Values out of nothing.
impl FunctionBuilder<'_> {
    /// One value in every element.
    pub fn constant(&mut self, ty: &TensorType, value: f64) -> Built {
        self.op1(Constant { dtype: ty.dtype, dims: ty.shape.clone(), value }, &[])
    }

    /// One value in every element, of the type of x.
    pub fn constant_like(&mut self, x: ValueId, value: f64) -> Built {
        let ty = self.ty(x).clone();
        self.constant(&ty, value)
    }

    /// A scalar.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Built {
        self.constant(&TensorType::scalar(dtype), value)
    }

    /// A small dense constant.
    pub fn literal(&mut self, dtype: DType, shape: &[usize], values: Vec<f64>) -> Built {
        self.op1(Literal { dtype, shape: shape.to_vec(), values }, &[])
    }

    /// The index along `axis` in a tensor of these dims.
    pub fn iota(&mut self, dtype: DType, dims: &[Expr], axis: usize) -> Built {
        self.op1(Iota { dtype, dims: dims.to_vec(), axis }, &[])
    }

    /// The value of a dim as a scalar.
    pub fn dim_size(&mut self, dim: &Expr, dtype: DType) -> Built {
        self.op1(DimSize { dim: dim.clone(), dtype }, &[])
    }
}

/// Shapes.
impl FunctionBuilder<'_> {
    /// x under other dims.
    pub fn reshape(
        &mut self,
        x: ValueId,
        dims: impl IntoIterator<Item = impl Into<Expr>>,
    ) -> Built {
        let dims: Vec<Expr> = dims.into_iter().map(Into::into).collect();
        match self.ty(x).shape == dims {
            true => Ok(x),
            false => self.op1(Reshape { dims }, &[x]),
        }
    }

    /// x with axis i of the result being axis `perm[i]`.
    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Built {
        match perm.iter().copied().eq(0..self.ty(x).rank()) {
            true => Ok(x),
            false => self.op1(Transpose { perm: perm.to_vec() }, &[x]),
        }
    }

    /// x repeated to `dims`, where axis i of x is axis `axes[i]` of the result.
    pub fn broadcast(&mut self, x: ValueId, dims: &[Expr], axes: &[usize]) -> Built {
        match self.ty(x).shape == dims {
            true => Ok(x),
            false => self.op1(Broadcast { dims: dims.to_vec(), axes: axes.to_vec() }, &[x]),
        }
    }

    /// x, which lacks the last axis of `like`, repeated along it.
    pub fn broadcast_last(&mut self, x: ValueId, like: ValueId) -> Built {
        let dims = self.ty(like).shape.clone();
        let axes: Vec<usize> = (0..dims.len().saturating_sub(1)).collect();
        self.broadcast(x, &dims, &axes)
    }

    /// x, whose axes are the last ones of `like`, repeated along the others.
    pub fn broadcast_like(&mut self, x: ValueId, like: ValueId) -> Built {
        let dims = self.ty(like).shape.clone();
        let first = dims.len().saturating_sub(self.ty(x).rank());
        let axes: Vec<usize> = (first..dims.len()).collect();
        self.broadcast(x, &dims, &axes)
    }

    /// A scalar in every element of the shape of `like`.
    pub fn splat_like(&mut self, scalar: ValueId, like: ValueId) -> Built {
        let dims = self.ty(like).shape.clone();
        self.broadcast(scalar, &dims, &[])
    }

    /// `start..limit` of one axis.
    pub fn slice(
        &mut self,
        x: ValueId,
        axis: usize,
        start: impl Into<Expr>,
        limit: impl Into<Expr>,
    ) -> Built {
        let shape = self.ty(x).shape.clone();
        ensure(axis < shape.len(), "slice::c1", || {
            format!("no axis {axis} in a rank of {}", shape.len())
        })?;
        let mut starts = vec![Expr::default(); shape.len()];
        let strides = vec![1; shape.len()];
        let mut limits = shape;
        starts[axis] = start.into();
        limits[axis] = limit.into();
        self.op1(Slice { starts, limits, strides }, &[x])
    }

    /// x with a border of `value`.
    pub fn pad(&mut self, x: ValueId, low: &[Expr], high: &[Expr], value: f64) -> Built {
        let value = self.scalar(self.ty(x).dtype, value)?;
        self.op1(Pad { low: low.to_vec(), high: high.to_vec() }, &[x, value])
    }

    /// The values one after the other along `axis`.
    pub fn concat(&mut self, values: &[ValueId], axis: usize) -> Built {
        self.op1(Concat { axis }, values)
    }

    /// The slices of `axis` that `ids` names; the first `batch_dims` dims go along.
    pub fn gather(&mut self, x: ValueId, ids: ValueId, axis: usize, batch_dims: usize) -> Built {
        self.op1(Gather { axis, batch_dims }, &[x, ids])
    }

    /// `updates` added into the slices of `axis` that `ids` names.
    pub fn scatter_add(
        &mut self,
        dst: ValueId,
        ids: ValueId,
        updates: ValueId,
        axis: usize,
        batch_dims: usize,
    ) -> Built {
        self.op1(ScatterAdd { axis, batch_dims }, &[dst, ids, updates])
    }
}

/// Reductions and products.
impl FunctionBuilder<'_> {
    /// Reduces axes in lanes, in the dtype of x (f32 if that is narrower; cast back after).
    pub fn reduce(&mut self, kind: ReduceKind, x: ValueId, axes: &[usize]) -> Built {
        self.reduce_ordered(kind, x, axes, Order::Lanes)
    }

    /// Sum over axes as one chain in row-major order.
    pub fn sum_chain(&mut self, x: ValueId, axes: &[usize]) -> Built {
        self.reduce_ordered(ReduceKind::Sum, x, axes, Order::Chain)
    }

    fn reduce_ordered(
        &mut self,
        kind: ReduceKind,
        x: ValueId,
        axes: &[usize],
        order: Order,
    ) -> Built {
        let dtype = self.ty(x).dtype;
        let acc = match kind {
            ReduceKind::Sum | ReduceKind::Prod => compute_dtype(dtype),
            ReduceKind::Max | ReduceKind::Min => dtype,
        };
        let reduced = self.op1(Reduce { kind, axes: axes.to_vec(), order, acc }, &[x])?;
        self.cast(reduced, dtype)
    }

    /// The last axis of x, for ops over rows.
    fn last_axis(&self, x: ValueId) -> Result<usize, TypeError> {
        self.ty(x)
            .rank()
            .checked_sub(1)
            .ok_or_else(|| TypeError::new("reduce::c1", "a scalar has no last axis"))
    }

    /// Sum over the last axis, in lanes.
    pub fn sum_last(&mut self, x: ValueId) -> Built {
        let axis = self.last_axis(x)?;
        self.reduce(ReduceKind::Sum, x, &[axis])
    }

    /// Maximum over the last axis.
    pub fn max_last(&mut self, x: ValueId) -> Built {
        let axis = self.last_axis(x)?;
        self.reduce(ReduceKind::Max, x, &[axis])
    }

    /// Mean over the last axis: the sum in lanes, divided by the dim.
    pub fn mean_last(&mut self, x: ValueId) -> Built {
        let axis = self.last_axis(x)?;
        let sum = self.sum_last(x)?;
        let ty = self.ty(x).clone();
        let count = self.dim_size(&ty.shape[axis], ty.dtype)?;
        let count = self.splat_like(count, sum)?;
        self.div(sum, count)
    }

    /// General product with the accumulator and result in f32 (f64 for f64).
    ///
    /// `batch` and `contract` are (axes of a, axes of b).
    pub fn dot(
        &mut self,
        a: ValueId,
        b: ValueId,
        batch: (&[usize], &[usize]),
        contract: (&[usize], &[usize]),
    ) -> Built {
        self.dot_into(a, b, batch, contract, None)
    }

    /// [`FunctionBuilder::dot`] that starts from an accumulator.
    pub fn dot_into(
        &mut self,
        a: ValueId,
        b: ValueId,
        batch: (&[usize], &[usize]),
        contract: (&[usize], &[usize]),
        init: Option<ValueId>,
    ) -> Built {
        let op = Dot {
            lhs_batch: batch.0.to_vec(),
            rhs_batch: batch.1.to_vec(),
            lhs_contract: contract.0.to_vec(),
            rhs_contract: contract.1.to_vec(),
            acc: compute_dtype(self.ty(a).dtype),
            precision: Precision::F32,
        };
        self.token_sum(op, &[a, b], init)
    }

    /// Product without batch axes, with the accumulator and result in f32 (f64 for f64).
    pub(crate) fn dot_with(
        &mut self,
        a: ValueId,
        b: ValueId,
        contract: (&[usize], &[usize]),
        init: Option<ValueId>,
        precision: Precision,
    ) -> Built {
        let op = Dot {
            lhs_batch: Vec::new(),
            rhs_batch: Vec::new(),
            lhs_contract: contract.0.to_vec(),
            rhs_contract: contract.1.to_vec(),
            acc: compute_dtype(self.ty(a).dtype),
            precision,
        };
        self.token_sum(op, &[a, b], init)
    }

    /// Applies an op whose optional last operand is an accumulator.
    pub fn token_sum(
        &mut self,
        op: impl Into<Op>,
        operands: &[ValueId],
        accumulator: Option<ValueId>,
    ) -> Built {
        let operands: Vec<ValueId> = operands.iter().copied().chain(accumulator).collect();
        self.op1(op, &operands)
    }
}
