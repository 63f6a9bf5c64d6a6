//! The evaluator on single ops and small functions.

use super::*;
use crate::builder::FunctionBuilder;
use crate::module::{FuncId, Module};
use crate::ops::{
    BinaryKind, Call, CompareKind, Constant, Dot, Gather, If, Order, Reduce, ReduceKind, Scan,
    Unary, UnaryKind, While,
};
use crate::types::{DType, TensorType};
use llmc_base::math;
use std::collections::BTreeMap;

fn values(seed: u64, n: usize) -> Vec<f32> {
    let word = |i: usize| math::philox_element(seed, 0, 0, i as u64);
    (0..n).map(|i| math::uniform_f32(word(i)) * 4.0 - 2.0).collect()
}

fn no_weights(_: &str) -> Option<Tensor> {
    None
}

fn evaluate(module: &Module, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let last = FuncId(module.functions.len() as u32 - 1);
    let options = EvalOptions::new(Mode::Rounded);
    run(module, last, inputs, &no_weights, &BTreeMap::new(), &options).map(|e| e.outputs)
}

#[test]
fn rounding_agrees_with_half() {
    for i in 0..20_000u64 {
        let word = math::philox_element(7, 0, 0, i);
        let x = f32::from_bits(word);
        if x.is_nan() {
            continue;
        }
        let f16 = half::f16::from_f32(x).to_f64();
        let bf16 = half::bf16::from_f32(x).to_f64();
        assert_eq!(round_to(DType::F16, f64::from(x)).to_bits(), f16.to_bits(), "{x:e}");
        assert_eq!(round_to(DType::Bf16, f64::from(x)).to_bits(), bf16.to_bits(), "{x:e}");
        // The range where f16 has denormals and its limit.
        let y = x.clamp(-1e9, 1e9) % 70000.0;
        let f16 = half::f16::from_f32(y).to_f64();
        assert_eq!(round_to(DType::F16, f64::from(y)).to_bits(), f16.to_bits(), "{y:e}");
    }
}

#[test]
fn f8_rounds_to_its_grid() {
    for (x, e4m3, e5m2) in [
        (1.0, 1.0, 1.0),
        (1.0625, 1.0, 1.0),
        (1.1875, 1.25, 1.25),
        (448.0, 448.0, 448.0),
        (0.001953125, 0.001953125, 0.001953125),
        (0.0009765625, 0.0, 0.0009765625),
    ] {
        assert_eq!(round_to(DType::F8E4M3, x), e4m3, "{x}");
        assert_eq!(round_to(DType::F8E5M2, x), e5m2, "{x}");
    }
    assert!(round_to(DType::F8E4M3, 480.0).is_nan());
    assert_eq!(round_to(DType::F8E4M3, 463.9), 448.0);
    assert_eq!(round_to(DType::F8E5M2, -1e6), f64::NEG_INFINITY);
}

#[test]
fn dot_is_one_fma_chain() {
    let (m, n, k) = (5, 37, 29);
    let (a, b) = (values(1, m * k), values(2, n * k));
    let init = values(3, m * n);
    let dot = Dot {
        lhs_batch: vec![],
        rhs_batch: vec![],
        lhs_contract: vec![1],
        rhs_contract: vec![1],
        acc: DType::F32,
        precision: crate::ops::Precision::F32,
    };
    let operands = [
        Tensor::f32(&[m, k], &a).unwrap(),
        Tensor::f32(&[n, k], &b).unwrap(),
        Tensor::f32(&[m, n], &init).unwrap(),
    ];
    let got = op(&Module::new(""), &dot.into(), &operands, Mode::Rounded).unwrap();
    let mut want = init.clone();
    for i in 0..m {
        for j in 0..n {
            for l in 0..k {
                want[i * n + j] = a[i * k + l].mul_add(b[j * k + l], want[i * n + j]);
            }
        }
    }
    assert_eq!(got[0].to_f32().unwrap(), want);
}

#[test]
fn lanes_and_chain_have_their_order() {
    for n in [0, 1, 15, 16, 17, 100] {
        let x = values(4, n);
        let tensor = Tensor::f32(&[n], &x).unwrap();
        let sum = |order| {
            let kind = ReduceKind::Sum;
            let reduce = Reduce { kind, axes: vec![0], order, acc: DType::F32 };
            let module = Module::new("");
            op(&module, &reduce.into(), std::slice::from_ref(&tensor), Mode::Rounded).unwrap()[0]
                .to_f32()
                .unwrap()[0]
        };
        assert_eq!(sum(Order::Lanes), math::sum_lanes(x.iter().copied()));
        assert_eq!(sum(Order::Chain), x.iter().fold(0.0, |a, b| a + b));
    }
}

