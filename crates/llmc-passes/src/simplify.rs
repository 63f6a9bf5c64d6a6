//! Simplification: what can be dropped or merged without changing a single bit.
//!
//! - small constants are folded where one attribute stands for the `Real` value and, rounded,
//!   for the `Rounded` one, so that neither evaluator can tell;
//! - `x·1`, `x/1`, `x − 0`, `x + (−0)`, double negation, and integer neutral elements;
//! - `dim_size` of a number, and `x − x` of integers;
//! - `select` on a known condition or of equal branches; casts to the same dtype;
//! - views that change nothing, and chains of reshapes, transposes, broadcasts.
//!
//! It never reassociates, and it keeps `x + 0`, which turns −0 into +0, and `x·0`, which keeps NaN.

use crate::rebuild::Rebuild;
use crate::{each_function, type_error};
use llmc_base::{Diagnostic, Expr};
use llmc_ir::eval::{Data, Mode, Tensor};
use llmc_ir::ops::{BinaryKind, Broadcast, Constant, Literal, Reshape, Transpose, UnaryKind};
use llmc_ir::{
    Class, DType, Function, FunctionBuilder, Module, Node, Op, TensorType, TypeError, ValueDef,
    ValueId,
};

/// Largest result that is folded, in elements.
const MAX_FOLDED: usize = 64;

/// Simplifies every function until nothing changes, then drops what became unused.
pub fn simplify(module: &Module) -> Result<Module, Diagnostic> {
    let simple = each_function(module, |new, function| {
        let mut function = function.clone();
        loop {
            let (next, is_changed) = simplify_once(new, &function)
                .map_err(|e| type_error("simplify", &function.name, &e))?;
            function = next;
            if !is_changed {
                return Ok(function);
            }
        }
    })?;
    crate::dce(&simple)
}

fn simplify_once(module: &Module, function: &Function) -> Result<(Function, bool), TypeError> {
    let mut rebuild = Rebuild::new(module, function);
    let mut is_changed = false;
    for node in &function.nodes {
        let operands = rebuild.operands(node);
        rebuild.b.set_origin(node.origin);
        let replacement = match node.results.as_slice() {
            [_] => rewrite(&mut rebuild.b, node, &operands)?,
            _ => None,
        };
        match replacement {
            Some(new) => {
                rebuild.set(node.results[0], new);
                is_changed = true;
            }
            None => rebuild.copy(node),
        }
    }
    // Dead nodes must not be rewritten again and again.
    Ok((crate::dce::dce_function(module, &rebuild.finish()), is_changed))
}

/// The value that stands for the one result of a node, if there is a simpler one.
fn rewrite(
    b: &mut FunctionBuilder,
    node: &Node,
    operands: &[ValueId],
) -> Result<Option<ValueId>, TypeError> {
    if let Some(op) = folded(b, node, operands) {
        return b.op1(op, &[]).map(Some);
    }
    let ty = |v: ValueId| b.ty(v).clone();
    match &node.op {
        Op::Binary(op) if op.kind == BinaryKind::Sub && is_int_difference(b, operands) => {
            b.constant_like(operands[0], 0.0).map(Some)
        }
        Op::Binary(op) => Ok(neutral(b, op.kind, operands[0], operands[1])),
        Op::Unary(op) if matches!(op.kind, UnaryKind::Neg | UnaryKind::Not) => {
            Ok(match definition(b, operands[0]) {
                Some(inner) if inner.op == node.op => Some(inner.operands[0]),
                _ => None,
            })
        }
        Op::Cast(op) if ty(operands[0]).dtype == op.dtype => Ok(Some(operands[0])),
        Op::Select(_) => Ok(match splat(b, operands[0]) {
            Some(0.0) => Some(operands[2]),
            Some(_) => Some(operands[1]),
            None => (operands[1] == operands[2]).then_some(operands[1]),
        }),
        Op::Concat(_) if operands.len() == 1 => Ok(Some(operands[0])),
        Op::Slice(op) => {
            let x = ty(operands[0]);
            let is_whole = op.starts.iter().all(|s| *s == Expr::default())
                && op.limits == x.shape
                && op.strides.iter().all(|s| *s == 1);
            Ok(is_whole.then_some(operands[0]))
        }
        Op::Pad(op) => {
            let is_none = op.low.iter().chain(&op.high).all(|w| *w == Expr::default());
            Ok(is_none.then_some(operands[0]))
        }
        Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_) => view(b, &node.op, operands[0]),
        _ => Ok(None),
    }
}

