//! z-loss as a term of the loss graph: weight · log²Z per token, Z = Σ exp(logits).
//!
//! log Z is the cross entropy plus the logit of the target, so that no tensor of the size of the
//! logits is computed beside those that the loss has anyway:
//!
//! ```text
//! l = cross_entropy(logits, targets, 1);  z = l + logits[target]
//! losses = (l + z·z·weight) · weights
//! ```
//!
//! `@loss` is replaced, what evaluates (`@eval_loss`, `@forward`, …) stays as it is.
//!
//! Source: Chowdhery et al. 2022, arXiv:2204.02311 (PaLM), section 5; the weight there is 1e-4.

use llmc_base::Expr;
use llmc_ir::ops::{Binary, BinaryKind, CrossEntropy, Embedding};
use llmc_ir::types::ensure;
use llmc_ir::{DType, Function, FunctionBuilder, Module, Op, TypeError, ValueId};

/// The module with the term in `@loss`; the loss without it is `@eval_loss`. A weight of 0 changes
/// nothing.
///
/// Errors: `z_loss::c1` if there is no `@loss` with one cross entropy over logits \[B, T, V\].
pub fn with_z_loss(model: &Module, weight: f64) -> Result<Module, TypeError> {
    let mut module = model.clone();
    if weight == 0.0 {
        return Ok(module);
    }
    let wrong = |what: &str| TypeError::new("z_loss::c1", what.to_string());
    let at = module.find("loss").ok_or_else(|| wrong("there is no `@loss`"))?;
    let origin = module.origin("training.z_loss");
    let mut old = module.function(at).clone();
    old.renumber();
    let mut found =
        old.nodes.iter().enumerate().filter(|(_, n)| matches!(n.op, Op::CrossEntropy(_)));
    let (Some((node, _)), None) = (found.next(), found.next()) else {
        return Err(wrong("`@loss` has not exactly one `cross_entropy`"));
    };
    let mut new = {
        let mut b = FunctionBuilder::resume(&module, head(&old, node));
        b.set_origin(origin);
        let losses = term(&mut b, &old.nodes[node].operands, weight)?;
        tail(b, &old, node, losses)
    };
    new.name = "loss".to_string();
    match module.find("eval_loss") {
        Some(_) => module.functions[at.index()] = new,
        None => {
            module.functions[at.index()].name = "eval_loss".to_string();
            module.add(new);
        }
    }
    Ok(module)
}

/// The function before a node.
fn head(old: &Function, node: usize) -> Function {
    let n_values = old.nodes[node].results[0].index();
    Function {
        values: old.values[..n_values].to_vec(),
        nodes: old.nodes[..node].to_vec(),
        results: Vec::new(),
        ..old.clone()
    }
}

/// The losses of the tokens with the term, in place of `cross_entropy(logits, targets, weights)`.
fn term(b: &mut FunctionBuilder, operands: &[ValueId], weight: f64) -> Result<ValueId, TypeError> {
    let &[logits, targets, weights] = operands else {
        return Err(TypeError::new(
            "z_loss::c1",
            "`cross_entropy` has not three operands".to_string(),
        ));
    };
    let shape = b.ty(logits).shape.clone();
    ensure(shape.len() == 3, "z_loss::c1", || {
        format!("logits of rank {}, expected [B, T, V]", shape.len())
    })?;
    let [batch, tokens, vocab] = [&shape[0], &shape[1], &shape[2]];
    let ones = b.constant_like(weights, 1.0)?;
    let losses = b.op1(CrossEntropy, &[logits, targets, ones])?;
    b.name(losses, "plain_losses");
    // Places of the targets among all logits: row · V + target.
    let rows = b.iota(DType::I32, &[batch * tokens], 0)?;
    let width = b.dim_size(vocab, DType::I32)?;
    let width = b.splat_like(width, rows)?;
    let starts = b.mul(rows, width)?;
    let starts = b.reshape(starts, [batch.clone(), tokens.clone()])?;
    // An ignored target weighs nothing, whatever logit stands for it.
    let first = b.constant_like(targets, 0.0)?;
    let targets = b.op1(Binary { kind: BinaryKind::Max }, &[targets, first])?;
    let places = b.add(starts, targets)?;
    let all: Expr = Expr::product([batch, tokens, vocab]);
    let flat = b.reshape(logits, [all, Expr::constant(1)])?;
    let chosen = b.op1(Embedding, &[flat, places])?;
    let chosen = b.reshape(chosen, [batch.clone(), tokens.clone()])?;
    let chosen = b.widen(chosen)?;
    b.name(chosen, "target_logits");
    let z = b.add(losses, chosen)?;
    b.name(z, "log_z");
    let square = b.mul(z, z)?;
    let square = b.mul_scalar(square, weight)?;
    let total = b.add(losses, square)?;
    b.mul(total, weights)
}

/// The nodes after `node`, with `losses` for its result.
fn tail(mut b: FunctionBuilder, old: &Function, node: usize, losses: ValueId) -> Function {
    let mut map: Vec<ValueId> = (0..old.values.len() as u32).map(ValueId).collect();
    map[old.nodes[node].results[0].index()] = losses;
    b.name(losses, "losses");
    for node in &old.nodes[node + 1..] {
        let operands: Vec<ValueId> = node.operands.iter().map(|v| map[v.index()]).collect();
        let types = node.results.iter().map(|v| old.ty(*v).clone()).collect();
        b.set_origin(node.origin);
        for (old_id, new_id) in node.results.iter().zip(b.push(node.op.clone(), &operands, types)) {
            map[old_id.index()] = new_id;
            if let Some(name) = &old.value(*old_id).name {
                b.name(new_id, name);
            }
        }
    }
    let mut new = b.finish();
    new.results = old.results.clone();
    new.results.iter_mut().for_each(|r| r.value = map[r.value.index()]);
    new
}
