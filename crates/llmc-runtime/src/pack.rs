//! Weights from rows of f32 to the bytes of the panels that narrow ops take.

use bytemuck::cast_slice_mut;
use llmc_ir::DType;
use llmc_kernels::{BLOCK, Error, PANEL, pack_bf16, pack_f32, panels, quantize_i4, quantize_i8};

/// A weight as it lies in memory and in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedWeight {
    /// Its elements.
    pub values: Vec<u8>,
    /// The f16 scales of its blocks, if it has blocks.
    pub scale: Option<Vec<u8>>,
}

/// The panels of rows [O, `width`] with elements of `dtype`: f32 or bf16 as `packed_linear` takes them, i8 or i4
/// with scales as `quantized_linear` does.
///
/// Errors: rows that are not whole blocks, a weight to quantise that is not finite, a dtype without panels.
pub fn pack_weight(dtype: DType, rows: &[f32], width: usize) -> Result<PackedWeight, String> {
    let text = |e: Error| e.to_string();
    let elements = panels(rows.len() / width.max(1)) * width * PANEL;
    let mut scale = vec![0u16; elements / BLOCK];
    let bits = dtype.bits() as usize;
    // Words, so that the bytes are aligned for every element.
    let mut words = vec![0u32; (elements * bits).div_ceil(32)];
    let has_scale = match dtype {
        DType::F32 => pack_f32(rows, width, cast_slice_mut(&mut words)).map(|()| false),
        DType::Bf16 => pack_bf16(rows, width, cast_slice_mut(&mut words)).map(|()| false),
        DType::I8 => {
            quantize_i8(rows, width, cast_slice_mut(&mut words), &mut scale).map(|()| true)
        }
        DType::I4 => {
            quantize_i4(rows, width, cast_slice_mut(&mut words), &mut scale).map(|()| true)
        }
        other => return Err(format!("there are no panels of {other}")),
    }
    .map_err(text)?;
    let scale = has_scale.then(|| bytemuck::cast_slice(&scale).to_vec());
    Ok(PackedWeight { values: bytemuck::cast_slice(&words).to_vec(), scale })
}
