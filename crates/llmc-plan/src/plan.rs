//! Plans: layouts instantiated into one flat list of launches.

use crate::fuse::Fusion;
use crate::kernel::{Kernel, select};
use crate::layout::{Instance, Layout, Place, accumulator, layout};
use crate::notes::{FunctionNotes, notes};
use crate::space::{AddressSpace, Region, View, tensor_words, words_for};
use crate::why::Why;
use llmc_base::Expr;
use llmc_base::expr::Env;
use llmc_ir::module::join_path;
use llmc_ir::{FuncId, Module, Op, TensorType, ValueDef, ValueId};
use std::collections::BTreeMap;

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are in the messages.
pub enum PlanError {
    #[error("in `@{function}`: {message}")]
    Type { function: String, message: String },
    #[error("in `@{function}`: the engine does not run `{op}` yet")]
    Region { function: String, op: &'static str },
    #[error("`{path}` is placed as {placed} but `@{function}` declares {declared}")]
    Persistent { function: String, path: String, placed: String, declared: String },
    #[error("in `@{function}`: results overwrite each other's sources")]
    Overlap { function: String },
}

/// One kernel launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Which kernel, with its sizes.
    pub kernel: Kernel,
    /// The op, for kernels that interpret it and for messages.
    pub op: Op,
    /// Operands.
    pub operands: Vec<View>,
    /// Results. A result may be the region of an operand only where the op accumulates in place.
    pub results: Vec<View>,
    /// Function and node it comes from, and the parameter scope of the call.
    pub origin: (FuncId, usize, String),
    /// What it costs by the account of its op, and of the nodes that it does the work of.
    pub work: LaunchWork,
    /// Why it runs on this kernel.
    pub why: Why,
}

/// What a launch costs by the ops' own account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaunchWork {
    /// Floating-point operations.
    pub flops: i128,
    /// Bytes read and written, without any reuse.
    pub bytes: i128,
}

/// A function for concrete dims, ready to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Launches in order.
    pub launches: Vec<Launch>,
    /// Inputs of the entry function by name, in order: where the caller writes them.
    pub inputs: Vec<(String, View)>,
    /// Outputs of the entry function by name, in order: where the caller reads them.
    pub outputs: Vec<(String, View)>,
    /// First word after everything persistent when the plan was made.
    pub frame_start: usize,
    /// Words of inputs, outputs and frame.
    pub frame_words: usize,
    /// FLOPs of one run, by the ops' own cost.
    pub flops: i128,
}

/// One function to plan.
#[derive(Clone)]
pub struct PlanRequest<'a> {
    /// The module.
    pub module: &'a Module,
    /// Its entry function.
    pub entry: FuncId,
    /// Values of the entry's dim symbols.
    pub env: Env,
}

/// Plans several functions over one address space. Weights and state of all of them get their
/// places first, so that every frame stands behind everything persistent; frames share their words.
///
/// Errors: a type the engine does not compute in, a region op, a path with two types.
pub fn plan_all(
    requests: &[PlanRequest],
    space: &mut AddressSpace,
) -> Result<Vec<Plan>, PlanError> {
    Ok(plan_laid_out(requests, space)?.0)
}

/// [`plan_all`], and the memory of every function of each request.
///
/// Errors: as [`plan_all`].
pub fn plan_all_explained(
    requests: &[PlanRequest],
    space: &mut AddressSpace,
) -> Result<(Vec<Plan>, Vec<Vec<FunctionNotes>>), PlanError> {
    let (plans, layouts) = plan_laid_out(requests, space)?;
    let each = requests.iter().zip(&layouts);
    Ok((plans, each.map(|(request, (layouts, _))| notes(request.module, layouts)).collect()))
}

/// The layouts of a request, and its entry.
type LaidOut = (BTreeMap<Instance, Layout>, Instance);

fn plan_laid_out(
    requests: &[PlanRequest],
    space: &mut AddressSpace,
) -> Result<(Vec<Plan>, Vec<LaidOut>), PlanError> {
    let mut all: Vec<LaidOut> = Vec::new();
    for request in requests {
        let mut layouts = BTreeMap::new();
        let instance = (request.entry, request.env.clone());
        layout(request.module, &instance, &mut layouts)?;
        place_persistent(request.module, &layouts, space, &instance, "")?;
        all.push((layouts, instance));
    }
    let mut plans = Vec::with_capacity(all.len());
    for (request, (layouts, instance)) in requests.iter().zip(&all) {
        plans.push(make(request.module, layouts, space, instance)?);
    }
    Ok((plans, all))
}

/// Plans one function.
///
/// Errors: as [`plan_all`].
pub fn plan(
    module: &Module,
    entry: FuncId,
    env: &Env,
    space: &mut AddressSpace,
) -> Result<Plan, PlanError> {
    let request = PlanRequest { module, entry, env: env.clone() };
    let mut plans = plan_all(&[request], space)?;
    plans.pop().ok_or(PlanError::Overlap { function: String::new() })
}

