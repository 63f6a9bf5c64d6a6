//! Random well-typed modules from bytes, for property tests and fuzzing.
//!
//! Each byte decides one thing, and when the bytes are used up every decision is the first choice,
//! so shorter inputs give smaller modules and a shrinking tester shrinks modules. All modules pass
//! [`crate::verify::verify`].

use crate::builder::FunctionBuilder;
use crate::module::{FuncId, Function, Module, ParamRole, ValueId};
use crate::ops::{
    BinaryKind, Call, CompareKind, If, LayerNorm, Linear, ReduceKind, RmsNorm, Scan, Softmax,
    Swiglu, While,
};
use crate::types::{DType, TensorType, TypeError};
use llmc_base::Expr;

/// Most functions of a generated module, without helpers.
const MAX_FUNCTIONS: usize = 4;
/// Most statements of a generated function.
const MAX_STATEMENTS: usize = 12;

/// The module that these bytes choose. Symbols are `B` (at least 1) and `T` (a multiple of 2).
pub fn module(bytes: &[u8]) -> Module {
    let mut choices = Choices { bytes, at: 0 };
    let mut module = Module::new("generated");
    if choices.flip() {
        module.origin("model.norm");
    }
    module.declare_symbol("B", 1, 1);
    module.declare_symbol("T", 2, 2);
    helpers(&mut module);
    let n_functions = 1 + choices.below(MAX_FUNCTIONS);
    for i in 0..n_functions {
        let name = if i + 1 == n_functions { "main".to_string() } else { format!("f{i}") };
        let origins = [module.origin(""), module.origin(&format!("line {i}"))];
        let function = function(&module, &name, &origins, &mut choices);
        module.add(function);
    }
    module
}

/// Decisions, one byte each.
struct Choices<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Choices<'_> {
    fn below(&mut self, n: usize) -> usize {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(byte) % n.max(1)
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 1
    }

    fn pick<'t, T>(&mut self, items: &'t [T]) -> Option<&'t T> {
        match items.is_empty() {
            true => None,
            false => items.get(self.below(items.len())),
        }
    }

    fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }
}

/// Functions for the region ops: `@carry` for `scan`, `@step` and `@is_small` for `while`.
fn helpers(module: &mut Module) {
    let row = TensorType::new(DType::F32, [4]);
    let mut add = |name: &str, build: &dyn Fn(&mut FunctionBuilder) -> Result<(), TypeError>| {
        let mut b = FunctionBuilder::new(module, name);
        // The helpers are well-typed, so none of them is left out.
        if build(&mut b).is_ok() {
            let function = b.finish();
            module.add(function);
        }
    };
    add("carry", &|b| {
        let (c, x) = (b.input("c", row.clone()), b.input("x", row.clone()));
        let sum = b.add(c, x)?;
        b.output("c", sum);
        b.output("y", c);
        Ok(())
    });
    add("step", &|b| {
        let x = b.input("x", row.clone());
        let y = b.add_scalar(x, 0.5)?;
        b.output("y", y);
        Ok(())
    });
    add("is_small", &|b| {
        let x = b.input("x", row.clone());
        let largest = b.reduce(ReduceKind::Max, x, &[0])?;
        let limit = b.scalar(DType::F32, 1.0)?;
        let go = b.compare(CompareKind::Lt, largest, limit)?;
        b.output("go", go);
        Ok(())
    });
}

fn types() -> Vec<TensorType> {
    let (b, t) = (Expr::symbol("B"), Expr::symbol("T"));
    let four = Expr::from(4);
    vec![
        TensorType::new(DType::F32, [b.clone(), four.clone()]),
        TensorType::new(DType::F32, [b.clone(), t.clone(), four.clone()]),
        TensorType::new(DType::F32, [4]),
        TensorType::new(DType::F32, [3, 4]),
        TensorType::new(DType::Bf16, [b.clone(), four]),
        TensorType::new(DType::I32, [b, t]),
        TensorType::scalar(DType::Bool),
        TensorType::scalar(DType::F32),
    ]
}

