//! The KV cache in a narrow format: keys and values are rounded as they are appended.
//!
//! A cache changes where all that a function does with it is to overwrite a part and to attend over the whole
//! (`decoder_only`'s `@prefill` and `@decode`). What a session with such a cache computes is the whole forward
//! pass with the same rounding between the projections and the attention, which [`round_keys_and_values`] writes.

use crate::rebuild::Rebuild;
use crate::{each_function, type_error};
use llmc_base::Diagnostic;
use llmc_ir::ops::QuantizeRows;
use llmc_ir::{
    DType, Function, FunctionBuilder, Module, Op, Param, ResultInfo, ResultRole, TensorType,
    TypeError, ValueId,
};
use std::collections::{BTreeMap, BTreeSet};

/// How a KV cache holds keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheFormat {
    /// As they are computed.
    #[default]
    F32,
    /// Rounded to bf16: half the memory.
    Bf16,
    /// 8 bits, and an f32 scale for each position and head: about a quarter.
    Int8,
}

impl CacheFormat {
    /// Every format with its name.
    pub const ALL: [(CacheFormat, &'static str); 3] =
        [(CacheFormat::F32, "f32"), (CacheFormat::Bf16, "bf16"), (CacheFormat::Int8, "int8")];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(format, _)| *format == self).map_or("?", |(_, name)| name)
    }

    /// The format of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(format, _)| *format)
    }
}

/// Rewrites every function that appends to a cache and attends over it for a cache in `format`. The path of a
/// cache stays; one of 8 bits gains a second one, `k_scale_cache` beside `k_cache`, for its scales.
///
/// Errors: `narrow_cache::type` if a rewritten op does not type-check.
pub fn narrow_cache(module: &Module, format: CacheFormat) -> Result<Module, Diagnostic> {
    if format == CacheFormat::F32 {
        return Ok(module.clone());
    }
    each_function(module, |new, f| {
        narrowed(new, f, format).map_err(|e| type_error("narrow_cache", &f.name, &e))
    })
}

/// Rewrites every attention without a cache to see its keys and values as a cache in `format` would hold them.
///
/// Errors: `narrow_cache::type` if a rewritten op does not type-check.
pub fn round_keys_and_values(module: &Module, format: CacheFormat) -> Result<Module, Diagnostic> {
    each_function(module, |new, f| {
        let mut rebuild = Rebuild::new(new, f);
        let mut rewrite = || {
            for node in &f.nodes {
                match &node.op {
                    Op::Attention(op) if !op.cached => {
                        rebuild.b.set_origin(node.origin);
                        let mut operands = rebuild.operands(node);
                        for x in &mut operands[1..3] {
                            *x = rounded(&mut rebuild.b, *x, format)?;
                        }
                        let o = rebuild.b.op1(op.clone(), &operands)?;
                        rebuild.set(node.results[0], o);
                    }
                    _ => rebuild.copy(node),
                }
            }
            Ok(())
        };
        rewrite().map_err(|e| type_error("narrow_cache", &f.name, &e))?;
        Ok(rebuild.finish())
    })
}

/// What stands for `x` in a cache, in f32.
fn rounded(b: &mut FunctionBuilder, x: ValueId, format: CacheFormat) -> Result<ValueId, TypeError> {
    match format {
        CacheFormat::F32 => Ok(x),
        CacheFormat::Bf16 => {
            let narrow = b.cast(x, DType::Bf16)?;
            b.cast(narrow, DType::F32)
        }
        CacheFormat::Int8 => {
            let parts = b.op(QuantizeRows, &[x])?;
            let q = b.cast(parts[0], DType::F32)?;
            let scale = b.broadcast_last(parts[1], q)?;
            b.mul(q, scale)
        }
    }
}

/// A cache of a function: its parameter, and the value that is written back.
struct Cache<'f> {
    path: &'f str,
    old: ValueId,
    new: ValueId,
}

