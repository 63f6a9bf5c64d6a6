//! The whole file: head, configuration, helpers, classes, `load`, and a `__main__`.

use super::body::{Decomposed, Shared};
use super::helpers::{AttentionUse, Helper};
use super::outline::{outline, prune};
use super::tree::{Tree, has_weights};
use super::{EmitError, Options, classes};
use crate::python::{Block, class_name, identifier};
use llmc_base::{Expr, Symbol};
use llmc_ir::{Function, FunctionBuilder, Module, Op, TensorType};
use std::collections::{BTreeMap, BTreeSet};

/// See [`super::emit`].
pub fn emit(module: &Module, options: &Options<'_>) -> Result<String, EmitError> {
    let module = &outline(&prune(&reachable(module, options.entry)?, options.entry));
    let entry = module
        .find(options.entry)
        .map(|id| module.function(id))
        .ok_or_else(|| EmitError::UnknownFunction(options.entry.to_string()))?;
    let mut shared = Shared {
        module,
        options,
        names: names(module, options.entry),
        helpers: BTreeSet::new(),
        attention: AttentionUse::default(),
        decomposed: Vec::new(),
        uses_math: false,
    };
    let mut definitions = Vec::new();
    for function in &module.functions {
        let name = shared.names[&function.name].clone();
        let is_entry = function.name == options.entry;
        definitions.push(match is_entry || has_weights(module, &function.name) {
            true => {
                let tree = Tree::of(module, function)?;
                classes::class(&mut shared, function, &tree, &name, is_entry)?
            }
            false => classes::plain(&mut shared, function, &name, &[])?,
        });
    }
    let mut decompositions = Vec::new();
    // Writing one may bring others.
    let mut at = 0;
    while at < shared.decomposed.len() {
        let (function, symbols) = {
            let made = &shared.decomposed[at];
            (made.function.clone(), made.symbols.clone())
        };
        let name = function.name.clone();
        decompositions.push(classes::plain(&mut shared, &function, &name, &symbols)?);
        at += 1;
    }

    let mut parts = vec![head(&shared, entry)];
    parts.extend(config(options));
    for helper in Helper::ALL.iter().filter(|h| shared.helpers.contains(h)) {
        parts.push(helper.text(&shared.attention));
    }
    parts.extend(decompositions);
    parts.extend(definitions);
    parts.push(LOAD.replace("WEIGHTS_FILE", options.weights_file));
    let has_context = options.dims.contains_key(&Symbol::new("context_length"));
    let context = if has_context { "default=Config.context_length, " } else { "" };
    parts.push(match generates(module, entry) {
        true => [GENERATE, MAIN_GENERATE].join("\n\n").replace("CONTEXT, ", context),
        false => MAIN.to_string(),
    });
    Ok(parts.join("\n\n"))
}

/// The functions that the entry reaches, in order.
pub fn reachable(module: &Module, entry: &str) -> Result<Module, EmitError> {
    let mut wanted = BTreeSet::new();
    let mut stack = vec![entry.to_string()];
    while let Some(name) = stack.pop() {
        let id = module.find(&name).ok_or_else(|| EmitError::UnknownFunction(name.clone()))?;
        if wanted.insert(name) {
            for node in &module.function(id).nodes {
                match &node.op {
                    Op::Call(op) => stack.push(op.callee.clone()),
                    Op::If(op) => stack.extend([op.then_fn.clone(), op.else_fn.clone()]),
                    Op::While(op) => stack.extend([op.cond.clone(), op.body.clone()]),
                    Op::Scan(op) => stack.push(op.body.clone()),
                    _ => {}
                }
            }
        }
    }
    let functions = module.functions.iter().filter(|f| wanted.contains(&f.name)).cloned().collect();
    Ok(Module { functions, ..module.clone() })
}

/// A class name or function name for each function; the entry is `Model`.
fn names(module: &Module, entry: &str) -> BTreeMap<String, String> {
    let mut taken: BTreeSet<String> =
        ["Model", "Config", "load", "generate", "main", "torch", "nn", "F", "math"]
            .iter()
            .map(|name| name.to_string())
            .chain(Helper::ALL.iter().map(|h| h.name().to_string()))
            .collect();
    let mut out = BTreeMap::new();
    for function in &module.functions {
        let name = &function.name;
        let name = match has_weights(module, name) {
            _ if name == entry => "Model".to_string(),
            true => class_name(name),
            false => identifier(name),
        };
        let free = (1..)
            .map(|i| if i == 1 { name.clone() } else { format!("{name}{i}") })
            .find(|name| !taken.contains(name) || (function.name == entry && name == "Model"))
            .unwrap_or_default();
        taken.insert(free.clone());
        out.insert(function.name.clone(), free);
    }
    out
}

