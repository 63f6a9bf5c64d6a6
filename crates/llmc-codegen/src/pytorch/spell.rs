//! The spelling table: op → text. What has no entry is decomposed.

mod primitive;

use super::EmitError;
use super::body::{Body, Known};
use super::helpers::Helper;
use super::tree::{leaf_of, leaves};
use crate::python::{Code, Prec};
use llmc_ir::ops::{Attention, If, Rope, RopeScaling, Scan, While};
use llmc_ir::{Node, Op, TensorType, ValueId};

type Spelled = Result<Option<Known>, EmitError>;

/// A node and the body that it stands in.
pub struct NodeCtx<'b, 'f, 's, 'm> {
    /// The body.
    pub body: &'b mut Body<'f, 's, 'm>,
    /// The node.
    pub node: &'f Node,
}

/// The text of a node; `None` if it is to be decomposed.
pub fn spell(cx: &mut NodeCtx) -> Spelled {
    let node = cx.node;
    if node.op.attrs().iter().any(|(name, _)| *name == "precision") {
        let function = cx.body.function.name.clone();
        return Err(EmitError::Precision { function, op: node.op.name() });
    }
    let code = match &node.op {
        Op::Embedding(_) | Op::Linear(_) | Op::RmsNorm(_) | Op::LayerNorm(_) => cx.leaf()?,
        Op::Relu(_) => cx.functional("F.relu", &[])?,
        Op::Gelu(_) => cx.functional("F.gelu", &[])?,
        Op::GeluTanh(_) => cx.functional("F.gelu", &["approximate=\"tanh\""])?,
        Op::Silu(_) => cx.functional("F.silu", &[])?,
        Op::Softmax(_) => cx.functional("F.softmax", &["dim=-1"])?,
        Op::Swiglu(_) => {
            let gate = Code::call("F.silu", &[cx.text(0)?]);
            Code::binary(&gate, "*", &cx.tensor(1)?, Prec::Product)
        }
        Op::Rope(rope) => cx.rope(rope)?,
        // PyTorch draws other bits than the graph, so dropout is written out.
        Op::Attention(attention) if attention.dropout.is_none() && !attention.cached => {
            cx.attention(attention)?
        }
        Op::CrossEntropy(_) => cx.cross_entropy()?,
        Op::Call(call) => {
            let callee = cx.body.callee(call);
            cx.apply(&callee)?
        }
        Op::If(op) => cx.branch(op)?,
        Op::While(op) => cx.while_loop(op)?,
        Op::Scan(op) => cx.scan(op)?,
        _ => return cx.primitive(),
    };
    Ok(Some(known(code)))
}

fn known(code: Code) -> Known {
    Known::Tensor { code, compact: None }
}

/// A list as Python writes it: `[1, 2]`.
fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

