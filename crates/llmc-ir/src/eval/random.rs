//! `random_bits`.

use super::tensor::concrete;
use super::{Data, EvalError, Tensor};
use crate::ops::RandomBits;
use crate::types::DType;
use llmc_base::math::philox_element;

/// Element e of a sample is the Philox word of (key, step, sample, e).
pub(crate) fn random_bits(
    op: &RandomBits,
    key: &Tensor,
    step: &Tensor,
    sample: &Tensor,
) -> Result<Tensor, EvalError> {
    let dims = concrete(&op.dims)?;
    let count: usize = dims.iter().product();
    let words = key.as_ints()?;
    let key = (words[1] as u64) << 32 | words[0] as u64 & 0xffff_ffff;
    let step = step.as_ints()?[0] as u32;
    let samples = sample.as_ints()?;
    let mut out = Vec::with_capacity(samples.len() * count);
    for sample in samples {
        let word = |e| i64::from(philox_element(key, step, *sample as u32, e as u64));
        out.extend((0..count).map(word));
    }
    let shape = [&sample.shape[..], &dims[..]].concat();
    Ok(Tensor { dtype: DType::U32, shape, data: Data::Int(out) })
}
