//! Each check is shown to catch what only it catches: a good module, one change, one code.

use super::{Check, findings, verify};
use crate::module::{
    FuncId, Module, NodeId, OriginId, ParamRole, ResultRole, SymbolFact, ValueDef, ValueId,
};
use crate::ops::{Call, Op};
use crate::text::parse;
use crate::types::{DType, TensorType};
use llmc_base::{Expr, Symbol};
use std::collections::BTreeSet;

const GOOD: &str = r#"module @good {
  symbol B >= 1
  symbol E >= 8, multiple_of 8
  composite @double(%x: f32[N]) -> (y: f32[N]) {
    %y = add(%x, %x)
    return %y
  }
  fn @layer(%x: f32[B, E], weight %w "norm.weight": f32[E], state %n "count": f32[E]) -> (y: f32[B, E], state "count": f32[E]) {
    %a = rms_norm(%x, %w) {eps = 1e-5} from "spec: norm"
    %n2 = add(%n, %w)
    return %a, %n2
  }
  fn @positive(%x: f32[B, E]) -> (go: bool[]) {
    %s = reduce_sum(%x) {axes = [0, 1], order = lanes, acc = f32}
    %z = constant() {dtype = f32, dims = <>, value = 0.0}
    %g = gt(%s, %z)
    return %g
  }
  fn @step(%x: f32[B, E]) -> (x: f32[B, E]) {
    %y = neg(%x)
    return %y
  }
  fn @main(%x: f32[B, E], %go: bool[], weight %w "final.norm.weight": f32[E], state %s "s": f32[E]) -> (y: f32[B, E], z: f32[E], state "s": f32[E]) {
    %h = call @layer(%x) {scope = "first"}
    %i = call @layer(%h) {scope = "second"}
    %j = while(%i) {cond = @positive, body = @step}
    %k = if(%go, %j) {then = @step, else = @step}
    %d = double(%w)
    %t = add(%s, %d)
    %l = rms_norm(%k, %w) {eps = 1e-5} from "spec: final"
    return %l, %d, %t
  }
}"#;

fn good() -> Module {
    parse(GOOD).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The checks that find something after a change of the good module, each once.
fn found(change: impl FnOnce(&mut Module)) -> BTreeSet<Check> {
    let mut module = good();
    change(&mut module);
    findings(&module).into_iter().map(|finding| finding.check).collect()
}

/// The function of this name.
fn function<'a>(module: &'a mut Module, name: &str) -> &'a mut crate::Function {
    let id = module.find(name).expect("it is in the good module");
    &mut module.functions[id.index()]
}

