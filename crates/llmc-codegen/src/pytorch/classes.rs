//! The text of one function: a class with `__init__` and `forward`, or a plain function.

use super::EmitError;
use super::body::{Body, Shared};
use super::tree::{Access, Item, Leaf, Tree, step};
use crate::python::{Block, Code};
use llmc_base::{Expr, Symbol};
use llmc_ir::{DType, Function, Module, Op, TensorType, ValueId};
use std::collections::BTreeSet;

/// How inputs of the entry may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optional {
    /// `positions`: 0, 1, 2, … by default.
    Positions,
    /// `segments`: everything in one segment; `None` is passed on to attention.
    SegmentsPassed,
    /// `segments` where more than attention reads them: zeros.
    SegmentsZero,
}

/// A class for a function with weights.
pub fn class(
    shared: &mut Shared<'_>,
    function: &Function,
    tree: &Tree,
    name: &str,
    is_entry: bool,
) -> Result<String, EmitError> {
    let mut init = Block::new(2);
    init.line("super().__init__()");
    children(shared, function, tree, "self", &mut init)?;
    let mut out = Block::new(0);
    out.line(&format!("class {name}(nn.Module):"));
    out.indent();
    out.docstring(&signature(shared, function));
    out.line("");
    out.line("def __init__(self):");
    out.extend(init);
    out.line("");
    forward(shared, function, tree, "forward", true, is_entry, &[], &mut out)?;
    Ok(out.finish())
}

/// A plain function for a function without weights. `symbols` are passed by name.
pub fn plain(
    shared: &mut Shared<'_>,
    function: &Function,
    name: &str,
    symbols: &[Symbol],
) -> Result<String, EmitError> {
    let tree = Tree { item: Item::Container, children: Vec::new() };
    let mut out = Block::new(0);
    forward(shared, function, &tree, name, false, false, symbols, &mut out)?;
    Ok(out.finish())
}

#[allow(clippy::too_many_arguments)]
fn forward(
    shared: &mut Shared<'_>,
    function: &Function,
    tree: &Tree,
    name: &str,
    is_method: bool,
    is_entry: bool,
    passed: &[Symbol],
    out: &mut Block,
) -> Result<(), EmitError> {
    if let Some((path, _)) = function.states().next() {
        let (function, path) = (function.name.clone(), path.to_string());
        return Err(EmitError::State { function, path });
    }
    let params = function.params.iter().map(|p| p.value);
    for value in params.chain(function.nodes.iter().flat_map(|n| n.results.iter().copied())) {
        super::body::torch_dtype(function, function.ty(value).dtype)?;
    }
    let optional = match is_entry {
        true => optional_inputs(shared.module, function),
        false => Vec::new(),
    };
    // Bodies borrow what they share for as long as their function, so the function is theirs.
    let doc = signature(shared, function);
    let indent = if is_method { 2 } else { 1 };
    let body = Body::new(shared, function, tree, indent);
    let names = body.inputs();
    let (lines, mut symbols) = body.write()?;

    let mut defaults = Block::new(indent);
    for (value, kind) in &optional {
        let Some(name) = position(function, *value).map(|i| &names[i]) else { continue };
        let first = &names[0];
        match kind {
            Optional::Positions => {
                defaults.line(&format!("if {name} is None:"));
                defaults.line(&format!(
                    "    {name} = torch.arange({first}.shape[1], device={first}.device).expand({first}.shape)"
                ));
            }
            Optional::SegmentsZero => {
                defaults.line(&format!("if {name} is None:"));
                defaults.line(&format!("    {name} = torch.zeros_like({first})"));
            }
            Optional::SegmentsPassed => {}
        }
    }
    symbols.retain(|s| !passed.contains(s));
    let mut parameters: Vec<String> = if is_method { vec!["self".to_string()] } else { Vec::new() };
    for (value, name) in function.inputs().zip(&names) {
        let has_default = optional.iter().any(|(v, _)| *v == value);
        parameters.push(if has_default { format!("{name}=None") } else { name.clone() });
    }
    if !passed.is_empty() {
        parameters.push("*".to_string());
        parameters.extend(passed.iter().map(|s| s.name().to_string()));
    }
    out.line(&format!("def {name}({}):", parameters.join(", ")));
    if !is_method {
        out.indent();
        out.docstring(&doc);
        out.dedent();
    }
    out.extend(dims(function, &names, &symbols, indent)?);
    out.extend(defaults);
    out.extend(lines);
    Ok(())
}

fn position(function: &Function, value: ValueId) -> Option<usize> {
    function.inputs().position(|v| v == value)
}

