//! The order of every row sum: sixteen virtual lanes, then a fixed tree.

/// How many virtual lanes a `reduce_sum` with `order = lanes` has.
pub const SUM_LANES: usize = 16;

/// The sum in lane order: element i goes to lane i mod 16, lanes start at +0,
/// then the tree of [`sum_tree`].
#[inline]
pub fn sum_lanes(values: impl IntoIterator<Item = f32>) -> f32 {
    let mut lanes = [0.0f32; SUM_LANES];
    for (i, value) in values.into_iter().enumerate() {
        lanes[i % SUM_LANES] += value;
    }
    sum_tree(lanes)
}

/// `l[j] += l[j + 8]`, `l[j] += l[j + 4]`, `l[j] += l[j + 2]`, `l[0] + l[1]`.
#[inline(always)]
pub fn sum_tree(mut lanes: [f32; SUM_LANES]) -> f32 {
    for width in [8, 4, 2, 1] {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
    }
    lanes[0]
}

/// The sum of squares in f64 that the gradient norm is made of: chunks of 4096
/// elements, each in 16 f64 lanes and the tree, the chunks in one chain that
/// starts from `init`.
///
/// The square of an f32 is exact in f64.
#[inline]
pub fn sum_squares(init: f64, values: &[f32]) -> f64 {
    let mut total = init;
    for chunk in values.chunks(SUM_SQUARES_CHUNK) {
        let mut lanes = [0.0f64; SUM_LANES];
        for (i, &value) in chunk.iter().enumerate() {
            let value = f64::from(value);
            lanes[i % SUM_LANES] += value * value;
        }
        total += sum_tree_f64(lanes);
    }
    total
}

/// How many elements one link of the chain of [`sum_squares`] covers.
pub const SUM_SQUARES_CHUNK: usize = 4096;

/// [`sum_tree`] in f64.
#[inline(always)]
pub fn sum_tree_f64(mut lanes: [f64; SUM_LANES]) -> f64 {
    for width in [8, 4, 2, 1] {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
    }
    lanes[0]
}
