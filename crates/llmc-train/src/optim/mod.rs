//! Optimisers as graphs: one file each, one list.
//!
//! An optimiser gives, for a parameter's type, an IR function that maps the
//! parameter, its gradient and its moments (all linear state) to their
//! successors; and the `@update` module calls it once per parameter under the
//! parameter's path. So the update can be printed, counted and planned like
//! everything else.
//!
//! To add one: a file with its `Rule`, its line in `RULES`, and its variant in the spec.

mod adamw;
mod lion;
mod muon;
mod sgd;

use llmc_base::Diagnostic;
use llmc_ir::ops::{Binary, BinaryKind, Broadcast, Constant};
use llmc_ir::{DType, FunctionBuilder, Module, Op, TensorType, TypeError, ValueId};
use llmc_spec::{OptimizerConfig, OptimizerKind, ParameterGroup};
use std::collections::BTreeMap;

/// What defines an optimiser.
pub(crate) struct Rule {
    /// Its variant in the spec.
    pub kind: OptimizerKind,
    /// Its name in function names.
    pub name: &'static str,
    /// Relative paths of what it keeps per parameter, with PyTorch's names.
    pub moments: &'static [&'static str],
    /// Factor on the learning rate of a parameter with μP: whether it is hidden, and how many times wider than
    /// its base the model is. 1 at width 1. The decay is divided by it, so that their product stays.
    pub width_rule: fn(bool, f64) -> f64,
    /// The scalars `bias_correction1` and `bias_correction2` of step t, from 1.
    pub bias_corrections: fn(&OptimizerConfig, f64) -> [f64; 2],
    /// Adds the update of a parameter and its gradient to a function; the parameter's successor.
    pub define: Define,
}

type Define = fn(
    &mut FunctionBuilder,
    &OptimizerConfig,
    ValueId,
    ValueId,
    &Scalars,
) -> Result<ValueId, TypeError>;

/// All optimisers.
const RULES: [&Rule; 4] = [&adamw::RULE, &sgd::RULE, &muon::RULE, &lion::RULE];

/// The rule of an optimiser. Every variant of the spec has one.
pub(crate) fn rule(kind: OptimizerKind) -> &'static Rule {
    let found = RULES.into_iter().find(|rule| rule.kind == kind);
    found.expect("every variant of the spec has its line in RULES")
}

/// The rule of one parameter: with Muon, AdamW's for what is no matrix or is named.
pub(crate) fn rule_of(config: &OptimizerConfig, parameter: &Parameter) -> &'static Rule {
    let is_adamw = config.kind == OptimizerKind::Muon
        && (parameter.ty.rank() != 2 || is_named(parameter, &config.adamw_parameters));
    rule(if is_adamw { OptimizerKind::AdamW } else { config.kind })
}

/// A trainable parameter and the accumulators of its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Absolute path.
    pub path: String,
    /// Its type; dims are constants.
    pub ty: TensorType,
    /// Paths of its gradient accumulators, relative to `path`: `grad`, or `grad.0`, `grad.1`, …
    pub grads: Vec<String>,
    /// How many times wider than its base the model is; 1 in the standard parametrization.
    pub width_multiplier: f64,
}

impl Parameter {
    /// Whether both of its dims grow with the width of the model: a matrix of a layer. The others are the
    /// embeddings, the head, and vectors.
    pub fn is_hidden(&self) -> bool {
        self.ty.rank() >= 2 && self.path.starts_with("layers.")
    }

    /// What the deviation of its initial weights is divided by: the root of the width of a hidden matrix.
    pub(crate) fn init_divisor(&self) -> f64 {
        match self.is_hidden() {
            true => libm::sqrt(self.width_multiplier),
            false => 1.0,
        }
    }
}

/// The parameters of a model that is so many times wider than its base.
pub fn widened(mut parameters: Vec<Parameter>, width_multiplier: f64) -> Vec<Parameter> {
    parameters.iter_mut().for_each(|p| p.width_multiplier = width_multiplier);
    parameters
}