/// `B, T = tokens.shape`: the symbols that the text uses, read from the inputs.
fn dims(
    function: &Function,
    names: &[String],
    symbols: &BTreeSet<Symbol>,
    indent: usize,
) -> Result<Block, EmitError> {
    let mut out = Block::new(indent);
    let mut left = symbols.clone();
    for (value, name) in function.inputs().zip(names) {
        let shape = &function.ty(value).shape;
        let own: Vec<Option<&Symbol>> =
            shape.iter().map(|d| d.as_symbol().filter(|s| left.contains(s))).collect();
        let leading: Vec<&Symbol> = own.iter().map_while(|s| *s).collect();
        let is_distinct = leading.iter().collect::<BTreeSet<_>>().len() == leading.len();
        if leading.len() > 1 && is_distinct {
            let list: Vec<&str> = leading.iter().map(|s| s.name()).collect();
            let cut = match leading.len() == shape.len() {
                true => String::new(),
                false => format!("[:{}]", leading.len()),
            };
            out.line(&format!("{} = {name}.shape{cut}", list.join(", ")));
            leading.into_iter().for_each(|s| {
                left.remove(s);
            });
        }
        for (axis, dim) in shape.iter().enumerate() {
            if let Some(symbol) = dim.as_symbol()
                && left.remove(symbol)
            {
                out.line(&format!("{symbol} = {name}.shape[{axis}]"));
            }
        }
    }
    match left.into_iter().next() {
        None => Ok(out),
        Some(symbol) => {
            Err(EmitError::Symbol { function: function.name.clone(), symbol: symbol.to_string() })
        }
    }
}

/// `x: f32[B, T, 16], positions: i32[B, T] → f32[B, T, 16]`.
fn signature(shared: &Shared<'_>, function: &Function) -> String {
    let show = |ty: &TensorType| {
        let known = |symbol: &Symbol| shared.options.dims.contains_key(symbol);
        let dims: Vec<String> = ty
            .shape
            .iter()
            .map(|dim| match dim.as_symbol().is_some_and(known) {
                true => dim.to_string(),
                false => dim.to_string().replace('*', " * "),
            })
            .collect();
        format!("{}[{}]", ty.dtype, dims.join(", "))
    };
    let inputs: Vec<String> = function
        .inputs()
        .map(|v| {
            let value = function.value(v);
            format!("{}: {}", value.name.as_deref().unwrap_or("x"), show(&value.ty))
        })
        .collect();
    let outputs: Vec<String> = function.outputs().map(|(_, v)| show(function.ty(v))).collect();
    // One line where it fits, so that the docstring is one line too.
    let line = format!("{} → {}.", inputs.join(", "), outputs.join(", "));
    let inputs_line = inputs.join(", ");
    match (line.chars().count(), inputs_line.chars().count()) {
        (..84, _) => line,
        (_, ..88) => format!("{inputs_line}\n→ {}.", outputs.join(", ")),
        _ => format!("{}\n→ {}.", inputs.join(",\n"), outputs.join(", ")),
    }
}

/// The entry's inputs that have an obvious default: `positions` and `segments` beside a first
/// input of their type.
pub fn optional_inputs(module: &Module, function: &Function) -> Vec<(ValueId, Optional)> {
    let mut inputs = function.inputs();
    let Some(first) = inputs.next().map(|v| function.ty(v)) else { return Vec::new() };
    let mut out = Vec::new();
    if first.rank() != 2 || first.dtype != DType::I32 {
        return out;
    }
    // Only a tail of the parameters may have defaults.
    let rest: Vec<ValueId> = inputs.collect();
    for value in rest.into_iter().rev() {
        let data = function.value(value);
        let kind = match data.name.as_deref() {
            Some("positions") if data.ty == *first => Optional::Positions,
            Some("segments") if data.ty == *first => {
                match is_for_attention(module, function, value) {
                    true => Optional::SegmentsPassed,
                    false => Optional::SegmentsZero,
                }
            }
            _ => break,
        };
        out.push((value, kind));
    }
    out
}

/// Whether a value is read as the segments of attention and nothing else.
fn is_for_attention(module: &Module, function: &Function, value: ValueId) -> bool {
    let is_result = function.results.iter().any(|r| r.value == value);
    !is_result
        && function.nodes.iter().all(|node| {
            node.operands.iter().enumerate().filter(|(_, v)| **v == value).all(|(i, _)| match &node
                .op
            {
                Op::Attention(op) if op.dropout.is_none() => {
                    i >= 3 && node.operands.get(3) == node.operands.get(4)
                }
                Op::Call(call) => module.find(&call.callee).is_some_and(|id| {
                    let callee = module.function(id);
                    callee.inputs().nth(i).is_some_and(|v| is_for_attention(module, callee, v))
                }),
                _ => false,
            })
        })
}