#[test]
fn reduces_inner_outer_and_all_axes() {
    let x: Vec<f32> = (0..24).map(|i| i as f32).collect();
    let x = Tensor::f32(&[2, 3, 4], &x).unwrap();
    let sum = |axes: &[usize]| {
        let op_ = Reduce {
            kind: ReduceKind::Sum,
            axes: axes.to_vec(),
            order: Order::Chain,
            acc: DType::F32,
        };
        op(&Module::new(""), &op_.into(), std::slice::from_ref(&x), Mode::Rounded).unwrap()[0]
            .to_f32()
            .unwrap()
    };
    assert_eq!(sum(&[2]), [6.0, 22.0, 38.0, 54.0, 70.0, 86.0]);
    assert_eq!(sum(&[0, 2]), [60.0, 92.0, 124.0]);
    assert_eq!(sum(&[0, 1, 2]), [276.0]);
    assert_eq!(sum(&[]).len(), 24);
}

#[test]
fn integers_wrap_and_never_trap() {
    let module = Module::new("");
    let run = |kind, a: i64, b: i64, dtype| {
        let operands = [a, b].map(|v| Tensor::ints(dtype, &[], vec![v]).unwrap());
        let binary = crate::ops::Binary { kind };
        op(&module, &binary.into(), &operands, Mode::Rounded).unwrap()[0].as_ints().unwrap()[0]
    };
    assert_eq!(run(BinaryKind::Add, 127, 1, DType::I8), -128);
    assert_eq!(run(BinaryKind::Sub, 0, 1, DType::U4), 15);
    assert_eq!(run(BinaryKind::Div, 7, 0, DType::I32), -1);
    assert_eq!(run(BinaryKind::Div, 7, 0, DType::U8), 255);
    assert_eq!(run(BinaryKind::Rem, 7, 0, DType::I32), 7);
    assert_eq!(run(BinaryKind::Div, i64::MIN, -1, DType::I64), i64::MIN);
    assert_eq!(run(BinaryKind::Shr, -8, 70, DType::I32), -1);
    assert_eq!(run(BinaryKind::Shr, -1, 63, DType::U64), 1);
    assert_eq!(run(BinaryKind::Max, -1, 5, DType::U64), -1);
    assert_eq!(run(BinaryKind::Shl, 1, 7, DType::I8), -128);
}

#[test]
fn casts_clamp_and_round() {
    let module = Module::new("");
    let cast = |x: f64, from: DType, to: DType| {
        let x = Tensor::scalar(from, x);
        op(&module, &crate::ops::Cast { dtype: to }.into(), &[x], Mode::Rounded).unwrap().remove(0)
    };
    assert_eq!(cast(3.99, DType::F32, DType::I32), Tensor::scalar(DType::I32, 3.0));
    assert_eq!(cast(-300.0, DType::F32, DType::I8), Tensor::scalar(DType::I8, -128.0));
    assert_eq!(cast(1e30, DType::F32, DType::I64).as_ints().unwrap(), [i64::MAX]);
    assert_eq!(cast(-1.0, DType::F32, DType::U64).as_ints().unwrap(), [0]);
    assert_eq!(cast(f64::NAN, DType::F32, DType::I32), Tensor::scalar(DType::I32, 0.0));
    assert_eq!(cast(0.5, DType::F64, DType::Bool), Tensor::scalar(DType::Bool, 1.0));
    assert_eq!(cast(16_777_217.0, DType::I32, DType::F32).as_floats().unwrap(), [16_777_216.0]);
}