/// The trainable parameters of a gradient module with their accumulators, by path.
///
/// Errors: `optimizer::c1` if an accumulator's path does not continue its weight's.
pub fn parameters(gradient: &Module, entry: &str) -> Result<Vec<Parameter>, TypeError> {
    let mut found: std::collections::BTreeMap<String, Parameter> = Default::default();
    for accumulator in llmc_passes::grad_accumulators(gradient, entry) {
        let path = accumulator.weight;
        let rest = accumulator.state.strip_prefix(path.as_str()).and_then(|r| r.strip_prefix('.'));
        let grad = rest.ok_or_else(|| {
            let message = format!("accumulator `{}` is not one of `{path}`", accumulator.state);
            TypeError::new("optimizer::c1", message)
        })?;
        let parameter = found.entry(path.clone()).or_insert_with(|| Parameter {
            path: path.clone(),
            ty: accumulator.ty.clone(),
            grads: Vec::new(),
            width_multiplier: 1.0,
        });
        parameter.grads.push(grad.to_string());
    }
    Ok(found.into_values().collect())
}

/// Scalars that every update takes, by name: f32[].
pub const INPUTS: [&str; 5] =
    ["lr", "weight_decay", "grad_scale", "bias_correction1", "bias_correction2"];

/// The scalars of [`INPUTS`] as values of a function under construction.
pub(crate) struct Scalars {
    pub lr: ValueId,
    pub weight_decay: ValueId,
    pub grad_scale: ValueId,
    pub bias_correction1: ValueId,
    pub bias_correction2: ValueId,
}

/// Whether one of the patterns names a parameter: `1-D` is every parameter with at most one dim;
/// anything else is a glob over the path, where `*` matches any text.
pub fn is_named(parameter: &Parameter, patterns: &[String]) -> bool {
    patterns.iter().any(|pattern| match pattern.as_str() {
        "1-D" => parameter.ty.rank() <= 1,
        glob => matches_glob(glob.as_bytes(), parameter.path.as_bytes()),
    })
}

/// The group of a parameter: the first whose pattern names it.
pub fn group_of<'c>(
    config: &'c OptimizerConfig,
    parameter: &Parameter,
) -> Option<(usize, &'c ParameterGroup)> {
    let is_it = |group: &ParameterGroup| is_named(parameter, std::slice::from_ref(&group.pattern));
    config.groups.iter().enumerate().find(|(_, group)| is_it(group))
}

/// Relative path of a parameter's moving average.
pub const EMA: &str = "ema";

