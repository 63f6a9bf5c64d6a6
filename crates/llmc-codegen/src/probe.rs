//! Inputs with the outputs that the reference evaluator gives for them: what an export is checked on.
//!
//! A probe is a safetensors file with `input.0.NAME`, … and `output.0.NAME`, …, numbered as the
//! function takes and gives them. Floats are f64, so that the reference loses nothing; unsigned
//! integers wider than a byte are i64, as the emitted PyTorch holds them. [`CHECKER`] is the Python
//! program that runs an export on a probe.

#[cfg(test)]
mod tests;

use llmc_base::Hash;
use llmc_formats::safetensors::{self, DType, Data, Metadata, TensorSource};
use llmc_ir::DType as IrDType;
use llmc_ir::eval::{Data as Values, Tensor};

/// `check_export.py`: loads an export in `torch` or `transformers`, compares its outputs in float64
/// with a probe, and writes the checks into the folder's certificate.json.
pub const CHECKER: &str = include_str!("../python/check_export.py");

/// A probe as a file.
///
/// `inputs` and `outputs` have the names of the function's inputs and outputs.
///
/// Errors: names that are there twice.
pub fn to_bytes(
    inputs: &[(&str, &Tensor)],
    outputs: &[(&str, &Tensor)],
) -> Result<Vec<u8>, safetensors::Error> {
    let mut entries = Vec::new();
    for (kind, list) in [("input", inputs), ("output", outputs)] {
        for (i, (name, tensor)) in list.iter().enumerate() {
            let (dtype, bytes) = elements(tensor);
            entries.push((format!("{kind}.{i}.{name}"), dtype, &tensor.shape, bytes));
        }
    }
    let sources: Vec<TensorSource<'_>> = entries
        .iter()
        .map(|(name, dtype, shape, bytes)| TensorSource {
            name,
            dtype: *dtype,
            shape,
            data: Data::Bytes(bytes),
        })
        .collect();
    safetensors::to_bytes(&sources, &Metadata::new())
}

fn elements(tensor: &Tensor) -> (DType, Vec<u8>) {
    let ints = match &tensor.data {
        Values::Float(values) => {
            return (DType::F64, values.iter().flat_map(|v| v.to_le_bytes()).collect());
        }
        Values::Int(values) => values,
    };
    let dtype = match tensor.dtype {
        IrDType::Bool => DType::Bool,
        IrDType::I8 => DType::I8,
        IrDType::U8 => DType::U8,
        IrDType::I16 => DType::I16,
        IrDType::I32 => DType::I32,
        _ => DType::I64,
    };
    // The low bytes of a value in range are the value in the narrower type.
    (dtype, ints.iter().flat_map(|v| v.to_le_bytes()[..dtype.bytes()].to_vec()).collect())
}

/// The hash by which a certificate names a probe.
pub fn hash(probe: &[u8]) -> Hash {
    Hash::of_bytes(probe)
}