/// One change per check, caught by this check and by no other.
#[allow(clippy::type_complexity)] // A list of cases.
fn mutations() -> Vec<(Check, &'static str, Box<dyn FnOnce(&mut Module)>)> {
    vec![
        (
            Check::Ids,
            "an operand out of range",
            Box::new(|m| {
                function(m, "main").nodes[0].operands[0] = ValueId(1000);
            }),
        ),
        (
            Check::Ids,
            "a result out of range",
            Box::new(|m| {
                function(m, "main").results[0].value = ValueId(1000);
            }),
        ),
        (
            Check::Ids,
            "a parameter out of range",
            Box::new(|m| {
                function(m, "step").params[0].value = ValueId(1000);
            }),
        ),
        (
            Check::Definition,
            "a value that names another definition",
            Box::new(|m| {
                let f = function(m, "main");
                let value = f.nodes[0].results[0];
                f.values[value.index()].def = ValueDef::Node { node: NodeId(1), index: 0 };
            }),
        ),
        (
            Check::Definition,
            "a value that nothing defines",
            Box::new(|m| {
                let f = function(m, "main");
                f.values.push(crate::ValueData { name: None, ..f.values[0].clone() });
            }),
        ),
        (
            Check::Order,
            "two nodes swapped",
            Box::new(|m| {
                let f = function(m, "main");
                f.nodes.swap(0, 1);
                for n in [0, 1] {
                    let value = f.nodes[n].results[0];
                    f.values[value.index()].def =
                        ValueDef::Node { node: NodeId(n as u32), index: 0 };
                }
            }),
        ),
        (
            Check::FunctionName,
            "two functions of one name",
            Box::new(|m| {
                let copy = function(m, "step").clone();
                m.functions.push(copy);
            }),
        ),
        (
            Check::FunctionName,
            "a function without a name",
            Box::new(|m| {
                function(m, "main").name = String::new();
            }),
        ),
        (
            Check::ValueName,
            "two values of one name",
            Box::new(|m| {
                let f = function(m, "main");
                f.values[1].name = f.values[0].name.clone();
            }),
        ),
        (
            Check::OutputName,
            "two outputs of one name",
            Box::new(|m| {
                function(m, "main").results[1].role = ResultRole::Output("y".into());
            }),
        ),
        (
            Check::Path,
            "two parameters of one path",
            Box::new(|m| {
                let f = function(m, "main");
                let ty = f.values[2].ty.clone();
                add_param(f, ty, ParamRole::Weight("final.norm.weight".into()));
            }),
        ),
        (
            Check::Origin,
            "an origin out of range",
            Box::new(|m| {
                function(m, "main").nodes[0].origin = OriginId(99);
            }),
        ),
        (
            Check::Origin,
            "a first origin with a text",
            Box::new(|m| {
                m.origins[0] = "x".into();
            }),
        ),
        (
            Check::Origin,
            "an origin twice",
            Box::new(|m| {
                m.origins.push("spec: norm".into());
            }),
        ),
        (
            Check::SymbolFact,
            "a symbol declared twice",
            Box::new(|m| {
                m.symbols.push(m.symbols[0].clone());
            }),
        ),
        (
            Check::SymbolFact,
            "a divisor of 0",
            Box::new(|m| {
                m.symbols[0].multiple_of = 0;
            }),
        ),
        (
            Check::SymbolFact,
            "a name that is none",
            Box::new(|m| {
                let symbol = Symbol::new("2*B");
                m.symbols.push(SymbolFact { symbol, min: 1, multiple_of: 1 });
            }),
        ),
        (
            Check::Symbol,
            "a symbol that nothing binds",
            Box::new(|m| {
                // Declared so far; the composite binds its own.
                m.symbols.retain(|s| s.symbol.name() != "E");
                let f = function(m, "main");
                // Without this input, E occurs only in weights and state.
                f.values[0].ty = TensorType::new(DType::F32, [Expr::symbol("B"), Expr::from(8)]);
                f.nodes.clear();
                f.values.truncate(4);
                f.results.truncate(0);
                f.results.push(crate::ResultInfo {
                    value: ValueId(3),
                    role: ResultRole::State("s".into()),
                });
            }),
        ),
        (
            Check::Size,
            "a tensor of 2^80 elements",
            Box::new(|m| {
                let ty = TensorType::new(DType::F32, [1u64 << 40, 1 << 40]);
                add_param(function(m, "main"), ty, ParamRole::Input);
            }),
        ),
        (
            Check::Callee,
            "a function that does not exist",
            Box::new(|m| {
                call(m, "main", 0).callee = "nothing".into();
            }),
        ),
        (
            Check::Callee,
            "a function that calls itself",
            Box::new(|m| {
                call(m, "main", 1).callee = "main".into();
            }),
        ),
        (
            Check::Operands,
            "an operand of another type",
            Box::new(|m| {
                let f = function(m, "main");
                f.nodes[6].operands.swap(0, 1);
            }),
        ),
        (
            Check::Operands,
            "branches of different types",
            Box::new(|m| {
                let Op::If(op) = &mut function(m, "main").nodes[3].op else { panic!("an if") };
                op.else_fn = "positive".into();
            }),
        ),
        (
            Check::Type,
            "another type than inferred",
            Box::new(|m| {
                let f = function(m, "main");
                let value = f.results[0].value;
                f.values[value.index()].ty = TensorType::scalar(DType::I32);
            }),
        ),
        (
            Check::Region,
            "a composite with a weight",
            Box::new(|m| {
                function(m, "double").params[0].role = ParamRole::Input;
                let ty = TensorType::new(DType::F32, [Expr::symbol("N")]);
                add_param(function(m, "double"), ty, ParamRole::Weight("w".into()));
            }),
        ),
        (
            Check::Region,
            "a condition with state",
            Box::new(|m| {
                let f = function(m, "positive");
                let ty = TensorType::scalar(DType::F32);
                let value = add_param(f, ty, ParamRole::State("n".into()));
                let role = ResultRole::State("n".into());
                f.results.push(crate::ResultInfo { value, role });
            }),
        ),
        (
            Check::Weight,
            "one path with two types",
            Box::new(|m| {
                let f = function(m, "main");
                add_param(
                    f,
                    TensorType::scalar(DType::F32),
                    ParamRole::Weight("first.norm.weight".into()),
                );
            }),
        ),
        (
            Check::PathCollision,
            "state of a weight's path",
            Box::new(|m| {
                let f = function(m, "main");
                f.params[2].role = ParamRole::Weight("first.count".into());
            }),
        ),
        (
            Check::StateResult,
            "state without a result",
            Box::new(|m| {
                function(m, "main").results.pop();
            }),
        ),
        (
            Check::StateResult,
            "state with two results",
            Box::new(|m| {
                let f = function(m, "main");
                f.results.push(f.results[2].clone());
            }),
        ),
        (
            Check::StateResult,
            "a result without state",
            Box::new(|m| {
                let f = function(m, "step");
                f.results.push(crate::ResultInfo {
                    value: ValueId(0),
                    role: ResultRole::State("s".into()),
                });
            }),
        ),
        (
            Check::StateResult,
            "a successor of another type",
            Box::new(|m| {
                let f = function(m, "main");
                f.results[2].value = f.results[0].value;
            }),
        ),
        (
            Check::StateUse,
            "the old state used late",
            Box::new(|m| {
                let f = function(m, "main");
                let old = f.params[3].value;
                f.nodes[6].operands[1] = old;
            }),
        ),
        (
            Check::StateUse,
            "the old state returned",
            Box::new(|m| {
                let f = function(m, "main");
                f.results[1].value = f.params[3].value;
            }),
        ),
        (
            Check::StateShared,
            "one scope twice",
            Box::new(|m| {
                call(m, "main", 1).scope = "first".into();
            }),
        ),
    ]
}

