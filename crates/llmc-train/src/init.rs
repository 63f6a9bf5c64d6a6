//! Initial weights: a pure function of (seed, path, shape).
//!
//! Counter-based: key = (seed, hash of the path), counter = element; so the
//! value of one weight never depends on which others exist or on call order.

use llmc_base::Hash;
use llmc_base::math;
use llmc_spec::Init;

/// The Philox key of a parameter or op path under a seed.
pub fn stream_key(seed: u64, path: &str) -> [u32; 2] {
    let digest = Hash::of_bytes(path.as_bytes()).0;
    let word = |at: usize| {
        u32::from_le_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]])
    };
    [word(0) ^ seed as u32, word(4) ^ (seed >> 32) as u32]
}

/// The standard deviation of a matrix: `std`, or `std / √(2·n_layers)` for the two projections
/// that write to the residual stream (Radford et al. 2019, §2.3).
fn std_of(path: &str, n_layers: u64, init: &Init) -> f64 {
    let is_residual = path.ends_with("attention.o.weight") || path.ends_with("mlp.down.weight");
    match init.is_residual_scaled && is_residual {
        true => init.std / libm::sqrt(2.0 * n_layers as f64),
        false => init.std,
    }
}

/// Fills one parameter: norm weights with 1, biases with 0, matrices with a normal distribution.
pub fn fill(path: &str, rank: usize, n_layers: u64, init: &Init, seed: u64, out: &mut [f32]) {
    if rank <= 1 {
        let is_weight = path.ends_with("weight");
        out.fill(if is_weight { 1.0 } else { 0.0 });
        return;
    }
    fill_normal(path, std_of(path, n_layers, init), seed, out);
}

/// Fills a matrix with a normal distribution of mean 0.
pub(crate) fn fill_normal(path: &str, std: f64, seed: u64, out: &mut [f32]) {
    let std = std as f32;
    let key = stream_key(seed, path);
    for (block, chunk) in out.chunks_mut(4).enumerate() {
        let block = block as u64;
        let bits = math::philox4x32([block as u32, (block >> 32) as u32, 0, 0], key);
        let (a, b) = math::normal_f32(bits[0], bits[1]);
        let (c, d) = math::normal_f32(bits[2], bits[3]);
        for (x, normal) in chunk.iter_mut().zip([a, b, c, d]) {
            *x = normal * std;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_weights_have_the_asked_mean_and_deviation() {
        let init = Init { std: 0.02, is_residual_scaled: true };
        let mut w = vec![0.0; 1 << 16];
        fill("layers.0.attention.q.weight", 2, 8, &init, 7, &mut w);
        let mean = w.iter().map(|x| f64::from(*x)).sum::<f64>() / w.len() as f64;
        let var = w.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / w.len() as f64;
        assert!(mean.abs() < 3e-4, "{mean}");
        assert!((var.sqrt() - 0.02).abs() < 3e-4, "{}", var.sqrt());
        let mut o = vec![0.0; 1 << 16];
        fill("layers.0.attention.o.weight", 2, 8, &init, 7, &mut o);
        let var = o.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / o.len() as f64;
        assert!((var.sqrt() - 0.005).abs() < 1e-4, "{}", var.sqrt());
    }

    #[test]
    fn a_prefix_does_not_depend_on_the_length_and_paths_differ() {
        let init = Init { std: 1.0, is_residual_scaled: false };
        let (mut a, mut b, mut c) = (vec![0.0; 64], vec![0.0; 10], vec![0.0; 64]);
        fill("x.weight", 2, 1, &init, 1, &mut a);
        fill("x.weight", 2, 1, &init, 1, &mut b);
        fill("y.weight", 2, 1, &init, 1, &mut c);
        assert_eq!(a[..10], b[..]);
        assert_ne!(a, c);
    }

    #[test]
    fn norms_start_at_one_and_biases_at_zero() {
        let init = Init { std: 1.0, is_residual_scaled: false };
        let mut w = vec![5.0; 3];
        fill("norm.weight", 1, 1, &init, 1, &mut w);
        assert_eq!(w, [1.0; 3]);
        fill("norm.bias", 1, 1, &init, 1, &mut w);
        assert_eq!(w, [0.0; 3]);
    }
}
