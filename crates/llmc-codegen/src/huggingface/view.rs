//! A module read across calls: a value is followed to the node that computes it, whatever
//! function that stands in, with weight paths made absolute.

use llmc_base::expr::Env;
use llmc_ir::module::join_path;
use llmc_ir::{FuncId, Function, Module, Node, Op, ParamRole, TensorType, ValueDef, ValueId};
use std::collections::BTreeMap;

/// A value of one call of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    frame: usize,
    value: ValueId,
}

/// What a value is.
pub enum Source<'m> {
    /// A result of a node that is no call.
    Node(&'m Node, Vec<Place>),
    /// A weight, by absolute path.
    Weight(String),
    /// An input of the entry, by its index.
    Input(usize),
    /// A state parameter of the entry.
    State,
}

struct Frame<'m> {
    function: &'m Function,
    scope: String,
    arguments: Vec<Place>,
}

/// The view of a module from one entry function.
pub struct View<'m> {
    module: &'m Module,
    dims: &'m Env,
    frames: Vec<Frame<'m>>,
    /// The frame of each call met so far.
    calls: BTreeMap<(usize, ValueId), usize>,
}

impl<'m> View<'m> {
    /// The view from `entry`; dims are bound by `dims`.
    pub fn new(module: &'m Module, entry: FuncId, dims: &'m Env) -> Self {
        let function = module.function(entry);
        let frame = Frame { function, scope: String::new(), arguments: Vec::new() };
        View { module, dims, frames: vec![frame], calls: BTreeMap::new() }
    }

    /// A value of the entry function.
    pub fn entry(&self, value: ValueId) -> Place {
        Place { frame: 0, value }
    }

    /// The place where a value is computed: through arguments to the caller, through calls to
    /// the callee. Two values are the same if this is.
    pub fn resolve(&mut self, place: Place) -> Place {
        let mut place = place;
        loop {
            let frame = &self.frames[place.frame];
            let function = frame.function;
            place = match function.value(place.value).def {
                ValueDef::Param(index) => match (&function.params[index].role, place.frame) {
                    (ParamRole::Input, 1..) => {
                        let position = function.inputs().position(|v| v == place.value);
                        match position.and_then(|i| frame.arguments.get(i)) {
                            Some(argument) => *argument,
                            None => return place,
                        }
                    }
                    _ => return place,
                },
                ValueDef::Node { node, index } => match &function.nodes[node.index()].op {
                    Op::Call(call) => match self.enter(place.frame, node.index(), &call.callee) {
                        Some(callee) => {
                            let output = self.frames[callee].function.outputs().nth(index);
                            match output {
                                Some((_, value)) => Place { frame: callee, value },
                                None => return place,
                            }
                        }
                        None => return place,
                    },
                    _ => return place,
                },
            };
        }
    }

    fn enter(&mut self, frame: usize, node: usize, callee: &str) -> Option<usize> {
        let function = self.frames[frame].function;
        let node = &function.nodes[node];
        let key = (frame, *node.results.first()?);
        if let Some(found) = self.calls.get(&key) {
            return Some(*found);
        }
        let scope = match &node.op {
            Op::Call(call) => join_path(&self.frames[frame].scope, &call.scope),
            _ => return None,
        };
        let callee = self.module.function(self.module.find(callee)?);
        let arguments = node.operands.iter().map(|v| Place { frame, value: *v }).collect();
        self.frames.push(Frame { function: callee, scope, arguments });
        self.calls.insert(key, self.frames.len() - 1);
        Some(self.frames.len() - 1)
    }

    /// What a value is, after [`View::resolve`].
    pub fn source(&mut self, place: Place) -> Source<'m> {
        let place = self.resolve(place);
        let frame = &self.frames[place.frame];
        let function = frame.function;
        match function.value(place.value).def {
            ValueDef::Param(index) => match &function.params[index].role {
                ParamRole::Weight(path) => Source::Weight(join_path(&frame.scope, path)),
                ParamRole::State(_) => Source::State,
                ParamRole::Input => {
                    Source::Input(function.inputs().position(|v| v == place.value).unwrap_or(0))
                }
            },
            ValueDef::Node { node, .. } => {
                let node = &function.nodes[node.index()];
                let operands =
                    node.operands.iter().map(|v| Place { frame: place.frame, value: *v }).collect();
                Source::Node(node, operands)
            }
        }
    }

    /// The type of a value, with the dims of the model as numbers.
    pub fn ty(&self, place: Place) -> TensorType {
        self.frames[place.frame].function.ty(place.value).bind(self.dims)
    }

    /// The op of a value and where it comes from, for messages.
    pub fn describe(&mut self, place: Place) -> String {
        match self.source(place) {
            Source::Node(node, _) => {
                let origin = self.module.origins.get(node.origin.index());
                match origin.filter(|o| !o.is_empty()) {
                    Some(origin) => format!("`{}` (from `{origin}`)", node.op.name()),
                    None => format!("`{}`", node.op.name()),
                }
            }
            Source::Weight(path) => format!("weight `{path}`"),
            Source::Input(index) => {
                let function = self.frames[0].function;
                let value = function.inputs().nth(index).map(|v| function.value(v));
                let name = value.and_then(|v| v.name.as_deref()).unwrap_or("?");
                format!("input `{name}`")
            }
            Source::State => "state".to_string(),
        }
    }
}
