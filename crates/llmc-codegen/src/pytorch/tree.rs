//! The tree of submodules that gives the weights of a function their names.
//!
//! A weight path `attention.q.weight` is the attribute `weight` of the module `q` of the module
//! `attention`. Where one op uses all weights of a module as `nn.Linear`, `nn.Embedding`,
//! `nn.RMSNorm` or `nn.LayerNorm` would, the module is one of these. Numbered modules are a
//! `ModuleList`; names that are no identifiers are keys of a `ModuleDict`.

use super::EmitError;
use crate::python::{is_identifier, string};
use llmc_ir::ops::{LayerNorm, RmsNorm};
use llmc_ir::{Function, Module, Node, Op, ParamRole, TensorType, ValueDef, ValueId};
use std::collections::BTreeMap;

/// A module of `torch.nn` that holds the weights of one op.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaf {
    /// `nn.Linear`: weight [out, in].
    Linear {
        /// Type of the weight.
        weight: TensorType,
        /// Whether it has a bias.
        has_bias: bool,
    },
    /// `nn.Embedding`: weight [rows, width].
    Embedding {
        /// Type of the weight.
        weight: TensorType,
    },
    /// `nn.RMSNorm` over the last axis.
    RmsNorm {
        /// Type of the weight.
        weight: TensorType,
        /// Its epsilon.
        eps: f64,
    },
    /// `nn.LayerNorm` over the last axis.
    LayerNorm {
        /// Type of the weight.
        weight: TensorType,
        /// Its epsilon.
        eps: f64,
        /// Whether it has a bias.
        has_bias: bool,
    },
}

/// What stands at a place of the tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A module that only holds others.
    Container,
    /// A module of `torch.nn`.
    Leaf(Leaf),
    /// An instance of the class of a function.
    Instance(String),
    /// A parameter of its own.
    Parameter(TensorType),
}

/// A place of the tree with what is below it, in order of appearance.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// What stands here.
    pub item: Item,
    /// Name and place.
    pub children: Vec<(String, Tree)>,
}

/// How children of a container are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `parent.name`.
    Attribute,
    /// `parent[0]`.
    List,
    /// `parent["name"]`.
    Dict,
}

impl Tree {
    fn new(item: Item) -> Self {
        Tree { item, children: Vec::new() }
    }

    /// The tree of a function: its weights and the functions with weights that it calls.
    ///
    /// Errors: [`EmitError::Path`] where two things would stand at one place.
    pub fn of(module: &Module, function: &Function) -> Result<Tree, EmitError> {
        let mut root = Tree::new(Item::Container);
        let leaves = leaves(function);
        for node in &function.nodes {
            for value in &node.operands {
                if let Some(path) = weight_path(function, *value) {
                    root.add_weight(function, path, *value, &leaves)?;
                }
            }
            if let Op::Call(call) = &node.op
                && has_weights(module, &call.callee)
            {
                if call.scope.is_empty() {
                    return Err(EmitError::Scope {
                        function: function.name.clone(),
                        callee: call.callee.clone(),
                    });
                }
                root.insert(&call.scope, Item::Instance(call.callee.clone()))?;
            }
        }
        for (path, value) in function.weights() {
            root.add_weight(function, path, value, &leaves)?;
        }
        Ok(root)
    }

    fn add_weight(
        &mut self,
        function: &Function,
        path: &str,
        value: ValueId,
        leaves: &BTreeMap<String, Leaf>,
    ) -> Result<(), EmitError> {
        match path.rsplit_once('.').and_then(|(owner, _)| leaves.get_key_value(owner)) {
            Some((owner, leaf)) => self.insert(owner, Item::Leaf(leaf.clone())),
            None => self.insert(path, Item::Parameter(function.ty(value).clone())),
        }
    }

    fn insert(&mut self, path: &str, item: Item) -> Result<(), EmitError> {
        let mut place = self;
        for (depth, name) in path.split('.').enumerate() {
            let is_attribute = depth > 0 || is_identifier(name);
            if name.is_empty() || RESERVED.contains(&name) || !is_attribute {
                return Err(EmitError::Path { path: path.to_string(), name: name.to_string() });
            }
            let at = place.children.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
                place.children.push((name.to_string(), Tree::new(Item::Container)));
                place.children.len() - 1
            });
            place = &mut place.children[at].1;
        }
        if place.item == Item::Container {
            place.item = item;
        } else if place.item != item {
            let name = path.rsplit('.').next().unwrap_or_default().to_string();
            return Err(EmitError::Path { path: path.to_string(), name });
        }
        Ok(())
    }

    /// How the children of this place are reached.
    pub fn access(&self) -> Access {
        let is_numbered = (0..self.children.len())
            .all(|i| self.children.iter().any(|(name, _)| *name == i.to_string()));
        if self.item == Item::Container && is_numbered {
            Access::List
        } else if self.children.iter().all(|(name, _)| is_identifier(name)) {
            Access::Attribute
        } else {
            Access::Dict
        }
    }

    /// The place of this path.
    pub fn get(&self, path: &str) -> Option<&Tree> {
        path.split('.').try_fold(self, |place, name| {
            place.children.iter().find(|(n, _)| n == name).map(|(_, child)| child)
        })
    }

    /// The expression for what stands at `path` below `self`.
    pub fn reach(&self, path: &str) -> String {
        let mut text = "self".to_string();
        let mut place = Some(self);
        for name in path.split('.') {
            text.push_str(&step(place.map_or(Access::Attribute, Tree::access), name));
            let below = |tree: &'_ Tree| tree.children.iter().position(|(n, _)| n == name);
            place = place.and_then(|tree| below(tree).map(|at| &tree.children[at].1));
        }
        text
    }
}