/// Places every weight and state, callees' included.
fn place_persistent(
    module: &Module,
    layouts: &BTreeMap<Instance, Layout>,
    space: &mut AddressSpace,
    instance: &Instance,
    scope: &str,
) -> Result<(), PlanError> {
    let f = module.function(instance.0);
    let own = &layouts[instance];
    for (path, value) in f.weights().chain(f.states()) {
        let path = join_path(scope, path);
        let (dtype, shape) = (f.ty(value).dtype, &own.shapes[value.index()]);
        space.place(&path, dtype, shape).map_err(|placed| PlanError::Persistent {
            function: f.name.clone(),
            path: path.clone(),
            placed: format!("{}{:?}", placed.dtype, placed.shape),
            declared: format!("{dtype}{shape:?}"),
        })?;
    }
    for (at, (callee, _)) in &own.calls {
        if let Op::Call(call) = &f.nodes[*at].op {
            place_persistent(module, layouts, space, callee, &join_path(scope, &call.scope))?;
        }
    }
    Ok(())
}

/// The plan of a function whose weights and state are placed.
fn make(
    module: &Module,
    layouts: &BTreeMap<Instance, Layout>,
    space: &AddressSpace,
    instance: &Instance,
) -> Result<Plan, PlanError> {
    let mut maker = Maker { module, layouts, space, launches: Vec::new(), flops: 0 };
    let f = module.function(instance.0);
    let own = &layouts[instance];
    let frame_start = space.len();
    let mut at = frame_start;
    let mut block = |value: ValueId| {
        let shape = own.shapes[value.index()].clone();
        let dtype = f.ty(value).dtype;
        let region = Region { start: at, len: tensor_words(dtype, &shape) };
        at += words_for(region.len);
        View { region, dtype, shape }
    };
    let name = |v: ValueId| f.value(v).name.clone().unwrap_or_else(|| v.0.to_string());
    let inputs: Vec<(String, View)> = f.inputs().map(|v| (name(v), block(v))).collect();
    let outputs: Vec<(String, View)> =
        f.outputs().map(|(name, v)| (name.to_string(), block(v))).collect();
    let regions = |views: &[(String, View)]| views.iter().map(|(_, v)| v.region).collect();
    let frame = Frame { base: at, inputs: regions(&inputs), outputs: regions(&outputs), scope: "" };
    maker.instantiate(instance, &frame)?;
    Ok(Plan {
        launches: maker.launches,
        inputs,
        outputs,
        frame_start,
        frame_words: at + own.frame_words - frame_start,
        flops: maker.flops,
    })
}

/// What a call gives its callee.
struct Frame<'a> {
    base: usize,
    inputs: Vec<Region>,
    outputs: Vec<Region>,
    scope: &'a str,
}

struct Maker<'a> {
    module: &'a Module,
    layouts: &'a BTreeMap<Instance, Layout>,
    space: &'a AddressSpace,
    launches: Vec<Launch>,
    flops: i128,
}