impl<'f> NodeCtx<'_, 'f, '_, '_> {
    fn operand(&self, i: usize) -> ValueId {
        self.node.operands[i]
    }

    fn ty(&self, i: usize) -> &'f TensorType {
        self.body.function.ty(self.node.operands[i])
    }

    fn result(&self) -> &'f TensorType {
        self.body.function.ty(self.node.results[0])
    }

    fn tensor(&mut self, i: usize) -> Result<Code, EmitError> {
        self.body.tensor(self.operand(i))
    }

    fn text(&mut self, i: usize) -> Result<String, EmitError> {
        Ok(self.tensor(i)?.text().to_string())
    }

    fn helper(&mut self, helper: Helper) -> &'static str {
        self.body.shared.helpers.insert(helper);
        helper.name()
    }

    /// `f(operands…, extra…)`.
    fn functional(&mut self, function: &str, extra: &[&str]) -> Result<Code, EmitError> {
        let mut arguments = Vec::new();
        for i in 0..self.node.operands.len() {
            arguments.push(self.text(i)?);
        }
        arguments.extend(extra.iter().map(|e| e.to_string()));
        Ok(Code::call(function, &arguments))
    }

    fn apply(&mut self, function: &str) -> Result<Code, EmitError> {
        self.functional(function, &[])
    }

    /// Ops with weights: a submodule if it has this op's form, else the function of `F`.
    fn leaf(&mut self) -> Result<Code, EmitError> {
        let function = self.body.function;
        let is_embedding = matches!(self.node.op, Op::Embedding(_));
        let (x, w) = if is_embedding { (1, 0) } else { (0, 1) };
        if let Some((path, leaf)) = leaf_of(function, self.node)
            && leaves(function).get(&path) == Some(&leaf)
        {
            let module = self.body.tree.reach(&path);
            let x = if is_embedding { self.index(x)? } else { self.tensor(x)? };
            return Ok(Code::call(&module, &[x.text().to_string()]));
        }
        let x = if is_embedding { self.index(x)? } else { self.tensor(x)? }.text().to_string();
        let weight = self.text(w)?;
        let bias = if self.node.operands.len() > 2 { Some(self.text(2)?) } else { None };
        let width = self.ty(w).shape.last().cloned().unwrap_or_default();
        let shape = self.body.shape(&[width])?;
        Ok(match &self.node.op {
            Op::Embedding(_) => Code::call("F.embedding", &[x, weight]),
            Op::RmsNorm(op) => {
                Code::call("F.rms_norm", &[x, shape, weight, format!("eps={:?}", op.eps)])
            }
            Op::LayerNorm(op) => {
                let bias = bias.unwrap_or_else(|| "None".to_string());
                Code::call("F.layer_norm", &[x, shape, weight, bias, format!("eps={:?}", op.eps)])
            }
            _ => Code::call("F.linear", &[vec![x, weight], bias.into_iter().collect()].concat()),
        })
    }

    fn rope(&mut self, rope: &Rope) -> Result<Code, EmitError> {
        let apply = self.helper(Helper::ApplyRotary);
        let plain = self.helper(Helper::RotaryFrequencies);
        let head_dim = self.ty(0).shape.last().cloned().unwrap_or_default();
        let mut arguments = vec![self.body.dim(&head_dim).text().to_string()];
        arguments.push(format!("{:?}", rope.theta));
        arguments.extend(self.body.device());
        let mut frequencies = Code::call(plain, &arguments);
        match rope.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => {
                let factor = Code::float(factor);
                frequencies = Code::binary(&frequencies, "/", &factor, Prec::Product);
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context_length,
            } => {
                let stretch = self.helper(Helper::Llama3Frequencies);
                self.body.shared.uses_math = true;
                let mut arguments = vec![frequencies.text().to_string()];
                arguments.extend(
                    [
                        ("factor", factor),
                        ("low_freq_factor", low_freq_factor),
                        ("high_freq_factor", high_freq_factor),
                        ("context_length", original_context_length),
                    ]
                    .map(|(name, value)| format!("{name}={value:?}")),
                );
                frequencies = Code::call(stretch, &arguments);
            }
        }
        let frequencies = self.body.hoist("frequencies", &frequencies);
        let positions = self.tensor(1)?;
        let positions = match rope.inverse {
            true => format!("-{}", positions.at(Prec::Unary)),
            false => positions.text().to_string(),
        };
        Ok(Code::call(apply, &[self.text(0)?, positions, frequencies.text().to_string()]))
    }

    fn attention(&mut self, op: &Attention) -> Result<Code, EmitError> {
        let (q, k) = (self.ty(0).clone(), self.ty(1).clone());
        let operands = &self.node.operands;
        let has_segments = operands.len() > 3;
        let has_key_segments = has_segments && operands[3] != operands[4];
        let used = &mut self.body.shared.attention;
        used.is_causal |= op.causal;
        used.is_bidirectional |= !op.causal;
        used.has_window |= op.window.is_some();
        used.has_scale |= op.scale.is_some();
        used.has_segments |= has_segments;
        used.has_key_segments |= has_key_segments;
        used.has_groups |= q.shape.get(2) != k.shape.get(2);
        used.has_key_length |= q.shape.get(1) != k.shape.get(1);
        let attend = self.helper(Helper::Attention);
        let mut arguments = vec![self.text(0)?, self.text(1)?, self.text(2)?];
        if has_segments {
            arguments.push(self.text(3)?);
        }
        if has_key_segments {
            let segments = self.text(4)?;
            arguments.push(format!("key_segments={segments}"));
        }
        if !op.causal {
            // The parameter exists only if attentions of both kinds do, which is known at the end.
            arguments.push("causal=False".to_string());
        }
        arguments.extend(op.window.map(|w| format!("window={w}")));
        arguments.extend(op.scale.map(|s| format!("scale={s:?}")));
        Ok(Code::call(attend, &arguments))
    }

    fn cross_entropy(&mut self) -> Result<Code, EmitError> {
        let (logits, targets, weights) = (self.tensor(0)?, self.tensor(1)?, self.tensor(2)?);
        let vocabulary = self.ty(0).shape.last().cloned().unwrap_or_default();
        let vocabulary = self.body.dim(&vocabulary).text().to_string();
        let rows = logits.method("reshape", &["-1".to_string(), vocabulary]);
        let ids = targets.method("reshape", &["-1".to_string()]).method("long", &[]);
        let arguments =
            [rows.text().to_string(), ids.text().to_string(), "reduction=\"none\"".to_string()];
        let losses = Code::call("F.cross_entropy", &arguments);
        let losses = losses.method("view_as", &[weights.text().to_string()]);
        Ok(Code::binary(&losses, "*", &weights, Prec::Product))
    }

    /// The plain function for a part of a region op.
    fn part(&self, name: &str) -> Result<String, EmitError> {
        if super::tree::has_weights(self.body.shared.module, name) {
            let (function, callee) = (self.body.function.name.clone(), name.to_string());
            return Err(EmitError::Scope { function, callee });
        }
        let found = self.body.shared.names.get(name).cloned();
        found.ok_or_else(|| EmitError::UnknownFunction(name.to_string()))
    }

    fn operands_text(&mut self, from: usize, to: usize) -> Result<Vec<String>, EmitError> {
        (from..to).map(|i| self.text(i)).collect()
    }

    fn branch(&mut self, op: &If) -> Result<Code, EmitError> {
        let condition = self.text(0)?;
        let arguments = self.operands_text(1, self.node.operands.len())?;
        let then = Code::call(&self.part(&op.then_fn)?, &arguments);
        let other = Code::call(&self.part(&op.else_fn)?, &arguments);
        let text = format!("{} if {condition} else {}", then.text(), other.text());
        Ok(Code::new(text, Prec::Loose))
    }

    fn while_loop(&mut self, op: &While) -> Result<Code, EmitError> {
        let helper = self.helper(Helper::WhileLoop);
        let values = self.operands_text(0, self.node.operands.len())?.join(", ");
        let arguments = [self.part(&op.cond)?, self.part(&op.body)?, format!("({values},)")];
        Ok(self.unpacked(Code::call(helper, &arguments)))
    }

    fn scan(&mut self, op: &Scan) -> Result<Code, EmitError> {
        let helper = self.helper(Helper::Scan);
        let n = self.node.operands.len();
        let types: Vec<TensorType> = (0..n).map(|i| self.ty(i).clone()).collect();
        let (n_carried, _) = op.split(self.body.shared.module, &types)?;
        let carry = self.operands_text(0, n_carried)?;
        let xs = self.operands_text(n_carried, n)?;
        let mut arguments = vec![self.part(&op.body)?, list(carry), list(xs)];
        if op.reverse {
            arguments.push("reverse=True".to_string());
        }
        Ok(self.unpacked(Code::call(helper, &arguments)))
    }

    /// A tuple as the value of a node with one result.
    fn unpacked(&self, tuple: Code) -> Code {
        if self.node.results.len() == 1 { tuple.subscript("0") } else { tuple }
    }
}
