//! Copies a block of a matrix into the order in which the register tile reads
//! it: for each k, the elements of a panel side by side.

use crate::simd::{LANES, Simd};
use llmc_base::math::{round_bf16, round_f16};

/// A block of a matrix: element (i, k) is at `start + i·i_stride + k·k_stride`.
/// For the left operand i counts rows, for the right one columns.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub start: *const f32,
    pub i_stride: usize,
    pub k_stride: usize,
}

impl Block {
    /// The block that starts at (i, k) of this one.
    ///
    /// # Safety
    /// (i, k) is in the block.
    #[inline(always)]
    pub unsafe fn at(&self, i: usize, k: usize) -> Block {
        Block {
            // SAFETY: the caller's.
            start: unsafe { self.start.add(i * self.i_stride + k * self.k_stride) },
            ..*self
        }
    }
}

/// What becomes of elements on their way into a panel.
pub(crate) trait Form {
    /// Whether those of each pair of k change places, so that the odd one comes first.
    const PAIRS: bool;

    /// The elements as they are multiplied.
    fn of<V: Simd>(x: V) -> V;

    /// The same of one.
    fn of_one(x: f32) -> f32;
}

/// Elements as they are.
pub(crate) struct AsIs;
/// Rounded to bf16, in pairs.
pub(crate) struct PairsInBf16;
/// Rounded to f16.
pub(crate) struct InF16;

impl Form for AsIs {
    const PAIRS: bool = false;

    #[inline(always)]
    fn of<V: Simd>(x: V) -> V {
        x
    }

    #[inline(always)]
    fn of_one(x: f32) -> f32 {
        x
    }
}

impl Form for PairsInBf16 {
    const PAIRS: bool = true;

    #[inline(always)]
    fn of<V: Simd>(x: V) -> V {
        round_bf16(x)
    }

    #[inline(always)]
    fn of_one(x: f32) -> f32 {
        round_bf16(x)
    }
}

impl Form for InF16 {
    const PAIRS: bool = false;

    #[inline(always)]
    fn of<V: Simd>(x: V) -> V {
        x.round_f16()
    }

    #[inline(always)]
    fn of_one(x: f32) -> f32 {
        round_f16(x)
    }
}

/// Slack behind a panel: it may be written 16 lanes at a time.
pub(crate) const PANEL_SLACK: usize = LANES;

/// Packs `i_len × k_len` elements into `to[k·width + i]`, i_len ≤ width.
/// Lanes from `i_len` to the next multiple of 16 within `width` become zeros.
///
/// The elements go through the form. With pairs the block has `present` k, of which the first is even; what is
/// missing up to `k_len` is zero. Otherwise `present` is `k_len`.
///
/// # Safety
/// The block is readable for `present` k; `to` is writable for `k_len·width + PANEL_SLACK`
/// floats, of which those past `k_len·width` are left with any value. None of them
/// is touched if `width` is a multiple of 16 or `i_stride` is 1.
#[inline(always)]
pub(crate) unsafe fn pack_panel<V: Simd, F: Form>(
    block: Block,
    i_len: usize,
    k_len: usize,
    present: usize,
    width: usize,
    to: *mut f32,
) {
    // SAFETY: reads stay in the block, writes in the panel and its slack: a
    // vector at (k, i) ends at most 15 elements past the last one of the panel,
    // and writing in ascending k mends what it spilled into the next k.
    unsafe {
        if block.i_stride == 1 {
            for k in 0..k_len {
                let source = if F::PAIRS { k ^ 1 } else { k };
                let is_there = !F::PAIRS || source < present;
                let from = block.start.wrapping_add(source * block.k_stride);
                let to = to.add(k * width);
                let mut i = 0;
                while i < i_len {
                    let count = (i_len - i).min(LANES);
                    let value = if !is_there {
                        V::splat(0.0)
                    } else if count == LANES {
                        V::load(from.add(i))
                    } else {
                        V::load_first(from.add(i), count, 0.0)
                    };
                    let value = F::of(value);
                    if i + LANES <= width {
                        value.store(to.add(i));
                    } else {
                        value.store_first(to.add(i), count);
                    }
                    i += LANES;
                }
            }
        } else if block.k_stride == 1 {
            let mut k = 0;
            while k < k_len {
                let k_count = (k_len - k).min(LANES);
                let k_present = (present - k).min(LANES);
                let mut i = 0;
                while i < i_len {
                    let rows =
                        transposed_block::<V>(block.at(i, k), (i_len - i).min(LANES), k_present);
                    let to = to.add(k * width + i);
                    let mut kk = 0;
                    while kk < LANES {
                        if kk < k_count {
                            let row = if F::PAIRS { rows[kk ^ 1] } else { rows[kk] };
                            F::of(row).store(to.add(kk * width));
                        }
                        kk += 1;
                    }
                    i += LANES;
                }
                k += LANES;
            }
        } else {
            for k in 0..k_len {
                let source = if F::PAIRS { k ^ 1 } else { k };
                for i in 0..i_len {
                    let value = if source < present { *block.at(i, source).start } else { 0.0 };
                    *to.add(k * width + i) = F::of_one(value);
                }
                for i in i_len..i_len.next_multiple_of(LANES).min(width) {
                    *to.add(k * width + i) = 0.0;
                }
            }
        }
    }
}

/// Up to 16×16 elements of a block with `k_stride` 1: vector k holds the i of
/// that k, zeros past `i_count` and `k_count`.
///
/// # Safety
/// `i_count × k_count` elements of the block are readable, both at most 16.
#[inline(always)]
pub(crate) unsafe fn transposed_block<V: Simd>(
    block: Block,
    i_count: usize,
    k_count: usize,
) -> [V; LANES] {
    let mut rows = [V::splat(0.0); LANES];
    // Sixteen known steps, so that the rows are registers.
    let mut i = 0;
    while i < LANES {
        if i < i_count {
            // SAFETY: the caller's.
            rows[i] = unsafe {
                let from = block.start.add(i * block.i_stride);
                if k_count == LANES { V::load(from) } else { V::load_first(from, k_count, 0.0) }
            };
        }
        i += 1;
    }
    V::transpose(&mut rows);
    rows
}

/// [`pack_panel`] of [`PairsInBf16`] for chains that consist of groups of an odd length: no pair goes over the
/// end of a group. `slots` are places of the padded chain, a group taking `group + 1` of them.
///
/// # Safety
/// As for [`pack_panel`]; the block starts at k = 0 of the whole chain.
pub(crate) unsafe fn pack_groups(
    block: Block,
    i_len: usize,
    slots: core::ops::Range<usize>,
    group: usize,
    width: usize,
    to: *mut f32,
) {
    for (k, slot) in slots.enumerate() {
        let (index, place) = (slot / (group + 1), (slot % (group + 1)) ^ 1);
        for i in 0..i_len.next_multiple_of(LANES).min(width) {
            // SAFETY: the caller's; places past the end of a group are not read.
            unsafe {
                let is_there = place < group && i < i_len;
                let value = if is_there { *block.at(i, index * group + place).start } else { 0.0 };
                *to.add(k * width + i) = round_bf16(value);
            }
        }
    }
}