fn add_param(f: &mut crate::Function, ty: TensorType, role: ParamRole) -> ValueId {
    let value = ValueId(f.values.len() as u32);
    let def = ValueDef::Param(f.params.len());
    f.values.push(crate::ValueData { name: None, ty, def });
    f.params.push(crate::Param { value, role });
    value
}

fn call<'a>(module: &'a mut Module, name: &str, node: usize) -> &'a mut Call {
    match &mut function(module, name).nodes[node].op {
        Op::Call(call) => call,
        other => panic!("{other:?} is no call"),
    }
}

#[test]
fn a_good_module_is_clean() {
    assert_eq!(verify(&good()), []);
    assert_eq!(verify(&Module::new("empty")), []);
}

#[test]
fn each_check_catches_what_no_other_does() {
    let mut covered = BTreeSet::new();
    for (check, what, change) in mutations() {
        assert_eq!(found(change), BTreeSet::from([check]), "{what}");
        covered.insert(check);
    }
    let all: BTreeSet<Check> = Check::ALL.iter().map(|(check, ..)| *check).collect();
    assert_eq!(covered, all);
}

#[test]
fn findings_say_their_place() {
    let mut module = good();
    call(&mut module, "main", 1).scope = "first".into();
    let all = verify(&module);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].message, "state `first.count` is reached twice in `@main`, node 1 (`call`)");
}

#[test]
fn both_branches_may_use_one_state() {
    let text = r#"module @m {
  fn @step(%x: f32[8], state %s "s": f32[8]) -> (y: f32[8], state "s": f32[8]) {
    %t = add(%s, %x)
    return %x, %t
  }
  fn @main(%go: bool[], %x: f32[8]) -> (y: f32[8]) {
    %y = if(%go, %x) {then = @step, else = @step}
    return %y
  }
}"#;
    assert_eq!(verify(&parse(text).unwrap()), []);
}

#[test]
fn tied_weights_agree_under_bound_symbols() {
    // Both layers see E as 8 of the caller; the caller declares the same path as f32[8].
    let text = r#"module @m {
  fn @layer(%x: f32[E], weight %w "w": f32[E]) -> (y: f32[E]) {
    %y = mul(%x, %w)
    return %y
  }
  fn @main(%x: f32[8], weight %w "tied.w": f32[8]) -> (y: f32[8]) {
    %a = call @layer(%x) {scope = "tied"}
    %b = call @layer(%a) {scope = "tied"}
    %c = mul(%b, %w)
    return %c
  }
}"#;
    assert_eq!(verify(&parse(text).unwrap()), []);
}

#[test]
fn codes_are_unique() {
    let codes: BTreeSet<&str> = Check::ALL.iter().map(|(_, code, _)| *code).collect();
    assert_eq!(codes.len(), Check::ALL.len());
    assert_eq!(Check::StateUse.code(), "ir::state_use");
    assert_eq!(FuncId(0).index(), 0);
}
