//! Plans of small functions, given as text.
//!
//! That plans compute the right thing is shown by the suite that runs them against the evaluator;
//! here it is what they do with memory.

use crate::{
    AddressSpace, Kernel, Plan, PlanError, PlanRequest, Region, Why, plan, plan_all_explained,
};
use llmc_base::Symbol;
use llmc_base::expr::Env;
use llmc_ir::Module;

fn module(text: &str) -> Module {
    llmc_ir::text::parse(text).unwrap_or_else(|d| panic!("{d:#?}"))
}

fn planned(text: &str, env: &Env) -> (Plan, AddressSpace) {
    let module = module(text);
    let mut space = AddressSpace::default();
    let entry = module.find("main").expect("there is a main");
    let plan = plan(&module, entry, env, &mut space).unwrap_or_else(|e| panic!("{e}"));
    (plan, space)
}

/// Every launch's results are apart from each other and from its operands, but for an operand
/// that is continued in place.
fn check_regions(plan: &Plan) {
    let end = plan.frame_start + plan.frame_words;
    for launch in &plan.launches {
        let results: Vec<Region> = launch.results.iter().map(|v| v.region).collect();
        for (i, a) in results.iter().enumerate() {
            assert!(a.start + a.len <= end, "{launch:?}");
            assert!(results[i + 1..].iter().all(|b| !a.overlaps(b)), "{launch:?}");
            for b in launch.operands.iter().map(|v| v.region) {
                assert!(*a == b || !a.overlaps(&b), "{launch:?}");
            }
        }
    }
}

#[test]
fn a_chain_reuses_two_buffers() {
    let body: String =
        (1..10).map(|i| format!("    %v{i} = relu(%v{}) : f32[B, 64]\n", i - 1)).collect();
    let text = format!(
        "module @m {{\n  symbol B >= 1\n  fn @main(%v0: f32[B, 64]) -> (y: f32[B, 64]) {{\n{body}    return %v9\n  }}\n}}"
    );
    let (plan, _) = planned(&text, &Env::from([(Symbol::new("B"), 4)]));
    check_regions(&plan);
    assert_eq!(plan.launches.len(), 9);
    // Input, output, and two buffers that take turns.
    assert_eq!(plan.frame_words, 4 * 256);
}

#[test]
fn state_is_updated_in_place_and_its_successor_built_in_place() {
    let (plan, space) = planned(
        "module @m {
           fn @main(%dy: f32[8, 4], %x: f32[8, 3], state %g \"g\": f32[4, 3], state %old \"old\": f32[6])
             -> (y: f32[6], state \"g\": f32[4, 3], state \"old\": f32[6]) {
             %next = linear_weight_grad(%dy, %x, %g) : f32[4, 3]
             %y = relu(%old) : f32[6]
             %zero = constant() {dtype = f32, dims = <6>, value = 0.0} : f32[6]
             return %y, %next, %zero
           }
         }",
        &Env::new(),
    );
    check_regions(&plan);
    let at = |path: &str| space.get(path).expect("placed").region;
    assert_eq!(plan.launches.len(), 3, "nothing is copied");
    assert_eq!(plan.launches[0].results[0].region, at("g"));
    assert_eq!(plan.launches[2].results[0].region, at("old"));
}

#[test]
fn an_old_state_that_is_read_later_is_not_overwritten() {
    let (plan, space) = planned(
        "module @m {
           fn @main(%x: f32[6], state %s \"s\": f32[6]) -> (y: f32[6], state \"s\": f32[6]) {
             %y = relu(%s) : f32[6]
             return %y, %x
           }
         }",
        &Env::new(),
    );
    let state = space.get("s").expect("placed").region;
    let last = plan.launches.last().expect("a copy");
    assert_eq!((last.kernel, last.results[0].region), (Kernel::Copy, state));
}

