//! Elements narrower than a word, in memory and as tensors of the evaluator.
//!
//! They stand side by side, the first in the lowest bits (`llmc_plan::tensor_words`), so kernels see
//! them as slices of their own width.

use bytemuck::{cast_slice, cast_slice_mut};
use llmc_ir::DType;
use llmc_ir::eval::{Data, Tensor};
use llmc_kernels::{Cells, GroupScales, Packed, Quants, Scales, f16_from_f32, f32_from_f16};
use llmc_plan::{Launch, View};

/// The words of a view as a tensor.
pub(crate) fn read(view: &View, words: &[f32]) -> Tensor {
    let len: usize = view.shape.iter().product();
    let ints = |values: &mut dyn Iterator<Item = i64>| Data::Int(values.take(len).collect());
    let floats = |values: &mut dyn Iterator<Item = f32>| {
        Data::Float(values.take(len).map(f64::from).collect())
    };
    let bytes: &[u8] = cast_slice(words);
    let halves: &[u16] = cast_slice(words);
    let nibbles = || bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]);
    let data = match view.dtype {
        DType::F32 => floats(&mut words.iter().copied()),
        DType::Bf16 => {
            floats(&mut halves.iter().map(|half| f32::from_bits(u32::from(*half) << 16)))
        }
        DType::F16 => floats(&mut halves.iter().map(|half| f32_from_f16(*half))),
        DType::I4 => ints(&mut nibbles().map(|n| i64::from((n << 4) as i8 >> 4))),
        DType::U4 => ints(&mut nibbles().map(i64::from)),
        DType::I8 => ints(&mut bytes.iter().map(|x| i64::from(*x as i8))),
        DType::U8 => ints(&mut bytes.iter().map(|x| i64::from(*x))),
        DType::I16 => ints(&mut halves.iter().map(|x| i64::from(*x as i16))),
        DType::U16 => ints(&mut halves.iter().map(|x| i64::from(*x))),
        DType::I32 => ints(&mut cast_slice::<f32, i32>(words).iter().map(|x| i64::from(*x))),
        _ => ints(&mut cast_slice::<f32, u32>(words).iter().map(|x| i64::from(*x))),
    };
    Tensor { dtype: view.dtype, shape: view.shape.clone(), data }
}

/// Writes a tensor, whose elements are values of its dtype, to the words of its view.
pub(crate) fn write(tensor: &Tensor, words: &mut [f32]) {
    match (&tensor.data, tensor.dtype) {
        (Data::Float(values), DType::Bf16) => {
            let bits = |x: &f64| ((*x as f32).to_bits() >> 16) as u16;
            fill(cast_slice_mut(words), values.iter().map(bits));
        }
        (Data::Float(values), DType::F16) => {
            fill(cast_slice_mut(words), values.iter().map(|x| f16_from_f32(*x as f32)));
        }
        (Data::Float(values), _) => fill(words, values.iter().map(|x| *x as f32)),
        // The low bits, which integers with and without sign share.
        (Data::Int(values), DType::I4 | DType::U4) => {
            let low = |x: Option<&i64>| x.map_or(0, |x| *x as u8 & 15);
            let byte = |pair: &[i64]| low(pair.first()) | low(pair.get(1)) << 4;
            fill(cast_slice_mut(words), values.chunks(2).map(byte));
        }
        (Data::Int(values), DType::I8 | DType::U8) => {
            fill(cast_slice_mut::<f32, u8>(words), values.iter().map(|x| *x as u8));
        }
        (Data::Int(values), DType::I16 | DType::U16) => {
            fill(cast_slice_mut::<f32, u16>(words), values.iter().map(|x| *x as u16));
        }
        (Data::Int(values), _) => {
            fill(cast_slice_mut::<f32, u32>(words), values.iter().map(|x| *x as u32));
        }
    }
}

