//! Builds functions around one op, and reverse-mode differentiation that is just enough for them.

use llmc_ir::eval::{EvalOptions, Mode, Tensor, run};
use llmc_ir::sample::Sample;
use llmc_ir::{
    Class, DType, FunctionBuilder, Module, Op, TensorType, TypeError, ValueId, VjpInput,
};
use std::collections::BTreeMap;

/// Relative tolerance of gradients against central differences in f64.
pub const FINITE_DIFFERENCE: f64 = 2e-6;
/// Relative tolerance of two f64 computations of the same real number.
pub const F64_EQUAL: f64 = 1e-11;

/// All good samples with the op's name and the number of the sample.
pub fn good_samples() -> impl Iterator<Item = (String, Sample)> {
    Op::all_samples().into_iter().flat_map(|(name, samples)| {
        let named = move |(i, sample)| (format!("{name} sample {i}"), sample);
        samples.good.into_iter().enumerate().map(named)
    })
}

/// One op on tensors.
pub fn apply(op: &Op, operands: &[Tensor], mode: Mode) -> Vec<Tensor> {
    llmc_ir::eval::op(&Module::new("test"), op, operands, mode)
        .unwrap_or_else(|e| panic!("{op:?}: {e}"))
}

/// The outputs of a function that `build` makes from its inputs.
pub fn evaluate(
    inputs: &[Tensor],
    mode: Mode,
    build: impl FnOnce(&mut FunctionBuilder, &[ValueId]) -> Result<Vec<ValueId>, TypeError>,
) -> Vec<Tensor> {
    let mut module = Module::new("test");
    let function = {
        let mut b = FunctionBuilder::new(&module, "main");
        let values: Vec<ValueId> = inputs.iter().map(|t| b.input("x", t.ty())).collect();
        for value in build(&mut b, &values).unwrap() {
            b.output("y", value);
        }
        b.finish()
    };
    let main = module.add(function);
    let options = EvalOptions::new(mode);
    run(&module, main, inputs, &|_| None, &BTreeMap::new(), &options).unwrap().outputs
}

/// Whose gradient.
#[derive(Clone, Copy, PartialEq)]
pub enum Of {
    /// The op's own `vjp`, or that of its decomposition if it has none.
    Op,
    /// The decomposition.
    Decomposition,
}

/// The cotangents of all float operands of an op, from those of its float results. `None` is zero.
pub fn gradients(
    op: &Op,
    operands: &[Tensor],
    cotangents: &[Option<Tensor>],
    of: Of,
) -> Vec<Option<Tensor>> {
    let given: Vec<Tensor> = cotangents.iter().flatten().cloned().collect();
    let inputs = [operands, &given[..]].concat();
    let mut present = Vec::new();
    let outputs = evaluate(&inputs, Mode::Real, |b, values| {
        let (operands, given) = values.split_at(operands.len());
        let mut given = given.iter();
        let mut table = BTreeMap::new();
        let first = b.function().nodes.len();
        let results = match of {
            Of::Op => b.op(op.clone(), operands)?,
            Of::Decomposition => op.decompose(b, operands)?,
        };
        let last = b.function().nodes.len();
        for (result, cotangent) in results.iter().zip(cotangents) {
            if cotangent.is_some() {
                accumulate(b, &mut table, *result, *given.next().unwrap())?;
            }
        }
        backward(b, first..last, &mut table)?;
        present = operands.iter().map(|v| table.contains_key(v)).collect();
        Ok(operands.iter().filter_map(|v| table.get(v).copied()).collect())
    });
    let mut outputs = outputs.into_iter();
    present.into_iter().map(|there| there.then(|| outputs.next().unwrap())).collect()
}

type Table = BTreeMap<ValueId, ValueId>;

fn accumulate(
    b: &mut FunctionBuilder,
    table: &mut Table,
    value: ValueId,
    cotangent: ValueId,
) -> Result<(), TypeError> {
    assert_eq!(b.ty(value), b.ty(cotangent), "a cotangent has the type of its value");
    let sum = match table.get(&value) {
        Some(before) => b.add(*before, cotangent)?,
        None => cotangent,
    };
    table.insert(value, sum);
    Ok(())
}

/// Pulls cotangents back through a range of nodes.
fn backward(
    b: &mut FunctionBuilder,
    nodes: std::ops::Range<usize>,
    table: &mut Table,
) -> Result<(), TypeError> {
    for i in nodes.rev() {
        let node = b.function().nodes[i].clone();
        let cotangents: Vec<_> = node.results.iter().map(|v| table.get(v).copied()).collect();
        if cotangents.iter().all(Option::is_none) {
            continue;
        }
        let needed: Vec<bool> = node.operands.iter().map(|v| b.ty(*v).dtype.is_float()).collect();
        let input = VjpInput {
            operands: &node.operands,
            results: &node.results,
            cotangents: &cotangents,
            needed: &needed,
            accumulators: &vec![None; node.operands.len()],
        };
        match node.op.vjp(b, &input)? {
            Some(grads) => {
                assert_eq!(grads.len(), node.operands.len(), "{}", node.op.name());
                for (operand, grad) in node.operands.iter().zip(grads) {
                    if let Some(grad) = grad {
                        accumulate(b, table, *operand, grad)?;
                    }
                }
            }
            None if node.op.class() == Class::Composite => {
                let first = b.function().nodes.len();
                let results = node.op.decompose(b, &node.operands)?;
                let last = b.function().nodes.len();
                let pairs: Vec<_> = results.into_iter().zip(cotangents).collect();
                for (result, cotangent) in pairs {
                    if let Some(cotangent) = cotangent {
                        accumulate(b, table, result, cotangent)?;
                    }
                }
                backward(b, first..last, table)?;
            }
            None => {}
        }
    }
    Ok(())
}

/// Cotangents for float results, the same for the same types.
pub fn cotangents(results: &[TensorType]) -> Vec<Option<Tensor>> {
    let fill = llmc_ir::sample::Fill::Normal;
    let one = |(i, ty): (usize, &TensorType)| {
        // In f64, so that narrow dtypes do not round them.
        let wide = llmc_ir::sample::filled(&ty.with_dtype(DType::F64), fill, 1000 + i as u64);
        ty.dtype.is_float().then_some(Tensor { dtype: ty.dtype, ..wide })
    };
    results.iter().enumerate().map(one).collect()
}

/// Whether two numbers agree within `tolerance` of the larger of `scale` and their magnitude.
pub fn close(a: f64, b: f64, tolerance: f64, scale: f64) -> bool {
    a == b || (a - b).abs() <= tolerance * scale.max(a.abs()).max(b.abs())
}

/// The largest magnitude of some numbers.
pub fn magnitude(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m: f64, x| m.max(x.abs()))
}
