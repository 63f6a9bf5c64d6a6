//! Weights in narrow formats for inference: linear maps and embeddings by f32 matrices become packed or
//! quantised ones.
//!
//! A matrix changes where every function that declares its path only multiplies by it or takes rows
//! of it. Everything else stays f32: norms, biases, and what is computed with. The 4-bit formats keep the
//! matrices of the functions that nobody calls, the embedding and the head, in 8 bits: they see
//! every token, and their share of the bytes is small. Matrices whose rows are not whole blocks of 32
//! become bf16 instead.

use crate::rebuild::Rebuild;
use crate::{each_function, type_error};
use llmc_base::{Decision, Diagnostic};
use llmc_ir::ops::{
    GroupQuantizedLinear, Linear, PackedEmbedding, PackedLinear, QuantizedEmbedding,
    QuantizedLinear,
};
use llmc_ir::{DType, Function, Module, Op, ParamRole, TensorType, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// How the weights of linear maps and embeddings are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum WeightFormat {
    /// As trained.
    #[default]
    F32,
    /// Rounded to bf16; computed with as f32.
    Bf16,
    /// 8 bits and a scale per 32 weights: 8.5 bits per weight.
    Q8,
    /// 4 bits and a scale per 32 weights: 4.5 bits per weight; embedding and head as [`WeightFormat::Q8`].
    Q4,
    /// 4 bits, and 6-bit scales and minima of blocks of 32 in super-blocks of 256: 4.625 bits per weight; embedding and
    /// head as [`WeightFormat::Q8`].
    Q4K,
    /// 4 bits, and an f16 scale and minimum per group of so many weights: 5 bits per weight for 32, 4.5 for 64, 4.25
    /// for 128; embedding and head as [`WeightFormat::Q8`].
    Int4(usize),
}

impl WeightFormat {
    /// Every format with its name.
    pub const ALL: [(WeightFormat, &'static str); 8] = [
        (WeightFormat::F32, "f32"),
        (WeightFormat::Bf16, "bf16"),
        (WeightFormat::Q8, "q8_0"),
        (WeightFormat::Q4, "q4_0"),
        (WeightFormat::Q4K, "q4_k"),
        (WeightFormat::Int4(32), "int4_32"),
        (WeightFormat::Int4(64), "int4"),
        (WeightFormat::Int4(128), "int4_128"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(format, _)| *format == self).map_or("?", |(_, name)| name)
    }

    /// The format of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(format, _)| *format)
    }
}

/// What is appended to the path of a quantised weight for its scales.
pub const SCALE: &str = "_scale";
/// What is appended to the path of a weight in groups for their minima.
pub const MIN: &str = "_min";
/// What is appended to the path of a weight in super-blocks for the factors of their scales.
pub const SUPER_SCALE: &str = "_super_scale";
/// What is appended to the path of a weight in super-blocks for the factors of their minima.
pub const SUPER_MIN: &str = "_super_min";

/// Rows of a panel, as the ops have it.
const PANEL: usize = 16;
/// Weights that share a scale.
const BLOCK: usize = 32;
/// Weights of a super-block.
const SUPER_BLOCK: usize = 256;

/// How one matrix is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Storage {
    F32,
    Bf16,
    I8,
    I4,
    /// 4 bits with scale and minimum per group of so many.
    Groups(usize),
    /// 4 bits in super-blocks.
    Supers,
}

impl Storage {
    fn name(self) -> &'static str {
        match self {
            Storage::F32 => "f32 panels",
            Storage::Bf16 => "bf16 panels",
            Storage::I8 => "8-bit panels",
            Storage::I4 => "4-bit panels",
            Storage::Groups(_) => "4-bit panels in groups",
            Storage::Supers => "4-bit panels in super-blocks",
        }
    }
}

/// Dims of a matrix, and how it is to be stored.
type Change = ([usize; 2], Storage);

/// The values that stand for a matrix.
struct Parts {
    rows: usize,
    values: ValueId,
    /// Scales, minima and their factors, as the op takes them.
    factors: Vec<ValueId>,
    storage: Storage,
}

/// Rewrites every function of the module for weights in `format`. The paths stay; a quantised weight gains
/// others with [`SCALE`], [`MIN`], [`SUPER_SCALE`] and [`SUPER_MIN`] behind it.
///
/// Errors: `pack_weights::type` if a rewritten op does not type-check.
pub fn pack_weights(module: &Module, format: WeightFormat) -> Result<Module, Diagnostic> {
    pack_weights_explained(module, format, &mut Vec::new())
}