/// Writes the values, then zeros up to the end of the last word.
fn fill<T: Default>(to: &mut [T], values: impl Iterator<Item = T>) {
    let mut values = values;
    to.iter_mut().for_each(|to| *to = values.next().unwrap_or_default());
}

/// The elements that a tensor has; what fills up its last word is cut off.
fn elements<'a, T: bytemuck::Pod>(view: &View, words: &'a [f32]) -> Result<&'a [T], String> {
    let len: usize = view.shape.iter().product();
    let bytes = len * view.dtype.bits() as usize / 8;
    let all: &[T] = cast_slice(words);
    all.get(..bytes / size_of::<T>()).ok_or_else(|| "a region is too short".to_string())
}

/// Panels of floats.
pub(crate) fn packed<'a>(view: &View, words: &'a [f32]) -> Result<Packed<'a>, String> {
    match view.dtype {
        DType::F32 => Ok(Packed::F32(words)),
        DType::Bf16 => Ok(Packed::Bf16(elements(view, words)?)),
        DType::F16 => Ok(Packed::F16(elements(view, words)?)),
        other => Err(format!("no kernel for panels of {other}")),
    }
}

/// Panels of integers.
pub(crate) fn quants<'a>(view: &View, words: &'a [f32]) -> Result<Quants<'a>, String> {
    match view.dtype {
        DType::I8 => Ok(Quants::I8(elements(view, words)?)),
        DType::I4 => Ok(Quants::I4(elements(view, words)?)),
        other => Err(format!("no kernel for panels of {other}")),
    }
}

/// Scales of panels.
pub(crate) fn scales<'a>(view: &View, words: &'a [f32]) -> Result<Scales<'a>, String> {
    match view.dtype {
        DType::F32 => Ok(Scales::F32(words)),
        DType::F16 => Ok(Scales::F16(elements(view, words)?)),
        other => Err(format!("no kernel for scales of {other}")),
    }
}

/// Keys or values of a cache, and the scales of their rows if they have some.
pub(crate) fn cells<'a>(
    view: &View,
    words: &'a [f32],
    scale: Option<&'a [f32]>,
) -> Result<Cells<'a>, String> {
    match (view.dtype, scale) {
        (DType::F32, None) => Ok(Cells::F32(words)),
        (DType::Bf16, None) => Ok(Cells::Bf16(elements(view, words)?)),
        (DType::I8, Some(scale)) => Ok(Cells::I8 { q: elements(view, words)?, scale }),
        (other, _) => Err(format!("no kernel for a cache of {other}")),
    }
}

/// The elements of a result that has a byte or two for each.
pub(crate) fn elements_mut<'a, T: bytemuck::Pod>(
    view: &View,
    words: &'a mut [f32],
) -> Result<&'a mut [T], String> {
    let len: usize = view.shape.iter().product();
    let all: &mut [T] = cast_slice_mut(words);
    all.get_mut(..len).ok_or_else(|| "a region is too short".to_string())
}

/// 4-bit panels with the scales and minima of their groups, from the operands after x.
pub(crate) fn groups<'a>(
    launch: &Launch,
    operands: &[&'a [f32]],
) -> Result<(&'a [u8], GroupScales<'a>), String> {
    let views = &launch.operands;
    let q = elements(&views[1], operands[1])?;
    let scales = match views[2].dtype {
        DType::U8 => GroupScales::Super {
            scale: elements(&views[2], operands[2])?,
            min: elements(&views[3], operands[3])?,
            d: elements(&views[4], operands[4])?,
            dmin: elements(&views[5], operands[5])?,
        },
        DType::F16 => {
            let width = views[0].shape.last().copied().unwrap_or(0);
            let groups = views[2].shape.get(1).copied().unwrap_or(0);
            GroupScales::F16 {
                group: width.checked_div(groups).unwrap_or(0),
                scale: elements(&views[2], operands[2])?,
                min: elements(&views[3], operands[3])?,
            }
        }
        other => return Err(format!("no kernel for scales of {other}")),
    };
    Ok((q, scales))
}