/// Statements that make everything below a place of the tree.
fn children(
    shared: &mut Shared<'_>,
    function: &Function,
    tree: &Tree,
    place: &str,
    out: &mut Block,
) -> Result<(), EmitError> {
    // What a list or dict holds is made with it.
    let is_made = match tree.access() {
        Access::Attribute => false,
        Access::List | Access::Dict => tree.item == Item::Container && place != "self",
    };
    for (name, child) in &tree.children {
        let target = format!(
            "{place}{}",
            step(if place == "self" { Access::Attribute } else { tree.access() }, name)
        );
        if !is_made {
            let code = item(shared, function, child)?;
            out.line(&format!("{target} = {code}"));
        }
        if !child.children.is_empty() {
            children(shared, function, child, &target, out)?;
        }
    }
    Ok(())
}

/// The expression that makes what stands at a place.
fn item(shared: &mut Shared<'_>, function: &Function, tree: &Tree) -> Result<String, EmitError> {
    match &tree.item {
        Item::Leaf(leaf) => leaf_code(shared, function, leaf),
        Item::Instance(callee) => Ok(format!("{}()", shared.names[callee])),
        Item::Parameter(ty) => {
            let shape: Vec<String> = ty.shape.iter().map(|d| dim(shared, d)).collect();
            let dtype = dtype(function, ty.dtype)?;
            let arguments = [shape, dtype.into_iter().collect()].concat();
            let values = Code::call("torch.empty", &arguments);
            // PyTorch has gradients of floats only.
            let grad = if ty.dtype.is_float() { "" } else { ", requires_grad=False" };
            Ok(format!("nn.Parameter({}{grad})", values.text()))
        }
        Item::Container => container(shared, function, tree),
    }
}

fn container(
    shared: &mut Shared<'_>,
    function: &Function,
    tree: &Tree,
) -> Result<String, EmitError> {
    let holds_parameters = tree.children.iter().any(|(_, c)| matches!(c.item, Item::Parameter(_)));
    let kind = if holds_parameters { "Parameter" } else { "Module" };
    let mut items = Vec::new();
    match tree.access() {
        Access::Attribute => Ok("nn.Module()".to_string()),
        Access::List => {
            for i in 0..tree.children.len() {
                let name = i.to_string();
                let child = tree.children.iter().find(|(n, _)| *n == name);
                let Some((_, child)) = child else { continue };
                items.push(item(shared, function, child)?);
            }
            let n = items.len();
            if n > 1 && items.iter().all(|i| *i == items[0]) {
                let layers = Symbol::new("num_layers");
                let counted = shared.options.dims.get(&layers) == Some(&(n as i128));
                let n = if counted { "Config.num_layers".to_string() } else { n.to_string() };
                return Ok(format!("nn.{kind}List({} for _ in range({n}))", items[0]));
            }
            Ok(format!("nn.{kind}List([{}])", items.join(", ")))
        }
        Access::Dict => {
            for (name, child) in &tree.children {
                let code = item(shared, function, child)?;
                items.push(format!("{}: {code}", crate::python::string(name)));
            }
            Ok(format!("nn.{kind}Dict({{{}}})", items.join(", ")))
        }
    }
}

fn leaf_code(
    shared: &mut Shared<'_>,
    function: &Function,
    leaf: &Leaf,
) -> Result<String, EmitError> {
    let (class, weight, extra) = match leaf {
        Leaf::Linear { weight, has_bias } => (
            "nn.Linear",
            weight,
            (!has_bias).then(|| "bias=False".to_string()).into_iter().collect(),
        ),
        Leaf::Embedding { weight } => ("nn.Embedding", weight, Vec::new()),
        Leaf::RmsNorm { weight, eps } => ("nn.RMSNorm", weight, vec![format!("eps={eps:?}")]),
        Leaf::LayerNorm { weight, eps, has_bias } => {
            let mut extra = vec![format!("eps={eps:?}")];
            if !has_bias {
                extra.push("bias=False".to_string());
            }
            ("nn.LayerNorm", weight, extra)
        }
    };
    let mut arguments: Vec<String> = weight.shape.iter().map(|d| dim(shared, d)).collect();
    if matches!(leaf, Leaf::Linear { .. }) {
        // nn.Linear takes (in, out) and stores [out, in].
        arguments.reverse();
    }
    arguments.extend(extra);
    arguments.extend(dtype(function, weight.dtype)?);
    Ok(Code::call(class, &arguments).text().to_string())
}

/// A dim of a weight: numbers and fields of `Config`.
fn dim(shared: &Shared<'_>, expr: &Expr) -> String {
    let dims = &shared.options.dims;
    let spell = &mut |symbol: &Symbol| match dims.contains_key(symbol) {
        true => format!("Config.{symbol}"),
        false => symbol.to_string(),
    };
    crate::python::dim(expr, spell).text().to_string()
}

/// `dtype=…` where it is not PyTorch's default.
fn dtype(function: &Function, dtype: DType) -> Result<Option<String>, EmitError> {
    Ok(match dtype {
        DType::F32 => None,
        _ => Some(format!("dtype={}", super::body::torch_dtype(function, dtype)?)),
    })
}