fn function(
    module: &Module,
    name: &str,
    origins: &[crate::OriginId; 2],
    choices: &mut Choices,
) -> Function {
    let types = types();
    let mut b = FunctionBuilder::new(module, name);
    let mut values = Vec::new();
    for i in 0..1 + choices.below(3) {
        if let Some(ty) = choices.pick(&types) {
            values.push(b.input(&format!("x{i}"), ty.clone()));
        }
    }
    for i in 0..choices.below(3) {
        let dims: &[usize] = if choices.flip() { &[4] } else { &[4, 4] };
        let ty = TensorType::new(DType::F32, dims.iter().copied());
        values.push(b.weight(&format!("w.{i}"), ty));
    }
    let state = choices.flip().then(|| {
        let ty = TensorType::new(DType::F32, [4]);
        b.param("state", ty, ParamRole::State("count".into()))
    });
    let mut n_scopes = 0;
    for _ in 0..choices.below(MAX_STATEMENTS + 1) {
        b.set_origin(origins[choices.below(2)]);
        // What does not fit the types is left out.
        if let Ok(new) = statement(module, &mut b, &values, &mut n_scopes, choices) {
            if choices.below(4) == 1
                && let Some(first) = new.first()
            {
                b.name(*first, "named");
            }
            values.extend(new);
        }
    }
    if let Some(state) = state {
        let next = if choices.flip() { b.add(state, state).unwrap_or(state) } else { state };
        b.state_result("count", next);
    }
    let n_outputs = 1 + choices.below(3);
    for (i, value) in values.iter().rev().take(n_outputs).enumerate() {
        b.output(&format!("y{i}"), *value);
    }
    let mut function = b.finish();
    let has_parameters = function.weights().next().is_some() || function.states().next().is_some();
    function.is_composite = !has_parameters && name != "main" && choices.flip();
    function
}

/// Appends one or more nodes and gives their results.
fn statement(
    module: &Module,
    b: &mut FunctionBuilder,
    values: &[ValueId],
    n_scopes: &mut usize,
    choices: &mut Choices,
) -> Result<Vec<ValueId>, TypeError> {
    let nothing = || TypeError::new("generate::nothing", "nothing to choose from");
    let x = *choices.pick(values).ok_or_else(nothing)?;
    let ty = b.ty(x).clone();
    let like: Vec<ValueId> = values.iter().copied().filter(|v| *b.ty(*v) == ty).collect();
    let y = *choices.pick(&like).ok_or_else(nothing)?;
    let one = |value| Ok(vec![value]);
    match choices.below(16) {
        0 => one(b.add(x, y)?),
        1 => one(b.neg(x)?),
        2 => one(b.exp(x)?),
        3 => {
            let (kind, _) = BinaryKind::WORDS[choices.below(BinaryKind::WORDS.len())];
            b.op(crate::ops::Binary { kind }, &[x, y])
        }
        4 => {
            let (kind, _) = CompareKind::WORDS[choices.below(CompareKind::WORDS.len())];
            let condition = b.compare(kind, x, y)?;
            Ok(vec![condition, b.select(condition, x, y)?])
        }
        5 => one(b.cast(x, [DType::F32, DType::Bf16, DType::F64][choices.below(3)])?),
        6 => one(b.sum_last(x)?),
        7 => {
            let mut perm: Vec<usize> = (0..ty.rank()).collect();
            perm.reverse();
            one(b.transpose(x, &perm)?)
        }
        8 => {
            let mut dims = ty.shape.clone();
            dims.insert(0, Expr::symbol("T"));
            let axes: Vec<usize> = (1..dims.len()).collect();
            one(b.broadcast(x, &dims, &axes)?)
        }
        9 => one(b.constant(&ty, choices.below(5) as f64 / 4.0)?),
        10 => b.op(Softmax, &[x]),
        11 => b.op(Swiglu, &[x, y]),
        12 => {
            let w = *choices.pick(values).ok_or_else(nothing)?;
            match choices.below(3) {
                0 => b.op(RmsNorm { eps: 1e-5 }, &[x, w]),
                1 => b.op(LayerNorm { eps: 1e-6 }, &[x, w]),
                _ => b.op(Linear::default(), &[x, w]),
            }
        }
        13 => region(module, b, values, x, choices),
        _ => calls(module, b, values, n_scopes, choices),
    }
}

