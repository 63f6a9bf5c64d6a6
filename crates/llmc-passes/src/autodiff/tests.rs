//! Small cases of differentiation, and what it refuses.

use super::{Options, Recompute, autodiff, grad_accumulators};
use crate::tests::module;
use llmc_ir::eval::{EvalOptions, Mode, Tensor, run};
use llmc_ir::{DType, Module, ParamRole};
use std::collections::BTreeMap;

fn grad(functions: &str) -> Module {
    let module = autodiff(&module(functions), &Options::default()).unwrap();
    assert_eq!(llmc_ir::verify::verify(&module), vec![], "{}", llmc_ir::text::print(&module));
    module
}

fn refused(functions: &str) -> String {
    autodiff(&module(functions), &Options::default()).unwrap_err().code
}

/// States after `@grad` on x = [1, 2, 3, 4] as f32[2, 2] with all weights [1, 2, 3, 4, …] / 4.
fn states(module: &Module) -> BTreeMap<String, Vec<f64>> {
    let x = Tensor::floats(DType::F32, &[2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    let accumulators = grad_accumulators(module, "grad");
    let zero = |a: &super::GradAccumulator| {
        (a.state.clone(), Tensor::splat(DType::F32, &a.ty.concrete().unwrap(), 0.0))
    };
    let mut states: BTreeMap<String, Tensor> = accumulators.iter().map(zero).collect();
    states.insert("loss".into(), Tensor::scalar(DType::F32, 0.0));
    let shapes: BTreeMap<String, Vec<usize>> =
        accumulators.iter().map(|a| (a.weight.clone(), a.ty.concrete().unwrap())).collect();
    let weight = |path: &str| {
        let shape = shapes.get(path)?;
        let n: usize = shape.iter().product();
        Tensor::floats(DType::F32, shape, (1..=n).map(|i| i as f64 / 4.0).collect()).ok()
    };
    let id = module.find("grad").unwrap();
    let options = EvalOptions::new(Mode::Rounded);
    let result = run(module, id, &[x], &weight, &states, &options).unwrap();
    result.states.iter().map(|(p, t)| (p.clone(), t.as_floats().unwrap().to_vec())).collect()
}

const SUM: &str = "%l = reduce_sum(%y, %loss) {axes = [0, 1], order = chain, acc = f32} : f32[]
            return %l";

/// A loss Σ y over x f32[B, 2] with weights declared by `weights` and y computed by `nodes`.
fn loss(weights: &str, nodes: &str) -> String {
    format!(
        "fn @loss(%x: f32[B, 2], {weights}, state %loss \"loss\": f32[]) -> (state \"loss\": f32[]) {{
            {nodes}
            {SUM}
        }}"
    )
}

#[test]
fn the_gradient_of_a_linear_sum_is_the_sum_of_inputs() {
    let module = grad(&loss("weight %w \"w\": f32[2, 2]", "%y = linear(%x, %w) : f32[B, 2]"));
    let states = states(&module);
    assert_eq!(states["w.grad"], [4.0, 6.0, 4.0, 6.0]);
    assert_eq!(
        states["loss"],
        [3.0 * 1.0 + 7.0 * 1.0 + 2.0 * 0.5 + 1.0 + 2.0 + 2.0 - 1.0 - 0.0]
            .map(|_| (1.0 + 3.0) * (0.25 + 0.75) + (2.0 + 4.0) * (0.5 + 1.0))
    );
}

#[test]
fn each_use_of_a_weight_has_its_accumulator() {
    let module = grad(&loss(
        "weight %w \"w\": f32[2, 2], weight %v \"v\": f32[2, 2]",
        "%a = linear(%x, %w) : f32[B, 2]
         %b = linear(%a, %v) : f32[B, 2]
         %y = linear(%b, %w) : f32[B, 2]",
    ));
    let found: Vec<(String, String)> =
        grad_accumulators(&module, "grad").into_iter().map(|a| (a.weight, a.state)).collect();
    let pair = |w: &str, s: &str| (w.to_string(), s.to_string());
    assert_eq!(found, [pair("v", "v.grad"), pair("w", "w.grad.0"), pair("w", "w.grad.1")]);
    // Use 1 is the last one: its gradient is the column sums of %b in each row.
    let states = states(&module);
    assert_eq!(states["w.grad.1"][..2], states["w.grad.1"][2..]);
    assert_ne!(states["w.grad.0"][..2], states["w.grad.0"][2..]);
}

