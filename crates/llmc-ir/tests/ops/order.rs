//! Gradients folded into accumulators: splitting the batch leaves every bit alone.

use crate::support::{evaluate, good_samples};
use llmc_base::Expr;
use llmc_ir::eval::{Mode, Tensor};
use llmc_ir::ops::{Broadcast, Dot, Embedding, Gather, LayerNorm, Linear, Precision, RmsNorm};
use llmc_ir::sample::{Fill, f32, filled, i32};
use llmc_ir::{DType, Op, TensorType, ValueId, VjpInput};

/// The accumulated gradient of operand `weight`, from that of the result of `op`.
fn fold(op: &Op, operands: &[Tensor], dy: &Tensor, weight: usize, acc: &Tensor) -> Tensor {
    let inputs = [operands, &[dy.clone(), acc.clone()]].concat();
    let n = operands.len();
    evaluate(&inputs, Mode::Rounded, |b, v| {
        let results = b.op(op.clone(), &v[..n])?;
        let mut needed = vec![false; n];
        let mut accumulators: Vec<Option<ValueId>> = vec![None; n];
        needed[weight] = true;
        accumulators[weight] = Some(v[n + 1]);
        let input = VjpInput {
            operands: &v[..n],
            results: &results,
            cotangents: &[Some(v[n])],
            needed: &needed,
            accumulators: &accumulators,
        };
        let grads = op.vjp(b, &input)?.unwrap();
        let others = grads.iter().enumerate().filter(|(i, g)| *i != weight && g.is_some());
        assert_eq!(others.count(), 0, "{} gives gradients nobody needs", op.name());
        Ok(vec![grads[weight].unwrap()])
    })
    .remove(0)
}

/// Rows `range` of the leading axis.
fn rows(x: &Tensor, range: std::ops::Range<usize>) -> Tensor {
    evaluate(std::slice::from_ref(x), Mode::Rounded, |b, v| {
        Ok(vec![b.slice(v[0], 0, range.start, range.end)?])
    })
    .remove(0)
}

/// One pass over a batch of 5, and passes over 2 and 3, from the same accumulator.
fn check(
    op: impl Fn(usize) -> Op,
    operands: &[(TensorType, Fill)],
    weight: usize,
    result: TensorType,
    tokens: &[usize],
) {
    let all: Vec<Tensor> =
        operands.iter().enumerate().map(|(i, (ty, fill))| filled(ty, *fill, i as u64)).collect();
    let dy = filled(&result, Fill::Normal, 77);
    let acc = filled(&all[weight].ty(), Fill::Normal, 78);
    let part = |range: std::ops::Range<usize>, acc: &Tensor| {
        let split = |(i, x): (usize, &Tensor)| match tokens.contains(&i) {
            true => rows(x, range.clone()),
            false => x.clone(),
        };
        let operands: Vec<Tensor> = all.iter().enumerate().map(split).collect();
        fold(&op(range.len()), &operands, &rows(&dy, range.clone()), weight, acc)
    };
    let whole = part(0..5, &acc);
    let split = part(2..5, &part(0..2, &acc));
    assert_eq!(whole, split, "{}", op(5).name());
    let sequence = (0..5).fold(acc, |acc, i| part(i..i + 1, &acc));
    assert_eq!(whole, sequence, "{}", op(5).name());
}

