//! Weights from rows of f32 to the bytes of the panels that narrow ops take.

use bytemuck::cast_slice_mut;
use llmc_ir::DType;
use llmc_kernels::{
    BLOCK, Error, PANEL, SUPER_BLOCK, pack_bf16, pack_f32, panels, quantize_groups, quantize_i4,
    quantize_i8, quantize_q4_k,
};

/// A weight as it lies in memory and in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedWeight {
    /// Its elements.
    pub values: Vec<u8>,
    /// What stands beside them: scales; of groups also minima; of super-blocks also the factors of both.
    pub factors: Vec<Vec<u8>>,
}

/// How a weight is to be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As `packed_linear` takes elements of f32 or bf16, and `quantized_linear` i8 or i4.
    Plain(DType),
    /// As `group_quantized_linear` takes groups of so many neighbours.
    Groups(usize),
    /// As `group_quantized_linear` takes super-blocks.
    Supers,
}

/// The panels of rows [O, `width`].
///
/// Errors: rows that are not whole blocks or groups, a weight to quantise that is not finite, a dtype without panels.
pub fn pack_weight(packing: Packing, rows: &[f32], width: usize) -> Result<PackedWeight, String> {
    let elements = panels(rows.len() / width.max(1)) * width * PANEL;
    let dtype = match packing {
        Packing::Plain(dtype) => dtype,
        Packing::Groups(_) | Packing::Supers => DType::I4,
    };
    // Words, so that the bytes are aligned for every element.
    let mut words = vec![0u32; (elements * dtype.bits() as usize).div_ceil(32)];
    let halves = |group: usize| vec![0u16; elements.checked_div(group).unwrap_or(0)];
    let bytes = |halves: Vec<u16>| bytemuck::cast_slice(&halves).to_vec();
    let text = |e: Error| e.to_string();
    let factors = match packing {
        Packing::Plain(DType::F32) => {
            pack_f32(rows, width, cast_slice_mut(&mut words)).map_err(text)?;
            Vec::new()
        }
        Packing::Plain(DType::Bf16) => {
            pack_bf16(rows, width, cast_slice_mut(&mut words)).map_err(text)?;
            Vec::new()
        }
        Packing::Plain(DType::I8) => {
            let mut scale = halves(BLOCK);
            quantize_i8(rows, width, cast_slice_mut(&mut words), &mut scale).map_err(text)?;
            vec![bytes(scale)]
        }
        Packing::Plain(DType::I4) => {
            let mut scale = halves(BLOCK);
            quantize_i4(rows, width, cast_slice_mut(&mut words), &mut scale).map_err(text)?;
            vec![bytes(scale)]
        }
        Packing::Plain(other) => return Err(format!("there are no panels of {other}")),
        Packing::Groups(group) => {
            let (mut scale, mut min) = (halves(group), halves(group));
            let q = cast_slice_mut(&mut words);
            quantize_groups(rows, width, group, q, &mut scale, &mut min).map_err(text)?;
            vec![bytes(scale), bytes(min)]
        }
        Packing::Supers => {
            let (mut scale, mut min) = (vec![0u8; elements / BLOCK], vec![0u8; elements / BLOCK]);
            let (mut d, mut dmin) = (halves(SUPER_BLOCK), halves(SUPER_BLOCK));
            let q = cast_slice_mut(&mut words);
            quantize_q4_k(rows, width, q, &mut scale, &mut min, &mut d, &mut dmin).map_err(text)?;
            vec![scale, min, bytes(d), bytes(dmin)]
        }
    };
    Ok(PackedWeight { values: bytemuck::cast_slice(&words).to_vec(), factors })
}
