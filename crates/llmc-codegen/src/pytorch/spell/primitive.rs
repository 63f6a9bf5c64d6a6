//! The spelling of primitives as expressions.

use super::{NodeCtx, Spelled, known, list};
use crate::python::{Code, Prec};
use crate::pytorch::EmitError;
use crate::pytorch::body::Known;
use crate::pytorch::helpers::Helper;
use llmc_base::Expr;
use llmc_ir::ops::{
    Binary, BinaryKind, Broadcast, Cast, Compare, CompareKind, Concat, Constant, DimSize, Dot,
    Gather, Iota, Literal, Pad, RandomBits, Reduce, ReduceKind, Reshape, ScatterAdd, Slice,
    Transpose, Unary, UnaryKind, UpdateSlice,
};
use llmc_ir::{DType, Op};

/// A number of this dtype.
fn number(dtype: DType, value: f64) -> Code {
    match dtype {
        dtype if dtype.is_float() => Code::float(value),
        DType::Bool => Code::atom(if value == 0.0 { "False" } else { "True" }),
        _ => Code::int(value as i128),
    }
}

impl NodeCtx<'_, '_, '_, '_> {
    /// The text of a primitive; `None` for an op that is none.
    pub(super) fn primitive(&mut self) -> Spelled {
        let node = self.node;
        let code = match &node.op {
            Op::Constant(Constant { dtype, value, .. }) => {
                return Ok(Some(Known::Scalar(number(*dtype, *value))));
            }
            Op::DimSize(DimSize { dim, .. }) => {
                return Ok(Some(Known::Scalar(self.body.dim(dim))));
            }
            Op::Literal(literal) => self.literal(literal)?,
            Op::Iota(iota) => self.iota(iota)?,
            Op::Unary(Unary { kind }) => self.unary(*kind)?,
            Op::Binary(Binary { kind }) => self.binary(*kind)?,
            Op::Compare(Compare { kind }) => {
                let op = match kind {
                    CompareKind::Eq => "==",
                    CompareKind::Ne => "!=",
                    CompareKind::Lt => "<",
                    CompareKind::Le => "<=",
                    CompareKind::Gt => ">",
                    CompareKind::Ge => ">=",
                };
                let [a, b] = self.pair()?;
                Code::binary(&a, op, &b, Prec::Compare)
            }
            Op::Select(_) => self.select()?,
            Op::Cast(Cast { dtype }) => self.cast(*dtype)?,
            Op::Reduce(reduce) => self.reduce(reduce)?,
            Op::Dot(dot) => self.dot(dot)?,
            Op::Gather(Gather { axis, batch_dims }) => self.gather(*axis, *batch_dims)?,
            Op::ScatterAdd(ScatterAdd { axis, batch_dims }) => {
                let helper = self.helper(Helper::ScatterAdd);
                let batch = match batch_dims {
                    0 => String::new(),
                    n => format!("batch_dims={n}"),
                };
                let extra = [format!("axis={axis}"), batch];
                let extra: Vec<&str> =
                    extra.iter().filter(|e| !e.is_empty()).map(String::as_str).collect();
                let code = self.functional(helper, &extra)?;
                self.wrapped(code)
            }
            Op::Reshape(Reshape { dims }) => return self.reshape(dims).map(Some),
            Op::Transpose(Transpose { perm }) => self.transpose(perm)?,
            Op::Broadcast(broadcast) => return self.broadcast(broadcast).map(Some),
            Op::Slice(slice) => self.slice(slice)?,
            Op::Pad(pad) => self.pad(pad)?,
            Op::Concat(Concat { axis }) => {
                let operands = self.operands_text(0, node.operands.len())?;
                Code::call("torch.cat", &[list(operands), format!("dim={axis}")])
            }
            Op::UpdateSlice(UpdateSlice { axis }) => {
                let helper = self.helper(Helper::UpdateSlice);
                self.functional(helper, &[&format!("axis={axis}")])?
            }
            Op::RandomBits(RandomBits { dims }) => {
                let helper = self.helper(Helper::RandomBits);
                self.body.shared.uses_math = true;
                let shape = self.body.shape(dims)?;
                self.functional(helper, &[&shape])?
            }
            _ => return Ok(None),
        };
        Ok(Some(known(code)))
    }

    /// Unsigned integers held in a wider type keep their low bits after arithmetic.
    fn wrapped(&self, code: Code) -> Code {
        match self.result().dtype {
            DType::U16 => Code::binary(&code, "&", &Code::atom("0xFFFF"), Prec::BitAnd),
            DType::U32 => Code::binary(&code, "&", &Code::atom("0xFFFFFFFF"), Prec::BitAnd),
            _ => code,
        }
    }

