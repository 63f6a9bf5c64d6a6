//! Every pass keeps every bit, in both evaluators, on all samples, on random modules and on models.

use crate::common::{Random, arch, build, dims, evaluate, inputs, no_gradient, verified, weights};
use llmc_ir::eval::{Data, EvalOptions, Mode, Tensor, run};
use llmc_ir::ops::*;
use llmc_ir::sample::Fill;
use llmc_ir::{Class, DType, FunctionBuilder, Module, Op, TensorType, ValueId};
use llmc_passes::{PASSES, autodiff, cse, dce, inline, legalise, simplify};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Elements by bits; all NaN are one.
fn bits(tensor: &Tensor) -> Vec<u64> {
    match &tensor.data {
        Data::Float(v) => {
            v.iter().map(|x| if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() }).collect()
        }
        Data::Int(v) => v.iter().map(|x| *x as u64).collect(),
    }
}

/// All passes of [`PASSES`] and some pipelines, applied and verified. `autodiff` has nothing to do
/// where there is no `@loss`, and has done it where there is a `@grad`.
fn rewritten(module: &Module) -> Vec<(&'static str, Module)> {
    let keep_some = |op: &Op| op.name().len().is_multiple_of(2);
    let clean = |m: &Module| dce(&cse(&simplify(m).unwrap()).unwrap()).unwrap();
    let has_no_gradient = module.find("loss").is_some() && module.find("grad").is_none();
    let mut all: Vec<(&str, Module)> = PASSES
        .iter()
        .filter(|pass| pass.name != "autodiff" || has_no_gradient)
        .map(|pass| (pass.name, (pass.run)(module).unwrap()))
        .collect();
    all.extend([
        ("legalise some", legalise(module, &keep_some).unwrap()),
        ("clean", clean(module)),
        ("primitives", clean(&legalise(&inline(module).unwrap(), &|_| false).unwrap())),
    ]);
    all.into_iter().map(|(name, module)| (name, verified(module))).collect()
}

type States = BTreeMap<String, Tensor>;

/// Outputs, and states by path.
type Bits = (Vec<Vec<u64>>, Vec<(String, Vec<u64>)>);

fn result(
    module: &Module,
    entry: &str,
    inputs: &[Tensor],
    weights: &BTreeMap<String, Tensor>,
    states: &States,
    mode: Mode,
) -> Bits {
    let lookup = |path: &str| weights.get(path).cloned();
    let id = module.find(entry).unwrap();
    let out = run(module, id, inputs, &lookup, states, &EvalOptions::new(mode))
        .unwrap_or_else(|e| panic!("{e}\n{}", llmc_ir::text::print(module)));
    let states = out.states.iter().map(|(path, t)| (path.clone(), bits(t))).collect();
    (out.outputs.iter().map(bits).collect(), states)
}

fn check(
    module: &Module,
    entry: &str,
    inputs: &[Tensor],
    weights: &BTreeMap<String, Tensor>,
    states: &States,
) {
    for mode in [Mode::Real, Mode::Rounded] {
        let expected = result(module, entry, inputs, weights, states, mode);
        for (name, new) in rewritten(module) {
            let got = result(&new, entry, inputs, weights, states, mode);
            assert!(
                got == expected,
                "`{name}` changes bits in {mode:?}\n{}\n{}",
                llmc_ir::text::print(module),
                llmc_ir::text::print(&new)
            );
        }
    }
}

fn filled(ty: &TensorType, fill: Fill, random: &mut Random) -> Tensor {
    let shape = ty.concrete().unwrap();
    let n: usize = shape.iter().product();
    let last = shape.last().copied().unwrap_or(1).max(1);
    let value = |i: usize, random: &mut Random| match fill {
        Fill::Normal => random.signed(),
        Fill::Positive => 1.0 + 0.5 * random.signed(),
        Fill::Below(n) => random.below(n as u64) as f64,
        Fill::Targets(_) if i % 4 == 1 => -100.0,
        Fill::Targets(n) => random.below(n as u64) as f64,
        Fill::Positions => (i % last) as f64,
        Fill::Segments => f64::from(u8::from(i % last >= last / 2)),
        Fill::Constant(c) => c,
    };
    let values: Vec<f64> = (0..n).map(|i| value(i, random)).collect();
    if ty.dtype.is_float() {
        return Tensor::floats(ty.dtype, &shape, values).unwrap();
    }
    let ints = values.iter().map(|v| match fill {
        Fill::Normal if ty.dtype == DType::Bool => i64::from(*v > 0.0),
        Fill::Normal => (v * 4.0) as i64,
        _ => *v as i64,
    });
    let unsigned = ty.dtype.is_int() && !ty.dtype.is_signed_int();
    let ints = ints.map(|v| if unsigned { v.abs() } else { v }).collect();
    Tensor::ints(ty.dtype, &shape, ints).unwrap()
}

