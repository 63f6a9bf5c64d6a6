//! Type rules, evaluation, attributes, decompositions and refusals of all ops.

use crate::support::{apply, close, evaluate, good_samples, magnitude};
use llmc_ir::eval::{Data, Mode, Tensor};
use llmc_ir::ops::UnaryKind;
use llmc_ir::{Attr, Class, Module, Op, TensorType};

#[test]
fn every_op_has_good_and_bad_samples() {
    for (name, samples) in Op::all_samples() {
        let class = Op::LIST.iter().find(|(n, _, _)| *n == name).unwrap().2;
        if class != Class::Region {
            assert!(!samples.good.is_empty(), "{name} has no good sample");
            assert!(!samples.bad.is_empty(), "{name} has no bad sample");
        }
        for sample in samples.good {
            assert_eq!(sample.op.name(), name);
        }
    }
}

#[test]
fn evaluation_has_the_inferred_types() {
    for (what, sample) in good_samples() {
        let types = sample.op.infer(&Module::new(""), &sample.types()).unwrap();
        for mode in [Mode::Real, Mode::Rounded] {
            let results = apply(&sample.op, &sample.tensors(1), mode);
            let got: Vec<TensorType> = results.iter().map(Tensor::ty).collect();
            assert_eq!(got, types, "{what}");
            for result in results {
                result.check().unwrap();
                // Every element is one of its dtype already (NaN never is equal).
                let again = result.clone().normalized(mode);
                assert_eq!(format!("{again:?}"), format!("{result:?}"), "{what}");
            }
        }
    }
}

#[test]
fn evaluation_is_its_own_repetition() {
    for (what, sample) in good_samples() {
        let run = || format!("{:?}", apply(&sample.op, &sample.tensors(9), Mode::Rounded));
        assert_eq!(run(), run(), "{what}");
    }
}

#[test]
fn decompositions_have_the_inferred_types_and_values() {
    for (what, sample) in good_samples() {
        if sample.op.class() != Class::Composite {
            continue;
        }
        let types = sample.op.infer(&Module::new(""), &sample.types()).unwrap();
        let tensors = sample.tensors(2);
        for mode in [Mode::Real, Mode::Rounded] {
            let want = apply(&sample.op, &tensors, mode);
            let got = evaluate(&tensors, mode, |b, values| {
                let results = sample.op.decompose(b, values)?;
                let got: Vec<TensorType> = results.iter().map(|v| b.ty(*v).clone()).collect();
                assert_eq!(got, types, "{what}");
                let simpler = b.function().nodes.iter().all(|n| n.op.name() != sample.op.name());
                assert!(simpler, "{what} decomposes into itself");
                Ok(results)
            });
            assert_eq!(format!("{got:?}"), format!("{want:?}"), "{what}");
        }
    }
}

/// The two modes differ by rounding alone, wherever the op is continuous.
#[test]
fn rounded_is_near_real() {
    for (what, sample) in good_samples() {
        let jumps = match &sample.op {
            Op::Unary(op) => matches!(
                op.kind,
                UnaryKind::Floor | UnaryKind::Ceil | UnaryKind::Round | UnaryKind::Sign
            ),
            Op::Binary(op) => op.kind == llmc_ir::ops::BinaryKind::Rem,
            _ => false,
        };
        let tensors = sample.tensors(3);
        let real = apply(&sample.op, &tensors, Mode::Real);
        let rounded = apply(&sample.op, &tensors, Mode::Rounded);
        for (real, rounded) in real.iter().zip(&rounded) {
            let (Data::Float(a), Data::Float(b)) = (&real.data, &rounded.data) else {
                assert_eq!(real, rounded, "{what}");
                continue;
            };
            let tolerance = match real.dtype.to_string().as_str() {
                "f64" => 1e-12,
                "f32" if sample.op.attrs().iter().any(|(name, _)| *name == "precision") => 2e-2,
                // `adamw_step` takes 1 − β2 in f32, which alone is 5e-5 off.
                "f32" => 3e-5,
                "f16" => 2e-3,
                "bf16" => 1e-2,
                _ => 0.15,
            };
            let scale = magnitude(a);
            for (a, b) in a.iter().zip(b) {
                let fine = jumps || b.is_infinite() || close(*a, *b, tolerance, scale);
                assert!(fine, "{what}: real {a}, rounded {b}");
            }
        }
    }
}

