//! The evaluator on random modules, whole and damaged: whole ones have the types they declare,
//! damaged ones are an error or a result, never a panic.

use llmc_base::Expr;
use llmc_base::expr::{Env, Symbol};
use llmc_ir::eval::{EvalError, EvalOptions, Evaluation, Mode, Tensor, run};
use llmc_ir::sample::{Fill, filled};
use llmc_ir::{DType, FuncId, Module, TensorType, ValueId, account, generate};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Elements of a tensor, and nodes.
const LIMITS: (usize, u64) = (1 << 16, 5_000);

/// B = 3, T = 4.
fn dims() -> Env {
    Env::from([(Symbol::new("B"), 3), (Symbol::new("T"), 4)])
}

/// A tensor of the type; a scalar if a damaged type has no small one.
fn tensor(ty: &TensorType, seed: u64) -> Tensor {
    let ty = ty.bind(&dims());
    let count = ty.concrete().and_then(|shape| {
        shape.into_iter().try_fold(1usize, |n, d| n.checked_mul(d)).filter(|n| *n <= LIMITS.0)
    });
    match count {
        Some(_) => filled(&ty, Fill::Below(2), seed),
        None => Tensor::scalar(ty.dtype, 0.0),
    }
}

/// Weights and state of a function, by absolute path.
struct Given {
    weights: BTreeMap<String, Tensor>,
    states: BTreeMap<String, Tensor>,
}

impl Given {
    /// What the accounting of a whole module says that its function needs.
    fn of(module: &Module, func: FuncId) -> Self {
        let weights =
            account::weights(module, func).into_iter().map(|w| (w.path, tensor(&w.ty, 7)));
        let states = account::states(module, func).into_iter();
        Given {
            weights: weights.collect(),
            states: states.map(|(path, ty)| (path, tensor(&ty, 8))).collect(),
        }
    }
}

fn evaluate(
    module: &Module,
    func: FuncId,
    given: &Given,
    mode: Mode,
) -> Result<Evaluation, EvalError> {
    let function = module.function(func);
    let ty = |v: ValueId| function.values.get(v.index()).map(|v| v.ty.clone());
    let types = function.inputs().filter_map(ty).enumerate();
    let inputs: Vec<Tensor> = types.map(|(i, ty)| tensor(&ty, i as u64)).collect();
    let mut options = EvalOptions::new(mode);
    options.dims = dims();
    (options.limits.max_elements, options.limits.max_nodes) = LIMITS;
    let weight = |path: &str| given.weights.get(path).cloned();
    run(module, func, &inputs, &weight, &given.states, &options)
}

/// Changes one thing of a function, as the bytes say.
fn damage(module: &mut Module, [what, at, with]: [u8; 3]) {
    let n_functions = module.functions.len();
    let names: Vec<String> = module.functions.iter().map(|f| f.name.clone()).collect();
    let function = &mut module.functions[usize::from(at) % n_functions];
    let id = ValueId(u32::from(with) % (function.values.len() as u32 + 3));
    let odd = [
        Expr::symbol("X"),
        Expr::from(-1),
        Expr::from(1i64 << 50),
        Expr::symbol("T") * Expr::symbol("T") * Expr::symbol("T"),
        Expr::from(0),
    ];
    let odd = odd[usize::from(with) % odd.len()].clone();
    let n_nodes = function.nodes.len().max(1);
    let node = function.nodes.get_mut(usize::from(at) % n_nodes);
    match (what % 9, node) {
        (0, Some(node)) => node.operands.iter_mut().take(1).for_each(|v| *v = id),
        (1, Some(node)) => node.operands.push(id),
        (2, Some(node)) => drop(node.operands.pop()),
        (3, Some(node)) => node.results.push(id),
        (4, Some(node)) => node.op = node.op.map_dims(&|_| odd.clone()),
        (5, Some(node)) => {
            let callee = names[usize::from(with) % names.len()].clone();
            node.op = llmc_ir::ops::Call { callee, scope: String::new() }.into();
        }
        (6, _) => function.results.iter_mut().for_each(|r| r.value = id),
        (7, _) => function.params.iter_mut().take(1).for_each(|p| p.value = id),
        _ => {
            let n_values = function.values.len().max(1);
            if let Some(value) = function.values.get_mut(usize::from(at) % n_values) {
                value.ty.shape.push(odd);
                value.ty.dtype = DType::ALL[usize::from(with) % DType::ALL.len()].0;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whole_modules_evaluate_to_their_types(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
        let module = generate::module(&bytes);
        let main = module.find("main").unwrap();
        let given = Given::of(&module, main);
        for mode in [Mode::Real, Mode::Rounded] {
            match evaluate(&module, main, &given, mode) {
                Ok(result) => {
                    prop_assert!(result.states.keys().eq(given.states.keys()));
                    let function = module.function(main);
                    let want: Vec<TensorType> =
                        function.outputs().map(|(_, v)| function.ty(v).bind(&dims())).collect();
                    let got: Vec<TensorType> = result.outputs.iter().map(Tensor::ty).collect();
                    prop_assert_eq!(got, want);
                }
                // A random loop need not end.
                Err(error) => {
                    let limit = error.message.contains("does not end") || error.message.contains("more than");
                    prop_assert!(limit, "{}", error);
                }
            }
        }
    }

    #[test]
    fn damaged_modules_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..160),
        changes in prop::collection::vec(any::<[u8; 3]>(), 1..4),
    ) {
        let mut module = generate::module(&bytes);
        let funcs: Vec<FuncId> = (0..module.functions.len() as u32).map(FuncId).collect();
        let given: Vec<Given> = funcs.iter().map(|func| Given::of(&module, *func)).collect();
        changes.into_iter().for_each(|change| damage(&mut module, change));
        for (func, given) in funcs.into_iter().zip(given) {
            let _ = evaluate(&module, func, &given, Mode::Rounded);
        }
    }
}