#[test]
fn all_samples_keep_their_bits() {
    let mut random = Random(5);
    let mut n_samples = 0;
    for (name, samples) in Op::all_samples() {
        for sample in samples.good {
            let module = Module::new(name);
            let mut b = FunctionBuilder::new(&module, "main");
            let operands: Vec<ValueId> = sample
                .operands
                .iter()
                .enumerate()
                .map(|(i, (ty, _))| b.input(&format!("x{i}"), ty.clone()))
                .collect();
            let results = b.op(sample.op.clone(), &operands).unwrap();
            for (i, result) in results.into_iter().enumerate() {
                b.output(&format!("y{i}"), result);
            }
            let function = b.finish();
            let mut module = module.clone();
            module.add(function);
            let tensors: Vec<Tensor> =
                sample.operands.iter().map(|(ty, fill)| filled(ty, *fill, &mut random)).collect();
            check(&module, "main", &tensors, &BTreeMap::new(), &BTreeMap::new());
            n_samples += 1;
        }
    }
    assert!(n_samples > 50, "{n_samples} samples");
}

/// Random functions over f32 [2, 3, 4] and its parts, that call each other with weights and state.
fn random_module(seed: u64, size: usize) -> Module {
    let mut random = Random(seed);
    let mut module = Module::new("random");
    for index in 0..3 {
        let mut b = FunctionBuilder::new(
            &module,
            if index == 2 { "main".into() } else { format!("f{index}") },
        );
        let mut pool = vec![b.input("x", ty(&[2, 3, 4])), b.input("v", ty(&[4]))];
        pool.push(b.weight("a.w", ty(&[4, 4])));
        pool.push(b.weight("a.b", ty(&[4])));
        let state = b.state("s", ty(&[]));
        for _ in 0..size {
            if let Some(new) = random_node(&mut b, &mut random, &pool, index) {
                pool.extend(new);
            }
        }
        let last: Vec<ValueId> =
            pool.iter().copied().filter(|v| b.ty(*v) == &ty(&[2, 3, 4])).collect();
        let y = last[last.len() - 1];
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![0, 1, 2],
            order: Order::Chain,
            acc: DType::F32,
        };
        let next = b.op1(sum, &[y, state]).unwrap();
        b.output("y", y);
        b.state_result("s", next);
        let function = b.finish();
        module.add(function);
    }
    module
}

fn ty(shape: &[usize]) -> TensorType {
    TensorType::new(DType::F32, shape.iter().copied())
}