/// Whether the operands are one integer value.
fn is_int_difference(b: &FunctionBuilder, operands: &[ValueId]) -> bool {
    operands[0] == operands[1] && b.ty(operands[0]).dtype.is_int()
}

/// A view that changes nothing, or one that follows another of its kind or a constant.
fn view(b: &mut FunctionBuilder, op: &Op, x: ValueId) -> Result<Option<ValueId>, TypeError> {
    let result = match op.infer(b.module(), &[b.ty(x).clone()])?.pop() {
        Some(ty) => ty,
        None => return Ok(None),
    };
    let is_same = match op {
        Op::Transpose(op) => op.perm.iter().copied().eq(0..op.perm.len()),
        _ => b.ty(x) == &result,
    };
    if is_same {
        return Ok(Some(x));
    }
    if let Some(value) = splat(b, x) {
        let constant = Constant { dtype: result.dtype, dims: result.shape, value };
        return b.op1(constant, &[]).map(Some);
    }
    let Some(inner) = definition(b, x) else { return Ok(None) };
    let source = inner.operands.first().copied();
    let merged: Op = match (op, &inner.op) {
        (Op::Reshape(outer), Op::Reshape(_)) => Reshape { dims: outer.dims.clone() }.into(),
        (Op::Transpose(outer), Op::Transpose(inner)) => {
            Transpose { perm: outer.perm.iter().map(|axis| inner.perm[*axis]).collect() }.into()
        }
        (Op::Broadcast(outer), Op::Broadcast(inner)) => Broadcast {
            dims: outer.dims.clone(),
            axes: inner.axes.iter().map(|axis| outer.axes[*axis]).collect(),
        }
        .into(),
        _ => return Ok(None),
    };
    source.map(|source| b.op1(merged, &[source])).transpose()
}

/// The other operand, where one is neutral in every bit.
fn neutral(b: &FunctionBuilder, kind: BinaryKind, lhs: ValueId, rhs: ValueId) -> Option<ValueId> {
    let dtype = b.ty(lhs).dtype;
    let (left, right) = (splat(b, lhs), splat(b, rhs));
    let is =
        |value: Option<f64>, wanted: f64| value.is_some_and(|v| v.to_bits() == wanted.to_bits());
    let is_int = dtype.is_int();
    match kind {
        BinaryKind::Mul if is(right, 1.0) => Some(lhs),
        BinaryKind::Mul if is(left, 1.0) => Some(rhs),
        BinaryKind::Div if is(right, 1.0) => Some(lhs),
        // −0 − (+0) is −0 and +0 + (−0) is +0, so these keep every x; x + (+0) loses −0.
        BinaryKind::Sub if is(right, 0.0) => Some(lhs),
        BinaryKind::Add if is(right, -0.0) || (is_int && is(right, 0.0)) => Some(lhs),
        BinaryKind::Add if is(left, -0.0) || (is_int && is(left, 0.0)) => Some(rhs),
        BinaryKind::Shl | BinaryKind::Shr | BinaryKind::Xor if is_int && is(right, 0.0) => {
            Some(lhs)
        }
        BinaryKind::Max | BinaryKind::Min if lhs == rhs => Some(lhs),
        BinaryKind::And | BinaryKind::Or if lhs == rhs => Some(lhs),
        _ => None,
    }
}

/// The node that defines a value.
fn definition(b: &FunctionBuilder, value: ValueId) -> Option<Node> {
    match b.function().value(value).def {
        ValueDef::Node { node, .. } => Some(b.function().nodes[node.index()].clone()),
        ValueDef::Param(_) => None,
    }
}