#[test]
fn bad_samples_are_refused_with_their_code() {
    for (name, samples) in Op::all_samples() {
        for (i, bad) in samples.bad.iter().enumerate() {
            let result = bad.op.infer(&Module::new(""), &bad.operands);
            let error = result.expect_err(&format!("{name} accepts bad sample {i}"));
            assert_eq!(error.code, bad.code, "{name} bad sample {i}: {error}");
            assert!(!error.message.is_empty() && !error.message.ends_with('.'));
        }
    }
}

#[test]
fn attributes_make_the_same_op_again() {
    let owned = |op: &Op| -> Vec<(String, Attr)> {
        op.attrs().into_iter().map(|(name, attr)| (name.to_string(), attr)).collect()
    };
    for (name, samples) in Op::all_samples() {
        let good = samples.good.into_iter().map(|s| s.op);
        for op in good.chain(samples.bad.into_iter().map(|s| s.op)) {
            let attrs = owned(&op);
            assert_eq!(Op::parse(name, attrs.clone()), Some(Ok(op)), "{name} from {attrs:?}");
            let mut more = attrs.clone();
            more.push(("colour".to_string(), Attr::Int(1)));
            let error = Op::parse(name, more).unwrap().unwrap_err();
            assert!(error.to_string().contains("colour"), "{name}: {error}");
            // Each attribute is read with a type.
            for i in 0..attrs.len() {
                let mut odd = attrs.clone();
                odd[i].1 = Attr::Text("\u{1F600}".to_string());
                let refused = Op::parse(name, odd).unwrap().is_err();
                assert!(refused, "{name} takes a text for `{}`", attrs[i].0);
            }
        }
    }
    assert!(Op::parse("no_such_op", vec![]).is_none());
}

#[test]
fn regions_are_read_from_attributes() {
    let function = |name: &str| Attr::Function(name.to_string());
    let call = vec![
        ("callee".to_string(), function("f")),
        ("scope".to_string(), Attr::Text("a.b".into())),
    ];
    let branch = vec![("then".to_string(), function("f")), ("else".to_string(), function("g"))];
    let loop_ = vec![("cond".to_string(), function("f")), ("body".to_string(), function("g"))];
    let scan = vec![("body".to_string(), function("f")), ("reverse".to_string(), Attr::Bool(true))];
    for (name, attrs) in [("call", call), ("if", branch), ("while", loop_), ("scan", scan)] {
        let op = Op::parse(name, attrs.clone()).unwrap().unwrap();
        let again: Vec<_> = op.attrs().into_iter().map(|(n, a)| (n.to_string(), a)).collect();
        assert_eq!(again, attrs);
        assert_eq!(op.class(), Class::Region);
        let error = op.infer(&Module::new(""), &[TensorType::scalar(llmc_ir::DType::Bool)]);
        assert!(error.is_err(), "{name} of functions that do not exist");
    }
}

#[test]
fn costs_count_multiply_adds_twice() {
    use llmc_ir::sample::f32;
    let linear: Op = llmc_ir::ops::Linear::default().into();
    let operands = [f32(&[2, 3, 5]), f32(&[7, 5]), f32(&[7])];
    let results = linear.infer(&Module::new(""), &operands).unwrap();
    assert_eq!(linear.cost(&operands, &results).flops, (2 * 6 * 5 * 7 + 6 * 7).into());
    for (what, sample) in good_samples() {
        let types = sample.types();
        let results = sample.op.infer(&Module::new(""), &types).unwrap();
        let cost = sample.op.cost(&types, &results);
        let flops = cost.flops.as_constant();
        assert!(flops.is_some_and(|f| f >= 0), "{what}: {:?}", cost.flops);
    }
}
