//! The layout of one function for concrete dims: which values share storage,
//! and the offsets of the rest in the function's frame.

use crate::fuse::{Fusion, fusions};
use crate::plan::PlanError;
use crate::space::{concrete, tensor_words, words_for};
use crate::why::{Declined, Storage, Why};
use llmc_base::expr::Env;
use llmc_ir::ops::unify;
use llmc_ir::{FuncId, Function, Module, Op, ParamRole, ResultRole, TensorType, ValueId};
use std::collections::BTreeMap;

/// Where a value lives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    /// The caller's region for input `i`.
    Input(usize),
    /// The caller's region for output `i`.
    Output(usize),
    /// Persistent, by relative path.
    Persistent(String),
    /// Words from the start of the function's frame.
    Frame(usize),
}

/// Values, where they are to be copied to, and why.
pub(crate) type Copies = Vec<(ValueId, Place, Why)>;

/// A callee for concrete dims.
pub(crate) type Instance = (FuncId, Env);

/// One function for concrete dims.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Shape of every value.
    pub shapes: Vec<Vec<usize>>,
    /// Place of every value.
    pub places: Vec<Place>,
    /// Per node that is a call: the callee and the start of its frame within ours.
    pub calls: BTreeMap<usize, (Instance, usize)>,
    /// Nodes that run as one launch.
    pub fusions: BTreeMap<usize, Fusion>,
    /// By node what could be part of another launch and is not.
    pub declined: BTreeMap<usize, Declined>,
    /// Why every value is where it is.
    pub storage: Vec<Storage>,
    /// Values to copy at the end: (value, destination, why).
    pub copies: Copies,
    /// Words of the frame, callees' frames included.
    pub frame_words: usize,
}

/// The operand that a result continues in place, and that result, if the op has one: accumulators
/// of token sums and updated buffers.
pub(crate) fn accumulator(op: &Op, n_operands: usize) -> Option<(usize, usize)> {
    match op {
        Op::LinearWeightGrad(_) | Op::EmbeddingGrad(_) | Op::Dot(_) if n_operands == 3 => {
            Some((2, 0))
        }
        Op::BiasGrad(_) | Op::Reduce(_) if n_operands == 2 => Some((1, 0)),
        Op::ScatterAdd(_) | Op::UpdateSlice(_) => Some((0, 0)),
        Op::LinearCrossEntropyGrad(_) if n_operands == 6 => Some((5, 2)),
        _ => None,
    }
}

/// (operand, result) pairs that share storage when the operand is state.
fn in_place_pairs(op: &Op, n_operands: usize) -> Vec<(usize, usize)> {
    match op {
        Op::AdamwStep(_) => vec![(0, 0), (2, 1), (3, 2)],
        Op::SgdStep(_) | Op::LionStep(_) => vec![(0, 0), (2, 1)],
        _ => accumulator(op, n_operands).into_iter().collect(),
    }
}

/// Lays out one function. `layouts` holds the callees' layouts and gains them as needed.
pub(crate) fn layout(
    module: &Module,
    instance: &Instance,
    layouts: &mut BTreeMap<Instance, Layout>,
) -> Result<(), PlanError> {
    if layouts.contains_key(instance) {
        return Ok(());
    }
    let (id, env) = instance;
    let f = module.function(*id);
    let fail = |message: String| PlanError::Type { function: f.name.clone(), message };
    let mut shapes = Vec::with_capacity(f.values.len());
    for value in &f.values {
        shapes.push(concrete(&value.ty.bind(env)).map_err(fail)?);
    }
    let (fusions, declined) = fusions(f);
    let (roots, mut storage) = storage_roots(f, &fusions);
    let mut calls = BTreeMap::new();
    for (at, node) in f.nodes.iter().enumerate() {
        if let Op::Call(call) = &node.op {
            let callee = module
                .find(&call.callee)
                .ok_or_else(|| fail(format!("no function `@{}`", call.callee)))?;
            let env = call_env(module, callee, f, &node.operands, env).map_err(fail)?;
            let instance = (callee, env);
            layout(module, &instance, layouts)?;
            calls.insert(at, (instance, 0));
        } else if matches!(node.op, Op::If(_) | Op::While(_) | Op::Scan(_)) {
            return Err(PlanError::Region { function: f.name.clone(), op: node.op.name() });
        }
    }
    let (mut places, copies) = fixed_places(f, &fusions, &roots, &mut storage);
    let packing = Packing { f, fusions: &fusions, roots: &roots, shapes: &shapes, layouts };
    let frame_words = pack(&packing, &mut places, &mut calls, &mut storage);
    let places =
        (0..f.values.len()).map(|v| places[roots[v]].clone().unwrap_or(Place::Frame(0))).collect();
    let layout = Layout { shapes, places, calls, fusions, declined, storage, copies, frame_words };
    layouts.insert(instance.clone(), layout);
    Ok(())
}