/// [`pack_weights`], and how every weight is stored, and why.
///
/// Errors: as [`pack_weights`].
pub fn pack_weights_explained(
    module: &Module,
    format: WeightFormat,
    log: &mut Vec<Decision>,
) -> Result<Module, Diagnostic> {
    match format {
        WeightFormat::F32 => Ok(module.clone()),
        _ => pack(module, &|width, is_root| stored(format, width, is_root), log),
    }
}

/// Rewrites every function for the same f32 weights in panels: the same bits, read faster where there are few rows.
///
/// Errors: as [`pack_weights`].
pub fn pack_panels(module: &Module) -> Result<Module, Diagnostic> {
    let panels = |_, _| (Storage::F32, "a panel of 16 rows is read in one stretch");
    pack(module, &panels, &mut Vec::new())
}

/// How a matrix is stored and why, by its width, and whether it belongs to a function that nobody calls.
type Choose<'a> = &'a dyn Fn(usize, bool) -> (Storage, &'static str);

/// Rewrites every function as `choose` says.
fn pack(module: &Module, choose: Choose, log: &mut Vec<Decision>) -> Result<Module, Diagnostic> {
    let called: BTreeSet<&str> = module
        .functions
        .iter()
        .flat_map(|f| &f.nodes)
        .filter_map(|node| match &node.op {
            Op::Call(call) => Some(call.callee.as_str()),
            _ => None,
        })
        .collect();
    let mut storage: BTreeMap<(String, [usize; 2]), Option<Storage>> = BTreeMap::new();
    for f in &module.functions {
        let is_root = !called.contains(f.name.as_str());
        for (path, value) in f.weights() {
            let mut tell = |choice, why: &str| {
                let subject = format!("`{path}` {}", f.ty(value));
                log.push(Decision::new("pack_weights", &f.name, subject, choice, why));
            };
            let Some(dims) = matrix(f.ty(value)) else {
                tell("f32", "it is no matrix: norms and biases are few and stay exact");
                continue;
            };
            let chosen = only_multiplied(f, value).then(|| choose(dims[1], is_root));
            match chosen {
                Some((storage, why)) => tell(storage.name(), why),
                None => {
                    tell("f32", "something else than a product in f32 or an embedding reads it")
                }
            }
            let wanted = chosen.map(|(storage, _)| storage);
            let known = storage.entry((path.to_string(), dims)).or_insert(wanted);
            // Functions that disagree leave it as it is.
            if *known != wanted {
                *known = None;
                tell("f32", "functions disagree on it");
            }
        }
    }
    each_function(module, |new, f| {
        let changes = |value: ValueId, path: &str| {
            let dims = matrix(f.ty(value))?;
            let storage = *storage.get(&(path.to_string(), dims))?;
            storage.map(|storage| (dims, storage))
        };
        rewrite(new, f, &changes).map_err(|e| type_error("pack_weights", &f.name, &e))
    })
}

/// The dims of an f32 matrix whose dims are numbers, none 0.
fn matrix(ty: &TensorType) -> Option<[usize; 2]> {
    let dims: [usize; 2] = ty.concrete()?.try_into().ok()?;
    (ty.dtype == DType::F32 && !dims.contains(&0)).then_some(dims)
}

/// Whether linear maps and embeddings in f32 are all that a function does with a weight.
fn only_multiplied(f: &Function, weight: ValueId) -> bool {
    let is_fine = |op: &Op, at: usize| match op {
        // A map in bf16 rounds the weight itself.
        Op::Linear(linear) => at == 1 && *linear == Linear::default(),
        Op::Embedding(_) => at == 0,
        _ => false,
    };
    f.results.iter().all(|r| r.value != weight)
        && f.nodes.iter().all(|node| {
            let mut operands = node.operands.iter().enumerate();
            operands.all(|(at, v)| *v != weight || is_fine(&node.op, at))
        })
}

fn stored(format: WeightFormat, width: usize, is_root: bool) -> (Storage, &'static str) {
    const ASKED: &str = "the format that was asked for";
    match format {
        WeightFormat::F32 | WeightFormat::Bf16 => (Storage::Bf16, ASKED),
        _ if !width.is_multiple_of(BLOCK) => {
            (Storage::Bf16, "its rows are not whole blocks of 32 weights")
        }
        WeightFormat::Q8 => (Storage::I8, ASKED),
        WeightFormat::Q4 | WeightFormat::Q4K | WeightFormat::Int4(_) if is_root => {
            (Storage::I8, "embedding and head see every token and are a small share of the bytes")
        }
        WeightFormat::Q4 => (Storage::I4, ASKED),
        WeightFormat::Q4K if width.is_multiple_of(SUPER_BLOCK) => (Storage::Supers, ASKED),
        WeightFormat::Int4(group) if width.is_multiple_of(group) => (Storage::Groups(group), ASKED),
        WeightFormat::Q4K => {
            (Storage::Groups(BLOCK), "its rows are not whole super-blocks of 256 weights")
        }
        WeightFormat::Int4(_) => {
            (Storage::Groups(BLOCK), "its rows are not whole groups, but whole blocks of 32")
        }
    }
}

/// What stands beside the integers of a weight: suffix of the path, dtype, and neighbours of a row that share one.
fn factors(storage: Storage) -> Vec<(&'static str, DType, usize)> {
    match storage {
        Storage::F32 | Storage::Bf16 => Vec::new(),
        Storage::I8 | Storage::I4 => vec![(SCALE, DType::F16, BLOCK)],
        Storage::Groups(group) => vec![(SCALE, DType::F16, group), (MIN, DType::F16, group)],
        Storage::Supers => vec![
            (SCALE, DType::U8, BLOCK),
            (MIN, DType::U8, BLOCK),
            (SUPER_SCALE, DType::F16, SUPER_BLOCK),
            (SUPER_MIN, DType::F16, SUPER_BLOCK),
        ],
    }
}

fn rewrite(
    module: &Module,
    f: &Function,
    changes: &dyn Fn(ValueId, &str) -> Option<Change>,
) -> Result<Function, llmc_ir::TypeError> {
    let mut changed = Vec::new();
    let mut kept = Vec::new();
    for param in &f.params {
        let change = match &param.role {
            ParamRole::Weight(path) => changes(param.value, path).map(|c| (path.clone(), c)),
            _ => None,
        };
        match change {
            Some((path, (dims, storage))) => changed.push((param.value, path, dims, storage)),
            None => kept.push(param.clone()),
        }
    }
    let mut rebuild = Rebuild::with_params(module, f, &kept);
    let mut parts: BTreeMap<ValueId, Parts> = BTreeMap::new();
    for (value, path, [rows, width], storage) in changed {
        let panels = rows.div_ceil(PANEL);
        let (dtype, dims) = match storage {
            Storage::F32 => (DType::F32, vec![panels, width, PANEL]),
            Storage::Bf16 => (DType::Bf16, vec![panels, width, PANEL]),
            Storage::I8 => (DType::I8, vec![panels, width / 4, PANEL, 4]),
            Storage::I4 | Storage::Groups(_) | Storage::Supers => {
                (DType::I4, vec![panels, width / 8, PANEL, 4, 2])
            }
        };
        let values = rebuild.b.weight(&path, TensorType::new(dtype, dims));
        let factors = factors(storage).into_iter().map(|(suffix, dtype, of)| {
            let ty = TensorType::new(dtype, [panels, width / of, PANEL]);
            rebuild.b.weight(&format!("{path}{suffix}"), ty)
        });
        let factors = factors.collect();
        parts.insert(value, Parts { rows, values, factors, storage });
    }
    for node in &f.nodes {
        let weight = match &node.op {
            Op::Linear(_) => parts.get(&node.operands[1]),
            Op::Embedding(_) => parts.get(&node.operands[0]),
            _ => None,
        };
        let Some(Parts { rows, values, factors, storage }) = weight else {
            rebuild.copy(node);
            continue;
        };
        rebuild.b.set_origin(node.origin);
        let (rows, is_float) = (*rows, factors.is_empty());
        let weight = std::iter::once(*values).chain(factors.iter().copied());
        let (op, operands): (Op, Vec<ValueId>) = match &node.op {
            Op::Linear(_) => {
                let x = rebuild.get(node.operands[0]);
                let bias = node.operands.get(2).map(|v| rebuild.get(*v));
                let op = match storage {
                    Storage::F32 | Storage::Bf16 => PackedLinear { outputs: rows }.into(),
                    Storage::I8 | Storage::I4 => QuantizedLinear { outputs: rows }.into(),
                    Storage::Groups(_) | Storage::Supers => {
                        GroupQuantizedLinear { outputs: rows }.into()
                    }
                };
                (op, std::iter::once(x).chain(weight).chain(bias).collect())
            }
            _ => {
                let ids = rebuild.get(node.operands[1]);
                let op = match is_float {
                    false => QuantizedEmbedding { rows }.into(),
                    true => PackedEmbedding { rows }.into(),
                };
                (op, weight.chain([ids]).collect())
            }
        };
        let result = rebuild.b.op1(op, &operands)?;
        rebuild.set(node.results[0], result);
    }
    Ok(rebuild.finish())
}