/// `counter`: x ↦ x + w·x, state `n` ↦ n + 1.
fn counting_module() -> Module {
    let mut module = Module::new("m");
    let ty = TensorType::new(DType::F32, [llmc_base::Expr::symbol("N")]);
    let mut b = FunctionBuilder::new(&module, "layer");
    let x = b.input("x", ty.clone());
    let w = b.weight("w", ty);
    let n = b.state("n", TensorType::scalar(DType::I32));
    let product = b.mul(x, w).unwrap();
    let y = b.add(x, product).unwrap();
    let one = b.scalar(DType::I32, 1.0).unwrap();
    let n = b.add(n, one).unwrap();
    b.output("y", y);
    b.state_result("n", n);
    let layer = b.finish();
    let layer = module.add(layer);
    let mut b = FunctionBuilder::new(&module, "main");
    let x = b.input("x", TensorType::new(DType::F32, [3]));
    let y = b.call(layer, "layers.0", &[x]).unwrap();
    let y = b.call(layer, "layers.1", &y).unwrap();
    let y = b.call(layer, "layers.1", &y).unwrap();
    b.output("y", y[0]);
    let main = b.finish();
    module.add(main);
    module
}

#[test]
fn calls_find_weights_and_thread_state_by_scope() {
    let module = counting_module();
    let weights = |path: &str| match path {
        "layers.0.w" => Tensor::f32(&[3], &[1.0, 2.0, 3.0]).ok(),
        "layers.1.w" => Tensor::f32(&[3], &[0.0, 0.0, 1.0]).ok(),
        _ => None,
    };
    let zero = Tensor::scalar(DType::I32, 0.0);
    let states = BTreeMap::from([
        ("layers.0.n".to_string(), zero.clone()),
        ("layers.1.n".to_string(), zero),
    ]);
    let x = Tensor::f32(&[3], &[1.0, 1.0, 1.0]).unwrap();
    let options = EvalOptions::new(Mode::Rounded);
    let main = module.find("main").unwrap();
    let got = run(&module, main, std::slice::from_ref(&x), &weights, &states, &options).unwrap();
    assert_eq!(got.outputs[0].to_f32().unwrap(), [2.0, 3.0, 16.0]);
    assert_eq!(got.states["layers.0.n"], Tensor::scalar(DType::I32, 1.0));
    assert_eq!(got.states["layers.1.n"], Tensor::scalar(DType::I32, 2.0));

    let error = run(&module, main, &[x], &no_weights, &states, &options).unwrap_err();
    assert_eq!(error.message, "in `@layer`: weight `layers.0.w` is missing");
    let wrong = Tensor::f32(&[2], &[1.0, 1.0]).unwrap();
    let error = run(&module, main, &[wrong], &weights, &states, &options).unwrap_err();
    assert_eq!(error.message, "in `@main`: input has type f32[2], expected f32[3]");
}

#[test]
fn regions_branch_loop_and_scan() {
    let mut module = Module::new("m");
    let scalar = TensorType::scalar(DType::I32);
    let mut b = FunctionBuilder::new(&module, "small");
    let i = b.input("i", scalar.clone());
    let limit = b.scalar(DType::I32, 10.0).unwrap();
    let less = b.compare(CompareKind::Lt, i, limit).unwrap();
    b.output("go", less);
    let f = b.finish();
    module.add(f);
    for (name, factor) in [("double", 2.0), ("triple", 3.0)] {
        let mut b = FunctionBuilder::new(&module, name);
        let i = b.input("i", scalar.clone());
        let i = b.mul_scalar(i, factor).unwrap();
        b.output("i", i);
        let f = b.finish();
        module.add(f);
    }
    let mut b = FunctionBuilder::new(&module, "step");
    let sum = b.input("sum", scalar.clone());
    let x = b.input("x", scalar.clone());
    let sum = b.add(sum, x).unwrap();
    b.output("sum", sum);
    b.output("running", sum);
    let f = b.finish();
    module.add(f);
    let mut b = FunctionBuilder::new(&module, "main");
    let i = b.input("i", scalar.clone());
    let xs = b.input("xs", TensorType::new(DType::I32, [4]));
    let loop_ = While { cond: "small".to_string(), body: "double".to_string() };
    let grown = b.op1(loop_, &[i]).unwrap();
    let even = b.input("flag", TensorType::scalar(DType::Bool));
    let branch = If { then_fn: "double".to_string(), else_fn: "triple".to_string() };
    let branched = b.op1(branch, &[even, i]).unwrap();
    let scan = Scan { body: "step".to_string(), reverse: true };
    let scanned = b.op(scan, &[i, xs]).unwrap();
    assert_eq!(b.ty(scanned[1]), &TensorType::new(DType::I32, [4]));
    for (name, value) in
        [("grown", grown), ("branched", branched), ("sum", scanned[0]), ("ys", scanned[1])]
    {
        b.output(name, value);
    }
    let f = b.finish();
    module.add(f);
    let inputs = [
        Tensor::scalar(DType::I32, 3.0),
        Tensor::i32(&[4], &[1, 10, 100, 1000]).unwrap(),
        Tensor::scalar(DType::Bool, 0.0),
    ];
    let got = evaluate(&module, &inputs).unwrap();
    assert_eq!(got[0], Tensor::scalar(DType::I32, 12.0));
    assert_eq!(got[1], Tensor::scalar(DType::I32, 9.0));
    assert_eq!(got[2], Tensor::scalar(DType::I32, 1114.0));
    assert_eq!(got[3], Tensor::i32(&[4], &[1114, 1113, 1103, 1003]).unwrap());
}