fn random_node(
    b: &mut FunctionBuilder,
    random: &mut Random,
    pool: &[ValueId],
    index: usize,
) -> Option<Vec<ValueId>> {
    let pick = |random: &mut Random| pool[random.below(pool.len() as u64) as usize];
    let x = pick(random);
    let (shape, rank) = (b.ty(x).shape.clone(), b.ty(x).rank());
    let same: Vec<ValueId> = pool.iter().copied().filter(|v| b.ty(*v) == b.ty(x)).collect();
    let other = same[random.below(same.len() as u64) as usize];
    let constants = [1.0, 0.0, -0.0, 0.1, 2.0, f64::NEG_INFINITY];
    let value = constants[random.below(6) as usize];
    let reversed: Vec<usize> = (0..rank).rev().collect();
    let one = |v: Result<ValueId, llmc_ir::TypeError>| v.ok().map(|v| vec![v]);
    match random.below(24) {
        0 => one(b.add(x, other)),
        1 => one(b.mul(x, other)),
        2 => one(b.sub(x, other)),
        3 => one(b.max(x, other)),
        4 => one(b.constant_like(x, value)),
        5 => b.constant_like(x, value).ok().and_then(|c| one(b.mul(c, x))),
        6 => b.constant_like(x, value).ok().and_then(|c| one(b.add(x, c))),
        7 => b.constant_like(x, value).ok().and_then(|c| one(b.sub(x, c))),
        8 => one(b.neg(x)),
        9 => one(b.exp(x)),
        10 => one(b.op1(Reshape { dims: vec![b.ty(x).numel()] }, &[x])),
        11 => one(b.op1(Reshape { dims: shape }, &[x])),
        12 => one(b.op1(Transpose { perm: reversed }, &[x])),
        13 => {
            let dims: Vec<llmc_base::Expr> = [vec![2usize.into()], shape].concat();
            let axes = (1..=rank).collect();
            if rank >= 5 { None } else { one(b.op1(Broadcast { dims, axes }, &[x])) }
        }
        14 => one(b.op1(RmsNorm { eps: 1e-5 }, &[x, pool[3]])),
        15 => one(b.op1(Linear::default(), &[x, pool[2], pool[3]])),
        16 => one(b.op1(Softmax, &[x])),
        17 => one(b.op1(Gelu, &[x])),
        18 => one(b.op1(Swiglu, &[x, other])),
        19 => {
            let condition = b.compare(CompareKind::Gt, x, other).ok()?;
            one(b.select(condition, x, other))
        }
        20 => one(b.op1(Cast { dtype: DType::F32 }, &[x])),
        21 => {
            let whole =
                Slice { starts: vec![0.into(); rank], limits: shape, strides: vec![1; rank] };
            one(b.op1(whole, &[x]))
        }
        22 => one(b.scalar(DType::F32, value).and_then(|c| b.splat_like(c, x))),
        _ if index > 0 => {
            let callee = b.module().find(&format!("f{}", random.below(index as u64)))?;
            let big: Vec<ValueId> =
                pool.iter().copied().filter(|v| b.ty(*v) == &ty(&[2, 3, 4])).collect();
            let x = big[random.below(big.len() as u64) as usize];
            // Each scope is called once, because state is linear.
            let scope = format!("c{}", b.function().nodes.len());
            b.call(callee, &scope, &[x, pool[1]]).ok()
        }
        _ => None,
    }
}

/// Weights and state of all scopes that a module reaches.
fn external(module: &Module, random: &mut Random) -> (BTreeMap<String, Tensor>, States) {
    let mut weights = BTreeMap::new();
    let mut states = BTreeMap::new();
    let flat = inline(module).unwrap();
    let main = flat.function(flat.find("main").unwrap());
    for (path, value) in main.weights() {
        weights.insert(path.to_string(), filled(main.ty(value), Fill::Normal, random));
    }
    for (path, value) in main.states() {
        states.insert(path.to_string(), filled(main.ty(value), Fill::Normal, random));
    }
    (weights, states)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_modules_keep_their_bits(seed in any::<u64>(), size in 1usize..25) {
        let module = verified(random_module(seed, size));
        let mut random = Random(seed);
        let (weights, states) = external(&module, &mut random);
        let inputs =
            [ty(&[2, 3, 4]), ty(&[4])].map(|t| filled(&t, Fill::Normal, &mut random));
        check(&module, "main", &inputs, &weights, &states);
    }
}

#[test]
fn a_gradient_keeps_its_bits() {
    let (arch, dims) = (arch(), dims());
    let module = autodiff(&build(&arch, &dims), &Default::default()).unwrap();
    let weights = weights(&module, 3);
    let inputs = inputs(&arch, &dims, 2, 5, (0, 2));
    check(&module, "grad", &inputs, &weights, &no_gradient(&module));
}

#[test]
fn the_forward_half_computes_the_loss_itself() {
    let (arch, dims) = (arch(), dims());
    let module = autodiff(&build(&arch, &dims), &Default::default()).unwrap();
    let (weights, inputs) = (weights(&module, 4), inputs(&arch, &dims, 2, 5, (0, 2)));
    let states = no_gradient(&module);
    let loss = |entry: &str| {
        let result = evaluate(&module, entry, &inputs, &weights, &states, Mode::Rounded);
        bits(&result.states["loss"])
    };
    assert_eq!(loss("grad"), loss("loss"));
}

#[test]
fn legalised_modules_hold_no_composite() {
    let module = autodiff(&build(&arch(), &dims()), &Default::default()).unwrap();
    let primitives = legalise(&module, &|_| false).unwrap();
    let nodes = primitives.functions.iter().flat_map(|f| &f.nodes);
    assert!(nodes.into_iter().all(|n| n.op.class() != Class::Composite));
}

#[test]
fn passes_are_found_by_name() {
    for pass in PASSES {
        assert_eq!(llmc_passes::find(pass.name).map(|p| p.summary), Some(pass.summary));
    }
    assert!(llmc_passes::find("no such pass").is_none());
}
