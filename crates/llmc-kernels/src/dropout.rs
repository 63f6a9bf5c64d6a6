//! Dropout with counter-based random bits.

use llmc_base::math::{philox_key, philox4x32};

use crate::disjoint::DisjointMut;
use crate::error::{Error, check_len};
use crate::isa::{Kernel, dispatch};
use crate::parallel::Ctx;
use crate::simd::{LANES, Simd};

/// What selects the random bits of a dropout, and its rate.
#[derive(Clone, Copy, Debug)]
pub struct Dropout<'a> {
    /// Probability of dropping an element, in [0, 1).
    pub rate: f32,
    /// The Philox key: a hash of the seed and the op's path.
    pub key: u64,
    /// The training step.
    pub step: u32,
    /// The global index of each sample: `[B]`.
    pub samples: &'a [u32],
}

impl Dropout<'_> {
    /// An element is kept if its word is at least this: `floor(rate·2³²)`.
    pub fn threshold(&self) -> u32 {
        (f64::from(self.rate) * 4_294_967_296.0) as u32
    }

    /// What a kept element is multiplied by: `1/(1 − rate)` in f32.
    pub fn scale(&self) -> f32 {
        1.0 / (1.0 - self.rate)
    }

    /// The Philox counter of four elements of a sample, `4·group` and on.
    pub(crate) fn counter(&self, sample: usize, group: u64) -> [u32; 4] {
        [group as u32, (group >> 32) as u32, self.samples[sample], self.step]
    }

    /// Refuses a rate without meaning.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match (0.0..1.0).contains(&self.rate) {
            true => Ok(()),
            false => Err(Error::Dimension { what: "the dropout rate is not in [0, 1)" }),
        }
    }
}

/// `y = x·scale` where the element's Philox word is at least the threshold, +0
/// elsewhere: x, y [B, ...] with the B of the samples.
///
/// Its own gradient: apply it to dy with the same [`Dropout`]. The words are those
/// of [`philox_element`](llmc_base::math::philox_element).
///
/// Errors: [`Error::Length`] or [`Error::Dimension`] if the shapes do not fit or
/// the rate is not in [0, 1).
pub fn dropout(
    ctx: &Ctx<'_>,
    dropout: &Dropout<'_>,
    x: &[f32],
    y: &mut [f32],
) -> Result<(), Error> {
    dropout.check()?;
    let samples = dropout.samples.len();
    let sample_len = x.len().checked_div(samples).unwrap_or(0);
    check_len("x", x, samples * sample_len)?;
    check_len("y", y, x.len())?;
    // Whole vectors of one sample each, so that a task starts at a counter.
    let vectors = sample_len.div_ceil(LANES);
    let y = DisjointMut::new(y);
    ctx.split(samples * vectors, LANES * PHILOX_COST, &|items| {
        let mut item = items.start;
        while item < items.end {
            let (sample, vector) = (item / vectors, item % vectors);
            let count = (vectors - vector).min(items.end - item);
            let start = sample * sample_len + vector * LANES;
            let end =
                (sample * sample_len + (vector + count) * LANES).min((sample + 1) * sample_len);
            dispatch(
                ctx.isa(),
                Part {
                    dropout,
                    sample,
                    first_element: vector * LANES,
                    x: &x[start..end],
                    // SAFETY: the vectors of tasks are disjoint.
                    y: unsafe { y.range(start..end) },
                },
            );
            item += count;
        }
    });
    Ok(())
}

/// Work of one random word relative to a memory-bound operation.
const PHILOX_COST: usize = 16;

/// A stretch of one sample that starts at a multiple of 16.
struct Part<'a> {
    dropout: &'a Dropout<'a>,
    sample: usize,
    first_element: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd>(self) {
        let threshold = self.dropout.threshold();
        let scale = V::splat(self.dropout.scale());
        let zero = V::splat(0.0);
        let key = philox_key(self.dropout.key);
        let mut i = 0;
        while i < self.x.len() {
            let mut keep = [0.0f32; LANES];
            for (group, keep) in keep.chunks_exact_mut(4).enumerate() {
                let counter = (self.first_element + i) as u64 / 4 + group as u64;
                let counter = self.dropout.counter(self.sample, counter);
                for (keep, word) in keep.iter_mut().zip(philox4x32(counter, key)) {
                    *keep = if word >= threshold { 1.0 } else { 0.0 };
                }
            }
            let kept = V::eq(V::from_array(&keep), V::splat(1.0));
            let value = V::at(self.x, i, 0.0).mul(scale);
            V::select(kept, value, zero).put(self.y, i);
            i += LANES;
        }
    }
}