/// The callee's dims at a call.
fn call_env(
    module: &Module,
    callee: FuncId,
    caller: &Function,
    operands: &[ValueId],
    env: &Env,
) -> Result<Env, String> {
    let function = module.function(callee);
    let expected: Vec<TensorType> = function.inputs().map(|v| function.ty(v).clone()).collect();
    let actual: Vec<TensorType> = operands.iter().map(|v| caller.ty(*v).bind(env)).collect();
    // A symbol that only the callee's state has means the caller's symbol of that name.
    let mut dims = env.clone();
    for (symbol, expr) in unify(&expected, &actual).map_err(|e| e.to_string())? {
        let value = expr.as_constant().ok_or_else(|| format!("dim `{symbol}` is unbound"))?;
        dims.insert(symbol, value);
    }
    Ok(dims)
}

/// For each value, the value whose storage it uses, and why. Reshapes look at their operand's storage;
/// accumulating ops continue their state in place. What has its own storage counts as never in memory yet.
fn storage_roots(f: &Function, fusions: &BTreeMap<usize, Fusion>) -> (Vec<usize>, Vec<Storage>) {
    let mut roots: Vec<usize> = (0..f.values.len()).collect();
    let mut storage = vec![Storage::Absorbed; f.values.len()];
    let is_state = |root: usize| {
        f.params.iter().any(|p| p.value.index() == root && matches!(p.role, ParamRole::State(_)))
    };
    for (at, node) in f.nodes.iter().enumerate() {
        if let (Op::Binary(_), Some(Fusion::Skip)) = (&node.op, fusions.get(&at)) {
            // The product that an optimiser step takes over: never written.
            continue;
        }
        if let Op::Reshape(_) = node.op {
            roots[node.results[0].index()] = roots[node.operands[0].index()];
            storage[node.results[0].index()] = Storage::View(node.operands[0]);
        }
        for (operand, result) in in_place_pairs(&node.op, node.operands.len()) {
            let root = roots[node.operands[operand].index()];
            if is_state(root) {
                roots[node.results[result].index()] = root;
                storage[node.results[result].index()] = Storage::InPlace(ValueId(root as u32));
            }
        }
    }
    (roots, storage)
}

/// Places that the signature decides, by root (`None`: in the frame, not packed yet), and the
/// copies that the rest of the results need.
fn fixed_places(
    f: &Function,
    fusions: &BTreeMap<usize, Fusion>,
    roots: &[usize],
    storage: &mut [Storage],
) -> (Vec<Option<Place>>, Copies) {
    let mut places = vec![None; f.values.len()];
    let mut n_inputs = 0;
    for param in &f.params {
        storage[param.value.index()] = Storage::Parameter;
        places[param.value.index()] = Some(match &param.role {
            ParamRole::Input => {
                n_inputs += 1;
                Place::Input(n_inputs - 1)
            }
            ParamRole::Weight(path) | ParamRole::State(path) => Place::Persistent(path.clone()),
        });
    }
    // Node that defines and node that last touches each root.
    let mut defined = vec![0; f.values.len()];
    let mut touched = vec![0; f.values.len()];
    for (at, node) in f.nodes.iter().enumerate() {
        node.results.iter().for_each(|v| defined[v.index()] = at);
        node.operands.iter().chain(&node.results).for_each(|v| touched[roots[v.index()]] = at);
        if let Some(Fusion::ScaledStep { g, scalar } | Fusion::Scale { x: g, scalar }) =
            fusions.get(&at)
        {
            [g, scalar].into_iter().for_each(|v| touched[roots[v.index()]] = at);
        }
    }
    let state_root = |path: &str| f.states().find(|(p, _)| *p == path).map(|(_, v)| v.index());
    let mut copies = Vec::new();
    let mut n_outputs = 0;
    for result in &f.results {
        let root = roots[result.value.index()];
        let wanted = match &result.role {
            ResultRole::Output(_) => {
                n_outputs += 1;
                Place::Output(n_outputs - 1)
            }
            ResultRole::State(path) => Place::Persistent(path.clone()),
        };
        match &places[root] {
            None => {
                // A state's successor is built in its place if the old value is done with by then.
                let is_free = match &wanted {
                    Place::Persistent(path) => {
                        state_root(path).is_some_and(|s| touched[s] < defined[root])
                    }
                    _ => true,
                };
                if is_free {
                    places[root] = Some(wanted);
                    storage[root] = Storage::Result;
                } else {
                    copies.push((result.value, wanted, Why::StateStillRead));
                }
            }
            Some(place) if *place == wanted => {}
            _ => copies.push((result.value, wanted, Why::ResultElsewhere)),
        }
    }
    (places, copies)
}

