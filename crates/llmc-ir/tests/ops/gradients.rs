//! Gradients of all ops: against central differences in f64, and the `vjp` of a composite against
//! the gradient of its decomposition.

use crate::support::{
    F64_EQUAL, FINITE_DIFFERENCE, Of, apply, close, cotangents, good_samples, gradients, magnitude,
};
use llmc_ir::eval::{Data, Mode, Tensor};
use llmc_ir::sample::Sample;
use llmc_ir::{Class, Module, Op};

/// Σ results · cotangents.
fn objective(op: &Op, operands: &[Tensor], cotangents: &[Option<Tensor>]) -> f64 {
    let mut sum = 0.0;
    for (result, cotangent) in apply(op, operands, Mode::Real).iter().zip(cotangents) {
        if let (Data::Float(y), Some(Data::Float(c))) =
            (&result.data, cotangent.as_ref().map(|c| &c.data))
        {
            sum += y.iter().zip(c).map(|(y, c)| y * c).sum::<f64>();
        }
    }
    sum
}

/// The operand with `step` added to element `i`.
fn moved(operand: &Tensor, i: usize, step: f64) -> Tensor {
    let mut values = operand.as_floats().unwrap().to_vec();
    values[i] += step;
    Tensor { data: Data::Float(values), ..operand.clone() }
}

fn setup(sample: &Sample) -> (Vec<Tensor>, Vec<Option<Tensor>>) {
    let types = sample.op.infer(&Module::new(""), &sample.types()).unwrap();
    (sample.tensors(5), cotangents(&types))
}

#[test]
fn gradients_are_central_differences() {
    const STEP: f64 = 1e-5;
    let mut checked = 0;
    for (what, sample) in good_samples() {
        if sample.differentiable.is_empty() {
            continue;
        }
        let (operands, cotangents) = setup(&sample);
        let grads = gradients(&sample.op, &operands, &cotangents, Of::Op);
        for &i in &sample.differentiable {
            let count = operands[i].numel();
            let zero = Tensor::splat(operands[i].dtype, &operands[i].shape, 0.0);
            let grad = grads[i].as_ref().unwrap_or(&zero).as_floats().unwrap().to_vec();
            assert_eq!(grad.len(), count, "{what}");
            // All of a small operand, some of a large one.
            let stride = count.div_ceil(40).max(1);
            let scale = magnitude(&grad).max(1e-3);
            for element in (0..count).step_by(stride) {
                let at = |step: f64| {
                    let mut operands = operands.clone();
                    operands[i] = moved(&operands[i], element, step);
                    objective(&sample.op, &operands, &cotangents)
                };
                let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                assert!(
                    close(difference, grad[element], FINITE_DIFFERENCE, scale),
                    "{what}: operand {i} element {element}: difference {difference}, gradient {}",
                    grad[element]
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 2000, "only {checked} elements checked");
}

#[test]
fn own_gradients_are_those_of_the_decomposition() {
    let mut checked = 0;
    for (what, sample) in good_samples() {
        if sample.op.class() != Class::Composite {
            continue;
        }
        let (operands, cotangents) = setup(&sample);
        let own = gradients(&sample.op, &operands, &cotangents, Of::Op);
        let derived = gradients(&sample.op, &operands, &cotangents, Of::Decomposition);
        for &i in &sample.differentiable {
            let zero = Tensor::splat(operands[i].dtype, &operands[i].shape, 0.0);
            let a = own[i].as_ref().unwrap_or(&zero).as_floats().unwrap();
            let b = derived[i].as_ref().unwrap_or(&zero).as_floats().unwrap();
            let scale = magnitude(a).max(1e-3);
            for (element, (a, b)) in a.iter().zip(b).enumerate() {
                assert!(
                    close(*a, *b, F64_EQUAL, scale),
                    "{what}: operand {i} element {element}: own {a}, of the decomposition {b}"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 2000, "only {checked} elements checked");
}