/// A module with one function of one node on `x: f32[2]`.
fn broken(change: impl Fn(&mut crate::module::Function)) -> Module {
    let mut module = Module::new("m");
    let mut b = FunctionBuilder::new(&module, "main");
    let x = b.input("x", TensorType::new(DType::F32, [2]));
    let y = b.exp(x).unwrap();
    b.output("y", y);
    let mut f = b.finish();
    change(&mut f);
    module.functions.push(f);
    module
}

#[test]
fn hostile_modules_are_errors() {
    use crate::module::ValueId;
    let x = Tensor::f32(&[2], &[0.0, 1.0]).unwrap();
    let cases: [(Module, &str); 8] = [
        (broken(|f| f.nodes[0].operands[0] = ValueId(99)), "no value 99"),
        (broken(|f| f.nodes[0].operands[0] = ValueId(1)), "before its definition"),
        (broken(|f| f.nodes[0].operands.clear()), "arity"),
        (broken(|f| f.nodes[0].results.clear()), "1 results for 0 values"),
        (broken(|f| f.nodes[0].results[0] = ValueId(7)), "no value 7"),
        (broken(|f| f.results[0].value = ValueId(9)), "no value 9"),
        (broken(|f| f.nodes[0].op = Unary { kind: UnaryKind::Not }.into()), "unary::c1"),
        (
            broken(|f| {
                f.nodes[0].op = Call { callee: "main".to_string(), scope: String::new() }.into();
            }),
            "nest deeper",
        ),
    ];
    for (module, want) in cases {
        let error = evaluate(&module, std::slice::from_ref(&x)).unwrap_err();
        assert!(error.message.contains(want), "{}", error.message);
    }
    let huge = |dims: &[i64]| {
        let dims = dims.iter().map(|d| (*d).into()).collect();
        let constant = Constant { dtype: DType::F32, dims, value: 0.0 };
        op(&Module::new(""), &constant.into(), &[], Mode::Real).unwrap_err().message
    };
    assert!(huge(&[1 << 40, 1 << 40]).contains("constant::size"));
    assert!(huge(&[1 << 29]).contains("more than"));
    assert!(huge(&[-1]).contains("negative"));
    let ids = Tensor::i32(&[1], &[5]).unwrap();
    let gather = Gather { axis: 0, batch_dims: 0 };
    let error = op(&Module::new(""), &gather.into(), &[x, ids], Mode::Real).unwrap_err();
    assert_eq!(error.message, "index 5 is outside of 0..2");
    let torn = Tensor { dtype: DType::F32, shape: vec![3], data: Data::Float(vec![0.0]) };
    assert!(
        op(&Module::new(""), &Unary { kind: UnaryKind::Exp }.into(), &[torn], Mode::Real).is_err()
    );
}

#[test]
fn endless_loops_end() {
    let mut module = Module::new("m");
    let ty = TensorType::scalar(DType::Bool);
    for name in ["go", "same"] {
        let mut b = FunctionBuilder::new(&module, name);
        let x = b.input("x", ty.clone());
        b.output("x", x);
        let f = b.finish();
        module.add(f);
    }
    let mut b = FunctionBuilder::new(&module, "main");
    let x = b.input("x", ty);
    let loop_ = While { cond: "go".to_string(), body: "same".to_string() };
    let y = b.op1(loop_, &[x]).unwrap();
    b.output("y", y);
    let f = b.finish();
    let main = module.add(f);
    let mut options = EvalOptions::new(Mode::Real);
    options.limits.max_nodes = 1000;
    let truth = Tensor::scalar(DType::Bool, 1.0);
    let error = run(&module, main, &[truth], &no_weights, &BTreeMap::new(), &options).unwrap_err();
    assert!(error.message.contains("does not end"), "{}", error.message);
}