fn matches_glob(pattern: &[u8], text: &[u8]) -> bool {
    // Classic two-pointer matching: on a mismatch, the last `*` takes one more byte.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == b'?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// The same module as the engine runs it: what has no kernel of its own is decomposed.
///
/// Errors: the pass's.
pub(crate) fn runnable(update: &Module) -> Result<Module, Diagnostic> {
    llmc_passes::legalise(update, &|op| !matches!(op, Op::NewtonSchulz(_)))
}

/// The module whose entry `@update` applies the optimiser once to every parameter and sets the
/// gradients to zero. With a decay `ema` it then moves the average of each parameter towards it:
/// `ema' = ema + (p' − ema)·(1 − decay)`.
pub fn update_module(
    config: &OptimizerConfig,
    ema: Option<f64>,
    parameters: &[Parameter],
) -> Result<Module, TypeError> {
    let mut module = Module::new("optimizer");
    for parameter in parameters {
        let name = function_name(config, parameter);
        if module.find(&name).is_some() {
            continue;
        }
        let origin = module.origin("optimizer.type");
        let mut b = FunctionBuilder::new(&module, name);
        b.set_origin(origin);
        let scalars = scalar_inputs(&mut b);
        let p = b.param("p", parameter.ty.clone(), llmc_ir::ParamRole::State(String::new()));
        let mut g = b.state(&parameter.grads[0], parameter.ty.clone());
        let scale = broadcast(&mut b, scalars.grad_scale, &parameter.ty)?;
        g = b.op1(Binary { kind: BinaryKind::Mul }, &[g, scale])?;
        let next = (rule_of(config, parameter).define)(&mut b, config, p, g, &scalars)?;
        b.state_result("", next);
        if let Some(decay) = ema {
            let average = b.state(EMA, parameter.ty.clone());
            let gap = b.sub(next, average)?;
            let step = b.mul_scalar(gap, 1.0 - decay)?;
            let average = b.add(average, step)?;
            b.name(average, "average");
            b.state_result(EMA, average);
        }
        let zero = zeros(&mut b, &parameter.ty)?;
        b.state_result(&parameter.grads[0], zero);
        let function = b.finish();
        module.add(function);
    }
    let origin = module.origin("optimizer");
    let mut b = FunctionBuilder::new(&module, "update");
    b.set_origin(origin);
    let scalars = scalar_inputs(&mut b);
    let no_decay = b.op1(Constant { dtype: DType::F32, dims: Vec::new(), value: 0.0 }, &[])?;
    b.name(no_decay, "no_decay");
    let mut groups: BTreeMap<usize, (ValueId, Option<ValueId>)> = BTreeMap::new();
    let mut by_width = BTreeMap::new();
    for parameter in parameters {
        let callee = function_name(config, parameter);
        let callee = module.find(&callee).ok_or_else(|| {
            TypeError::new("optimizer::c0", format!("no update for `{}`", parameter.path))
        })?;
        let (lr, own_decay) = match group_of(config, parameter) {
            None => (scalars.lr, None),
            Some((at, group)) => match groups.get(&at) {
                Some(values) => *values,
                None => {
                    let values = group_values(&mut b, group, at, &scalars)?;
                    *groups.entry(at).or_insert(values)
                }
            },
        };
        let decay = match own_decay {
            Some(decay) => decay,
            None if is_named(parameter, &config.no_decay) => no_decay,
            None => scalars.weight_decay,
        };
        let factor = width_factor(config, parameter);
        let lr = scaled(&mut b, &mut by_width, lr, factor)?;
        let decay = match decay == no_decay {
            true => decay,
            false => scaled(&mut b, &mut by_width, decay, 1.0 / factor)?,
        };
        let inputs =
            [lr, decay, scalars.grad_scale, scalars.bias_correction1, scalars.bias_correction2];
        b.call(callee, &parameter.path, &inputs)?;
    }
    let function = b.finish();
    module.add(function);
    Ok(module)
}

/// Factor on the learning rate of a parameter: 1 in the standard parametrization.
fn width_factor(config: &OptimizerConfig, parameter: &Parameter) -> f64 {
    (rule_of(config, parameter).width_rule)(parameter.is_hidden(), parameter.width_multiplier)
}

/// A scalar times a factor, made once for each of both; the scalar itself for 1.
fn scaled(
    b: &mut FunctionBuilder,
    known: &mut BTreeMap<(ValueId, u64), ValueId>,
    scalar: ValueId,
    factor: f64,
) -> Result<ValueId, TypeError> {
    if factor == 1.0 {
        return Ok(scalar);
    }
    let at = (scalar, factor.to_bits());
    if let Some(value) = known.get(&at) {
        return Ok(*value);
    }
    let value = b.mul_scalar(scalar, factor)?;
    b.name(value, "of_width");
    known.insert(at, value);
    Ok(value)
}

/// Learning rate of a group, and its weight decay if it has one of its own.
fn group_values(
    b: &mut FunctionBuilder,
    group: &ParameterGroup,
    at: usize,
    scalars: &Scalars,
) -> Result<(ValueId, Option<ValueId>), TypeError> {
    let mut lr = scalars.lr;
    if group.lr_scale != 1.0 {
        lr = b.mul_scalar(lr, group.lr_scale)?;
        b.name(lr, &format!("lr_of_group_{at}"));
    }
    let decay = group.weight_decay.map(|decay| b.scalar(DType::F32, decay)).transpose()?;
    Ok((lr, decay))
}

/// The module whose entry `@merge` folds the accumulators of every parameter that is used more
/// than once into the first, in order, and sets the others to zero.
pub fn merge_module(parameters: &[Parameter]) -> Result<Module, TypeError> {
    let mut module = Module::new("merge");
    let origin = module.origin("model.tie_embeddings");
    let mut b = FunctionBuilder::new(&module, "merge");
    b.set_origin(origin);
    for parameter in parameters.iter().filter(|p| p.grads.len() > 1) {
        let paths: Vec<String> =
            parameter.grads.iter().map(|grad| format!("{}.{grad}", parameter.path)).collect();
        let mut total = b.state(&paths[0], parameter.ty.clone());
        for path in &paths[1..] {
            let other = b.state(path, parameter.ty.clone());
            total = b.op1(Binary { kind: BinaryKind::Add }, &[total, other])?;
        }
        b.state_result(&paths[0], total);
        for path in &paths[1..] {
            let zero = zeros(&mut b, &parameter.ty)?;
            b.state_result(path, zero);
        }
    }
    let function = b.finish();
    module.add(function);
    Ok(module)
}

fn zeros(b: &mut FunctionBuilder, ty: &TensorType) -> Result<ValueId, TypeError> {
    b.op1(Constant { dtype: ty.dtype, dims: ty.shape.clone(), value: 0.0 }, &[])
}

/// One function per type and accumulator: `adamw_64x64`, `adamw_64x64_grad.0`.
fn function_name(config: &OptimizerConfig, parameter: &Parameter) -> String {
    let kind = rule_of(config, parameter).name;
    let dims: Vec<String> = parameter.ty.shape.iter().map(|d| d.to_string()).collect();
    format!("{kind}_{}_{}", dims.join("x"), parameter.grads[0].replace('.', "_"))
}

fn scalar_inputs(b: &mut FunctionBuilder) -> Scalars {
    let mut input = |name: &str| b.input(name, TensorType::scalar(DType::F32));
    let [lr, weight_decay, grad_scale, bias_correction1, bias_correction2] = INPUTS.map(&mut input);
    Scalars { lr, weight_decay, grad_scale, bias_correction1, bias_correction2 }
}

/// A scalar in the shape of a parameter.
pub(crate) fn broadcast(
    b: &mut FunctionBuilder,
    scalar: ValueId,
    ty: &TensorType,
) -> Result<ValueId, TypeError> {
    b.op1(Broadcast { dims: ty.shape.clone(), axes: Vec::new() }, &[scalar])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_of_every_optimiser_pass_the_verifier_and_name_their_origins() {
        let parameter = |path: &str, dims: &[i64], grads: &[&str]| Parameter {
            path: path.to_string(),
            ty: TensorType::new(DType::F32, dims.iter().copied()),
            grads: grads.iter().map(|g| g.to_string()).collect(),
            width_multiplier: 1.0,
        };
        let parameters = [
            parameter("embedding.weight", &[8, 4], &["grad.0", "grad.1"]),
            parameter("layers.0.mlp.up.weight", &[8, 4], &["grad"]),
            parameter("norm.weight", &[4], &["grad"]),
        ];
        let wide = widened(parameters.to_vec(), 4.0);
        for rule in RULES {
            let spec = serde_json::json!({"optimizer": {"type": rule.name, "lr": 0.1}});
            let spec = llmc_spec::from_json(&spec, &[]).0.unwrap();
            let resolved =
                llmc_spec::resolve(&spec, llmc_spec::Goal::Written, &|_| panic!("no model"));
            let config = resolved.unwrap().optimizer.unwrap();
            for module in [
                update_module(&config, Some(0.9), &parameters).unwrap(),
                update_module(&config, None, &wide).unwrap(),
                merge_module(&parameters).unwrap(),
            ] {
                let found = llmc_ir::verify::verify(&module);
                assert!(found.is_empty(), "{found:#?}");
                let nodes = module.functions.iter().flat_map(|f| &f.nodes);
                nodes.for_each(|n| assert_ne!(module.origin_text(n.origin), "", "{}", n.op.name()));
            }
        }
    }

    #[test]
    fn globs_match_paths() {
        let matches = |glob: &str, path: &str| matches_glob(glob.as_bytes(), path.as_bytes());
        assert!(matches("*.bias", "layers.0.attention.q.bias"));
        assert!(matches("layers.*.mlp.*", "layers.12.mlp.up.weight"));
        assert!(!matches("*.bias", "layers.0.attention.q.weight"));
        assert!(matches("embedding.weight", "embedding.weight"));
        assert!(!matches("embedding", "embedding.weight"));
    }
}