/// What is packed into a frame.
struct Packing<'a> {
    f: &'a Function,
    fusions: &'a BTreeMap<usize, Fusion>,
    roots: &'a [usize],
    shapes: &'a [Vec<usize>],
    layouts: &'a BTreeMap<Instance, Layout>,
}

/// Packs what is left into the frame: first fit by liveness, large and early first. Returns the
/// words of the frame.
fn pack(
    &Packing { f, fusions, roots, shapes, layouts }: &Packing,
    places: &mut [Option<Place>],
    calls: &mut BTreeMap<usize, (Instance, usize)>,
    storage: &mut [Storage],
) -> usize {
    // First and last node at which each root is alive; results stay to the end.
    let mut life: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut touch = |value: ValueId, at: usize| {
        let slot = life.entry(roots[value.index()]).or_insert((at, at));
        slot.1 = at;
    };
    for (at, node) in f.nodes.iter().enumerate() {
        match fusions.get(&at) {
            Some(Fusion::Skip) => continue,
            Some(Fusion::Scale { x, scalar }) => {
                [*x, *scalar].into_iter().chain(node.results.clone()).for_each(|v| touch(v, at));
                continue;
            }
            Some(Fusion::ScaledStep { g, scalar }) => {
                [*g, *scalar].into_iter().for_each(|v| touch(v, at));
            }
            Some(Fusion::NormGrad { .. }) => {
                // The weight rows are never written.
                node.operands.iter().chain(&node.results[..1]).for_each(|v| touch(*v, at));
                continue;
            }
            None => {}
        }
        let skipped = |v: &ValueId| match f.value(*v).def {
            llmc_ir::ValueDef::Node { node, .. } => {
                fusions.get(&node.index()) == Some(&Fusion::Skip)
                    && !matches!(f.nodes[node.index()].op, Op::BiasGrad(_))
            }
            llmc_ir::ValueDef::Param(_) => false,
        };
        let used = node.operands.iter().chain(&node.results).filter(|v| !skipped(v));
        used.for_each(|v| touch(*v, at));
    }
    f.results.iter().for_each(|r| touch(r.value, f.nodes.len()));

    enum Owner {
        Root(usize),
        Callee(usize),
    }
    let mut blocks: Vec<(usize, (usize, usize), Owner)> = Vec::new();
    for (root, life) in &life {
        if places[*root].is_none() {
            let dtype = f.values[*root].ty.dtype;
            let words = words_for(tensor_words(dtype, &shapes[*root]));
            storage[*root] = Storage::Frame { first: life.0, last: life.1 };
            blocks.push((words, *life, Owner::Root(*root)));
        }
    }
    for (at, (instance, _)) in calls.iter() {
        let words = layouts.get(instance).map_or(0, |l| l.frame_words);
        if words > 0 {
            blocks.push((words, (*at, *at), Owner::Callee(*at)));
        }
    }
    // Stable: equal sizes keep the order of definition.
    blocks.sort_by_key(|(words, life, _)| (std::cmp::Reverse(*words), life.0));

    let mut placed: Vec<(usize, usize, (usize, usize))> = Vec::new();
    let mut frame_words = 0;
    for (words, life, owner) in blocks {
        // `placed` is sorted by offset: take the first gap among the blocks alive with this one.
        let mut offset = 0;
        for (start, len, other) in &placed {
            if life.0 <= other.1 && other.0 <= life.1 {
                if offset + words <= *start {
                    break;
                }
                offset = offset.max(start + len);
            }
        }
        let at = placed.partition_point(|(start, ..)| *start <= offset);
        placed.insert(at, (offset, words, life));
        frame_words = frame_words.max(offset + words);
        match owner {
            Owner::Root(root) => places[root] = Some(Place::Frame(offset)),
            Owner::Callee(at) => {
                if let Some(call) = calls.get_mut(&at) {
                    call.1 = offset;
                }
            }
        }
    }
    frame_words
}