/// The decomposition of an op over operands of these types, as a function.
pub fn decompose(
    shared: &Shared<'_>,
    name: &str,
    op: &Op,
    operands: Vec<TensorType>,
) -> Result<Decomposed, EmitError> {
    let mut b = FunctionBuilder::new(shared.module, name);
    let is_shown = |symbol: &Symbol| {
        shared.options.dims.contains_key(symbol)
            || operands.iter().flat_map(|ty| &ty.shape).any(|d| *d == Expr::from(symbol.clone()))
    };
    let all = operands.iter().flat_map(|ty| &ty.shape).flat_map(Expr::symbols);
    let mut symbols: BTreeSet<Symbol> = all.filter(|s| !is_shown(s)).collect();
    let names = ["x", "y", "z", "u", "v", "w"];
    let inputs: Vec<_> = operands
        .iter()
        .enumerate()
        .map(|(i, ty)| b.input(names.get(i).unwrap_or(&"a"), ty.clone()))
        .collect();
    let results = op.decompose(&mut b, &inputs)?;
    for (i, result) in results.iter().enumerate() {
        b.output(&format!("y{i}"), *result);
    }
    let function = b.finish();
    let inside = function.values.iter().flat_map(|v| &v.ty.shape).flat_map(Expr::symbols);
    symbols.extend(inside.filter(|s| !is_shown(s)));
    Ok(Decomposed { op: op.clone(), operands, function, symbols: symbols.into_iter().collect() })
}

fn head(shared: &Shared<'_>, entry: &Function) -> String {
    let mut out = Block::new(0);
    let title = shared.options.title;
    let generates = generates(shared.module, entry);
    let mut doc = format!("{title} in PyTorch, written by llmc from the model's graph.\n\n");
    doc.push_str(&format!("    python model.py {}", shared.options.weights_file));
    if generates {
        doc.push_str(" --prompt \"Once upon a time\"");
    }
    doc.push_str("\n\nMatrices are [out, in]; the state_dict has the names of the weights file.");
    out.docstring(&doc);
    out.line("");
    out.line("import argparse");
    if shared.uses_math {
        out.line("import math");
    }
    out.line("");
    out.line("import torch");
    out.line("import torch.nn.functional as F");
    out.line("from torch import nn");
    out.finish()
}

fn config(options: &Options<'_>) -> Option<String> {
    if options.dims.is_empty() {
        return None;
    }
    let mut out = Block::new(0);
    out.line("class Config:");
    out.indent();
    for (symbol, value) in &options.dims {
        out.line(&format!("{symbol} = {value}"));
    }
    Some(out.finish())
}

/// Whether the entry takes tokens [B, T] first, has defaults for the rest, and gives logits.
fn generates(module: &Module, entry: &Function) -> bool {
    let inputs: Vec<_> = entry.inputs().collect();
    let outputs: Vec<_> = entry.outputs().map(|(_, v)| v).collect();
    let has_defaults = classes::optional_inputs(module, entry).len() + 1 == inputs.len();
    let is_logits = matches!(outputs.as_slice(), [one] if {
        let ty = entry.ty(*one);
        ty.rank() == 3 && ty.dtype.is_float()
    });
    let takes_tokens = inputs.first().is_some_and(|v| {
        let ty = entry.ty(*v);
        ty.rank() == 2 && ty.dtype.is_int()
    });
    takes_tokens && is_logits && has_defaults
}

const LOAD: &str = r#"def load(path="WEIGHTS_FILE", device="cpu", dtype=None):
    """The model with the weights of a safetensors file, ready for inference."""
    from safetensors.torch import load_file

    with torch.device("meta"):
        model = Model()
    model.load_state_dict(load_file(path, device=device), assign=True)
    return (model if dtype is None else model.to(dtype)).eval()
"#;

const GENERATE: &str = r#"@torch.inference_mode()
def generate(model, tokens, n_tokens, temperature=1.0, context_length=None):
    """Appends n_tokens sampled tokens to tokens [B, T]; temperature 0 takes the likeliest."""
    for _ in range(n_tokens):
        context = tokens if context_length is None else tokens[:, -context_length:]
        logits = model(context)[:, -1]
        if temperature == 0:
            token = logits.argmax(dim=-1, keepdim=True)
        else:
            token = torch.multinomial((logits / temperature).softmax(dim=-1), 1)
        tokens = torch.cat((tokens, token), dim=1)
    return tokens
"#;

const MAIN_GENERATE: &str = r#"def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="?", help="safetensors file; without it, count only")
    parser.add_argument("--prompt", help="text to go on with (needs the tokenizers package)")
    parser.add_argument("--tokenizer", default="tokenizer.json", help="file for --prompt")
    parser.add_argument("--ids", help="token ids to go on with, e.g. 1,2,3")
    parser.add_argument("--tokens", type=int, default=64, help="how many to generate")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--context", type=int, CONTEXT, help="longest context")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = load(args.weights) if args.weights else Model()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    if args.weights is None or not (args.prompt or args.ids):
        return
    tokenizer = None
    if args.prompt:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(args.tokenizer)
    ids = tokenizer.encode(args.prompt).ids if tokenizer else map(int, args.ids.split(","))
    torch.manual_seed(args.seed)
    tokens = torch.tensor([list(ids)])
    tokens = generate(model, tokens, args.tokens, args.temperature, args.context)[0].tolist()
    print(tokenizer.decode(tokens) if tokenizer else tokens)


if __name__ == "__main__":
    main()
"#;

const MAIN: &str = r#"def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="?", help="safetensors file; without it, count only")
    args = parser.parse_args()
    model = load(args.weights) if args.weights else Model()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
"#;