#[test]
fn batch_splits_leave_weight_gradients_alone() {
    let n = Fill::Normal;
    let x = f32(&[5, 3, 8]);
    let linear = [(x.clone(), n), (f32(&[6, 8]), n), (f32(&[6]), n)];
    check(|_| Linear::default().into(), &linear, 1, f32(&[5, 3, 6]), &[0]);
    check(|_| Linear::default().into(), &linear, 2, f32(&[5, 3, 6]), &[0]);
    let rms = [(x.clone(), n), (f32(&[8]), Fill::Positive)];
    check(|_| RmsNorm { eps: 1e-5 }.into(), &rms, 1, x.clone(), &[0]);
    let layer = [(x.clone(), n), (f32(&[8]), Fill::Positive), (f32(&[8]), n)];
    check(|_| LayerNorm { eps: 1e-5 }.into(), &layer, 1, x.clone(), &[0]);
    check(|_| LayerNorm { eps: 1e-5 }.into(), &layer, 2, x, &[0]);
    let table = [(f32(&[7, 4]), n), (i32(&[5, 3]), Fill::Below(7))];
    check(|_| Embedding.into(), &table, 0, f32(&[5, 3, 4]), &[1]);
    check(|_| Gather { axis: 0, batch_dims: 0 }.into(), &table, 0, f32(&[5, 3, 4]), &[1]);
    let broadcast = |batch: usize| {
        let dims = [batch, 3, 8].map(Expr::from).to_vec();
        Broadcast { dims, axes: vec![2] }.into()
    };
    check(broadcast, &[(f32(&[8]), n)], 0, f32(&[5, 3, 8]), &[]);
    // The weight as the second operand of a product, with its axes swapped.
    let dot = |_| {
        Dot {
            lhs_batch: vec![],
            rhs_batch: vec![],
            lhs_contract: vec![2],
            rhs_contract: vec![0],
            acc: DType::F32,
            precision: Precision::F32,
        }
        .into()
    };
    check(dot, &[(f32(&[5, 3, 8]), n), (f32(&[8, 6]), n)], 1, f32(&[5, 3, 6]), &[0]);
}

/// An accumulator gives accumulator + gradient, in every dtype and for every op.
#[test]
fn accumulators_are_added_to() {
    for (what, sample) in good_samples() {
        let types = sample.op.infer(&llmc_ir::Module::new(""), &sample.types()).unwrap();
        let operands = sample.tensors(6);
        let dy = crate::support::cotangents(&types);
        for &i in &sample.differentiable {
            let wide = operands[i].ty().with_dtype(llmc_ir::ops::compute_dtype(operands[i].dtype));
            for acc_ty in [operands[i].ty(), wide] {
                let acc = filled(&acc_ty, Fill::Normal, 50);
                let (Some(plain), Some(folded)) = (
                    with_accumulator(&sample.op, &operands, &dy, i, None),
                    with_accumulator(&sample.op, &operands, &dy, i, Some(&acc)),
                ) else {
                    continue;
                };
                assert_eq!(folded.ty(), acc_ty, "{what}");
                let sums = acc.as_floats().unwrap().iter().zip(plain.as_floats().unwrap());
                for ((a, g), got) in sums.zip(folded.as_floats().unwrap()) {
                    let close = crate::support::close(a + g, *got, 1e-12, 1.0);
                    assert!(close, "{what}: operand {i}: {a} + {g} = {got}");
                }
            }
        }
    }
}

fn with_accumulator(
    op: &Op,
    operands: &[Tensor],
    dy: &[Option<Tensor>],
    i: usize,
    acc: Option<&Tensor>,
) -> Option<Tensor> {
    let given: Vec<Tensor> = dy.iter().flatten().cloned().collect();
    let mut inputs = [operands, &given[..]].concat();
    inputs.extend(acc.cloned());
    let n = operands.len();
    let outputs = evaluate(&inputs, Mode::Real, |b, v| {
        let results = b.op(op.clone(), &v[..n])?;
        let mut given = v[n..].iter().copied();
        let cotangents: Vec<_> = dy.iter().map(|t| t.as_ref().and_then(|_| given.next())).collect();
        let mut needed = vec![false; n];
        let mut accumulators = vec![None; n];
        needed[i] = true;
        accumulators[i] = acc.and_then(|_| given.next());
        let input = VjpInput {
            operands: &v[..n],
            results: &results,
            cotangents: &cotangents,
            needed: &needed,
            accumulators: &accumulators,
        };
        Ok(op.vjp(b, &input)?.and_then(|grads| grads[i]).into_iter().collect())
    });
    outputs.into_iter().next()
}