fn region(
    module: &Module,
    b: &mut FunctionBuilder,
    values: &[ValueId],
    x: ValueId,
    choices: &mut Choices,
) -> Result<Vec<ValueId>, TypeError> {
    let row = TensorType::new(DType::F32, [4]);
    let rows = |value: &ValueId| {
        let ty = b.ty(*value);
        ty.dtype == DType::F32 && ty.rank() == 2 && ty.shape[1] == Expr::from(4)
    };
    match choices.below(3) {
        0 => {
            let sliced: Vec<ValueId> = values.iter().copied().filter(rows).collect();
            let xs = choices.pick(&sliced).copied().unwrap_or(x);
            let carry = b.constant(&row, 0.0)?;
            b.op(Scan { body: "carry".into(), reverse: choices.flip() }, &[carry, xs])
        }
        1 => {
            let start = b.constant(&row, 0.25)?;
            b.op(While { cond: "is_small".into(), body: "step".into() }, &[start])
        }
        _ => {
            let condition = b.compare(CompareKind::Eq, x, x)?;
            let callee = FuncId(choices.below(module.functions.len()) as u32);
            let function = module.function(callee);
            let name = function.name.clone();
            let mut operands = vec![condition];
            operands.extend(fitting(b, function, values)?);
            // Branches have no scope, so their paths could clash with others.
            if needs_parameters(module, callee) {
                return Err(TypeError::new("generate::path", "no weights or state in branches"));
            }
            b.op(If { then_fn: name.clone(), else_fn: name }, &operands)
        }
    }
}

fn needs_parameters(module: &Module, callee: FuncId) -> bool {
    let is_empty = crate::account::weights(module, callee).is_empty();
    !is_empty || !crate::account::states(module, callee).is_empty()
}

/// One value per input of the callee, each of exactly its type.
fn fitting(
    b: &FunctionBuilder,
    callee: &Function,
    values: &[ValueId],
) -> Result<Vec<ValueId>, TypeError> {
    callee
        .inputs()
        .map(|input| {
            let fits = |v: &&ValueId| b.ty(**v) == callee.ty(input);
            values.iter().rev().find(fits).copied().ok_or_else(|| {
                TypeError::new("generate::input", "no value fits an input of the callee")
            })
        })
        .collect()
}

/// A run of calls of one function, each fed by the one before where types allow: what the printer
/// folds.
fn calls(
    module: &Module,
    b: &mut FunctionBuilder,
    values: &[ValueId],
    n_scopes: &mut usize,
    choices: &mut Choices,
) -> Result<Vec<ValueId>, TypeError> {
    let callee = FuncId(choices.below(module.functions.len()) as u32);
    let function = module.function(callee);
    let mut operands = fitting(b, function, values)?;
    let mut made = Vec::new();
    let n_calls = if choices.is_done() { 1 } else { 1 + choices.below(8) };
    let is_descending = choices.flip();
    for i in 0..n_calls {
        let i = if is_descending { n_calls - 1 - i } else { i };
        let scope = format!("run{n_scopes}.layers.{i}");
        let call = Call { callee: function.name.clone(), scope };
        let results = b.op(call, &operands)?;
        for (operand, result) in operands.iter_mut().zip(&results) {
            if b.ty(*operand) == b.ty(*result) {
                *operand = *result;
            }
        }
        made.extend(results);
    }
    *n_scopes += 1;
    Ok(made)
}