/// `.name`, `[0]` or `["name"]`.
pub fn step(access: Access, name: &str) -> String {
    match access {
        Access::Attribute => format!(".{name}"),
        Access::List => format!("[{name}]"),
        Access::Dict => format!("[{}]", string(name)),
    }
}

/// The path of a value that is a weight.
pub fn weight_path(function: &Function, value: ValueId) -> Option<&str> {
    match function.value(value).def {
        ValueDef::Param(index) => match &function.params[index].role {
            ParamRole::Weight(path) => Some(path),
            _ => None,
        },
        ValueDef::Node { .. } => None,
    }
}

/// Whether a function or one that it calls has weights.
pub fn has_weights(module: &Module, name: &str) -> bool {
    let Some(id) = module.find(name) else { return false };
    let function = module.function(id);
    let calls = |n: &Node| matches!(&n.op, Op::Call(call) if has_weights(module, &call.callee));
    function.weights().next().is_some() || function.nodes.iter().any(calls)
}

/// The leaf that a node uses, with the path of the module.
pub fn leaf_of(function: &Function, node: &Node) -> Option<(String, Leaf)> {
    let weight_at = |i: usize| node.operands.get(i).copied();
    let (weight, bias) = match &node.op {
        Op::Embedding(_) => (weight_at(0)?, None),
        Op::Linear(_) | Op::LayerNorm(_) => (weight_at(1)?, weight_at(2)),
        Op::RmsNorm(_) => (weight_at(1)?, None),
        _ => return None,
    };
    let owner = weight_path(function, weight)?.strip_suffix(".weight")?;
    let has_bias = bias.is_some();
    if let Some(bias) = bias
        && weight_path(function, bias) != Some(format!("{owner}.bias").as_str())
    {
        return None;
    }
    let weight = function.ty(weight).clone();
    let leaf = match &node.op {
        Op::Embedding(_) => Leaf::Embedding { weight },
        Op::Linear(_) => Leaf::Linear { weight, has_bias },
        Op::RmsNorm(RmsNorm { eps }) => Leaf::RmsNorm { weight, eps: *eps },
        Op::LayerNorm(LayerNorm { eps }) => Leaf::LayerNorm { weight, eps: *eps, has_bias },
        _ => return None,
    };
    Some((owner.to_string(), leaf))
}

/// The modules of a function that are leaves: the first op that fits decides.
pub fn leaves(function: &Function) -> BTreeMap<String, Leaf> {
    let mut out = BTreeMap::new();
    for (owner, leaf) in function.nodes.iter().filter_map(|node| leaf_of(function, node)) {
        let has_bias = match &leaf {
            Leaf::Linear { has_bias, .. } | Leaf::LayerNorm { has_bias, .. } => *has_bias,
            Leaf::Embedding { .. } | Leaf::RmsNorm { .. } => false,
        };
        let below = format!("{owner}.");
        let n_weights = function.weights().filter(|(path, _)| path.starts_with(&below)).count();
        if n_weights == 1 + usize::from(has_bias) {
            out.entry(owner).or_insert(leaf);
        }
    }
    out
}

/// Public names of `nn.Module`, which no submodule may take.
const RESERVED: [&str; 54] = [
    "T_destination",
    "add_module",
    "apply",
    "bfloat16",
    "buffers",
    "call_super_init",
    "children",
    "compile",
    "cpu",
    "cuda",
    "double",
    "dump_patches",
    "eval",
    "extra_repr",
    "float",
    "forward",
    "get_buffer",
    "get_extra_state",
    "get_parameter",
    "get_submodule",
    "half",
    "ipu",
    "load_state_dict",
    "modules",
    "mtia",
    "named_buffers",
    "named_children",
    "named_modules",
    "named_parameters",
    "parameters",
    "register_backward_hook",
    "register_buffer",
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook",
    "register_module",
    "register_parameter",
    "register_state_dict_post_hook",
    "register_state_dict_pre_hook",
    "requires_grad_",
    "set_extra_state",
    "set_submodule",
    "share_memory",
    "state_dict",
    "to",
    "to_empty",
    "train",
    "training",
    "type",
    "xpu",
    "zero_grad",
];