#[test]
fn views_of_weights_fold_into_the_weight_in_token_order() {
    // y = x·(wᵀ + 1): the gradient of w is that of its transpose, turned back.
    let module = grad(&loss(
        "weight %w \"w\": f32[4]",
        "%a = reshape(%w) {dims = <2, 2>} : f32[2, 2]
         %b = transpose(%a) {perm = [1, 0]} : f32[2, 2]
         %one = constant() {dtype = f32, dims = <2, 2>, value = 1.0} : f32[2, 2]
         %c = add(%one, %b) : f32[2, 2]
         %y = linear(%x, %c) : f32[B, 2]",
    ));
    assert_eq!(states(&module)["w.grad"], [4.0, 4.0, 6.0, 6.0]);
    let grad = module.function(module.find("grad").unwrap());
    let folds = grad.nodes.iter().filter(|n| n.op.name() == "linear_weight_grad");
    assert!(folds.into_iter().all(|n| n.operands.len() == 3));
}

#[test]
fn a_composite_without_a_vjp_is_differentiated_by_its_decomposition() {
    let module = grad(&loss(
        "weight %w \"w\": f32[2, 2]",
        "%a = linear(%x, %w) : f32[B, 2]
         %y = relu_squared(%a) : f32[B, 2]",
    ));
    // a = [[1.25, 2.75], [2.75, 6.25]]; dy/da = 2a.
    let expected = [
        2.0 * (1.25 * 1.0 + 2.75 * 3.0),
        2.0 * (1.25 * 2.0 + 2.75 * 4.0),
        2.0 * (2.75 * 1.0 + 6.25 * 3.0),
        2.0 * (2.75 * 2.0 + 6.25 * 4.0),
    ];
    assert_eq!(states(&module)["w.grad"], expected);
    // The forward node stays the composite.
    let grad = module.function(module.find("grad").unwrap());
    assert!(grad.nodes.iter().any(|n| n.op.name() == "relu_squared"));
}

