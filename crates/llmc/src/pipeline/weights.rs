//! The weights of a model in a session: from f32 as trained, or from the format that a file holds.
//!
//! The session's types say what it wants (`llmc_passes::pack_weights`): f32 is packed or quantised on the way where
//! the file has f32, and what the file holds in the wanted type is copied as it is.

use super::failure::Failure;
use llmc_base::Diagnostic;
use llmc_formats::safetensors::{DType as FileType, SafeTensors};
use llmc_ir::DType;
use llmc_passes::pack_weights::{MIN, SCALE, SUPER_MIN, SUPER_SCALE};
use llmc_plan::View;
use llmc_runtime::{Packing, pack_weight};
use std::path::Path;

/// The type by which a file holds elements of `dtype`, two of 4 bits as one byte.
pub(super) fn file_type(dtype: DType) -> Result<FileType, Failure> {
    match dtype {
        DType::F32 => Ok(FileType::F32),
        DType::Bf16 => Ok(FileType::Bf16),
        DType::F16 => Ok(FileType::F16),
        DType::I8 => Ok(FileType::I8),
        DType::I4 | DType::U8 => Ok(FileType::U8),
        other => Err(Failure::Internal(format!("no weight has dtype {other}"))),
    }
}

/// The shape by which a file holds a tensor: two elements of 4 bits along the last axis make one byte.
pub(super) fn file_shape(dtype: DType, shape: &[usize]) -> Vec<usize> {
    match (dtype, shape) {
        (DType::I4, [rest @ .., 2]) => rest.to_vec(),
        _ => shape.to_vec(),
    }
}

/// A weight that is to be filled.
pub(super) struct Wanted {
    /// Its path.
    pub path: String,
    /// Its element type in memory.
    pub dtype: DType,
    /// Its shape in memory.
    pub shape: Vec<usize>,
}

/// The weights of these paths, by where they are.
pub(super) fn wanted<'a>(paths: &[String], view: &dyn Fn(&str) -> Option<&'a View>) -> Vec<Wanted> {
    let weight = |path: &String| {
        let view = view(path)?;
        Some(Wanted { dtype: view.dtype, shape: view.shape.clone(), path: path.clone() })
    };
    paths.iter().filter_map(weight).collect()
}

/// What stands beside a quantised weight, by what is appended to its path, in the order in which it is packed.
const BESIDE: [&str; 4] = [SCALE, MIN, SUPER_SCALE, SUPER_MIN];

/// How a weight of the session is packed, by what the session wants beside it.
fn packing(weight: &Wanted, weights: &[Wanted], width: usize) -> Packing {
    let beside = |suffix: &str| {
        let path = format!("{}{suffix}", weight.path);
        weights.iter().find(|w| w.path == path)
    };
    match beside(MIN) {
        None => Packing::Plain(weight.dtype),
        Some(min) if min.dtype == DType::U8 => Packing::Supers,
        Some(min) => {
            let groups = min.shape.get(1).copied().unwrap_or(0);
            Packing::Groups(width.checked_div(groups).unwrap_or(0))
        }
    }
}

/// Takes the bytes of a weight by its path.
pub(super) type Put<'a> = &'a mut dyn FnMut(&str, &[u8]) -> Result<(), String>;

/// Gives every weight to `put` from the bytes of a safetensors file.
///
/// Errors: `checkpoint::weights` if the file is damaged, lacks a weight or has it in another shape.
pub(super) fn fill(weights: &[Wanted], bytes: &[u8], file: &Path, put: Put) -> Result<(), Failure> {
    let bad = |message: String| -> Failure {
        let message = format!("`{}`: {message}", file.display());
        Diagnostic::error("checkpoint::weights", message).into()
    };
    let parsed = SafeTensors::parse(bytes).map_err(|e| bad(e.to_string()))?;
    let is_f32 = |path: &str| parsed.tensor(path).is_ok_and(|t| t.info.dtype == FileType::F32);
    for weight in weights {
        let Wanted { path, dtype, shape } = weight;
        // What stands beside an f32 weight comes with it. `_super_scale` ends in `_scale` too.
        if BESIDE.iter().any(|suffix| path.strip_suffix(suffix).is_some_and(is_f32)) {
            continue;
        }
        let tensor = parsed.tensor(path).map_err(|e| bad(e.to_string()))?;
        let (have, wanted) = (&tensor.info.shape, file_shape(*dtype, shape));
        if tensor.info.dtype == file_type(*dtype)? && *have == wanted {
            put(path, tensor.data).map_err(bad)?;
            continue;
        }
        // Panels of 16 rows, of which the last may be partly used.
        let panels = have.first().map(|rows| rows.div_ceil(16));
        let fits = have.len() == 2 && shape.len() >= 3 && shape.first().copied() == panels;
        if !fits || tensor.info.dtype != FileType::F32 {
            let found = tensor.info.dtype;
            return Err(bad(format!("`{path}` is {found}{have:?}, expected {dtype}{wanted:?}")));
        }
        let values = tensor.to_f32().map_err(|e| bad(e.to_string()))?;
        let packed = pack_weight(packing(weight, weights, have[1]), &values, have[1]);
        let packed = packed.map_err(|e| bad(format!("`{path}`: {e}")))?;
        put(path, &packed.values).map_err(bad)?;
        for (suffix, bytes) in BESIDE.iter().zip(&packed.factors) {
            put(&format!("{path}{suffix}"), bytes).map_err(bad)?;
        }
    }
    Ok(())
}

/// Copies the bytes of a weight into its place; what fills up the last word stays.
pub(super) fn copy(path: &str, bytes: &[u8], to: &mut [u8]) -> Result<(), String> {
    let have = to.len();
    let to = to.get_mut(..bytes.len());
    let to = to.ok_or_else(|| format!("`{path}` has {} bytes, expected {have}", bytes.len()))?;
    to.copy_from_slice(bytes);
    Ok(())
}