    fn literal(&mut self, literal: &Literal) -> Result<Code, EmitError> {
        let numbers = literal.values.iter().map(|v| number(literal.dtype, *v).text().to_string());
        let mut arguments = vec![list(numbers)];
        arguments.extend(self.body.placement(literal.dtype)?);
        let flat = Code::call("torch.tensor", &arguments);
        Ok(match literal.shape.len() {
            1 => flat,
            _ => flat.method("reshape", &[list(&literal.shape)]),
        })
    }

    fn iota(&mut self, iota: &Iota) -> Result<Code, EmitError> {
        let n = self.body.dim(&iota.dims[iota.axis]).text().to_string();
        let mut arguments = vec![n];
        arguments.extend(self.body.placement(iota.dtype)?);
        let index = Code::call("torch.arange", &arguments);
        if iota.dims.len() == 1 {
            return Ok(index);
        }
        let after = iota.dims.len() - 1 - iota.axis;
        let index = match after {
            0 => index,
            n => index.subscript(&format!(":{}", ", None".repeat(n))),
        };
        let shape = self.body.shape(&iota.dims)?;
        Ok(index.method("expand", &[shape]))
    }

    fn unary(&mut self, kind: UnaryKind) -> Result<Code, EmitError> {
        let x = self.tensor(0)?;
        let name = match kind {
            UnaryKind::Neg => {
                return Ok(self.wrapped(Code::new(format!("-{}", x.at(Prec::Unary)), Prec::Unary)));
            }
            UnaryKind::Not => {
                return Ok(self.wrapped(Code::new(format!("~{}", x.at(Prec::Unary)), Prec::Unary)));
            }
            UnaryKind::Abs => "abs",
            UnaryKind::Sign => "sign",
            UnaryKind::Exp => "exp",
            UnaryKind::Log => "log",
            UnaryKind::Sin => "sin",
            UnaryKind::Cos => "cos",
            UnaryKind::Tanh => "tanh",
            UnaryKind::Erf => "erf",
            UnaryKind::Sqrt => "sqrt",
            UnaryKind::Rsqrt => "rsqrt",
            UnaryKind::Recip => "reciprocal",
            UnaryKind::Floor => "floor",
            UnaryKind::Ceil => "ceil",
            UnaryKind::Round => "round",
        };
        Ok(x.method(name, &[]))
    }

    /// Both operands, where one may be a number or broadcast by itself.
    fn pair(&mut self) -> Result<[Code; 2], EmitError> {
        let (a, b) = (self.operand(0), self.operand(1));
        Ok(match (self.body.known(a), self.body.known(b)) {
            (Known::Scalar(_), Known::Scalar(number)) => [self.body.tensor(a)?, number],
            (Known::Scalar(number), Known::Tensor { code, .. }) => [number, code],
            (Known::Tensor { code, .. }, Known::Scalar(number)) => [code, number],
            (Known::Tensor { code: a, compact }, Known::Tensor { code: b, compact: None }) => {
                [compact.unwrap_or(a), b]
            }
            (Known::Tensor { code: a, .. }, Known::Tensor { compact: Some(b), .. }) => [a, b],
        })
    }

    fn binary(&mut self, kind: BinaryKind) -> Result<Code, EmitError> {
        let is_float = self.result().dtype.is_float();
        match kind {
            BinaryKind::Max | BinaryKind::Min => return self.bound(kind),
            BinaryKind::Div | BinaryKind::Rem | BinaryKind::Shl | BinaryKind::Shr if !is_float => {
                return self.integer(kind);
            }
            _ => {}
        }
        let [a, b] = self.pair()?;
        let both =
            |function: &str| Code::call(function, &[a.text().to_string(), b.text().to_string()]);
        let code = match kind {
            BinaryKind::Add => Code::binary(&a, "+", &b, Prec::Sum),
            BinaryKind::Sub => Code::binary(&a, "-", &b, Prec::Sum),
            BinaryKind::Mul => Code::binary(&a, "*", &b, Prec::Product),
            BinaryKind::Div => Code::binary(&a, "/", &b, Prec::Product),
            BinaryKind::Pow => Code::binary(&a, "**", &b, Prec::Power),
            BinaryKind::Rem => both("torch.fmod"),
            BinaryKind::And => Code::binary(&a, "&", &b, Prec::BitAnd),
            BinaryKind::Or => Code::binary(&a, "|", &b, Prec::BitOr),
            BinaryKind::Xor => Code::binary(&a, "^", &b, Prec::BitXor),
            BinaryKind::Max => both("torch.maximum"),
            BinaryKind::Min => both("torch.minimum"),
            BinaryKind::Shl => Code::binary(&a, "<<", &b, Prec::Shift),
            BinaryKind::Shr => Code::binary(&a, ">>", &b, Prec::Shift),
        };
        let may_overflow =
            matches!(kind, BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul | BinaryKind::Pow);
        Ok(if may_overflow { self.wrapped(code) } else { code })
    }