const LAYERS: &str = "fn @layer(%x: f32[B, 2], weight %w \"w\": f32[2, 2]) -> (y: f32[B, 2]) {
            %a = linear(%x, %w) : f32[B, 2]
            %b = silu(%a) : f32[B, 2]
            %c = tanh(%b) : f32[B, 2]
            %y = add(%x, %c) : f32[B, 2]
            return %y
        }
        fn @loss(%x: f32[B, 2], state %loss \"loss\": f32[]) -> (state \"loss\": f32[]) {
            %a = call @layer(%x) {scope = \"l.0\"} : f32[B, 2]
            %b = call @layer(%a) {scope = \"l.1\"} : f32[B, 2]
            %y = call @layer(%b) {scope = \"l.2\"} : f32[B, 2]";

#[test]
fn a_function_is_differentiated_once_per_set_of_active_inputs() {
    let module = grad(&format!("{LAYERS}\n{SUM}\n}}"));
    let names: Vec<&str> = module.functions.iter().map(|f| f.name.as_str()).collect();
    // The first call has no gradient for %x, the others do.
    assert_eq!(
        names,
        [
            "layer",
            "loss",
            "layer_forward",
            "layer_backward",
            "layer_forward_2",
            "layer_backward_2",
            "grad"
        ]
    );
    let outputs = |name: &str| module.function(module.find(name).unwrap()).outputs().count();
    assert_eq!((outputs("layer_backward"), outputs("layer_backward_2")), (0, 1));
}

#[test]
fn the_gradient_can_start_from_an_input() {
    let text = module(&loss("weight %w \"w\": f32[2, 2]", "%y = linear(%x, %w) : f32[B, 2]"));
    let grad = autodiff(&text, &Options { seed: Some("scale"), ..Options::default() }).unwrap();
    assert_eq!(llmc_ir::verify::verify(&grad), vec![]);
    let function = grad.function(grad.find("grad").unwrap());
    let inputs: Vec<_> = function.inputs().map(|v| function.value(v).name.clone()).collect();
    assert_eq!(inputs, [Some("x".to_string()), Some("scale".to_string())]);
    let x = Tensor::floats(DType::F32, &[2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    let zeros = |shape: &[usize]| Tensor::splat(DType::F32, shape, 0.0);
    let states = [("w.grad".to_string(), zeros(&[2, 2])), ("loss".to_string(), zeros(&[]))].into();
    let inputs = [x, Tensor::scalar(DType::F32, 8.0)];
    let weight = |_: &str| Some(Tensor::splat(DType::F32, &[2, 2], 0.25));
    let options = EvalOptions::new(Mode::Rounded);
    let id = grad.find("grad").unwrap();
    let found = run(&grad, id, &inputs, &weight, &states, &options).unwrap().states;
    assert_eq!(found["w.grad"].as_floats().unwrap(), [32.0, 48.0, 32.0, 48.0]);
    assert_eq!(found["loss"].as_floats().unwrap(), [5.0]);
}

#[test]
fn recomputing_changes_no_bit_and_saves_less() {
    let text = module(&format!("{LAYERS}\n{SUM}\n}}"));
    let with = |recompute| autodiff(&text, &Options { recompute, ..Options::default() }).unwrap();
    let [saved, cheap, lean] = [Recompute::Views, Recompute::Cheap, Recompute::ALL].map(with);
    for other in [&cheap, &lean] {
        assert_eq!(llmc_ir::verify::verify(other), vec![]);
        assert_eq!(states(&saved), states(other));
    }
    let residuals =
        |m: &Module| m.function(m.find("layer_forward_2").unwrap()).outputs().count() - 1;
    assert_eq!([&saved, &cheap, &lean].map(residuals), [2, 2, 0]);
    // Of two layers the first alone.
    let mixed = with(Recompute::Blocks(1));
    assert_eq!(states(&saved), states(&mixed));
    let halves = mixed.functions.iter().filter(|f| f.name.contains("_forward")).count();
    let of_saved = saved.functions.iter().filter(|f| f.name.contains("_forward")).count();
    assert_eq!((of_saved, halves), (2, 2));
    let names = |m: &Module, name: &str| m.function(m.find(name).unwrap()).outputs().count() - 1;
    assert_eq!((names(&mixed, "layer_forward"), names(&mixed, "layer_forward_2")), (0, 2));
}

#[test]
fn what_is_cheap_is_computed_again_where_its_operands_are_at_hand() {
    let layer = "fn @layer(%x: f32[B, 2], weight %n \"n\": f32[2], weight %g \"g\": f32[2, 2],
            weight %u \"u\": f32[2, 2], weight %d \"d\": f32[2, 2]) -> (y: f32[B, 2]) {
            %normed = rms_norm(%x, %n) {eps = 1e-5} : f32[B, 2]
            %gate = linear(%normed, %g) : f32[B, 2]
            %up = linear(%normed, %u) : f32[B, 2]
            %activated = swiglu(%gate, %up) : f32[B, 2]
            %down = linear(%activated, %d) : f32[B, 2]
            %y = add(%x, %down) : f32[B, 2]
            return %y
        }
        fn @loss(%x: f32[B, 2], weight %w \"w\": f32[2, 2], state %loss \"loss\": f32[])
            -> (state \"loss\": f32[]) {
            %a = linear(%x, %w) : f32[B, 2]
            %y = call @layer(%a) {scope = \"l\"} : f32[B, 2]";
    let text = module(&format!("{layer}\n{SUM}\n}}"));
    let with = |recompute| autodiff(&text, &Options { recompute, ..Options::default() }).unwrap();
    let [all, cheap, lean] = [Recompute::Views, Recompute::Cheap, Recompute::ALL].map(with);
    assert_eq!((states(&all), states(&all)), (states(&cheap), states(&lean)));
    let residuals = |m: &Module| {
        let half = m.function(m.find("layer_forward").unwrap());
        half.outputs().skip(1).map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    let of_none = with(Recompute::Blocks(0));
    assert_eq!(residuals(&of_none), residuals(&cheap));
    let everything = ["saved_normed", "saved_gate", "saved_up", "saved_activated"];
    assert_eq!(residuals(&all), everything);
    assert_eq!(residuals(&cheap), ["saved_gate", "saved_up"]);
    assert!(residuals(&lean).is_empty());
    // Every residual is kept for a reason, and every other value is made again for one.
    let log = |recompute| {
        let mut log = Vec::new();
        let options = Options { recompute, ..Options::default() };
        super::autodiff_explained(&text, &options, &mut log).unwrap();
        assert!(log.iter().all(|d| d.function == "layer_backward" && !d.why.is_empty()), "{log:?}");
        log.into_iter().map(|d| format!("{}: {}", d.subject, d.choice)).collect::<Vec<_>>()
    };
    assert_eq!(
        log(Recompute::Cheap),
        [
            "%normed = rms_norm: computed again",
            "%gate = linear: kept",
            "%up = linear: kept",
            "%activated = swiglu: computed again"
        ]
    );
    assert!(log(Recompute::ALL).iter().all(|line| line.ends_with("computed again")));
    assert!(log(Recompute::Views).iter().all(|line| line.ends_with("kept")));
}

#[test]
fn the_backward_half_declares_only_what_it_reads() {
    let module = grad(&format!("{LAYERS}\n{SUM}\n}}"));
    let half = module.function(module.find("layer_backward_2").unwrap());
    let inputs: Vec<&str> = half.inputs().filter_map(|v| half.value(v).name.as_deref()).collect();
    assert_eq!(inputs, ["x", "a", "c", "d_y"]);
    let states: Vec<&ParamRole> =
        half.params.iter().map(|p| &p.role).filter(|r| matches!(r, ParamRole::State(_))).collect();
    assert_eq!(states, [&ParamRole::State("w.grad".into())]);
}

#[test]
fn what_has_no_defined_gradient_is_refused() {
    assert_eq!(refused("fn @f(%x: f32[B]) -> (y: f32[B]) { return %x }"), "autodiff::entry");
    let no_scalar = "fn @loss(%x: f32[B]) -> (loss: f32[B]) { return %x }";
    assert_eq!(refused(no_scalar), "autodiff::entry");
    let order = loss(
        "weight %w \"w\": f32[2, 2]",
        "%a = exp(%w) : f32[2, 2]
         %y = linear(%x, %a) : f32[B, 2]",
    );
    assert_eq!(refused(&order), "autodiff::order");
    let shared = LAYERS.replace("l.1", "l.0");
    assert_eq!(refused(&format!("{shared}\n{SUM}\n}}")), "autodiff::shared");
    let state = "fn @keep(%x: f32[B, 2], state %s \"s\": f32[B, 2], weight %w \"w\": f32[2, 2])
            -> (y: f32[B, 2], state \"s\": f32[B, 2]) {
            %a = linear(%x, %w) : f32[B, 2]
            %b = add(%s, %a) : f32[B, 2]
            return %b, %b
        }
        fn @loss(%x: f32[B, 2], state %loss \"loss\": f32[]) -> (state \"loss\": f32[]) {
            %y = call @keep(%x) : f32[B, 2]
            %l = reduce_sum(%y, %loss) {axes = [0, 1], order = chain, acc = f32} : f32[]
            return %l
        }";
    assert_eq!(refused(state), "autodiff::state");
    let region = "fn @scale(%x: f32[B, 2], weight %w \"w\": f32[2, 2]) -> (y: f32[B, 2]) {
            %y = linear(%x, %w) : f32[B, 2]
            return %y
        }
        fn @loss(%c: bool[], %x: f32[B, 2], state %loss \"loss\": f32[]) -> (state \"loss\": f32[]) {
            %y = if(%c, %x) {then = @scale, else = @scale} : f32[B, 2]
            %l = reduce_sum(%y, %loss) {axes = [0, 1], order = chain, acc = f32} : f32[]
            return %l
        }";
    assert_eq!(refused(region), "autodiff::region");
}
