//! Mixed precision: which products are taken of narrower operands.

use crate::rebuild::Rebuild;
use crate::{checked, each_function};
use llmc_base::Diagnostic;
use llmc_ir::ops::{Linear, Precision};
use llmc_ir::{DType, Module, Op};

/// Gives every linear map of f32 operands this precision; its gradients follow (`Linear`'s vjp). Weights,
/// activations, sums and everything else stay f32.
pub fn with_precision(module: &Module, precision: Precision) -> Result<Module, Diagnostic> {
    if precision == Precision::F32 {
        return Ok(checked(module.clone()));
    }
    each_function(module, |new, function| {
        let mut rebuild = Rebuild::new(new, function);
        for node in &function.nodes {
            let is_f32 = |node: &llmc_ir::Node| function.ty(node.operands[0]).dtype == DType::F32;
            match &node.op {
                Op::Linear(_) if is_f32(node) => {
                    rebuild.copy_as(Linear { precision }.into(), node);
                }
                _ => rebuild.copy(node),
            }
        }
        Ok(rebuild.finish())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::{Options, autodiff};
    use crate::tests::module;

    #[test]
    fn the_precision_of_a_linear_map_is_that_of_its_gradients() {
        let text = "fn @loss(%x: f32[B, 2], weight %w \"w\": f32[2, 2], weight %v \"v\": f32[2, 2],
                state %loss \"loss\": f32[]) -> (state \"loss\": f32[]) {
                %h = linear(%x, %w) : f32[B, 2]
                %y = linear(%h, %v) : f32[B, 2]
                %l = reduce_sum(%y, %loss) {axes = [0, 1], order = chain, acc = f32} : f32[]
                return %l
            }";
        let narrow = with_precision(&module(text), Precision::Bf16).unwrap();
        let grad = autodiff(&narrow, &Options::default()).unwrap();
        let grad = grad.function(grad.find("grad").unwrap());
        let mut products = Vec::new();
        for node in &grad.nodes {
            match &node.op {
                Op::Linear(op) => products.push(("linear", op.precision)),
                Op::LinearWeightGrad(op) => products.push(("weight", op.precision)),
                Op::Dot(op) => products.push(("input", op.precision)),
                _ => {}
            }
        }
        products.sort_by_key(|(name, _)| *name);
        let want = ["input", "linear", "linear", "weight", "weight"];
        assert_eq!(products, want.map(|name| (name, Precision::Bf16)));
        assert_eq!(with_precision(&narrow, Precision::F32).unwrap(), narrow);
    }
}