    /// Integer division and shifts, which PyTorch leaves undefined for some right operands: plain
    /// where the right one is a number that is none of these.
    fn integer(&mut self, kind: BinaryKind) -> Result<Code, EmitError> {
        let bits = i128::from(self.result().dtype.bits());
        let (a, b) = (self.tensor(0)?, self.body.known(self.operand(1)));
        if let Known::Scalar(number) = &b
            && let Ok(value) = number.text().parse::<i128>()
        {
            let is_shift = (0..bits).contains(&value);
            let plain = match kind {
                BinaryKind::Div if value > 0 => {
                    let arguments = [a.text(), number.text(), "rounding_mode=\"trunc\""];
                    Some(Code::call("torch.div", &arguments.map(str::to_string)))
                }
                BinaryKind::Rem if value > 0 => {
                    Some(Code::call("torch.fmod", &[a.text(), number.text()].map(str::to_string)))
                }
                BinaryKind::Shl if is_shift => Some(Code::binary(&a, "<<", number, Prec::Shift)),
                BinaryKind::Shr if is_shift => Some(Code::binary(&a, ">>", number, Prec::Shift)),
                _ => None,
            };
            if let Some(code) = plain {
                return Ok(if kind == BinaryKind::Shl { self.wrapped(code) } else { code });
            }
        }
        let helper = self.helper(match kind {
            BinaryKind::Div => Helper::IntegerDivide,
            BinaryKind::Rem => Helper::IntegerRemainder,
            BinaryKind::Shl => Helper::ShiftLeft,
            _ => Helper::ShiftRight,
        });
        let width = match kind {
            BinaryKind::Shl | BinaryKind::Shr => Some(bits.to_string()),
            _ => None,
        };
        let code =
            self.functional(helper, &width.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(if kind == BinaryKind::Shr { code } else { self.wrapped(code) })
    }

    /// Indices as PyTorch takes them: bytes would be a mask, and narrower integers are refused.
    pub(super) fn index(&mut self, i: usize) -> Result<Code, EmitError> {
        let ids = self.tensor(i)?;
        Ok(match self.ty(i).dtype {
            DType::I8 | DType::I16 | DType::U8 => ids.method("long", &[]),
            _ => ids,
        })
    }

    /// `max` and `min`: `clamp` against a number, else of two tensors.
    fn bound(&mut self, kind: BinaryKind) -> Result<Code, EmitError> {
        let (function, clamp) = match kind {
            BinaryKind::Max => ("torch.maximum", "min"),
            _ => ("torch.minimum", "max"),
        };
        for (x, other) in [(0, 1), (1, 0)] {
            if let Known::Scalar(number) = self.body.known(self.operand(other)) {
                let x = self.tensor(x)?;
                return Ok(x.method("clamp", &[format!("{clamp}={}", number.text())]));
            }
        }
        let [a, b] = self.pair()?;
        Ok(Code::call(function, &[a.text().to_string(), b.text().to_string()]))
    }

    fn select(&mut self) -> Result<Code, EmitError> {
        let mut arguments = vec![self.text(0)?];
        let mut has_tensor = false;
        for i in [1, 2] {
            arguments.push(match self.body.known(self.operand(i)) {
                // The last one decides the dtype if the other is a number too.
                Known::Scalar(number) if has_tensor || i == 1 => number.text().to_string(),
                Known::Scalar(_) => self.text(i)?,
                Known::Tensor { code, .. } => {
                    has_tensor = true;
                    code.text().to_string()
                }
            });
        }
        Ok(Code::call("torch.where", &arguments))
    }

    fn cast(&mut self, dtype: DType) -> Result<Code, EmitError> {
        let x = self.tensor(0)?;
        let from = self.ty(0).dtype;
        if from.is_float() && dtype.is_int() {
            // Out of range is clamped and NaN is 0, which `to` leaves undefined.
            let (low, high) = match dtype.is_signed_int() {
                true => (-(1i128 << (dtype.bits() - 1)), (1i128 << (dtype.bits() - 1)) - 1),
                false => (0, (1i128 << dtype.bits()) - 1),
            };
            let name = self.body.dtype(dtype)?;
            let number = x.method("double", &[]).method("nan_to_num", &["0.0".to_string()]);
            let clamped = number.method("clamp", &[low.to_string(), high.to_string()]);
            return Ok(clamped.method("to", &[name.to_string()]));
        }
        let name = self.body.dtype(dtype)?;
        let converted = x.method("to", &[name.to_string()]);
        Ok(if dtype.is_int() { self.wrapped(converted) } else { converted })
    }

    fn reduce(&mut self, reduce: &Reduce) -> Result<Code, EmitError> {
        let (x, from) = (self.tensor(0)?, self.ty(0).dtype);
        let rank = self.ty(0).rank();
        let axes: Vec<String> = reduce
            .axes
            .iter()
            .map(|axis| if axis + 1 == rank { "-1".to_string() } else { axis.to_string() })
            .collect();
        let dim = match axes.as_slice() {
            [one] => one.clone(),
            many => format!("({})", many.join(", ")),
        };
        if axes.is_empty() {
            return self.cast_to(x, from, reduce.acc);
        }
        let name = self.body.dtype(reduce.acc)?;
        let dtype = (reduce.acc != from || reduce.acc.is_int()).then(|| format!("dtype={name}"));
        let code = match reduce.kind {
            ReduceKind::Sum => x.method("sum", &[vec![dim], dtype.into_iter().collect()].concat()),
            // `prod` takes one axis; the last first, so that the others keep their numbers.
            ReduceKind::Prod => reduce.axes.iter().rev().fold(x, |x, axis| {
                let dtype = dtype.clone().into_iter().collect();
                x.method("prod", &[vec![axis.to_string()], dtype].concat())
            }),
            ReduceKind::Max => x.method("amax", &[dim]),
            ReduceKind::Min => x.method("amin", &[dim]),
        };
        let code = match (self.node.operands.len() > 1, reduce.kind) {
            (false, _) => code,
            (true, ReduceKind::Sum) => Code::binary(&self.tensor(1)?, "+", &code, Prec::Sum),
            (true, ReduceKind::Prod) => Code::binary(&self.tensor(1)?, "*", &code, Prec::Product),
            (true, kind) => {
                let function =
                    if kind == ReduceKind::Max { "torch.maximum" } else { "torch.minimum" };
                let init = self.text(1)?;
                Code::call(function, &[init, code.text().to_string()])
            }
        };
        Ok(self.wrapped(code))
    }

    fn cast_to(&mut self, x: Code, from: DType, to: DType) -> Result<Code, EmitError> {
        match from == to {
            true => Ok(x),
            false => Ok(x.method("to", &[self.body.dtype(to)?.to_string()])),
        }
    }

    fn dot(&mut self, dot: &Dot) -> Result<Code, EmitError> {
        let (rank_a, rank_b) = (self.ty(0).rank(), self.ty(1).rank());
        // Letters: batch and contracted axes are shared, free ones are not.
        let mut letters = 'a'..='z';
        let mut next = || letters.next().unwrap_or('?');
        let (mut a, mut b) = (vec![' '; rank_a], vec![' '; rank_b]);
        let mut out = String::new();
        for (l, r) in dot.lhs_batch.iter().zip(&dot.rhs_batch) {
            let letter = next();
            (a[*l], b[*r]) = (letter, letter);
            out.push(letter);
        }
        for (axes, free) in [(&mut a, dot.lhs_free(rank_a)), (&mut b, dot.rhs_free(rank_b))] {
            for axis in free {
                axes[axis] = next();
                out.push(axes[axis]);
            }
        }
        for (l, r) in dot.lhs_contract.iter().zip(&dot.rhs_contract) {
            let letter = next();
            (a[*l], b[*r]) = (letter, letter);
        }
        let (a, b): (String, String) = (a.into_iter().collect(), b.into_iter().collect());
        let mut arguments = vec![format!("\"{a},{b}->{out}\"")];
        for i in 0..2 {
            let (x, from) = (self.tensor(i)?, self.ty(i).dtype);
            arguments.push(self.cast_to(x, from, dot.acc)?.text().to_string());
        }
        let product = Code::call("torch.einsum", &arguments);
        let code = match self.node.operands.len() > 2 {
            true => Code::binary(&self.tensor(2)?, "+", &product, Prec::Sum),
            false => product,
        };
        Ok(self.wrapped(code))
    }

    fn gather(&mut self, axis: usize, batch_dims: usize) -> Result<Code, EmitError> {
        if batch_dims == 0 {
            let ids = self.index(1)?;
            let ids = ids.text();
            let index = format!("{}{ids}", ":, ".repeat(axis));
            return Ok(self.tensor(0)?.subscript(&index));
        }
        let helper = self.helper(Helper::Gather);
        self.functional(helper, &[&format!("axis={axis}"), &format!("batch_dims={batch_dims}")])
    }

    fn reshape(&mut self, dims: &[Expr]) -> Result<Known, EmitError> {
        let x = match self.body.known(self.operand(0)) {
            Known::Scalar(number) => return Ok(Known::Scalar(number)),
            Known::Tensor { code, .. } => code,
        };
        let shape = self.body.shape(dims)?;
        let shape = match dims.len() {
            0 => "()".to_string(),
            1 => self.body.dim(&dims[0]).text().to_string(),
            _ => shape[1..shape.len() - 1].to_string(),
        };
        Ok(known(x.method("reshape", &[shape])))
    }

    fn transpose(&mut self, perm: &[usize]) -> Result<Code, EmitError> {
        let x = self.tensor(0)?;
        if perm.is_empty() {
            return Ok(x);
        }
        let moved: Vec<usize> = (0..perm.len()).filter(|i| perm[*i] != *i).collect();
        Ok(match moved.as_slice() {
            [a, b] => x.method("transpose", &[a.to_string(), b.to_string()]),
            _ => x.method("permute", &perm.iter().map(usize::to_string).collect::<Vec<_>>()),
        })
    }

    fn broadcast(&mut self, broadcast: &Broadcast) -> Result<Known, EmitError> {
        let x = match self.body.known(self.operand(0)) {
            Known::Scalar(number) => return Ok(Known::Scalar(number)),
            Known::Tensor { code, compact } => (code, compact),
        };
        let rank = broadcast.dims.len();
        let first = broadcast.axes.first().copied().unwrap_or(rank);
        // Axes before the first come by themselves; those after it are marked.
        let marks: Vec<&str> = (first..rank)
            .map(|axis| if broadcast.axes.contains(&axis) { ":" } else { "None" })
            .collect();
        let kept = marks.iter().rposition(|m| *m == "None").map_or(0, |at| at + 1);
        let (x, smaller) = x;
        let compact = match kept {
            // What broadcasts by itself still does.
            0 => smaller.unwrap_or(x),
            n if first == 0 && marks[..n - 1].iter().all(|m| *m == ":") && n == rank => {
                x.subscript("..., None")
            }
            n => x.subscript(&marks[..n].join(", ")),
        };
        let shape = self.body.shape(&broadcast.dims)?;
        let code = compact.method("expand", &[shape]);
        Ok(Known::Tensor { code, compact: Some(compact) })
    }

    fn slice(&mut self, slice: &Slice) -> Result<Code, EmitError> {
        let x = self.tensor(0)?;
        let shape = self.ty(0).shape.clone();
        let mut marks = Vec::new();
        for (axis, size) in shape.iter().enumerate() {
            let (start, limit) = (&slice.starts[axis], &slice.limits[axis]);
            let mut mark = match start.as_constant() {
                Some(0) => ":".to_string(),
                _ => format!("{}:", self.body.dim(start).text()),
            };
            if limit != size {
                mark.push_str(self.body.dim(limit).text());
            }
            if slice.strides[axis] != 1 {
                mark.push_str(&format!(":{}", slice.strides[axis]));
            }
            marks.push(mark);
        }
        while marks.len() > 1 && marks.last().is_some_and(|m| m == ":") {
            marks.pop();
        }
        match marks.is_empty() {
            true => Ok(x),
            false => Ok(x.subscript(&marks.join(", "))),
        }
    }

    fn pad(&mut self, pad: &Pad) -> Result<Code, EmitError> {
        let mut widths = Vec::new();
        for axis in (0..pad.low.len()).rev() {
            widths.push(self.body.dim(&pad.low[axis]).text().to_string());
            widths.push(self.body.dim(&pad.high[axis]).text().to_string());
        }
        let value = match self.body.known(self.operand(1)) {
            Known::Scalar(number) => number.text().to_string(),
            Known::Tensor { code, .. } => code.method("item", &[]).text().to_string(),
        };
        let x = self.text(0)?;
        Ok(Code::call("F.pad", &[x, format!("({})", widths.join(", ")), format!("value={value}")]))
    }
}