/// The caches that are only appended to and attended over.
fn caches(f: &Function) -> Vec<Cache<'_>> {
    let found = f.states().filter_map(|(path, old)| {
        let ty = f.ty(old);
        if ty.dtype != DType::F32 || ty.rank() != 4 || !path.ends_with("_cache") {
            return None;
        }
        let written = f.results.iter().find(|r| r.role == ResultRole::State(path.to_string()))?;
        let new = written.value;
        let is_written_once = f.results.iter().filter(|r| r.value == new).count() == 1;
        let fits = f.nodes.iter().all(|node| {
            let uses = |v: ValueId| node.operands.iter().position(|x| *x == v);
            let makes = node.results.contains(&new);
            match &node.op {
                Op::UpdateSlice(op) if makes => op.axis == 1 && uses(old) == Some(0),
                Op::Attention(op) if op.cached => {
                    uses(old).is_none() && uses(new).is_none_or(|at| at == 1 || at == 2)
                }
                _ => !makes && uses(old).is_none() && uses(new).is_none(),
            }
        });
        (fits && is_written_once && new != old).then_some(Cache { path, old, new })
    });
    let mut found: Vec<Cache> = found.collect();
    // Keys and values go together.
    let all: BTreeSet<ValueId> = found.iter().map(|cache| cache.new).collect();
    let alone: BTreeSet<ValueId> = f
        .nodes
        .iter()
        .filter(|node| matches!(&node.op, Op::Attention(op) if op.cached))
        .map(|node| [node.operands[1], node.operands[2]])
        .filter(|pair| pair.iter().any(|v| !all.contains(v)))
        .flatten()
        .collect();
    found.retain(|cache| !alone.contains(&cache.new));
    found
}

/// The parts of a cache: elements, and scales where it has some.
struct Parts {
    values: ValueId,
    scale: Option<ValueId>,
}

fn narrowed(module: &Module, f: &Function, format: CacheFormat) -> Result<Function, TypeError> {
    let caches = caches(f);
    let is_changed = |value: ValueId| caches.iter().any(|cache| cache.old == value);
    let kept: Vec<Param> = f.params.iter().filter(|p| !is_changed(p.value)).cloned().collect();
    let mut rebuild = Rebuild::with_params(module, f, &kept);
    let mut parts: BTreeMap<ValueId, Parts> = BTreeMap::new();
    for cache in &caches {
        let ty = f.ty(cache.old);
        let dtype = if format == CacheFormat::Int8 { DType::I8 } else { DType::Bf16 };
        let values = TensorType { dtype, shape: ty.shape.clone() };
        let values = rebuild.b.state(cache.path, values);
        let scale = (format == CacheFormat::Int8).then(|| {
            let ty = TensorType { dtype: DType::F32, shape: ty.shape[..3].to_vec() };
            rebuild.b.state(&scale_path(cache.path), ty)
        });
        parts.insert(cache.old, Parts { values, scale });
    }
    for node in &f.nodes {
        rebuild.b.set_origin(node.origin);
        match &node.op {
            Op::UpdateSlice(op) if parts.contains_key(&node.operands[0]) => {
                let old = &parts[&node.operands[0]];
                let (new, start) = (rebuild.get(node.operands[1]), rebuild.get(node.operands[2]));
                let (new, new_scale) = match old.scale {
                    Some(_) => {
                        let parts = rebuild.b.op(QuantizeRows, &[new])?;
                        (parts[0], Some(parts[1]))
                    }
                    None => (rebuild.b.cast(new, DType::Bf16)?, None),
                };
                let values = rebuild.b.op1(op.clone(), &[old.values, new, start])?;
                let scale = match (old.scale, new_scale) {
                    (Some(old), Some(new)) => Some(rebuild.b.op1(op.clone(), &[old, new, start])?),
                    _ => None,
                };
                rebuild.set(node.results[0], values);
                parts.insert(node.results[0], Parts { values, scale });
            }
            Op::Attention(op) if parts.contains_key(&node.operands[1]) => {
                let mut operands = rebuild.operands(node);
                let scales = [1, 2].map(|at| parts.get(&node.operands[at]).and_then(|p| p.scale));
                // Behind start.
                let scales = scales.into_iter().flatten();
                operands.splice(4..4, scales);
                let o = rebuild.b.op1(op.clone(), &operands)?;
                rebuild.set(node.results[0], o);
            }
            _ => rebuild.copy(node),
        }
    }
    let mut function = rebuild.finish();
    for cache in &caches {
        if let Some(scale) = parts.get(&cache.new).and_then(|p| p.scale) {
            let role = ResultRole::State(scale_path(cache.path));
            function.results.push(ResultInfo { value: scale, role });
        }
    }
    Ok(function)
}

/// Where the scales of a cache are: `k_scale_cache` beside `k_cache`.
fn scale_path(path: &str) -> String {
    format!("{}_scale_cache", path.strip_suffix("_cache").unwrap_or(path))
}