/// The one value of all elements, if it is known.
fn splat(b: &FunctionBuilder, value: ValueId) -> Option<f64> {
    let node = definition(b, value)?;
    match &node.op {
        Op::Constant(op) => Some(op.value),
        Op::Literal(op) => {
            let first = *op.values.first()?;
            op.values.iter().all(|v| v.to_bits() == first.to_bits()).then_some(first)
        }
        Op::Broadcast(_) | Op::Reshape(_) | Op::Transpose(_) => splat(b, node.operands[0]),
        _ => None,
    }
}

/// The constant that a primitive on constants gives, if both evaluators take it for the same.
fn folded(b: &FunctionBuilder, node: &Node, operands: &[ValueId]) -> Option<Op> {
    if let Op::DimSize(op) = &node.op {
        let value = *evaluate(&node.op, &[], op.dtype)?.first()?;
        return Some(Constant { dtype: op.dtype, dims: Vec::new(), value }.into());
    }
    if node.op.class() != Class::Primitive || operands.is_empty() {
        return None;
    }
    let types: Vec<TensorType> = operands.iter().map(|v| b.ty(*v).clone()).collect();
    let result = node.op.infer(b.module(), &types).ok()?.pop()?;
    let is_elementwise = matches!(
        node.op,
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Cast(_) | Op::Select(_)
    );
    // Element by element ops on splats of any shape are folded as scalars.
    let splats = operands.iter().zip(&types).map(|(v, ty)| {
        let value = splat(b, *v)?;
        Some(Constant { dtype: ty.dtype, dims: Vec::new(), value }.into())
    });
    if let Some(scalars) = splats.collect::<Option<Vec<Op>>>().filter(|_| is_elementwise) {
        let value = *evaluate(&node.op, &scalars, result.dtype)?.first()?;
        return Some(Constant { dtype: result.dtype, dims: result.shape, value }.into());
    }
    let is_small = |ty: &TensorType| {
        ty.concrete().is_some_and(|shape| shape.iter().product::<usize>() <= MAX_FOLDED)
    };
    if !types.iter().chain([&result]).all(is_small) {
        return None;
    }
    let constants = operands.iter().map(|v| match definition(b, *v)?.op {
        op @ (Op::Constant(_) | Op::Literal(_)) => Some(op),
        _ => None,
    });
    let constants = constants.collect::<Option<Vec<Op>>>()?;
    let values = evaluate(&node.op, &constants, result.dtype)?;
    Some(Literal { dtype: result.dtype, shape: result.concrete()?, values }.into())
}

/// The elements of the one result of `op` on constants, for an attribute: the `Real` values, if
/// rounding them to `dtype` gives the `Rounded` ones bit for bit.
fn evaluate(op: &Op, constants: &[Op], dtype: DType) -> Option<Vec<f64>> {
    let run = |mode: Mode| -> Option<Vec<f64>> {
        let tensors = constants.iter().map(|c| c.eval(&[], mode).ok()?.pop());
        let tensors = tensors.collect::<Option<Vec<Tensor>>>()?;
        let operands: Vec<&Tensor> = tensors.iter().collect();
        elements(op.eval(&operands, mode).ok()?.pop()?)
    };
    let (real, rounded) = (run(Mode::Real)?, run(Mode::Rounded)?);
    let literal = Literal { dtype, shape: vec![real.len()], values: real.clone() };
    let attribute = elements(Op::from(literal).eval(&[], Mode::Rounded).ok()?.pop()?)?;
    // A NaN stays where it comes from: an attribute does not keep its bits.
    let is_same = attribute.len() == rounded.len()
        && !real.iter().any(|v| v.is_nan())
        && attribute.iter().zip(&rounded).all(|(a, b)| a.to_bits() == b.to_bits());
    is_same.then_some(real)
}

/// The elements as floats; `None` for integers beyond 2⁵³, which an attribute cannot hold.
fn elements(tensor: Tensor) -> Option<Vec<f64>> {
    match tensor.data {
        Data::Float(values) => Some(values),
        Data::Int(values) => {
            values.iter().map(|v| (v.unsigned_abs() <= 1 << 53).then_some(*v as f64)).collect()
        }
    }
}