#[test]
fn calls_get_weights_by_scope_and_share_one_frame() {
    let (plan, space) = planned(
        "module @m {
           fn @block(%x: f32[5, 8], weight %w \"w\": f32[8, 8]) -> (y: f32[5, 8]) {
             %1 = linear(%x, %w) : f32[5, 8]
             %2 = relu(%1) : f32[5, 8]
             return %2
           }
           fn @main(%x: f32[5, 8]) -> (y: f32[5, 8]) {
             %1 = call @block(%x) {scope = \"layers.0\"} : f32[5, 8]
             %2 = call @block(%1) {scope = \"layers.1\"} : f32[5, 8]
             return %2
           }
         }",
        &Env::new(),
    );
    check_regions(&plan);
    let weights: Vec<&str> = space.iter().map(|(path, _)| path).collect();
    assert_eq!(weights, ["layers.0.w", "layers.1.w"]);
    let of = |i: usize| plan.launches[i].operands[1].region;
    assert_eq!(of(0), space.get("layers.0.w").expect("placed").region);
    assert_eq!(of(2), space.get("layers.1.w").expect("placed").region);
    // Both calls use the same words for what is inside them.
    assert_eq!(plan.launches[0].results[0].region, plan.launches[2].results[0].region);
    assert!(plan.launches.iter().all(|l| matches!(l.kernel, Kernel::Gemm(_) | Kernel::Native)));
}

#[test]
fn an_optimiser_step_takes_the_factor_of_its_gradient() {
    let (plan, _) = planned(
        "module @m {
           fn @main(%scale: f32[], %lr: f32[], %wd: f32[], state %p \"p\": f32[9], state %g \"g\": f32[9], state %m \"m\": f32[9])
             -> (state \"p\": f32[9], state \"g\": f32[9], state \"m\": f32[9]) {
             %s = broadcast(%scale) {dims = <9>, axes = []} : f32[9]
             %scaled = mul(%g, %s) : f32[9]
             %p2, %m2 = sgd_step(%p, %scaled, %m, %lr, %wd) {momentum = 0.9} : f32[9], f32[9]
             %zero = constant() {dtype = f32, dims = <9>, value = 0.0} : f32[9]
             return %p2, %zero, %m2
           }
         }",
        &Env::new(),
    );
    check_regions(&plan);
    let kernels: Vec<Kernel> = plan.launches.iter().map(|l| l.kernel).collect();
    assert_eq!(kernels, [Kernel::ScaledStep, Kernel::Native]);
}

#[test]
fn what_cannot_be_planned_is_an_error() {
    let wide =
        module("module @m {\n  fn @main(%x: f64[4]) -> (y: f64[4]) {\n    return %x\n  }\n}");
    let mut space = AddressSpace::default();
    let error = plan(&wide, wide.find("main").expect("main"), &Env::new(), &mut space);
    assert!(matches!(error, Err(PlanError::Type { .. })), "{error:?}");

    let open = module(
        "module @m {\n  symbol B >= 1\n  fn @main(%x: f32[B]) -> (y: f32[B]) {\n    return %x\n  }\n}",
    );
    let error = plan(&open, open.find("main").expect("main"), &Env::new(), &mut space);
    assert!(error.is_err_and(|e| e.to_string().contains("unbound")));

    let weight = module(
        "module @m {\n  fn @main(%x: f32[2], weight %w \"w\": f32[2]) -> (y: f32[2]) {\n    %1 = add(%x, %w) : f32[2]\n    return %1\n  }\n}",
    );
    space.place("w", llmc_ir::DType::F32, &[3]).expect("new");
    let error = plan(&weight, weight.find("main").expect("main"), &Env::new(), &mut space);
    assert!(matches!(error, Err(PlanError::Persistent { .. })), "{error:?}");
}

#[test]
fn places_and_launches_say_why() {
    let text = module(
        "module @m {
           fn @main(%x: f32[4, 8], %dy: f32[4, 8], weight %w \"w\": f32[8], state %g \"g\": f32[8],
                    %acc: f32[8]) -> (dx: f32[4, 8], y: f32[8, 4], s: f32[8], state \"g\": f32[8]) {
             %dx, %rows = rms_norm_backward(%x, %w, %dy) {eps = 1e-5} : f32[4, 8], f32[4, 8]
             %sum = bias_grad(%rows, %g) : f32[8]
             %a = relu(%dx) : f32[4, 8]
             %b = relu(%a) : f32[4, 8]
             %y = reshape(%b) {dims = <8, 4>} : f32[8, 4]
             %s = bias_grad(%a, %acc) : f32[8]
             return %dx, %y, %s, %sum
           }
         }",
    );
    let entry = text.find("main").expect("there is a main");
    let request = PlanRequest { module: &text, entry, env: Env::new() };
    let (plans, notes) =
        plan_all_explained(&[request], &mut AddressSpace::default()).expect("it plans");
    let why: Vec<Why> = plans[0].launches.iter().map(|l| l.why).collect();
    let copied = Why::AccumulatorCopied;
    assert_eq!(why, [Why::NormSums, Why::Native, Why::Native, copied, Why::Native]);
    assert_eq!(
        plans[0].launches[0].why.ops(&plans[0].launches[0].op),
        ["rms_norm_backward", "bias_grad"]
    );
    let [main] = &notes[0][..] else { panic!("{notes:?}") };
    let storage: Vec<(&str, &str)> =
        main.buffers.iter().map(|b| (b.value.as_str(), b.storage)).collect();
    assert_eq!(
        storage,
        [
            ("%x", "parameter"),
            ("%dy", "parameter"),
            ("%w", "parameter"),
            ("%g", "parameter"),
            ("%acc", "parameter"),
            ("%dx", "result"),
            ("%rows", "absorbed"),
            ("%sum", "in place"),
            ("%a", "frame"),
            ("%b", "result"),
            ("%y", "view"),
            ("%s", "result"),
        ]
    );
    assert!(main.buffers.iter().all(|b| !b.why.is_empty()));
}

#[test]
fn what_is_not_fused_says_why() {
    let text = module(
        "module @m {
           fn @main(%x: f32[4, 8], %dy: f32[4, 8], weight %w \"w\": f32[8]) -> (dx: f32[4, 8], r: f32[4, 8]) {
             %dx, %rows = rms_norm_backward(%x, %w, %dy) {eps = 1e-5} : f32[4, 8], f32[4, 8]
             return %dx, %rows
           }
         }",
    );
    let entry = text.find("main").expect("there is a main");
    let request = PlanRequest { module: &text, entry, env: Env::new() };
    let (_, notes) = plan_all_explained(&[request], &mut AddressSpace::default()).expect("plans");
    let [apart] = &notes[0][0].decisions[..] else { panic!("{notes:?}") };
    assert_eq!((apart.subject.as_str(), apart.choice), ("%dx = rms_norm_backward", "by itself"));
    assert!(apart.why.contains("weight rows"), "{}", apart.why);
}