impl Maker<'_> {
    fn instantiate(&mut self, instance: &Instance, frame: &Frame) -> Result<(), PlanError> {
        let (module, layouts) = (self.module, self.layouts);
        let f = module.function(instance.0);
        let own = &layouts[instance];
        let space = self.space;
        let region = |place: &Place, len: usize| match place {
            Place::Input(i) => frame.inputs[*i],
            Place::Output(i) => frame.outputs[*i],
            Place::Frame(offset) => Region { start: frame.base + offset, len },
            // Placed by `place_persistent`, which walks the same calls.
            Place::Persistent(path) => space
                .get(&join_path(frame.scope, path))
                .map_or(Region { start: 0, len: 0 }, |view| view.region),
        };
        let view = |value: ValueId| {
            let shape = own.shapes[value.index()].clone();
            let dtype = f.ty(value).dtype;
            let region = region(&own.places[value.index()], tensor_words(dtype, &shape));
            View { region, dtype, shape }
        };
        let mut launches = std::mem::take(&mut self.launches);
        let mut flops = 0i128;
        let mut pending = Vec::new();
        for (at, node) in f.nodes.iter().enumerate() {
            let operands: Vec<View> = node.operands.iter().map(|v| view(*v)).collect();
            let results: Vec<View> = node.results.iter().map(|v| view(*v)).collect();
            let origin = (instance.0, at, frame.scope.to_string());
            if let Some((callee, offset)) = own.calls.get(&at) {
                let Op::Call(call) = &node.op else { continue };
                let scope = join_path(frame.scope, &call.scope);
                pending.push((
                    launches.len(),
                    callee.clone(),
                    frame.base + offset,
                    operands.iter().map(|v| v.region).collect::<Vec<_>>(),
                    results.iter().map(|v| v.region).collect::<Vec<_>>(),
                    scope,
                ));
                continue;
            }
            // FLOPs of the node that defines a value and is no launch of its own.
            let absorbed = |value: ValueId| match f.value(value).def {
                ValueDef::Node { node, .. } => {
                    let node = &f.nodes[node.index()];
                    let views = |values: &[ValueId]| -> Vec<View> {
                        values.iter().map(|v| view(*v)).collect()
                    };
                    work(&node.op, &views(&node.operands), &views(&node.results)).flops
                }
                ValueDef::Param(_) => 0,
            };
            let mut launch = |launches: &mut Vec<Launch>,
                              (kernel, why): (Kernel, Why),
                              operands: Vec<View>,
                              results: Vec<View>,
                              more: i128| {
                let mut work = work(&node.op, &operands, &results);
                work.flops += more;
                flops += work.flops;
                launches.push(Launch {
                    kernel,
                    op: node.op.map_dims(&|dim| dim.bind(&instance.1)),
                    operands,
                    results,
                    origin: origin.clone(),
                    work,
                    why,
                });
            };
            match own.fusions.get(&at) {
                Some(Fusion::Skip) => continue,
                Some(Fusion::Scale { x, scalar }) => {
                    let chosen = (Kernel::Scale, Why::ScalarFactor);
                    launch(&mut launches, chosen, vec![view(*x), view(*scalar)], results, 0);
                    continue;
                }
                Some(Fusion::ScaledStep { g, scalar }) => {
                    let more = absorbed(node.operands[1]);
                    let mut operands = operands;
                    operands[1] = view(*g);
                    operands.push(view(*scalar));
                    let chosen = (Kernel::ScaledStep, Why::StepScales);
                    launch(&mut launches, chosen, operands, results, more);
                    continue;
                }
                Some(Fusion::NormGrad { sum, .. }) => {
                    let results = vec![results[0].clone(), view(*sum)];
                    let chosen = (Kernel::NormGrad, Why::NormSums);
                    launch(&mut launches, chosen, operands, results, absorbed(*sum));
                    continue;
                }
                None => {}
            }
            if operands.first().map(|v| v.region) == results.first().map(|v| v.region)
                && matches!(node.op, Op::Reshape(_))
            {
                continue;
            }
            let chosen = select(&node.op, &operands, &results);
            // An accumulator that is not state is copied to the result first.
            if let Some((acc, sum)) = accumulator(&node.op, operands.len())
                && operands[acc].region != results[sum].region
                && chosen.0 != Kernel::Evaluate
            {
                let (from, to) = (operands[acc].clone(), &results[sum]);
                launches.push(copy(&from, to, origin.clone(), Why::AccumulatorCopied));
            }
            launch(&mut launches, chosen, operands, results, 0);
        }
        let mut written: Vec<Region> = Vec::new();
        for (value, place, why) in &own.copies {
            let from = view(*value);
            if written.iter().any(|w| w.overlaps(&from.region)) {
                return Err(PlanError::Overlap { function: f.name.clone() });
            }
            let to = View { region: region(place, from.region.len), ..from.clone() };
            written.push(to.region);
            let origin = (instance.0, f.nodes.len(), frame.scope.to_string());
            launches.push(copy(&from, &to, origin, *why));
        }
        // Splice the callees' launches in where their calls stand.
        let tail = |launches: &mut Vec<Launch>, at: usize| launches.split_off(at);
        let mut rest = Vec::new();
        for (at, ..) in pending.iter().rev() {
            rest.push(tail(&mut launches, *at));
        }
        self.launches = launches;
        for (_, callee, base, inputs, outputs, scope) in pending {
            let frame = Frame { base, inputs, outputs, scope: &scope };
            self.instantiate(&callee, &frame)?;
            self.launches.append(&mut rest.pop().unwrap_or_default());
        }
        self.flops += flops;
        Ok(())
    }
}

fn copy(from: &View, to: &View, origin: (FuncId, usize, String), why: Why) -> Launch {
    let op = Op::Reshape(llmc_ir::ops::Reshape { dims: Vec::new() });
    let (operands, results) =
        (vec![from.clone()], vec![View { region: to.region, ..from.clone() }]);
    let work = work(&op, &operands, &results);
    Launch { kernel: Kernel::Copy, op, operands, results, origin, work, why }
}

/// What one launch costs, from the op's own account; bytes that it does not name are those of its views.
pub(crate) fn work(op: &Op, operands: &[View], results: &[View]) -> LaunchWork {
    let types = |views: &[View]| -> Vec<TensorType> {
        views.iter().map(|v| TensorType::new(v.dtype, v.shape.iter().copied())).collect()
    };
    let (operands, results) = (types(operands), types(results));
    let cost = op.cost(&operands, &results);
    let value = |e: &Expr| e.as_constant().unwrap_or(0);
    let bytes = |named: i128, types: &[TensorType]| match named {
        0 => types.iter().map(|ty| value(&llmc_ir::account::bytes(ty))).sum(),
        named => named,
    };
    LaunchWork {
        flops: value(&cost.flops),
        bytes: bytes(value(&cost.bytes_read), &operands)
            + bytes(value(&cost.bytes_written), &results),
    }
}
